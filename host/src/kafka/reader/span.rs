//! Where a topic's partitions are read from and to, asked of the brokers when the topic is opened.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::time::Instant;

use super::super::raw::{Client, Code, Isolation, OffsetSpec, describe, is_configuration};
use super::super::topics;
use super::position::Positions;
use super::{Partitions, ReadFrom};
use crate::stream::fault::Fault;

/// Where each partition is read from and to.
pub(super) fn positions(
    client: &Client,
    topic: &str,
    name: &CStr,
    partitions: &Partitions,
    from: &ReadFrom,
    deadline: Instant,
) -> Result<Positions, Fault> {
    let left = || deadline.saturating_duration_since(Instant::now());
    let Some(count) = topics::partitions_of(client, topic, left())?.filter(|count| *count > 0) else {
        return Err(Fault::Configuration(format!(
            "topic {topic} does not exist; `sandpiper check FILE --connect` prints the command that creates it"
        )));
    };
    let wanted = match partitions {
        Partitions::All => (0..count).collect(),
        Partitions::Of(partitions) => partitions.clone(),
    };
    if let Some(partition) = wanted.iter().find(|partition| !(0..count).contains(*partition)) {
        return Err(Fault::Configuration(format!(
            "topic {topic} has no partition {partition}: it has {count} partitions"
        )));
    }
    let ask = |spec, isolation| {
        let unanswered = |partition: &dyn std::fmt::Display, code| {
            let message = format!("topic {topic}{partition}: {}", describe(code));
            if is_configuration(code) { Fault::Configuration(message) } else { Fault::Unknown(message) }
        };
        let answers = client.list_offsets(name, wanted.iter().copied(), spec, isolation, left());
        let mut offsets: BTreeMap<i32, i64> = BTreeMap::new();
        for answer in answers.map_err(|code| unanswered(&"", code))? {
            if answer.error != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(unanswered(&format_args!(" [{}]", answer.partition), answer.error));
            }
            offsets.insert(answer.partition, answer.offset);
        }
        Ok(offsets)
    };
    // In this order no start lies behind its end, whatever is written meanwhile.
    let starts = match from {
        ReadFrom::Now => ask(OffsetSpec::Latest, Isolation::ReadCommitted)?,
        ReadFrom::Beginning | ReadFrom::Offsets(_) | ReadFrom::Last(_) => {
            ask(OffsetSpec::Earliest, Isolation::ReadUncommitted)?
        }
    };
    let ends = ask(OffsetSpec::Latest, Isolation::ReadUncommitted)?;
    let mut positions = Positions::default();
    for partition in wanted {
        let (Some(start), Some(end)) = (starts.get(&partition).copied(), ends.get(&partition).copied()) else {
            return Err(Fault::Unknown(format!("topic {topic} [{partition}]: no offset was answered")));
        };
        let start = match from {
            ReadFrom::Offsets(offsets) => start.max(offsets.get(&partition).copied().unwrap_or(start)),
            ReadFrom::Last(offsets) => start.max(end.saturating_sub(*offsets)),
            ReadFrom::Beginning | ReadFrom::Now => start,
        };
        if start > end {
            return Err(Fault::Configuration(format!(
                "offset {start} of topic {topic} [{partition}] lies behind its end, which is {end}: was the topic made anew?"
            )));
        }
        positions.add(partition, start, end);
    }
    Ok(positions)
}
