//! Several kinds of fault at once, chosen by the seed.

use crate::load_test::LoadTest;
use crate::matrix::{SeededRandom, is_long};
use crate::proxy::Direction;
use crate::support::daemon::Daemon;
use crate::support::scene::Scene;
use crate::support::until_true;
use crate::wall_clock::WallClock;
use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

crate::tests![faults_that_fall_together];

const NAMES: [&str; 2] = ["a", "b"];
const CUTS: [&[Direction]; 3] =
    [&[Direction::Request, Direction::Response], &[Direction::Request], &[Direction::Response]];
/// Faults that fall together.
const AT_ONCE: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// One daemon stands still.
    Pause,
    /// Nothing passes between daemons and broker, in one direction or both.
    Cut,
    /// One daemon is killed and started again.
    Kill,
    /// The daemons' wall clock is set.
    Clock,
    /// A third daemon joins, and leaves.
    Rebalance,
    /// Another model is deployed.
    Swap,
}

const ALL: [Fault; 6] = [Fault::Pause, Fault::Cut, Fault::Kill, Fault::Clock, Fault::Rebalance, Fault::Swap];

fn faults_that_fall_together(scene: &Scene) -> Result<()> {
    let (length, longest) = if is_long()? { (600, 12_000) } else { (30, 3_000) };
    let mut random = SeededRandom::new(&scene.name)?;
    let clock = WallClock::new(&scene.directory)?;
    let test = LoadTest::proxied(scene, "[limits]\nworkers = 2\n")?;
    let [a, b] = NAMES.map(|name| test.unready_with(name, &clock.environment()));
    let mut round = Round { test: &test, clock: &clock, daemons: [a?, b?], third: None, virginica: false };
    test.until_all_progress()?;
    let (mut counts, mut deck, mut slowest) = (BTreeMap::<Fault, usize>::new(), Vec::new(), Duration::ZERO);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(length) || !deck.is_empty() {
        if deck.is_empty() {
            deck = shuffled(&mut random);
        }
        let faults: Vec<Fault> = deck.drain(..AT_ONCE).collect();
        faults.iter().for_each(|fault| *counts.entry(*fault).or_default() += 1);
        round.fall(&faults, &mut random, longest)?;
        round.end()?;
        slowest = slowest.max(test.until_all_progress()?);
    }
    // Whatever the daemons met, both are to run the same in the end.
    round.swap(&[0, 1])?;
    let Round { daemons: [mut a, mut b], .. } = round;
    let kinds: Vec<String> = counts.iter().map(|(fault, count)| format!("{count} {fault:?}")).collect();
    let figures = format!(
        "{AT_ONCE} at once: {}; each partition again within {:.1} s",
        kinds.join(", ").to_lowercase(),
        slowest.as_secs_f64()
    );
    test.assert_exactly_once(&mut [&mut a, &mut b], &figures)
}

/// Each kind once, in an order that the seed gives.
fn shuffled(random: &mut SeededRandom) -> Vec<Fault> {
    let mut deck = ALL.to_vec();
    for at in (1..deck.len()).rev() {
        deck.swap(at, random.below(at as u64 + 1) as usize);
    }
    deck
}

struct Round<'a, 'k> {
    test: &'a LoadTest<'k>,
    clock: &'a WallClock,
    daemons: [Daemon; 2],
    third: Option<Daemon>,
    /// Which of the two models was deployed last.
    virginica: bool,
}

impl Round<'_, '_> {
    /// The faults fall one upon the other; none has ended when the last falls.
    fn fall(&mut self, faults: &[Fault], random: &mut SeededRandom, longest: u64) -> Result<()> {
        let mut paused = None;
        for fault in faults {
            let at = random.below(2) as usize;
            match fault {
                Fault::Pause => {
                    self.daemons[at].signal(libc::SIGSTOP)?;
                    paused = Some(at);
                }
                Fault::Cut => self.test.proxy()?.block(CUTS[random.below(3) as usize]),
                Fault::Kill => {
                    self.daemons[at].kill9()?;
                    self.daemons[at] = self.test.unready_with(NAMES[at], &self.clock.environment())?;
                    paused = paused.filter(|paused| *paused != at);
                }
                Fault::Clock => self.clock.set(random.below(7_200) as i64 - 3_600)?,
                Fault::Rebalance => self.third = Some(self.test.unready_with("c", &self.clock.environment())?),
                Fault::Swap => {
                    self.virginica = !self.virginica;
                    let answering: Vec<usize> = [0, 1].into_iter().filter(|at| paused != Some(*at)).collect();
                    self.swap(&answering)?;
                }
            }
            std::thread::sleep(Duration::from_millis(random.below(500)));
        }
        std::thread::sleep(Duration::from_millis(random.below(longest)));
        Ok(())
    }

    /// Has those run the model that was deployed last; they may have taken its number from each other.
    fn swap(&mut self, daemons: &[usize]) -> Result<()> {
        let scene = self.test.scene;
        let model = scene.model_of(if self.virginica { "virginica" } else { "setosa" })?.to_string_lossy().into_owned();
        for at in daemons {
            let daemon = &mut self.daemons[*at];
            until_true("the model is deployed", || {
                let printed = daemon.cli(&["deploy", &scene.name, "--model", &model, "--reason", "a test"])?;
                Ok(printed.code == Some(0) || printed.err.contains("runs exactly this already"))
            })?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        self.test.proxy()?.clear_rules();
        for daemon in &mut self.daemons {
            daemon.signal(libc::SIGCONT)?;
        }
        self.clock.set(0)?;
        if let Some(mut third) = self.third.take() {
            third.sigterm()?;
            let status = third.wait_exit()?;
            ensure!(status.code() == Some(0), "{status}");
        }
        self.swap(&[0, 1])
    }
}
