//! The stock plugins as built: each opened and called once as a component.

use super::*;
use crate::batch::{BatchBuilder, Origin, TopicIndex, Topics};
use crate::stock;
use crate::wit::latest::{Column, Kind};
use crate::{Compiler, Engine};

const DEADLINE: Duration = Duration::from_secs(30);

fn plugin(name: &str) -> Arc<Plugin> {
    let engine = Engine::new(None, Compiler::InProcess).unwrap();
    Arc::new(Plugin::load(&engine, name, stock::component(name).unwrap()).unwrap())
}

fn opening(config: serde_json::Value) -> Opening {
    Opening { config: config.to_string(), ..Opening::default() }
}

fn batch(values: &[&str]) -> Batch {
    let mut builder = BatchBuilder::new(Topics::new(["in"]));
    for (offset, value) in values.iter().enumerate() {
        let origin = Origin { topic: TopicIndex::FIRST, partition: 0, offset: offset as i64 };
        let headers = vec![("kind".to_owned(), Some(b"order".to_vec()))];
        builder.push(origin, None, Some(b"k"), Some(value.as_bytes()), Some(Box::new(headers)));
    }
    builder.finish()
}

fn parsed(name: &str, config: serde_json::Value, values: &[&str]) -> (Vec<Column>, Parsed) {
    let (mut parser, columns) = WasmParser::open(plugin(name), Limits::default(), opening(config)).unwrap();
    let parsed = parser.parse(&batch(values), DEADLINE).unwrap();
    (columns, parsed)
}

#[test]
fn csv_reads_numbers_and_categories_and_rejects_a_row_by_its_code() {
    let config = serde_json::json!({ "columns": ["size", { "name": "hue", "categories": ["red", "blue"] }] });
    let (columns, parsed) = parsed("csv", config, &["1.5,blue", "x,red", "2,\"red\"\r\n"]);
    assert_eq!(columns[1].name, "hue");
    assert!(matches!(&columns[1].kind, Kind::Category(names) if names == &["red", "blue"]));
    assert_eq!(parsed.rows.values[..2], [1.5, 1.0]);
    assert_eq!(parsed.rows.values[4..], [2.0, 0.0]);
    assert_eq!((parsed.rejected[0].row, parsed.rejected[0].code.as_str()), (1, "not-a-number"));
}

#[test]
fn json_reads_what_its_pointers_name_and_a_missing_cell_is_nan() {
    let config = serde_json::json!({ "columns": { "size": "/flower/size", "hue": "/hue" } });
    let (columns, parsed) = parsed("json", config, &[r#"{"hue": 3, "flower": {"size": 1.5}}"#, r#"{"hue": 4}"#, "{"]);
    assert_eq!(columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(), ["size", "hue"]);
    assert_eq!(parsed.rows.values[..2], [1.5, 3.0]);
    assert!(parsed.rows.values[2].is_nan());
    assert_eq!((parsed.rejected[0].row, parsed.rejected[0].code.as_str()), (2, "invalid-json"));
}

#[test]
fn route_sends_a_record_where_its_header_says() {
    let config = serde_json::json!({ "by": "header:kind", "routes": { "order": "orders" }, "default": "other" });
    let (mut route, outputs) = WasmTransform::open(plugin("route"), Limits::default(), opening(config)).unwrap();
    let routed = route.transform(&batch(&["a", ""]), DEADLINE).unwrap();
    let orders = outputs.iter().position(|output| output == "orders").unwrap() as u32;
    assert_eq!(routed.emitted.iter().map(|emitted| emitted.output).collect::<Vec<_>>(), [orders, orders]);
    assert_eq!((routed.payload, routed.offsets), (b"a".to_vec(), vec![0, 1, 1]));
}

#[test]
fn loss_scores_by_the_metric_of_its_configuration() {
    let classes = ["cat".to_owned(), "dog".to_owned()];
    let outcome = |truth| Outcome {
        id: "a".into(),
        predicted: 1,
        scores: vec![0.25, 0.75],
        truth,
        source: String::new(),
        delay_ms: 0,
        revision: 1,
    };
    for (metric, right, wrong) in
        [("error", 0.0, 1.0), ("brier", 0.125, 1.125), ("log-loss", -(0.75f64.ln()), -(0.25f64.ln()))]
    {
        let config = serde_json::json!({ "metric": metric });
        let mut loss = WasmScorer::open(plugin("loss"), Limits::default(), opening(config)).unwrap();
        let judgements = loss.score(&classes, &[outcome(1), outcome(0)], DEADLINE).unwrap();
        assert!(
            (judgements[0].loss - right).abs() < 1e-6 && (judgements[1].loss - wrong).abs() < 1e-6,
            "{metric}: {judgements:?}"
        );
    }
}

#[test]
fn a_stock_plugin_refuses_a_key_that_it_does_not_know() {
    for (name, config) in [
        ("csv", serde_json::json!({ "columns": ["a"], "delimeter": ";" })),
        ("loss", serde_json::json!({ "metrik": "error" })),
    ] {
        let unknown = if name == "csv" { "delimeter" } else { "metrik" };
        let error = match name {
            "csv" => WasmParser::open(plugin(name), Limits::default(), opening(config)).err(),
            _ => WasmScorer::open(plugin(name), Limits::default(), opening(config)).err(),
        };
        let error = format!("{:#}", error.unwrap());
        assert!(error.contains(unknown), "{error}");
    }
}

#[test]
fn a_classifier_without_a_model_says_so() {
    for name in ["logistic", "tree"] {
        let error =
            WasmClassifier::open(plugin(name), Limits::default(), opening(serde_json::json!({}))).err().unwrap();
        assert!(format!("{error:#}").contains("model"), "{error:#}");
    }
}
