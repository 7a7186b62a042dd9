//! One column: what its cells may hold and how they are read.

use sandpiper_sdk::{Column, Reject, reject};
use serde::Deserialize;

/// One column. Its name alone is a column of numbers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    pub name: String,
    /// None reads numbers.
    pub categories: Option<Vec<String>>,
}

/// The cells that mean "missing".
pub struct Missing {
    texts: Vec<Vec<u8>>,
    /// Whether one of them reads as a number, as -999 does: then no number may skip the comparison with `texts`.
    numbers: bool,
}

impl Missing {
    pub fn new(texts: Vec<String>) -> Self {
        Self {
            numbers: texts.iter().any(|text| text.parse::<f32>().is_ok()),
            texts: texts.into_iter().map(String::into_bytes).collect(),
        }
    }
}

impl From<String> for Field {
    fn from(name: String) -> Self {
        Self { name, categories: None }
    }
}

impl Field {
    pub fn column(&self) -> Column {
        Column::new(&self.name, self.categories.clone())
    }

    /// Reads the cell that `text` begins with. Answers its value and what follows the delimiter,
    /// None when the line ends with the cell.
    #[inline]
    pub fn read_next<'a>(
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

    #[inline]
    pub fn read(&self, cell: &[u8], missing: &Missing) -> Result<f32, Reject> {
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
