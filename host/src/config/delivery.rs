//! `[delivery]`: what a transaction promises, and how long and large it may be.

use std::time::Duration;

use crate::config::plan::{Delivery, Guarantee};

use super::section::Section;
use super::unit::{GIB, KIB, MIB};
use super::value::Setting;

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// `[delivery]` as read. Other sections' limits depend on it.
pub(super) struct DeliverySettings {
    pub guarantee: Option<Setting<Guarantee>>,
    pub max_bytes: Option<Setting<usize>>,
    pub budget: Option<Setting<Duration>>,
    pub transaction_timeout: Option<Setting<Duration>>,
    pub max_poll_interval: Option<Setting<Duration>>,
    commit_interval: Option<Setting<Duration>>,
    max_records: Option<Setting<usize>>,
}

impl DeliverySettings {
    pub fn plan(self) -> Option<Delivery> {
        Some(Delivery {
            guarantee: self.guarantee?.value,
            commit_interval: self.commit_interval?.value,
            max_records: self.max_records?.value,
            max_bytes: self.max_bytes?.value,
            budget: self.budget?.value,
            transaction_timeout: self.transaction_timeout?.value,
            max_poll_interval: self.max_poll_interval?.value,
        })
    }
}

pub(super) fn read(section: &Section<'_>) -> DeliverySettings {
    let guarantees = [("exactly-once", Guarantee::ExactlyOnce), ("at-least-once", Guarantee::AtLeastOnce)];
    let read = DeliverySettings {
        guarantee: section.choice("guarantee", &guarantees).or(Guarantee::ExactlyOnce, "exactly-once"),
        commit_interval: section.duration("commit_interval", 100 * MILLI, MILLI..=DAY),
        max_records: section.count("max_records", 50_000, 1..=10_000_000),
        max_bytes: section.size("max_bytes", 16 * MIB, KIB..=GIB),
        budget: section.duration("budget", 3 * SECOND, MILLI..=DAY),
        // librdkafka takes no shorter timeout.
        transaction_timeout: section.duration("transaction_timeout", 10 * SECOND, SECOND..=DAY),
        // A session is at most this long, and by default brokers take none under 6 s; librdkafka's maximum is a day.
        max_poll_interval: section.duration("max_poll_interval", 30 * SECOND, 6 * SECOND..=DAY),
    };
    section.finish();
    let times = [
        ("commit_interval", &read.commit_interval, "or the transaction is late before it is due"),
        ("budget", &read.budget, "or the broker aborts a transaction that we still work on"),
        (
            "transaction_timeout",
            &read.transaction_timeout,
            "or a worker loses its partitions before its transaction ends",
        ),
        ("max_poll_interval", &read.max_poll_interval, ""),
    ];
    for ((shorter, short, reason), (longer, long, _)) in times.iter().zip(times.iter().skip(1)) {
        let (Some(short), Some(long)) = (short, long) else {
            continue;
        };
        let (key, at) = match (&short.at, &long.at) {
            (Some(at), _) => (shorter, at),
            (None, Some(at)) => (longer, at),
            (None, None) => continue,
        };
        if short.value >= long.value {
            let message = format!(
                "{shorter} is {} and must be less than {longer}, which is {}, {reason}",
                short.shown, long.shown
            );
            section.file.mistake(at, section.key(key), message);
        }
    }
    read
}
