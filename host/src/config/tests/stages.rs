//! `[[transform]]`, `[parse]`, `[classify]` and `score`.

use serde_json::json;

use super::*;
use crate::config::plan::PluginRef;

#[test]
fn a_pipeline_has_a_stage_and_no_half_of_a_pair() {
    only_mistake(
        &MASK.replace("[[transform]]\nplugin = \"filter\"\n", ""),
        "1:1: the pipeline has no stage",
        &["[[transform]]"],
    );
    only_mistake(
        &with_line(MASK, "topics = [\"people\"]", "[parse]\nplugin = \"csv\""),
        "6:1: [parse]: [classify] is missing",
        &["both or neither"],
    );
    only_mistake(
        &with_line(MASK, "topics = [\"people\"]", "[classify]\nplugin = \"logistic\""),
        "6:1: [classify]: [parse] is missing",
        &[],
    );
}

#[test]
fn a_bare_word_is_a_stock_plugin() {
    only_mistake(
        &IRIS.replace("\"csv\"", "\"cvs\""),
        "8:10: [parse] plugin: \"cvs\" is no stock plugin, did you mean \"csv\"?",
        &["csv, json, logistic, loss, filter", "./mine.wasm"],
    );
    only_mistake(&IRIS.replace("plugin = \"csv\"\n", ""), "7:1: [parse] plugin: missing", &["stock plugin"]);
    only_mistake(
        &IRIS.replace("\"csv\"", "\"oci://ghcr.example/csv@sha256:00\""),
        "8:10",
        &["not supported yet", "path"],
    );
}

#[test]
fn a_path_starts_at_the_files_folder_and_leads_to_a_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("models")).unwrap();
    std::fs::write(folder.path().join("mine.wasm"), "").unwrap();
    std::fs::write(folder.path().join("models/iris.json"), "{}").unwrap();
    let path = folder.path().join("iris.toml");
    let read = |plugin: &str, model: &str| {
        let text = IRIS.replace("plugin = \"logistic\"", &format!("plugin = \"{plugin}\"\nmodel = \"{model}\""));
        read_at(&path, &text)
    };
    let absolute = folder.path().join("mine.wasm");
    for plugin in ["mine.wasm", "./mine.wasm", absolute.to_str().unwrap()] {
        let classify = read(plugin, "models/iris.json").unwrap().classify.unwrap();
        let PluginRef::Path(found) = classify.plugin else { panic!("{plugin}") };
        assert!(found.is_file(), "{found:?}");
        assert_eq!(classify.model, Some(folder.path().join("models/iris.json")));
    }
    let mistakes = lines(&read("./other.wasm", "models").unwrap_err());
    assert_eq!(mistakes.len(), 2, "{mistakes:#?}");
    assert!(mistakes[0].contains(":10:10: [classify] plugin: \"./other.wasm\" cannot be found"), "{mistakes:#?}");
    assert!(mistakes[1].contains(":11:9: [classify] model: \"models\" is no file"), "{mistakes:#?}");
    assert!(mistakes[1].contains(folder.path().to_str().unwrap()), "{mistakes:#?}");
}

#[test]
fn only_a_classifier_has_a_model() {
    only_mistake(&iris_with_line("[parse]", "model = \"m\""), "8:9: [parse] model", &["under [classify]"]);
    only_mistake(&with_line(MASK, "[[transform]]", "model = \"m\""), "7:9: [[transform]] 1 model", &["its config"]);
    only_mistake(
        &iris_with_line("[feedback]", "score = { plugin = \"loss\", model = \"m\" }"),
        "14:36: [feedback] score.model",
        &["its config"],
    );
}

#[test]
fn a_plugins_config_becomes_json_in_the_order_of_its_keys() {
    let plan = valid(&iris_with_line(
        "[parse]",
        "config = { z = 1_000, hex = 0xFF, f = 2.5, s = \"${WORKERS}\", t = [true, { b = -1, a = '' }] }",
    ));
    let config = plan.parse.unwrap().config;
    // Its reference stays one until the plugin is opened.
    assert_eq!(config.to_string(), r#"{"f":2.5,"hex":255,"s":"${WORKERS}","t":[true,{"a":"","b":-1}],"z":1000}"#);
    assert_eq!(
        valid(&iris_with_line("[parse]", "config.columns = [\"a\"]")).parse.unwrap().config,
        json!({"columns": ["a"]})
    );
}

#[test]
fn what_json_cannot_hold_is_refused_where_it_stands() {
    only_mistake(
        &iris_with_line("[parse]", "config = { since = 2026-01-01 }"),
        "8:20: [parse] config.since: 2026-01-01 is a date",
        &["in quotes"],
    );
    only_mistake(
        &iris_with_line("[parse]", "config = { x = [1, nan] }"),
        "8:20: [parse] config.x[1]: nan",
        &["finite"],
    );
    only_mistake(&iris_with_line("[parse]", "config = { x = 99999999999999999999 }"), "8:16", &["too large"]);
    only_mistake(
        &iris_with_line("[parse]", "config = \"{}\""),
        "8:10: [parse] config: found a string: write a table",
        &[],
    );
    let found = mistakes_in(&iris_with_line("[parse]", "config = { a = inf, b = \"${NONE}\" }"));
    assert_eq!(found.len(), 2, "{found:#?}");
}

#[test]
fn a_transforms_outputs_are_topics() {
    only_mistake(
        &with_line(MASK, "[[transform]]", "outputs = { a = \"b c\" }"),
        "7:17: [[transform]] 1 outputs.a: \"b c\" is no topic name",
        &[],
    );
    only_mistake(
        &with_line(MASK, "[[transform]]", "outputs = [\"a\"]"),
        "7:11: [[transform]] 1 outputs: found an array",
        &[],
    );
}

#[test]
fn the_scorer_is_loss_unless_another_is_named() {
    let score = |line: &str| valid(&iris_with_line("[feedback]", line)).feedback.unwrap().score;
    assert_eq!(score("score = {}"), score(""));
    assert_eq!(score("score = { config = { metric = \"brier\" } }").plugin, PluginRef::Stock("loss".into()));
    assert_eq!(score("score = { plugin = \"filter\" }").config, json!({}));
}
