//! One mistake in a pipeline's or a daemon's file, reported so that it can be corrected without the documentation.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

/// What is wrong, and where. `Display` is one line: `pipelines/iris.toml:12:8: [input] id: …`.
///
/// A message quotes the file as written, so what a `${…}` stands for is never in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    #[serde(serialize_with = "display")]
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Section and key, as `[input] id`; empty when the mistake is the file's and no key's.
    pub key: String,
    /// What was found and what is allowed.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Mistake {}

/// serde refuses a path that is not UTF-8, and a mistake must be reported whatever its file is called.
fn display<S: Serializer>(file: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&file.display())
}
