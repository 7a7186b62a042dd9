//! The JSON of a prediction, written straight into the output buffer: names are escaped once, when the
//! deployment is opened, and a record costs only its numbers.

use crate::record::{Origin, Revision, Role};
use sandpiper_sandbox::Digest;
use sandpiper_sandbox::wit::latest::{Kind, Signature};

/// The parts of a prediction that do not change from record to record.
pub struct Writer {
    /// `"setosa"`, quoted and escaped, by class.
    classes: Vec<String>,
    /// `,"setosa":`, by class; the first without its comma.
    probabilities: Vec<String>,
    features: Vec<Feature>,
    min_confidence: f32,
    /// `,"revision":17,"role":"champion","release":"3fa2c4d5e6f7"`; nothing where no stamp is wanted.
    stamp: String,
    /// `,"champion":{"class":`, for where it is not the one that counts.
    other: String,
    /// `,"release":"3fa2c4d5e6f7"}`
    other_tail: String,
    stamped: bool,
    /// Set where each prediction stands behind its answer, for whoever compares answers.
    answered: Option<Answered>,
}

/// Whose predictions a writer writes.
pub struct Arm {
    pub role: Role,
    pub revision: Revision,
    /// Names all that made them.
    pub release: Digest,
    /// Whether origin, revision, role and release stand in the value.
    pub stamped: bool,
}

/// What a classifier says of a row.
pub struct Answer<'a> {
    /// Index into the signature's classes.
    pub label: u32,
    /// One finite number a class.
    pub scores: &'a [f32],
    /// One a column, NaN where it is missing.
    pub features: &'a [f32],
}

/// Whether a prediction stands behind its answer.
#[derive(Clone, Copy, PartialEq)]
pub enum Answered {
    Alone,
    WithPrediction,
}

/// A prediction as `Writer::answer_first` has it written: what was answered, and to whom, without a look at its JSON.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Given<'a> {
    /// Index into the classes.
    pub label: u32,
    pub confidence: f32,
    pub id: &'a str,
    /// Empty where it was not wanted.
    pub prediction: &'a [u8],
}

impl Answered {
    fn write(self, out: &mut Vec<u8>, label: u32, confidence: f32, id: &str) {
        out.extend_from_slice(&label.to_le_bytes());
        out.extend_from_slice(&confidence.to_le_bytes());
        out.extend_from_slice(&(id.len() as u64).to_le_bytes());
        out.extend_from_slice(id.as_bytes());
    }

    /// `None` for what was not written so.
    pub fn read(value: &[u8]) -> Option<Given<'_>> {
        let (label, rest) = value.split_first_chunk()?;
        let (confidence, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (id, prediction) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        Some(Given {
            label: u32::from_le_bytes(*label),
            confidence: f32::from_le_bytes(*confidence),
            id: std::str::from_utf8(id).ok()?,
            prediction,
        })
    }
}

struct Feature {
    /// `,"sepal_length":`; the first without its comma.
    name: String,
    /// Quoted and escaped; empty for a number.
    categories: Vec<String>,
}

impl Writer {
    pub fn new(signature: &Signature, min_confidence: f32, arm: &Arm) -> Self {
        let comma = |at: usize| if at == 0 { "" } else { "," };
        let (role, release) = (arm.role.name(), arm.release.short());
        let stamp = format!(",\"revision\":{},\"role\":\"{role}\",\"release\":\"{release}\"", arm.revision);
        Self {
            classes: signature.classes.iter().map(|class| quoted(class)).collect(),
            probabilities: (signature.classes.iter().enumerate())
                .map(|(at, class)| format!("{}{}:", comma(at), quoted(class)))
                .collect(),
            features: (signature.columns.iter().enumerate())
                .map(|(at, column)| Feature {
                    name: format!("{}{}:", comma(at), quoted(&column.name)),
                    categories: match &column.kind {
                        Kind::Number => Vec::new(),
                        Kind::Category(names) => names.iter().map(|name| quoted(name)).collect(),
                    },
                })
                .collect(),
            min_confidence,
            stamp: if arm.stamped { stamp } else { String::new() },
            other: format!(",\"{role}\":{{\"class\":"),
            other_tail: format!("\"release\":\"{release}\"}}"),
            stamped: arm.stamped,
            answered: None,
        }
    }

    /// Puts what was answered before each prediction, for `Answered::read`, and leaves the prediction itself out unless it is
    /// wanted. Returns the names of the classes.
    pub fn answer_first(&mut self, with_prediction: bool) -> Vec<String> {
        self.answered = Some(if with_prediction { Answered::WithPrediction } else { Answered::Alone });
        self.classes.iter().map(|class| serde_json::from_str(class).unwrap_or_default()).collect()
    }

