//! What the cluster says of topics: whether they exist and how many partitions they have.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::ptr;
use std::time::Duration;

use rd::rd_kafka_resp_err_t as Code;
use rdkafka::bindings as rd;

use super::properties;
use super::raw::{Client, Kind, describe, fault, is_missing};
use crate::config::plan::{Partition, Plan, Properties};
use crate::stream::fault::Fault;

/// Time for one question to the cluster.
const REQUEST: Duration = Duration::from_secs(5);

/// Partition counts by topic; `None` for a topic that does not exist.
pub type Partitions = BTreeMap<String, Option<i32>>;

/// Asks for those topics by an existing client.
///
/// # Errors
/// `Unknown` when no broker answers in time, `Configuration` when it refuses us.
pub fn partitions_by(client: &Client, topics: &[&str]) -> Result<Partitions, Fault> {
    let mut found = Partitions::new();
    for name in topics {
        let count = partitions_of(client, name, REQUEST)?;
        found.insert((*name).to_owned(), count);
    }
    Ok(found)
}

/// Asks for those topics by a client of its own.
///
/// # Errors
/// As `partitions_by`'s, and `Configuration` when librdkafka refuses the properties.
pub fn partitions(properties: &Properties, topics: &[&str]) -> Result<Partitions, Fault> {
    partitions_by(&Client::new(Kind::Producer, properties, 0)?, topics)
}

/// How many partitions a topic has; `None` where it does not exist.
pub(super) fn partitions_of(client: &Client, name: &str, wait: Duration) -> Result<Option<i32>, Fault> {
    let terminated =
        CString::new(name).map_err(|_| Fault::Configuration(format!("topic {name:?} holds a NUL byte")))?;
    // SAFETY: client and name are alive; handle and answer are freed below, the answer copied before.
    unsafe {
        let handle = rd::rd_kafka_topic_new(client.ptr(), terminated.as_ptr(), ptr::null_mut());
        let mut answer = ptr::null();
        let code = rd::rd_kafka_metadata(client.ptr(), 0, handle, &mut answer, wait.as_millis().max(1) as i32);
        rd::rd_kafka_topic_destroy(handle);
        if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            let why = client.reports().connection().map_or_else(String::new, |why| format!(": {why}"));
            let message = format!("the brokers do not answer: {}{why}", describe(code));
            return Err(fault(code, message));
        }
        let topic = if (*answer).topic_cnt > 0 { Some(&*(*answer).topics) } else { None };
        let result = match topic {
            None => Ok(None),
            Some(topic) => match topic.err {
                Code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(Some(topic.partition_cnt)),
                code if is_missing(code) => Ok(None),
                code => Err(fault(code, format!("topic {name}: {}", describe(code)))),
            },
        };
        rd::rd_kafka_metadata_destroy(answer);
        result
    }
}

/// What a topic takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// `max.message.bytes`: above it the broker refuses a whole batch.
    pub max_bytes: usize,
    /// `cleanup.policy` has `compact`: a null key is refused.
    pub compacted: bool,
    /// Milliseconds that a record's time may lie before and after the broker's; `i64::MAX` where the topic takes any, or writes its
    /// own.
    pub before_max: i64,
    pub after_max: i64,
}

impl Limits {
    /// Of a topic that does not tell.
    pub const UNKNOWN: Self =
        Self { max_bytes: usize::MAX, compacted: false, before_max: i64::MAX, after_max: i64::MAX };
}

