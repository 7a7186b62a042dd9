//! The course of a soak, from the first record to the verdict.

use crate::faults::{self, Faults};
use crate::figures::{self, Phase, Slope};
use crate::kafka::jars::target;
use crate::picture::{self, Story};
use crate::stage::Stage;
use crate::support::daemon::{Daemon, sum};
use crate::support::scene::Scene;
use crate::watch::Watch;
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

crate::tests![nothing_grows_while_faults_come_and_go];

const ROUNDS: &str = "SANDPIPER_SOAK_ROUNDS";
const SECONDS: &str = "SANDPIPER_SOAK_SECONDS";
/// Of a recovery that took long, something is sampled all the same.
const AT_REST: Duration = Duration::from_secs(10);

/// How long it goes on.
#[derive(Clone, Copy)]
pub struct Length {
    rounds: usize,
    /// Of a phase; the last fault of a phase may go beyond it by some seconds.
    phase: Duration,
}

impl Length {
    /// As the environment says.
    pub fn asked() -> Result<Length> {
        let number = |name: &str, usual: u64, least: u64| match std::env::var(name) {
            Ok(text) => match text.parse() {
                Ok(number) if number >= least => Ok(number),
                _ => anyhow::bail!("{name} is {text:?}: a whole number from {least}"),
            },
            Err(_) => Ok(usual),
        };
        let rounds = usize::try_from(number(ROUNDS, 3, 1)?)?;
        Ok(Length { rounds, phase: Duration::from_secs(number(SECONDS, 60, 5)?) })
    }
}

fn nothing_grows_while_faults_come_and_go(scene: &Scene) -> Result<()> {
    let length = Length::asked()?;
    let (rounds, phase) = (length.rounds, length.phase.as_secs());
    eprintln!(
        "{rounds} rounds of {phase} s steady, {phase} s of faults, {phase} s of recovery: about {:.0} minutes and the check",
        (3 * phase * rounds as u64) as f64 / 60.0
    );
    let stage = Stage::proxied(scene, "[limits]\nworkers = 2\n")?;
    let mut daemon = stage.daemon("a")?;
    // What came while it started is no part of it.
    scene.until_done(&mut [&mut daemon])?;
    let watch = Watch::start(scene, &mut daemon)?;
    let lived = live(&stage, &mut daemon, &watch, length);
    let counted = daemon.pipeline(&scene.name);
    let (samples, faults, watched) = watch.finish();
    // Also of a soak that failed: there it is wanted most.
    let slope = figures::slope(&samples);
    eprint!("\n{}", figures::table(&samples));
    eprintln!("{}", gained(slope.as_ref()));
    let folder = target()?.join("soak");
    std::fs::create_dir_all(&folder)?;
    let (table, drawn) = (folder.join("soak.csv"), folder.join("soak.svg"));
    std::fs::write(&table, figures::csv(&samples, &faults))?;
    let story = Story {
        title: format!("Soak: {rounds} rounds of {phase} s steady, {phase} s of faults, {phase} s of recovery"),
        subtitle:
            "One daemon, two workers, csv and logistic, a thousand rows a second on Apache Kafka. Shaded: faults, \
                   by their numbers."
                .to_owned(),
        samples: &samples,
        faults: &faults,
        kinds: &faults::names(),
        slope: slope.as_ref(),
    };
    picture::draw(&story, &drawn)?;
    eprintln!("picture: {}\nsamples: {}", drawn.display(), table.display());
    lived?;
    watched?;
    let counted = counted?;
    let counters = ["transactions", "aborted", "recoveries"].map(|name| format!("{} {name}", sum(&counted, name)));
    let figures = format!("{} faults, {}, revision {}", faults.len(), counters.join(", "), counted["revision"]);
    stage.verdict(&mut [&mut daemon], &figures)?;
    let grown = figures::grown(&samples);
    ensure!(grown.is_empty(), "it has grown: {}", grown.join("; "));
    Ok(())
}

/// All rounds, to the end of the last recovery.
fn live(stage: &Stage, daemon: &mut Daemon, watch: &Watch, length: Length) -> Result<()> {
    let mut faults = Faults::new(stage)?;
    for round in 1..=length.rounds {
        let say = |what: String| eprintln!("round {round} of {}: {what}", length.rounds);
        watch.enter(round, Phase::Steady);
        say("steady".to_owned());
        pass(daemon, Instant::now() + length.phase)?;
        watch.enter(round, Phase::Faults);
        let (started, mut count) = (Instant::now(), 0);
        while started.elapsed() < length.phase {
            let (name, fault) = faults.next();
            say(format!("fault: {name}"));
            let begun = Instant::now();
            let survived = fault(&mut faults, daemon);
            stage.proxy()?.lift();
            watch.note(name, begun);
            survived.and_then(|()| daemon.check_alive()).with_context(|| name)?;
            stage.until_all_progress().with_context(|| format!("after {name}"))?;
            count += 1;
        }
        watch.enter(round, Phase::Recovering);
        let started = Instant::now();
        stage.scene.until_done(&mut [daemon])?;
        let again = stage.until_all_progress()?;
        watch.enter(round, Phase::Recovered);
        let took = started.elapsed() - again;
        say(format!("{count} faults over; everything committed that had come after {:.1} s", took.as_secs_f64()));
        pass(daemon, (started + length.phase).max(Instant::now() + AT_REST))?;
    }
    Ok(())
}

/// Lets time go by.
fn pass(daemon: &mut Daemon, until: Instant) -> Result<()> {
    while Instant::now() < until {
        daemon.check_alive()?;
        std::thread::sleep(Duration::from_millis(100).min(until.saturating_duration_since(Instant::now())));
    }
    Ok(())
}

fn gained(slope: Option<&Slope>) -> String {
    let Some(slope) = slope else {
        return "slope of memory: none, since the first round warms up and is not counted".to_owned();
    };
    format!(
        "slope of memory: {:+.1} MB an hour (Theil-Sen; least squares {:+.1}), over {} samples at rest within {:.1} minutes, \
         without the first round",
        slope.theil_sen,
        slope.least_squares,
        slope.samples,
        (slope.to - slope.from) / 60.0,
    )
}
