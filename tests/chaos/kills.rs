//! The process is killed as by a power cut, at each place of a transaction and at any.

use crate::course::{Dice, times};
use crate::proxy::{Action, END_TXN, Rule, Way};
use crate::stage::{AGAIN, Stage, until_killed};
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
    let stage = Stage::direct(scene, "")?;
    until_killed(&mut stage.failing("a", point)?)?;
    goes_on(stage)
}

fn killed_while_the_commit_is_not_answered(scene: &Scene) -> Result<()> {
    let stage = Stage::proxied(scene, "")?;
    let mut daemon = stage.daemon("a")?;
    stage.until_progress()?;
    let proxy = stage.proxy()?;
    proxy.rule(Rule { kind: Some(END_TXN), way: Way::Answer, action: Action::Hold, times: 1 });
    until_true("the answer to a commit is held", || Ok(proxy.met() == 1))?;
    daemon.kill9()?;
    proxy.lift();
    goes_on(stage)
}

/// Another start of the daemon that was killed just now.
fn goes_on(stage: Stage) -> Result<()> {
    let killed = Instant::now();
    let mut daemon = stage.daemon("a")?;
    stage.until_progress()?;
    let again = killed.elapsed();
    ensure!(again <= AGAIN, "the first record again only after {again:?}");
    stage.until_all_progress()?;
    stage.verdict(&mut [&mut daemon], &format!("first record again after {:.1} s", again.as_secs_f64()))
}

fn killed_at_random_with_two_daemons(scene: &Scene) -> Result<()> {
    let cycles = times(8, 100)?;
    let mut dice = Dice::new(&scene.name)?;
    let stage = Stage::direct(scene, "[limits]\nworkers = 2\n")?;
    let names = ["a", "b"];
    let mut daemons = [stage.daemon("a")?, stage.daemon("b")?];
    let mut slowest = Duration::ZERO;
    for _ in 0..cycles {
        stage.until_all_progress()?;
        // The fault comes at any moment of a transaction.
        std::thread::sleep(Duration::from_millis(dice.below(300)));
        let at = dice.below(2) as usize;
        daemons[at].kill9()?;
        let killed = Instant::now();
        daemons[at] = stage.scene.unready_daemon(names[at], &stage.pipeline)?;
        stage.until_all_progress()?;
        slowest = slowest.max(killed.elapsed());
        ensure!(slowest <= AGAIN, "a partition stood still for {slowest:?}");
    }
    let [a, b] = &mut daemons;
    let figures = format!("{cycles} kills, each partition again within {:.1} s", slowest.as_secs_f64());
    stage.verdict(&mut [a, b], &figures)
}
