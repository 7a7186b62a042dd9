//! Who turns a component into machine code. Cranelift's time and memory depend on the component, which may be anybody's, so
//! the daemon leaves it to a process of its own that may be killed: the same program, asked to `serve` one component.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use wasmtime::Engine;

/// Processes at once, so that twice the memory of `Bounds` is the most that compiling takes.
const PROCESSES: usize = 2;
/// Threads of one process: each holds a function's compilation.
const THREADS: usize = 8;
/// How often a running process is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// What is kept of what a process said at last, bytes.
const LAST_WORDS: u64 = 2_000;

/// What compiling one component may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Address space of the process, bytes. Its machine code may be as large.
    pub memory: usize,
    pub time: Duration,
}

impl Default for Bounds {
    /// CPython took 34 s and 353 MB in a test build on two busy cores.
    fn default() -> Self {
        Self { memory: 2 << 30, time: Duration::from_secs(60) }
    }
}

/// How components are compiled.
#[derive(Clone)]
pub enum Compiler {
    /// In this process, without bounds but those of `complexity`: for tests and benchmarks, whose components are their own.
    InProcess,
    Process(Process),
}

/// A program that calls `serve` when it is started with these arguments.
#[derive(Clone)]
pub struct Process {
    program: PathBuf,
    arguments: Vec<OsString>,
    bounds: Bounds,
    places: Arc<Places>,
}

impl Process {
    pub fn new(program: PathBuf, arguments: Vec<OsString>, bounds: Bounds) -> Self {
        Self { program, arguments, bounds, places: Arc::default() }
    }

    /// Writes the machine code to `code`. Files that have no name are made in `directory`: there may be no other that can be
    /// written.
    fn compile(&self, component: &[u8], mut code: File, directory: &Path) -> Result<()> {
        let _place = self.places.take();
        let unwritable = || format!("what the compiler is given cannot be written into {}", directory.display());
        let mut input = tempfile::tempfile_in(directory).with_context(unwritable)?;
        input.write_all(component).and_then(|()| input.rewind()).with_context(unwritable)?;
        let mut errors = tempfile::tempfile_in(directory).with_context(unwritable)?;
        let mut command = Command::new(&self.program);
        // The environment may hold secrets, and nothing in it is of use.
        command.args(&self.arguments).env_clear().env("RAYON_NUM_THREADS", threads().to_string());
        command.stdin(input).stdout(Stdio::from(code.try_clone()?)).stderr(errors.try_clone()?);
        let child = command.spawn().with_context(|| format!("{} cannot be started", self.program.display()))?;
        let status = self.wait(child)?;
        if status.success() {
            code.rewind()?;
            return Ok(());
        }
        let end = errors.seek(SeekFrom::End(0))?;
        errors.seek(SeekFrom::Start(end.saturating_sub(LAST_WORDS)))?;
        let mut said = Vec::new();
        errors.take(LAST_WORDS).read_to_end(&mut said)?;
        Err(self.refusal(status, String::from_utf8_lossy(&said).trim()))
    }

    /// Waits for the end, which is brought about when it does not come in time.
    fn wait(&self, child: Child) -> Result<ExitStatus> {
        let mut child = Killed(child);
        let since = Instant::now();
        loop {
            if let Some(status) = child.0.try_wait()? {
                return Ok(status);
            }
            if since.elapsed() > self.bounds.time {
                bail!(self.too_slow());
            }
            std::thread::sleep(LOOK);
        }
    }

    fn refusal(&self, status: ExitStatus, said: &str) -> anyhow::Error {
        match (status.code(), status.signal()) {
            (Some(code), _) if code == i32::from(REFUSED) => invalid(said),
            (_, Some(libc::SIGXCPU)) => anyhow::anyhow!(self.too_slow()),
            (_, Some(libc::SIGXFSZ)) => anyhow::anyhow!(
                "its machine code takes more than {}",
                bound_in_words(self.bounds.memory, inherited(libc::RLIMIT_FSIZE), "ulimit -f")
            ),
            _ if said.contains("memory allocation of") || said.contains("Cannot allocate memory") => anyhow::anyhow!(
                "compiling it needs more than {}",
                bound_in_words(self.bounds.memory, inherited(libc::RLIMIT_AS), "ulimit -v")
            ),
            _ => anyhow::anyhow!("the compiler ended by itself ({status}); it said at last: {said}"),
        }
    }

