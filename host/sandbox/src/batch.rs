//! Records as they came: bytes kept exactly, null told apart from empty, laid out flat by the batch.

use std::sync::Arc;

pub use crate::wit::latest::RawBatch;

/// A record's headers, in order; names may repeat and a value may be null.
pub type Headers = Vec<(String, Option<Vec<u8>>)>;

/// What a header takes besides its bytes: its place in the list, and two allocations.
const HEADER: usize = 112;

/// Bytes that headers take in memory.
pub fn size_of_headers(headers: &Headers) -> usize {
    headers.iter().map(|(name, value)| HEADER + name.len() + value.as_ref().map_or(0, Vec::len)).sum()
}

/// One of a loop's input topics, by its place in `Topics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicIndex(u16);

impl TopicIndex {
    pub const FIRST: Self = Self(0);

    /// Counted from 0.
    pub const fn nth(at: u16) -> Self {
        Self(at)
    }

    /// For lists that stand beside `Topics` in the same order.
    pub fn get(self) -> usize {
        usize::from(self.0)
    }
}

/// The names of a loop's input topics: the one place where a name becomes an index and an index a name. Clones share the names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topics(Arc<[String]>);

impl Topics {
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }

    /// Those names, and the index of each.
    pub fn of<const N: usize>(names: [&str; N]) -> (Self, [TopicIndex; N]) {
        (Self::new(names), std::array::from_fn(|at| TopicIndex(at as u16)))
    }

    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// Empty for an index of another list.
    pub fn name(&self, topic: TopicIndex) -> &str {
        self.0.get(topic.get()).map_or("", String::as_str)
    }

    pub fn index(&self, name: &str) -> Option<TopicIndex> {
        self.0.iter().position(|known| known == name).map(|at| TopicIndex(at as u16))
    }

    /// The index of a name, which joins the list where it is new.
    pub fn add(&mut self, name: &str) -> TopicIndex {
        self.index(name).unwrap_or_else(|| {
            let index = TopicIndex(self.0.len() as u16);
            self.0 = self.0.iter().cloned().chain([name.to_owned()]).collect();
            index
        })
    }
}

/// Where a record was consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    pub topic: TopicIndex,
    pub partition: i32,
    pub offset: i64,
}

/// Everything about a record but its value.
#[derive(Clone, Debug)]
pub struct Row {
    pub origin: Origin,
    /// Milliseconds since the Unix epoch, where the record carries one.
    pub timestamp: Option<i64>,
    /// A span of the rows' key buffer; `None` is a null key.
    key: Option<(u32, u32)>,
    /// The value is null rather than empty.
    pub null: bool,
    /// `None` where the record has no header: most have none, and then nothing is allocated.
    pub headers: Option<Box<Headers>>,
    /// Its headers are above a bound: they were not copied, and the record reaches no stage.
    pub excess: Option<Excess>,
}

/// Headers that a record came with, and that are more than may be kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Excess {
    /// By their number and the bytes of their names and values.
    Headers { count: usize, bytes: usize },
    /// librdkafka did not read them: there are more than 100,000, or they are malformed.
    Unread,
}

/// The rows of a batch; shared with the plugin's store while a call runs, for its record-context.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The loop's input topics.
    pub topics: Topics,
    rows: Vec<Row>,
    keys: Vec<u8>,
    /// Bytes of all headers, and what each takes besides.
    header_bytes: usize,
    any_excess: bool,
}

impl Rows {
    /// Bytes of all keys.
    pub fn key_bytes(&self) -> usize {
        self.keys.len()
    }

    /// Whether the headers of any row are above a bound.
    pub fn any_excess(&self) -> bool {
        self.any_excess
    }

    pub fn get(&self, row: usize) -> Option<&Row> {
        self.rows.get(row)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter()
    }

    /// The key's bytes; `None` is a null key.
    pub fn key(&self, row: &Row) -> Option<&[u8]> {
        let (start, end) = row.key?;
        self.keys.get(start as usize..end as usize)
    }

    pub fn topic(&self, origin: Origin) -> &str {
        self.topics.name(origin.topic)
    }
}

