//! All of them once more: asked of the daemon, and waited for.

use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::super::client::Client;
use super::super::plain::one_line;
use super::super::table::grouped;
use super::super::{Global, Outcome, Output, interrupted, print, print_json, say};
use crate::replay::process::{Progress, Request};

/// Between two lines about the reading before it.
const READING_INTERVAL: Duration = Duration::from_secs(2);
/// Between two requests for the progress of a replay that runs.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

pub(super) fn replay(global: &Global, pipeline: &str, request: &Request) -> Outcome {
    let client = Client::new(global)?;
    let path = format!("/v1/pipelines/{pipeline}/replay");
    let mut progress = begin(&client, &path, request)?;
    let interrupted = interrupted()?;
    while progress.running && !interrupted.load(Ordering::Relaxed) {
        thread::sleep(PROGRESS_INTERVAL);
        progress = client.get(&path)?;
    }
    if global.output == Output::Json {
        print_json(&progress)?;
    } else {
        print(&summary(&progress, request.dry_run))?;
    }
    match progress.error {
        Some(error) => Err(anyhow::anyhow!("the replay ended early: {error}").into()),
        None => Ok(()),
    }
}

/// Asks for it. The daemon reads the whole topic before it answers; meanwhile stderr says how far it is.
fn begin(client: &Client, path: &str, request: &Request) -> Result<Progress> {
    let (answered, answer) = mpsc::channel();
    thread::scope(|threads| {
        let ask = move || drop(answered.send(client.post(path, request)));
        thread::Builder::new().spawn_scoped(threads, ask).context("no thread to wait for the answer on")?;
        loop {
            match answer.recv_timeout(READING_INTERVAL) {
                Ok(progress) => return progress,
                Err(mpsc::RecvTimeoutError::Disconnected) => bail!("the request ended without an answer"),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            if let Ok(Progress { read, to_read, .. }) = client.get::<Progress>(path)
                && to_read > 0
            {
                say(&format!("read {} of {} offsets", grouped(read), grouped(to_read)));
            }
        }
    })
}

fn summary(progress: &Progress, dry_run: bool) -> String {
    let dead: u64 = progress.dead_letters.values().sum();
    let (done, would) = (grouped(progress.done()), if dry_run { "would be " } else { "" });
    let mut text = format!(
        "{done} of {} letters {would}replayed: {} {would}emitted, {} {would}dropped, {} dead letters again\n",
        grouped(progress.selected),
        grouped(progress.emitted),
        grouped(progress.dropped),
        grouped(dead),
    );
    for (reason, count) in &progress.dead_letters {
        text.push_str(&format!("  {} {}\n", grouped(*count), one_line(reason)));
    }
    for (count, what) in [
        (progress.replayed_before, "were replayed before"),
        (progress.tried_too_often, "were tried too often; --max-attempts says how often that is"),
        (progress.without_value, "were written without their value"),
        (progress.foreign, "records of the topic are no dead letters of ours; `sandpiper dlq ls` names one"),
    ] {
        if count > 0 {
            text.push_str(&format!("{} {what}\n", grouped(count)));
        }
    }
    if progress.running {
        text.push_str("it goes on in the daemon\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_what_was_left_alone() {
        let progress = Progress {
            selected: 3,
            emitted: 2,
            replayed_before: 4,
            dead_letters: [("bad".into(), 1)].into(),
            ..Progress::default()
        };
        let text = summary(&progress, false);
        assert!(
            text.starts_with("3 of 3 letters replayed: 2 emitted, 0 dropped, 1 dead letters again\n  1 bad\n"),
            "{text}"
        );
        assert!(text.contains("4 were replayed before"), "{text}");
    }
}
