//! Which record an output was made of, and by which revision: its stamp, read back.

use std::borrow::Cow;

use serde::Deserialize;

use crate::record::{Headers, Revision};

/// The header of `[output] stamp = "header"`.
const HEADER: &str = "sandpiper";

/// A record's place in the input, and the revision that processed it.
#[derive(Debug, PartialEq)]
pub(super) struct Stamp<'a> {
    pub(super) topic: Cow<'a, str>,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) revision: Revision,
}

impl<'a> Stamp<'a> {
    /// In the JSON of a prediction.
    pub(super) fn in_value(value: &'a [u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Prediction<'a> {
            #[serde(borrow)]
            origin: Cow<'a, str>,
            revision: Revision,
        }
        let prediction: Prediction<'a> = serde_json::from_slice(value).ok()?;
        match prediction.origin {
            Cow::Borrowed(origin) => Self::of(origin, prediction.revision),
            Cow::Owned(origin) => Some(Stamp::of(&origin, prediction.revision)?.into_owned()),
        }
    }

    /// In the last header of that name: an earlier one is of the pipeline that wrote the input.
    pub(super) fn in_headers(headers: &'a Headers) -> Option<Self> {
        let (_, value) = headers.iter().rev().find(|(name, _)| name == HEADER)?;
        let mut words = std::str::from_utf8(value.as_deref()?).ok()?.split(' ');
        let (revision, _role, origin) = (words.next()?, words.next()?, words.next()?);
        Self::of(origin, revision.parse().ok()?)
    }

    /// `iris.measurements/3@1842`.
    fn of(origin: &'a str, revision: Revision) -> Option<Self> {
        let (topic, place) = origin.rsplit_once('/')?;
        let (partition, offset) = place.split_once('@')?;
        Some(Self {
            topic: Cow::Borrowed(topic),
            partition: partition.parse().ok()?,
            offset: offset.parse().ok()?,
            revision,
        })
    }

    fn into_owned(self) -> Stamp<'static> {
        Stamp { topic: Cow::Owned(self.topic.into_owned()), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(topic: &str) -> Stamp<'_> {
        Stamp { topic: Cow::Borrowed(topic), partition: 3, offset: 1842, revision: Revision::new(17).unwrap() }
    }

    #[test]
    fn a_predictions_stamp_is_read_from_its_json() {
        let value = r#"{"id":"a","features":{"origin":1},"origin":"iris.in/3@1842","revision":17,"role":"champion"}"#;
        assert_eq!(Stamp::in_value(value.as_bytes()), Some(stamp("iris.in")));
        let escaped = value.replace("iris.in", r"iris.\u0069n");
        assert_eq!(Stamp::in_value(escaped.as_bytes()), Some(stamp("iris.in")));
        for without in ["", "{}", "no JSON", r#"{"origin":"x","revision":1}"#, r#"{"origin":"a/1@2","revision":0}"#] {
            assert_eq!(Stamp::in_value(without.as_bytes()), None, "{without}");
        }
    }

    #[test]
    fn of_several_stamps_in_headers_the_last_is_ours() {
        let header = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
        let headers = vec![header("sandpiper", "9 champion first/0@1"), header("sandpiper", "17 challenger in/3@1842")];
        assert_eq!(Stamp::in_headers(&headers), Some(stamp("in")));
        for without in [vec![], vec![header("sandpiper", "17")], vec![header("other", "17 champion in/3@1842")]] {
            assert_eq!(Stamp::in_headers(&without), None, "{without:?}");
        }
    }
}
