//! What a swap costs the stream: the time between a commit and the next batch's end, with a swap in between and without.

use std::time::Duration;

use anyhow::Result;
use sandpiper::record::Revision;

use crate::drain::bounds;
use crate::measure::{median, quantile};
use crate::options::Options;
use crate::rig::{INPUT, Rig, Running};
use crate::table::{Figure, Goal, Table};

const PAUSE: &str = "swap: pause that it adds, p99";
pub const NAMES: &[&str] = &[PAUSE];

/// Between two swaps: long enough that transactions without one happen too.
const APART: Duration = Duration::from_millis(40);

pub fn measure(options: &Options, rig: &Rig, table: &mut Table) -> Result<()> {
    if !options.wants(PAUSE) {
        return Ok(());
    }
    let wanted = options.sized(200, 10);
    // Milliseconds.
    let (mut with, mut without, mut exchanges) = (Vec::new(), Vec::new(), Vec::new());
    let mut revision = Revision::FIRST;
    for pass in 0.. {
        if with.len() >= wanted {
            break;
        }
        let name = format!("swap-{pass}");
        rig.create(&name)?;
        let plan = rig.plan(&name, INPUT, &name, "")?;
        let mut bounds = bounds();
        // Small enough that half of the transactions end without a swap.
        bounds.records = 8_192;
        let running = Running::start(&plan, bounds, rig.wasm(&plan, revision)?, rig.records * 9 / 10)?;
        while !running.handles.stop.is_set() {
            revision = revision.next();
            let next = rig.wasm(&plan, revision)?;
            running.swap(next);
            std::thread::sleep(APART);
        }
        let report = running.handles.report.latest();
        exchanges.extend(report.swap_pauses_us.iter().map(|pause| *pause as f64 / 1e3));
        for commit in running.finish()? {
            let Some(next) = commit.next else { continue };
            let side = if next.revision == commit.revision { &mut without } else { &mut with };
            side.push(next.after.as_secs_f64() * 1e3);
        }
        rig.delete(&name)?;
        println!("  {} swaps, {} transactions without one", with.len(), without.len());
    }
    let (odd, even): (Vec<_>, Vec<_>) = without.iter().copied().enumerate().partition(|(at, _)| at % 2 == 1);
    let p99 = |gaps: &[(usize, f64)]| quantile(&gaps.iter().map(|(_, gap)| *gap).collect::<Vec<_>>(), 0.99);
    table.add(Figure {
        name: PAUSE,
        unit: "ms",
        measured: quantile(&with, 0.99) - quantile(&without, 0.99),
        goal: Goal::AtMost(1.0),
        control: p99(&odd) - p99(&even),
        detail: format!(
            "{} swaps; from a commit to the next batch's end, p50 {:.2} and p99 {:.2} ms with, {:.2} and {:.2} ms without; the \
             exchange itself, p99 {:.2} ms",
            with.len(),
            median(&with),
            quantile(&with, 0.99),
            median(&without),
            quantile(&without, 0.99),
            quantile(&exchanges, 0.99),
        ),
    });
    Ok(())
}