    /// A class by its index, quoted.
    pub fn class(&self, label: u32) -> &str {
        self.classes.get(label as usize).map_or("null", String::as_str)
    }

    /// Appends one prediction; `other` is what the arm says whose answer does not count, with its writer.
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        id: &str,
        answer: &Answer<'_>,
        other: Option<(&Self, &Answer<'_>)>,
        topic: &str,
        origin: Origin,
    ) {
        let Answer { label, scores, features } = *answer;
        let confidence = scores.get(label as usize).copied().unwrap_or_default();
        if let Some(form) = self.answered {
            form.write(out, label, confidence, id);
            if form == Answered::Alone {
                return;
            }
        }
        out.extend_from_slice(b"{\"id\":");
        escape(out, id);
        out.extend_from_slice(b",\"class\":");
        out.extend_from_slice(self.class(label).as_bytes());
        out.extend_from_slice(if confidence >= self.min_confidence {
            b",\"decision\":\"accept\""
        } else {
            b",\"decision\":\"review\""
        });
        self.confidence(out, confidence, scores);
        out.extend_from_slice(b",\"features\":{");
        for (feature, value) in self.features.iter().zip(features) {
            out.extend_from_slice(feature.name.as_bytes());
            match feature.categories.get(*value as usize) {
                // Only a code: the cast would take -1 for 0, and 1.7 for 1.
                Some(category) if *value >= 0.0 && value.fract() == 0.0 => out.extend_from_slice(category.as_bytes()),
                _ => number(out, *value),
            }
        }
        out.push(b'}');
        if self.stamped {
            out.extend_from_slice(b",\"origin\":\"");
            // A topic's name needs no escape: Kafka allows letters, digits, dot, dash and underscore.
            position(out, topic, origin);
            out.push(b'"');
        }
        out.extend_from_slice(self.stamp.as_bytes());
        if let Some((writer, answer)) = other {
            writer.write_other(out, answer);
        }
        out.push(b'}');
    }

    /// `,"challenger":{"class":"setosa","confidence":0.9,"probabilities":{…},"release":"3fa2c4d5e6f7"}`
    fn write_other(&self, out: &mut Vec<u8>, answer: &Answer<'_>) {
        out.extend_from_slice(self.other.as_bytes());
        out.extend_from_slice(self.class(answer.label).as_bytes());
        self.confidence(out, answer.scores.get(answer.label as usize).copied().unwrap_or_default(), answer.scores);
        out.push(b',');
        out.extend_from_slice(self.other_tail.as_bytes());
    }

    fn confidence(&self, out: &mut Vec<u8>, confidence: f32, scores: &[f32]) {
        out.extend_from_slice(b",\"confidence\":");
        let from = out.len();
        number(out, confidence);
        let written = from..out.len();
        out.extend_from_slice(b",\"probabilities\":{");
        for (name, score) in self.probabilities.iter().zip(scores) {
            out.extend_from_slice(name.as_bytes());
            // One of them is the confidence, and its digits are what a prediction spends its time on.
            if score.to_bits() == confidence.to_bits() {
                out.extend_from_within(written.clone());
            } else {
                number(out, *score);
            }
        }
        out.push(b'}');
    }
}

/// `iris.measurements/3@1842`.
pub fn position(out: &mut Vec<u8>, topic: &str, origin: Origin) {
    out.extend_from_slice(topic.as_bytes());
    out.push(b'/');
    out.extend_from_slice(itoa::Buffer::new().format(origin.partition).as_bytes());
    out.push(b'@');
    out.extend_from_slice(itoa::Buffer::new().format(origin.offset).as_bytes());
}

