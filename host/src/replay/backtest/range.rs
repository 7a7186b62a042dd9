//! Which part of the input is meant: by time or by offsets, as somebody writes it.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::unit;
use crate::kafka::reader::Bound;

/// One end of a range as it is written.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// All that is left.
    Earliest,
    /// As far as the topic goes now.
    Latest,
    /// Milliseconds since the Unix epoch.
    Time(i64),
    Offsets(Vec<Place>),
}

/// `iris.measurements/3@1842`, or without a topic where there is only one.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    topic: Option<String>,
    partition: i32,
    offset: i64,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no place: write [TOPIC/]PARTITION@OFFSET, such as 3@1842");
        let (topic, place) = text.rsplit_once('/').map_or((None, text), |(topic, place)| (Some(topic), place));
        let (partition, offset) = place.split_once('@').ok_or_else(wrong)?;
        let partition = partition.parse().ok().filter(|partition| *partition >= 0).ok_or_else(wrong)?;
        let offset = offset.parse().ok().filter(|offset| *offset >= 0).ok_or_else(wrong)?;
        if topic.is_some_and(str::is_empty) {
            return Err(wrong());
        }
        Ok(Self { topic: topic.map(str::to_owned), partition, offset })
    }
}

impl FromStr for End {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => return Ok(Self::Earliest),
            "latest" => return Ok(Self::Latest),
            _ if text.contains('@') => {
                return text.split(',').map(|place| place.trim().parse()).collect::<Result<_, _>>().map(Self::Offsets);
            }
            _ => {}
        }
        let now = SystemTime::now();
        let time = match unit::duration(text) {
            Ok(ago) => now.checked_sub(ago),
            Err(_) => humantime::parse_rfc3339_weak(text)
                .or_else(|_| humantime::parse_rfc3339_weak(&format!("{text} 00:00:00")))
                .ok(),
        };
        let since_epoch = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let millis = since_epoch.and_then(|time| i64::try_from(time.as_millis()).ok());
        millis.map(Self::Time).ok_or_else(|| {
            format!(
                "{text:?} is no end of a range: write a time such as 2026-05-01T09:00:00Z or 2h (ago), offsets such as \
                 0@1842,1@1790, earliest or latest"
            )
        })
    }
}

/// Where a range begins and ends in one topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub topic: String,
    pub from: Bound,
    pub to: Bound,
}

/// The parts of a range in those topics.
///
/// # Errors
/// When the two ends do not fit each other or the topics.
pub fn parts(topics: &[String], from: &End, to: &End) -> Result<Vec<Part>, String> {
    if let (End::Time(from), End::Time(to)) = (from, to)
        && to <= from
    {
        return Err("the range ends before it begins: --to is a later time than --from".into());
    }
    let (starts, ends) = match (from, to) {
        (End::Latest, _) => return Err("--from latest leaves nothing to read: write when the range begins".into()),
        (_, End::Earliest) => return Err("--to earliest leaves nothing to read: write where the range ends".into()),
        _ => (by_topic(topics, "--from", from)?, by_topic(topics, "--to", to)?),
    };
    let mut parts = Vec::new();
    for topic in topics {
        let (start, end) = (starts.get(topic).cloned().unwrap_or_default(), ends.get(topic).cloned());
        let from = match from {
            End::Offsets(_) if start.is_empty() => {
                if end.is_some() {
                    return Err(format!(
                        "--to names an offset of {topic}, and --from does not say where it begins there"
                    ));
                }
                continue;
            }
            End::Offsets(_) => Bound::Offsets(start),
            End::Time(time) => Bound::Time(*time),
            End::Earliest | End::Latest => Bound::Outermost,
        };
        let to = match to {
            End::Offsets(_) => end.map_or(Bound::Outermost, Bound::Offsets),
            End::Time(time) => Bound::Time(*time),
            End::Earliest | End::Latest => Bound::Outermost,
        };
        parts.push(Part { topic: topic.clone(), from, to });
    }
    Ok(parts)
}

