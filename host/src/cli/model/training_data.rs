//! Labelled rows of a CSV file, read as a learner takes them. The file's first line names its columns.

use std::collections::{BTreeSet, HashMap};
use std::io::Read;

use anyhow::{Context as _, Result, bail, ensure};

use crate::authoring::train::Examples;
use sandpiper_sandbox::wit::latest::{Column, Kind, Signature};

/// What the columns of a CSV file are for, by name.
pub(super) struct TrainingColumns<'a> {
    pub label: &'a str,
    /// Those to learn from, in this order; empty for all but the label and the weights.
    pub features: &'a [String],
    /// Those of the features that hold categories instead of numbers.
    pub categories: &'a [String],
    pub weights: Option<&'a str>,
}

impl TrainingColumns<'_> {
    /// Reads the signature of the model that is to be made, the examples to make it from, and for each column of numbers that
    /// has such a pair two that f32 cannot tell apart, as a sentence.
    ///
    /// # Errors
    /// When a column is missing or named twice, or a cell cannot be read: the message names line and column.
    pub fn read(&self, csv: impl Read) -> Result<(Signature, Examples, Vec<String>)> {
        let mut reader = csv::Reader::from_reader(csv);
        let header: Vec<String> =
            reader.headers()?.iter().map(|name| name.trim_start_matches('\u{feff}').to_owned()).collect();
        if let Some((_, duplicate)) =
            header.iter().enumerate().find(|(at, name)| header.iter().take(*at).any(|other| other == *name))
        {
            bail!("line 1 names column {duplicate:?} twice");
        }
        if let Some(at) = header.iter().position(String::is_empty) {
            bail!("line 1: column {} has no name; give it one, or take the column out", at + 1);
        }
        let index_of = |name: &str| {
            let found = header.iter().position(|known| known == name);
            found.with_context(|| format!("there is no column {name:?}; line 1 names {}", header.join(", ")))
        };
        let label = index_of(self.label)?;
        let weights = self.weights.map(index_of).transpose()?;
        let indices: Vec<usize> = match self.features {
            [] => (0..header.len()).filter(|at| *at != label && Some(*at) != weights).collect(),
            features => features.iter().map(|name| index_of(name)).collect::<Result<_>>()?,
        };
        ensure!(!indices.contains(&label), "column {:?} is the label: it cannot be learned from", self.label);
        let names: Vec<&str> = indices.iter().filter_map(|at| header.get(*at)).map(String::as_str).collect();
        if let Some(surplus) = self.categories.iter().find(|name| !names.contains(&name.as_str())) {
            bail!("--categories names column {surplus:?}, which is not learned from; there are {}", names.join(", "));
        }

        let records: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>()?;
        let cell = |record: &csv::StringRecord, at: usize| record.get(at).unwrap_or_default().trim().to_owned();
        // A category is an index into all of a column's names, so they are collected before the first cell is read.
        let distinct = |at: usize| -> Vec<String> {
            let sorted: BTreeSet<String> =
                records.iter().map(|record| cell(record, at)).filter(|word| !word.is_empty()).collect();
            sorted.into_iter().collect()
        };
        let kind = |name: &str, at: usize| {
            if self.categories.iter().any(|known| known == name) { Kind::Category(distinct(at)) } else { Kind::Number }
        };
        let columns: Vec<Column> = names
            .iter()
            .zip(&indices)
            .map(|(name, at)| Column { name: (*name).to_owned(), kind: kind(name, *at) })
            .collect();
        let signature = Signature { columns, classes: distinct(label) };
        ensure!(
            signature.classes.len() >= 2,
            "column {:?} holds {} class in {} rows, and at least two are needed",
            self.label,
            signature.classes.len(),
            records.len()
        );

        let mut examples = Examples { weights: weights.map(|_| Vec::new()), ..Examples::default() };
        for record in &records {
            let line = record.position().map_or(0, csv::Position::line);
            let at = |name: &str| format!("line {line}, column {name:?}");
            for (column, index) in signature.columns.iter().zip(&indices) {
                examples.rows.push(value(column, &cell(record, *index)).with_context(|| at(&column.name))?);
            }
            let class = cell(record, label);
            let Some(label) = signature.classes.iter().position(|known| *known == class) else {
                bail!("{}: the row has no class; give it one, or take it out", at(self.label));
            };
            examples.labels.push(u32::try_from(label).context("there are too many classes")?);
            if let (Some(index), Some(name), Some(weights)) = (weights, self.weights, &mut examples.weights) {
                let text = cell(record, index);
                let weight = text.parse().ok().filter(|weight: &f32| weight.is_finite() && *weight >= 0.0);
                weights.push(weight.with_context(|| {
                    format!("{}: {text:?} is no weight; a number of at least 0 is needed", at(name))
                })?);
            }
        }
        let numbers = signature.columns.iter().zip(&indices).filter(|(column, _)| matches!(column.kind, Kind::Number));
        let merged = numbers.filter_map(|(column, index)| {
            let (one, other) = one_to_f32(records.iter().filter_map(|record| record.get(*index)))?;
            Some(format!(
                "column {:?}: {one} and {other} are one value to a model, for cells are f32 and have about 7 digits; where the \
                 difference matters subtract an offset first",
                column.name
            ))
        });
        let merged = merged.collect();
        Ok((signature, examples, merged))
    }
}

