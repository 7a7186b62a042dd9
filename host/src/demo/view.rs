//! What is shown while the demonstration runs: lines that are redrawn on a terminal, elsewhere a line every two seconds. Nothing
//! waits for the screen, and a screen that cannot be written is no error.

use std::io::{IsTerminal as _, Write};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::summary::{Revision, table};
use crate::api::status::{PipelineStatus, ReleaseStatus};

/// Between two plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(2);
/// How often the rate is measured.
const RATE_INTERVAL: Duration = Duration::from_secs(1);

/// Where the view goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Screen {
    Stdout,
    /// Where standard output is for data.
    Stderr,
}

pub struct View {
    screen: Screen,
    live: Option<Live>,
    total: u64,
    started: Instant,
    rate: Rate,
    /// When the last plain line was written.
    written: Option<Instant>,
}

/// Records a second, measured from time to time.
struct Rate {
    measured: Instant,
    /// Records at that time.
    records: u64,
    per_second: f64,
}

/// The lines that are redrawn.
struct Live {
    lines: MultiProgress,
    bar: ProgressBar,
    text: ProgressBar,
}

impl View {
    /// `plain` writes lines even on a terminal.
    pub fn new(screen: Screen, plain: bool, total: u64) -> Self {
        let is_terminal = match screen {
            Screen::Stdout => std::io::stdout().is_terminal(),
            Screen::Stderr => std::io::stderr().is_terminal(),
        };
        let now = Instant::now();
        let target = || match screen {
            Screen::Stdout => ProgressDrawTarget::stdout(),
            Screen::Stderr => ProgressDrawTarget::stderr(),
        };
        let live = (is_terminal && !plain).then(|| Live::new(target(), total));
        Self {
            screen,
            live,
            total,
            started: now,
            rate: Rate { measured: now, records: 0, per_second: 0.0 },
            written: None,
        }
    }

    #[cfg(test)]
    pub fn unseen(total: u64) -> Self {
        Self { live: Some(Live::new(ProgressDrawTarget::hidden(), total)), ..Self::new(Screen::Stderr, true, total) }
    }

    /// Writes a line that stays.
    pub fn say(&self, line: &str) {
        match &self.live {
            Some(live) => drop(live.lines.println(line)),
            None => self.write(line),
        }
    }

    /// Shows the pipeline's present status.
    pub fn show(&mut self, status: &PipelineStatus) {
        self.rate.measure(status.records);
        let rate = self.rate.per_second;
        let letters = HumanCount(status.dead_letters.values().sum());
        if let Some(live) = &self.live {
            live.bar.set_position(status.records.min(self.total));
            live.bar.set_message(format!("{rate:.0}/s"));
            let revisions: Vec<Revision> = status.releases.iter().map(Revision::from).collect();
            live.text.set_message(format!("\n{}\n  dead letters: {letters}", table(&revisions)));
        } else if self.written.is_none_or(|at| at.elapsed() >= LINE_INTERVAL) {
            self.written = Some(Instant::now());
            let releases: Vec<String> = status
                .releases
                .iter()
                .map(|release| format!("revision {}: {}", release.revision, accuracy(release)))
                .collect();
            let (done, total) = (HumanCount(status.records), HumanCount(self.total));
            let seconds = self.started.elapsed().as_secs();
            self.write(&format!(
                "{seconds:>4} s    {done} of {total} records, {rate:.0}/s; {}; dead letters: {letters}",
                releases.join("; ")
            ));
        }
    }

    /// Removes the lines that are redrawn.
    pub fn end(&self) {
        if let Some(live) = &self.live {
            drop(live.lines.clear());
        }
    }

    /// An error is ignored: the demonstration goes on when its reader is gone.
    fn write(&self, line: &str) {
        drop(match self.screen {
            Screen::Stdout => writeln!(std::io::stdout(), "{line}"),
            Screen::Stderr => writeln!(std::io::stderr(), "{line}"),
        });
    }
}

impl Rate {
    fn measure(&mut self, records: u64) {
        let elapsed = self.measured.elapsed();
        if elapsed >= RATE_INTERVAL {
            let per_second = records.saturating_sub(self.records) as f64 / elapsed.as_secs_f64();
            *self = Self { measured: Instant::now(), records, per_second };
        }
    }
}

impl Live {
    fn new(target: ProgressDrawTarget, total: u64) -> Self {
        let lines = MultiProgress::with_draw_target(target);
        let style =
            |template: &str| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = lines.add(ProgressBar::new(total));
        bar.set_style(
            style("\n  {wide_bar:.cyan/dim}  {human_pos} of {human_len} records, {msg}").progress_chars("━╸━"),
        );
        let text = lines.add(ProgressBar::no_length());
        text.set_style(style("{msg}"));
        Self { lines, bar, text }
    }
}

/// A release's accuracy so far: `accuracy 71.3 % of 2,871 labels`.
fn accuracy(release: &ReleaseStatus) -> String {
    match (release.accuracy, release.scored) {
        (Some(accuracy), Some(scored)) => {
            format!("accuracy {:.1} % of {} labels", accuracy * 100.0, HumanCount(scored))
        }
        _ => "no label yet".into(),
    }
}
