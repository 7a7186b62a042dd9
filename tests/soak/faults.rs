//! The faults of the soak: each is applied and ended again, and all kinds take turns in random order.

use crate::load_test::{LoadTest, until_owns};
use crate::matrix::SeededRandom;
use crate::proxy::{Action, Direction, END_TXN, Rule};
use crate::support::daemon::Daemon;
use crate::support::{record, topic, until_true};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// A fault's name in the picture, and what applies it.
type Kind = (&'static str, fn(&mut Faults, &mut Daemon) -> Result<()>);

const KINDS: [Kind; 10] = [
    ("commit answers cut", |faults, _| faults.apply_to_commits(Direction::Response, Action::Disconnect, 3)),
    ("commit request late", |faults, _| faults.apply_to_commits(Direction::Request, Action::Delay(LATE), 1)),
    ("commit request lost", |faults, _| faults.apply_to_commits(Direction::Request, Action::Drop, 1)),
    ("commit requests stranded", |faults, _| {
        faults.apply_to_commits(Direction::Request, Action::DelayPastDisconnect(STRAY), 3)
    }),
    ("cut off from the broker", |faults, _| faults.cut_off()),
    ("slow answers", |faults, _| faults.slow_answers()),
    ("a second daemon", |faults, _| faults.second_daemon()),
    ("swaps", |faults, daemon| faults.swaps(daemon)),
    ("stopped and continued", |faults, daemon| faults.stopped_and_continued(daemon)),
    ("malformed rows", |faults, _| faults.malformed_rows()),
];

/// In the order of the numbers that the picture gives them.
pub fn names() -> [&'static str; KINDS.len()] {
    KINDS.map(|(name, _)| name)
}

/// Longer than a transaction's budget.
const LATE: Duration = Duration::from_secs(5);
const STRAY: Duration = Duration::from_millis(250);
const SLOW: Duration = Duration::from_millis(200);

pub struct Faults<'a> {
    test: &'a LoadTest<'a>,
    random: SeededRandom,
    /// Kinds whose turn has not come in this pass.
    remaining: Vec<Kind>,
    /// The revision that the daemon under test runs.
    revision: u64,
    malformed: usize,
}

impl<'a> Faults<'a> {
    pub fn new(test: &'a LoadTest<'a>) -> Result<Faults<'a>> {
        Ok(Faults {
            test,
            random: SeededRandom::new(&test.scene.name)?,
            remaining: Vec::new(),
            revision: 1,
            malformed: 0,
        })
    }

    /// The next kind, at random; none comes again before all the others have.
    pub fn next(&mut self) -> Kind {
        if self.remaining.is_empty() {
            self.remaining = KINDS.to_vec();
        }
        self.remaining.swap_remove(self.random.below(self.remaining.len() as u64) as usize)
    }

    /// A random time, so that a fault has no fixed relation to the transactions.
    fn random_time(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.random.below(most - least))
    }

    fn apply_to_commits(&self, direction: Direction, action: Action, times: usize) -> Result<()> {
        let proxy = self.test.proxy()?;
        proxy.rule(Rule { api_key: Some(END_TXN), direction, action, times });
        until_true("the rule has applied to the commits", || Ok(proxy.matched() == times))?;
        proxy.clear_rules();
        Ok(())
    }

    fn cut_off(&mut self) -> Result<()> {
        let length = self.random_time(2_000, 5_000);
        let directions =
            [&[Direction::Request, Direction::Response][..], &[Direction::Request], &[Direction::Response]]
                [self.random.below(3) as usize];
        let proxy = self.test.proxy()?;
        proxy.block(directions);
        std::thread::sleep(length);
        proxy.clear_rules();
        Ok(())
    }

    fn slow_answers(&mut self) -> Result<()> {
        let length = self.random_time(2_000, 5_000);
        let proxy = self.test.proxy()?;
        proxy.rule(Rule {
            api_key: None,
            direction: Direction::Response,
            action: Action::Delay(SLOW),
            times: usize::MAX,
        });
        std::thread::sleep(length);
        proxy.clear_rules();
        Ok(())
    }

    /// A second daemon joins the group, takes over half of the partitions and leaves.
    fn second_daemon(&mut self) -> Result<()> {
        let name = &self.test.scene.name;
        let mut second = self.test.daemon("b")?;
        let known = second.pipeline(name)?["revision"].as_u64().context("no revision in the status")?;
        // A partition waits until its new owner runs the revision that it was last committed with.
        for revision in known + 1..=self.revision {
            self.test.swap(&mut [&mut second], revision)?;
        }
        until_owns(&mut second, name, |owned| owned > 0)?;
        self.test.until_commits(&mut second)?;
        second.sigterm()?;
        let status = second.wait_exit()?;
        ensure!(status.code() == Some(0), "the second daemon ended with {status}");
        Ok(())
    }

    fn swaps(&mut self, daemon: &mut Daemon) -> Result<()> {
        for _ in 0..3 + self.random.below(8) {
            self.revision += 1;
            self.test.swap(&mut [daemon], self.revision)?;
        }
        Ok(())
    }

    /// Stops the process for less than its session timeout.
    fn stopped_and_continued(&mut self, daemon: &mut Daemon) -> Result<()> {
        daemon.signal(libc::SIGSTOP)?;
        std::thread::sleep(self.random_time(1_000, 4_000));
        daemon.signal(libc::SIGCONT)
    }

    /// 200 at once, malformed in eight different ways.
    fn malformed_rows(&mut self) -> Result<()> {
        let long = "5.1,".repeat(16_384);
        let texts: [&[u8]; 7] =
            [b"", b"5.1,3.5", b"5.1,3.5,1.4,0.2,9", b"a,b,c,d", b"5.1,NaN,1.4,0.2", b"\xff\xfe\x00", long.as_bytes()];
        let mut records = Vec::new();
        for at in self.malformed..self.malformed + 200 {
            let record = texts.get(at % (texts.len() + 1)).map_or_else(record::tombstone, record::value);
            records.push(record.key(format!("malformed-{at}")).on(at as i32 % crate::load_test::PARTITIONS));
        }
        self.malformed += records.len();
        topic::write(&self.test.scene.bootstrap(), &self.test.scene.topic("in"), &records)
    }
}
