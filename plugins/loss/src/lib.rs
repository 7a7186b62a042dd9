//! The stock scorer `loss`: how wrong a prediction was, by one of four measures.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests"))]

use std::collections::BTreeMap;

use sandpiper_sdk::{Judgement, Outcome, Scorer, export_scorer};
use serde::Deserialize;

/// A probability below it counts as it, so that one confident mistake costs at most ln 10¹⁵ ≈ 34.5.
const LEAST_PROBABILITY: f64 = 1e-15;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    metric: Metric,
    /// True class → predicted class → cost. Only for the metric `cost`.
    cost: Option<Costs>,
}

type Costs = BTreeMap<String, BTreeMap<String, f64>>;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Metric {
    Error,
    LogLoss,
    Brier,
    Cost,
}

pub enum Loss {
    /// 1 for a wrong class, 0 for the right one.
    Error,
    /// −ln of the true class's probability.
    LogLoss,
    /// Σ (probability − truth)² over the classes, 0 to 2 (Brier 1950).
    Brier,
    /// What the table says; the right class costs 0 unless it says otherwise.
    Cost(Costs),
}

impl Scorer for Loss {
    type Config = Config;

    fn open(config: Config) -> Result<Self, String> {
        match (config.metric, config.cost) {
            (Metric::Cost, Some(costs)) => {
                check(&costs)?;
                Ok(Self::Cost(costs))
            }
            (Metric::Cost, None) => {
                Err("the metric `cost` needs `cost`: true class → predicted class → cost".to_owned())
            }
            (_, Some(_)) => Err("`cost` is only for the metric `cost`; remove it".to_owned()),
            (Metric::Error, None) => Ok(Self::Error),
            (Metric::LogLoss, None) => Ok(Self::LogLoss),
            (Metric::Brier, None) => Ok(Self::Brier),
        }
    }

    fn score(&mut self, classes: &[String], outcome: &Outcome) -> Result<Option<Judgement>, String> {
        let loss = match self {
            Self::Error => f64::from(u8::from(outcome.predicted != outcome.truth)),
            Self::Cost(costs) => cost(costs, classes, outcome)?,
            Self::LogLoss | Self::Brier if !are_probabilities(&outcome.scores) => {
                let reason = "the classifier's scores are no probabilities, which this metric needs";
                return Ok(Some(Judgement::refused(reason)));
            }
            Self::LogLoss => {
                let probability = outcome.scores.get(outcome.truth).copied().unwrap_or_default();
                // Never above 1, and 0.0 rather than -0.0 for a perfect prediction.
                -f64::from(probability).clamp(LEAST_PROBABILITY, 1.0).ln() + 0.0
            }
            Self::Brier => {
                let truth = |class: usize| f64::from(u8::from(class == outcome.truth));
                let scores = outcome.scores.iter().enumerate();
                scores.map(|(class, score)| (f64::from(*score) - truth(class)).powi(2)).sum()
            }
        };
        Ok(Some(Judgement::of(loss)))
    }
}

fn check(costs: &Costs) -> Result<(), String> {
    for (truth, row) in costs {
        for (predicted, cost) in row {
            if !(cost.is_finite() && *cost >= 0.0) {
                return Err(format!("`cost.{truth}.{predicted}` is {cost}, not a finite number ≥ 0"));
            }
        }
    }
    Ok(())
}

fn cost(costs: &Costs, classes: &[String], outcome: &Outcome) -> Result<f64, String> {
    let class = |index: usize| {
        let class = classes.get(index).map(String::as_str);
        class.ok_or_else(|| format!("class {index} is none of the {} classes", classes.len()))
    };
    let (truth, predicted) = (class(outcome.truth)?, class(outcome.predicted)?);
    match costs.get(truth).and_then(|row| row.get(predicted)) {
        Some(cost) => Ok(*cost),
        None if truth == predicted => Ok(0.0),
        None => Err(format!("`cost` does not say what `{predicted}` costs where `{truth}` is true")),
    }
}

/// Each within 0..=1 and together 1, as exactly as f32 sums are.
fn are_probabilities(scores: &[f32]) -> bool {
    let sum: f32 = scores.iter().sum();
    scores.iter().all(|score| (0.0..=1.0).contains(score)) && (sum - 1.0).abs() < 1e-3
}

