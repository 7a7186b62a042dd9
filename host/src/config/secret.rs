//! `${NAME}` and `${file:/run/secrets/x}` in strings; `$${` stands for a plain `${`.
//!
//! A plugin's configuration keeps its references in every release, and is expanded when the plugin is opened: no history
//! holds a secret. What replaces a reference is not searched for references again, and is never part of a message.

use std::path::Path;

use serde_json::Value as Json;

/// Where references are looked up.
pub struct Sources<'a> {
    /// Paths of files are relative to it.
    pub folder: &'a Path,
    pub env: &'a dyn Fn(&str) -> Option<String>,
}

/// The text with every reference replaced, or each reason why one could not be.
pub(super) fn substitute(sources: &Sources<'_>, text: &str) -> Result<String, Vec<String>> {
    replace(text, |name| sources.value(name))
}

/// A plugin's configuration with every reference replaced, and what replaced them.
///
/// # Errors
/// Why references could not be, each behind its key.
pub fn expand(sources: &Sources<'_>, config: &Json) -> Result<(Json, Vec<String>), String> {
    let (mut expanded, mut secrets) = (config.clone(), Vec::new());
    let mut reasons = Vec::new();
    each_text(&mut expanded, "config", &mut |key, text| {
        let replaced = replace(text, |name| {
            let value = sources.value(name)?;
            secrets.push(value.clone());
            Ok(value)
        });
        match replaced {
            Ok(replaced) => *text = replaced,
            Err(found) => reasons.extend(found.into_iter().map(|reason| format!("{key}: {reason}"))),
        }
    });
    if reasons.is_empty() { Ok((expanded, secrets)) } else { Err(reasons.join("; ")) }
}

/// Refuses references: what comes over the admin API must not have the daemon read its files or its environment.
///
/// # Errors
/// The key of the first.
pub fn refuse_references(config: &serde_json::Map<String, Json>) -> Result<(), String> {
    let mut config = Json::Object(config.clone());
    let mut refused = None;
    each_text(&mut config, "config", &mut |key, text| {
        let is_reference = replace(text, |_| Err(String::new())).is_err();
        if is_reference && refused.is_none() {
            refused = Some(format!(
                "{key} holds a \"${{\": a reference to a secret stands in the pipeline's file only; a plain \"${{\" is written \"$${{\""
            ));
        }
    });
    refused.map_or(Ok(()), Err)
}

