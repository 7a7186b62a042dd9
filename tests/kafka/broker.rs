//! One broker: a JVM with a directory and ports of its own.

use super::{jars, keeper, port::Port};
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

/// Base64 of the 16 bytes `sandpiper-tests1`.
const CLUSTER_ID: &str = "c2FuZHBpcGVyLXRlc3RzMQ";

/// A group's coordinator leads one of these.
pub const OFFSETS_PARTITIONS: usize = 3;

/// How a broker's JVM is set up: for a short or a long life.
#[derive(Clone, Copy, PartialEq)]
pub enum Life {
    /// For tests: the C1 compiler alone, the serial collector and few threads are ready sooner on few cores.
    Short,
    /// For measurements: as Kafka's own start script sets it up.
    Long,
}

/// A further listener for clients.
pub struct Listener {
    /// In capitals, without anything else.
    pub name: &'static str,
    /// `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`.
    pub protocol: &'static str,
    pub port: Port,
    /// The address that its clients are told: its own, or a proxy's.
    pub advertised: String,
    /// Lines of the listener's own configuration, without their prefix.
    pub properties: Vec<String>,
}

/// A broker that is its own controller, running or not.
pub struct Broker {
    pub node: usize,
    life: Life,
    pub listener: Port,
    pub controller: Port,
    /// Beside its own.
    pub more: Vec<Listener>,
    /// Configuration, data and log.
    pub directory: PathBuf,
    child: Option<Child>,
}

impl Broker {
    pub fn reserve(node: usize, directory: PathBuf, life: Life) -> Result<Broker> {
        fs::create_dir_all(&directory)?;
        let (listener, controller) = (Port::reserve()?, Port::reserve()?);
        Ok(Broker { node, life, listener, controller, more: Vec::new(), directory, child: None })
    }

    /// Writes the configuration and formats the data directory.
    pub fn format(&self, voters: &str, brokers: usize) -> Result<()> {
        fs::write(self.directory.join("server.properties"), self.properties(voters, brokers))?;
        let output = self
            .java("-Xmx128m")?
            .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"])
            .arg(self.directory.join("server.properties"))
            .output()
            .context("cannot run java")?;
        ensure!(
            output.status.success(),
            "Kafka's data directory cannot be formatted: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn properties(&self, voters: &str, brokers: usize) -> String {
        let replication = brokers.min(3);
        let in_sync = if brokers > 1 { 2 } else { 1 };
        let each = |line: &dyn Fn(&Listener) -> String| self.more.iter().map(line).collect::<String>();
        let listen = each(&|more| format!(",{}://{}", more.name, more.port.address()));
        let advertise = each(&|more| format!(",{}://{}", more.name, more.advertised));
        let protocols = each(&|more| format!(",{}:{}", more.name, more.protocol));
        let own = each(&|more| {
            let prefix = format!("listener.name.{}.", more.name.to_lowercase());
            more.properties.iter().map(|line| format!("{prefix}{line}\n")).collect()
        });
        format!(
            "process.roles=broker,controller\n\
             node.id={node}\n\
             controller.quorum.voters={voters}\n\
             controller.listener.names=CONTROLLER\n\
             listeners=PLAINTEXT://{listener},CONTROLLER://{controller}{listen}\n\
             advertised.listeners=PLAINTEXT://{listener}{advertise}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}\n\
             {own}\
             inter.broker.listener.name=PLAINTEXT\n\
             log.dirs={data}\n\
             default.replication.factor={replication}\n\
             min.insync.replicas={in_sync}\n\
             offsets.topic.replication.factor={replication}\n\
             offsets.topic.num.partitions={OFFSETS_PARTITIONS}\n\
             transaction.state.log.replication.factor={replication}\n\
             transaction.state.log.min.isr={in_sync}\n\
             transaction.state.log.num.partitions=3\n\
             share.coordinator.state.topic.replication.factor={replication}\n\
             share.coordinator.state.topic.min.isr={in_sync}\n\
             transaction.abort.timed.out.transaction.cleanup.interval.ms=1000\n\
             group.initial.rebalance.delay.ms=0\n\
             auto.create.topics.enable=false\n\
             {threads}\
             log.retention.ms=-1\n\
             log.cleaner.dedupe.buffer.size=4194304\n",
            node = self.node,
            listener = self.listener.address(),
            controller = self.controller.address(),
            data = self.data().display(),
            threads = match self.life {
                Life::Short => "num.network.threads=2\nnum.io.threads=4\nbackground.threads=2\n",
                Life::Long => "",
            },
        )
    }

    /// The folder of the partitions' folders.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Starts the JVM; does not wait until it serves.
    pub fn launch(&mut self) -> Result<()> {
        if self.child.is_some() {
            return Ok(());
        }
        let (heap, options) = match self.life {
            Life::Short => ("-Xmx512m", ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]),
            Life::Long => ("-Xmx1g", ["-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"]),
        };
        let mut java = self.java(heap)?;
        java.args(options).arg("kafka.Kafka").arg(self.directory.join("server.properties"));
        let console = File::options().create(true).append(true).open(self.directory.join("console.log"))?;
        java.stdin(std::process::Stdio::null()).stdout(console.try_clone()?).stderr(console);
        self.child = Some(keeper::spawn(java).context("cannot run java")?);
        Ok(())
    }

    fn java(&self, heap: &str) -> Result<std::process::Command> {
        let log4j = self.directory.join("log4j2.xml");
        fs::write(&log4j, include_str!("log4j2.xml"))?;
        let mut java = jars::java()?;
        java.arg(heap)
            .arg(format!("-Dlog4j2.configurationFile={}", log4j.display()))
            .arg(format!("-Dkafka.logs.dir={}", self.directory.display()));
        Ok(java)
    }

    /// An error when the JVM has ended by itself, with the end of its log.
    pub fn check_alive(&mut self) -> Result<()> {
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait()?
        {
            self.child = None;
            bail!("the broker ended ({status}):\n{}", self.log_tail());
        }
        Ok(())
    }

    pub fn log_tail(&self) -> String {
        ["server.log", "console.log"].map(|file| tail(&self.directory.join(file), 25)).concat()
    }

    /// SIGTERM, and SIGKILL when it does not end within 20 s.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(child) = &self.child {
            keeper::signal(child, libc::SIGTERM);
            self.wait(Duration::from_secs(20))?;
        }
        self.kill()
    }

    pub fn signal(&mut self, signal: i32) -> Result<()> {
        self.check_alive()?;
        self.child.iter().for_each(|child| keeper::signal(child, signal));
        Ok(())
    }

    /// As a power cut would: SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    fn wait(&mut self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        while let Some(child) = &mut self.child
            && Instant::now() < deadline
        {
            if child.try_wait()?.is_some() {
                self.child = None;
            } else {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }
}

/// The last lines of a file, for a message.
pub fn tail(file: &Path, lines: usize) -> String {
    let text = fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    let last = all.get(all.len().saturating_sub(lines)..).unwrap_or_default();
    format!("--- {}\n{}\n", file.display(), last.join("\n"))
}
