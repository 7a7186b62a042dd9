//! Numbers beyond f64, such as `1e400`.

use serde::de::IgnoredAny;

/// The document with quotes around each number that is beyond f64; `None` where there is none.
pub fn quoted(text: &str) -> Option<String> {
    let mut quoted = String::with_capacity(text.len() + 2);
    let (mut rest, mut found) = (text, false);
    while let Some(at) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        let (before, token) = rest.split_at_checked(at)?;
        let end = if token.starts_with('"') { string(token) } else { number(token) };
        let (token, after) = token.split_at_checked(end)?;
        let is_huge = !token.starts_with('"')
            && token.parse::<f64>().is_ok_and(f64::is_infinite)
            && serde_json::from_str::<IgnoredAny>(token).is_ok();
        found |= is_huge;
        let quote = if is_huge { "\"" } else { "" };
        quoted.extend([before, quote, token, quote]);
        rest = after;
    }
    quoted.push_str(rest);
    found.then_some(quoted)
}

/// Where the string ends that `text` begins with.
fn string(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().enumerate().skip(1).find(|(_, byte)| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

/// Where the number ends that `text` begins with.
fn number(text: &str) -> usize {
    text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E'))).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_beyond_f64_is_quoted() {
        let quoted = |text| quoted(text).unwrap_or_default();
        assert_eq!(
            quoted(r#"{"a": 1e400, "1e400": [-2E+999,1.5], "b\"": "1e400\\"}"#),
            r#"{"a": "1e400", "1e400": ["-2E+999",1.5], "b\"": "1e400\\"}"#
        );
        for none in [r#"{"a": 1e39}"#, r#"["1e400"]"#, "01e400", "", r#"{"a": "1e400"#, "-", "1e400e400"] {
            assert_eq!(quoted(none), "", "{none}");
        }
    }
}
