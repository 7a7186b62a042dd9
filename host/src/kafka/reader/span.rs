//! Where a topic's partitions are read from and to, asked of the brokers when the topic is opened.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::super::raw::{Client, Code, Isolation, Listed, OffsetSpec, describe, is_configuration};
use super::super::topics;
use super::position::Positions;
use super::{Bound, Partitions, ReadFrom};
use crate::stream::fault::Fault;

/// Where each partition is read from and to the end that the topic has now.
pub(super) fn positions(
    client: &Client,
    topic: &str,
    name: &CStr,
    partitions: &Partitions,
    from: &ReadFrom,
    deadline: Instant,
) -> Result<Positions, Fault> {
    let wanted = match partitions {
        Partitions::All => None,
        Partitions::Of(partitions) => Some(partitions.clone()),
    };
    let question = Question::new(client, topic, name, wanted, deadline)?;
    // In this order no start lies behind its end, whatever is written meanwhile.
    let starts = match from {
        ReadFrom::Now => question.offsets(OffsetSpec::Latest, Isolation::ReadCommitted)?,
        ReadFrom::Beginning | ReadFrom::Offsets(_) | ReadFrom::Last(_) | ReadFrom::Since(_) => {
            question.offsets(OffsetSpec::Earliest, Isolation::ReadUncommitted)?
        }
    };
    let since = match from {
        ReadFrom::Since(time) => question.offsets(OffsetSpec::At(*time), Isolation::ReadUncommitted)?,
        _ => BTreeMap::new(),
    };
    let ends = question.offsets(OffsetSpec::Latest, Isolation::ReadUncommitted)?;
    let mut positions = Positions::default();
    for partition in &question.partitions {
        let (start, end) = (question.known(&starts, *partition)?, question.known(&ends, *partition)?);
        let start = match from {
            ReadFrom::Offsets(offsets) => start.max(offsets.get(partition).copied().unwrap_or(start)),
            ReadFrom::Last(offsets) => start.max(end.saturating_sub(*offsets)),
            // Without a record of that time or later there is nothing to read.
            ReadFrom::Since(_) => since.get(partition).copied().unwrap_or(end).clamp(start, end),
            ReadFrom::Beginning | ReadFrom::Now => start,
        };
        question.is_before_the_end(*partition, start, end)?;
        positions.add(*partition, start, end);
    }
    Ok(positions)
}

/// Where each partition of a range begins and ends. What the topic does not hold any more is refused: whoever asks for a range
/// is not told about less.
pub(super) fn range(
    client: &Client,
    topic: &str,
    name: &CStr,
    from: &Bound,
    to: &Bound,
    deadline: Instant,
) -> Result<Positions, Fault> {
    let wanted = match from {
        Bound::Offsets(offsets) => Some(offsets.keys().copied().collect()),
        Bound::Outermost | Bound::Time(_) => None,
    };
    let question = Question::new(client, topic, name, wanted, deadline)?;
    // The first record of all: its time, and whether retention has removed anything before it.
    let oldest = question.listed(OffsetSpec::At(0), Isolation::ReadUncommitted)?;
    let low = question.offsets(OffsetSpec::Earliest, Isolation::ReadUncommitted)?;
    let high = question.offsets(OffsetSpec::Latest, Isolation::ReadUncommitted)?;
    let at = |bound: &Bound| match bound {
        Bound::Time(time) => question.listed(OffsetSpec::At(*time), Isolation::ReadUncommitted),
        Bound::Outermost | Bound::Offsets(_) => Ok(BTreeMap::new()),
    };
    let (starts, ends) = (at(from)?, at(to)?);
    let (mut positions, mut removed, mut holds) = (Positions::default(), Vec::new(), Vec::new());
    for partition in &question.partitions {
        let (low, high) = (question.known(&low, *partition)?, question.known(&high, *partition)?);
        let first_time = oldest.get(partition).and_then(|first| first.timestamp);
        let since = first_time.map_or_else(String::new, |time| format!(", the first of {}", shown(time)));
        let here = format!("partition {partition} holds offsets {low} to {high}{since}");
        let start = match from {
            Bound::Outermost => low,
            // What was written since the end was asked for is none of the range.
            Bound::Time(_) => starts.get(partition).and_then(|listed| listed.offset).unwrap_or(high).min(high),
            Bound::Offsets(offsets) => offsets.get(partition).copied().unwrap_or(low),
        };
        let end = match to {
            Bound::Outermost => high,
            Bound::Time(_) => ends.get(partition).and_then(|listed| listed.offset).unwrap_or(high).min(high),
            Bound::Offsets(offsets) => offsets.get(partition).copied().unwrap_or(high),
        };
        let begins_before = match from {
            Bound::Outermost => false,
            Bound::Offsets(_) => start < low,
            // What was removed was there at that time, unless what is left begins before it.
            Bound::Time(time) => low > 0 && first_time.is_none_or(|first| first > *time),
        };
        if begins_before {
            removed.push(here);
            continue;
        }
        question.is_before_the_end(*partition, start, high)?;
        if end > high {
            return Err(Fault::Configuration(format!(
                "topic {topic}: the range ends at offset {end} of partition {partition}, and {here}"
            )));
        }
        if end < start && matches!((from, to), (Bound::Offsets(_), _) | (_, Bound::Offsets(_))) {
            return Err(Fault::Configuration(format!(
                "topic {topic}: the range ends at offset {end} of partition {partition}, before it begins at {start}"
            )));
        }
        positions.add(*partition, start, end.max(start));
        holds.push(here);
    }
    if !removed.is_empty() {
        return Err(Fault::Configuration(format!(
            "topic {topic} does not hold all of the range any more: retention has removed what stood before: {}; begin \
             there, or with \"earliest\" for all that is left",
            removed.join("; ")
        )));
    }
    if let (Bound::Offsets(ends), Bound::Offsets(_)) = (to, from)
        && let Some(partition) = ends.keys().find(|partition| !question.partitions.contains(partition))
    {
        return Err(Fault::Configuration(format!(
            "topic {topic}: the range ends in partition {partition}, and does not begin there"
        )));
    }
    if positions.progress().whole == 0 {
        return Err(Fault::Configuration(format!("topic {topic} holds no record of the range: {}", holds.join("; "))));
    }
    Ok(positions)
}

