//! The three topics of control, made where they are missing.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::types::RDKafkaErrorCode;

use crate::config::daemon::Control;
use crate::kafka::{properties, topics};
use crate::stream::fault::Fault;

/// Time for one question to the cluster.
const REQUEST: Duration = Duration::from_secs(10);

/// Settings of each: in all of them one partition, since what is decided has one order. The commands' times are the broker's, so
/// that a topic that was made anew is told from one that is read again.
const COMMANDS: [(&str, &str); 3] =
    [("cleanup.policy", "delete"), ("retention.ms", "604800000"), ("message.timestamp.type", "LogAppendTime")];
const COMPACTED: [(&str, &str); 1] = [("cleanup.policy", "compact")];

/// Makes those that are missing.
///
/// # Errors
/// When they cannot be made: `Denied` where the cluster does not let us, with the command that an administrator needs.
pub fn make(control: &Control) -> Result<(), Fault> {
    let wanted = [
        (control.artifacts(), &COMPACTED[..]),
        (control.deployments(), &COMPACTED[..]),
        // The last: whoever has its partition needs the others.
        (control.commands(), &COMMANDS[..]),
    ];
    let names: Vec<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
    let found = topics::partitions(&properties::of_control(control), &names)?;
    for (name, settings) in &wanted {
        match found.get(name).copied().flatten() {
            Some(1) => {}
            Some(count) => {
                return Err(Fault::Denied(format!(
                    "topic {name} has {count} partitions, and what is decided for all daemons has one order: make it with one, or \
                     name others by [control] topics"
                )));
            }
            None => make_one(control, name, settings)?,
        }
    }
    Ok(())
}

fn make_one(control: &Control, name: &str, settings: &[(&str, &str)]) -> Result<(), Fault> {
    let unknown = |why: String| Fault::Unknown(format!("topic {name} cannot be made: {why}"));
    let config: rdkafka::ClientConfig = properties::of_control(control).0.into_iter().collect();
    let admin: AdminClient<_> =
        config.create().map_err(|error| Fault::Configuration(format!("[control.kafka]: {error}")))?;
    let mut topic = NewTopic::new(name, 1, TopicReplication::Fixed(-1));
    for (key, value) in settings {
        topic = topic.set(key, value);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| unknown(error.to_string()))?;
    let options = AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST));
    let answers =
        runtime.block_on(admin.create_topics([&topic], &options)).map_err(|error| unknown(error.to_string()))?;
    match answers.into_iter().next() {
        Some(Ok(_)) => tracing::info!(topic = name, "a control topic was missing, and is made"),
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | None => {}
        Some(Err((_, code))) => {
            let brokers = control.kafka.0.get("bootstrap.servers").map_or("HOST:PORT", String::as_str);
            let configs: Vec<String> = settings.iter().map(|(key, value)| format!("--config {key}={value}")).collect();
            return Err(Fault::Denied(format!(
                "topic {name} does not exist and cannot be made ({code}); create it with: kafka-topics.sh --bootstrap-server \
                 {brokers} --create --topic {name} --partitions 1 {}",
                configs.join(" ")
            )));
        }
    }
    Ok(())
}