/// Offsets by topic and partition.
fn by_topic(topics: &[String], flag: &str, end: &End) -> Result<BTreeMap<String, BTreeMap<i32, i64>>, String> {
    let End::Offsets(places) = end else { return Ok(BTreeMap::new()) };
    let mut found: BTreeMap<String, BTreeMap<i32, i64>> = BTreeMap::new();
    for Place { topic, partition, offset } in places {
        let topic = match (topic, topics) {
            (Some(topic), _) if topics.contains(topic) => topic,
            (Some(topic), _) => {
                return Err(format!("{flag} names topic {topic}, which is no input: there is {}", topics.join(", ")));
            }
            (None, [topic]) => topic,
            (None, _) => {
                return Err(format!(
                    "{flag} {partition}@{offset} does not say of which topic: write TOPIC/{partition}@{offset}; the inputs are {}",
                    topics.join(", ")
                ));
            }
        };
        if found.entry(topic.clone()).or_default().insert(*partition, *offset).is_some() {
            return Err(format!("{flag} names partition {partition} of {topic} twice"));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> End {
        text.parse().unwrap()
    }

    fn topics(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn ends_read_as_documented() {
        assert_eq!(end("earliest"), End::Earliest);
        for text in ["2026-05-01T09:00:00Z", "2026-05-01 09:00:00", "2026-05-01T09:00:00"] {
            assert_eq!(end(text), End::Time(1_777_626_000_000), "{text}");
        }
        assert_eq!(end("2026-05-01"), End::Time(1_777_593_600_000));
        let End::Time(ago) = end("2h") else { panic!() };
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
        assert!((now - 7_200_000 - ago).abs() < 60_000);
        let place = |topic: Option<&str>, partition, offset| Place { topic: topic.map(Into::into), partition, offset };
        assert_eq!(end("0@1842, in/1@1790"), End::Offsets(vec![place(None, 0, 1_842), place(Some("in"), 1, 1_790)]));
        for wrong in ["", "yesterday", "3@", "@4", "3@x", "-1@4", "3@-4", "/3@4", "3@4,", "12", "2h ago"] {
            assert!(wrong.parse::<End>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_range_of_offsets_reads_the_partitions_that_it_names_and_ends_where_it_says() {
        let read = parts(&topics(&["in"]), &end("0@5,2@7"), &end("0@9")).unwrap();
        let from = Bound::Offsets([(0, 5), (2, 7)].into());
        assert_eq!(read, [Part { topic: "in".into(), from, to: Bound::Offsets([(0, 9)].into()) }]);
        let read = parts(&topics(&["a", "b"]), &end("b/1@5"), &end("latest")).unwrap();
        assert_eq!(read.iter().map(|part| part.topic.as_str()).collect::<Vec<_>>(), ["b"]);
        let read = parts(&topics(&["a", "b"]), &end("2026-05-01"), &end("b/1@5")).unwrap();
        assert_eq!(
            read.iter().map(|part| part.to.clone()).collect::<Vec<_>>(),
            [Bound::Outermost, Bound::Offsets([(1, 5)].into())]
        );
    }

    #[test]
    fn ends_that_do_not_fit_are_refused_with_the_reason() {
        let refused = |names: &[&str], from: &str, to: &str| parts(&topics(names), &end(from), &end(to)).unwrap_err();
        assert!(refused(&["in"], "latest", "latest").contains("nothing to read"));
        assert!(refused(&["in"], "earliest", "earliest").contains("nothing to read"));
        assert!(refused(&["in"], "2026-05-02", "2026-05-01").contains("before it begins"));
        assert!(refused(&["in"], "out/0@1", "latest").contains("which is no input: there is in"));
        assert!(refused(&["a", "b"], "0@1", "latest").contains("write TOPIC/0@1; the inputs are a, b"));
        assert!(refused(&["in"], "0@1,0@2", "latest").contains("partition 0 of in twice"));
        assert!(refused(&["a", "b"], "a/0@1", "b/0@2").contains("--from does not say where it begins there"));
    }
}
