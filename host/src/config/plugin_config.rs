//! A plugin's `config`: a TOML table, passed to the plugin as a JSON object.

use serde_json::{Map, Number, Value as Json};
use toml::de::{DeTable, DeValue};

use super::file::File;
use super::section::Section;
use super::unit;
use super::value::{self, Value, kind};

/// The section's `config`, an empty object when it has none.
pub(super) fn read(section: &Section<'_>) -> Option<Json> {
    let Some(value) = section.get("config") else {
        return Some(Json::Object(Map::new()));
    };
    let key = section.key("config");
    let Some(table) = value.get_ref().as_table() else {
        let message = format!("found {}: write a table, as config = {{ columns = [\"a\", \"b\"] }}", kind(value));
        section.file.mistake(&value.span(), key, message);
        return None;
    };
    object(section.file, &key, table)
}

/// The keys keep the parser's order, which is alphabetic: lines that only change places must not make a new release.
fn object(file: &File<'_>, key: &str, table: &DeTable<'_>) -> Option<Json> {
    let members = table.iter().map(|(name, value)| {
        let name = name.get_ref().to_string();
        json(file, &format!("{key}.{name}"), value).map(|value| (name, value))
    });
    super::all(members.collect()).map(|members| Json::Object(members.into_iter().collect()))
}

/// Refuses what JSON does not have: dates, NaN and infinity.
fn json(file: &File<'_>, key: &str, value: &Value<'_>) -> Option<Json> {
    let invalid = |reason: &str| {
        let at = value.span();
        file.mistake(&at, key, format!("{} {reason}", file.shown(&at)));
        None
    };
    match value.get_ref() {
        DeValue::String(text) => {
            // Its references can be looked up, but they stay: see `secret`.
            value::text(file, value, key, |_| Ok(())).valid().map(|_| Json::from(text.as_ref()))
        }
        DeValue::Boolean(value) => Some(Json::Bool(*value)),
        DeValue::Integer(number) => {
            let number = unit::integer(number).map(Json::from);
            number.or_else(|| invalid("is too large: a plugin's whole numbers have 64 bits"))
        }
        DeValue::Float(number) => {
            let number = number.as_str().parse().ok().and_then(Number::from_f64);
            let number = number.map(Json::Number);
            number.or_else(|| invalid("has no form in JSON, which a plugin's config is: finite numbers only"))
        }
        DeValue::Datetime(_) => invalid("is a date, and JSON, which a plugin's config is, has none: put it in quotes"),
        DeValue::Array(items) => {
            let items = items.iter().enumerate();
            let items = items.map(|(at, item)| json(file, &format!("{key}[{at}]"), item));
            super::all(items.collect()).map(Json::Array)
        }
        DeValue::Table(table) => object(file, key, table),
    }
}
