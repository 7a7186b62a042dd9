//! Where a key stands in a pipeline file. A plan no longer knows lines, so the file is parsed once more, and only when there
//! is a mistake to report.

use toml::de::{DeTable, DeValue};

/// A step into a TOML document: a key of a table, or an index into an array.
#[derive(Clone, Copy)]
pub(super) enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// Line and column, from 1, of the deepest part of that path that the file has.
pub(super) fn position(text: &str, path: &[Step<'_>]) -> (usize, usize) {
    let (table, _) = DeTable::parse_recoverable(text);
    let mut offset = 0;
    let mut value: Option<&DeValue<'_>> = None;
    for step in path {
        let next = match (value, step) {
            (None, Step::Key(key)) => table.get_ref().get(*key),
            (Some(DeValue::Table(table)), Step::Key(key)) => table.get(*key),
            (Some(DeValue::Array(items)), Step::Index(index)) => items.get(*index),
            _ => None,
        };
        let Some(next) = next else { break };
        offset = next.span().start;
        value = Some(next.get_ref());
    }
    let before = text.get(..offset).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before.get(line_start..).unwrap_or_default().chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_is_that_of_the_deepest_part_that_the_file_has() {
        let text = "name = \"a\"\n[[transform]]\nplugin = \"x\"\n[[transform]]\nplugin = \"y\"\n[parse]\n";
        let transform = |at| [Step::Key("transform"), Step::Index(at), Step::Key("plugin")];
        assert_eq!(position(text, &transform(0)), (3, 10));
        assert_eq!(position(text, &transform(1)), (5, 10));
        assert_eq!(position(text, &[Step::Key("parse"), Step::Key("plugin")]), (6, 1));
        assert_eq!(position(text, &[Step::Key("classify")]), (1, 1));
    }
}
