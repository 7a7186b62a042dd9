//! Malformed records, so that there are dead letters to see: a cell missing, a word for a number, a broken byte, a null value.

use super::flowers::Flower;

/// One record in this many is malformed.
const ONE_IN: u64 = 500;
/// How many kinds there are.
const KINDS: u64 = 4;

#[derive(Debug, PartialEq)]
pub enum Malformed {
    Line(Vec<u8>),
    Null,
}

impl Malformed {
    /// What is sent in place of record `number` of `records`; `None` for most of them.
    pub fn of(number: u64, records: u64, flower: &Flower) -> Option<Self> {
        let interval = interval(records);
        if number % interval != interval / 2 {
            return None;
        }
        let cells: Vec<&[u8]> = flower.line.split(',').map(str::as_bytes).collect();
        let (front, _) = cells.split_at(cells.len().saturating_sub(1));
        let with = |last: &[u8]| Self::Line([front.join(&b','), last.to_vec()].join(&b','));
        Some(match number / interval % KINDS {
            0 => Self::Line(front.join(&b',')),
            1 => with(b"narrow"),
            2 => with(b"0.\xff"),
            _ => Self::Null,
        })
    }

    /// How many of that many records are malformed.
    pub fn count(records: u64) -> u64 {
        let interval = interval(records);
        (records + interval - 1 - interval / 2) / interval
    }
}

/// The distance between malformed records: `ONE_IN`, or less in a short run, so that each kind occurs.
fn interval(records: u64) -> u64 {
    ONE_IN.min(records / KINDS).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::flowers::Flowers;

    #[test]
    fn the_count_of_malformed_records_is_right_before_any_is_sent() {
        let flower = &Flowers::split().streamed[0];
        for records in [100, 101, 499, 500, 6_000, 25_000] {
            let malformed: Vec<Malformed> =
                (0..records).filter_map(|number| Malformed::of(number, records, flower)).collect();
            assert_eq!(malformed.len() as u64, Malformed::count(records), "of {records}");
            assert!(malformed.len() as u64 >= KINDS && malformed.contains(&Malformed::Null), "of {records}");
        }
    }
}
