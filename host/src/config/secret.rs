//! `${NAME}` and `${file:/run/secrets/x}` in strings; `$${` stands for a plain `${`.
//!
//! What replaces a reference is not searched for references again, and is never part of a message.

use super::file::File;

/// The text with every reference replaced, or each reason why one could not be.
pub(super) fn substitute(file: &File<'_>, text: &str) -> Result<String, Vec<String>> {
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
        match value(file, name) {
            Ok(value) => result.push_str(&value),
            Err(reason) => reasons.push(reason),
        }
        rest = after;
    }
    result.push_str(rest);
    if reasons.is_empty() { Ok(result) } else { Err(reasons) }
}

fn value(file: &File<'_>, name: &str) -> Result<String, String> {
    if let Some(path) = name.strip_prefix("file:") {
        return content(file, path);
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
    (file.env)(name).ok_or_else(|| format!("the environment variable {name} is not set (or is not UTF-8)"))
}

/// Without the newline that editors leave at a file's end.
fn content(file: &File<'_>, path: &str) -> Result<String, String> {
    let path = file.resolve(path);
    match std::fs::read_to_string(&path) {
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
    use std::path::Path;

    fn fill(text: &str) -> Result<String, Vec<String>> {
        let env = |name: &str| (name == "PW").then(|| "a${PW}b".to_owned());
        substitute(&File::new(Path::new("pipelines/x.toml"), "", &[], &env), text)
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
        let path = folder.path().join("x.toml");
        let file = File::new(&path, "", &[], &|_| None);
        assert_eq!(substitute(&file, "${file:pw}").as_deref(), Ok(" s3cret \n"));
    }
}
