//! A plugin's configuration: from JSON text to the type that the author declares.
//!
//! Refuses every key that the type does not take, even where the author forgot
//! `#[serde(deny_unknown_fields)]`; with it, serde's message also says what is allowed.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error, MapAccess, Visitor};

/// Reads the configuration that the host passes to `open`. No text at all means `{}`.
///
/// The error is a sentence that names the key it is about.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let text = if text.trim().is_empty() { "{}" } else { text };
    let mut json = serde_json::Deserializer::from_str(text);
    let mut track = serde_path_to_error::Track::new();
    let mut unknown = Vec::new();
    let read = serde_ignored::deserialize(serde_path_to_error::Deserializer::new(&mut json, &mut track), |path| {
        unknown.push(path.to_string())
    });
    let config = read.map_err(|error: serde_json::Error| {
        let what = sentence(&error);
        match track.path().to_string().as_str() {
            "." => format!("the configuration does not fit: {what}"),
            path => format!("the configuration does not fit at `{path}`: {what}"),
        }
    })?;
    json.end().map_err(|error| format!("the configuration is not one JSON object: {}", sentence(&error)))?;
    match unknown.is_empty() {
        true => Ok(config),
        false => Err(format!(
            "the configuration has keys that this plugin does not know: {}; remove them",
            unknown.join(", ")
        )),
    }
}

/// A value that has a short form: text, or an object with every key. Unlike an untagged enum its
/// errors name the key that does not fit.
#[derive(Debug)]
pub struct TextOr<T>(pub T);

impl<'de, T: Deserialize<'de> + From<String>> Deserialize<'de> for TextOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrVisitor(PhantomData))
    }
}

struct TextOrVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + From<String>> Visitor<'de> for TextOrVisitor<T> {
    type Value = TextOr<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("text or an object")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(TextOr(T::from(text.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(TextOr)
    }
}

/// serde_json's message without its line and column: the text was made by the host from a TOML
/// file, and its positions would mislead.
fn sentence(error: &serde_json::Error) -> String {
    let full = error.to_string();
    match full.rfind(" at line ") {
        Some(end) => full.get(..end).unwrap_or(&full).to_owned(),
        None => full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only the reading is tested")]
    struct Strict {
        columns: Vec<String>,
        #[serde(default)]
        depth: u32,
    }

    #[derive(Debug, Deserialize)]
    struct Lenient {
        #[serde(default)]
        depth: u32,
    }

    #[test]
    fn a_fitting_configuration_is_read() {
        let read = read::<Strict>(r#"{"columns": ["a"], "depth": 3}"#).unwrap();
        assert_eq!((read.columns, read.depth), (vec!["a".to_owned()], 3));
    }

    #[test]
    fn no_text_is_an_empty_object() {
        assert_eq!(read::<Lenient>("").unwrap().depth, 0);
    }

    #[test]
    fn an_unknown_key_is_named_with_what_is_allowed() {
        let error = read::<Strict>(r#"{"colums": []}"#).unwrap_err();
        assert_eq!(
            error,
            "the configuration does not fit at `colums`: unknown field `colums`, expected `columns` or `depth`"
        );
    }

    #[test]
    fn an_unknown_key_is_refused_even_by_a_lenient_type() {
        let error = read::<Lenient>(r#"{"dept": 1}"#).unwrap_err();
        assert!(error.contains("does not know: dept"), "{error}");
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Named {
        name: String,
    }

    impl From<String> for Named {
        fn from(name: String) -> Self {
            Self { name }
        }
    }

    #[test]
    fn a_value_with_a_short_form_is_read_in_both_and_its_errors_name_the_key() {
        let read = |text| super::read::<Vec<TextOr<Named>>>(text);
        let names = read(r#"["a", {"name": "b"}]"#).unwrap();
        let names: Vec<String> = names.into_iter().map(|named| named.0.name).collect();
        assert_eq!(names, ["a", "b"]);
        let error = read(r#"["a", {"nam": "b"}]"#).unwrap_err();
        assert!(error.contains("[1]") && error.contains("unknown field `nam`"), "{error}");
    }

    #[test]
    fn a_wrong_type_names_the_path() {
        let error = read::<Strict>(r#"{"columns": ["a", 2]}"#).unwrap_err();
        assert!(error.contains("at `columns[1]`"), "{error}");
    }
}