export_scorer!(Loss);

#[cfg(test)]
mod tests {
    use sandpiper_sdk::OpenScorer;

    use super::*;

    fn outcome(predicted: usize, truth: usize, scores: [f32; 2]) -> Outcome {
        Outcome {
            id: "1".to_owned(),
            predicted,
            scores: scores.to_vec(),
            truth,
            source: String::new(),
            delay_ms: 0,
            revision: 1,
        }
    }

    fn score(config: &str, outcome: Outcome) -> Result<Judgement, String> {
        let classes = ["good".to_owned(), "bad".to_owned()];
        let judgements = OpenScorer::<Loss>::open(config)?.score(&classes, [outcome])?;
        Ok(judgements.into_iter().next().unwrap().1)
    }

    fn loss(config: &str, outcome: Outcome) -> f64 {
        let judgement = score(config, outcome).unwrap();
        assert_eq!((judgement.weight, judgement.refused), (1.0, None));
        judgement.loss
    }

    #[test]
    fn error_is_one_for_a_wrong_class_whatever_the_scores() {
        let config = r#"{"metric": "error"}"#;
        assert_eq!(loss(config, outcome(0, 0, [7.0, -1.0])), 0.0);
        assert_eq!(loss(config, outcome(0, 1, [7.0, -1.0])), 1.0);
    }

    #[test]
    fn log_loss_is_bounded_and_zero_for_certainty() {
        let config = r#"{"metric": "log-loss"}"#;
        assert_eq!(loss(config, outcome(0, 0, [1.0, 0.0])).to_bits(), 0.0_f64.to_bits());
        assert!((loss(config, outcome(0, 1, [0.75, 0.25])) - 4.0_f64.ln()).abs() < 1e-12);
        assert!((loss(config, outcome(0, 1, [1.0, 0.0])) - 34.538_776).abs() < 1e-6);
    }

    #[test]
    fn brier_is_the_squared_distance_from_the_truth() {
        let config = r#"{"metric": "brier"}"#;
        assert_eq!(loss(config, outcome(0, 1, [0.75, 0.25])), 1.125);
        assert_eq!(loss(config, outcome(0, 1, [1.0, 0.0])), 2.0);
    }

    #[test]
    fn scores_that_are_no_probabilities_are_not_judged_by_them() {
        for metric in ["log-loss", "brier"] {
            let config = format!(r#"{{"metric": "{metric}"}}"#);
            for scores in [[1.5, -0.5], [0.5, 0.4]] {
                let judgement = score(&config, outcome(0, 1, scores)).unwrap();
                assert!(judgement.refused.unwrap().contains("no probabilities"));
            }
        }
    }

    #[test]
    fn cost_is_what_the_table_says() {
        let config = r#"{"metric": "cost", "cost": {"bad": {"good": 5}, "good": {"good": 0.5}}}"#;
        assert_eq!(loss(config, outcome(0, 1, [0.9, 0.1])), 5.0);
        assert_eq!(loss(config, outcome(0, 0, [0.9, 0.1])), 0.5);
        assert_eq!(loss(config, outcome(1, 1, [0.1, 0.9])), 0.0);
    }

    #[test]
    fn a_cost_that_the_table_lacks_is_an_error_that_names_it() {
        let config = r#"{"metric": "cost", "cost": {"bad": {"good": 5}}}"#;
        let error = score(config, outcome(1, 0, [0.1, 0.9])).unwrap_err();
        assert!(error.contains("`bad` costs where `good` is true"), "{error}");
    }

    #[test]
    fn a_configuration_that_does_not_fit_is_refused_with_the_key() {
        for (config, reason) in [
            ("{}", "metric"),
            (r#"{"metric": "accuracy"}"#, "log-loss"),
            (r#"{"metric": "cost"}"#, "needs `cost`"),
            (r#"{"metric": "error", "cost": {}}"#, "remove it"),
            (r#"{"metric": "cost", "cost": {"a": {"b": -1}}}"#, "`cost.a.b`"),
            (r#"{"metric": "error", "costs": {}}"#, "costs"),
        ] {
            let error = OpenScorer::<Loss>::open(config).err().unwrap();
            assert!(error.contains(reason), "{error}");
        }
    }
}
