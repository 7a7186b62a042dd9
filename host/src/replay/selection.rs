//! Which dead letters are meant.

use serde::{Deserialize, Serialize};

use super::letter::{Letter, place_of};

/// What is absent selects nothing away.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `csv@0c1d…`, or `csv` for all its releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Range>,
    /// Written at or after, milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
}

/// Offsets of one partition of the dead-letter topic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    pub partition: i32,
    pub from: i64,
    /// The first that is not meant.
    pub to: i64,
}

impl std::str::FromStr for Range {
    type Err = String;

    /// `3@1842` is one letter, `3@1800..1900` a hundred.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no place: write PARTITION@OFFSET or PARTITION@FROM..TO, such as 3@1842");
        let (start, to) = text.split_once("..").map_or((text, None), |(start, to)| (start, Some(to)));
        let (partition, from) = place_of(start).ok_or_else(wrong)?;
        let to = to.map_or(Ok(from + 1), |to| to.parse().map_err(|_| wrong()))?;
        if to <= from {
            return Err(wrong());
        }
        Ok(Self { partition, from, to })
    }
}

impl Selection {
    pub fn takes(&self, letter: &Letter) -> bool {
        let facts = &letter.facts;
        let release = |wanted: &String| {
            let label = facts.release.as_deref().unwrap_or_default();
            label == wanted || label.split('@').next() == Some(wanted)
        };
        let (partition, offset) = letter.at;
        self.stage.as_ref().is_none_or(|stage| *stage == facts.stage)
            && self.reason.as_ref().is_none_or(|reason| *reason == facts.reason)
            && self.release.as_ref().is_none_or(release)
            && self.at.is_none_or(|at| at.partition == partition && (at.from..at.to).contains(&offset))
            && self.since.is_none_or(|since| facts.time >= since)
    }
}

#[cfg(test)]
mod tests {
    use super::super::letter::{Found, tests::written};
    use super::*;

    #[test]
    fn places_read_as_documented() {
        assert_eq!("3@1842".parse(), Ok(Range { partition: 3, from: 1_842, to: 1_843 }));
        assert_eq!("0@5..9".parse(), Ok(Range { partition: 0, from: 5, to: 9 }));
        for wrong in ["", "3", "3@", "@4", "3@x", "3@5..5", "3@5..4", "3@5.."] {
            assert!(wrong.parse::<Range>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn each_key_selects() {
        let Found::Letter(letter) = Found::read((3, 9), None, None, &written(Vec::new(), "parse")) else { panic!() };
        let takes = |json: serde_json::Value| serde_json::from_value::<Selection>(json).unwrap().takes(&letter);
        for (key, right, wrong) in [
            ("stage", serde_json::json!("parse"), serde_json::json!("classify")),
            ("reason", "bad-number".into(), "bad".into()),
            ("release", "csv@0c1d".into(), "csv@0c1".into()),
            ("release", "csv".into(), "cs".into()),
            ("since", 99.into(), 100.into()),
            (
                "at",
                serde_json::json!({"partition": 3, "from": 9, "to": 10}),
                serde_json::json!({"partition": 3, "from": 8, "to": 9}),
            ),
        ] {
            assert!(takes(serde_json::json!({ key: right })), "{key} {right}");
            assert!(!takes(serde_json::json!({ key: wrong })), "{key} {wrong}");
        }
        assert!(takes(serde_json::json!({})));
    }
}
