//! A range of the input through a candidate: what would change, told without a trace in the pipeline's topics.

use crate::kafka::keeper;
use crate::support::daemon::{Printed, sandpiper};
use crate::support::flowers::{self, ROW, flowers};
use crate::support::record::{self, Record};
use crate::support::scene::Scene;
use crate::support::topic;
use anyhow::{Context, Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

crate::tests![
    two_models_give_the_known_matrix_and_accuracies_and_leave_no_trace,
    a_range_is_one_of_times_or_of_offsets,
    what_runs_is_found_in_the_state_directory_of_a_daemon_that_goes_on,
    a_record_that_only_one_rejects_is_named_with_its_reason,
    corrections_go_to_a_topic_of_their_own_and_name_the_revision_that_they_correct,
    transforms_are_compared_byte_for_byte,
    what_cannot_be_compared_is_refused_with_the_fix,
    a_range_that_was_removed_is_refused_with_what_is_left,
    an_open_transaction_is_waited_out_and_an_aborted_record_is_none,
];

/// Runs `backtest` on that file, with a state directory that knows nothing unless another is named.
fn backtest(scene: &Scene, file: &Path, arguments: &[&str]) -> Result<Printed> {
    let mut command = sandpiper();
    command.arg("backtest").arg(file).args(arguments);
    if !arguments.contains(&"--state") {
        command.arg("--state").arg(scene.directory.join("nothing"));
    }
    Printed::of(&mut command)
}

fn found(scene: &Scene, file: &Path, arguments: &[&str]) -> Result<Value> {
    backtest(scene, file, &[arguments, &["-o", "json"]].concat())?.json()
}

/// Refused with that exit code and these words.
fn ensure_refused(scene: &Scene, file: &Path, arguments: &[&str], code: i32, words: &[&str]) -> Result<()> {
    let printed = backtest(scene, file, arguments)?;
    assert_eq!(printed.code, Some(code), "{arguments:?}: {printed:?}");
    for word in words {
        assert!(printed.err.contains(word), "{arguments:?}: {word:?} is missing in: {}", printed.err);
    }
    Ok(())
}

fn feedback(scene: &Scene) -> String {
    format!(
        "[feedback]\nlabels = {:?}\nscores = {:?}\nscore = {{ plugin = \"loss\", config = {{ metric = \"error\" }} }}\n",
        scene.topic("labels"),
        scene.topic("scores"),
    )
}

/// The model that comes with the data, but for a bias against virginica.
fn biased() -> Result<Value> {
    let mut model: Value = serde_json::from_slice(&std::fs::read(flowers::model())?)?;
    let intercept = model["intercepts"][2].as_f64().context("no intercept")?;
    model["intercepts"][2] = (intercept - 3.0).into();
    Ok(model)
}

/// Groups of the cluster that are this scene's or a backtest's.
fn groups(scene: &Scene) -> Result<Vec<String>> {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", scene.bootstrap()).create()?;
    let groups = consumer.fetch_group_list(None, Duration::from_secs(30))?;
    let names = groups.groups().iter().map(|group| group.name().to_owned());
    Ok(names.filter(|name| name.contains(&scene.name) || name.contains("backtest")).collect())
}

fn two_models_give_the_known_matrix_and_accuracies_and_leave_no_trace(scene: &Scene) -> Result<()> {
    scene.create(&[("in", 3, &[]), ("out", 3, &[]), ("dead", 1, &[]), ("labels", 3, &[]), ("scores", 3, &[])])?;
    let model = biased()?;
    let champion: Value = serde_json::from_slice(&std::fs::read(flowers::model())?)?;
    let candidate = scene.file("biased.json", model.to_string())?;
    let pipeline = scene.flower_pipeline("id = \"key\"", &flowers::model(), &feedback(scene))?;
    let flowers = flowers()?;
    let (mut rows, mut labels, mut matrix) = (Vec::new(), Vec::new(), BTreeMap::<String, BTreeMap<String, u64>>::new());
    let (mut agreed, mut right) = (0, (0, 0));
    for (at, flower) in flowers.iter().enumerate() {
        let key = format!("flower-{at}");
        rows.push(record::value(&*flower.row).key(&key));
        labels.push(record::value(&*flower.species).key(&key));
        let (ours, _) = flowers::expect(&champion, &flower.cells()?)?;
        let (theirs, _) = flowers::expect(&model, &flower.cells()?)?;
        agreed += u64::from(ours == theirs);
        right.0 += u64::from(ours == flower.species);
        right.1 += u64::from(theirs == flower.species);
        *matrix.entry(ours).or_default().entry(theirs).or_default() += 1;
    }
    ensure!(agreed < 150 && right.0 != right.1, "the two models are not told apart by these flowers");
    // One flower has no label, one label no flower, and one is of a class that nobody knows.
    labels.pop();
    labels.extend([record::value("setosa").key("nobody"), record::value("tulip").key("stranger")]);
    rows.push(record::value(ROW).key("stranger"));
    let last = flowers.last().context("no flower")?;
    let (ours, _) = flowers::expect(&champion, &last.cells()?)?;
    let (theirs, _) = flowers::expect(&model, &last.cells()?)?;
    right.0 -= u64::from(ours == last.species);
    right.1 -= u64::from(theirs == last.species);
    agreed += 1;
    *matrix.entry("setosa".into()).or_default().entry("setosa".into()).or_default() += 1;
    scene.write("in", &rows)?;
    scene.write("labels", &labels)?;
    let ends = || -> Result<Vec<Vec<i64>>> {
        ["in", "out", "dead", "labels", "scores"]
            .map(|it| topic::ends(&scene.bootstrap(), &scene.topic(it)))
            .into_iter()
            .collect()
    };
    let before = ends()?;

    let candidate = candidate.to_string_lossy().into_owned();
    let arguments = ["--model", &candidate, "--from", "earliest"];
    let found = found(scene, &pipeline, &[&arguments[..], &["--show", "3"]].concat())?;
    assert_eq!(
        (&found["records"], &found["both_emitted"], &found["agreed"]),
        (&151.into(), &151.into(), &agreed.into())
    );
    assert_eq!(found["agreement"], json!(agreed as f64 / 151.0));
    assert_eq!(found["confusion"], json!(matrix));
    assert_eq!(found["accuracy"], json!({"champion": right.0 as f64 / 149.0, "candidate": right.1 as f64 / 149.0}));
    let counts = &found["labels"];
    assert_eq!((&counts["read"], &counts["scored"], &counts["unknown_class"]), (&151.into(), &149.into(), &1.into()));
    assert_eq!((&found["differing"], found["differences"].as_array().map(Vec::len)), (&(151 - agreed).into(), Some(3)));
    let first = &found["differences"][0];
    let classes = |side: &str| first[side]["predicted"][0]["class"].as_str().map(str::to_owned).context("no class");
    assert_ne!(classes("champion")?, classes("candidate")?, "{first}");
    assert!(first["at"].as_str().is_some_and(|at| at.starts_with(&scene.topic("in"))), "{first}");
    assert!(found["complete"] == true && found["champion"]["revision"].is_null(), "{found}");

    let text = backtest(scene, &pipeline, &arguments)?;
    let agreement = format!("{:.2} %", agreed as f64 * 100.0 / 151.0);
    for words in ["CHAMPION \\ CANDIDATE", &agreement, "of 149 labels", "the first"] {
        assert!(text.code == Some(0) && text.out.contains(words), "{words}: {text:?}");
    }
    assert_eq!(ends()?, before, "nothing is written");
    assert_eq!(groups(scene)?, Vec::<String>::new(), "no group is joined");
    Ok(())
}

/// A pipeline whose model finds every flower to be setosa, and a candidate that finds virginica.
fn setosa_and_virginica(scene: &Scene, more: &str) -> Result<(PathBuf, String)> {
    let file = scene.flower_pipeline("id = \"key\"", &scene.model_of("setosa")?, more)?;
    Ok((file, scene.model_of("virginica")?.to_string_lossy().into_owned()))
}

fn a_range_is_one_of_times_or_of_offsets(scene: &Scene) -> Result<()> {
    scene.create_usual(2)?;
    let (file, model) = setosa_and_virginica(scene, "")?;
    // A record a second and partition, from 2026-05-01T09:00:00Z on.
    let start = 1_777_626_000_000;
    let rows: Vec<Record> = (0..200)
        .map(|at| record::value(ROW).key(format!("k{at}")).on(at % 2).at(start + i64::from(at / 2) * 1_000))
        .collect();
    scene.write("in", &rows)?;
    let input = scene.topic("in");
    /// Partition, first offset and the one behind the last.
    type Spans = Vec<(i64, i64, i64)>;
    let range = |arguments: &[&str]| -> Result<(Value, Spans)> {
        let found = found(scene, &file, &[&["--model", &model], arguments].concat())?;
        let spans = found["range"].as_array().context("no range")?.iter();
        let number = |span: &Value, name: &str| span[name].as_i64().unwrap_or(-1);
        let spans = spans.map(|span| (number(span, "partition"), number(span, "from"), number(span, "to"))).collect();
        Ok((found["records"].clone(), spans))
    };
    let by_time = range(&["--from", "2026-05-01T09:00:10Z", "--to", "2026-05-01T09:00:30Z"])?;
    assert_eq!(by_time, (40.into(), vec![(0, 10, 30), (1, 10, 30)]));
    let to_the_end = range(&["--from", "2026-05-01 09:01:30"])?;
    assert_eq!(to_the_end, (20.into(), vec![(0, 90, 100), (1, 90, 100)]));
    let by_offsets = range(&["--from", "0@5,1@50", "--to", &format!("0@9,{input}/1@51")])?;
    assert_eq!(by_offsets, (5.into(), vec![(0, 5, 9), (1, 50, 51)]));
    let one = range(&["--from", "1@95"])?;
    assert_eq!(one, (5.into(), vec![(1, 95, 100)]));
    let mixed = range(&["--from", "2026-05-01T09:00:10Z", "--to", "0@12"])?;
    assert_eq!(mixed, (92.into(), vec![(0, 10, 12), (1, 10, 100)]));
    Ok(())
}

fn what_runs_is_found_in_the_state_directory_of_a_daemon_that_goes_on(scene: &Scene) -> Result<()> {
    scene.create_usual(1)?;
    let (file, virginica) = setosa_and_virginica(scene, "")?;
    let versicolor = scene.model_of("versicolor")?.to_string_lossy().into_owned();
    let mut daemon = scene.daemon("a", &file)?;
    scene.write("in", &vec![record::value(ROW).key("k"); 20])?;
    scene.until_done(&mut [&mut daemon])?;
    let deployed = daemon.deploy(&scene.name, &["--model", &virginica])?;
    let state = daemon.state.to_string_lossy().into_owned();
    let compared = |arguments: &[&str]| -> Result<(Value, Value, Value)> {
        let found = found(scene, &file, &[&["--state", &state, "--from", "earliest"], arguments].concat())?;
        Ok((found["champion"]["revision"].clone(), found["candidate"]["revision"].clone(), found["confusion"].clone()))
    };
    assert_eq!((1, 2), (deployed - 1, deployed));
    let runs = compared(&["--model", &versicolor])?;
    assert_eq!(runs, (2.into(), Value::Null, json!({"virginica": {"versicolor": 20}})));
    let before = compared(&["--revision", "1"])?;
    assert_eq!(before, (2.into(), 1.into(), json!({"virginica": {"setosa": 20}})));
    let against = compared(&["--against", "1", "--revision", "2"])?;
    assert_eq!(against, (1.into(), 2.into(), json!({"setosa": {"virginica": 20}})));
    let the_file = compared(&[])?;
    assert_eq!(the_file, (2.into(), Value::Null, json!({"virginica": {"setosa": 20}})), "what the file asks for");

    let with_state = ["--state", &state, "--from", "earliest"];
    ensure_refused(
        scene,
        &file,
        &[&with_state[..], &["--revision", "9"]].concat(),
        1,
        &["no revision 9", "revisions 1 to 2"],
    )?;
    let same = [&with_state[..], &["--revision", "2"]].concat();
    ensure_refused(scene, &file, &same, 2, &["the candidate is what it is compared with, revision 2"])?;
    daemon.check_alive()?;
    assert_eq!(daemon.pipeline(&scene.name)?["state"], "running");
    Ok(())
}

fn a_record_that_only_one_rejects_is_named_with_its_reason(scene: &Scene) -> Result<()> {
    scene.create_usual(1)?;
    // What is dropped there is told here.
    let (file, _) = setosa_and_virginica(scene, "")?;
    let text = std::fs::read_to_string(&file)?.replace("[errors]\n", "[errors]\nrejected = \"drop\"\n");
    let file = scene.pipeline(&text)?;
    let rows = ["5.1,3.5,1.4,0.2", "5.1;3.5;1.4;0.2", "5.1;3.5;1.4;0.3", "x"];
    scene.write("in", &rows.map(|row| record::value(row).key("k")))?;
    let found = found(scene, &file, &["--config", "parse.delimiter=\";\"", "--from", "earliest"])?;
    let sum =
        |counts: &Value| -> u64 { counts.as_object().into_iter().flatten().filter_map(|(_, it)| it.as_u64()).sum() };
    let rejected = &found["rejected"];
    assert_eq!(
        (sum(&rejected["champion_only"]), sum(&rejected["candidate_only"]), &rejected["both"]),
        (2, 1, &1.into())
    );
    let reasons: Vec<&String> = rejected["champion_only"].as_object().context("no reasons")?.keys().collect();
    assert!(reasons.iter().all(|reason| reason.starts_with("parse ")), "{rejected}");
    assert_eq!((&found["both_emitted"], &found["differing"]), (&0.into(), &3.into()));
    assert!(found["differences"][0]["candidate"]["rejected"]["message"].is_string(), "{found}");
    assert_eq!(scene.read("dead")?, []);
    Ok(())
}

fn corrections_go_to_a_topic_of_their_own_and_name_the_revision_that_they_correct(scene: &Scene) -> Result<()> {
    scene.create_usual(2)?;
    scene.create(&[("corrections", 2, &[])])?;
    let (file, virginica) = setosa_and_virginica(scene, "")?;
    let mut daemon = scene.daemon("a", &file)?;
    let rows = (0..40)
        .map(|at| record::value(ROW).key(format!("k{at}")).on(at % 2).header("own", Some(b"x")).at(1_700_000_000_000));
    scene.write("in", &rows.collect::<Vec<_>>())?;
    scene.until_done(&mut [&mut daemon])?;
    let deployed = daemon.deploy(&scene.name, &["--model", &virginica])?;
    let state = daemon.state.to_string_lossy().into_owned();
    let out = scene.read("out")?;
    let topic = scene.topic("corrections");
    let range = ["--state", &state, "--against", "1", "--revision", "2", "--from", "0@5,1@0", "--to", "0@15,1@3"];
    let found = found(scene, &file, &[&range[..], &["--publish", &topic]].concat())?;
    assert_eq!((deployed, &found["published"]["records"], &found["published"]["corrects"]), (2, &13.into(), &1.into()));

    let corrections = scene.read("corrections")?;
    assert_eq!(corrections.len(), 13);
    let by_origin: BTreeMap<String, Value> = out
        .iter()
        .map(|record| {
            let prediction = record.json()?;
            Ok((prediction["origin"].as_str().context("no origin")?.to_owned(), prediction))
        })
        .collect::<Result<_>>()?;
    for record in &corrections {
        let correction = record.json()?;
        let origin = correction["origin"].as_str().context("no origin")?;
        assert_eq!((&correction["class"], &correction["corrects"]), (&"virginica".into(), &1.into()));
        assert_eq!((&correction["revision"], &correction["role"]), (&2.into(), &"correction".into()));
        let wrong = by_origin.get(origin).with_context(|| format!("nothing was written for {origin}"))?;
        assert_eq!(
            (&wrong["class"], &wrong["revision"], &wrong["id"]),
            (&"setosa".into(), &1.into(), &correction["id"])
        );
        assert_eq!(record.timestamp, Some(1_700_000_000_000));
        let header = |name: &str| {
            let headers = &record.content.headers;
            let value = headers.iter().find(|(header, _)| header == name).and_then(|(_, value)| value.clone());
            value.map(|value| String::from_utf8_lossy(&value).into_owned())
        };
        assert_eq!((header("own").as_deref(), header("sandpiper.corrects").as_deref()), (Some("x"), Some("1")));
        assert_eq!(header("sandpiper.origin").as_deref(), Some(origin));
        assert!(header("sandpiper.release").is_some_and(|release| release.len() == 12 && release != "000000000000"));
        assert_eq!(
            record.partition.map(|it| format!("/{it}@")),
            origin.find('/').map(|at| origin[at..=at + 2].to_owned())
        );
    }
    assert_eq!(scene.read("out")?, out, "the pipeline's own topic is as it was");

    let publish =
        |topic: &str| [&range[..], &["--publish", topic]].concat().into_iter().map(str::to_owned).collect::<Vec<_>>();
    for short in ["in", "out", "dead"] {
        let arguments = publish(&scene.topic(short));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        ensure_refused(scene, &file, &arguments, 1, &["is one of pipeline", "name another topic"])?;
    }
    let absent = publish(&scene.topic("absent"));
    let absent: Vec<&str> = absent.iter().map(String::as_str).collect();
    ensure_refused(scene, &file, &absent, 1, &["absent does not exist; create it with: kafka-topics.sh"])?;
    let unknown = ["--model", &virginica, "--from", "earliest", "--publish", &topic];
    ensure_refused(scene, &file, &unknown, 2, &["name it with --corrects"])?;
    let named = self::found(scene, &file, &[&unknown[..], &["--corrects", "7"]].concat())?;
    assert_eq!((&named["published"]["corrects"], &named["published"]["records"]), (&7.into(), &40.into()));
    assert_eq!(scene.read("corrections")?.len(), 53);
    Ok(())
}

fn transforms_are_compared_byte_for_byte(scene: &Scene) -> Result<()> {
    scene.create_usual(1)?;
    scene.create(&[("orders", 1, &[])])?;
    let file = scene.pipeline(&format!(
        "{}[[transform]]\nplugin = \"route\"\nconfig = {{ by = \"json:/kind\", default = \"other\", routes = {{ order = \"orders\" }} }}\n\
         outputs = {{ orders = {:?} }}\n",
        scene.head("id = \"position\""),
        scene.topic("orders"),
    ))?;
    let events = ["{\"kind\":\"order\"}", "{\"kind\":\"return\"}", "{\"kind\":\"return\",\"n\":2}", "{}"];
    scene.write("in", &events.map(record::value))?;
    let routes = "transform[0].routes={\"order\":\"orders\",\"return\":\"orders\"}";
    let found = found(scene, &file, &["--config", routes, "--from", "earliest"])?;
    assert_eq!(
        (&found["records"], &found["agreed"], &found["differing"]),
        (&4.into(), &2.into(), &2.into()),
        "{found}"
    );
    assert!(found["confusion"].is_null(), "{found}");
    assert_eq!(found["differences"][0]["champion"]["emitted"], json!([events[1]]));
    assert_eq!((scene.read("out")?, scene.read("orders")?), (vec![], vec![]));
    Ok(())
}

fn what_cannot_be_compared_is_refused_with_the_fix(scene: &Scene) -> Result<()> {
    scene.create_usual(1)?;
    let (file, virginica) = setosa_and_virginica(scene, "")?;
    scene.write("in", &[record::value(ROW).key("k")])?;
    let model = flowers::model_of("virginica");
    let write =
        |name: &str, text: String| Ok::<_, anyhow::Error>(scene.file(name, text)?.to_string_lossy().into_owned());
    let columns = write("columns.json", model.replace("petal_width", "petal_area"))?;
    let classes = write("classes.json", model.replace("\"versicolor\"", "\"tulip\""))?;
    let broken = write("broken.json", "not a model".into())?;
    let with = |model: &str, more: &[&str]| -> Vec<String> {
        ["--model", model, "--from", "earliest"].into_iter().chain(more.iter().copied()).map(str::to_owned).collect()
    };
    let refused = |arguments: Vec<String>, code: i32, words: &[&str]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        ensure_refused(scene, &file, &arguments, code, words)
    };
    refused(with(&columns, &[]), 1, &["the candidate cannot be opened", "petal_area", "add the column"])?;
    refused(with(&classes, &[]), 1, &["knows \"tulip\" and lacks \"versicolor\"", "--allow-new-classes"])?;
    refused(with(&broken, &[]), 1, &["the candidate cannot be opened"])?;
    refused(with("/absent/model.json", &[]), 1, &["/absent/model.json"])?;
    refused(with(&virginica, &["--revision", "1"]), 2, &["--revision"])?;
    let allowed = found(scene, &file, &["--model", &classes, "--from", "earliest", "--allow-new-classes"])?;
    assert_eq!(allowed["records"], 1);

    let from = |from: &str, more: &[&str]| -> Vec<String> {
        ["--model", &virginica, "--from", from].into_iter().chain(more.iter().copied()).map(str::to_owned).collect()
    };
    refused(from("0@x", &[]), 2, &["PARTITION@OFFSET", "0@x"])?;
    refused(from("yesterday", &[]), 2, &["is no end of a range"])?;
    refused(from("latest", &[]), 2, &["nothing to read"])?;
    refused(from("0@9", &[]), 1, &["offset 9", "behind its end, which is 1"])?;
    refused(from("4@0", &[]), 1, &["has no partition 4"])?;
    refused(from("0@0", &["--to", "0@5"]), 1, &["ends at offset 5 of partition 0"])?;
    refused(from("other/0@0", &[]), 2, &["topic other, which is no input"])?;
    refused(from("2100-01-01", &[]), 1, &["holds no record of the range"])?;
    refused(from("earliest", &["--revision", "3"]), 2, &["--revision"])?;
    ensure_refused(scene, &file, &["--revision", "3", "--from", "earliest"], 1, &["knows of no revision", "--state"])?;
    ensure_refused(
        scene,
        &file,
        &["--from", "earliest"],
        2,
        &["the candidate is what it is compared with", "--model"],
    )?;

    let other = scene.part("other");
    let nowhere = other.flower_pipeline("", &scene.model_of("setosa")?, "")?;
    ensure_refused(
        scene,
        &nowhere,
        &["--model", &virginica, "--from", "earliest"],
        1,
        &[&format!("topic {} does not exist", other.topic("in"))],
    )?;
    let labelled = scene.flower_pipeline("id = \"key\"", &scene.model_of("setosa")?, &feedback(scene))?;
    ensure_refused(
        scene,
        &labelled,
        &["--model", &virginica, "--from", "earliest"],
        1,
        &[&format!("topic {} does not exist", scene.topic("labels"))],
    )
}

