//! Which daemons are members of a group: for a message that names those that stand in each other's way.
//!
//! Kafka tells of a member its client id and its host. So a daemon's clients call themselves by its instance and its
//! process, unless the user gave them a name.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use rd::rd_kafka_resp_err_t as Code;
use rdkafka::bindings as rd;

use super::raw::{Client, Kind, describe};
use crate::config::plan::Properties;
use crate::stream::fault::Fault;

/// Time for the brokers' answers, and for another daemon to become a member: it takes an id over before it joins.
const REQUEST: Duration = Duration::from_secs(5);
/// Between two requests for a group's members.
const PAUSE: Duration = Duration::from_millis(100);

/// What the clients of this process are called. In containers every process has the same id, so something random
/// stands behind it.
pub fn client_id(instance: &str) -> String {
    format!("sandpiper.{instance}.{}", *PROCESS)
}

static PROCESS: LazyLock<String> = LazyLock::new(|| {
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("{}-{}", std::process::id(), random.get(..4).unwrap_or_default())
});

/// Says which daemon this is, and who else is in the group with the same instance id; never fails, since it stands in an
/// error already.
pub fn holders(properties: &Properties, group: &str) -> String {
    let id = properties.0.get("client.id").map(String::as_str).unwrap_or_default();
    match members_of_instance(properties, group, id) {
        Ok(named) => sentence(id, group, &named),
        Err(fault) => format!("this one is {id}; the members of group {group} cannot be read: {fault}"),
    }
}

/// The members of this one's instance, when there is another among them or no more time.
fn members_of_instance(properties: &Properties, group: &str, id: &str) -> Result<Vec<String>, Fault> {
    let client = Client::new(Kind::Producer, properties, 0)?;
    let deadline = Instant::now() + REQUEST;
    loop {
        let named = of_instance(id, &members(&client, group)?);
        if named.len() > 1 || Instant::now() >= deadline {
            return Ok(named);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Of other instances nothing need be said. Whoever is called as the user says cannot be told apart by instance.
fn of_instance(id: &str, members: &BTreeSet<Member>) -> Vec<String> {
    let instance = id.strip_suffix(&format!(".{}", *PROCESS));
    let same = |member: &&Member| instance.is_none_or(|instance| member.is_of(instance));
    members.iter().filter(same).map(|member| format!("{} at {}", member.client_id, member.host)).collect()
}

fn sentence(id: &str, group: &str, named: &[String]) -> String {
    match named {
        [] => format!("this one is {id}; group {group} has no member of that instance at the moment"),
        named => format!("this one is {id}; group {group} has {}", named.join(", ")),
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Member {
    client_id: String,
    host: String,
}

impl Member {
    /// Whether its id is that instance's, with a process behind it.
    fn is_of(&self, instance: &str) -> bool {
        self.client_id.rsplit_once('.').is_some_and(|(of, _)| of == instance)
    }
}

/// A daemon has as many members as workers: each daemon stands here once.
fn members(client: &Client, group: &str) -> Result<BTreeSet<Member>, Fault> {
    let name = CString::new(group).map_err(|_| Fault::Configuration(format!("group {group:?} holds a NUL byte")))?;
    let mut list = ptr::null();
    // SAFETY: client and name are alive; the list is freed below, when everything is copied out of it.
    let code =
        unsafe { rd::rd_kafka_list_groups(client.ptr(), name.as_ptr(), &raw mut list, REQUEST.as_millis() as c_int) };
    if list.is_null() {
        return Err(Fault::Unknown(describe(code)));
    }
    // SAFETY: the list is alive until the last line; counts and pointers belong together, and strings are terminated.
    let (members, error) = unsafe {
        let groups = slice((*list).groups, (*list).group_cnt);
        let members: BTreeSet<Member> = (groups.iter())
            .flat_map(|group| slice(group.members, group.member_cnt))
            .map(|member| Member {
                client_id: text(member.client_id),
                host: text(member.client_host).trim_start_matches('/').to_owned(),
            })
            .collect();
        let error = groups.iter().map(|group| group.err).find(|error| *error != Code::RD_KAFKA_RESP_ERR_NO_ERROR);
        rd::rd_kafka_group_list_destroy(list);
        (members, error)
    };
    match error {
        Some(error) if members.is_empty() => Err(Fault::Unknown(describe(error))),
        _ => Ok(members),
    }
}

/// # Safety
/// That many values stand at `start`, and live as long as the result is used; or there are none.
unsafe fn slice<'a, T>(start: *const T, count: c_int) -> &'a [T] {
    if start.is_null() || count <= 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(start, count as usize) }
}

/// # Safety
/// A terminated string, or null.
unsafe fn text(start: *const c_char) -> String {
    if start.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(start) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(ids: &[&str]) -> BTreeSet<Member> {
        ids.iter().map(|id| Member { client_id: (*id).to_owned(), host: "10.0.0.7".into() }).collect()
    }

    #[test]
    fn daemons_of_one_instance_are_named_and_no_others() {
        let ours = client_id("a");
        let group = group(&[&ours, "sandpiper.a.0", "sandpiper.b.1", "sandpiper.a.b.2"]);
        let text = sentence(&ours, "g", &of_instance(&ours, &group));
        assert!(text.contains(&format!("this one is {ours}; group g has")), "{text}");
        assert!(text.contains(&format!("{ours} at 10.0.0.7")) && text.contains("sandpiper.a.0 at 10.0.0.7"), "{text}");
        assert!(!text.contains("sandpiper.b.1") && !text.contains("sandpiper.a.b.2"), "{text}");
    }

    #[test]
    fn where_the_user_gave_a_client_id_all_members_are_named() {
        let text = sentence("iris", "g", &of_instance("iris", &group(&["iris", "other"])));
        assert_eq!(text, "this one is iris; group g has iris at 10.0.0.7, other at 10.0.0.7");
    }
}
