//! What a plugin says about a row that it does not take.

use crate::types::Rejection;

/// How long the contract lets a message be, in bytes.
const MESSAGE_BYTES: usize = 1024;

/// Why a row becomes a dead letter. Made by [`reject`].
#[derive(Debug, Clone, PartialEq)]
pub struct Reject {
    code: &'static str,
    message: String,
}

/// Refuses a row: it becomes a dead letter and its neighbours are unaffected.
///
/// `code` is a metric's label: stable and short, `[a-z0-9-]{1,64}`. `message` tells people what is
/// wrong with this row; what exceeds 1,024 bytes is cut off.
pub fn reject(code: &'static str, message: impl Into<String>) -> Reject {
    Reject { code, message: message.into() }
}

impl Reject {
    pub fn code(&self) -> &'static str {
        self.code
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn of_row(mut self, row: u32) -> Rejection {
        if self.message.len() > MESSAGE_BYTES {
            let end = self.message.floor_char_boundary(MESSAGE_BYTES);
            self.message.truncate(end);
        }
        Rejection { row, code: self.code.to_owned(), message: self.message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_within_the_bound_stays_whole() {
        let message = "é".repeat(MESSAGE_BYTES / 2);
        assert_eq!(reject("code", message.clone()).of_row(3).message, message);
    }

    #[test]
    fn a_message_beyond_the_bound_is_cut_between_characters() {
        let rejection = reject("code", format!("a{}", "é".repeat(MESSAGE_BYTES))).of_row(3);
        assert_eq!(rejection.message.len(), MESSAGE_BYTES - 1);
        assert_eq!(rejection.row, 3);
    }
}
