//! A daemon's own file.

use std::time::Duration;

use super::*;
use crate::config::daemon::{Daemon, parse};

/// A folder with what a daemon's file may name.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["iris.toml", "orders.toml", "cert.pem", "key.pem", "admin.token"] {
        std::fs::write(folder.path().join(file), "").unwrap();
    }
    folder
}

fn read_in(folder: &Path, text: &str) -> Result<Daemon, Vec<Mistake>> {
    let env = |name: &str| (name == "PASSWORD").then(|| "hunter2".to_owned());
    parse(&folder.join("daemon.toml"), text, &env)
}

#[track_caller]
fn right(text: &str) -> Daemon {
    match read_in(folder().path(), text) {
        Ok(daemon) => daemon,
        Err(mistakes) => panic!("{mistakes:#?}\n{text}"),
    }
}

/// The mistakes as shown, without the file's name.
#[track_caller]
fn wrong(text: &str) -> Vec<String> {
    let folder = folder();
    let Err(mistakes) = read_in(folder.path(), text) else { panic!("no mistake in\n{text}") };
    let prefix = format!("{}/daemon.toml:", folder.path().display());
    mistakes.iter().map(|mistake| mistake.to_string().replace(&prefix, "")).collect()
}

#[track_caller]
fn only_wrong(text: &str, place: &str, parts: &[&str]) {
    let found = wrong(text);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with(place), "{found:?}");
    for part in parts {
        assert!(found[0].contains(part), "{found:?} lacks {part}");
    }
}

const CONTROL: &str = "[control.kafka]\nbootstrap.servers = \"127.0.0.1:9092\"\n";

#[test]
fn a_daemons_file_names_pipelines_and_what_they_run_with() {
    let folder = folder();
    let text = r#"pipelines = ["iris.toml", "./orders.toml"]
instance = "eu-1"
state = "state"
[control]
topics = "eu"
[control.kafka]
bootstrap.servers = "127.0.0.1:9092"
sasl.password = "${PASSWORD}"
[admin]
listen = "127.0.0.1:8643"
certificate = "cert.pem"
key = "key.pem"
hosts = ["sandpiper.example.com"]
token_file = "admin.token"
[compile]
time = "30s"
memory = "1GiB"
"#;
    let daemon = read_in(folder.path(), text).unwrap();
    let beside = |name: &str| folder.path().join(name);
    assert_eq!(daemon.pipelines, [beside("iris.toml"), beside("./orders.toml")]);
    assert_eq!(daemon.instance.as_deref(), Some("eu-1"));
    assert_eq!(daemon.state, Some(beside("state")), "it need not be there yet");
    let control = daemon.control.as_ref().unwrap();
    assert_eq!(
        [control.commands(), control.deployments(), control.artifacts()],
        ["eu.commands", "eu.deployments", "eu.artifacts"]
    );
    assert_eq!(control.kafka.0["sasl.password"], "hunter2");
    assert_eq!(daemon.admin.listen.as_ref().unwrap().address.to_string(), "127.0.0.1:8643");
    assert_eq!(daemon.admin.tls, Some((beside("cert.pem"), beside("key.pem"))));
    assert_eq!(daemon.admin.hosts, ["sandpiper.example.com"]);
    assert_eq!(daemon.admin.token_file, Some(beside("admin.token")));
    assert_eq!((daemon.compile.time, daemon.compile.memory), (Some(Duration::from_secs(30)), Some(1 << 30)));
    assert!(!format!("{daemon:?}").contains("hunter2"));
}

#[test]
fn an_empty_file_leaves_everything_to_the_command_line() {
    let daemon = right("");
    assert!(daemon.pipelines.is_empty() && daemon.control.is_none() && daemon.admin.listen.is_none());
    assert!(daemon.instance.is_none() && daemon.state.is_none() && daemon.compile.time.is_none());
}

#[test]
fn control_topics_have_a_name_of_their_own_by_default() {
    assert_eq!(right(CONTROL).control.unwrap().topics, "sandpiper");
    only_wrong("[control]\ntopics = \"eu\"\n", "1:1: [control.kafka]: missing", &["[control]", "leave"]);
    let long = format!("[control]\ntopics = \"{}\"\n{CONTROL}", "x".repeat(238));
    only_wrong(&long, "2:10: [control] topics: ", &["1 to 237", "sandpiper.deployments"]);
    right(&long.replacen('x', "", 1));
    only_wrong(&format!("[control]\ntopics = \"a b\"\n{CONTROL}"), "2:10: [control] topics: \"a b\"", &[]);
}

