//! How far a backtest is, on stderr: a bar on a terminal, elsewhere a line every two seconds.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::super::plain::one_line;
use super::super::table::grouped;
use crate::cli::say;
use crate::kafka::reader::Progress;
use crate::replay::backtest::{Stage, Watch};

/// Between two lines.
const LINE_INTERVAL: Duration = Duration::from_secs(2);

pub struct Bar {
    interrupted: Arc<AtomicBool>,
    is_terminal: bool,
    shown: Option<Shown>,
}

/// What is shown of one stage.
struct Shown {
    stage: Stage,
    began: Instant,
    /// When the last line was written.
    written: Instant,
    bar: ProgressBar,
}

impl Bar {
    pub fn new(interrupted: Arc<AtomicBool>) -> Self {
        Self { interrupted, is_terminal: std::io::stderr().is_terminal(), shown: None }
    }

    /// Removes the bar.
    pub fn end(&mut self) {
        if let Some(shown) = self.shown.take() {
            shown.bar.finish_and_clear();
        }
    }
}

fn what(stage: Stage) -> &'static str {
    match stage {
        Stage::Labels => "labels",
        Stage::Records => "records",
    }
}

fn bar(stage: Stage, whole: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(whole), ProgressDrawTarget::stderr());
    let template = "{prefix:>8} {wide_bar:.cyan/dim} {human_pos} of {human_len} offsets, {per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.progress_chars("━╸━"));
    bar.set_prefix(what(stage));
    bar
}

impl Watch for Bar {
    fn waiting(&mut self, text: &str) {
        let text = one_line(text);
        match &self.shown {
            Some(shown) if self.is_terminal => shown.bar.suspend(|| say(&text)),
            _ => say(&text),
        }
    }

    fn progress(&mut self, stage: Stage, progress: Progress) -> bool {
        let go_on = !self.interrupted.load(Ordering::Relaxed);
        let is_new = self.shown.as_ref().is_none_or(|shown| shown.stage != stage);
        if is_new {
            self.end();
            let now = Instant::now();
            let bar = if self.is_terminal { bar(stage, progress.whole) } else { ProgressBar::hidden() };
            self.shown = Some(Shown { stage, began: now, written: now, bar });
        }
        let Some(shown) = &mut self.shown else { return go_on };
        if self.is_terminal {
            shown.bar.set_position(progress.read);
        } else if shown.written.elapsed() >= LINE_INTERVAL {
            shown.written = Instant::now();
            say(&line(stage, progress, shown.began.elapsed()));
        }
        go_on
    }
}

/// `records: read 1,200 of 4,000 offsets, 600/s, 5 seconds left`.
fn line(stage: Stage, progress: Progress, elapsed: Duration) -> String {
    let rate = progress.read as f64 / elapsed.as_secs_f64().max(0.001);
    let left = progress.whole.saturating_sub(progress.read) as f64 / rate.max(0.001);
    // A day is long enough to say that it takes long.
    let left = HumanDuration(Duration::from_secs_f64(left.clamp(0.0, 86_400.0)));
    let (read, whole) = (grouped(progress.read), grouped(progress.whole));
    format!("{}: read {read} of {whole} offsets, {}/s, {left} left", what(stage), grouped(rate as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is_how_fast_and_how_long() {
        let progress = Progress { read: 1_200, whole: 4_200 };
        assert_eq!(
            line(Stage::Records, progress, Duration::from_secs(2)),
            "records: read 1,200 of 4,200 offsets, 600/s, 5 seconds left"
        );
        let nothing = line(Stage::Labels, Progress { read: 0, whole: 10 }, Duration::ZERO);
        assert!(nothing.starts_with("labels: read 0 of 10 offsets, 0/s"), "{nothing}");
    }
}
