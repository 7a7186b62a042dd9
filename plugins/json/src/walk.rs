//! One pass over a document that fills the cells on its way.

use std::fmt;

use sandpiper_sdk::{Reject, reject};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::config::Field;
use crate::pointers::{Member, Node};

/// Fills the cells of a document; what it does not hold stays as it was. The error says why it is
/// not JSON; JSON whose values do not fit the columns answers the first that does not.
pub fn fill(text: &str, root: &Node, fields: &[Field], cells: &mut [f32]) -> Result<Option<Reject>, serde_json::Error> {
    let mut row = RowCells { fields, cells, problem: None };
    let mut json = serde_json::Deserializer::from_str(text);
    ValueAt { node: root, row: &mut row }.deserialize(&mut json)?;
    json.end()?;
    Ok(row.problem)
}

/// The cells of the row that is being read.
struct RowCells<'a> {
    fields: &'a [Field],
    cells: &'a mut [f32],
    /// The first value that does not fit its column. The walk goes on after it, because JSON that is broken further on
    /// is reported instead.
    problem: Option<Reject>,
}

impl RowCells<'_> {
    fn set(&mut self, column: usize, value: f32) {
        if let Some(cell) = self.cells.get_mut(column) {
            *cell = value;
        }
    }

    fn number(&mut self, column: usize, number: f64) {
        match self.fields.get(column) {
            Some(Field { categories: None, .. }) if (number as f32).is_finite() => {
                self.set(column, number as f32);
            }
            _ => self.refuse(column, &number),
        }
    }

    fn text(&mut self, column: usize, text: &str) {
        let categories = self.fields.get(column).and_then(|field| field.categories.as_ref());
        match categories.and_then(|all| all.iter().position(|category| category == text)) {
            Some(code) => self.set(column, code as f32),
            None => self.refuse(column, &format_args!("{text:?}")),
        }
    }

    #[cold]
    fn refuse(&mut self, column: usize, found: &dyn fmt::Display) {
        let Some(field) = self.fields.get(column) else {
            return;
        };
        let (name, pointer) = (&field.name, &field.pointer);
        self.problem.get_or_insert_with(|| match &field.categories {
            None => reject(
                "not-a-number",
                format!("column `{name}` finds {found} at {pointer:?}, which is not a finite number"),
            ),
            Some(categories) => reject(
                "unknown-category",
                format!("column `{name}` finds {found} at {pointer:?}, which is none of {categories:?}"),
            ),
        });
    }
}

/// A value of the document, and what is wanted of it.
struct ValueAt<'a, 'b> {
    node: &'a Node,
    row: &'a mut RowCells<'b>,
}

impl<'a> ValueAt<'a, '_> {
    /// The wanted members of an object or array; where a column's value was expected instead, it is refused.
    #[inline]
    fn members(&mut self, found: &'static str) -> &'a [Member] {
        match self.node {
            Node::Members(members) => members,
            Node::Column(column) => {
                self.row.refuse(*column, &found);
                &[]
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for ValueAt<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueAt<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        if let Node::Column(column) = self.node {
            self.row.number(*column, number);
        }
        Ok(())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.visit_f64(number as f64)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.visit_f64(number as f64)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if let Node::Column(column) = self.node {
            self.row.text(*column, text);
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        if let Node::Column(column) = self.node {
            self.row.refuse(*column, &value);
        }
        Ok(())
    }

    /// A null is a missing value. It takes back an earlier value of the same key: the last one counts.
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        if let Node::Column(column) = self.node {
            self.row.set(*column, f32::NAN);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut key = WantedKey { members: self.members("an object"), expected: 0 };
        while let Some(member) = map.next_key_seed(&mut key)? {
            match member {
                Some(Member { node, .. }) => map.next_value_seed(ValueAt { node, row: self.row })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let members = self.members("an array");
        for index in 0.. {
            let wanted = members.iter().find(|member| member.index == Some(index));
            let element = match wanted {
                Some(Member { node, .. }) => seq.next_element_seed(ValueAt { node, row: self.row })?,
                None => seq.next_element::<IgnoredAny>()?.map(|_| ()),
            };
            if element.is_none() {
                break;
            }
        }
        Ok(())
    }
}

/// Reads a key as the wanted member that it names, if any.
struct WantedKey<'a> {
    members: &'a [Member],
    /// The member that is tried first: the one behind the last that was found, since most documents
    /// have their keys in the same order, and most configurations have it too.
    expected: usize,
}

impl<'a, 'de> DeserializeSeed<'de> for &mut WantedKey<'a> {
    type Value = Option<&'a Member>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for &mut WantedKey<'a> {
    type Value = Option<&'a Member>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        let is_key = |member: &&Member| equal(member.key.as_bytes(), key.as_bytes());
        if let Some(member) = self.members.get(self.expected).filter(is_key) {
            self.expected += 1;
            return Ok(Some(member));
        }
        let found = self.members.iter().position(|member| is_key(&member));
        self.expected = found.map_or(self.expected, |found| found + 1);
        Ok(found.and_then(|found| self.members.get(found)))
    }
}

/// Whether two keys are equal. In wasm the comparison of slices goes byte by byte and took a seventh
/// of a document's time, so there it goes eight bytes at a time.
#[inline]
fn equal(a: &[u8], b: &[u8]) -> bool {
    if cfg!(not(target_arch = "wasm32")) {
        return a == b;
    }
    let (a_eights, a_rest) = a.as_chunks::<8>();
    let (b_eights, b_rest) = b.as_chunks::<8>();
    let eights = || {
        let mut pairs = a_eights.iter().zip(b_eights);
        pairs.all(|(a, b)| u64::from_le_bytes(*a) == u64::from_le_bytes(*b))
    };
    let rest = || a_rest.iter().zip(b_rest).all(|(a, b)| a == b);
    a.len() == b.len() && eights() && rest()
}