#[test]
fn the_brokers_of_control_are_named_as_a_pipelines_are() {
    only_wrong("[control.kafka]\nclient.id = \"a\"\n", "1:1: [control.kafka] bootstrap.servers: missing", &[]);
    let with = |line: &str| format!("{CONTROL}{line}\n");
    let refused = wrong(&with("transactional.id = \"a\"\ngroup.id = \"b\"\nacks = 1"));
    assert_eq!(refused.len(), 3, "{refused:#?}");
    for found in &refused {
        assert!(
            found.contains("cannot be set here: Sandpiper sets it itself") && !found.contains("[delivery]"),
            "{found}"
        );
    }
    only_wrong(
        &with("metadata.broker.list = \"a:1\""),
        "3:24: [control.kafka] metadata.broker.list",
        &["bootstrap.servers"],
    );
    only_wrong(&with("sessoin.timeout.ms = 1"), "3:22: [control.kafka] sessoin.timeout.ms", &["no property"]);
    only_wrong(&with("sasl.password = \"${GONE}\""), "3:17: [control.kafka] sasl.password", &["GONE is not set"]);
    only_wrong("[control]\nkafka = 1\n", "2:9: [control.kafka]: found an integer", &["write [control.kafka]"]);
}

#[test]
fn an_unknown_key_of_a_daemons_file_is_reported_with_the_nearest() {
    only_wrong(
        "pipeline = [\"iris.toml\"]\n",
        "1:1: pipeline: unknown key, did you mean \"pipelines\"?",
        &["Allowed here: admin, compile, control, instance, pipelines, state"],
    );
    only_wrong("[admin]\nlisen = \"a\"\n", "2:1: [admin] lisen: unknown key, did you mean \"listen\"?", &[]);
    only_wrong("[compile]\ntimes = \"1s\"\n", "2:1: [compile] times", &["Allowed here: memory, time"]);
    only_wrong(&format!("[control]\ntopic = \"a\"\n{CONTROL}"), "2:1: [control] topic", &["\"topics\""]);
}

#[test]
fn a_pipeline_file_is_there_and_named_once() {
    only_wrong("pipelines = \"iris.toml\"\n", "1:13: pipelines: found a string: expected a list", &[]);
    only_wrong(
        "pipelines = [\"gone.toml\"]\n",
        "1:14: pipelines: \"gone.toml\" cannot be found",
        &["this file's folder"],
    );
    let twice = "pipelines = [\n\"iris.toml\",\n\"orders.toml\",\n\"./iris.toml\"]\n";
    only_wrong(twice, "4:1: pipelines: \"./iris.toml\" is named twice (line 2 too)", &["name it once"]);
}

#[test]
fn the_admin_api_listens_on_an_address_with_a_whole_certificate() {
    for right_one in ["0.0.0.0:8642", "[::1]:0", "localhost:8642", "https://127.0.0.1:1", "http://127.0.0.1:1/"] {
        right(&format!("[admin]\nlisten = \"{right_one}\"\n"));
    }
    for wrong_one in ["127.0.0.1", ":8642", "example.com:8642", "ftp://127.0.0.1:1", "8642", ""] {
        let text = format!("[admin]\nlisten = \"{wrong_one}\"\n");
        only_wrong(&text, "2:10: [admin] listen: ", &["is no address to listen on", "127.0.0.1:8642"]);
    }
    only_wrong("[admin]\ncertificate = \"cert.pem\"\n", "1:1: [admin] key: missing", &["key.pem"]);
    only_wrong("[admin]\nkey = \"key.pem\"\n", "1:1: [admin] certificate: missing", &["cert.pem"]);
    only_wrong("[admin]\ntoken_file = \"gone\"\n", "2:14: [admin] token_file: \"gone\" cannot be found", &[]);
    only_wrong("[admin]\nhosts = [\"https://a\"]\n", "2:10: [admin] hosts: \"https://a\" is no host's name", &[]);
}

#[test]
fn every_mistake_of_a_daemons_file_is_named_at_once() {
    let found =
        wrong("instance = \"a b\"\nstate = 1\n[compile]\ntime = \"soon\"\nmemory = \"2GB\"\n[admin]\nlisten = 1\n");
    let places =
        ["1:12: instance", "2:9: state", "4:8: [compile] time", "5:10: [compile] memory", "7:10: [admin] listen"];
    assert_eq!(found.len(), places.len(), "{found:#?}");
    for (found, place) in found.iter().zip(places) {
        assert!(found.starts_with(place), "{found}");
    }
    let gone = crate::config::daemon::load(Path::new("gone.toml")).unwrap_err();
    assert!(gone[0].to_string().starts_with("gone.toml:1:1: the daemon's file cannot be read: "), "{gone:?}");
}

#[test]
fn the_example_for_systemd_has_no_mistake() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/daemon.toml");
    assert_eq!(crate::config::daemon::load(&file).unwrap().pipelines.len(), 1);
}
