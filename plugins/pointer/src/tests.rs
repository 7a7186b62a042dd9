use std::borrow::Cow;

use super::*;

fn at<'a>(pointer: &str, document: &'a str) -> Option<Value<'a>> {
    Pointer::new(pointer).unwrap().value(document).unwrap()
}

fn number(text: &str) -> Option<Value<'_>> {
    Some(Value::Number(text))
}

fn text(text: &str) -> Option<Value<'_>> {
    Some(Value::Text(Cow::Borrowed(text)))
}

#[test]
fn a_value_is_found_under_keys_and_indices() {
    let document = r#" {"x": [{"a": 9}], "b": [0, {"c/d": -2, "m~n": "two"}, {}], "": true, "n": null} "#;
    assert_eq!(at("/b/1/c~1d", document), number("-2"));
    assert_eq!(at("/b/1/m~0n", document), text("two"));
    assert_eq!(at("/", document), Some(Value::Bool(true)));
    assert_eq!(at("/n", document), Some(Value::Null));
    assert_eq!(at("/b", document), Some(Value::Compound));
    assert_eq!(at("", " 7 "), number("7"));
    for nothing in ["/b/3", "/b/01", "/b/+1", "/b/-", "/x/a", "/n/a", "/b/0/a", "/y"] {
        assert_eq!(at(nothing, document), None, "{nothing}");
    }
    assert_eq!(at("/1/a", r#"{"1": {"a": 5}}"#), number("5"), "an index is a key in an object");
    assert_eq!(at("/01", r#"{"01": 5}"#), number("5"));
}

#[test]
fn a_number_keeps_its_own_text() {
    for own in
        ["1.10", "1e2", "1E+2", "-0", "-0.0", "0.1000", "9007199254740993", "123456789012345678901234567890", "1e400"]
    {
        assert_eq!(at("/id", &format!(r#"{{"id":{own}}}"#)), number(own));
        assert_eq!(at("", own), number(own));
    }
}

#[test]
fn a_text_is_read_with_its_escapes() {
    assert_eq!(at("/a", r#"{"a": "\u00e9\ud83d\ude00\n\"\\"}"#), text("é😀\n\"\\"));
    assert_eq!(at("/é", r#"{"\u00e9": 1}"#), number("1"), "a key too");
}

#[test]
fn what_stands_elsewhere_is_nobodys_business() {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for other in [r#""\ud800""#, "1e400", &deep, r#"{"\udc00": {"a": 1}}"#] {
        for document in [
            format!(r#"{{"x": {other}, "a": {{"b": 1.10}}}}"#),
            format!(r#"{{"a": {{"b": 1.10, "x": {other}}}, "y": {other}}}"#),
            format!(r#"{{"a": {other}, "a": {{"b": 1.10}}}}"#),
            format!(r#"{{"a": {{"b": {other}, "b": 1.10}}}}"#),
        ] {
            assert_eq!(at("/a/b", &document), number("1.10"), "{document}");
        }
        assert_eq!(at("/a/b", &format!(r#"{{"a": {other}}}"#)), None, "{other}");
    }
    assert_eq!(at("/a", r#"{"\ud800": 2, "a": 1}"#), number("1"), "nor another's key");
}

#[test]
fn of_equal_keys_the_last_counts_at_every_level() {
    for (document, last) in [
        (r#"{"s":{"b":5},"s":{"b":6}}"#, number("6")),
        (r#"{"s":{"b":5,"b":"x"}}"#, text("x")),
        (r#"{"s":{"b":5},"s":null}"#, None),
        (r#"{"s":{"b":5},"s":"b"}"#, None),
        (r#"{"s":{"b":5},"s":{}}"#, None),
        (r#"{"s":{"b":5},"s":[1]}"#, None),
        (r#"{"s":{"b":5},"s":{},"s":{"b":7}}"#, number("7")),
        (r#"{"s":null,"s":{"b":5}}"#, number("5")),
    ] {
        assert_eq!(at("/s/b", document), last, "{document}");
    }
    assert_eq!(at("/a", r#"{"a":"abc","a":1}"#), number("1"));
    assert_eq!(at("/a/b/c", r#"{"a":{"b":{"c":1}},"a":{"b":2}}"#), None);
}

#[test]
fn a_document_that_is_broken_anywhere_is_no_json() {
    for document in ["", "{", r#"{"a": 1} x"#, r#"{"a": 1, "z": nope}"#, r#"{"a": {"b": 1} "z": 2}"#, r#"{"a": 01}"#] {
        for pointer in ["", "/a", "/a/b", "/q/r"] {
            let found = Pointer::new(pointer).unwrap().value(document);
            assert!(matches!(found, Err(Error::Document(_))), "{pointer} in {document}: {found:?}");
        }
    }
}

#[test]
fn a_text_with_half_of_a_pair_is_refused_where_it_is_asked_for() {
    let found = Pointer::new("/a").unwrap().value(r#"{"a": "\ud800"}"#);
    assert!(matches!(found, Err(Error::Text(_))), "{found:?}");
}

#[test]
fn text_that_is_no_pointer_is_refused() {
    for wrong in ["a", "a/b", "/~", "/~2", "/a~"] {
        assert!(Pointer::new(wrong).is_err(), "{wrong}");
    }
}

/// Every value that its pointer leads to: the last text, as it reads.
#[derive(Default)]
struct All<'a>([Option<&'a str>; 3]);

impl<'de> Reader<'de> for All<'de> {
    fn read<D: serde::Deserializer<'de>>(&mut self, number: usize, value: D) -> Result<(), D::Error> {
        use serde::Deserialize as _;
        self.0[number] = Some(<&serde_json::value::RawValue>::deserialize(value)?.get());
        Ok(())
    }

    fn forget(&mut self, number: usize) {
        self.0[number] = None;
    }
}

#[test]
fn one_walk_reads_for_many_pointers_and_forgets_what_is_overruled() {
    let mut pointers = Pointers::default();
    for (number, pointer) in ["/s/a", "/s/b/c", "/t"].into_iter().enumerate() {
        pointers.insert(pointer, number).unwrap();
    }
    let read = |document| {
        let mut all = All::default();
        walk(document, &pointers, &mut all).unwrap();
        all.0
    };
    assert_eq!(read(r#"{"s":{"a":1,"b":{"c":[2]}},"t":"x"}"#), [Some("1"), Some("[2]"), Some(r#""x""#)]);
    assert_eq!(read(r#"{"s":{"a":1,"b":{"c":2}},"t":3,"s":{"b":{"c":4}}}"#), [None, Some("4"), Some("3")]);
    assert_eq!(read(r#"{"s":{"a":1,"b":{"c":2},"b":5},"t":3}"#), [Some("1"), None, Some("3")]);
    for (pointer, why) in [("/s", "around"), ("/t/x", "into"), ("/t", "to")] {
        assert!(pointers.clone().insert(pointer, 3).is_err(), "{why}");
    }
}