fn each_text(json: &mut Json, key: &str, visit: &mut impl FnMut(&str, &mut String)) {
    match json {
        Json::String(text) => visit(key, text),
        Json::Array(items) => {
            items.iter_mut().enumerate().for_each(|(at, item)| each_text(item, &format!("{key}[{at}]"), visit))
        }
        Json::Object(members) => {
            members.iter_mut().for_each(|(name, value)| each_text(value, &format!("{key}.{name}"), visit))
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

fn replace(text: &str, mut value: impl FnMut(&str) -> Result<String, String>) -> Result<String, Vec<String>> {
    let mut result = String::with_capacity(text.len());
    let mut reasons = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        let reference = reference.strip_prefix("${").unwrap_or(reference);
        if let Some(before) = before.strip_suffix('$') {
            result.push_str(before);
            result.push_str("${");
            rest = reference;
            continue;
        }
        result.push_str(before);
        let Some((name, after)) = reference.split_once('}') else {
            reasons.push("has a \"${\" without its \"}\": a plain \"${\" is written \"$${\"".to_owned());
            rest = "";
            break;
        };
        match value(name) {
            Ok(value) => result.push_str(&value),
            Err(reason) => reasons.push(reason),
        }
        rest = after;
    }
    result.push_str(rest);
    if reasons.is_empty() { Ok(result) } else { Err(reasons) }
}

impl Sources<'_> {
    fn value(&self, name: &str) -> Result<String, String> {
        if let Some(path) = name.strip_prefix("file:") {
            return content(&self.folder.join(path));
        }
        let is_variable = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_variable {
            // The text in the braces is not repeated: it may be part of a password that has a "${" by chance.
            return Err(
            "has a \"${…}\" that names no variable: write ${NAME} or ${file:PATH}; a plain \"${\" is written \"$${\""
                .into(),
        );
        }
        (self.env)(name).ok_or_else(|| format!("the environment variable {name} is not set (or is not UTF-8)"))
    }
}

/// Without the newline that editors leave at a file's end.
fn content(path: &Path) -> Result<String, String> {
    match std::fs::read_to_string(path) {
        Ok(content) => {
            let content = content.strip_suffix('\n').unwrap_or(&content);
            Ok(content.strip_suffix('\r').unwrap_or(content).to_owned())
        }
        Err(error) => Err(format!("the secret's file {} cannot be read: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str) -> Result<String, Vec<String>> {
        let env = |name: &str| (name == "PW").then(|| "a${PW}b".to_owned());
        substitute(&Sources { folder: Path::new("pipelines"), env: &env }, text)
    }

    #[test]
    fn a_reference_is_replaced_once_and_what_replaces_it_is_taken_as_it_is() {
        assert_eq!(fill("u:${PW}@${PW}").as_deref(), Ok("u:a${PW}b@a${PW}b"));
        assert_eq!(fill("plain $5 $x {y}").as_deref(), Ok("plain $5 $x {y}"));
    }

    #[test]
    fn two_dollars_make_a_plain_brace() {
        assert_eq!(fill("$${PW} ${PW} $$${PW}").as_deref(), Ok("${PW} a${PW}b $${PW}"));
    }

    #[test]
    fn every_reference_that_cannot_be_replaced_is_named() {
        let reasons = fill("${NONE} ${} ${a b} ${file:gone.txt} ${open").unwrap_err();
        let expect = [
            "NONE is not set",
            "names no variable",
            "names no variable",
            "pipelines/gone.txt cannot be read",
            "without its",
        ];
        assert_eq!(reasons.len(), expect.len());
        for (reason, part) in reasons.iter().zip(expect) {
            assert!(reason.contains(part), "{reason}");
        }
    }

    #[test]
    fn a_secret_file_loses_its_last_newline_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pw"), " s3cret \n\r\n").unwrap();
        let sources = Sources { folder: folder.path(), env: &|_| None };
        assert_eq!(substitute(&sources, "${file:pw}").as_deref(), Ok(" s3cret \n"));
    }

    #[test]
    fn a_configuration_is_expanded_at_every_depth_and_says_what_was_secret() {
        let env = |name: &str| (name == "PW").then(|| "hunter2".to_owned());
        let sources = Sources { folder: Path::new(""), env: &env };
        let config = serde_json::json!({ "a": "x${PW}", "b": [{ "c": "$${PW}" }], "d": 1 });
        let (expanded, secrets) = expand(&sources, &config).unwrap();
        assert_eq!(expanded, serde_json::json!({ "a": "xhunter2", "b": [{ "c": "${PW}" }], "d": 1 }));
        assert_eq!(secrets, ["hunter2"]);
        let refused = expand(&sources, &serde_json::json!({ "b": [{ "c": "${GONE}" }] })).unwrap_err();
        assert!(refused.contains("config.b[0].c") && refused.contains("GONE is not set"), "{refused}");
    }

    #[test]
    fn what_comes_from_elsewhere_than_the_pipelines_file_refers_to_nothing() {
        let refused = |json: serde_json::Value| refuse_references(json.as_object().unwrap());
        let error = refused(serde_json::json!({ "a": { "b": ["${file:/etc/passwd}"] } })).unwrap_err();
        assert!(error.contains("config.a.b[0]") && error.contains("pipeline's file"), "{error}");
        assert!(refused(serde_json::json!({ "a": "${" })).is_err());
        assert_eq!(refused(serde_json::json!({ "a": "$${PW} costs $5" })), Ok(()));
    }
}
