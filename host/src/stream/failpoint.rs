//! Faults that a test makes on purpose, by the environment variable `FAILPOINTS`. Only test builds have them: where the
//! `fail` crate has no failpoints, each macro below is nothing.
//!
//! `FAILPOINTS="after-offsets=3*off->1*return(kill)"` kills the process when it passes that point for the fourth time.
//! `return(kill)` is SIGKILL, `return(abort)` and `return(unknown)` are faults of those classes. A name that begins
//! with `bug` is a mistake that a release would make: tests turn it on to see that it is found.

use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) const AFTER_BEGIN: &str = "after-begin";
/// Some of the transaction's outputs were handed to the producer.
pub(crate) const IN_PRODUCE: &str = "in-produce";
/// The offsets are in the transaction; its end comes next.
pub(crate) const AFTER_OFFSETS: &str = "after-offsets";
/// The broker has acknowledged the end; nothing in memory knows of it yet.
pub(crate) const AFTER_END: &str = "after-end";
/// The client does not come back from sending the offsets.
pub(crate) const NO_ANSWER: &str = "no-answer";
/// Offsets are committed on their own, before the transaction is.
pub(crate) const OFFSETS_FIRST: &str = "bug-offsets-first";
/// After an abort the consumer reads on where it stands.
pub(crate) const NO_SEEK: &str = "bug-no-seek";
/// The consumer commits by itself what it has handed out.
pub(crate) const AUTO_COMMIT: &str = "bug-auto-commit";
/// After an unknown outcome the worker goes back to where it remembers to have been.
pub(crate) const REWIND_FROM_MEMORY: &str = "bug-rewind-from-memory";

/// A deployment is staged for as long as the process lives.
pub(crate) const IN_STAGING: &str = "in-staging";

/// The control topics' records are of the next version.
pub(crate) const LATER_VERSION: &str = "later-version";

/// A command that was decided is decided once more.
pub(crate) const DECIDES_TWICE: &str = "bug-decides-twice";
/// What was made against another revision is accepted.
pub(crate) const ACCEPTS_STALE: &str = "bug-accepts-stale";
/// What no daemon can run becomes current.
pub(crate) const ACTIVATES_UNFIT: &str = "bug-activates-unfit";
/// What is current is not handed to the workers.
pub(crate) const NEVER_HANDS_OVER: &str = "bug-never-hands-over";

const ALL: [&str; 15] = [
    AFTER_BEGIN,
    IN_PRODUCE,
    AFTER_OFFSETS,
    AFTER_END,
    NO_ANSWER,
    OFFSETS_FIRST,
    NO_SEEK,
    AUTO_COMMIT,
    REWIND_FROM_MEMORY,
    IN_STAGING,
    LATER_VERSION,
    DECIDES_TWICE,
    ACCEPTS_STALE,
    ACTIVATES_UNFIT,
    NEVER_HANDS_OVER,
];

/// What a consumer is given to commit by itself.
pub(crate) const AUTO_COMMIT_PROPERTIES: [(&str, &str); 3] =
    [("enable.auto.commit", "true"), ("enable.auto.offset.store", "true"), ("auto.commit.interval.ms", "50")];

/// Fails the function here, as a test wants it.
macro_rules! failpoint {
    ($point:ident) => {
        match $crate::stream::failpoint::pass($crate::stream::failpoint::$point) {
            None => {}
            Some($crate::stream::failpoint::Requested::Abort(text)) => {
                return Err($crate::stream::fault::Fault::Abortable(text));
            }
            Some($crate::stream::failpoint::Requested::Unknown(text)) => {
                return Err($crate::stream::fault::Fault::Unknown(text));
            }
        }
    };
}

/// Stops the thread here for good, as a test wants it.
macro_rules! hangpoint {
    ($point:ident) => {
        while $crate::stream::failpoint::is_on($crate::stream::failpoint::$point) {
            std::thread::park();
        }
    };
}

/// Makes a mistake that no release makes: only where a test turns it on.
macro_rules! planted_mistake {
    ($mistake:ident, $make:expr) => {
        if $crate::stream::failpoint::is_on($crate::stream::failpoint::$mistake) {
            $make;
        }
    };
}

pub(crate) use {failpoint, hangpoint, planted_mistake};

/// The class of fault that a test asked for, and a message that says so.
#[derive(Debug, PartialEq)]
pub(crate) enum Requested {
    Abort(String),
    Unknown(String),
}

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

/// What a test wants to happen at a point. Where it wants the process killed, this does not return.
pub(crate) fn pass(point: &str) -> Option<Requested> {
    let action = requested(point)?;
    match action.as_str() {
        "kill" => kill(),
        "abort" => Some(Requested::Abort(format!("told to abort at {point}"))),
        _ => Some(Requested::Unknown(format!("told {action:?} at {point}"))),
    }
}

/// Whether a test turned that on.
pub(crate) fn is_on(point: &str) -> bool {
    requested(point).is_some()
}

/// A transaction of whoever was fenced is kept: by the simulated Kafka.
#[cfg(test)]
pub(crate) const KEEPS_FENCED: &str = "bug-keeps-fenced";

#[cfg(test)]
thread_local! {
    /// A mistake of this thread's alone: other tests run beside it.
    static PLANTED: std::cell::Cell<Option<&'static str>> = const { std::cell::Cell::new(None) };
}

/// Plants a mistake as long as this lives, on this thread.
#[cfg(test)]
pub(crate) struct Planted;

#[cfg(test)]
pub(crate) fn plant(mistake: &'static str) -> Planted {
    PLANTED.set(Some(mistake));
    Planted
}

#[cfg(test)]
impl Drop for Planted {
    fn drop(&mut self) {
        PLANTED.set(None);
    }
}

#[inline]
fn requested(point: &str) -> Option<String> {
    #[cfg(test)]
    if PLANTED.get() == Some(point) {
        return Some(String::new());
    }
    if fail::has_failpoints() && CONFIGURED.load(Ordering::Relaxed) { action_of(point) } else { None }
}

#[cfg_attr(not(test), allow(unused_variables, reason = "the macro is empty where there are no points"))]
fn action_of(point: &str) -> Option<String> {
    fail::fail_point!(point, |action| Some(action.unwrap_or_default()));
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
    use crate::stream::fault::Fault;

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
        fn passes() -> Result<(), Fault> {
            failpoint!(AFTER_END);
            Ok(())
        }
        configure("after-end=1*off->1*return(abort)").unwrap();
        assert_eq!(passes(), Ok(()));
        assert_eq!(passes(), Err(Fault::Abortable("told to abort at after-end".into())));
        assert_eq!(passes(), Ok(()));
    }

    #[test]
    fn a_mistake_is_made_only_where_it_is_turned_on() {
        let mut made = 0;
        // Not one of the mistakes themselves: the workers of other tests would make it.
        planted_mistake!(NO_ANSWER, made += 1);
        configure("no-answer=1*return->off").unwrap();
        planted_mistake!(NO_ANSWER, made += 1);
        planted_mistake!(NO_ANSWER, made += 1);
        assert_eq!(made, 1);
    }
}
