//! End to end at a steady rate: from a record's sending to its prediction's reading, against the record's own reading.

use std::time::Duration;

use anyhow::Result;
use rdkafka::message::Message as _;
use sandpiper::record::Revision;

use crate::measure::quantile;
use crate::options::Options;
use crate::rig::{Rig, Running};
use crate::stream::{self, Stream};
use crate::support::flowers::ROW;
use crate::table::{Figure, Goal, Table};

const P50: &str = "latency: added at 10,000 records/s, p50";
const P99: &str = "latency: added at 10,000 records/s, p99";
pub const NAMES: &[&str] = &[P50, P99];

const RATE: usize = 10_000;
/// Seconds that are not counted, while clients connect.
const WARM_UP: usize = 2;
/// Seconds of the rounds that are not counted at all, while the broker's JVM compiles what it runs.
const WARM_ROUND: usize = 20;
const COMMIT: Duration = Duration::from_millis(5);

pub fn measure(options: &Options, rig: &Rig, table: &mut Table) -> Result<()> {
    if !options.wants(P50) && !options.wants(P99) {
        return Ok(());
    }
    let (rounds, seconds) = (options.sized(3, 1), options.sized(8, 3));
    let (mut direct, mut processed, mut again) = (Vec::new(), Vec::new(), Vec::new());
    // Round 0 warms the broker's JVM and is not counted.
    for round in 0..=rounds {
        for (name, through, ages) in
            [("direct", false, &mut direct), ("processed", true, &mut processed), ("again", false, &mut again)]
        {
            let seconds = if round == 0 && through { options.sized(WARM_ROUND, seconds) } else { seconds };
            let run = run(rig, &format!("{name}-{round}"), seconds, through)?;
            if round > 0 {
                ages.extend(run);
            }
        }
    }
    for (name, share, most) in [(P50, 0.5, 13.0), (P99, 0.99, 40.0)] {
        let (direct, processed, again) =
            (quantile(&direct, share), quantile(&processed, share), quantile(&again, share));
        if options.wants(name) {
            table.add(Figure {
                name,
                unit: "ms",
                measured: processed - direct,
                goal: Goal::AtMost(most),
                control: again - direct,
                detail: format!("{processed:.1} against {direct:.1} ms, exactly-once, 5 ms commit"),
            });
        }
    }
    Ok(())
}

/// Milliseconds of each record that was sent after the warm-up.
fn run(rig: &Rig, name: &str, seconds: usize, through: bool) -> Result<Vec<f64>> {
    let (input, output) = (format!("{name}-in"), format!("{name}-out"));
    rig.create(&input)?;
    rig.create(&output)?;
    let worker = if through {
        let mut plan = rig.plan(name, &input, &output, "")?;
        plan.delivery.commit_interval = COMMIT;
        Some(Running::start(&plan, (&plan).into(), rig.wasm(&plan, Revision::FIRST)?, usize::MAX)?)
    } else {
        None
    };
    let records = RATE * (WARM_UP + seconds);
    let stream = Stream::start(rig, &input, RATE, records, ROW)?;
    let sent = stream.sent.clone();
    let (mut ages, mut read) = (Vec::with_capacity(records), 0);
    stream::read(&mut rig.client(), if through { &output } else { &input }, |message| {
        if let Some((number, age)) = message.and_then(|message| sent.age(message.key()?)) {
            read += 1;
            if number >= RATE * WARM_UP {
                ages.push(age);
            }
        }
        read == records
    })
    .inspect_err(|_| {
        let report = worker.as_ref().map(|worker| worker.handles.report.latest());
        eprintln!("{read} of {records} records were read; the worker: {report:?}");
    })?;
    stream.finish()?;
    let transactions = worker.map(Running::stop).transpose()?.map_or(0, |commits| commits.len());
    rig.delete(&input)?;
    rig.delete(&output)?;
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| quantile(&ages, share));
    let rate = transactions / (WARM_UP + seconds);
    println!("  {name:<12} p50 {p50:.1} p99 {p99:.1} p99.9 {p999:.1} ms, {rate} transactions/s");
    Ok(ages)
}
