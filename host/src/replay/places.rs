//! Places in a topic, one bit for each: a set for topics of any size.

use std::collections::HashMap;

use super::letter::Place;

/// Offsets that one entry stands for.
const BITS: i64 = 4_096;
const WORDS: usize = BITS as usize / 64;

/// A set of places. It takes half a kilobyte for each run of 4,096 offsets that holds one of them.
#[derive(Clone, Debug, Default)]
pub struct Places(HashMap<(i32, i64), Box<[u64; WORDS]>>);

impl Places {
    pub fn insert(&mut self, (partition, offset): Place) {
        let words = self.0.entry((partition, offset.div_euclid(BITS))).or_insert_with(|| Box::new([0; WORDS]));
        let (word, bit) = at(offset);
        if let Some(word) = words.get_mut(word) {
            *word |= bit;
        }
    }

    pub fn contains(&self, (partition, offset): &Place) -> bool {
        let words = self.0.get(&(*partition, offset.div_euclid(BITS)));
        let (word, bit) = at(*offset);
        words.and_then(|words| words.get(word)).is_some_and(|word| word & bit != 0)
    }
}

fn at(offset: i64) -> (usize, u64) {
    let within = offset.rem_euclid(BITS) as usize;
    (within / 64, 1 << (within % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_in_it_once_it_was_put_there_and_no_neighbour_is() {
        let mut places = Places::default();
        let put = [(0, 0), (0, 63), (0, 4_095), (0, 4_096), (3, 1_842), (3, i64::MAX)];
        put.into_iter().for_each(|place| places.insert(place));
        assert!(put.iter().all(|place| places.contains(place)));
        for other in [(0, 1), (0, 62), (0, 64), (0, 4_094), (0, 4_097), (1, 0), (3, 1_841), (3, i64::MAX - 1)] {
            assert!(!places.contains(&other), "{other:?}");
        }
    }
}
