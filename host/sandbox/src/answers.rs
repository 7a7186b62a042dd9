//! The rules that a plugin's answer must keep before any of it is used.
//!
//! A check reads and changes nothing; its error says which rule was broken, and at which row.

use crate::wit::latest::{
    Column, Emitted, Judgement, Kind, Matrix, Outcome, Parsed, Predictions, Rejection, Signature, Transformed,
};

#[cfg(test)]
mod tests;

/// Bytes of a rejection's message, and of a judgement's reason.
const MAX_MESSAGE: usize = 1_024;
/// Classes, columns, outputs or categories of one plugin.
const MAX_NAMES: usize = 10_000;
/// Bytes of the name of a class, column, output, category or header: names of classes and columns stand in every prediction.
const MAX_NAME: usize = 256;
/// Headers that a transform adds to one record.
const MAX_HEADERS: usize = 1_000;

type Check = Result<(), String>;

fn ensure(holds: bool, message: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(message()) }
}

/// A parser's answer to a batch of `rows` rows; `open` named `columns` columns.
pub fn check_parsed(answer: &Parsed, rows: usize, columns: usize) -> Check {
    check_matrix(&answer.rows, rows, columns)?;
    check_rejections(&answer.rejected, &answer.dropped, rows)
}

/// A classifier's answer to a matrix of `rows` rows; its signature has `classes` classes.
pub fn check_predictions(answer: &Predictions, rows: usize, classes: usize) -> Check {
    ensure(answer.labels.len() == rows, || format!("{} labels for {rows} rows", answer.labels.len()))?;
    ensure(answer.scores.len() == rows * classes, || {
        format!("{} scores for {rows} rows of {classes} classes", answer.scores.len())
    })?;
    check_rejections(&answer.rejected, &[], rows)?;
    let rejected = |row: usize| answer.rejected.iter().any(|rejection| rejection.row as usize == row);
    if let Some((row, label)) =
        answer.labels.iter().enumerate().find(|(row, label)| **label as usize >= classes && !rejected(*row))
    {
        return Err(format!("row {row} has label {label}, and there are {classes} classes"));
    }
    match answer.scores.iter().position(|score| !score.is_finite()) {
        Some(at) if !rejected(at / classes.max(1)) => {
            Err(format!("row {} has a score that is not finite", at / classes.max(1)))
        }
        // A rejected row's scores are ignored. Only then, which is rare, is the search repeated with the rows in mind.
        Some(_) => match answer
            .scores
            .iter()
            .enumerate()
            .find(|(at, score)| !score.is_finite() && !rejected(at / classes.max(1)))
        {
            Some((at, _)) => Err(format!("row {} has a score that is not finite", at / classes.max(1))),
            None => Ok(()),
        },
        None => Ok(()),
    }
}

/// A transform's answer to a batch of `rows` rows; `open` named `outputs` outputs.
pub fn check_transformed(answer: &Transformed, rows: usize, outputs: usize) -> Check {
    ensure(answer.offsets.len() == answer.emitted.len() + 1, || {
        format!("{} offsets for {} emitted records", answer.offsets.len(), answer.emitted.len())
    })?;
    check_offsets(&answer.offsets, answer.payload.len())?;
    check_rejections(&answer.rejected, &answer.dropped, rows)?;
    let mut previous = 0;
    for Emitted { source_row, output, headers, .. } in &answer.emitted {
        ensure((*source_row as usize) < rows, || format!("it emitted for row {source_row} of {rows}"))?;
        ensure((*output as usize) < outputs, || format!("it emitted to output {output} of {outputs}"))?;
        ensure(*source_row >= previous, || format!("it emitted for row {source_row} after row {previous}"))?;
        previous = *source_row;
        ensure(headers.len() <= MAX_HEADERS, || {
            format!("it added {} headers to a record of row {source_row}, more than {MAX_HEADERS}", headers.len())
        })?;
        for header in headers {
            ensure(header.name.len() <= MAX_NAME, || {
                let (shown, bytes) = (shortened(&header.name), header.name.len());
                format!("row {source_row}'s header {shown:?} has a name of {bytes} bytes, more than {MAX_NAME}")
            })?;
        }
    }
    let emitted_for = |row: u32| answer.emitted.binary_search_by_key(&row, |emitted| emitted.source_row).is_ok();
    let withheld = answer.rejected.iter().map(|rejection| rejection.row).chain(answer.dropped.iter().copied());
    for row in withheld {
        ensure(!emitted_for(row), || format!("it emitted for row {row}, which it also rejected or dropped"))?;
    }
    Ok(())
}