fn a_range_that_was_removed_is_refused_with_what_is_left(scene: &Scene) -> Result<()> {
    scene.create_usual(2)?;
    let (file, model) = setosa_and_virginica(scene, "")?;
    let start = 1_777_626_000_000;
    let rows = (0..40).map(|at| record::value(ROW).key("k").on(at % 2).at(start + i64::from(at / 2) * 1_000));
    scene.write("in", &rows.collect::<Vec<_>>())?;
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", scene.bootstrap()).create()?;
    let mut until = TopicPartitionList::new();
    until.add_partition_offset(&scene.topic("in"), 1, Offset::Offset(7))?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(admin.delete_records(&until, &AdminOptions::new()))?;

    let with = |more: &[&'static str]| {
        [&["--model", &*model][..], more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    for range in [&["--from", "0@3,1@3"][..], &["--from", "2026-05-01T09:00:03Z"]] {
        let arguments = with(range);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let words = [
            "retention has removed",
            "partition 1 holds offsets 7 to 20, the first of 2026-05-01T09:00:07",
            "earliest",
        ];
        ensure_refused(scene, &file, &arguments, 1, &words)?;
    }
    for (range, records) in
        [(&["--from", "0@3,1@7"][..], 30), (&["--from", "2026-05-01T09:00:07Z"], 26), (&["--from", "earliest"], 33)]
    {
        let arguments = with(range);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        assert_eq!(found(scene, &file, &arguments)?["records"], records, "{range:?}");
    }
    Ok(())
}

fn an_open_transaction_is_waited_out_and_an_aborted_record_is_none(scene: &Scene) -> Result<()> {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    scene.create_usual(1)?;
    let (file, model) = setosa_and_virginica(scene, "")?;
    let input = scene.topic("in");
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", scene.bootstrap())
        .set("transactional.id", &scene.name)
        .create()?;
    let patience = Duration::from_secs(30);
    producer.init_transactions(patience)?;
    let write = |count: usize| -> Result<()> {
        for _ in 0..count {
            producer.send(BaseRecord::<str, str>::to(&input).key("k").payload(ROW)).map_err(|(error, _)| error)?;
        }
        Ok(producer.flush(patience)?)
    };
    for (count, commits) in [(3, true), (5, false)] {
        producer.begin_transaction()?;
        write(count)?;
        if commits { producer.commit_transaction(patience)? } else { producer.abort_transaction(patience)? }
    }
    producer.begin_transaction()?;
    write(2)?;
    let mut backtest = sandpiper();
    backtest.arg("backtest").arg(&file).args(["--model", &model, "--from", "earliest", "-o", "json", "--state"]);
    backtest.arg(scene.directory.join("nothing")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut backtest = keeper::spawn(backtest)?;
    let said = BufReader::new(backtest.stderr.take().context("no stderr")?);
    // The lines are kept: whoever writes to a pipe that nobody reads from ends.
    let mut lines = said.lines().map_while(Result::ok);
    let waits = lines.find(|line| line.contains("waiting for the end of a transaction"));
    producer.commit_transaction(patience)?;
    let printed = backtest.wait_with_output()?;
    let found: Value = serde_json::from_slice(&printed.stdout).with_context(|| format!("{printed:?}"))?;
    assert_eq!(waits, Some(format!("waiting for the end of a transaction on {input} that is open since 0@10")));
    assert_eq!((&found["records"], &found["range"][0]["to"]), (&5.into(), &12.into()), "{found}");
    Ok(())
}