/// The shortest decimal that reads back as the same `f32`; `null` where JSON has no such number.
fn number(out: &mut Vec<u8>, value: f32) {
    if value.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

fn escape(out: &mut Vec<u8>, text: &str) {
    let plain = text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
    if plain {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        out.extend_from_slice(quoted(text).as_bytes());
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::TopicIndex;
    use sandpiper_sandbox::wit::latest::Column;

    const ORIGIN: Origin = Origin { topic: TopicIndex::FIRST, partition: 3, offset: 1842 };

    fn signature() -> Signature {
        let column = |name: &str, kind| Column { name: name.into(), kind };
        Signature {
            columns: vec![
                column("size", Kind::Number),
                column("hue", Kind::Category(vec!["red".into(), "b\"lue".into()])),
            ],
            classes: vec!["cat".into(), "d\\og".into()],
        }
    }

    fn write(min_confidence: f32, stamped: bool, id: &str, scores: [f32; 2], features: [f32; 2]) -> String {
        let mut out = Vec::new();
        writer(Role::Champion, min_confidence, stamped).write(
            &mut out,
            id,
            &Answer { label: 1, scores: &scores, features: &features },
            None,
            "pets",
            ORIGIN,
        );
        String::from_utf8(out).unwrap()
    }

    fn writer(role: Role, min_confidence: f32, stamped: bool) -> Writer {
        let release = Digest::of(role.name().as_bytes());
        Writer::new(&signature(), min_confidence, &Arm { role, revision: Revision::new(17).unwrap(), release, stamped })
    }

    #[test]
    fn a_prediction_of_two_arms_holds_both_answers_and_says_whose_counts() {
        let (champion, challenger) = (writer(Role::Champion, 0.0, true), writer(Role::Challenger, 0.0, true));
        let cat = Answer { label: 0, scores: &[0.75, 0.25], features: &[1.0, 0.0] };
        let dog = Answer { label: 1, scores: &[0.5, 0.5], features: &[1.0, 0.0] };
        let mut shadow = Vec::new();
        champion.write(&mut shadow, "a", &cat, Some((&challenger, &dog)), "pets", ORIGIN);
        let mut canary = Vec::new();
        challenger.write(&mut canary, "a", &dog, Some((&champion, &cat)), "pets", ORIGIN);
        let (shadow, canary): (serde_json::Value, serde_json::Value) =
            (serde_json::from_slice(&shadow).unwrap(), serde_json::from_slice(&canary).unwrap());
        let releases = [Digest::of(b"champion").short(), Digest::of(b"challenger").short()];
        assert_eq!(
            (&shadow["class"], &shadow["role"], shadow["release"].as_str().unwrap()),
            (&"cat".into(), &"champion".into(), releases[0].as_str())
        );
        assert_eq!(
            shadow["challenger"],
            serde_json::json!({ "class": "d\\og", "confidence": 0.5, "probabilities": { "cat": 0.5, "d\\og": 0.5 }, "release": releases[1] })
        );
        assert_eq!(
            (&canary["class"], &canary["role"], canary["release"].as_str().unwrap()),
            (&"d\\og".into(), &"challenger".into(), releases[1].as_str())
        );
        assert_eq!(
            canary["champion"],
            serde_json::json!({ "class": "cat", "confidence": 0.75, "probabilities": { "cat": 0.75, "d\\og": 0.25 }, "release": releases[0] })
        );
        assert!(shadow.get("champion").is_none() && canary.get("challenger").is_none());
    }

    #[test]
    fn a_prediction_reads_as_documented() {
        assert_eq!(
            write(0.5, true, "a", [0.25, 0.75], [1.5, 1.0]).replace(&Digest::of(b"champion").short(), "REL"),
            r#"{"id":"a","class":"d\\og","decision":"accept","confidence":0.75,"probabilities":{"cat":0.25,"d\\og":0.75},"features":{"size":1.5,"hue":"b\"lue"},"origin":"pets/3@1842","revision":17,"role":"champion","release":"REL"}"#
        );
    }

    #[test]
    fn a_low_confidence_asks_for_review_and_a_missing_feature_is_null() {
        let value: serde_json::Value =
            serde_json::from_str(&write(0.8, false, "x\n\"", [0.25, 0.75], [f32::NAN, f32::NAN])).unwrap();
        assert_eq!(value["decision"], "review");
        assert_eq!(value["id"], "x\n\"");
        assert!(value["features"]["size"].is_null() && value["features"]["hue"].is_null());
        assert!(value.get("origin").is_none() && value.get("revision").is_none());
    }

    #[test]
    fn an_answer_stands_before_its_prediction_or_in_its_place() {
        let plain = write(0.5, true, "a", [0.25, 0.75], [1.5, 1.0]);
        for (with_prediction, expected) in [(false, ""), (true, plain.as_str())] {
            let mut writer = writer(Role::Champion, 0.5, true);
            assert_eq!(writer.answer_first(with_prediction), ["cat", "d\\og"]);
            let mut out = Vec::new();
            let answer = Answer { label: 1, scores: &[0.25, 0.75], features: &[1.5, 1.0] };
            writer.write(&mut out, "a", &answer, None, "pets", ORIGIN);
            let given = Answered::read(&out).unwrap();
            assert_eq!((given.label, given.confidence, given.id), (1, 0.75, "a"));
            assert_eq!(std::str::from_utf8(given.prediction).unwrap(), expected);
            assert_eq!(Answered::read(&out[..16]), None, "the id is cut off");
        }
    }
}