/// The limits of those topics that tell us theirs; a broker may not let us ask.
pub fn limits(properties: &Properties, topics: &[&str]) -> BTreeMap<String, Limits> {
    use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
    let config: rdkafka::ClientConfig = (properties.0.iter())
        .filter(|(name, _)| !PRODUCER_ONLY.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let limits_in = |answer: &ConfigResource| {
        let value = |name: &str| answer.get(name)?.value.as_deref();
        let max_bytes = value("max.message.bytes")?.parse().ok()?;
        let compacted = value("cleanup.policy")?.contains("compact");
        let dated = value("message.timestamp.type") != Some("LogAppendTime");
        let time = |name: &str| value(name).and_then(|time| time.parse().ok()).filter(|_| dated).unwrap_or(i64::MAX);
        let (before_max, after_max) = (time("message.timestamp.before.max.ms"), time("message.timestamp.after.max.ms"));
        Some(Limits { max_bytes, compacted, before_max, after_max })
    };
    let ask = || -> anyhow::Result<BTreeMap<String, Limits>> {
        let admin: AdminClient<_> = config.create()?;
        check_controller(admin.inner(), topics)?;
        let resources: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let options = AdminOptions::new().request_timeout(Some(REQUEST));
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let answers = runtime.block_on(admin.describe_configs(&resources, &options))?;
        Ok((topics.iter().zip(&answers))
            .filter_map(|(topic, answer)| Some(((*topic).to_owned(), limits_in(answer.as_ref().ok()?)?)))
            .collect())
    };
    ask().unwrap_or_else(|error| {
        tracing::warn!(%error, "the topics' limits cannot be read; a record above one costs an aborted transaction more");
        BTreeMap::new()
    })
}

/// librdkafka asks a controller and waits out its time when there is none, as on its own mock cluster: that names one
/// that is not among its brokers.
fn check_controller<C: rdkafka::ClientContext>(
    client: &rdkafka::client::Client<C>,
    topics: &[&str],
) -> anyhow::Result<()> {
    // SAFETY: the client is alive.
    let controller = unsafe { rd::rd_kafka_controllerid(client.native_ptr(), REQUEST.as_millis() as i32) };
    let metadata = client.fetch_metadata(topics.first().copied(), REQUEST)?;
    anyhow::ensure!(
        metadata.brokers().iter().any(|broker| broker.id() == controller),
        "the cluster has no controller to ask"
    );
    Ok(())
}

/// Properties that an admin client warns about.
const PRODUCER_ONLY: [&str; 4] =
    ["transactional.id", "transaction.timeout.ms", "enable.idempotence", "delivery.report.only.error"];

/// All topics of a pipeline, in the order input, output, dead letters, named outputs, labels, scores.
pub fn of(plan: &Plan) -> Vec<&str> {
    let mut topics: Vec<&str> = plan.input.topics.iter().map(String::as_str).collect();
    topics.extend([plan.output.topic.as_str(), plan.errors.dead_letters.as_str()]);
    topics.extend(plan.transforms.iter().flat_map(|transform| transform.outputs.values()).map(String::as_str));
    if let Some(feedback) = &plan.feedback {
        topics.extend([feedback.labels.as_str(), feedback.scores.as_str()]);
    }
    let mut seen = std::collections::HashSet::new();
    topics.retain(|topic| seen.insert(*topic));
    topics
}

/// What the cluster lacks for a pipeline, each with its fix.
///
/// # Errors
/// When no broker answers in time, or refuses us.
pub fn problems(plan: &Plan) -> Result<Vec<String>, Fault> {
    let found = partitions(&properties::client(plan), &of(plan))?;
    Ok(problems_of(plan, &found))
}

fn problems_of(plan: &Plan, found: &Partitions) -> Vec<String> {
    let count = |topic: &str| found.get(topic).copied().flatten();
    let wanted = plan.input.topics.iter().find_map(|topic| count(topic)).unwrap_or(1);
    let brokers = plan.kafka.0.get("bootstrap.servers").map_or("HOST:PORT", String::as_str);
    let mut problems = Vec::new();
    for topic in of(plan) {
        if count(topic).is_none() {
            problems.push(format!(
                "topic {topic} does not exist; create it with: kafka-topics.sh --bootstrap-server {brokers} --create \
                 --topic {topic} --partitions {wanted}"
            ));
        }
    }
    let mut same = |topic: &str, as_topic: &str, why: &str| {
        if let (Some(have), Some(want)) = (count(topic), count(as_topic))
            && have != want
        {
            problems.push(format!("topic {topic} has {have} partitions and {as_topic} has {want}: {why}"));
        }
    };
    if plan.output.partition == Partition::Input {
        let outputs = plan.transforms.iter().flat_map(|transform| transform.outputs.values());
        for output in std::iter::once(&plan.output.topic).chain(outputs) {
            for input in &plan.input.topics {
                same(
                    output,
                    input,
                    "an output keeps its input's partition number; make them equal, or set [output] partition = \"key\"",
                );
            }
        }
    }
    if let Some(feedback) = &plan.feedback {
        same(
            &feedback.labels,
            &plan.output.topic,
            "a label meets its prediction on the partition of the same number; make them equal",
        );
        same(&feedback.scores, &plan.output.topic, "a score keeps its prediction's partition number; make them equal");
    }
    problems
}
