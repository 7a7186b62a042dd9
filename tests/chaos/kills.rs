//! The process is killed as by a power cut: at each step of a transaction, and at random moments.

use crate::load_test::{LoadTest, RECOVERY_LIMIT, until_killed};
use crate::matrix::{SeededRandom, times};
use crate::proxy::{Action, Direction, END_TXN, Rule};
use crate::support::scene::Scene;
use crate::support::until_true;
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

crate::tests![
    killed_after_begin,
    killed_while_outputs_are_produced,
    killed_after_the_offsets_were_sent,
    killed_while_the_commit_is_not_answered,
    killed_after_the_commit_was_acknowledged,
    killed_at_random_with_two_daemons,
];

fn killed_after_begin(scene: &Scene) -> Result<()> {
    killed_at(scene, "after-begin=9*off->1*return(kill)")
}

fn killed_while_outputs_are_produced(scene: &Scene) -> Result<()> {
    killed_at(scene, "in-produce=755*off->1*return(kill)")
}

fn killed_after_the_offsets_were_sent(scene: &Scene) -> Result<()> {
    killed_at(scene, "after-offsets=9*off->1*return(kill)")
}

fn killed_after_the_commit_was_acknowledged(scene: &Scene) -> Result<()> {
    killed_at(scene, "after-end=9*off->1*return(kill)")
}

fn killed_at(scene: &Scene, point: &str) -> Result<()> {
    let test = LoadTest::direct(scene, "")?;
    until_killed(&mut test.failing("a", point)?)?;
    recovers(test)
}

fn killed_while_the_commit_is_not_answered(scene: &Scene) -> Result<()> {
    let test = LoadTest::proxied(scene, "")?;
    let mut daemon = test.daemon("a")?;
    test.until_progress()?;
    let proxy = test.proxy()?;
    proxy.rule(Rule { api_key: Some(END_TXN), direction: Direction::Response, action: Action::Hold, times: 1 });
    until_true("the answer to a commit is held", || Ok(proxy.matched() == 1))?;
    daemon.kill9()?;
    proxy.clear_rules();
    recovers(test)
}

/// Starts the daemon again that was killed just now.
fn recovers(test: LoadTest) -> Result<()> {
    let killed = Instant::now();
    let mut daemon = test.daemon("a")?;
    test.until_progress()?;
    let recovery = killed.elapsed();
    ensure!(recovery <= RECOVERY_LIMIT, "the first record again only after {recovery:?}");
    test.until_all_progress()?;
    test.assert_exactly_once(&mut [&mut daemon], &format!("first record again after {:.1} s", recovery.as_secs_f64()))
}

fn killed_at_random_with_two_daemons(scene: &Scene) -> Result<()> {
    let cycles = times(8, 100)?;
    let mut random = SeededRandom::new(&scene.name)?;
    let test = LoadTest::direct(scene, "[limits]\nworkers = 2\n")?;
    let names = ["a", "b"];
    let mut daemons = [test.daemon("a")?, test.daemon("b")?];
    let mut slowest = Duration::ZERO;
    for _ in 0..cycles {
        test.until_all_progress()?;
        // So that the kill comes at any moment of a transaction.
        std::thread::sleep(Duration::from_millis(random.below(300)));
        let at = random.below(2) as usize;
        daemons[at].kill9()?;
        let killed = Instant::now();
        daemons[at] = test.scene.unready_daemon(names[at], &test.pipeline)?;
        test.until_all_progress()?;
        slowest = slowest.max(killed.elapsed());
        ensure!(slowest <= RECOVERY_LIMIT, "a partition stood still for {slowest:?}");
    }
    let [a, b] = &mut daemons;
    let figures = format!("{cycles} kills, each partition again within {:.1} s", slowest.as_secs_f64());
    test.assert_exactly_once(&mut [a, b], &figures)
}
