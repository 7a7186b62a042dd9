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

/// Lines that one instance may write in each window; the rest are only counted.
const LINES_PER_WINDOW: u32 = 50;
const WINDOW: Duration = Duration::from_secs(10);
/// Bytes of a line; a longer one is cut.
const MAX_LINE: usize = 1_024;
/// Lines kept for a dead letter's `log` header.
const LAST_LINES: usize = 10;

/// The log of one instance. Clones share it, so that stdout, stderr and `log` make one sequence of lines.
#[derive(Clone)]
pub struct PluginLog(Arc<Mutex<Inner>>);

struct Inner {
    plugin: String,
    secrets: Secrets,
    /// Bytes of stdout or stderr since the last newline.
    partial: Vec<u8>,
    /// At most `LAST_LINES`, oldest first; lines that the rate limit keeps out of the daemon's log are among them.
    last: VecDeque<String>,
    window_start: Instant,
    /// Lines of this window that went into the daemon's log, and those that did not.
    written: u32,
    suppressed: u64,
}

impl PluginLog {
    pub fn new(plugin: &str, secrets: Secrets) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            plugin: plugin.to_owned(),
            secrets,
            partial: Vec::new(),
            last: VecDeque::new(),
            window_start: Instant::now(),
            written: 0,
            suppressed: 0,
        })))
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
        if self.window_start.elapsed() >= WINDOW {
            if self.suppressed > 0 {
                tracing::warn!(plugin = self.plugin, lines = self.suppressed, "lines of this plugin were left out");
            }
            (self.window_start, self.written, self.suppressed) = (Instant::now(), 0, 0);
        }
        if self.written == LINES_PER_WINDOW {
            self.suppressed += 1;
            return;
        }
        self.written += 1;
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
