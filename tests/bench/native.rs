//! The stock plugins' own code as stages of the host: the same traits, no sandbox.

use std::time::Duration;

use anyhow::{Result, anyhow};
use sandpiper_sandbox::batch::Batch;
use sandpiper_sandbox::stage::{Classify, Parse};
use sandpiper_sandbox::wit::latest::{Column, Kind, Matrix, Parsed, Predictions, Rejection, Signature};
use sandpiper_sandbox::{Failure, FailureKind};
use sandpiper_sdk::{Classifier, OpenClassifier, OpenParser, Parser};

pub struct NativeParser<P>(pub OpenParser<P>);

impl<P: Parser> NativeParser<P> {
    pub fn open(config: &str) -> Result<Self> {
        OpenParser::open(config).map(Self).map_err(|error| anyhow!(error))
    }
}

impl<P: Parser + Send> Parse for NativeParser<P> {
    fn parse(&mut self, batch: &Batch, _: Duration) -> Result<Parsed, Failure> {
        let parsed = self.0.parse(&batch.raw.payload, &batch.raw.offsets).map_err(failure)?;
        Ok(Parsed {
            rows: Matrix { columns: parsed.columns as u32, values: parsed.values },
            rejected: parsed.rejected.into_iter().map(rejection).collect(),
            dropped: parsed.dropped,
        })
    }
}

pub struct NativeClassifier<C>(pub OpenClassifier<C>);

impl<C: Classifier> NativeClassifier<C> {
    pub fn open(config: &str, model: &[u8]) -> Result<Self> {
        OpenClassifier::open(config, model).map(Self).map_err(|error| anyhow!(error))
    }

    pub fn signature(&self) -> Signature {
        let signature = self.0.signature();
        let column = |column: &sandpiper_sdk::Column| Column {
            name: column.name.clone(),
            kind: match &column.kind {
                sandpiper_sdk::Kind::Number => Kind::Number,
                sandpiper_sdk::Kind::Category(names) => Kind::Category(names.clone()),
            },
        };
        Signature { columns: signature.columns.iter().map(column).collect(), classes: signature.classes.clone() }
    }
}

impl<C: Classifier + Send> Classify for NativeClassifier<C> {
    fn classify(&mut self, rows: &Matrix, _: Duration) -> Result<Predictions, Failure> {
        let answer = self.0.classify(rows.columns, &rows.values).map_err(failure)?;
        let rejected = answer.rejected.into_iter().map(rejection).collect();
        Ok(Predictions { labels: answer.labels, scores: answer.scores, rejected })
    }
}

fn rejection(rejection: sandpiper_sdk::Rejection) -> Rejection {
    Rejection { row: rejection.row, code: rejection.code, message: rejection.message }
}

fn failure(message: String) -> Failure {
    Failure { kind: FailureKind::Error, message, log: String::new() }
}
