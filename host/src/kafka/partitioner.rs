//! Where producers put a key: the hashes that clients have, in librdkafka's own code.

use std::ptr;

use rdkafka::bindings as rd;

/// How a producer makes a partition's number of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partitioner {
    /// Java's clients; librdkafka's `murmur2` and `murmur2_random`.
    Murmur2,
    /// librdkafka's `consistent` and `consistent_random`, its default.
    Crc32,
    /// librdkafka's `fnv1a` and `fnv1a_random`.
    Fnv1a,
}

impl Partitioner {
    pub const ALL: [Self; 3] = [Self::Murmur2, Self::Crc32, Self::Fnv1a];

    /// The number of a key's partition among `count`, which is not 0.
    pub fn partition(self, key: &[u8], count: i32) -> i32 {
        let place = match self {
            Self::Murmur2 => rd::rd_kafka_msg_partitioner_murmur2,
            Self::Crc32 => rd::rd_kafka_msg_partitioner_consistent,
            Self::Fnv1a => rd::rd_kafka_msg_partitioner_fnv1a,
        };
        // SAFETY: the key's pointer and length belong together; these three look at nothing else but the count.
        unsafe { place(ptr::null(), key.as_ptr().cast(), key.len(), count.max(1), ptr::null_mut(), ptr::null_mut()) }
    }

    /// What it is called, and whose it is.
    pub fn name(self) -> &'static str {
        match self {
            Self::Murmur2 => "murmur2 (Java's clients)",
            Self::Crc32 => "CRC32 (librdkafka's default)",
            Self::Fnv1a => "FNV-1a (librdkafka's fnv1a)",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// murmur2: the values in Apache Kafka's own UtilsTest; CRC-32 and FNV-1a: their published check values.
    #[test]
    fn the_hashes_are_those_of_the_clients() {
        let murmur2 = |hash: i32| (hash & 0x7fff_ffff) % 1_000_003;
        for (key, hash) in [("21", -973_932_308), ("foobar", -790_332_482), ("a-little-bit-long-string", -985_981_536)]
        {
            assert_eq!(Partitioner::Murmur2.partition(key.as_bytes(), 1_000_003), murmur2(hash), "{key}");
        }
        assert_eq!(Partitioner::Crc32.partition(b"123456789", 1_000_003), (0xcbf4_3926_u32 % 1_000_003) as i32);
    }

    #[test]
    fn each_partitioner_places_some_key_as_no_other_does() {
        let places = |key: &str| Partitioner::ALL.map(|partitioner| partitioner.partition(key.as_bytes(), 6));
        let differ = (0..100).map(|at| places(&format!("key-{at}")));
        assert!(differ.into_iter().any(|[a, b, c]| a != b && b != c && a != c));
        for partitioner in Partitioner::ALL {
            assert!((0..100).all(|at| (0..6).contains(&partitioner.partition(format!("{at}").as_bytes(), 6))));
        }
    }
}
