//! The secrets of a plugin's configuration, kept out of what the plugin says.
//!
//! A plugin that repeats its configuration in an error or in its log does so by mistake, and that is what is mended here. One
//! that wants to give a secret away can: it may write it in another form, or into its records.

use std::borrow::Cow;
use std::sync::Arc;

/// Bytes of the shortest text that is looked for: a shorter one stands everywhere by chance.
const SHORTEST: usize = 4;
/// What stands in a secret's place.
const HIDDEN: &str = "[secret]";

/// Texts that are not shown, the longest first. Clones share them.
#[derive(Clone, Default)]
pub struct Secrets(Arc<[String]>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} hidden texts", self.0.len())
    }
}

impl Secrets {
    /// Each of them as it is, as a quoted text holds it, and line by line, as a log does.
    pub fn of(values: impl IntoIterator<Item = String>) -> Self {
        let mut texts = Vec::new();
        for value in values {
            let lines = value.lines().map(|line| line.trim().to_owned());
            texts.extend(lines);
            let quoted = format!("{value:?}");
            texts.push(quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned());
            texts.push(value);
        }
        texts.retain(|text| text.len() >= SHORTEST);
        // The longest first: a part of one must not keep the whole from being found.
        texts.sort_by(|one, other| other.len().cmp(&one.len()).then(one.cmp(other)));
        texts.dedup();
        Self(texts.into())
    }

    /// The text without them.
    pub fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for secret in self.0.iter() {
            if text.contains(secret.as_str()) {
                text = Cow::Owned(text.replace(secret.as_str(), HIDDEN));
            }
        }
        text
    }

    /// The bytes without them, whether they are text or not.
    pub fn hide_in(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        for secret in self.0.iter().map(String::as_bytes) {
            let (mut hidden, mut rest) = (Vec::new(), bytes.as_slice());
            while let Some(at) = rest.windows(secret.len()).position(|part| part == secret) {
                let (before, found) = rest.split_at(at);
                hidden.extend_from_slice(before);
                hidden.extend_from_slice(HIDDEN.as_bytes());
                rest = found.get(secret.len()..).unwrap_or_default();
            }
            if !hidden.is_empty() {
                hidden.extend_from_slice(rest);
                bytes = hidden;
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden_as_it_is_quoted_and_line_by_line() {
        let secrets = Secrets::of(["s3\"cret".to_owned(), "first line\nsecond\n".to_owned(), "abc".to_owned()]);
        for (text, shown) in [
            ("key s3\"cret is bad", "key [secret] is bad"),
            ("key \"s3\\\"cret\" is bad", "key \"[secret]\" is bad"),
            ("its second", "its [secret]"),
            ("first line\nsecond\n!", "[secret]!"),
            ("abc is too short to be looked for", "abc is too short to be looked for"),
        ] {
            assert_eq!(secrets.hide(text), shown);
            assert_eq!(secrets.hide_in(text.into()), shown.as_bytes());
        }
        assert!(!format!("{secrets:?}").contains("cret"), "{secrets:?}");
    }

    #[test]
    fn of_two_secrets_one_within_the_other_both_are_hidden_whole() {
        let secrets = Secrets::of(["word".to_owned(), "password".to_owned()]);
        assert_eq!(secrets.hide("password, word"), "[secret], [secret]");
        assert_eq!(secrets.hide_in(b"\xffpassword\xff".into()), b"\xff[secret]\xff");
    }
}
