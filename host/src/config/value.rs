//! One value of the file: read it or note what is wrong with it.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

use super::file::File;
use super::{secret, unit};

pub(super) type Value<'a> = Spanned<DeValue<'a>>;

/// A value, and how to speak of it.
#[derive(Clone, Debug)]
pub(super) struct Written<T> {
    pub value: T,
    /// As in the file, so that a message gives no secret away.
    pub shown: String,
    /// `None`: it is a default.
    pub at: Option<Range<usize>>,
}

/// What became of reading a key. `Wrong` has been noted as a mistake.
pub(super) enum Found<T> {
    Absent,
    Wrong,
    Right(Written<T>),
}

impl<T> Found<T> {
    /// `None`: what stands there is wrong.
    pub fn or(self, default: T, shown: impl std::fmt::Display) -> Option<Written<T>> {
        match self {
            Found::Absent => Some(Written { value: default, shown: format!("{shown} (default)"), at: None }),
            Found::Wrong => None,
            Found::Right(written) => Some(written),
        }
    }

    pub fn right(self) -> Option<Written<T>> {
        match self {
            Found::Right(written) => Some(written),
            Found::Absent | Found::Wrong => None,
        }
    }
}

/// Reads a string and makes it into a `T`. An `Err` completes the sentence that begins with what was found: it must not repeat it.
pub(super) fn text<T>(
    file: &File<'_>,
    value: &Value<'_>,
    key: &str,
    make: impl Fn(&str) -> Result<T, String>,
) -> Found<T> {
    let DeValue::String(text) = value.get_ref() else {
        file.mistake(&value.span(), key, format!("found {}: expected a string in quotes", kind(value)));
        return Found::Wrong;
    };
    match secret::filled(file, text) {
        Ok(text) => made(file, value, key, make(&text)),
        Err(reasons) => {
            for reason in reasons {
                file.mistake(&value.span(), key, reason);
            }
            Found::Wrong
        }
    }
}

/// Reads a number, or a string that holds one, since only a string can hold a `${…}`.
pub(super) fn number<T>(
    file: &File<'_>,
    value: &Value<'_>,
    key: &str,
    make: impl Fn(&str) -> Result<T, String>,
) -> Found<T> {
    let number = match value.get_ref() {
        DeValue::String(_) => return text(file, value, key, make),
        DeValue::Integer(number) => {
            unit::integer(number).map(|number| number.to_string()).ok_or_else(|| "is too large".to_owned())
        }
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        _ => {
            file.mistake(&value.span(), key, format!("found {}: expected a number", kind(value)));
            return Found::Wrong;
        }
    };
    made(file, value, key, number.and_then(|number| make(&number)))
}

fn made<T>(file: &File<'_>, value: &Value<'_>, key: &str, made: Result<T, String>) -> Found<T> {
    let at = value.span();
    let shown = file.shown(&at);
    match made {
        Ok(value) => Found::Right(Written { value, shown, at: Some(at) }),
        Err(reason) => {
            file.mistake(&at, key, format!("{shown} {reason}"));
            Found::Wrong
        }
    }
}

/// With its article, for a message.
pub(super) fn kind(value: &Value<'_>) -> String {
    let kind = value.get_ref().type_str();
    let article = if matches!(kind, "integer" | "array") { "an" } else { "a" };
    format!("{article} {kind}")
}