/// Two of the numbers that differ, and are one f32.
fn one_to_f32<'a>(cells: impl Iterator<Item = &'a str>) -> Option<(&'a str, &'a str)> {
    let mut seen: HashMap<u32, (f64, &str)> = HashMap::new();
    for cell in cells.map(str::trim) {
        let Ok(number) = cell.parse::<f64>() else { continue };
        let (first, text) = seen.entry((number as f32).to_bits()).or_insert((number, cell));
        if *first != number {
            return Some((text, cell));
        }
    }
    None
}

/// A cell as the learner takes it: a number, the index of a category, or NaN where it is empty.
fn value(column: &Column, cell: &str) -> Result<f32> {
    if cell.is_empty() {
        return Ok(f32::NAN);
    }
    match &column.kind {
        Kind::Number => {
            let number = cell.parse().ok().filter(|number: &f32| number.is_finite());
            number.with_context(|| {
                format!("{cell:?} is not a finite number; if the column holds words, name it in --categories")
            })
        }
        Kind::Category(names) => {
            names.iter().position(|name| name == cell).map(|at| at as f32).context("the category is unknown")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIPS: &str = "hour,line,late,importance\n8,U2,yes,1\n9,U1,no,0.5\n,U2,no,2\n";

    fn columns<'a>(features: &'a [String], categories: &'a [String]) -> TrainingColumns<'a> {
        TrainingColumns { label: "late", features, categories, weights: Some("importance") }
    }

    fn refused(csv: &str) -> String {
        format!("{:#}", columns(&[], &["line".to_owned()]).read(csv.as_bytes()).unwrap_err())
    }

    #[test]
    fn classes_and_categories_are_sorted_and_an_empty_cell_is_missing() {
        let (signature, examples, _) = columns(&[], &["line".to_owned()]).read(TRIPS.as_bytes()).unwrap();
        assert_eq!(signature.classes, ["no", "yes"]);
        let names: Vec<&str> = signature.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["hour", "line"]);
        let Kind::Category(lines) = &signature.columns[1].kind else { panic!("line is a category") };
        assert_eq!(lines, &["U1", "U2"]);
        assert_eq!(examples.labels, [1, 0, 0]);
        assert_eq!(examples.rows[..4], [8.0, 1.0, 9.0, 0.0]);
        assert!(examples.rows[4].is_nan());
        assert_eq!(examples.weights, Some(vec![1.0, 0.5, 2.0]));
    }

    #[test]
    fn two_numbers_that_f32_cannot_tell_apart_are_named() {
        let merged = |hours: [&str; 3]| {
            let [one, two, three] = hours;
            let csv = format!("hour,late\n{one},yes\n{two},no\n{three},no\n");
            TrainingColumns { weights: None, ..columns(&[], &[]) }.read(csv.as_bytes()).unwrap().2
        };
        let said = merged(["16777216", "3", "16777217"]);
        assert!(said.len() == 1 && said[0].starts_with("column \"hour\": 16777216 and 16777217 are one"), "{said:?}");
        assert!(merged(["0.1", "0.10", ""]).is_empty());
        assert!(merged(["1000000.0625", "1000000.125", "1000000"]).is_empty());
    }

    #[test]
    fn features_come_in_the_order_that_was_asked_for() {
        let features = ["importance".to_owned(), "hour".to_owned()];
        let columns = TrainingColumns { weights: None, ..columns(&features, &[]) };
        let (signature, examples, _) = columns.read(TRIPS.as_bytes()).unwrap();
        assert_eq!(signature.columns[0].name, "importance");
        assert_eq!(examples.rows[..2], [1.0, 8.0]);
        assert_eq!(examples.weights, None);
    }

    #[test]
    fn an_error_names_line_and_column() {
        let word = TRIPS.replace("9,", "nine,");
        assert!(
            refused(&word).starts_with("line 3, column \"hour\": \"nine\" is not a finite number"),
            "{}",
            refused(&word)
        );
        let unlabelled = TRIPS.replace("no,2", ",2");
        assert!(
            refused(&unlabelled).starts_with("line 4, column \"late\": the row has no class"),
            "{}",
            refused(&unlabelled)
        );
        let negative = TRIPS.replace("yes,1", "yes,-1");
        assert!(
            refused(&negative).starts_with("line 2, column \"importance\": \"-1\" is no weight"),
            "{}",
            refused(&negative)
        );
        assert!(refused(&TRIPS.replace("late", "delayed")).contains("hour, line, delayed, importance"));
        assert!(refused(&TRIPS.replace("hour", "line")).contains("names column \"line\" twice"));
        assert!(
            refused(&TRIPS.replace("8,U2", "8,U2,U3")).contains("line: 2"),
            "{}",
            refused(&TRIPS.replace("8,U2", "8,U2,U3"))
        );
        assert!(refused(&TRIPS.replace("yes", "no")).contains("at least two"));
        assert!(refused(&TRIPS.replace("hour", "")).contains("line 1: column 1 has no name"));
        assert!(refused(&TRIPS.replace("importance", "importance,")).contains("line 1: column 5 has no name"));
    }
}
