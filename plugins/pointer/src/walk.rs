//! One pass over a document that hands each wanted value to a reader on its way.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::tree::{Member, Node, Pointers};

/// Reads the values that pointers lead to.
pub trait Reader<'de> {
    /// Reads the value of that pointer, in the place of one that was read before: equal keys.
    ///
    /// # Errors
    /// The deserializer's, which end the walk.
    fn read<D: Deserializer<'de>>(&mut self, number: usize, value: D) -> Result<(), D::Error>;
    /// What was read of that pointer stood in something that does not count: equal keys.
    fn forget(&mut self, number: usize);
}

/// Has every value read that a pointer leads to.
///
/// # Errors
/// Why the document is no JSON, or what the reader met.
pub fn walk<'de>(
    document: &'de str,
    pointers: &Pointers,
    reader: &mut impl Reader<'de>,
) -> Result<(), serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(document);
    match &pointers.root {
        Node::Wanted(number) => reader.read(*number, &mut json)?,
        Node::Members(members) => match document.trim_ascii_start().as_bytes().first() {
            Some(b'{' | b'[') => json_members(members, reader, &mut json)?,
            _ => drop(IgnoredAny::deserialize(&mut json)?),
        },
    }
    json.end()
}

/// The wanted members of what is an object or an array.
fn json_members<'de, D: Deserializer<'de>>(
    members: &[Member],
    reader: &mut impl Reader<'de>,
    value: D,
) -> Result<(), D::Error> {
    value.deserialize_any(Members { members, reader })
}

struct Members<'a, R> {
    members: &'a [Member],
    reader: &'a mut R,
}

impl<'de, R: Reader<'de>> Visitor<'de> for Members<'_, R> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut key = WantedKey { members: self.members, expected: 0 };
        while let Some(member) = map.next_key_seed(&mut key)? {
            match member {
                Some(Member { node, .. }) => map.next_value_seed(ValueOf { node, reader: self.reader })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        for index in 0.. {
            let wanted = self.members.iter().find(|member| member.index == Some(index));
            let element = match wanted {
                Some(Member { node, .. }) => seq.next_element_seed(ValueOf { node, reader: self.reader })?,
                None => seq.next_element::<IgnoredAny>()?.map(drop),
            };
            if element.is_none() {
                break;
            }
        }
        Ok(())
    }
}

/// A value of the document, and what is wanted of it.
struct ValueOf<'a, R> {
    node: &'a Node,
    reader: &'a mut R,
}

impl<'de, R: Reader<'de>> DeserializeSeed<'de> for ValueOf<'_, R> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        match self.node {
            Node::Wanted(number) => self.reader.read(*number, value),
            Node::Members(members) => {
                // What is neither an object nor an array is not looked into; which it is, only its text tells beforehand.
                let raw = <&RawValue>::deserialize(value)?.get();
                forget(members, self.reader);
                if !raw.starts_with(['{', '[']) {
                    return Ok(());
                }
                let mut json = serde_json::Deserializer::from_str(raw);
                json_members(members, self.reader, &mut json).map_err(D::Error::custom)
            }
        }
    }
}

fn forget<'de>(members: &[Member], reader: &mut impl Reader<'de>) {
    for Member { node, .. } in members {
        match node {
            Node::Wanted(number) => reader.forget(*number),
            Node::Members(members) => forget(members, reader),
        }
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

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<Self::Value, D::Error> {
        // As bytes: the key of another field may hold a lone surrogate.
        key.deserialize_bytes(self)
    }
}

impl<'a> Visitor<'_> for &mut WantedKey<'a> {
    type Value = Option<&'a Member>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_bytes<E: Error>(self, key: &[u8]) -> Result<Self::Value, E> {
        let is_key = |member: &&Member| equal(member.key.as_bytes(), key);
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
