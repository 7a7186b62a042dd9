//! Who is in a group: other daemons of this one's instance, and applications that stand in the way.
//!
//! Kafka tells of a member its client id and its host. So a daemon's clients call themselves by its instance and its
//! process, unless the user gave them a name.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rd::rd_kafka_resp_err_t as Code;
use rdkafka::bindings as rd;

use super::raw::{Client, Kind, describe, fault};
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

/// The ids that groups gave to members of this process: they tell ours from others where a user's client id does not.
static OWN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// A group has given that id to a member of this process.
pub fn note_own(member_id: &str) {
    OWN.lock().unwrap_or_else(PoisonError::into_inner).insert(member_id.to_owned());
}

/// Who may have taken a transactional id over.
pub enum Holders {
    /// Nobody else, as far as the group tells: the broker took it, from a producer that was silent for too long.
    Nobody,
    /// Another daemon of this one's instance.
    Daemon(String),
    /// Another member, which may be of this one's instance: client ids that the user chose do not tell.
    Unclear(String),
}

/// Looks for somebody else in the group with the same instance.
///
/// # Errors
/// When the members cannot be read.
pub fn holders(properties: &Properties, group: &str) -> Result<Holders, Fault> {
    let id = properties.0.get("client.id").map(String::as_str).unwrap_or_default();
    let client = Client::new(Kind::Producer, properties, 0)?;
    let deadline = Instant::now() + REQUEST;
    loop {
        let members = of_instance(id, describe_group(&client, group)?.members);
        if members.iter().any(|member| !member.is_ours()) {
            let text = format!("this one is {id}; group {group} has {}", named(&members));
            return Ok(if instance_of(id).is_some() { Holders::Daemon(text) } else { Holders::Unclear(text) });
        }
        if Instant::now() >= deadline {
            return Ok(Holders::Nobody);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Members of a consumer's group that are neither of this process nor of one before it, each daemon once; empty where there is
/// none.
///
/// # Errors
/// When the members cannot be read.
pub fn others(consumer: &Properties) -> Result<String, Fault> {
    let client = Client::new(Kind::Producer, consumer, 0)?;
    let instance = consumer.0.get("client.id").and_then(|id| instance_of(id));
    // A process that was killed is a member until its session is over, and no two that live share an instance.
    let is_other = |member: &Member| !member.is_ours() && instance.is_none_or(|instance| !member.is_of(instance));
    let members = describe_group(&client, group_of(consumer))?.members;
    Ok(named(&members.into_iter().filter(is_other).collect()))
}

/// What keeps a consumer out of its group: members whose protocol is another. `None` where nothing does, or it cannot be
/// read.
pub fn in_the_way(consumer: &Properties) -> Option<String> {
    let client = Client::new(Kind::Producer, consumer, 0).ok()?;
    in_the_way_of(&client, consumer)
}

/// As `in_the_way`, by an existing client.
pub fn in_the_way_of(client: &Client, consumer: &Properties) -> Option<String> {
    let assignor = consumer.0.get("partition.assignment.strategy").map(String::as_str).unwrap_or_default();
    describe_group(client, group_of(consumer)).ok()?.conflict(group_of(consumer), assignor)
}

fn group_of(consumer: &Properties) -> &str {
    consumer.0.get("group.id").map(String::as_str).unwrap_or_default()
}

/// The instance in a client id that we made; `None` where the user chose one.
fn instance_of(id: &str) -> Option<&str> {
    id.strip_suffix(&format!(".{}", *PROCESS))
}

/// Of other instances nothing need be said. Whoever is called as the user says cannot be told apart by instance.
fn of_instance(id: &str, members: BTreeSet<Member>) -> BTreeSet<Member> {
    let instance = instance_of(id);
    members.into_iter().filter(|member| instance.is_none_or(|instance| member.is_of(instance))).collect()
}

/// A daemon has as many members as workers: each daemon stands here once.
fn named(members: &BTreeSet<Member>) -> String {
    let names: BTreeSet<String> =
        members.iter().map(|member| format!("{} at {}", member.client_id, member.host)).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Member {
    client_id: String,
    host: String,
    /// Given by the group.
    id: String,
}

impl Member {
    /// Whether its client id is that instance's, with a process behind it.
    fn is_of(&self, instance: &str) -> bool {
        self.client_id.rsplit_once('.').is_some_and(|(of, _)| of == instance)
    }

    fn is_ours(&self) -> bool {
        instance_of(&self.client_id).is_some() || OWN.lock().unwrap_or_else(PoisonError::into_inner).contains(&self.id)
    }
}

/// A group as its coordinator describes it.
#[derive(Debug, Default)]
struct Described {
    /// `consumer` for consumers; Kafka Connect and others have their own. Empty where there are no members.
    protocol_type: String,
    /// The assignor that its members agreed on; empty while they are agreeing.
    protocol: String,
    members: BTreeSet<Member>,
}

impl Described {
    fn conflict(&self, group: &str, assignor: &str) -> Option<String> {
        let others = named(&self.members);
        let (theirs, ours) = if self.members.is_empty() {
            return None;
        } else if !["", "consumer"].contains(&self.protocol_type.as_str()) {
            (format!("its members speak {:?}", self.protocol_type), "\"consumer\"".to_owned())
        } else if !self.protocol.is_empty() && self.protocol != assignor {
            (format!("its members share partitions out by {:?}", self.protocol), format!("{assignor:?}"))
        } else {
            return None;
        };
        Some(format!(
            "group {group} is another application's: {theirs} and this pipeline by {ours}; it has {others}: stop them, or \
             choose another `group`"
        ))
    }
}

fn describe_group(client: &Client, group: &str) -> Result<Described, Fault> {
    let name = CString::new(group).map_err(|_| Fault::Configuration(format!("group {group:?} holds a NUL byte")))?;
    let mut list = ptr::null();
    // SAFETY: client and name are alive; the list is freed below, when everything is copied out of it.
    let code =
        unsafe { rd::rd_kafka_list_groups(client.ptr(), name.as_ptr(), &raw mut list, REQUEST.as_millis() as c_int) };
    if list.is_null() {
        return Err(fault(code, describe(code)));
    }
    // SAFETY: the list is alive until the last line; counts and pointers belong together, and strings are terminated.
    let (described, error) = unsafe {
        let groups = slice((*list).groups, (*list).group_cnt);
        let mut described = Described::default();
        for group in groups {
            described.protocol_type = text(group.protocol_type);
            described.protocol = text(group.protocol);
            described.members.extend(slice(group.members, group.member_cnt).iter().map(|member| Member {
                client_id: text(member.client_id),
                host: text(member.client_host).trim_start_matches('/').to_owned(),
                id: text(member.member_id),
            }));
        }
        let error = groups.iter().map(|group| group.err).find(|error| *error != Code::RD_KAFKA_RESP_ERR_NO_ERROR);
        rd::rd_kafka_group_list_destroy(list);
        (described, error)
    };
    match error {
        Some(error) if described.members.is_empty() => Err(fault(error, describe(error))),
        _ => Ok(described),
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
        let member = |id: &&str| Member { client_id: (*id).into(), host: "10.0.0.7".into(), id: format!("{id}-1") };
        ids.iter().map(member).collect()
    }

    #[test]
    fn daemons_of_one_instance_are_named_and_no_others() {
        let ours = client_id("a");
        let members = of_instance(&ours, group(&[&ours, "sandpiper.a.0", "sandpiper.b.1", "sandpiper.a.b.2"]));
        assert_eq!(named(&members), format!("sandpiper.a.0 at 10.0.0.7, {ours} at 10.0.0.7"));
        assert_eq!(members.iter().filter(|member| member.is_ours()).count(), 1);
    }

    #[test]
    fn where_the_user_gave_a_client_id_members_are_told_apart_by_the_ids_that_the_group_gave_them() {
        let members = of_instance("iris", group(&["iris", "other"]));
        assert_eq!(named(&members), "iris at 10.0.0.7, other at 10.0.0.7");
        note_own("iris-1");
        assert_eq!(named(&members.into_iter().filter(|member| !member.is_ours()).collect()), "other at 10.0.0.7");
    }

    #[test]
    fn a_group_of_another_protocol_is_in_the_way_with_its_members_named() {
        let described = |protocol_type: &str, protocol: &str, ids: &[&str]| Described {
            protocol_type: protocol_type.into(),
            protocol: protocol.into(),
            members: group(ids),
        };
        let conflict = |described: Described| described.conflict("g", "cooperative-sticky");
        assert_eq!(conflict(described("consumer", "cooperative-sticky", &["a"])), None);
        assert_eq!(conflict(described("consumer", "", &["a"])), None, "they are agreeing");
        assert_eq!(conflict(described("connect", "sessioned", &[])), None, "whoever left is in nobody's way");
        let range = conflict(described("consumer", "range", &["their-app"])).unwrap();
        assert!(
            range.contains("group g") && range.contains("\"range\"") && range.contains("their-app at 10.0.0.7"),
            "{range}"
        );
        let connect = conflict(described("connect", "sessioned", &["connect-1"])).unwrap();
        assert!(connect.contains("\"connect\"") && connect.contains("connect-1"), "{connect}");
    }
}
