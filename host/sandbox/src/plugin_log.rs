//! A plugin's log: its `log` calls, stdout and stderr become lines of the daemon's log, named by plugin.
//!
//! However much a plugin writes, it fills neither the disk nor memory: lines are cut, counted and rate-limited, and only
//! the last few are kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::secrets::Secrets;
use crate::wit::latest::log::Level;

/// Lines that all instances of a plugin together may write in each window; the rest are only counted.
const LINES_PER_WINDOW: u32 = 50;
const WINDOW: Duration = Duration::from_secs(10);
/// Bytes of a line; a longer one is cut.
const MAX_LINE: usize = 1_024;
/// Lines kept for a dead letter's `log` header.
const LAST_LINES: usize = 10;

/// The log of one instance. Clones share it, so that stdout, stderr and `log` make one sequence of lines.
#[derive(Clone)]
pub struct PluginLog(Arc<Mutex<Inner>>);

/// How many lines of one plugin go into the daemon's log. Clones share it: a plugin has an instance a stage and worker, and
/// gets a new one whenever it fails.
#[derive(Clone, Default)]
pub struct LogRate(Arc<Mutex<Window>>);

#[derive(Default)]
struct Window {
    /// `None` before the first line.
    start: Option<Instant>,
    /// Lines of this window that went into the daemon's log, and those that did not.
    written: u32,
    suppressed: u64,
}

impl LogRate {
    /// Counts a line of that plugin, and says whether it may be written.
    fn takes(&self, plugin: &str, now: Instant) -> bool {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if window.start.is_none_or(|start| now.saturating_duration_since(start) >= WINDOW) {
            if window.suppressed > 0 {
                tracing::warn!(plugin, lines = window.suppressed, "lines of this plugin were left out");
            }
            *window = Window { start: Some(now), written: 0, suppressed: 0 };
        }
        let takes = window.written < LINES_PER_WINDOW;
        window.written += u32::from(takes);
        window.suppressed += u64::from(!takes);
        takes
    }
}

struct Inner {
    plugin: String,
    rate: LogRate,
    secrets: Secrets,
    /// Bytes of stdout or stderr since the last newline.
    partial: Vec<u8>,
    /// At most `LAST_LINES`, oldest first; lines that the rate limit keeps out of the daemon's log are among them.
    last: VecDeque<String>,
}

impl PluginLog {
    pub fn new(plugin: &str, rate: LogRate, secrets: Secrets) -> Self {
        let (plugin, partial, last) = (plugin.to_owned(), Vec::new(), VecDeque::new());
        Self(Arc::new(Mutex::new(Inner { plugin, rate, secrets, partial, last })))
    }

    pub fn line(&self, level: Level, line: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).line(level, line);
    }

    /// The last lines, oldest first, joined by newlines.
    pub fn last_lines(&self) -> String {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.last.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

impl Inner {
    fn line(&mut self, level: Level, line: &str) {
        // Before it is cut: half a secret would not be found.
        let shown = self.secrets.hide(line).into_owned();
        let line = shown.get(..shown.floor_char_boundary(MAX_LINE)).unwrap_or_default();
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.to_owned());
        if !self.rate.takes(&self.plugin, Instant::now()) {
            return;
        }
        match level {
            Level::Debug => tracing::debug!(plugin = self.plugin, "{line}"),
            Level::Info => tracing::info!(plugin = self.plugin, "{line}"),
            Level::Warn => tracing::warn!(plugin = self.plugin, "{line}"),
            Level::Error => tracing::error!(plugin = self.plugin, "{line}"),
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' || self.partial.len() == MAX_LINE {
                let line = String::from_utf8_lossy(&std::mem::take(&mut self.partial)).into_owned();
                self.line(Level::Info, &line);
            }
            if *byte != b'\n' {
                self.partial.push(*byte);
            }
        }
    }
}

impl IsTerminal for PluginLog {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for PluginLog {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Only WASI 0.3 asks for this form, and no plugin is linked against it.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for PluginLog {
    async fn ready(&mut self) {}
}

impl OutputStream for PluginLog {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).bytes(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_has_one_rate_however_many_instances_it_has() {
        let (rate, now) = (LogRate::default(), Instant::now());
        let of_an_instance = |at: Instant| (0..LINES_PER_WINDOW).filter(|_| rate.clone().takes("p", at)).count();
        assert_eq!([of_an_instance(now), of_an_instance(now)], [LINES_PER_WINDOW as usize, 0]);
        assert_eq!(of_an_instance(now + WINDOW), LINES_PER_WINDOW as usize);
    }

    #[test]
    fn what_the_rate_keeps_out_is_among_the_last_lines() {
        let log = PluginLog::new("p", LogRate::default(), Secrets::default());
        for line in 0..100 {
            log.line(Level::Info, &format!("line {line}"));
        }
        assert_eq!(log.last_lines().lines().last(), Some("line 99"));
        assert_eq!(log.last_lines().lines().count(), LAST_LINES);
    }
}
