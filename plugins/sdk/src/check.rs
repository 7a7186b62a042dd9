//! Checks that configurations and models have in common. Their errors name the key, in the words of the stock plugins.

use crate::{Column, Kind};

/// Refuses a list that names something twice; `key` is what the list is called where it was read.
pub fn all_different<'a>(key: &str, names: impl IntoIterator<Item = &'a String>) -> Result<(), String> {
    let mut seen = Vec::new();
    for name in names {
        if seen.contains(&name) {
            return Err(format!("`{key}` names `{name}` twice"));
        }
        seen.push(name);
    }
    Ok(())
}

/// Refuses what the contract does not allow of a parser's columns, where the configuration lists them under `columns`
/// and a column's categories under `categories`.
pub fn check_columns(columns: &[Column]) -> Result<(), String> {
    if columns.is_empty() {
        return Err("`columns` must name at least one column".to_owned());
    }
    all_different("columns", columns.iter().map(|column| &column.name))?;
    match columns.iter().find(|column| column.kind == Kind::Category(Vec::new())) {
        None => Ok(()),
        Some(column) => Err(format!("column `{}`: `categories` must not be empty", column.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_stands_twice_is_named_with_its_key() {
        let names = ["a", "b", "c", "b", "a"].map(str::to_owned);
        assert_eq!(all_different("classes", &names).unwrap_err(), "`classes` names `b` twice");
        assert_eq!(all_different("classes", names.iter().take(3)), Ok(()));
    }

    #[test]
    fn columns_are_at_least_one_all_different_and_of_some_category() {
        let reds = Column::category("colour", vec!["red".to_owned()]);
        assert_eq!(check_columns(&[Column::number("x"), reds]), Ok(()));
        for (columns, reason) in [
            (vec![], "at least one"),
            (vec![Column::number("x"), Column::number("x")], "`x` twice"),
            (vec![Column::category("x", Vec::new())], "column `x`: `categories`"),
        ] {
            let error = check_columns(&columns).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
