//! What a daemon says, once or every second until Ctrl-C.

use std::io::IsTerminal as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;

use super::plain::plain;
use super::{Global, Outcome, Output};

/// How often `--watch` asks the daemon.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// How often the wait in between checks for Ctrl-C.
const INTERRUPT_CHECK: Duration = Duration::from_millis(50);

/// Prints what `look` finds; again and again where that is asked for.
pub(super) fn watch(global: &Global, again: bool, look: impl Fn() -> Result<String>) -> Outcome {
    let mut text = look()?;
    if !again {
        match global.output {
            Output::Json => super::write(&text)?,
            Output::Text => super::print(&text)?,
        };
        return Ok(());
    }
    let redraws = std::io::stdout().is_terminal();
    let interrupted = super::interrupted()?;
    while show(global, redraws, text)? {
        let mut waited = Duration::ZERO;
        while waited < WATCH_INTERVAL && !interrupted.load(Ordering::Relaxed) {
            std::thread::sleep(INTERRUPT_CHECK);
            waited += INTERRUPT_CHECK;
        }
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
        // A daemon that does not answer may be restarting, so watching goes on.
        text = match (look(), global.output) {
            (Ok(text), _) => text,
            (Err(error), Output::Text) => format!("error: {error:#}\n"),
            (Err(error), Output::Json) => serde_json::json!({ "error": format!("{error:#}") }).to_string() + "\n",
        };
    }
    Ok(())
}

/// False when nobody reads it any more.
fn show(global: &Global, redraws: bool, text: String) -> Result<bool> {
    match global.output {
        Output::Json => super::write(&text),
        // What moves the cursor is ours, and only that.
        Output::Text if redraws => super::write(&over_the_last(&plain(&text))),
        Output::Text => super::print(&(text + "\n")),
    }
}

/// The escape sequences that write a text over the last one without clearing the screen first, which would flicker.
fn over_the_last(text: &str) -> String {
    format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_written_over_the_last_and_commands_nothing_else() {
        let shown = over_the_last(&plain("revision 3\nreason \x1b[2J\n"));
        assert_eq!(shown, "\x1b[Hrevision 3\x1b[K\nreason \\u{1b}[2J\x1b[K\n\x1b[J");
    }
}
