//! What is done to a daemon that it must survive: each fault is applied and lifted, and all kinds take their turns.

use crate::course::Dice;
use crate::proxy::{Action, END_TXN, Rule, Way};
use crate::stage::{Stage, until_owns};
use crate::support::daemon::Daemon;
use crate::support::{record, topic, until_true};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// Its name in the picture, and what it is.
type Kind = (&'static str, fn(&mut Faults, &mut Daemon) -> Result<()>);

const KINDS: [Kind; 10] = [
    ("commit answers cut", |faults, _| faults.commits_meet(Way::Answer, Action::Cut, 3)),
    ("commit request late", |faults, _| faults.commits_meet(Way::Request, Action::Delay(LATE), 1)),
    ("commit request lost", |faults, _| faults.commits_meet(Way::Request, Action::Lose, 1)),
    ("commit requests stranded", |faults, _| faults.commits_meet(Way::Request, Action::Strand(STRAY), 3)),
    ("cut off from the broker", |faults, _| faults.cut_off()),
    ("slow answers", |faults, _| faults.slow_answers()),
    ("a second daemon", |faults, _| faults.second_daemon()),
    ("swaps", |faults, daemon| faults.swaps(daemon)),
    ("stopped and continued", |faults, daemon| faults.stopped(daemon)),
    ("malformed rows", |faults, _| faults.malformed_rows()),
];

/// In the order of the numbers that the picture gives them.
pub fn names() -> [&'static str; KINDS.len()] {
    KINDS.map(|(name, _)| name)
}

/// Beyond the time that the daemon gives a transaction.
const LATE: Duration = Duration::from_secs(5);
const STRAY: Duration = Duration::from_millis(250);
const SLOW: Duration = Duration::from_millis(200);

pub struct Faults<'a> {
    stage: &'a Stage<'a>,
    dice: Dice,
    /// Kinds whose turn has not come.
    left: Vec<Kind>,
    /// The deployment of the daemon under test.
    revision: u64,
    malformed: usize,
}

impl<'a> Faults<'a> {
    pub fn new(stage: &'a Stage<'a>) -> Result<Faults<'a>> {
        Ok(Faults { stage, dice: Dice::new(&stage.scene.name)?, left: Vec::new(), revision: 1, malformed: 0 })
    }

    /// The next one, at random, but none for the second time before all were there.
    pub fn next(&mut self) -> Kind {
        if self.left.is_empty() {
            self.left = KINDS.to_vec();
        }
        self.left.swap_remove(self.dice.below(self.left.len() as u64) as usize)
    }

    /// Some seconds, so that it is no fixed time of a transaction's.
    fn a_while(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.dice.below(most - least))
    }

    fn commits_meet(&self, way: Way, action: Action, times: usize) -> Result<()> {
        let proxy = self.stage.proxy()?;
        proxy.rule(Rule { kind: Some(END_TXN), way, action, times });
        until_true("the commits meet it", || Ok(proxy.met() == times))?;
        proxy.lift();
        Ok(())
    }

    fn cut_off(&mut self) -> Result<()> {
        let length = self.a_while(2_000, 5_000);
        let ways = [&[Way::Request, Way::Answer][..], &[Way::Request], &[Way::Answer]][self.dice.below(3) as usize];
        let proxy = self.stage.proxy()?;
        proxy.block(ways);
        std::thread::sleep(length);
        proxy.lift();
        Ok(())
    }

    fn slow_answers(&mut self) -> Result<()> {
        let length = self.a_while(2_000, 5_000);
        let proxy = self.stage.proxy()?;
        proxy.rule(Rule { kind: None, way: Way::Answer, action: Action::Delay(SLOW), times: usize::MAX });
        std::thread::sleep(length);
        proxy.lift();
        Ok(())
    }

    /// It joins the group, takes over half of it, and leaves.
    fn second_daemon(&mut self) -> Result<()> {
        let name = &self.stage.scene.name;
        let mut second = self.stage.daemon("b")?;
        let known = second.pipeline(name)?["revision"].as_u64().context("no revision in the status")?;
        // Partitions wait for the deployment that they were last processed by.
        for revision in known + 1..=self.revision {
            self.stage.swap(&mut [&mut second], revision)?;
        }
        until_owns(&mut second, name, |owned| owned > 0)?;
        self.stage.until_serves(&mut second)?;
        second.sigterm()?;
        let status = second.wait_exit()?;
        ensure!(status.code() == Some(0), "the second daemon ended with {status}");
        Ok(())
    }

    fn swaps(&mut self, daemon: &mut Daemon) -> Result<()> {
        for _ in 0..3 + self.dice.below(8) {
            self.revision += 1;
            self.stage.swap(&mut [daemon], self.revision)?;
        }
        Ok(())
    }

    /// Shorter than its session.
    fn stopped(&mut self, daemon: &mut Daemon) -> Result<()> {
        daemon.signal(libc::SIGSTOP)?;
        std::thread::sleep(self.a_while(1_000, 4_000));
        daemon.signal(libc::SIGCONT)
    }

    /// A few hundred at once, each wrong in another way.
    fn malformed_rows(&mut self) -> Result<()> {
        let long = "5.1,".repeat(16_384);
        let texts: [&[u8]; 7] =
            [b"", b"5.1,3.5", b"5.1,3.5,1.4,0.2,9", b"a,b,c,d", b"5.1,NaN,1.4,0.2", b"\xff\xfe\x00", long.as_bytes()];
        let mut records = Vec::new();
        for at in self.malformed..self.malformed + 200 {
            let record = texts.get(at % (texts.len() + 1)).map_or_else(record::tombstone, record::value);
            records.push(record.key(format!("malformed-{at}")).on(at as i32 % crate::stage::PARTITIONS));
        }
        self.malformed += records.len();
        topic::write(&self.stage.scene.bootstrap(), &self.stage.scene.topic("in"), &records)
    }
}
