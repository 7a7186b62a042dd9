//! Connections by TLS and SASL: those that are right work, and those that are wrong are named where an operator looks.

use crate::kafka::{Kafka, Life, Listener, Port};
use crate::support::daemon::{Daemon, Printed, sandpiper};
use crate::support::flowers::ROW;
use crate::support::scene::Scene;
use crate::support::{record, until};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

crate::tests![a_connection_that_is_refused_is_named_in_check_and_in_status];

/// One way to connect: its name, the listener, `[kafka]`'s lines, and what is to be said of it.
type Case<'a> = (&'a str, &'a str, String, &'a [&'a str]);

fn a_connection_that_is_refused_is_named_in_check_and_in_status(scene: &Scene) -> Result<()> {
    let store = |name: &str, options: &[&str]| certificate(&scene.directory, name, options);
    let (right, right_ca) = store("right", &["-ext", "san=ip:127.0.0.1"])?;
    let (expired, expired_ca) = store("expired", &["-ext", "san=ip:127.0.0.1", "-startdate", "-3d", "-validity", "1"])?;
    let (elsewhere, elsewhere_ca) = store("elsewhere", &["-ext", "san=dns:elsewhere.example"])?;
    let listeners = vec![sasl()?, tls("RIGHT", &right)?, tls("EXPIRED", &expired)?, tls("ELSEWHERE", &elsewhere)?];
    let address = |at: usize| listeners[at].port.address();
    let (sasl, tls, expired, elsewhere) = (address(0), address(1), address(2), address(3));
    let kafka = Kafka::start_with(&scene.directory.join("kafka"), Life::Short, listeners)?;
    let scene = scene.on(&kafka);
    let plain = kafka.bootstrap();

    let login = |mechanism: &str, password: &str| {
        format!(
            "security.protocol = \"sasl_plaintext\"\nsasl.mechanism = {mechanism:?}\nsasl.username = \"sandpiper\"\nsasl.password = {password:?}\n"
        )
    };
    let trusting = |ca: &Path| format!("security.protocol = \"ssl\"\nssl.ca.location = {ca:?}\n");
    let refused: [Case; 7] = [
        ("password", &sasl, login("PLAIN", "wrong"), &["uthentication failed"]),
        ("mechanism", &sasl, login("SCRAM-SHA-256", "right"), &["mechanism", "PLAIN"]),
        ("tls-to-plain", &plain, trusting(&right_ca), &["PLAINTEXT broker listener"]),
        ("plain-to-tls", &tls, String::new(), &["TLS listener"]),
        ("expired", &expired, trusting(&expired_ca), &["has expired"]),
        ("host-name", &elsewhere, trusting(&elsewhere_ca), &["not for this host name"]),
        ("issuer", &tls, trusting(&expired_ca), &["ssl.ca.location"]),
    ];
    let mut files = Vec::new();
    for (name, broker, lines, words) in &refused {
        let file = pipeline(&scene.part(name), broker, lines)?;
        let printed = check(&file)?;
        assert_eq!(printed.code, Some(1), "{name}: {printed:?}");
        for word in *words {
            assert!(printed.err.contains(word), "{name}: {word:?} is missing in: {}", printed.err);
        }
        files.push(file);
    }
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let mut daemon = Daemon::spawn(&scene.directory, "refused", &files, &["--instance", "refused"])?;
    for (name, _, _, words) in &refused {
        let part = scene.part(name);
        until(&format!("the status of {name} says why"), || {
            daemon.check_alive()?;
            let status = daemon.pipeline(&part.name)?;
            let error = status["workers"][0]["last_error"].as_str().unwrap_or_default();
            Ok(words.iter().all(|word| error.contains(word)).then_some(()))
        })?;
    }

    for (name, broker, lines) in [("login", &sasl, login("PLAIN", "right")), ("certificate", &tls, trusting(&right_ca))]
    {
        let part = scene.part(name);
        part.create_usual(1)?;
        let file = pipeline(&part, broker, &lines)?;
        let printed = check(&file)?;
        assert_eq!(printed.code, Some(0), "{name}: {printed:?}");
        let mut daemon = part.daemon(name, &file)?;
        part.write("in", &[record::value(ROW)])?;
        part.until_done(&mut [&mut daemon])?;
        assert_eq!(part.read("out")?.len(), 1, "{name}");
    }
    Ok(())
}

fn pipeline(part: &Scene, broker: &str, lines: &str) -> Result<PathBuf> {
    let file = part.flower_pipeline("", &part.model_of("setosa")?, "")?;
    let usual = format!("bootstrap.servers = {:?}\n", part.bootstrap());
    let text = std::fs::read_to_string(&file)?;
    ensure!(text.contains(&usual), "no {usual:?} in {text}");
    std::fs::write(&file, text.replace(&usual, &format!("bootstrap.servers = {broker:?}\n{lines}")))?;
    Ok(file)
}

fn check(file: &Path) -> Result<Printed> {
    Printed::of(sandpiper().args(["check", "--connect"]).arg(file))
}

/// A listener that knows one user, by the mechanism PLAIN alone.
fn sasl() -> Result<Listener> {
    let login = "org.apache.kafka.common.security.plain.PlainLoginModule required user_sandpiper=\"right\";";
    listener(
        "SASL",
        "SASL_PLAINTEXT",
        vec!["sasl.enabled.mechanisms=PLAIN".into(), format!("plain.sasl.jaas.config={login}")],
    )
}

fn tls(name: &'static str, store: &Path) -> Result<Listener> {
    let lines = vec![
        format!("ssl.keystore.location={}", store.display()),
        format!("ssl.keystore.password={PASSWORD}"),
        "ssl.keystore.type=PKCS12".into(),
    ];
    listener(name, "SSL", lines)
}

fn listener(name: &'static str, protocol: &'static str, properties: Vec<String>) -> Result<Listener> {
    let port = Port::reserve()?;
    let advertised = port.address();
    Ok(Listener { name, protocol, port, advertised, properties })
}

const PASSWORD: &str = "changeit";

/// A key with a certificate that it has signed itself, as a store for the broker, and the certificate for its clients.
fn certificate(directory: &Path, name: &str, options: &[&str]) -> Result<(PathBuf, PathBuf)> {
    let (store, pem) = (directory.join(format!("{name}.p12")), directory.join(format!("{name}.pem")));
    let keytool = |arguments: &[&str]| {
        let output = Command::new(crate::kafka::jars::program("keytool"))
            .args(arguments)
            .args(["-alias", name, "-storepass", PASSWORD, "-keystore"])
            .arg(&store)
            .output()
            .context("cannot run keytool, which comes with Java")?;
        ensure!(output.status.success(), "keytool: {}", String::from_utf8_lossy(&output.stdout));
        Ok(())
    };
    let generate = ["-genkeypair", "-keyalg", "EC", "-groupname", "secp256r1", "-storetype", "PKCS12"];
    keytool(&[&generate, ["-dname", "CN=a test's broker"].as_slice(), options].concat())?;
    keytool(&["-exportcert", "-rfc", "-file", &pem.to_string_lossy()])?;
    Ok((store, pem))
}
