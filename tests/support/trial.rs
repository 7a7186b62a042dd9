//! Runs trials: tests on one broker, each in a folder of its own that is kept when it fails.

use crate::kafka::{Kafka, tail};
use crate::support::scene::Scene;
use anyhow::Result;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

/// A test's name, which is a sentence, and its body.
pub type Test = (&'static str, fn(&Scene) -> Result<()>);

/// A module's tests: `tests![first, second]` is its `pub const TESTS`.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub const TESTS: &[crate::trial::Test] = &[$((stringify!($name), $name)),*];
    };
}
pub(crate) use tests;

/// What a test needs and this machine does not have: the error of a test that is then reported as ignored, by name and with
/// this reason, instead of passing or failing.
#[derive(Debug)]
pub struct Lacks(pub String);

impl std::fmt::Display for Lacks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Lacks {}

/// What all tests share. The broker starts with the first test that runs, so `--list` needs none.
struct Shared {
    directory: PathBuf,
    start: fn(&Path) -> Result<Kafka>,
    kafka: OnceLock<Result<Kafka, String>>,
}

/// Runs the tests that the command line names, that many side by side unless it says otherwise.
pub fn main(
    prefix: &str,
    threads: usize,
    themes: &[(&str, &'static [Test])],
    start: fn(&Path) -> Result<Kafka>,
) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(threads);
    let directory = match tempfile::Builder::new().prefix(prefix).tempdir() {
        Ok(directory) => directory.keep(),
        Err(error) => {
            eprintln!("no temporary folder: {error}");
            return ExitCode::FAILURE;
        }
    };
    let shared = Arc::new(Shared { directory: directory.clone(), start, kafka: OnceLock::new() });
    let trials = themes.iter().flat_map(|(theme, tests)| tests.iter().map(move |test| (theme, *test)));
    let trials = trials.map(|(theme, (name, body))| {
        let shared = Arc::clone(&shared);
        Trial::ignorable_test(format!("{theme}::{name}"), move || run(&shared, name, body))
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());

    if let Some(Ok(kafka)) = shared.kafka.get()
        && let Err(error) = kafka.stop()
    {
        eprintln!("the broker did not stop: {error}");
    }
    if conclusion.has_failed() {
        eprintln!("kept: {}", directory.display());
    } else {
        let _ = std::fs::remove_dir_all(&directory);
    }
    conclusion.exit_code()
}

fn run(shared: &Shared, name: &'static str, body: fn(&Scene) -> Result<()>) -> Result<Completion, Failed> {
    let kafka = shared
        .kafka
        .get_or_init(|| (shared.start)(&shared.directory.join("kafka")).map_err(|error| format!("{error:#}")));
    let kafka = kafka.as_ref().map_err(Failed::from)?;
    let directory = shared.directory.join(name);
    std::fs::create_dir_all(&directory)?;
    let scene = Scene { name: name.to_owned(), directory, kafka };
    // A failed assertion must show the logs as well.
    let body = std::panic::AssertUnwindSafe(|| body(&scene));
    let result = std::panic::catch_unwind(body).unwrap_or_else(|payload| Err(panicked(payload.as_ref())));
    let completion = match result {
        Ok(()) => Completion::Completed,
        Err(error) => match error.downcast::<Lacks>() {
            Ok(lacks) => Completion::ignored_with(lacks),
            Err(error) => {
                let logs = logs(&scene.directory);
                return Err(format!("{error:#}\n\n{logs}kept: {}", scene.directory.display()).into());
            }
        },
    };
    let _ = std::fs::remove_dir_all(&scene.directory);
    Ok(completion)
}

fn panicked(payload: &(dyn std::any::Any + Send)) -> anyhow::Error {
    let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
    anyhow::anyhow!("{}", text.unwrap_or("panicked"))
}

/// The end of every daemon's log.
fn logs(directory: &Path) -> String {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .map(|path| tail(&path, 40))
        .collect()
}
