//! The stock parser `csv`: one line of CSV a record (RFC 4180), one cell a column.
//!
//! Allocates nothing for a good row. A row without quotes is read in one pass over its bytes; the
//! first quote hands the row to csv-core.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests"))]

use sandpiper_sdk::{Column, Parser, Record, Reject, Row, TextOr, export_parser, reject};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    columns: Vec<TextOr<Field>>,
    /// One ASCII character.
    #[serde(default = "comma")]
    delimiter: char,
    /// Cells that mean "missing".
    #[serde(default = "empty_cell")]
    missing: Vec<String>,
}

/// One column. Its name alone is a column of numbers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Field {
    name: String,
    /// None reads numbers.
    categories: Option<Vec<String>>,
}

fn comma() -> char {
    ','
}

fn empty_cell() -> Vec<String> {
    vec![String::new()]
}

pub struct Csv {
    fields: Vec<Field>,
    delimiter: u8,
    missing: Missing,
    quoted: Quoted,
}

/// The cells that mean "missing".
struct Missing {
    texts: Vec<Vec<u8>>,
    /// Whether one of them reads as a number, as -999 does.
    numbers: bool,
}

impl Parser for Csv {
    type Config = Config;

    fn open(config: Config) -> Result<Self, String> {
        let delimiter = u8::try_from(config.delimiter)
            .ok()
            .filter(|byte| byte.is_ascii() && !matches!(byte, b'"' | b'\r' | b'\n'))
            .ok_or("`delimiter` must be one ASCII character other than a quote or a line break")?;
        let fields: Vec<Field> = config.columns.into_iter().map(|column| column.0).collect();
        if fields.is_empty() {
            return Err("`columns` must name at least one column".to_owned());
        }
        for (index, field) in fields.iter().enumerate() {
            if fields.iter().take(index).any(|other| other.name == field.name) {
                return Err(format!("`columns` names `{}` twice", field.name));
            }
            if field.categories.as_ref().is_some_and(Vec::is_empty) {
                return Err(format!("column `{}`: `categories` must not be empty", field.name));
            }
        }
        Ok(Self {
            quoted: Quoted::new(delimiter, fields.len()),
            missing: Missing {
                numbers: config.missing.iter().any(|text| text.parse::<f32>().is_ok()),
                texts: config.missing.into_iter().map(String::into_bytes).collect(),
            },
            fields,
            delimiter,
        })
    }

    fn columns(&self) -> Vec<Column> {
        let column = |field: &Field| match &field.categories {
            None => Column::number(&field.name),
            Some(categories) => Column::category(&field.name, categories.clone()),
        };
        self.fields.iter().map(column).collect()
    }

    fn parse(&mut self, record: &Record<'_>, cells: &mut [f32]) -> Result<Row, Reject> {
        let line = record.value();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Err(reject("empty", "the record holds no line"));
        }
        let mut rest = Some(line);
        for (found, (field, cell)) in self.fields.iter().zip(cells.iter_mut()).enumerate() {
            let Some(text) = rest else {
                return Err(self.column_count(found));
            };
            if text.first() == Some(&b'"') {
                return self.parse_quoted(line, cells);
            }
            let (value, after) = field.read_next(text, self.delimiter, &self.missing)?;
            *cell = value;
            rest = after;
        }
        match rest {
            None => Ok(Row::Keep),
            Some(_) => Err(self.column_count(self.fields.len() + 1)),
        }
    }
}

impl Csv {
    fn parse_quoted(&mut self, line: &[u8], cells: &mut [f32]) -> Result<Row, Reject> {
        let found = self.quoted.read(line)?;
        if found != self.fields.len() {
            return Err(self.column_count(found));
        }
        for ((field, cell), text) in self.fields.iter().zip(cells).zip(self.quoted.cells()) {
            *cell = field.read(text, &self.missing)?;
        }
        Ok(Row::Keep)
    }

    /// `found` counts at most one surplus column.
    #[cold]
    fn column_count(&self, found: usize) -> Reject {
        let expected = self.fields.len();
        let message = match found > expected {
            true => format!("the line has more than {expected} columns"),
            false => format!("the line has {found} columns instead of {expected}"),
        };
        reject("column-count", message)
    }
}

impl From<String> for Field {
    fn from(name: String) -> Self {
        Self { name, categories: None }
    }
}

