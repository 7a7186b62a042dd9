//! The join beside a reference of a few lines: what each record does, what is kept, and that an abort leaves no trace.

use super::join_api::{Arrival, Bounds, Join, Kind, Label, Moment, Prediction, Revision, Role};

/// Ids that are kept after a commit.
const KEPT: usize = 5;
const CLASSES: [&str; 2] = ["cat", "dog"];
const NOW: i64 = 1_700_000_000_000;

#[derive(Clone, Copy, PartialEq)]
enum Known {
    Predicted,
    Labelled(usize),
    Joined(usize),
}

/// Id, whether it was first met as a prediction, and what is known; in the order in which they came.
type Reference = Vec<(u8, bool, Known)>;

/// A record a byte, or the end of a transaction.
pub fn check(data: &[u8]) {
    let mut join = Join::new(Bounds { wait_ms: 1_000, entries: KEPT, bytes: usize::MAX });
    let (mut now, mut committed, mut committed_bytes) = (Reference::new(), Reference::new(), 0);
    for byte in data {
        let (id, class, moment) = (byte >> 5, usize::from(byte >> 3 & 3), Moment { record: Some(NOW), now: NOW });
        match byte & 7 {
            0..=2 => assert_eq!(name(&join.prediction(prediction(id), moment)), predict(&mut now, id)),
            3..=5 => {
                let label = Label { class: class_name(class).into(), source: String::new() };
                assert_eq!(name(&join.label(&id.to_string(), label, moment)), judge(&mut now, id, class));
            }
            // An unknown outcome is the one or the other, as the committed offsets say.
            6 => {
                let evicted = evict(&mut now);
                assert_eq!(join.commit().evicted, evicted);
                (committed, committed_bytes) = (now.clone(), join.bytes());
            }
            _ => {
                join.abort();
                now = committed.clone();
                assert_eq!(join.bytes(), committed_bytes, "an abort gives back what was taken");
            }
        }
        assert_eq!(join.len(), now.len());
        assert_eq!(join.bytes() == 0, now.is_empty());
    }
}

fn predict(known: &mut Reference, id: u8) -> &'static str {
    match known.iter_mut().find(|(other, ..)| *other == id) {
        None => {
            known.push((id, true, Known::Predicted));
            "held"
        }
        Some((.., state)) => match *state {
            Known::Labelled(class) if class < CLASSES.len() => {
                *state = Known::Joined(class);
                "joined"
            }
            Known::Labelled(_) => {
                *state = Known::Predicted;
                "unknown-class"
            }
            Known::Predicted | Known::Joined(_) => "repeated",
        },
    }
}

fn judge(known: &mut Reference, id: u8, class: usize) -> &'static str {
    match known.iter_mut().find(|(other, ..)| *other == id) {
        None => {
            known.push((id, false, Known::Labelled(class)));
            "held"
        }
        Some((.., state)) => match *state {
            Known::Predicted if class < CLASSES.len() => {
                *state = Known::Joined(class);
                "joined"
            }
            Known::Predicted => "unknown-class",
            Known::Labelled(before) | Known::Joined(before) if before == class => "duplicate",
            Known::Labelled(_) | Known::Joined(_) => "conflicting",
        },
    }
}

/// All are of one time, and then predictions go first.
fn evict(known: &mut Reference) -> u64 {
    let mut evicted = 0;
    while known.len() > KEPT {
        let first = known.iter().position(|(_, predicted, _)| *predicted).unwrap_or(0);
        evicted += u64::from(!matches!(known.remove(first).2, Known::Joined(_)));
    }
    evicted
}

fn name(arrival: &Arrival) -> &'static str {
    match arrival {
        Arrival::Held => "held",
        Arrival::Joined(joined) => {
            assert!((joined.truth as usize) < CLASSES.len());
            "joined"
        }
        Arrival::UnknownClass { .. } => Kind::UnknownClass.name(),
        Arrival::Counted(kind) => kind.name(),
    }
}

fn class_name(class: usize) -> &'static str {
    CLASSES.get(class).copied().unwrap_or(if class == 2 { "cow" } else { "owl" })
}

fn prediction(id: u8) -> Prediction {
    Prediction {
        id: id.to_string().into(),
        predicted: 0,
        scores: vec![1.0, 0.0],
        classes: CLASSES.map(str::to_owned).into(),
        revision: Revision::FIRST,
        origin: "in/0@1".into(),
        role: Role::Champion,
        release: None,
        other: None,
    }
}
