//! A process's memory, threads and open files, from Linux's `/proc/PID`.

use anyhow::{Context, Result};
use std::fs;

/// What a process uses at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Megabytes in memory, pages that it shares too.
    pub resident: f64,
    pub threads: usize,
    /// Open files: sockets, pipes and the like among them.
    pub files: usize,
}

impl Usage {
    pub fn of(process: u32) -> Result<Usage> {
        let (resident, threads) = status(process)?;
        let folder = format!("/proc/{process}/fd");
        let files = fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?.count();
        Ok(Usage { resident, threads, files })
    }
}

/// Megabytes in memory, and threads.
pub fn status(process: u32) -> Result<(f64, usize)> {
    let file = format!("/proc/{process}/status");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    parse(&text).with_context(|| format!("{file} names no memory or no threads: has the process ended?\n{text}"))
}

/// Megabytes and threads in the text of a status file; `None` for a process that has ended and was not waited for.
pub fn parse(text: &str) -> Option<(f64, usize)> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let kibibytes: f64 = field("VmRSS:")?.strip_suffix("kB")?.trim().parse().ok()?;
    Some((kibibytes * 1_024.0 / 1e6, field("Threads:")?.parse().ok()?))
}
