//! Why a plugin's call gave no answer that can be used, as a dead letter tells it.

use std::fmt;

/// Bytes of a failure's message: it stands in a header of each dead letter that the failure makes.
const MAX_MESSAGE: usize = 4_096;

/// Why a call gave no answer that can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub kind: FailureKind,
    /// What happened, with the guest's stack frames where there are some.
    pub message: String,
    /// The last lines of the instance's log.
    pub log: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    Trap,
    Deadline,
    Memory,
    /// The answer breaks the interface's rules.
    Answer,
    /// The plugin itself reported that the batch failed.
    Error,
}

impl FailureKind {
    /// The dead letter's reason.
    pub fn code(self) -> &'static str {
        match self {
            Self::Trap => "plugin-trap",
            Self::Deadline => "plugin-deadline",
            Self::Memory => "plugin-memory",
            Self::Answer => "plugin-answer",
            Self::Error => "plugin-error",
        }
    }
}

impl Failure {
    /// A failure without log lines. A guest chooses the length of its messages: a longer one is cut here.
    pub(super) fn new(kind: FailureKind, message: String) -> Self {
        Self { kind, message: shortened(message), log: String::new() }
    }

    pub(super) fn with_log(self, log: String) -> Self {
        Self { log, ..self }
    }

    /// The message, and the last lines of the log behind it.
    pub fn with_last_words(&self) -> String {
        match self.log.is_empty() {
            true => self.message.clone(),
            false => format!("{}\nits last log lines:\n{}", self.message, self.log),
        }
    }
}

/// A guest's text, cut where it is longer than a message may be.
pub(super) fn shortened(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        message.push('…');
    }
    message
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failures_message_is_as_long_as_a_header_may_be_and_no_longer() {
        assert_eq!(shortened("x".repeat(MAX_MESSAGE)), "x".repeat(MAX_MESSAGE));
        assert_eq!(shortened("x".repeat(MAX_MESSAGE + 1)), format!("{}…", "x".repeat(MAX_MESSAGE)));
        // Three bytes a letter: the bound falls into one.
        assert_eq!(shortened("€".repeat(MAX_MESSAGE)), format!("{}…", "€".repeat(MAX_MESSAGE / 3)));
    }
}
