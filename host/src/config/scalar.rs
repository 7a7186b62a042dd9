//! Reads a section's keys as text, words, counts, sizes, durations and fractions.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::section::Section;
use super::value::{self, Field, Setting, kind};
use super::{spelling, unit};

impl Section<'_> {
    /// A string, made into a `T`: see [`value::text`].
    pub fn text<T>(&self, key: &'static str, make: impl Fn(&str) -> Result<T, String>) -> Field<T> {
        self.get(key).map_or(Field::Absent, |value| value::text(self.file, value, &self.key(key), make))
    }

    pub fn number<T>(&self, key: &'static str, make: impl Fn(&str) -> Result<T, String>) -> Field<T> {
        self.get(key).map_or(Field::Absent, |value| value::number(self.file, value, &self.key(key), make))
    }

    /// A list of strings, each made into a `T` as by `text`.
    pub fn list<T>(
        &self,
        key: &'static str,
        example: &str,
        make: impl Fn(&str) -> Result<T, String>,
    ) -> Field<Vec<Setting<T>>> {
        let Some(value) = self.get(key) else { return Field::Absent };
        let (at, key) = (value.span(), self.key(key));
        let DeValue::Array(items) = value.get_ref() else {
            self.file.mistake(&at, key, format!("found {}: expected a list, as {example}", kind(value)));
            return Field::Invalid;
        };
        let read = items.iter().map(|item| value::text(self.file, item, &key, &make).valid()).collect();
        match super::all(read) {
            Some(value) => Field::Valid(Setting { value, shown: self.file.shown(&at), at: Some(at) }),
            None => Field::Invalid,
        }
    }

    /// `true`, which may as well be left out where it is not so.
    pub fn flag(&self, key: &'static str) -> Field<()> {
        let Some(value) = self.get(key) else { return Field::Absent };
        let at = value.span();
        match value.get_ref() {
            DeValue::Boolean(true) => Field::Valid(Setting { value: (), shown: "true".to_owned(), at: Some(at) }),
            _ => {
                self.file.mistake(&at, self.key(key), format!("{} is not true: leave it out", self.file.shown(&at)));
                Field::Invalid
            }
        }
    }

    /// One of a few words, each with its meaning.
    pub fn choice<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Field<T> {
        self.text(key, |text| {
            let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
            let chosen = words.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
            chosen.ok_or_else(|| {
                let allowed: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
                format!("is not allowed{} Allowed: {}", spelling::hint(text, &names), allowed.join(", "))
            })
        })
    }

    pub fn count(&self, key: &'static str, default: usize, allowed: RangeInclusive<usize>) -> Option<Setting<usize>> {
        let read = |text: &str| {
            let whole = text
                .parse()
                .map_err(|_| format!("is not a whole number from {} to {}", allowed.start(), allowed.end()))?;
            within(whole, &allowed, |number| number.to_string())
        };
        self.number(key, read).or(default, default)
    }

    /// Bytes.
    pub fn size(&self, key: &'static str, default: usize, allowed: RangeInclusive<usize>) -> Option<Setting<usize>> {
        let read = |text: &str| within(unit::size(text)?, &allowed, unit::show_size);
        self.number(key, read).or(default, unit::show_size(default))
    }

    pub fn duration(
        &self,
        key: &'static str,
        default: Duration,
        allowed: RangeInclusive<Duration>,
    ) -> Option<Setting<Duration>> {
        let read = |text: &str| within(unit::duration(text)?, &allowed, unit::show_duration);
        self.number(key, read).or(default, unit::show_duration(default))
    }

    pub fn fraction(&self, key: &'static str, default: f32) -> Option<Setting<f32>> {
        let read = |text: &str| match text.parse::<f32>() {
            Ok(number) if (0.0..=1.0).contains(&number) => Ok(number),
            _ => Err("is not a number from 0 to 1".to_owned()),
        };
        self.number(key, read).or(default, default)
    }
}

fn within<T: PartialOrd + Copy>(
    value: T,
    allowed: &RangeInclusive<T>,
    show: impl Fn(T) -> String,
) -> Result<T, String> {
    if allowed.contains(&value) {
        return Ok(value);
    }
    Err(format!("is out of range: from {} to {}", show(*allowed.start()), show(*allowed.end())))
}
