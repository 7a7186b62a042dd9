//! The file that is being read, a pipeline's or a daemon's: its text, its environment, and every mistake found so far.
//!
//! Mistakes are collected behind a `RefCell`, so that readers of different sections share one `&File`.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::mistake::Mistake;
use super::secret::Sources;

pub(super) struct File<'a> {
    pub path: &'a Path,
    pub text: &'a str,
    /// Names of the built-in plugins.
    pub stock: &'a [&'a str],
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Lines with a syntax error. The parser guesses what stands there, so no other mistake is reported of them.
    broken_lines: RefCell<BTreeSet<usize>>,
    mistakes: RefCell<Vec<Mistake>>,
}

impl<'a> File<'a> {
    pub fn new(path: &'a Path, text: &'a str, stock: &'a [&'a str], env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { path, text, stock, env, broken_lines: RefCell::default(), mistakes: RefCell::default() }
    }

    /// Notes the TOML parser's errors, one for each line: later ones on a line follow from the first.
    pub fn syntax_errors(&self, mut errors: Vec<toml::de::Error>) {
        errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            let (line, _) = self.position(at);
            if self.broken_lines.borrow_mut().insert(line) {
                self.push(at, String::new(), format!("not valid TOML: {}", error.message()));
            }
        }
    }

    /// Notes a mistake about something that stands in the file.
    pub fn mistake(&self, at: &Range<usize>, key: impl Into<String>, message: impl Into<String>) {
        let (first, _) = self.position(at.start);
        let (last, _) = self.position(at.end.saturating_sub(1).max(at.start));
        if self.broken_lines.borrow().range(first..=last).next().is_none() {
            self.push(at.start, key.into(), message.into());
        }
    }

    /// Notes that something is absent, unless the file has a syntax error: then it may stand on a broken line.
    pub fn absent(&self, at: &Range<usize>, key: impl Into<String>, message: impl Into<String>) {
        if self.broken_lines.borrow().is_empty() {
            self.mistake(at, key, message);
        }
    }

    /// The mistakes in the file's order.
    pub fn into_mistakes(self) -> Vec<Mistake> {
        let mut mistakes = self.mistakes.into_inner();
        mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        mistakes
    }

    /// The text at that place as the file has it, quotes included; cut when long.
    pub fn shown(&self, at: &Range<usize>) -> String {
        const MAX_SHOWN: usize = 80;
        let written = self.text.get(at.clone()).unwrap_or_default();
        let mut shown: String = written.chars().take(MAX_SHOWN).flat_map(one_line).collect();
        if written.chars().nth(MAX_SHOWN).is_some() {
            shown.push('…');
        }
        shown
    }

    pub fn line(&self, at: &Range<usize>) -> usize {
        self.position(at.start).0
    }

    /// Line and column, from 1.
    pub fn place(&self, at: &Range<usize>) -> (usize, usize) {
        self.position(at.start)
    }

    pub fn sources(&self) -> Sources<'_> {
        Sources { folder: self.path.parent().unwrap_or(Path::new("")), env: self.env }
    }

    /// A path in the file is relative to the file's folder.
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }

    /// The path of a file that exists.
    pub fn existing(&self, path: &str) -> Result<PathBuf, String> {
        let resolved = self.resolve(path);
        let folder = self.resolve("");
        let folder = if folder.as_os_str().is_empty() { ".".to_owned() } else { folder.display().to_string() };
        let explained = |what: String| format!("{what} (a relative path starts at this file's folder, {folder})");
        match std::fs::metadata(&resolved) {
            Ok(found) if found.is_file() => Ok(resolved),
            Ok(_) => Err(explained("is no file".to_owned())),
            Err(error) => Err(explained(format!("cannot be found: {error}"))),
        }
    }

    fn push(&self, at: usize, key: String, message: String) {
        let (line, column) = self.position(at);
        self.mistakes.borrow_mut().push(Mistake { file: self.path.to_path_buf(), line, column, key, message });
    }

    /// Line and column, from 1, of a byte offset.
    fn position(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(start..).unwrap_or_default().chars().filter(|c| *c != '\u{feff}').count() + 1;
        (line, column)
    }
}

fn one_line(c: char) -> impl Iterator<Item = char> {
    let escaped = c.is_control().then(|| c.escape_default());
    let plain = (!c.is_control()).then_some(c);
    escaped.into_iter().flatten().chain(plain)
}
