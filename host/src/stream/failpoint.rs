//! Points at which a test makes the daemon fail: only test builds have them, any other passes by without a look.
//!
//! `FAILPOINTS="after-offsets=3*off->1*return(kill)"` kills the process when it passes that point for the fourth time.
//! `return(kill)` is SIGKILL, `return(abort)` and `return(unknown)` are faults of those classes. A name that begins
//! with `bug` is a mistake that a release would make: tests turn it on to see that it is found.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::stream::fault::Fault;

pub const AFTER_BEGIN: &str = "after-begin";
/// Some of the transaction's outputs were handed to the producer.
pub const IN_PRODUCE: &str = "in-produce";
/// The offsets are in the transaction; its end comes next.
pub const AFTER_OFFSETS: &str = "after-offsets";
/// The broker has acknowledged the end; nothing in memory knows of it yet.
pub const AFTER_END: &str = "after-end";
/// The client does not come back from sending the offsets.
pub const NO_ANSWER: &str = "no-answer";
/// Offsets are committed on their own, before the transaction is.
pub const BUG_OFFSETS_FIRST: &str = "bug-offsets-first";
/// After an abort the consumer reads on where it stands.
pub const BUG_NO_SEEK: &str = "bug-no-seek";
/// The consumer commits by itself what it has handed out.
pub const BUG_AUTO_COMMIT: &str = "bug-auto-commit";
/// After an unknown outcome the worker goes back to where it remembers to have been.
pub const BUG_REWIND_FROM_MEMORY: &str = "bug-rewind-from-memory";

const ALL: [&str; 9] = [
    AFTER_BEGIN,
    IN_PRODUCE,
    AFTER_OFFSETS,
    AFTER_END,
    NO_ANSWER,
    BUG_OFFSETS_FIRST,
    BUG_NO_SEEK,
    BUG_AUTO_COMMIT,
    BUG_REWIND_FROM_MEMORY,
];

/// Whether any point has something to do: benchmarks are built as tests are, and a look at each would show in them.
static CONFIGURED: AtomicBool = AtomicBool::new(false);

/// Takes the points of the environment variable `FAILPOINTS`, in builds that have any.
///
/// # Errors
/// Names what is unknown, and all that is known.
pub fn set_up() -> Result<(), String> {
    match std::env::var("FAILPOINTS") {
        Ok(points) if fail::has_failpoints() => configure(&points),
        _ => Ok(()),
    }
}

fn configure(points: &str) -> Result<(), String> {
    for point in points.split(';').map(str::trim).filter(|point| !point.is_empty()) {
        let (name, actions) = point.split_once('=').unwrap_or((point, ""));
        if !ALL.contains(&name) {
            return Err(format!("FAILPOINTS: there is no point {name:?}, only {}", ALL.join(", ")));
        }
        CONFIGURED.store(true, Ordering::Relaxed);
        fail::cfg(name, actions).map_err(|error| format!("FAILPOINTS: {name}={actions}: {error}"))?;
    }
    Ok(())
}

/// Passes a point, or fails there as a test wants it.
///
/// # Errors
/// The fault that was asked for.
pub fn pass(point: &str) -> Result<(), Fault> {
    let Some(told) = told(point) else { return Ok(()) };
    match told.as_str() {
        "kill" => kill(),
        "abort" => Err(Fault::Abortable(format!("told to abort at {point}"))),
        _ => Err(Fault::Unknown(format!("told {told:?} at {point}"))),
    }
}

/// Whether a bug is turned on.
pub fn is_on(bug: &str) -> bool {
    told(bug).is_some()
}

#[cfg_attr(not(test), allow(unused_variables, reason = "the macro is empty where there are no points"))]
fn told(point: &str) -> Option<String> {
    if !CONFIGURED.load(Ordering::Relaxed) {
        return None;
    }
    fail::fail_point!(point, |told| Some(told.unwrap_or_default()));
    None
}

/// As the kernel would: nothing is said to anyone, nothing is written.
fn kill() -> ! {
    loop {
        // SAFETY: `raise` takes a number, and this one is not returned from.
        unsafe { libc::raise(libc::SIGKILL) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_point_is_refused_by_name() {
        let message = configure("after-begin=off; after-lunch=return(kill)").unwrap_err();
        assert!(message.contains("\"after-lunch\"") && message.contains("after-begin, in-produce"), "{message}");
    }

    #[test]
    fn an_action_that_cannot_be_read_is_refused() {
        let message = configure("in-produce=explode").unwrap_err();
        assert!(message.contains("in-produce=explode"), "{message}");
    }

    #[test]
    fn a_point_fails_at_the_pass_that_is_asked_for() {
        configure("after-end=1*off->1*return(abort)").unwrap();
        assert_eq!(pass(AFTER_END), Ok(()));
        assert!(matches!(pass(AFTER_END), Err(Fault::Abortable(_))));
        assert_eq!(pass(AFTER_END), Ok(()));
    }
}
