//! The stock transform `route`: sends each record on, unchanged, to the output that a header or a
//! value inside it names.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests"))]

mod routes;

use sandpiper_pointer::{Pointer, Value};
use sandpiper_sdk::{Emitter, Record, Reject, Transform, export_transform, reject};
use serde::Deserialize;

use routes::Routes;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `header:NAME` or `json:/pointer`.
    by: String,
    /// The value that is found there → an output's name.
    routes: Routes,
    /// The output of every other record; without it, they are dropped.
    default: Option<String>,
}

pub struct Route {
    by: By,
    /// The value that is found → the index of an output.
    routes: Vec<(String, usize)>,
    default: Option<usize>,
    outputs: Vec<String>,
}

/// What a record is routed by.
enum By {
    Header(String),
    /// A JSON pointer (RFC 6901) into the value.
    Pointer(Pointer),
}

impl Transform for Route {
    type Config = Config;

    fn open(config: Config) -> Result<Self, String> {
        let by = match config.by.split_once(':') {
            Some(("header", name)) if !name.is_empty() => By::Header(name.to_owned()),
            Some(("json", pointer)) => By::Pointer(Pointer::new(pointer).map_err(|what| format!("`by`: {what}"))?),
            _ => {
                let by = config.by;
                return Err(format!("`by` is `{by}`, it must be `header:NAME` or `json:/pointer`"));
            }
        };
        if config.routes.0.is_empty() {
            return Err("`routes` must name at least one output".to_owned());
        }
        let mut outputs = Vec::new();
        Ok(Self {
            by,
            default: config.default.map(|name| index_of(name, &mut outputs)),
            routes: (config.routes.0.into_iter()).map(|(found, name)| (found, index_of(name, &mut outputs))).collect(),
            outputs,
        })
    }

    /// The default comes first, where there is one, then the others in the order of the text.
    fn outputs(&self) -> Vec<String> {
        self.outputs.clone()
    }

    fn transform(&mut self, record: &Record<'_>, out: &mut Emitter) -> Result<(), Reject> {
        let routed = match &self.by {
            By::Header(name) => {
                let value = record.header(name);
                value.and_then(|value| self.output_of(&value))
            }
            By::Pointer(_) if record.is_null() => None,
            By::Pointer(pointer) => {
                let invalid =
                    |why: &dyn std::fmt::Display| reject("invalid-json", format!("the record cannot be routed: {why}"));
                let document = str::from_utf8(record.value()).map_err(|error| invalid(&error))?;
                match pointer.value(document).map_err(|error| invalid(&error))? {
                    // As text reads, and a number or a truth value as it is written.
                    Some(Value::Text(text)) => self.output_of(text.as_bytes()),
                    Some(Value::Number(text)) => self.output_of(text.as_bytes()),
                    Some(Value::Bool(truth)) => self.output_of(if truth { b"true" } else { b"false" }),
                    Some(Value::Null | Value::Compound) | None => None,
                }
            }
        };
        if let Some(output) = routed.or(self.default) {
            match record.is_null() {
                true => out.emit_null(output),
                false => out.emit(output, record.value()),
            };
        }
        Ok(())
    }
}

impl Route {
    fn output_of(&self, value: &[u8]) -> Option<usize> {
        let route = self.routes.iter().find(|(found, _)| found.as_bytes() == value);
        route.map(|(_, output)| *output)
    }
}

/// The index of an output, which is added if it is not there yet.
fn index_of(name: String, outputs: &mut Vec<String>) -> usize {
    match outputs.iter().position(|output| *output == name) {
        Some(index) => index,
        None => {
            outputs.push(name);
            outputs.len() - 1
        }
    }
}

export_transform!(Route);

#[cfg(test)]
mod tests {
    use sandpiper_sdk::testing::{Context, set_context};
    use sandpiper_sdk::{OpenTransform, Transformed};

    use super::*;

