//! What is wrong with the stages of a pipeline: all of it, so that nobody mends one to be told of the next.

use std::fmt;

use anyhow::Error;

/// A stage that runs a release; shown as deployments and dead letters name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageName {
    Transform(usize),
    Parse,
    Classify,
    /// The feedback's.
    Score,
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transform(at) => write!(f, "transform[{at}]"),
            Self::Parse => f.write_str("parse"),
            Self::Classify => f.write_str("classify"),
            Self::Score => f.write_str("score"),
        }
    }
}

/// What is wrong with one stage.
#[derive(Debug)]
pub struct Problem {
    pub stage: StageName,
    pub error: Error,
}

/// Everything that is wrong with what a pipeline is to run, in the order of a record's path, a line each.
#[derive(Debug)]
pub struct Unfit {
    pub pipeline: String,
    pub problems: Vec<Problem>,
}

impl std::error::Error for Unfit {}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Problem { stage, error }) in self.problems.iter().enumerate() {
            let end = if at == 0 { "" } else { "\n" };
            write!(f, "{end}pipeline {}, stage {stage}: {error:#}", self.pipeline)?;
        }
        Ok(())
    }
}

/// Gathers them while a pipeline is looked at.
#[derive(Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    /// What came out; what went wrong instead is noted.
    pub fn note<T>(&mut self, stage: StageName, came: Result<T, Error>) -> Option<T> {
        came.map_err(|error| self.0.push(Problem { stage, error })).ok()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What came out where nothing went wrong. A value is missing only where a problem was noted.
    pub fn or<T>(self, pipeline: &str, value: Option<T>) -> Result<T, Unfit> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self.of(pipeline)),
        }
    }

    pub fn of(self, pipeline: &str) -> Unfit {
        let mut problems = self.0;
        // Files are read before any stage is opened; a record's path is the order that people know.
        problems.sort_by_key(|problem| match problem.stage {
            StageName::Transform(at) => (0, at),
            StageName::Parse => (1, 0),
            StageName::Classify => (2, 0),
            StageName::Score => (3, 0),
        });
        Unfit { pipeline: pipeline.to_owned(), problems }
    }
}
