//! `demo`: the whole product in one command, with nothing installed. What it runs is in `crate::demo`.

use clap::Args;

use super::{Failure, Global, Outcome, Output};
use crate::control::compiler::this_program;
use crate::demo::{self, MOCK_RECORDS, Screen, Settings, Summary, View};
use sandpiper_sandbox::compiler::Bounds;

/// Without --rate, all records are sent within this many seconds.
const SECONDS: u64 = 20;

/// Watch a better model take over on a live stream, with nothing installed.
#[derive(Args)]
#[command(after_help = "Examples:\n  sandpiper demo\n  sandpiper demo --kafka 127.0.0.1:9092 --records 50000\n\n\
    Flowers are measured and streamed, classified by a model, and named by a botanist later: so the stream itself says how \
    good the model is. Half-way a better one takes over between two transactions.\n\n\
    Without --kafka the broker is a mock within this process. It is for looking, not for keeping, and everything is gone \
    at the end. With --kafka the same runs exactly-once on a real one, in topics of its own, which stay there.")]
pub struct Demo {
    /// What is shown: baseline.
    #[arg(default_value = "baseline", value_parser = scenario)]
    scenario: Scenario,
    /// A real broker; it needs neither TLS nor SASL.
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// How many flowers are measured.
    #[arg(long, value_name = "N", default_value_t = 6_000, value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    records: u64,
    /// How many a second [default: all within 20 s].
    #[arg(long, value_name = "N/s", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
}

#[derive(Clone, Copy)]
enum Scenario {
    Baseline,
}

fn scenario(text: &str) -> Result<Scenario, String> {
    match text {
        "baseline" => Ok(Scenario::Baseline),
        "enhanced" => Err("it is not there yet: this version has only `baseline`".into()),
        _ => Err("there is only `baseline`".into()),
    }
}

impl Demo {
    pub fn run(self, global: &Global) -> Outcome {
        let Scenario::Baseline = self.scenario;
        if self.kafka.is_none() && self.records > MOCK_RECORDS {
            return Err(Failure::Usage(format!(
                "error: --records {} is too many without --kafka: the mock keeps 5 MB a partition, and more than {MOCK_RECORDS} would push out the first",
                self.records
            )));
        }
        let wants_log = std::env::var_os("RUST_LOG").is_some();
        if wants_log {
            super::logging();
        }
        let stop = super::interrupted()?;
        let screen = if global.output == Output::Json { Screen::Stderr } else { Screen::Stdout };
        let rate = self.rate.unwrap_or(self.records.div_ceil(SECONDS));
        let mut view = View::new(screen, wants_log, self.records);
        let compiler = this_program(Bounds::default());
        let settings = Settings { kafka: self.kafka, records: self.records, rate, compiler };
        let summary = demo::run(&settings, &mut view, &stop)?;
        match global.output {
            Output::Json => super::print_json(&summary)?,
            Output::Text => super::print(&format!("\n{summary}\n{}", closing_words(&summary)))?,
        };
        Ok(())
    }
}

/// What is left on a real broker, and the commands to try next.
fn closing_words(summary: &Summary) -> String {
    let broker = &summary.broker;
    if broker == "mock" {
        return "Try next:\n  \
            sandpiper demo --kafka 127.0.0.1:9092   # a broker of your own, exactly-once\n  \
            sandpiper plugin inspect logistic       # what a plugin offers and imports\n  \
            sandpiper run data/iris.toml            # a pipeline file as a daemon\n"
            .to_owned();
    }
    let topic = |name: &str| summary.topics.iter().find(|topic| topic.ends_with(name)).map_or("", String::as_str);
    let deletion = demo::deletion(broker, &summary.topics);
    format!(
        "The topics stay, their records for a day, or until you delete them:\n  {deletion}\n\n\
         Try next:\n  \
         kafka-console-consumer.sh --bootstrap-server {broker} --topic {} --from-beginning --isolation-level read_committed\n  \
         kafka-console-consumer.sh --bootstrap-server {broker} --topic {} --from-beginning --property print.headers=true\n  \
         sandpiper run data/iris.toml   # a pipeline file as a daemon\n",
        topic("predictions"),
        topic("dead-letters"),
    )
}