    const BY_POINTER: &str = r#"{"by": "json:/kind", "default": "rest",
        "routes": {"order": "orders", "return": "orders", "7": "sevens", "true": "yes"}}"#;
    const BY_HEADER: &str = r#"{"by": "header:kind", "routes": {"order": "orders"}}"#;

    fn transform(config: &str, values: &[&str]) -> Transformed {
        let mut offsets = vec![0];
        let mut payload = Vec::new();
        for value in values {
            payload.extend_from_slice(value.as_bytes());
            offsets.push(payload.len() as u32);
        }
        let mut route = OpenTransform::<Route>::open(config).unwrap();
        route.transform(&payload, &offsets).unwrap()
    }

    fn outputs(transformed: &Transformed) -> Vec<(u32, usize)> {
        let emitted = transformed.emitted.iter();
        emitted.map(|emission| (emission.source_row(), emission.output())).collect()
    }

    fn header(kind: &str) -> Context {
        Context { headers: vec![("kind".to_owned(), kind.as_bytes().to_vec())], ..Context::default() }
    }

    #[test]
    fn the_outputs_are_the_default_and_then_the_routes() {
        let route = OpenTransform::<Route>::open(BY_POINTER).unwrap();
        assert_eq!(route.outputs(), ["rest", "orders", "sevens", "yes"]);
    }

    #[test]
    fn a_record_goes_unchanged_where_its_value_says() {
        let values = [
            r#"{"kind": "order" }"#,
            r#"{"kind": "return"}"#,
            r#"{"kind": 7}"#,
            r#"{"kind": true}"#,
            r#"{"kind": "else"}"#,
            r#"{"kind": null}"#,
            "[]",
        ];
        let answer = transform(BY_POINTER, &values);
        assert_eq!(outputs(&answer), [(0, 1), (1, 1), (2, 2), (3, 3), (4, 0), (5, 0), (6, 0)]);
        assert_eq!(answer.payload, values.concat().as_bytes());
    }

    #[test]
    fn a_number_is_routed_by_its_own_text_and_no_other_field_matters() {
        let config =
            r#"{"by": "json:/kind", "default": "rest", "routes": {"1.10": "ten", "1e2": "hundred", "1.1": "one"}}"#;
        let values = [
            r#"{"kind": 1.10}"#,
            r#"{"kind": 1e2}"#,
            r#"{"kind": 1.1, "z": 1e400}"#,
            r#"{"kind": 100}"#,
            r#"{"z": "\ud800", "kind": "x", "kind": 1.10}"#,
        ];
        assert_eq!(outputs(&transform(config, &values)), [(0, 1), (1, 2), (2, 3), (3, 0), (4, 1)]);
    }

    #[test]
    fn a_record_that_is_not_json_is_invalid_json_and_its_neighbours_go_on() {
        let answer = transform(BY_POINTER, &["{", "{}"]);
        assert_eq!(answer.rejected.len(), 1);
        assert_eq!((answer.rejected[0].row, answer.rejected[0].code.as_str()), (0, "invalid-json"));
        assert_eq!(outputs(&answer), [(1, 0)]);
    }

    #[test]
    fn a_record_goes_where_its_header_says_or_without_a_default_is_dropped() {
        set_context(vec![header("order"), header("else"), Context::default()]);
        let answer = transform(BY_HEADER, &["a", "b", "c"]);
        assert_eq!(outputs(&answer), [(0, 0)]);
        assert_eq!(answer.dropped, [1, 2]);
    }

    #[test]
    fn a_tombstone_stays_one_by_header_and_goes_to_the_default_by_pointer() {
        let null = Context { null: true, ..header("order") };
        set_context(vec![null.clone(), header("order")]);
        let answer = transform(BY_HEADER, &["", ""]);
        let nulls: Vec<bool> = answer.emitted.iter().map(|emission| emission.is_null()).collect();
        assert_eq!(nulls, [true, false]);

        set_context(vec![null]);
        let answer = transform(BY_POINTER, &[""]);
        assert_eq!(outputs(&answer), [(0, 0)]);
        assert!(answer.emitted[0].is_null());
    }

    #[test]
    fn a_configuration_that_does_not_fit_is_refused_with_the_key() {
        for (config, reason) in [
            (r#"{"by": "key", "routes": {"a": "b"}}"#, "`by` is `key`"),
            (r#"{"by": "header:", "routes": {"a": "b"}}"#, "`by`"),
            (r#"{"by": "json:kind", "routes": {"a": "b"}}"#, "`by`"),
            (r#"{"by": "header:k", "routes": {}}"#, "`routes`"),
            (r#"{"by": "header:k", "routes": {"a": "b", "a": "c"}}"#, "`a` twice"),
            (r#"{"by": "header:k", "routes": {"a": "b"}, "else": "c"}"#, "`else`"),
        ] {
            let error = OpenTransform::<Route>::open(config).err().unwrap();
            assert!(error.contains(reason), "{error}");
        }
    }
}
