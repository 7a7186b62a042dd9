//! The network between the daemon and the broker delays, loses and disconnects.

use crate::load_test::{LoadTest, MAX_GROWTH_MB, RECOVERY_LIMIT};
use crate::matrix::{is_long, times};
use crate::proxy::{Action, Direction, END_TXN, Rule};
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

/// Longer than a transaction's budget: the daemon has begun another one by then.
const LATE: Duration = Duration::from_secs(5);

fn commit_requests_that_arrive_late(scene: &Scene) -> Result<()> {
    recovers_from(
        scene,
        Rule { api_key: Some(END_TXN), direction: Direction::Request, action: Action::Delay(LATE), times: 1 },
        2,
    )
}

fn commit_requests_that_are_lost(scene: &Scene) -> Result<()> {
    recovers_from(
        scene,
        Rule { api_key: Some(END_TXN), direction: Direction::Request, action: Action::Drop, times: 1 },
        2,
    )
}

fn commit_answers_that_are_lost(scene: &Scene) -> Result<()> {
    recovers_from(
        scene,
        Rule { api_key: Some(END_TXN), direction: Direction::Response, action: Action::Disconnect, times: 1 },
        5,
    )
}

/// The client asks again on a new connection, is answered and begins the next transaction; then the first request
/// arrives. Without KIP-890 nothing tells the broker which transaction it meant.
fn commit_request_that_outlives_its_connection(scene: &Scene) -> Result<()> {
    let delay = Action::DelayPastDisconnect(Duration::from_millis(250));
    recovers_from(scene, Rule { api_key: Some(END_TXN), direction: Direction::Request, action: delay, times: 1 }, 5)
}

/// librdkafka does not return from the call: the producer is given up, with the thread that waits in it.
fn offsets_whose_sending_never_ends(scene: &Scene) -> Result<()> {
    let test = LoadTest::direct(scene, "")?;
    let mut daemon = test.failing("a", "no-answer=9*off->1*return->20*off->1*return")?;
    daemon.until_status(&scene.name, "two producers were given up", |status| sum(status, "recoveries") == 2)?;
    let recovery = test.until_all_progress()?;
    test.assert_exactly_once(
        &mut [&mut daemon],
        &format!("twice, each partition again within {:.1} s", recovery.as_secs_f64()),
    )
}

/// Applies a rule to commits under load, that many times, and each time every partition goes on.
fn recovers_from(scene: &Scene, rule: Rule, times: usize) -> Result<()> {
    let test = LoadTest::proxied(scene, "")?;
    let mut daemon = test.daemon("a")?;
    let proxy = test.proxy()?;
    let mut slowest = Duration::ZERO;
    for matched in 1..=times {
        test.until_all_progress()?;
        let started = Instant::now();
        proxy.rule(rule);
        until_true("a commit meets it", || Ok(proxy.matched() == matched))?;
        test.until_all_progress()?;
        slowest = slowest.max(started.elapsed());
    }
    proxy.clear_rules();
    let figures = format!("{times} times, each partition again within {:.1} s", slowest.as_secs_f64());
    test.assert_exactly_once(&mut [&mut daemon], &figures)
}

fn cut_off_from_the_broker(scene: &Scene) -> Result<()> {
    let test = LoadTest::proxied(scene, "")?;
    let mut daemon = test.daemon("a")?;
    let proxy = test.proxy()?;
    let lengths: &[u64] = if is_long()? { &[5, 20, 60] } else { &[5] };
    let mut slowest = Duration::ZERO;
    for length in lengths {
        for directions in
            [&[Direction::Request, Direction::Response][..], &[Direction::Request], &[Direction::Response]]
        {
            test.until_all_progress()?;
            proxy.block(directions);
            std::thread::sleep(Duration::from_secs(*length));
            proxy.clear_rules();
            let recovery = test.until_all_progress()?;
            slowest = slowest.max(recovery);
            ensure!(recovery <= 2 * RECOVERY_LIMIT, "{recovery:?} after {length} s without {directions:?}");
        }
    }
    let figures =
        format!("{lengths:?} s, both ways and one; each partition again within {:.1} s", slowest.as_secs_f64());
    test.assert_exactly_once(&mut [&mut daemon], &figures)
}

fn broker_that_answers_slowly(scene: &Scene) -> Result<()> {
    let test = LoadTest::proxied(scene, "")?;
    let mut daemon = test.daemon("a")?;
    let proxy = test.proxy()?;
    let slow = Action::Delay(Duration::from_millis(200));
    proxy.rule(Rule { api_key: None, direction: Direction::Response, action: slow, times: usize::MAX });
    test.until_all_progress()?;
    let before = Usage::of(daemon.process())?.resident;
    for _ in 0..times(5, 50)? {
        test.until_all_progress()?;
    }
    let grown = Usage::of(daemon.process())?.resident - before;
    proxy.clear_rules();
    ensure!(grown <= MAX_GROWTH_MB, "resident memory grew by {grown:.0} MB");
    test.assert_exactly_once(&mut [&mut daemon], &format!("each answer 200 ms late; resident memory {grown:+.1} MB"))
}
