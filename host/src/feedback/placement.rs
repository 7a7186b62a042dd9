//! Whether two topics put the same key on the same partition: by which hash each was written, as far as its keys tell.

use crate::kafka::partitioner::Partitioner;

/// Fewer keys may fit by chance.
const FEW: u64 = 20;
/// At so many all counts are halved: a producer that was mended is seen to be.
const MANY: u64 = 10_000;

/// What the keys of one topic tell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Placement {
    keys: u64,
    /// Those that stand where each partitioner puts them, in the order of `Partitioner::ALL`.
    fit: [u64; 3],
}

impl Placement {
    /// A key that stands on that partition, of that many. An empty one is placed at random by some clients.
    pub fn add(&mut self, key: &[u8], partition: i32, partitions: i32) {
        if key.is_empty() || partitions < 2 {
            return;
        }
        if self.keys >= MANY {
            self.keys /= 2;
            self.fit = self.fit.map(|fit| fit / 2);
        }
        self.keys += 1;
        for (fit, partitioner) in self.fit.iter_mut().zip(Partitioner::ALL) {
            *fit += u64::from(partitioner.partition(key, partitions) == partition);
        }
    }

    /// The one that nearly all keys were placed by; `None` where they are few, or were placed in another way.
    pub fn partitioner(&self) -> Option<Partitioner> {
        let (fit, best) = self.fit.iter().zip(Partitioner::ALL).max_by_key(|(fit, _)| **fit)?;
        (self.keys >= FEW && fit * 20 >= self.keys * 19).then_some(best)
    }

    /// `CRC32 (librdkafka's default) puts 200 of 200 keys where they stand`, or each partitioner's share.
    fn shares(&self) -> String {
        let found = self.partitioner();
        let shown = Partitioner::ALL.into_iter().zip(&self.fit);
        let shown = shown.filter(|(partitioner, _)| found.is_none_or(|found| found == *partitioner));
        let shares: Vec<String> =
            shown.map(|(partitioner, fit)| format!("{} puts {fit}", partitioner.name())).collect();
        format!("{} of {} keys where they stand", shares.join(", "), self.keys)
    }
}

/// Whether the keys of two topics were placed by two hashes.
pub fn differ(labels: &Placement, predictions: &Placement) -> bool {
    labels.partitioner().zip(predictions.partitioner()).is_some_and(|(one, other)| one != other)
}

/// How labels and predictions come to stand on different partitions, as their keys tell, and what to do.
pub fn explain(labels: (&str, &Placement), predictions: (&str, &Placement)) -> String {
    let ((labels, label_keys), (predictions, prediction_keys)) = (labels, predictions);
    let fix = match (label_keys.partitioner(), prediction_keys.partitioner()) {
        (Some(one), Some(other)) if one == other => "give a label the key of the record that it judges",
        (_, Some(Partitioner::Murmur2)) => {
            "have the labels' producer place keys as Java's clients do (librdkafka: partitioner = murmur2_random)"
        }
        (_, Some(Partitioner::Crc32)) => {
            "have the labels' producer place keys as librdkafka does (partitioner = consistent_random)"
        }
        (_, Some(Partitioner::Fnv1a)) => "have the labels' producer place keys by partitioner = fnv1a_random",
        (_, None) => "write a label to the partition number of the record that it judges",
    };
    format!(
        "labels and their predictions stand on different partitions and do not meet: in {labels} {}; in {predictions} {}; {fix}",
        label_keys.shares(),
        prediction_keys.shares()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(keys: u64, place: impl Fn(&[u8]) -> i32) -> Placement {
        let mut placement = Placement::default();
        for at in 0..keys {
            let key = format!("flower-{at}");
            placement.add(key.as_bytes(), place(key.as_bytes()), 6);
        }
        placement
    }

    fn by(partitioner: Partitioner) -> Placement {
        placed(200, |key| partitioner.partition(key, 6))
    }

    #[test]
    fn keys_tell_by_which_hash_they_were_placed() {
        for partitioner in Partitioner::ALL {
            assert_eq!(by(partitioner).partitioner(), Some(partitioner));
        }
        assert_eq!(placed(19, |key| Partitioner::Crc32.partition(key, 6)).partitioner(), None, "too few");
        assert_eq!(placed(200, |_| 3).partitioner(), None, "by none of them");
        let mut empty = Placement::default();
        (0..99).for_each(|_| empty.add(b"", 0, 6));
        (0..99).for_each(|_| empty.add(b"a", 0, 1));
        assert_eq!(empty, Placement::default(), "neither an empty key nor a single partition tells anything");
    }

    #[test]
    fn a_difference_names_both_hashes_and_the_fix() {
        let (crc32, murmur2) = (by(Partitioner::Crc32), by(Partitioner::Murmur2));
        assert!(differ(&crc32, &murmur2) && !differ(&murmur2, &murmur2));
        let said = explain(("labels", &crc32), ("predictions", &murmur2));
        for part in [
            "in labels CRC32 (librdkafka's default) puts 200 of 200 keys where they stand",
            "in predictions murmur2 (Java's clients) puts 200 of 200 keys where they stand",
            "partitioner = murmur2_random",
        ] {
            assert!(said.contains(part), "{part:?} is missing in {said}");
        }
        let by_hand = placed(200, |_| 3);
        assert!(!differ(&by_hand, &murmur2), "it may be right");
        assert!(explain(("labels", &by_hand), ("predictions", &murmur2)).contains("FNV-1a"), "every share");
    }
}