    fn too_slow(&self) -> String {
        format!(
            "compiling it takes longer than {} s: make its functions smaller, or allow more with --compile-time",
            self.bounds.time.as_secs_f32()
        )
    }
}

impl Compiler {
    /// Writes the machine code to `code`, which stands in `directory`.
    ///
    /// # Errors
    /// When the component is not valid, or cannot be compiled within the bounds; the message says which.
    pub(super) fn compile(&self, engine: &Engine, component: &[u8], mut code: File, directory: &Path) -> Result<()> {
        match self {
            Self::InProcess => Ok(code.write_all(&precompile(engine, component).map_err(invalid)?)?),
            Self::Process(process) => process.compile(component, code, directory),
        }
    }
}

/// What a component is that wasmtime does not take.
pub(super) fn invalid(why: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("it is not a valid component: {why:#}; build it anew for wasm32-wasip2")
}

/// The exit code of a process that was given no valid component.
const REFUSED: u8 = 3;

/// The other side: compiles what stands on stdin to stdout, within bounds that it sets itself. Answers the exit code.
pub fn serve(bounds: Bounds) -> u8 {
    let compiled = || -> Result<Result<Vec<u8>>> {
        restrict(bounds).context("the compiler's process cannot be bounded")?;
        let mut component = Vec::new();
        std::io::stdin().lock().read_to_end(&mut component)?;
        Ok(precompile(&Engine::new(&super::engine::settings()).map_err(anyhow::Error::from)?, &component))
    };
    match compiled() {
        Ok(Ok(code)) => match std::io::stdout().lock().write_all(&code) {
            Ok(()) => return 0,
            Err(error) => eprintln!("the machine code cannot be written: {error}"),
        },
        Ok(Err(error)) => {
            eprintln!("{error:#}");
            return REFUSED;
        }
        Err(error) => eprintln!("{error:#}"),
    }
    1
}

fn precompile(engine: &Engine, component: &[u8]) -> Result<Vec<u8>> {
    engine.precompile_component(component).map_err(Into::into)
}

