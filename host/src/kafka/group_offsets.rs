//! What a group has committed, asked without being a member of it.

use std::ffi::CString;
use std::time::{Duration, Instant};

use super::raw::{Client, Code, Kind, List, describe, fault};
use super::topics::partitions_by;
use crate::config::plan::Properties;
use crate::record::Topics;
use crate::stream::fault::Fault;
use crate::stream::transaction::{Deployed, deployed_in};

/// Time for the coordinator's answer.
const REQUEST: Duration = Duration::from_secs(5);

/// The deployments of the newest number that the group's committed offsets name, on any partition of these topics: where two
/// daemons gave one number to different releases there are several. A transaction that is open is not waited for: what it will
/// name is seen when its partition is assigned.
///
/// # Errors
/// When no broker answers in time, or refuses us.
pub fn newest(consumer: &Properties, topics: &Topics) -> Result<Vec<Deployed>, Fault> {
    let mut properties = consumer.clone();
    properties.0.insert("isolation.level".into(), "read_uncommitted".into());
    let client = Client::new(Kind::Consumer, &properties, 0)?;
    let names: Vec<&str> = topics.names().iter().map(String::as_str).collect();
    let mut list = List::default();
    for (topic, partitions) in partitions_by(&client, &names)? {
        let name = CString::new(topic).unwrap_or_default();
        (0..partitions.unwrap_or(0)).for_each(|partition| list.add(&name, partition, -1, ""));
    }
    let unread = |code| fault(code, format!("cannot read the committed offsets: {}", describe(code)));
    client.committed(&list, Instant::now() + REQUEST).map_err(unread)?;
    let mut found = Vec::new();
    for element in list.elements() {
        if element.error != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(unread(element.error));
        }
        found.extend(deployed_in(&element.metadata));
    }
    Ok(newest_of(found))
}

/// Those of the highest number, each once.
fn newest_of(found: Vec<Deployed>) -> Vec<Deployed> {
    let newest = found.iter().map(|deployed| deployed.revision).max();
    let mut kept: Vec<Deployed> = Vec::new();
    for deployed in found.into_iter().filter(|deployed| Some(deployed.revision) == newest) {
        if !kept.contains(&deployed) {
            kept.push(deployed);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Revision;
    use sandpiper_sandbox::Digest;

    #[test]
    fn what_the_newest_number_stands_for_is_kept_whatever_comes_first() {
        let deployed = |number, runs: &str| Deployed {
            revision: Revision::new(number).unwrap(),
            releases: Some(Digest::of(runs.as_bytes())),
        };
        let (older, ours, theirs) = (deployed(1, "ours"), deployed(2, "ours"), deployed(2, "theirs"));
        assert_eq!(newest_of(vec![older, ours, theirs, ours]), [ours, theirs]);
        assert_eq!(newest_of(vec![theirs, older]), [theirs]);
        assert_eq!(newest_of(Vec::new()), []);
    }
}
