//! The messages that the feedback loop reads and writes: predictions as the host wrote them, labels as they come,
//! scores.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::classes::{ClassLists, Classes};
use super::join::{Joined, Label, OtherArm, Prediction};
use crate::record::id::pointed;
use crate::record::{Batch, Pointer, Revision, Role};
use sandpiper_sandbox::wit::latest::Judgement;

/// Bytes of a class's name and of a source's: what may be a name is short, and the sandbox lets no model have a longer one.
const MAX_NAME: usize = 256;
/// As many as the sandbox lets a model have.
const MAX_CLASSES: usize = 10_000;

#[derive(Deserialize)]
struct Written<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    class: Cow<'a, str>,
    probabilities: serde_json::Map<String, serde_json::Value>,
    revision: Revision,
    #[serde(borrow)]
    origin: Cow<'a, str>,
    /// Earlier versions did not write it.
    #[serde(borrow, default)]
    release: Option<Cow<'a, str>>,
    #[serde(default)]
    role: Option<Role>,
    #[serde(borrow, default)]
    champion: Option<WrittenArm<'a>>,
    #[serde(borrow, default)]
    challenger: Option<WrittenArm<'a>>,
}

#[derive(Deserialize)]
struct WrittenArm<'a> {
    #[serde(borrow)]
    class: Cow<'a, str>,
    probabilities: serde_json::Map<String, serde_json::Value>,
    #[serde(borrow)]
    release: Cow<'a, str>,
}

/// An answer's class as an index, its probabilities and its classes; `None` where they do not fit each other.
fn answer(
    class: &str,
    probabilities: serde_json::Map<String, serde_json::Value>,
    lists: &mut ClassLists,
) -> Option<(u32, Vec<f32>, Classes)> {
    let scores =
        probabilities.values().map(|score| score.as_f64().map(|score| score as f32)).collect::<Option<Vec<_>>>()?;
    let classes: Vec<String> = probabilities.into_iter().map(|(class, _)| class).collect();
    let predicted = u32::try_from(classes.iter().position(|known| known == class)?).ok()?;
    if classes.len() > MAX_CLASSES || classes.iter().any(|class| class.len() > MAX_NAME) {
        return None;
    }
    Some((predicted, scores, lists.share(classes)))
}

/// A prediction of ours, if it is one; predictions of the same classes share their list.
pub fn prediction(value: &[u8], lists: &mut ClassLists) -> Option<Prediction> {
    let written: Written<'_> = serde_json::from_slice(value).ok()?;
    let role = written.role.unwrap_or(Role::Champion);
    let other = match role {
        Role::Champion => written.challenger,
        Role::Challenger => written.champion,
    };
    let (predicted, scores, classes) = answer(&written.class, written.probabilities, lists)?;
    let other = other.filter(|other| other.release.len() <= MAX_NAME).and_then(|other| {
        let (predicted, scores, classes) = answer(&other.class, other.probabilities, lists)?;
        Some(Box::new(OtherArm { predicted, scores, classes, release: other.release.into() }))
    });
    Some(Prediction {
        id: written.id.into(),
        predicted,
        scores,
        classes,
        revision: written.revision,
        origin: written.origin.into_owned(),
        role,
        release: written.release.filter(|release| release.len() <= MAX_NAME).map(Into::into),
        other,
    })
}

/// A label: its class and who says so. Where the value is the class, it is the text without the spaces around it: `10` and
/// ` 10 ` are one class, `"10"` has quotes in its name, and `10.0` is another. At a pointer `10` and `"10"` are one class.
pub fn label(batch: &Batch, row: usize, class: Option<&Pointer>) -> Result<Label, String> {
    let Some(value) = batch.value(row) else { return Err("the label is null".into()) };
    let class = match class {
        Some(pointer) => pointed(pointer, value)?,
        None => {
            std::str::from_utf8(value).map_err(|error| format!("the label is not UTF-8: {error}"))?.trim().to_owned()
        }
    };
    if class.is_empty() {
        return Err("the label is empty".into());
    }
    if class.len() > MAX_NAME {
        return Err(format!("the class has {} bytes, and a class's name has at most {MAX_NAME}", class.len()));
    }
    let headers = batch.rows.get(row).and_then(|facts| facts.headers.as_deref());
    let source =
        headers.into_iter().flatten().rev().find(|(name, _)| name == "source").and_then(|(_, value)| value.as_deref());
    if let Some(source) = source
        && source.len() > MAX_NAME
    {
        return Err(format!("header source has {} bytes, and a source's name has at most {MAX_NAME}", source.len()));
    }
    Ok(Label { class, source: source.map(|source| String::from_utf8_lossy(source).into_owned()).unwrap_or_default() })
}

#[derive(Serialize)]
struct Score<'a> {
    id: &'a str,
    predicted: &'a str,
    truth: &'a str,
    correct: bool,
    loss: f64,
    weight: f64,
    accepted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    source: &'a str,
    /// `null` where either has no time.
    delay_ms: Option<u64>,
    origin: &'a str,
    revision: Revision,
    role: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<&'a str>,
    /// The release that judged it.
    scorer: &'a str,
    /// What the arm came to whose answer did not count, where both answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    champion: Option<OtherScore<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    challenger: Option<OtherScore<'a>>,
}

#[derive(Serialize)]
struct OtherScore<'a> {
    predicted: &'a str,
    correct: bool,
    loss: f64,
    release: &'a str,
}

/// Appends a score as JSON: what that scorer says of the answer that counted, and of the other arm's.
pub fn write_score(
    out: &mut Vec<u8>,
    joined: &Joined,
    (judgement, other): (&Judgement, Option<&Judgement>),
    scorer: &str,
) {
    let prediction = &joined.prediction;
    let class = |index: u32| prediction.classes.get(index as usize).map_or("", String::as_str);
    let other = joined.other().zip(other).map(|((arm, truth), judgement)| OtherScore {
        predicted: arm.classes.get(arm.predicted as usize).map_or("", String::as_str),
        correct: arm.predicted == truth,
        loss: judgement.loss,
        release: &arm.release,
    });
    let (champion, challenger) = match prediction.role {
        Role::Champion => (None, other),
        Role::Challenger => (other, None),
    };
    let score = Score {
        id: &prediction.id,
        predicted: class(prediction.predicted),
        truth: class(joined.truth),
        correct: prediction.predicted == joined.truth,
        loss: judgement.loss,
        weight: judgement.weight,
        accepted: judgement.accepted,
        reason: judgement.reason.as_deref(),
        source: &joined.source,
        delay_ms: joined.delay_ms,
        origin: &prediction.origin,
        revision: prediction.revision,
        role: prediction.role.name(),
        release: prediction.release.as_deref(),
        scorer,
        champion,
        challenger,
    };
    // Writing numbers and strings into memory cannot fail.
    let _ = serde_json::to_writer(out, &score);
}
