//! Java, and Kafka's jars: fetched once with Maven, found again afterwards.

use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

/// Brokers of Kafka 4 refuse anything older.
const JAVA: u32 = 17;
const POM: &str = include_str!("pom.xml");

/// A JVM that has Kafka's classes: `java -cp …`.
pub fn java() -> Result<Command> {
    let mut java = Command::new(program("java"));
    java.arg("-cp").arg(directory()?.join("*"));
    Ok(java)
}

/// A program of the JDK.
pub fn program(name: &str) -> PathBuf {
    match std::env::var_os("JAVA_HOME") {
        Some(home) => Path::new(&home).join("bin").join(name),
        None => name.into(),
    }
}

/// The folder of the jars, filled when it is not there yet.
fn directory() -> Result<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let version =
        POM.split("<version>").nth(1).and_then(|rest| rest.split('<').next()).context("pom.xml names no version")?;
    let directory = target()?.join("kafka").join(version);
    if is_complete(&directory) {
        return Ok(directory);
    }
    check_java()?;
    fetch(&directory)?;
    Ok(directory)
}

/// The pom is copied last, so a folder with an equal pom is whole.
fn is_complete(directory: &Path) -> bool {
    fs::read_to_string(directory.join("pom.xml")).is_ok_and(|pom| pom == POM)
}

/// Into a folder of our own, then renamed: another process may do the same at the same time.
fn fetch(directory: &Path) -> Result<()> {
    let parent = directory.parent().context("no folder for the jars")?;
    fs::create_dir_all(parent)?;
    let fresh = tempfile::Builder::new().prefix("fetch-").tempdir_in(parent)?;
    let jars = fresh.path().join("jars");
    let pom = fresh.path().join("pom.xml");
    fs::write(&pom, POM)?;
    let output = run(
        Command::new("mvn")
            .args(["-q", "-B", "-f"])
            .arg(&pom)
            .arg("dependency:copy-dependencies")
            .arg(format!("-DoutputDirectory={}", jars.display())),
        "mvn is missing: install Apache Maven 3.6 or newer (Debian and Ubuntu: apt-get install maven)",
    )?;
    ensure!(
        output.status.success(),
        "Maven could not fetch Kafka's jars (it needs access to Maven Central or a mirror of it once):\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    fs::copy(&pom, jars.join("pom.xml"))?;
    if directory.exists() && !is_complete(directory) {
        let _ = fs::rename(directory, fresh.path().join("outdated"));
    }
    match fs::rename(&jars, directory) {
        Err(_) if is_complete(directory) => Ok(()), // Another process was first.
        other => other.with_context(|| format!("cannot create {}", directory.display())),
    }
}

fn check_java() -> Result<()> {
    let advice = format!(
        "install a JDK of Java {JAVA} or newer (Debian and Ubuntu: apt-get install openjdk-{JAVA}-jdk-headless)"
    );
    let output = run(Command::new(program("java")).arg("-version"), &format!("java is missing: {advice}"))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    // openjdk version "17.0.15" 2025-04-15, and 1.8.0_402 for what was Java 8.
    let version = text.split('"').nth(1).unwrap_or_default();
    let number = version.split(['.', '-', '+']).next().and_then(|major| major.parse().ok()).unwrap_or(0);
    if number < JAVA {
        bail!("java is too old ({}): {advice}", text.lines().next().unwrap_or("it names no version"));
    }
    Ok(())
}

fn run(command: &mut Command, when_missing: &str) -> Result<Output> {
    command.output().with_context(|| when_missing.to_owned())
}

/// Cargo's target folder: the one above this program that cargo marked.
pub fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let marked = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    marked.map(Path::to_path_buf).with_context(|| format!("{} does not stand in a target folder", program.display()))
}
