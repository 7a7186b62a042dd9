//! One pointer, and what stands there.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::tree::Pointers;
use crate::walk::{Reader, walk};

/// One JSON pointer.
#[derive(Clone)]
pub struct Pointer {
    text: String,
    alone: Pointers,
}

/// What stands at a pointer.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    /// In its own characters: `1.10` and `1.1` are two names.
    Number(&'a str),
    Text(Cow<'a, str>),
    /// An array or an object.
    Compound,
}

#[derive(Debug)]
pub enum Error {
    /// The document is no JSON.
    Document(serde_json::Error),
    /// The text at the pointer is no text: half of a surrogate pair stands alone.
    Text(serde_json::Error),
}

impl Pointer {
    /// # Errors
    /// Text that is no pointer: empty, or steps that begin with `/`, with `~0` for `~` and `~1` for `/`.
    pub fn new(text: &str) -> Result<Self, String> {
        let mut alone = Pointers::default();
        alone.insert(text, 0)?;
        Ok(Self { text: text.to_owned(), alone })
    }

    /// `None` where nothing stands there.
    ///
    /// # Errors
    /// When the document is no JSON, or the text there is none.
    pub fn value<'a>(&self, document: &'a str) -> Result<Option<Value<'a>>, Error> {
        let mut found = Raw(None);
        walk(document, &self.alone, &mut found).map_err(Error::Document)?;
        found.0.map(value).transpose()
    }
}

/// What that is in JSON's own text, which is known to be right.
fn value(raw: &str) -> Result<Value<'_>, Error> {
    #[derive(serde::Deserialize)]
    #[serde(transparent)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    Ok(match raw.as_bytes().first() {
        Some(b'"') => Value::Text(serde_json::from_str::<Text<'_>>(raw).map_err(Error::Text)?.0),
        Some(b't' | b'f') => Value::Bool(raw == "true"),
        Some(b'n') => Value::Null,
        Some(b'{' | b'[') => Value::Compound,
        _ => Value::Number(raw),
    })
}

/// The text of the value that was read last.
struct Raw<'a>(Option<&'a str>);

impl<'de> Reader<'de> for Raw<'de> {
    fn read<D: Deserializer<'de>>(&mut self, _number: usize, value: D) -> Result<(), D::Error> {
        self.0 = Some(<&RawValue>::deserialize(value)?.get());
        Ok(())
    }

    fn forget(&mut self, _number: usize) {
        self.0 = None;
    }
}

impl PartialEq for Pointer {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Document(error) => write!(f, "it is not JSON: {error}"),
            Self::Text(error) => write!(f, "the text there is no Unicode: {error}"),
        }
    }
}

impl std::error::Error for Error {}