/// Up to 1,024 records, laid out flat: the unit of one plugin call.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The values, as a plugin receives them; a null value is an empty row.
    pub raw: RawBatch,
    pub rows: Arc<Rows>,
}

impl Batch {
    pub fn len(&self) -> usize {
        self.rows.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.rows.is_empty()
    }

    /// The value's bytes; `None` is a null value.
    pub fn value(&self, row: usize) -> Option<&[u8]> {
        if self.rows.get(row)?.null { None } else { self.bytes(row) }
    }

    /// The value's bytes, null as empty.
    pub fn bytes(&self, row: usize) -> Option<&[u8]> {
        let start = *self.raw.offsets.get(row)? as usize;
        let end = *self.raw.offsets.get(row + 1)? as usize;
        self.raw.payload.get(start..end)
    }

    /// The rows at those indices, as a batch of their own.
    pub fn select(&self, rows: impl IntoIterator<Item = usize>) -> Batch {
        let mut builder = BatchBuilder::new(self.rows.topics.clone());
        for index in rows {
            if let Some(row) = self.rows.get(index) {
                builder.push(row.origin, row.timestamp, self.rows.key(row), self.value(index), row.headers.clone());
                if let Some(excess) = row.excess {
                    builder.exceeds(excess);
                }
            }
        }
        builder.finish()
    }
}

/// Lays records out flat.
pub struct BatchBuilder {
    raw: RawBatch,
    rows: Rows,
}

impl BatchBuilder {
    pub fn new(topics: Topics) -> Self {
        Self {
            raw: RawBatch { payload: Vec::new(), offsets: vec![0] },
            rows: Rows { topics, rows: Vec::new(), keys: Vec::new(), header_bytes: 0, any_excess: false },
        }
    }

    pub fn with_capacity(topics: Topics, records: usize, bytes: usize) -> Self {
        let mut offsets = Vec::with_capacity(records + 1);
        offsets.push(0);
        Self {
            raw: RawBatch { payload: Vec::with_capacity(bytes), offsets },
            rows: Rows {
                topics,
                rows: Vec::with_capacity(records),
                keys: Vec::with_capacity(records * 16),
                header_bytes: 0,
                any_excess: false,
            },
        }
    }

    pub fn push(
        &mut self,
        origin: Origin,
        timestamp: Option<i64>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Option<Box<Headers>>,
    ) {
        let key = key.map(|key| {
            let start = self.rows.keys.len() as u32;
            self.rows.keys.extend_from_slice(key);
            (start, self.rows.keys.len() as u32)
        });
        self.raw.payload.extend_from_slice(value.unwrap_or_default());
        self.raw.offsets.push(self.raw.payload.len() as u32);
        self.rows.header_bytes += headers.as_deref().map_or(0, size_of_headers);
        self.rows.rows.push(Row { origin, timestamp, key, null: value.is_none(), headers, excess: None });
    }

    /// The headers of the row that was pushed last are above a bound.
    pub fn exceeds(&mut self, excess: Excess) {
        if let Some(row) = self.rows.rows.last_mut() {
            row.excess = Some(excess);
            self.rows.any_excess = true;
        }
    }

    pub fn len(&self) -> usize {
        self.rows.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.rows.is_empty()
    }

    /// Bytes of values, keys and headers so far, and what each header takes besides.
    pub fn size(&self) -> usize {
        self.raw.payload.len() + self.rows.keys.len() + self.rows.header_bytes
    }

    pub fn finish(self) -> Batch {
        Batch { raw: self.raw, rows: Arc::new(self.rows) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_found_by_its_name_and_named_by_its_index() {
        let (mut topics, [one, two]) = Topics::of(["in", "labels"]);
        assert_eq!((one, topics.index("labels"), topics.name(two)), (TopicIndex::FIRST, Some(two), "labels"));
        let three = topics.add("more");
        assert_eq!((three, topics.add("in"), topics.names().len()), (TopicIndex::nth(2), one, 3));
        assert_eq!((topics.index("none"), topics.name(TopicIndex::nth(3))), (None, ""));
    }
}
