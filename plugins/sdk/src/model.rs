//! Models as files of JSON: what a classifier opens and its learner writes.

use serde::de::DeserializeOwned;

/// Reads the model of a plugin; `format` is what its files are called, and `check` says what does not fit in one that
/// can be read.
///
/// The error is a sentence for the person who deploys the model.
pub fn read_model<M: DeserializeOwned>(
    plugin: &str,
    format: &str,
    bytes: &[u8],
    check: impl FnOnce(&M) -> Result<(), String>,
) -> Result<M, String> {
    if bytes.is_empty() {
        return Err(format!("{plugin} needs a model: name its file in `model`"));
    }
    let model = serde_json::from_slice(bytes).map_err(|error| format!("the model is no {format} file: {error}"))?;
    check(&model).map_err(|what| format!("the model does not fit {format}: {what}"))?;
    Ok(model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_read_and_what_is_wrong_with_it_is_said_with_its_format() {
        let read = |text: &str| {
            read_model("sum", "sum/1", text.as_bytes(), |weights: &Vec<f64>| match weights.len() {
                2 => Ok(()),
                found => Err(format!("it has {found} weights instead of 2")),
            })
        };
        assert_eq!(read("[1, 2]"), Ok(vec![1.0, 2.0]));
        assert_eq!(read("[1]").unwrap_err(), "the model does not fit sum/1: it has 1 weights instead of 2");
        assert!(read("{").unwrap_err().starts_with("the model is no sum/1 file: "));
        assert_eq!(read("").unwrap_err(), "sum needs a model: name its file in `model`");
    }
}