/// As RFC 3339, UTC.
fn shown(ms: i64) -> String {
    let time = u64::try_from(ms).ok().and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
    // A time beyond the year 9999 has no such form.
    match time.filter(|_| ms < 253_402_300_800_000) {
        Some(time) => humantime::format_rfc3339_millis(time).to_string(),
        None => format!("{ms} ms"),
    }
}

/// What is asked of a topic's leaders.
struct Question<'a> {
    client: &'a Client,
    topic: &'a str,
    name: &'a CStr,
    partitions: BTreeSet<i32>,
    deadline: Instant,
}

impl<'a> Question<'a> {
    fn new(
        client: &'a Client,
        topic: &'a str,
        name: &'a CStr,
        wanted: Option<BTreeSet<i32>>,
        deadline: Instant,
    ) -> Result<Self, Fault> {
        let left = deadline.saturating_duration_since(Instant::now());
        let Some(count) = topics::partitions_of(client, topic, left)?.filter(|count| *count > 0) else {
            return Err(Fault::Configuration(format!(
                "topic {topic} does not exist; `sandpiper check FILE --connect` prints the command that creates it"
            )));
        };
        let partitions = wanted.unwrap_or_else(|| (0..count).collect());
        if let Some(partition) = partitions.iter().find(|partition| !(0..count).contains(*partition)) {
            return Err(Fault::Configuration(format!(
                "topic {topic} has no partition {partition}: it has {count} partitions"
            )));
        }
        Ok(Self { client, topic, name, partitions, deadline })
    }

    /// What the leaders answer, by partition.
    fn listed(&self, spec: OffsetSpec, isolation: Isolation) -> Result<BTreeMap<i32, Listed>, Fault> {
        let unanswered = |partition: &dyn std::fmt::Display, code| {
            let message = format!("topic {}{partition}: {}", self.topic, describe(code));
            if is_configuration(code) { Fault::Configuration(message) } else { Fault::Unknown(message) }
        };
        let left = self.deadline.saturating_duration_since(Instant::now());
        let answers = self.client.list_offsets(self.name, self.partitions.iter().copied(), spec, isolation, left);
        let mut listed = BTreeMap::new();
        for answer in answers.map_err(|code| unanswered(&"", code))? {
            if answer.error != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(unanswered(&format_args!(" [{}]", answer.partition), answer.error));
            }
            listed.insert(answer.partition, answer);
        }
        Ok(listed)
    }

    fn offsets(&self, spec: OffsetSpec, isolation: Isolation) -> Result<BTreeMap<i32, i64>, Fault> {
        let listed = self.listed(spec, isolation)?;
        Ok(listed.into_iter().filter_map(|(partition, listed)| Some((partition, listed.offset?))).collect())
    }

    fn known(&self, offsets: &BTreeMap<i32, i64>, partition: i32) -> Result<i64, Fault> {
        let unanswered = || Fault::Unknown(format!("topic {} [{partition}]: no offset was answered", self.topic));
        offsets.get(&partition).copied().ok_or_else(unanswered)
    }

    fn is_before_the_end(&self, partition: i32, start: i64, end: i64) -> Result<(), Fault> {
        if start > end {
            return Err(Fault::Configuration(format!(
                "offset {start} of topic {} [{partition}] lies behind its end, which is {end}: was the topic made anew?",
                self.topic
            )));
        }
        Ok(())
    }
}