impl Field {
    /// Reads the cell that `text` begins with. Answers its value and what follows the delimiter,
    /// None when the line ends with the cell.
    #[inline]
    fn read_next<'a>(
        &self,
        text: &'a [u8],
        delimiter: u8,
        missing: &Missing,
    ) -> Result<(f32, Option<&'a [u8]>), Reject> {
        if self.categories.is_none()
            && !missing.numbers
            && let Some((value, after)) = short_decimal(text)
        {
            match after.split_first() {
                None => return Ok((value, None)),
                Some((byte, after)) if *byte == delimiter => return Ok((value, Some(after))),
                _ => {}
            }
        }
        let end = text.iter().position(|byte| *byte == delimiter);
        let (cell, after) = match end.and_then(|end| text.split_at_checked(end)) {
            Some((cell, after)) => (cell, after.get(1..)),
            None => (text, None),
        };
        Ok((self.read(cell, missing)?, after))
    }

    fn read(&self, cell: &[u8], missing: &Missing) -> Result<f32, Reject> {
        let trimmed = match &self.categories {
            None => cell.trim_ascii(),
            Some(_) => cell,
        };
        if missing.texts.iter().any(|text| text == trimmed) {
            return Ok(f32::NAN);
        }
        let known = match &self.categories {
            None => fast_float2::parse(trimmed).ok().filter(|value: &f32| value.is_finite()),
            Some(categories) => {
                categories.iter().position(|category| category.as_bytes() == cell).map(|code| code as f32)
            }
        };
        known.ok_or_else(|| self.refuse(cell))
    }

    #[cold]
    fn refuse(&self, cell: &[u8]) -> Reject {
        let name = &self.name;
        match (str::from_utf8(cell), &self.categories) {
            (Err(_), _) => reject("invalid-utf8", format!("column `{name}` is not UTF-8")),
            (Ok(cell), None) => {
                reject("not-a-number", format!("column `{name}` holds {cell:?}, which is not a finite number"))
            }
            (Ok(cell), Some(categories)) => {
                reject("unknown-category", format!("column `{name}` holds {cell:?}, which is none of {categories:?}"))
            }
        }
    }
}

/// The number that `text` begins with and what follows it, if it is a plain one of at most seven
/// digits, as most are; anything else is left to the full reader.
///
/// Seven digits and powers of ten up to 10⁷ are exact in f32, so the one division rounds correctly
/// (Clinger 1990).
#[inline]
fn short_decimal(text: &[u8]) -> Option<(f32, &[u8])> {
    const POWERS: [f32; 8] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7];
    let (sign, mut rest) = match text {
        [b'-', rest @ ..] => (-1.0, rest),
        _ => (1.0, text),
    };
    let (mut number, mut digits, mut decimals, mut in_decimals) = (0_u32, 0_usize, 0_usize, false);
    while let [byte, after @ ..] = rest {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            number = number.wrapping_mul(10).wrapping_add(u32::from(digit));
            digits += 1;
            decimals += usize::from(in_decimals);
        } else if *byte == b'.' && !in_decimals {
            in_decimals = true;
        } else {
            break;
        }
        rest = after;
    }
    let power = POWERS.get(decimals)?;
    match digits {
        1..=7 => Some((sign * (number as f32 / power), rest)),
        _ => None,
    }
}

/// Reads a line with quotes. Owns the buffers, which are reused from line to line.
struct Quoted {
    reader: csv_core::Reader,
    text: Vec<u8>,
    /// Where each cell ends in `text`.
    ends: Vec<usize>,
    found: usize,
}

impl Quoted {
    fn new(delimiter: u8, columns: usize) -> Self {
        Self {
            reader: csv_core::ReaderBuilder::new().delimiter(delimiter).build(),
            text: Vec::new(),
            // One more than there are columns, so that a surplus is seen; any surplus is one too many.
            ends: vec![0; columns + 1],
            found: 0,
        }
    }

    /// Answers the number of cells; a line of more than one surplus cell counts as one surplus.
    fn read(&mut self, line: &[u8]) -> Result<usize, Reject> {
        self.reader.reset();
        // Unquoting never lengthens a line, so the buffers never run full but by surplus cells.
        self.text.resize(line.len(), 0);
        let (result, read, _, mut found) = self.reader.read_record(line, &mut self.text, &mut self.ends);
        if read < line.len() && result == csv_core::ReadRecordResult::Record {
            return Err(reject("column-count", "the record holds more than one line"));
        }
        if result == csv_core::ReadRecordResult::InputEmpty {
            // The end of the line closes the last cell.
            let ends = self.ends.get_mut(found..).unwrap_or_default();
            let (_, _, _, last) = self.reader.read_record(&[], &mut [], ends);
            found += last;
        }
        self.found = found;
        Ok(found)
    }

    fn cells(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().take(self.found).map(move |end| {
            let cell = self.text.get(start..*end).unwrap_or_default();
            start = *end;
            cell
        })
    }
}

export_parser!(Csv);

#[cfg(test)]
mod tests {
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
}