/// The processor's time is bounded too, for a parent that was killed itself or is stopped.
fn restrict(bounds: Bounds) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    // SAFETY: it takes numbers only.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
    let seconds = bounds.time.as_secs().saturating_add(1).saturating_mul(threads() as u64);
    let memory = bounds.memory as u64;
    for (resource, limit) in [
        (libc::RLIMIT_AS, memory),
        (libc::RLIMIT_FSIZE, memory),
        (libc::RLIMIT_CPU, seconds),
        // A process that was let die leaves no image of its memory behind.
        (libc::RLIMIT_CORE, 0),
    ] {
        // Only root may go above what the process was started with.
        let limit = inherited(resource).map_or(limit, |hard| hard.min(limit));
        let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
        // SAFETY: the limit outlives the call.
        if unsafe { libc::setrlimit(resource, &raw const limit) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

type Resource = libc::__rlimit_resource_t;

/// The limit that this process was started with and cannot exceed; none where there is none.
fn inherited(resource: Resource) -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit outlives the call.
    let known = unsafe { libc::getrlimit(resource, &raw mut limit) } == 0;
    (known && limit.rlim_max != libc::RLIM_INFINITY).then_some(limit.rlim_max)
}

/// How much that is which was not enough, and how more is to be had.
fn bound_in_words(bound: usize, inherited: Option<u64>, limit: &str) -> String {
    match inherited.filter(|hard| *hard < bound as u64) {
        Some(hard) => format!(
            "{} MiB of memory, which the daemon itself was started with (`{limit}`): make its functions smaller, or raise that limit",
            hard >> 20
        ),
        None => {
            format!("{} MiB of memory: make its functions smaller, or allow more with --compile-memory", bound >> 20)
        }
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(THREADS)
}

/// A process that does not outlive this.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It fails where it has ended, and then there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How many processes run, and who waits.
#[derive(Default)]
struct Places {
    taken: Mutex<usize>,
    free: Condvar,
}

impl Places {
    fn take(&self) -> Place<'_> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |taken: &mut usize| *taken >= PROCESSES;
        let mut taken = self.free.wait_while(taken, full).unwrap_or_else(PoisonError::into_inner);
        *taken += 1;
        Place(self)
    }
}

struct Place<'a>(&'a Places);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.free.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of compiling with a shell that does this instead of a compiler.
    fn compile(script: &str, time: Duration) -> String {
        let arguments = ["-c".into(), script.into()].to_vec();
        let process = Process::new("/bin/sh".into(), arguments, Bounds { time, ..Bounds::default() });
        match process.compile(b"a component", tempfile::tempfile().unwrap(), &std::env::temp_dir()) {
            Ok(()) => "compiled".into(),
            Err(error) => format!("{error:#}"),
        }
    }

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn what_the_process_writes_is_the_code_and_what_it_reads_is_the_component() {
        let mut code = tempfile::tempfile().unwrap();
        let process = Process::new("/bin/cat".into(), Vec::new(), Bounds::default());
        process.compile(b"a component", code.try_clone().unwrap(), &std::env::temp_dir()).unwrap();
        let mut text = String::new();
        code.read_to_string(&mut text).unwrap();
        assert_eq!(text, "a component");
    }

    #[test]
    fn a_process_that_does_not_end_is_killed_and_the_bound_named() {
        let said = compile("echo $$ >&2; exec sleep 1000", Duration::ZERO);
        assert!(said.contains("takes longer than 0 s") && said.contains("--compile-time"), "{said}");
    }

    #[test]
    fn a_process_that_crashes_is_a_refusal_with_its_last_words() {
        let said = compile("echo in the end >&2; kill -SEGV $$", LONG);
        assert!(said.contains("signal: 11") && said.contains("in the end"), "{said}");
        let said = compile("echo memory allocation of 99 bytes failed >&2; kill -ABRT $$", LONG);
        assert!(said.contains("more than 2048 MiB of memory") && said.contains("--compile-memory"), "{said}");
        let said = compile("kill -XCPU $$", LONG);
        assert!(said.contains("takes longer than 600 s"), "{said}");
        let said = compile("echo bad magic >&2; exit 3", LONG);
        assert!(said.contains("it is not a valid component: bad magic"), "{said}");
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_named() {
        let directory = Path::new("/proc/no/such/directory");
        let process = Process::new("/bin/cat".into(), Vec::new(), Bounds::default());
        let error = process.compile(b"", tempfile::tempfile().unwrap(), directory).unwrap_err();
        assert!(format!("{error:#}").contains("/proc/no/such/directory"), "{error:#}");
    }

    #[test]
    fn a_limit_that_the_process_was_started_with_is_the_lower_bound_and_named() {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new("/bin/true");
        let child = || {
            let limit = libc::rlimit { rlim_cur: 1 << 30, rlim_max: 1 << 30 };
            // SAFETY: the limit outlives the call, and the others take numbers only. Who is not root may not raise it again.
            unsafe {
                libc::setrlimit(libc::RLIMIT_AS, &raw const limit);
                libc::setuid(65_534);
            }
            restrict(Bounds { memory: 2 << 30, ..Bounds::default() })?;
            assert_eq!(inherited(libc::RLIMIT_AS), Some(1 << 30));
            restrict(Bounds { memory: 1 << 29, ..Bounds::default() })
        };
        // SAFETY: it makes system calls only.
        unsafe { command.pre_exec(child) };
        assert!(command.status().unwrap().success());
        let words = |inherited| bound_in_words(2 << 30, inherited, "ulimit -v");
        assert!(words(Some(1 << 30)).contains("1024 MiB") && words(Some(1 << 30)).contains("ulimit -v"));
        for lower in [None, Some(4 << 30)] {
            assert!(words(lower).contains("2048 MiB") && words(lower).contains("--compile-memory"), "{}", words(lower));
        }
    }

    #[test]
    fn no_more_than_two_processes_run_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().display();
        // Each leaves a file while it runs, and fails when it finds more than two.
        let script = format!("touch {at}/$$; n=$(ls {at} | wc -l); rm {at}/$$; [ $n -le 2 ]");
        let process = Process::new("/bin/sh".into(), vec!["-c".into(), script.into()], Bounds::default());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| process.compile(b"", tempfile::tempfile().unwrap(), directory.path()).unwrap());
            }
        });
    }
}
