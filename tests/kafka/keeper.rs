//! Children that end with this process, even when it is killed.
//!
//! Linux sends the parent-death signal when the *thread* that forked ends. Test threads come and go,
//! so one thread that never ends forks for all of them.

use std::io;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

type Job = (Command, Sender<io::Result<Child>>);

/// As `Command::spawn`, but the child is killed when this process is gone.
pub fn spawn(mut command: Command) -> io::Result<Child> {
    static KEEPER: OnceLock<Sender<Job>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (sender, jobs) = channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, answer) in jobs {
                // A caller that panicked meanwhile no longer receives.
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    die_with_us(&mut command);
    let (sender, answer) = channel();
    let gone = || io::Error::other("the thread that starts children is gone");
    keeper.send((command, sender)).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

#[cfg(target_os = "linux")]
fn die_with_us(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    let parent = std::process::id();
    // SAFETY: between fork and exec the closure only makes system calls, all async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // We may have died before the call above.
            if libc::getppid().cast_unsigned() != parent {
                return Err(io::Error::from(io::ErrorKind::Other));
            }
            // Whoever runs the tests may ignore it, as `nohup` does, and children inherit that.
            libc::signal(libc::SIGHUP, libc::SIG_DFL);
            Ok(())
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_us(_: &mut Command) {}

/// Sends a signal to one child, which must not have been waited for.
pub fn signal(child: &Child, signal: i32) {
    // SAFETY: `kill` takes two numbers. The pid is ours: a child keeps it until it is waited for.
    unsafe {
        libc::kill(child.id().cast_signed(), signal);
    }
}
