//! Conflicts between pipelines of one daemon, and between them and the daemon's own file: each is valid alone, and they must
//! not run together.
//!
//! A plan no longer knows lines, so these mistakes are reported at line 1 of the later pipeline's file.

use std::collections::BTreeSet;

use crate::config::plan::{Plan, Properties};

use super::daemon::{self, Daemon};
use super::mistake::Mistake;

/// Clashing names, groups and topics, and loops from a pipeline back to its own input.
pub fn check_together(plans: &[Plan]) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    for (number, plan) in plans.iter().enumerate() {
        let earlier = plans.get(..number).unwrap_or_default();
        for other in earlier {
            check_names(other, plan, &mut mistakes);
        }
        for other in earlier.iter().filter(|other| share_brokers(&other.kafka, &plan.kafka)) {
            check_groups(other, plan, &mut mistakes);
            check_predictions(other, plan, &mut mistakes);
            check_dead_letters(other, plan, &mut mistakes);
        }
        check_loop(earlier, plan, &mut mistakes);
    }
    mistakes
}

/// Topics through which the daemon is controlled, and which a pipeline of it reads or writes; at the daemon's file.
pub fn check_control(daemon: &Daemon, plans: &[Plan]) -> Vec<Mistake> {
    let Some(control) = &daemon.control else { return Vec::new() };
    let topics = [control.commands(), control.deployments(), control.artifacts()];
    let mut mistakes = Vec::new();
    for plan in plans.iter().filter(|plan| share_brokers(&control.kafka, &plan.kafka)) {
        for (key, topic) in read(plan).chain(written(plan)).filter(|(_, topic)| topics.iter().any(|own| own == topic)) {
            let file = plan.file.display();
            let message = format!(
                "{topic:?} is {key} of {file} too, on the same brokers: choose other topics here, as topics = \"sandpiper.control\", \
                 or there"
            );
            mistakes.push(daemon.mistake(daemon::CONTROL_TOPICS, message));
        }
    }
    mistakes
}

fn check_names(earlier: &Plan, plan: &Plan, mistakes: &mut Vec<Mistake>) {
    if plan.name == earlier.name {
        let message =
            format!("{:?} is the name of {} too: each pipeline has its own", plan.name, earlier.file.display());
        mistakes.push(mistake(plan, "name", message));
    }
}

/// Two loops in one group would take each other's partitions.
fn check_groups(earlier: &Plan, plan: &Plan, mistakes: &mut Vec<Mistake>) {
    for (key, group) in groups(plan) {
        for (elsewhere, _) in groups(earlier).filter(|(_, other)| *other == group) {
            let there = earlier.file.display();
            let message =
                format!("{group:?} is {elsewhere} of {there} too, on the same brokers: each loop has its own");
            mistakes.push(mistake(plan, key, message));
        }
    }
}

/// A feedback loop takes everything in its pipeline's output topic for predictions of that pipeline.
fn check_predictions(earlier: &Plan, plan: &Plan, mistakes: &mut Vec<Mistake>) {
    for (reader, writer) in [(earlier, plan), (plan, earlier)] {
        let topic = reader.output.topic.as_str();
        if reader.feedback.is_some() && written(writer).any(|(_, other)| other == topic) {
            let (reader, writer) = (reader.file.display(), writer.file.display());
            let message =
                format!("{topic:?} is written by {writer}, and [feedback] of {reader} reads its own predictions there");
            mistakes.push(mistake(plan, "[output] topic", message));
            return;
        }
    }
}

/// A replay takes what stands among its pipeline's dead letters for letters and notes: an output that carries a producer's own
/// headers could be one. Pipelines may share a topic for their letters, which say whose they are.
fn check_dead_letters(earlier: &Plan, plan: &Plan, mistakes: &mut Vec<Mistake>) {
    for (owner, writer) in [(earlier, plan), (plan, earlier)] {
        let topic = owner.errors.dead_letters.as_str();
        let Some((place, _)) = results(writer).find(|(_, other)| *other == topic) else { continue };
        let key = if std::ptr::eq(owner, plan) { "[errors] dead_letters" } else { place };
        let (owner, writer) = (owner.file.display(), writer.file.display());
        let message = format!(
            "{topic:?} is {place} of {writer} and [errors] dead_letters of {owner}: dead letters have a topic of their own"
        );
        mistakes.push(mistake(plan, key, message));
    }
}

