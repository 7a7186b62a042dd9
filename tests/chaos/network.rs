//! Between the daemon and the broker stands a network that delays, loses and cuts.

use crate::course::{is_long, times};
use crate::proxy::{Action, END_TXN, Rule, Way};
use crate::stage::{AGAIN, GROWTH, Stage};
use crate::support::daemon::sum;
use crate::support::process::Usage;
use crate::support::scene::Scene;
use crate::support::until_true;
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

crate::tests![
    commit_requests_that_arrive_late,
    commit_requests_that_are_lost,
    commit_answers_that_are_lost,
    commit_request_that_outlives_its_connection,
    offsets_whose_sending_never_ends,
    cut_off_from_the_broker,
    broker_that_answers_slowly,
];

/// Beyond the time that the daemon gives a transaction: it has begun another by then.
const LATE: Duration = Duration::from_secs(5);

fn commit_requests_that_arrive_late(scene: &Scene) -> Result<()> {
    meets(scene, Rule { kind: Some(END_TXN), way: Way::Request, action: Action::Delay(LATE), times: 1 }, 2)
}

fn commit_requests_that_are_lost(scene: &Scene) -> Result<()> {
    meets(scene, Rule { kind: Some(END_TXN), way: Way::Request, action: Action::Lose, times: 1 }, 2)
}

fn commit_answers_that_are_lost(scene: &Scene) -> Result<()> {
    meets(scene, Rule { kind: Some(END_TXN), way: Way::Answer, action: Action::Cut, times: 1 }, 5)
}

/// The client asks again on a new connection, is answered and begins the next transaction; then the first request
/// arrives. Without KIP-890 nothing tells the broker which transaction it meant.
fn commit_request_that_outlives_its_connection(scene: &Scene) -> Result<()> {
    let late = Action::Strand(Duration::from_millis(250));
    meets(scene, Rule { kind: Some(END_TXN), way: Way::Request, action: late, times: 1 }, 5)
}

/// The client library does not come back: its producer is given up, with the thread that waits in it.
fn offsets_whose_sending_never_ends(scene: &Scene) -> Result<()> {
    let stage = Stage::direct(scene, "")?;
    let mut daemon = stage.failing("a", "no-answer=9*off->1*return->20*off->1*return")?;
    daemon.until_status(&scene.name, "two producers were given up", |status| sum(status, "recoveries") == 2)?;
    let again = stage.until_all_progress()?;
    stage.verdict(&mut [&mut daemon], &format!("twice, each partition again within {:.1} s", again.as_secs_f64()))
}

/// That many times under load.
fn meets(scene: &Scene, rule: Rule, times: usize) -> Result<()> {
    let stage = Stage::proxied(scene, "")?;
    let mut daemon = stage.daemon("a")?;
    let proxy = stage.proxy()?;
    let mut slowest = Duration::ZERO;
    for met in 1..=times {
        stage.until_all_progress()?;
        let started = Instant::now();
        proxy.rule(rule);
        until_true("a commit meets it", || Ok(proxy.met() == met))?;
        stage.until_all_progress()?;
        slowest = slowest.max(started.elapsed());
    }
    proxy.lift();
    let figures = format!("{times} times, each partition again within {:.1} s", slowest.as_secs_f64());
    stage.verdict(&mut [&mut daemon], &figures)
}

fn cut_off_from_the_broker(scene: &Scene) -> Result<()> {
    let stage = Stage::proxied(scene, "")?;
    let mut daemon = stage.daemon("a")?;
    let proxy = stage.proxy()?;
    let lengths: &[u64] = if is_long()? { &[5, 20, 60] } else { &[5] };
    let mut slowest = Duration::ZERO;
    for length in lengths {
        for ways in [&[Way::Request, Way::Answer][..], &[Way::Request], &[Way::Answer]] {
            stage.until_all_progress()?;
            proxy.block(ways);
            std::thread::sleep(Duration::from_secs(*length));
            proxy.lift();
            let again = stage.until_all_progress()?;
            slowest = slowest.max(again);
            ensure!(again <= 2 * AGAIN, "{again:?} after {length} s without {ways:?}");
        }
    }
    let figures =
        format!("{lengths:?} s, both ways and one; each partition again within {:.1} s", slowest.as_secs_f64());
    stage.verdict(&mut [&mut daemon], &figures)
}

fn broker_that_answers_slowly(scene: &Scene) -> Result<()> {
    let stage = Stage::proxied(scene, "")?;
    let mut daemon = stage.daemon("a")?;
    let proxy = stage.proxy()?;
    let slow = Action::Delay(Duration::from_millis(200));
    proxy.rule(Rule { kind: None, way: Way::Answer, action: slow, times: usize::MAX });
    stage.until_all_progress()?;
    let before = Usage::of(daemon.process())?.resident;
    for _ in 0..times(5, 50)? {
        stage.until_all_progress()?;
    }
    let grown = Usage::of(daemon.process())?.resident - before;
    proxy.lift();
    ensure!(grown <= GROWTH, "resident memory grew by {grown:.0} MB");
    stage.verdict(&mut [&mut daemon], &format!("each answer 200 ms late; resident memory {grown:+.1} MB"))
}
