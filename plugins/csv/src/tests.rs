use sandpiper_sdk::{OpenParser, Parsed};

use super::*;

const TWO: &str = r#"{"columns": ["a", {"name": "b", "categories": ["red", "green, dark"]}]}"#;

fn open(config: &str) -> OpenParser<Csv> {
    OpenParser::open(config).unwrap()
}

fn parse(config: &str, line: &[u8]) -> Parsed {
    open(config).parse(line, &[0, line.len() as u32]).unwrap()
}

/// The cells of a line that parses.
fn cells(config: &str, line: &str) -> Vec<f32> {
    let parsed = parse(config, line.as_bytes());
    assert_eq!(parsed.rejected, [], "{line:?}");
    parsed.values
}

/// The code and message of a line that does not.
fn refused(config: &str, line: &[u8]) -> (String, String) {
    let rejection = parse(config, line).rejected.pop().unwrap();
    (rejection.code, rejection.message)
}

fn open_error(config: &str) -> String {
    OpenParser::<Csv>::open(config).err().unwrap()
}

#[test]
fn numbers_and_categories_become_cells() {
    assert_eq!(cells(TWO, "5.1,red"), [5.1, 0.0]);
    assert_eq!(cells(TWO, " -1e3 ,red"), [-1000.0, 0.0]);
}

#[test]
fn every_way_to_write_a_number_gives_the_nearest_float() {
    let numbers = r#"{"columns": ["a"]}"#;
    for text in [
        "0",
        "-0",
        "7",
        "-7.25",
        "0.1",
        ".5",
        "5.",
        "1234567",
        "12345678",
        "0.1234567",
        "0.12345678",
        "16777217",
        "3.4028235e38",
        "1e-45",
        "+1.5",
        "00012",
        "9.999999",
        "0.000000123",
        "123456789012345678901234567890",
    ] {
        let expected: f32 = text.parse().unwrap();
        assert_eq!(cells(numbers, text)[0].to_bits(), expected.to_bits(), "{text}");
    }
    for text in [".", "-", "1.2.3", "--1", "1-", "1e"] {
        assert_eq!(refused(numbers, text.as_bytes()).0, "not-a-number", "{text}");
    }
}

