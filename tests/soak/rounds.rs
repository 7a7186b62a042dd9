//! A soak, from the first record to the check.

use crate::faults::{self, Faults};
use crate::figures::{self, Phase, Slope};
use crate::kafka::jars::target;
use crate::load_test::LoadTest;
use crate::picture::{self, Picture};
use crate::support::daemon::{Daemon, sum};
use crate::support::scene::Scene;
use crate::watch::Watch;
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

crate::tests![nothing_grows_while_faults_come_and_go];

const ROUNDS: &str = "SANDPIPER_SOAK_ROUNDS";
const SECONDS: &str = "SANDPIPER_SOAK_SECONDS";
/// At least so long a recovered daemon is sampled, also when the recovery took its whole phase.
const MIN_AT_REST: Duration = Duration::from_secs(10);

/// How long a soak lasts.
#[derive(Clone, Copy)]
pub struct Length {
    rounds: usize,
    /// The length of a phase; its last fault may go beyond it by some seconds.
    phase: Duration,
}

impl Length {
    /// The length that the environment asks for, or three rounds of a minute for each phase.
    pub fn from_environment() -> Result<Length> {
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
    let length = Length::from_environment()?;
    let (rounds, phase) = (length.rounds, length.phase.as_secs());
    eprintln!(
        "{rounds} rounds of {phase} s steady, {phase} s of faults, {phase} s of recovery: about {:.0} minutes and the check",
        (3 * phase * rounds as u64) as f64 / 60.0
    );
    let test = LoadTest::proxied(scene, "[limits]\nworkers = 2\n")?;
    let mut daemon = test.daemon("a")?;
    // Records that came while the daemon started are no part of the soak.
    scene.until_done(&mut [&mut daemon])?;
    let watch = Watch::start(scene, &mut daemon)?;
    let soaked = run_rounds(&test, &mut daemon, &watch, length);
    let status = daemon.pipeline(&scene.name);
    let (samples, faults, watched) = watch.finish();
    // The figures and the picture are made of a soak that failed, too: they are needed most then.
    let slope = figures::slope(&samples);
    eprint!("\n{}", figures::table(&samples));
    eprintln!("{}", describe_slope(slope.as_ref()));
    let folder = target()?.join("soak");
    std::fs::create_dir_all(&folder)?;
    let (table, image) = (folder.join("soak.csv"), folder.join("soak.svg"));
    std::fs::write(&table, figures::csv(&samples, &faults))?;
    let picture = Picture {
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
    picture::draw(&picture, &image)?;
    eprintln!("picture: {}\nsamples: {}", image.display(), table.display());
    soaked?;
    watched?;
    let status = status?;
    let counters = ["transactions", "aborted", "recoveries"].map(|name| format!("{} {name}", sum(&status, name)));
    let figures = format!("{} faults, {}, revision {}", faults.len(), counters.join(", "), status["revision"]);
    test.assert_exactly_once(&mut [&mut daemon], &figures)?;
    let growth = figures::growth(&samples);
    ensure!(growth.is_empty(), "it has grown: {}", growth.join("; "));
    Ok(())
}

/// Runs all rounds, to the end of the last recovery.
fn run_rounds(test: &LoadTest, daemon: &mut Daemon, watch: &Watch, length: Length) -> Result<()> {
    let mut faults = Faults::new(test)?;
    for round in 1..=length.rounds {
        let say = |what: String| eprintln!("round {round} of {}: {what}", length.rounds);
        watch.enter(round, Phase::Steady);
        say("steady".to_owned());
        wait(daemon, Instant::now() + length.phase)?;
        watch.enter(round, Phase::Faults);
        let (started, mut count) = (Instant::now(), 0);
        while started.elapsed() < length.phase {
            let (name, fault) = faults.next();
            say(format!("fault: {name}"));
            let begun = Instant::now();
            let applied = fault(&mut faults, daemon);
            test.proxy()?.clear_rules();
            watch.fault_ended(name, begun);
            applied.and_then(|()| daemon.check_alive()).with_context(|| name)?;
            test.until_all_progress().with_context(|| format!("after {name}"))?;
            count += 1;
        }
        watch.enter(round, Phase::Recovering);
        let started = Instant::now();
        test.scene.until_done(&mut [daemon])?;
        let recovery = test.until_all_progress()?;
        watch.enter(round, Phase::Recovered);
        let took = started.elapsed() - recovery;
        say(format!("{count} faults over; everything committed that had come after {:.1} s", took.as_secs_f64()));
        wait(daemon, (started + length.phase).max(Instant::now() + MIN_AT_REST))?;
    }
    Ok(())
}

/// Waits, as long as the daemon lives.
fn wait(daemon: &mut Daemon, until: Instant) -> Result<()> {
    while Instant::now() < until {
        daemon.check_alive()?;
        std::thread::sleep(Duration::from_millis(100).min(until.saturating_duration_since(Instant::now())));
    }
    Ok(())
}

fn describe_slope(slope: Option<&Slope>) -> String {
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
