//! A wall clock that a test sets for one daemon alone: `wall_clock.c`, compiled and preloaded.

use crate::support::root;
use crate::trial::Lacks;
use anyhow::{Result, bail, ensure};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The library, and the file that it reads its offset from.
pub struct WallClock {
    shim: PathBuf,
    ahead: PathBuf,
}

impl WallClock {
    /// A clock that agrees with the machine's. `Lacks` where the C library is not glibc on 64-bit Linux, or there is no C
    /// compiler.
    pub fn new(directory: &Path) -> Result<WallClock> {
        if !cfg!(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64")) {
            bail!(Lacks("only on 64-bit Linux with glibc a process can be given a clock of its own".to_owned()));
        }
        let (shim, ahead) = (directory.join("wall_clock.so"), directory.join("wall_clock"));
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-o"]).arg(&shim);
        match cc.arg(root().join("tests/support/wall_clock.c")).output() {
            Err(error) => bail!(Lacks(format!("cc cannot be run: {error}"))),
            Ok(output) => {
                ensure!(output.status.success(), "cc failed: {}", String::from_utf8_lossy(&output.stderr));
            }
        }
        fs::write(&ahead, 0_i64.to_ne_bytes())?;
        Ok(WallClock { shim, ahead })
    }

    /// Sets it that many seconds ahead of the machine's clock; a negative number is behind.
    pub fn set(&self, ahead: i64) -> Result<()> {
        Ok(File::options().write(true).open(&self.ahead)?.write_all_at(&ahead.to_ne_bytes(), 0)?)
    }

    /// The environment of a daemon that uses this clock.
    pub fn environment(&self) -> [(&str, &OsStr); 2] {
        [("LD_PRELOAD", self.shim.as_os_str()), ("SANDPIPER_TEST_CLOCK", self.ahead.as_os_str())]
    }
}
