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

/// The newest deployment that the group's committed offsets name, on any partition of these topics. A transaction that is
/// open is not waited for: what it will name is seen when its partition is assigned.
///
/// # Errors
/// When no broker answers in time, or refuses us.
pub fn newest(consumer: &Properties, topics: &Topics) -> Result<Option<Deployed>, Fault> {
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
    let mut newest: Option<Deployed> = None;
    for element in list.elements() {
        if element.error != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(unread(element.error));
        }
        let found = deployed_in(&element.metadata);
        if found.map(|found| found.revision) > newest.map(|newest| newest.revision) {
            newest = found;
        }
    }
    Ok(newest)
}
