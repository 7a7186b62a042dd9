//! Makes `data/models/iris.json`: reads `data/iris.csv` from standard input, teaches the learner
//! every flower with its defaults and writes the model to standard output.
//!
//! `cargo run -p sandpiper-logistic --example iris < data/iris.csv > data/models/iris.json`

use std::io::{Read, Write};

use sandpiper_logistic::LogisticLearner;
use sandpiper_sdk::{Column, OpenLearner, Signature};

fn main() -> Result<(), String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| format!("cannot read: {error}"))?;
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().ok_or("there is no header")?;
    let (_, columns) = header.split_last().ok_or("the header is empty")?;

    let (mut values, mut labels, mut classes) = (Vec::new(), Vec::new(), Vec::<String>::new());
    for line in lines {
        let (class, cells) = line.split_last().ok_or("a line is empty")?;
        for cell in cells {
            values.push(cell.parse::<f32>().map_err(|error| format!("{cell:?}: {error}"))?);
        }
        let known = classes.iter().position(|known| known == class);
        labels.push(known.unwrap_or(classes.len()) as u32);
        if known.is_none() {
            classes.push((*class).to_owned());
        }
    }
    let signature = Signature { columns: columns.iter().map(|name| Column::number(*name)).collect(), classes };
    let mut learner = OpenLearner::<LogisticLearner>::open("{}", signature, b"")?;
    let weights = vec![1.0; labels.len()];
    learner.learn(columns.len() as u32, &values, &labels, &weights)?;
    let model = learner.snapshot()?;
    std::io::stdout().write_all(&model).map_err(|error| format!("cannot write: {error}"))
}
