use sandpiper_sdk::{OpenParser, Parsed};

use super::*;

const CONFIG: &str = r#"{"columns": {
    "a": "/a",
    "deep": {"pointer": "/b/1/c~1d", "required": true},
    "colour": {"pointer": "/colour", "categories": ["red", "green"]}
}}"#;

fn parse(config: &str, document: &[u8]) -> Parsed {
    let mut json = OpenParser::<Json>::open(config).unwrap();
    json.parse(document, &[0, document.len() as u32]).unwrap()
}

fn cells(document: &str) -> Vec<f32> {
    let parsed = parse(CONFIG, document.as_bytes());
    assert_eq!(parsed.rejected, [], "{document}");
    parsed.values
}

fn refused(document: &[u8]) -> (String, String) {
    let rejection = parse(CONFIG, document).rejected.pop().unwrap();
    (rejection.code, rejection.message)
}

fn open_error(config: &str) -> String {
    OpenParser::<Json>::open(config).err().unwrap()
}

#[test]
fn values_are_read_at_their_pointers_in_the_order_of_the_configuration() {
    let document = r#" {"x": [{"a": 9}], "colour": "green", "b": [0, {"c/d": -2}, {}], "a": 1.5} "#;
    assert_eq!(cells(document), [1.5, -2.0, 1.0]);
    let names: Vec<String> =
        OpenParser::<Json>::open(CONFIG).unwrap().columns().iter().map(|column| column.name.clone()).collect();
    assert_eq!(names, ["a", "deep", "colour"]);
}

#[test]
fn keys_are_found_in_any_order_and_told_apart_to_the_last_byte() {
    let config = r#"{"columns": {"a": "/sepal_length", "b": "/sepal_lengtj", "c": "/sepal_len"}}"#;
    for document in [
        r#"{"sepal_length": 1, "sepal_lengtj": 2, "sepal_len": 3}"#,
        r#"{"sepal_len": 3, "sepal_le": 8, "sepal_lengtj": 2, "sepal_length": 1, "sepal_lengths": 9}"#,
        r#"{"sepal_lengtj": 2, "sepal_length": 7, "sepal_len": 3, "sepal_length": 1}"#,
    ] {
        assert_eq!(parse(config, document.as_bytes()).values, [1.0, 2.0, 3.0], "{document}");
    }
}

