//! What goes wrong out there: a cell is forgotten, a word stands for a number, a byte is broken, a value is null.

use super::flowers::Flower;

/// One record of so many is malformed.
const ONE_IN: u64 = 500;
/// How many kinds there are.
const KINDS: u64 = 4;

#[derive(Debug, PartialEq)]
pub enum Malformed {
    Line(Vec<u8>),
    Null,
}

impl Malformed {
    /// What becomes of the flower of that number, of so many; `None` for most.
    pub fn of(number: u64, records: u64, flower: &Flower) -> Option<Self> {
        let every = every(records);
        if number % every != every / 2 {
            return None;
        }
        let cells: Vec<&[u8]> = flower.line.split(',').map(str::as_bytes).collect();
        let (front, _) = cells.split_at(cells.len().saturating_sub(1));
        let with = |last: &[u8]| Self::Line([front.join(&b','), last.to_vec()].join(&b','));
        Some(match number / every % KINDS {
            0 => Self::Line(front.join(&b',')),
            1 => with(b"narrow"),
            2 => with(b"0.\xff"),
            _ => Self::Null,
        })
    }

    /// How many of so many there are.
    pub fn count(records: u64) -> u64 {
        let every = every(records);
        (records + every - 1 - every / 2) / every
    }
}

/// Few are malformed, but each kind once.
fn every(records: u64) -> u64 {
    ONE_IN.min(records / KINDS).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::flowers::Flowers;

    #[test]
    fn the_malformed_are_known_before_they_are_sent() {
        let flower = &Flowers::split().to_stream[0];
        for records in [100, 101, 499, 500, 6_000, 25_000] {
            let malformed: Vec<Malformed> =
                (0..records).filter_map(|number| Malformed::of(number, records, flower)).collect();
            assert_eq!(malformed.len() as u64, Malformed::count(records), "of {records}");
            assert!(malformed.len() as u64 >= KINDS && malformed.contains(&Malformed::Null), "of {records}");
        }
    }
}
