//! A typed reader of one TOML table that notes each mistake and goes on.
//!
//! Reading a key makes it a known one; `finish` reports every key that was not read.

use std::cell::RefCell;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::file::File;
use super::spelling;
use super::value::{Field, Setting, Value, kind};

pub(super) struct Section<'a> {
    pub file: &'a File<'a>,
    /// `[input]`; empty for the top of the file. Messages name a key as `{title} {key}`.
    title: String,
    /// What precedes a nested table's keys in messages: `score.`.
    prefix: String,
    table: Option<&'a DeTable<'a>>,
    /// Where its header stands; the file's start when it is absent.
    pub at: Range<usize>,
    known: RefCell<Vec<&'static str>>,
    refused: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    pub fn top(file: &'a File<'a>, table: &'a DeTable<'a>) -> Self {
        Self::new(file, String::new(), String::new(), Some(table), 0..0)
    }

    fn new(
        file: &'a File<'a>,
        title: String,
        prefix: String,
        table: Option<&'a DeTable<'a>>,
        at: Range<usize>,
    ) -> Self {
        Self { file, title, prefix, table, at, known: RefCell::default(), refused: RefCell::default() }
    }

    /// The section of that name, empty when the file has none; `None` when it is no table.
    pub fn section(&self, name: &'static str, example: &str) -> Option<Section<'a>> {
        let title = format!("[{}]", self.full(name));
        let Some(value) = self.get(name) else {
            return Some(Self::new(self.file, title, String::new(), None, 0..0));
        };
        let table = self.table_of(value, &title, &format!("write {title}, and below it {example}"))?;
        Some(Self::new(self.file, title, String::new(), Some(table), value.span()))
    }

    /// The sections `[[name]]`; `None` when it is something else.
    pub fn sections(&self, name: &'static str) -> Option<Vec<Section<'a>>> {
        let Some(value) = self.get(name) else {
            return Some(Vec::new());
        };
        let full = self.full(name);
        let title = format!("[[{full}]]");
        let advice = format!("write [[{full}]], once for each");
        let DeValue::Array(items) = value.get_ref() else {
            self.file.mistake(&value.span(), title, format!("found {}: {advice}", kind(value)));
            return None;
        };
        let mut sections = Vec::new();
        for (number, item) in items.iter().enumerate() {
            let title = format!("[[{full}]] {}", number + 1);
            let table = self.table_of(item, &title, &advice)?;
            sections.push(Self::new(self.file, title, String::new(), Some(table), item.span()));
        }
        Some(sections)
    }

    /// The name of a section within this one, as its header has it: `rollout.step`.
    fn full(&self, name: &str) -> String {
        let outer = self.title.strip_prefix('[').and_then(|title| title.strip_suffix(']'));
        outer.map_or_else(|| name.to_owned(), |outer| format!("{outer}.{name}"))
    }

    /// A table under a key of this section: `Some(None)` when absent, `None` when it is no table.
    pub fn table(&self, key: &'static str, example: &str) -> Option<Option<Section<'a>>> {
        let Some(value) = self.get(key) else {
            return Some(None);
        };
        let table = self.table_of(value, &self.key(key), &format!("write a table, as {example}"))?;
        let prefix = format!("{}{key}.", self.prefix);
        Some(Some(Self::new(self.file, self.title.clone(), prefix, Some(table), value.span())))
    }

    fn table_of(&self, value: &'a Value<'a>, key: &str, advice: &str) -> Option<&'a DeTable<'a>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.file.mistake(&value.span(), key, format!("found {}: {advice}", kind(value)));
        }
        table
    }

    pub fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// How messages name a key of this section.
    pub fn key(&self, key: &str) -> String {
        let space = if self.title.is_empty() { "" } else { " " };
        format!("{}{space}{}{key}", self.title, self.prefix)
    }

    pub fn get(&self, key: &'static str) -> Option<&'a Value<'a>> {
        self.known.borrow_mut().push(key);
        self.value(key)
    }

    fn value(&self, key: &str) -> Option<&'a Value<'a>> {
        self.table?.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    pub fn entries(&self) -> impl Iterator<Item = (&'a Spanned<std::borrow::Cow<'a, str>>, &'a Value<'a>)> {
        self.table.into_iter().flat_map(|table| table.iter())
    }

    /// Notes that a required key is absent, and says what to write.
    pub fn required<T>(&self, key: &'static str, found: Field<T>, advice: &str) -> Option<Setting<T>> {
        if let Field::Absent = found {
            self.file.absent(&self.at, self.key(key), format!("missing: {advice}"));
        }
        found.valid()
    }

    /// Refuses a key of this section, with the reason.
    pub fn refuse(&self, key: &'static str, reason: &str) {
        if let Some(value) = self.value(key) {
            self.file.mistake(&value.span(), self.key(key), reason);
        }
        self.refused.borrow_mut().push(key);
    }

    /// Reports every key that was not read.
    pub fn finish(&self) {
        let refused = self.refused.borrow();
        let mut allowed = self.known.borrow().clone();
        allowed.retain(|key| !refused.contains(key));
        allowed.sort_unstable();
        allowed.dedup();
        for (name, _) in self.entries() {
            let name_text = name.get_ref().as_ref();
            if allowed.contains(&name_text) || refused.contains(&name_text) {
                continue;
            }
            let hint = spelling::hint(name_text, &allowed);
            let message = format!("unknown key{hint} Allowed here: {}", allowed.join(", "));
            self.file.mistake(&name.span(), self.key(name_text), message);
        }
    }
}