#[test]
fn columns_may_be_listed_in_an_array() {
    let array = r#"{"columns": [{"name": "z", "pointer": ""}]}"#;
    assert_eq!(parse(array, b"7").values, [7.0]);
    let error = open_error(r#"{"columns": [{"name": "z", "pointr": ""}]}"#);
    assert!(error.contains("pointr"), "{error}");
}

#[test]
fn an_absent_or_null_value_is_missing() {
    let absent = cells(r#"{"b": [null, {"c/d": 3}], "colour": null}"#);
    assert!(absent[0].is_nan() && absent[2].is_nan());
    let other_shape = cells(r#"{"b": {"1": {"c/d": 3}}}"#);
    assert_eq!(other_shape[1], 3.0);
}

#[test]
fn a_required_value_that_is_absent_or_null_is_missing() {
    for document in [r#"{"a": 1}"#, r#"{"b": [0, {"c/d": null}]}"#, r#"{"b": 1}"#, "3"] {
        let (code, message) = refused(document.as_bytes());
        assert_eq!(code, "missing", "{document}");
        assert!(message.contains("`deep`"), "{message}");
    }
}

#[test]
fn the_last_of_equal_keys_counts_at_every_level() {
    assert_eq!(cells(r#"{"a": 1, "a": 2, "b": [0, {"c/d": 3}]}"#)[0], 2.0);
    assert!(cells(r#"{"a": 1, "a": null, "b": [0, {"c/d": 3}]}"#)[0].is_nan());
    assert_eq!(cells(r#"{"a": "abc", "a": 1, "b": [0, {"c/d": 3}]}"#)[0], 1.0);
    assert_eq!(cells(r#"{"b": [0, {"c/d": "x"}], "b": [0, {"c/d": 4}]}"#)[1], 4.0);
    for overruled in ["null", "{}", "[0]", "7"] {
        let (code, _) = refused(format!(r#"{{"b": [0, {{"c/d": 3}}], "b": {overruled}}}"#).as_bytes());
        assert_eq!(code, "missing", "{overruled}");
    }
    let (_, message) = refused(br#"{"a": "x", "colour": "y", "a": 1, "b": [0, {"c/d": 3}]}"#);
    assert!(message.contains("`colour`"), "what is not overruled is still refused: {message}");
}

#[test]
fn a_field_that_no_column_reads_may_hold_anything() {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for other in [r#""\ud800""#, "1e400", &deep, r#"{"\ud800": 1}"#] {
        let document = format!(r#"{{"z": {other}, "a": 1, "b": [{other}, {{"y": {other}, "c/d": 2}}]}}"#);
        assert_eq!(cells(&document)[..2], [1.0, 2.0], "{document}");
    }
}

#[test]
fn what_is_no_finite_number_is_not_a_number() {
    for value in [r#""1""#, "true", "[1]", "{}", "1e39", "1e400", "-1e999"] {
        let (code, message) = refused(format!(r#"{{"a": {value}}}"#).as_bytes());
        assert_eq!(code, "not-a-number", "{value}");
        assert!(message.contains("`a`"), "{message}");
    }
}

#[test]
fn a_category_that_is_not_listed_is_unknown_category() {
    for value in [r#""blue""#, "1", "false", "[]"] {
        let document = format!(r#"{{"colour": {value}}}"#);
        assert_eq!(refused(document.as_bytes()).0, "unknown-category", "{value}");
    }
}

#[test]
fn a_document_that_is_broken_anywhere_is_invalid_json() {
    for document in ["", "{", r#"{"a": 1} x"#, r#"{"a": "x", "z": nope}"#, r#"{"a": 1e999, x}"#, "1e999 1"] {
        assert_eq!(refused(document.as_bytes()).0, "invalid-json", "{document}");
    }
}

#[test]
fn a_number_beyond_f64_where_no_column_points_is_nobodys_business() {
    let document = r#"{"z": 1e400, "b": [1e400, {"c/d": 2, "e": -1e400}], "a": 1.5, "colour": "red"}"#;
    assert_eq!(cells(document), [1.5, 2.0, 0.0]);
    assert_eq!(refused(br#"{"b": 1e400}"#).0, "missing");
    assert_eq!(refused(br#"{"colour": 1e400, "b": [0, {"c/d": 2}]}"#).0, "unknown-category");
}

#[test]
fn what_does_not_count_may_hold_what_no_text_can() {
    for other in [r#""\ud800""#, r#"{"\ud800": 1}"#, r#"[{"\udc00": "\ud800"}]"#, "1e400"] {
        for document in [
            format!(r#"{{"a": {other}, "b": [0, {{"c/d": {other}, "c/d": 2}}], "a": 1.5, "colour": "red"}}"#),
            format!(
                r#"{{"b": [0, {{"c/d": {other}}}], "b": [0, {{"c/d": 2}}], "colour": "red", "a": {other}, "a": 1.5}}"#
            ),
        ] {
            assert_eq!(cells(&document), [1.5, 2.0, 0.0], "{document}");
        }
        let gone = format!(r#"{{"a": 7, "a": {other}, "a": null, "b": [0, {{"c/d": 2}}]}}"#);
        assert!(cells(&gone)[0].is_nan(), "{gone}");
    }
}

#[test]
fn what_counts_is_judged_by_what_it_is() {
    for (value, code) in [
        (r#""\ud800""#, "invalid-json"),
        (r#"{"\ud800": 1}"#, "not-a-number"),
        (r#"[{"\ud800": 1}]"#, "not-a-number"),
        ("1e400", "not-a-number"),
    ] {
        assert_eq!(refused(format!(r#"{{"a": 1, "a": {value}}}"#).as_bytes()).0, code, "{value}");
    }
    let (_, message) = refused(br#"{"colour": 1e400, "a": "x", "colour": "y", "b": 1e400}"#);
    assert!(message.contains("`a`"), "in the order of the document: {message}");
}

#[test]
fn a_mark_at_the_beginning_is_named() {
    for (document, code, words) in [
        (&b"\xef\xbb\xbf{}"[..], "invalid-json", "BOM"),
        (b"\0\0\0\x01\0{}", "invalid-json", "schema id 256"),
        (b"\x1f\x8b\x08", "invalid-utf8", "gzip"),
    ] {
        let (found, message) = refused(document);
        assert_eq!(found, code);
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn bytes_that_are_no_utf8_are_invalid_utf8() {
    assert_eq!(refused(b"{\"z\": \"\xff\"}").0, "invalid-utf8");
}

#[test]
fn a_configuration_that_does_not_fit_is_refused_with_the_key() {
    assert!(open_error(r#"{"columns": {}}"#).contains("`columns`"));
    assert!(open_error(r#"{"columns": {"a": "/a"}, "colums": 1}"#).contains("colums"));
    assert!(open_error(r#"{"columns": {"a": "a"}}"#).contains("begin with `/`"));
    assert!(open_error(r#"{"columns": {"a": "/a", "a": "/b"}}"#).contains("twice"));
    assert!(open_error(r#"{"columns": {"a": "/a", "b": "/a"}}"#).contains("another column"));
    assert!(open_error(r#"{"columns": {"a": "/a", "b": "/a/b"}}"#).contains("another column"));
    assert!(open_error(r#"{"columns": {"a": "/a/b", "b": "/a"}}"#).contains("another column"));
    let optional = r#"{"columns": {"a": {"pointer": "/a", "optional": true}}}"#;
    assert!(open_error(optional).contains("optional"));
    let empty = r#"{"columns": {"a": {"pointer": "/a", "categories": []}}}"#;
    assert!(open_error(empty).contains("`categories`"));
}