/// Follows outputs from pipeline to pipeline among the earlier ones and this. Dead letters are not followed: a pipeline
/// that corrects them and writes them back is meant to.
fn check_loop(earlier: &[Plan], plan: &Plan, mistakes: &mut Vec<Mistake>) {
    let mut reached: BTreeSet<&str> = outputs(plan).collect();
    let mut through: Vec<&Plan> = Vec::new();
    loop {
        let reads = |other: &Plan| other.input.topics.iter().any(|topic| reached.contains(topic.as_str()));
        let is_visited = |other: &Plan| through.iter().any(|visited| std::ptr::eq(*visited, other));
        let Some(next) =
            earlier.iter().find(|other| share_brokers(&other.kafka, &plan.kafka) && reads(other) && !is_visited(other))
        else {
            break;
        };
        reached.extend(outputs(next));
        through.push(next);
    }
    let Some(topic) = plan.input.topics.iter().find(|topic| reached.contains(topic.as_str())) else {
        return;
    };
    let through: Vec<String> = through.iter().map(|other| other.file.display().to_string()).collect();
    let through = if through.is_empty() { String::new() } else { format!(" through {}", through.join(", ")) };
    let message =
        format!("{topic:?} is read by this pipeline, and its output comes back to it{through}: a loop without end");
    mistakes.push(mistake(plan, "[input] topics", message));
}

fn groups(plan: &Plan) -> impl Iterator<Item = (&'static str, &str)> {
    let feedback = plan.feedback.as_ref().map(|feedback| ("[feedback] group", feedback.group.as_str()));
    std::iter::once(("[input] group", plan.input.group.as_str())).chain(feedback)
}

fn outputs(plan: &Plan) -> impl Iterator<Item = &str> {
    let transforms = plan.transforms.iter().flat_map(|transform| transform.outputs.values());
    transforms.map(String::as_str).chain([plan.output.topic.as_str()])
}

/// What is written besides dead letters, and where that is asked for.
fn results(plan: &Plan) -> impl Iterator<Item = (&'static str, &str)> {
    let transforms = plan.transforms.iter().flat_map(|transform| transform.outputs.values());
    let scores = plan.feedback.as_ref().map(|feedback| ("[feedback] scores", feedback.scores.as_str()));
    let transforms = transforms.map(|topic| ("[[transform]] outputs", topic.as_str()));
    transforms.chain([("[output] topic", plan.output.topic.as_str())]).chain(scores)
}

/// Everything that is written, and where that is asked for.
fn written(plan: &Plan) -> impl Iterator<Item = (&'static str, &str)> {
    results(plan).chain([("[errors] dead_letters", plan.errors.dead_letters.as_str())])
}

/// Everything that is read, and where that is asked for.
fn read(plan: &Plan) -> impl Iterator<Item = (&'static str, &str)> {
    let labels = plan.feedback.as_ref().map(|feedback| ("[feedback] labels", feedback.labels.as_str()));
    plan.input.topics.iter().map(|topic| ("[input] topics", topic.as_str())).chain(labels)
}

/// Whether both name the same broker. Two lists without a common broker may still be one cluster: that is not found here.
fn share_brokers(one: &Properties, other: &Properties) -> bool {
    let servers = |properties: &Properties| -> BTreeSet<String> {
        let servers = properties.0.get("bootstrap.servers").map_or("", String::as_str);
        servers.split(',').map(|server| server.trim().to_ascii_lowercase()).collect()
    };
    !servers(one).is_disjoint(&servers(other))
}

fn mistake(plan: &Plan, key: &str, message: String) -> Mistake {
    Mistake { file: plan.file.clone(), line: 1, column: 1, key: key.to_owned(), message }
}
