//! Whether what two sides said of themselves fits: a transform's outputs and the file's topics, a parser's columns and a
//! classifier's. What does not is said with both sides and the fix.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use sandpiper_sandbox::wit::latest::{Column, Kind, Signature};

use crate::kafka::sink::SinkTopic;
use crate::record::{Route, Routes};

/// Where each output of a transform goes.
///
/// # Errors
/// When a name is configured that the plugin does not have.
pub fn routes(
    transform: &str,
    configured: &BTreeMap<String, String>,
    outputs: &[String],
    topics: &Routes<SinkTopic>,
) -> Result<Vec<Option<Route>>> {
    if let Some(unknown) = configured.keys().find(|name| !outputs.contains(name)) {
        bail!("outputs.{unknown} names an output that plugin {transform} does not have; it has {}", outputs.join(", "));
    }
    let route = |name: &String| topics.find(|topic| topic.name == *name);
    Ok(outputs.iter().map(|output| configured.get(output).and_then(route)).collect())
}

/// Where each column of the classifier stands in the parser's; `None` when they are the same in the same order.
///
/// # Errors
/// When a column is missing or of another kind; the message names both sides and the fix.
pub fn gather(parser: &str, columns: &[Column], classifier: &str, signature: &Signature) -> Result<Option<Vec<usize>>> {
    let names = |columns: &[Column]| columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
    let mut places = Vec::new();
    for wanted in &signature.columns {
        let Some(at) = columns.iter().position(|column| column.name == wanted.name) else {
            bail!(
                "classifier {classifier} needs column {:?}, which parser {parser} does not supply; the parser has [{}], the \
                 classifier needs [{}]: add the column to the parser's configuration, or deploy both together",
                wanted.name,
                names(columns),
                names(&signature.columns)
            );
        };
        let supplied = columns.get(at).map(|column| &column.kind);
        if supplied.is_none_or(|supplied| !same(supplied, &wanted.kind)) {
            bail!(
                "column {:?} is {} for parser {parser} and {} for classifier {classifier}: make them equal in the parser's \
                 configuration, or train the model anew",
                wanted.name,
                supplied.map(describe).unwrap_or_default(),
                describe(&wanted.kind)
            );
        }
        places.push(at);
    }
    let identical = columns.len() == places.len() && places.iter().enumerate().all(|(at, place)| at == *place);
    Ok(if identical { None } else { Some(places) })
}

/// How many columns a classifier reads.
///
/// # Errors
/// When they are more than a matrix can have.
pub fn width(signature: &Signature) -> Result<u32> {
    u32::try_from(signature.columns.len()).context("a signature has too many columns")
}

fn same(one: &Kind, other: &Kind) -> bool {
    match (one, other) {
        (Kind::Number, Kind::Number) => true,
        (Kind::Category(one), Kind::Category(other)) => one == other,
        _ => false,
    }
}

fn describe(kind: &Kind) -> String {
    match kind {
        Kind::Number => "a number".into(),
        Kind::Category(names) => format!("a category of [{}]", names.join(", ")),
    }
}

/// Answers in other classes cannot be compared, and whoever reads the predictions may not know them.
///
/// # Errors
/// When the challenger has other classes than the champion.
pub(super) fn same_classes(champion: &Signature, classifier: &str, challenger: &Signature) -> Result<()> {
    let set = |signature: &Signature| signature.classes.iter().cloned().collect::<BTreeSet<_>>();
    let (ours, theirs) = (set(champion), set(challenger));
    if ours == theirs {
        return Ok(());
    }
    let list = |classes: Vec<&String>| match classes.is_empty() {
        true => "none".to_owned(),
        false => classes.into_iter().map(|class| format!("{class:?}")).collect::<Vec<_>>().join(", "),
    };
    bail!(
        "classifier {classifier} has other classes than the one that runs: new are {}, missing are {}; --allow-new-classes takes it",
        list(theirs.difference(&ours).collect()),
        list(ours.difference(&theirs).collect())
    )
}