#[test]
fn a_quoted_cell_may_hold_the_delimiter_and_quotes() {
    assert_eq!(cells(TWO, r#"5,"green, dark""#), [5.0, 1.0]);
    assert_eq!(cells(TWO, r#""5","red""#), [5.0, 0.0]);
    let quotes = r#"{"columns": [{"name": "b", "categories": ["a \"b\""]}]}"#;
    assert_eq!(cells(quotes, r#""a ""b""""#), [0.0]);
}

#[test]
fn a_line_break_at_the_end_is_fine() {
    assert_eq!(cells(TWO, "1,red\n"), [1.0, 0.0]);
    assert_eq!(cells(TWO, "1,red\r\n"), [1.0, 0.0]);
    assert_eq!(cells(TWO, "\"1\",red\r\n"), [1.0, 0.0]);
    let numbers = r#"{"columns": ["a", "b"]}"#;
    assert_eq!(cells(numbers, "1,2\r\n"), [1.0, 2.0]);
}

#[test]
fn a_cell_listed_as_missing_is_nan() {
    let empty = cells(TWO, ",");
    assert!(empty.iter().all(|cell| cell.is_nan()));
    let sentinel = r#"{"columns": ["a", "b"], "missing": ["-999", "NA"]}"#;
    let cells = cells(sentinel, "-999,NA");
    assert!(cells.iter().all(|cell| cell.is_nan()));
    assert_eq!(refused(sentinel, b"1,").0, "not-a-number");
}

#[test]
fn another_delimiter_is_obeyed() {
    let tabs = r#"{"columns": ["a", "b"], "delimiter": "\t"}"#;
    assert_eq!(cells(tabs, "1\t2"), [1.0, 2.0]);
    assert_eq!(refused(tabs, b"1,2").0, "not-a-number");
}

#[test]
fn too_few_and_too_many_columns_are_column_count() {
    for (line, message) in [
        (&b"5"[..], "the line has 1 columns instead of 2"),
        (b"5,red,", "the line has more than 2 columns"),
        (b"\"5\"", "the line has 1 columns instead of 2"),
        (b"\"5\",red,7,8", "the line has more than 2 columns"),
        (b"\"5\",red\n6,red", "the record holds more than one line"),
    ] {
        assert_eq!(refused(TWO, line), ("column-count".to_owned(), message.to_owned()));
    }
}

#[test]
fn a_quote_that_is_not_closed_is_refused() {
    for line in ["1,\"red", "\"1,red", "\"1\",\"red\"\"", "1,\"red\n", "1,\"", "\"1\",red,7,\"x"] {
        let (code, message) = refused(TWO, line.as_bytes());
        let expected = if line.ends_with("x") { "column-count" } else { "unclosed-quote" };
        assert_eq!(code, expected, "{line:?}: {message}");
    }
    assert_eq!(cells(TWO, "\"1\",\"green, dark\""), [1.0, 1.0]);
    assert_eq!(cells(TWO, "1,\"red\"\r\n"), [1.0, 0.0]);
}

#[test]
fn a_mark_at_the_beginning_is_named() {
    for (line, words) in [(&b"\xef\xbb\xbf1,red"[..], "BOM"), (b"\0\0\0\0\x071,red", "schema id 7")] {
        let (code, message) = refused(TWO, line);
        assert_eq!(code, "not-a-number");
        assert!(message.contains(words) && message.contains("column `a`"), "{message}");
    }
}

#[test]
fn what_is_no_finite_number_is_not_a_number() {
    for line in ["x,red", "inf,red", "NaN,red", "1e39,red", "1 2,red", "0x1,red", "\"x\",red"] {
        let (code, message) = refused(TWO, line.as_bytes());
        assert_eq!(code, "not-a-number", "{line}");
        assert!(message.contains("column `a`"), "{message}");
    }
}

#[test]
fn a_category_that_is_not_listed_is_unknown_category() {
    assert_eq!(refused(TWO, b"1,blue").0, "unknown-category");
    assert_eq!(refused(TWO, b"1, red").0, "unknown-category");
}

#[test]
fn bytes_that_are_no_utf8_are_invalid_utf8() {
    assert_eq!(refused(TWO, b"\xff,red").0, "invalid-utf8");
    assert_eq!(refused(TWO, b"1,\xff").0, "invalid-utf8");
}

#[test]
fn a_record_without_a_line_is_empty() {
    assert_eq!(refused(TWO, b"").0, "empty");
    assert_eq!(refused(TWO, b"\r\n").0, "empty");
}

#[test]
fn a_bad_row_leaves_its_neighbours_alone() {
    let parsed = open(TWO).parse(b"1,redx2,red", &[0, 5, 6, 11]).unwrap();
    assert_eq!(parsed.rejected.len(), 1);
    assert_eq!(parsed.rejected[0].row, 1);
    assert_eq!((parsed.values[0], parsed.values[4]), (1.0, 2.0));
}

#[test]
fn a_configuration_that_does_not_fit_is_refused_with_the_key() {
    assert!(open_error(r#"{"columns": []}"#).contains("`columns`"));
    assert!(open_error(r#"{"columns": ["a", "a"]}"#).contains("`a` twice"));
    assert!(open_error(r#"{"columns": ["a"], "delimiter": "\""}"#).contains("`delimiter`"));
    assert!(open_error(r#"{"columns": ["a"], "delimiter": "é"}"#).contains("`delimiter`"));
    let misspelt = r#"{"columns": [{"name": "a", "category": ["b"]}]}"#;
    assert!(open_error(misspelt).contains("`columns[0].category`"));
    assert!(open_error(r#"{"columns": ["a"], "delimter": ";"}"#).contains("`delimter`"));
    let empty = r#"{"columns": [{"name": "a", "categories": []}]}"#;
    assert!(open_error(empty).contains("`categories`"));
}
