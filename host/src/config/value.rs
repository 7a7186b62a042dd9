//! One value of the file: it is read, or what is wrong with it is noted as a mistake.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

use super::file::File;
use super::{secret, unit};

pub(super) type Value<'a> = Spanned<DeValue<'a>>;

/// A setting: its value, and how a message names it.
#[derive(Clone, Debug)]
pub(super) struct Setting<T> {
    pub value: T,
    /// As the file has it, with its `${…}` unresolved, so that a message gives no secret away.
    pub shown: String,
    /// Where it stands; `None` for a default.
    pub at: Option<Range<usize>>,
}

/// The outcome of reading a key.
pub(super) enum Field<T> {
    Absent,
    /// What is wrong has been noted as a mistake.
    Invalid,
    Valid(Setting<T>),
}

impl<T> Field<T> {
    /// The setting, or this default where the key is absent; `None` where it is invalid.
    pub fn or(self, default: T, shown: impl std::fmt::Display) -> Option<Setting<T>> {
        match self {
            Field::Absent => Some(Setting { value: default, shown: format!("{shown} (default)"), at: None }),
            Field::Invalid => None,
            Field::Valid(written) => Some(written),
        }
    }

    /// `Some(None)` where the key is absent, `None` where it is invalid.
    pub fn optional(self) -> Option<Option<T>> {
        match self {
            Field::Absent => Some(None),
            Field::Invalid => None,
            Field::Valid(written) => Some(Some(written.value)),
        }
    }

    pub fn valid(self) -> Option<Setting<T>> {
        match self {
            Field::Valid(written) => Some(written),
            Field::Absent | Field::Invalid => None,
        }
    }
}

/// Reads a string and makes it into a `T`. An `Err` of `make` completes the sentence that begins with the value as found, and
/// so must not repeat it.
pub(super) fn text<T>(
    file: &File<'_>,
    value: &Value<'_>,
    key: &str,
    make: impl Fn(&str) -> Result<T, String>,
) -> Field<T> {
    let DeValue::String(text) = value.get_ref() else {
        file.mistake(&value.span(), key, format!("found {}: expected a string in quotes", kind(value)));
        return Field::Invalid;
    };
    match secret::substitute(&file.sources(), text) {
        Ok(text) => check(file, value, key, make(&text)),
        Err(reasons) => {
            for reason in reasons {
                file.mistake(&value.span(), key, reason);
            }
            Field::Invalid
        }
    }
}

/// Reads a number, or a string that holds one, since only a string can hold a `${…}`.
pub(super) fn number<T>(
    file: &File<'_>,
    value: &Value<'_>,
    key: &str,
    make: impl Fn(&str) -> Result<T, String>,
) -> Field<T> {
    let number = match value.get_ref() {
        DeValue::String(_) => return text(file, value, key, make),
        DeValue::Integer(number) => {
            unit::integer(number).map(|number| number.to_string()).ok_or_else(|| "is too large".to_owned())
        }
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        _ => {
            file.mistake(&value.span(), key, format!("found {}: expected a number", kind(value)));
            return Field::Invalid;
        }
    };
    check(file, value, key, number.and_then(|number| make(&number)))
}

fn check<T>(file: &File<'_>, value: &Value<'_>, key: &str, made: Result<T, String>) -> Field<T> {
    let at = value.span();
    let shown = file.shown(&at);
    match made {
        Ok(value) => Field::Valid(Setting { value, shown, at: Some(at) }),
        Err(reason) => {
            file.mistake(&at, key, format!("{shown} {reason}"));
            Field::Invalid
        }
    }
}

/// The type of a value with its article, for a message.
pub(super) fn kind(value: &Value<'_>) -> String {
    let kind = value.get_ref().type_str();
    let article = if matches!(kind, "integer" | "array") { "an" } else { "a" };
    format!("{article} {kind}")
}