/// A scorer's answer to those outcomes.
pub fn check_judgements(answer: &[Judgement], outcomes: &[Outcome]) -> Check {
    let mut seen = vec![false; outcomes.len()];
    for judgement in answer {
        let row = judgement.row;
        let seen = seen.get_mut(row as usize).ok_or_else(|| format!("it judged row {row} of {}", outcomes.len()))?;
        ensure(!std::mem::replace(seen, true), || format!("it judged row {row} twice"))?;
        ensure(judgement.loss.is_finite(), || format!("row {row}'s loss is not finite"))?;
        ensure(judgement.weight.is_finite() && judgement.weight >= 0.0, || {
            format!("row {row}'s weight {} is not a finite number of at least 0", judgement.weight)
        })?;
        let reason = judgement.reason.as_ref().map_or(0, String::len);
        ensure(reason <= MAX_MESSAGE, || format!("row {row}'s reason has {reason} bytes, more than {MAX_MESSAGE}"))?;
    }
    Ok(())
}

/// What a parser's open answered.
pub fn check_columns(columns: &[Column]) -> Check {
    ensure(!columns.is_empty(), || "it names no column".into())?;
    check_names("column", columns.iter().map(|column| column.name.as_str()))?;
    for column in columns {
        if let Kind::Category(categories) = &column.kind {
            let what = format!("category of column {:?}", column.name);
            check_unique(&what, categories.iter().map(String::as_str))?;
        }
    }
    Ok(())
}

/// What a classifier's open answered.
pub fn check_signature(signature: &Signature) -> Check {
    check_columns(&signature.columns)?;
    ensure(signature.classes.len() >= 2, || {
        format!("it names {} class, and at least two are needed", signature.classes.len())
    })?;
    check_names("class", signature.classes.iter().map(String::as_str))
}

/// What a transform's open answered.
pub fn check_outputs(outputs: &[String]) -> Check {
    ensure(!outputs.is_empty(), || "it names no output".into())?;
    check_names("output", outputs.iter().map(String::as_str))
}

/// A name by which something is found is not empty; a category may be.
fn check_names<'a>(what: &str, names: impl Iterator<Item = &'a str> + Clone) -> Check {
    ensure(names.clone().all(|name| !name.is_empty()), || format!("it names {what} \"\", and a name is not empty"))?;
    check_unique(what, names)
}

fn check_unique<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Check {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        ensure(name.len() <= MAX_NAME, || {
            let (shown, bytes) = (shortened(name), name.len());
            format!("it names {what} {shown:?} with {bytes} bytes, and a name has at most {MAX_NAME}")
        })?;
        ensure(seen.insert(name), || format!("it names {what} {name:?} twice"))?;
        ensure(seen.len() <= MAX_NAMES, || format!("it names more than {MAX_NAMES} of {what}"))?;
    }
    Ok(())
}

fn check_matrix(matrix: &Matrix, rows: usize, columns: usize) -> Check {
    ensure(matrix.columns as usize == columns, || format!("{} columns instead of {columns}", matrix.columns))?;
    ensure(matrix.values.len() == rows * columns, || {
        format!("{} values for {rows} rows of {columns} columns", matrix.values.len())
    })
}

fn check_rejections(rejected: &[Rejection], dropped: &[u32], rows: usize) -> Check {
    if rejected.is_empty() && dropped.is_empty() {
        return Ok(());
    }
    let mut seen = vec![false; rows];
    for row in rejected.iter().map(|rejection| rejection.row).chain(dropped.iter().copied()) {
        let seen = seen.get_mut(row as usize).ok_or_else(|| format!("it rejected or dropped row {row} of {rows}"))?;
        ensure(!std::mem::replace(seen, true), || format!("it rejected or dropped row {row} twice"))?;
    }
    for Rejection { row, code, message } in rejected {
        let is_label =
            (1..=64).contains(&code.len()) && code.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        ensure(is_label, || {
            format!("row {row}'s rejection code {:?} is not of the form [a-z0-9-]{{1,64}}", shortened(code))
        })?;
        ensure(message.len() <= MAX_MESSAGE, || {
            format!("row {row}'s rejection message has {} bytes, more than {MAX_MESSAGE}", message.len())
        })?;
    }
    Ok(())
}

/// What a message shows of a text whose length a plugin chose.
fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

fn check_offsets(offsets: &[u32], payload: usize) -> Check {
    ensure(offsets.first() == Some(&0), || "offsets do not start at 0".into())?;
    ensure(offsets.is_sorted(), || "offsets decrease".into())?;
    ensure(offsets.last().is_some_and(|last| *last as usize == payload), || {
        format!("offsets end at {:?}, and the payload has {payload} bytes", offsets.last())
    })
}
