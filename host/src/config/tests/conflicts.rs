use super::*;
use crate::config::check_together;

fn plan(file: &str, text: &str) -> Plan {
    read_at(Path::new(file), text).unwrap()
}

fn hop(name: &str, from: &str, to: &str) -> Plan {
    let text = MASK.replace("\"mask\"", &format!("\"{name}\"")).replace("\"people.masked\"", &format!("\"{to}\""));
    plan(&format!("{name}.toml"), &text.replace("\"people\"", &format!("\"{from}\"")))
}

#[track_caller]
fn conflicts(plans: &[Plan]) -> Vec<String> {
    lines(&check_together(plans))
}

#[test]
fn pipelines_that_share_nothing_run_together() {
    assert!(
        conflicts(&[plan("iris.toml", IRIS), plan("mask.toml", MASK), hop("next", "people.masked", "c")]).is_empty()
    );
}

#[test]
fn each_pipeline_has_its_own_name_and_groups() {
    let found = conflicts(&[plan("a.toml", IRIS), plan("b.toml", IRIS)]);
    assert!(found[0].starts_with("b.toml:1:1: name: \"iris\" is the name of a.toml too"), "{found:#?}");
    assert!(
        found[1].starts_with("b.toml:1:1: [input] group: \"sandpiper.iris\" is [input] group of a.toml too"),
        "{found:#?}"
    );
    assert!(found[2].contains("[feedback] group: \"sandpiper.iris.feedback\" is [feedback] group"), "{found:#?}");
}

#[test]
fn a_pipelines_name_may_not_make_another_ones_feedback_group() {
    let found = conflicts(&[plan("a.toml", IRIS), hop("iris.feedback", "x", "y")]);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].contains("[input] group: \"sandpiper.iris.feedback\" is [feedback] group of a.toml"),
        "{found:#?}"
    );
}

#[test]
fn one_group_on_two_clusters_is_two_groups() {
    let elsewhere =
        with_line(MASK, "[input]", "group = \"g\"").replace("127.0.0.1", "other").replace("\"mask\"", "\"far\"");
    let here = with_line(MASK, "[input]", "group = \"g\"");
    assert!(conflicts(&[plan("a.toml", &here), plan("b.toml", &elsewhere)]).is_empty());
    let both = elsewhere.replace("other:9092", "other:9092, 127.0.0.1:9092");
    assert_eq!(conflicts(&[plan("a.toml", &here), plan("b.toml", &both)]).len(), 1);
}

#[test]
fn an_output_does_not_come_back_through_other_pipelines() {
    let found = conflicts(&[hop("a", "1", "2"), hop("b", "2", "3"), hop("c", "3", "1")]);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("c.toml:1:1: [input] topics: \"3\" is read by this pipeline"), "{found:#?}");
    assert!(found[0].contains("through a.toml, b.toml"), "{found:#?}");
}

#[test]
fn dead_letters_may_be_mended_and_come_back() {
    assert!(conflicts(&[hop("a", "1", "2"), hop("mend", "a.dead-letters", "1")]).is_empty());
}

#[test]
fn nobody_else_writes_the_predictions_that_feedback_reads() {
    for plans in [
        [plan("iris.toml", IRIS), hop("a", "1", "iris.predictions")],
        [hop("a", "1", "iris.predictions"), plan("iris.toml", IRIS)],
    ] {
        let found = conflicts(&plans);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains("is written by a.toml, and [feedback] of iris.toml reads"), "{found:#?}");
    }
}

#[test]
fn an_output_is_not_another_pipelines_dead_letter() {
    let (owner, writer) = (|| hop("a", "1", "2"), || hop("b", "3", "a.dead-letters"));
    for (plans, key) in [
        ([owner(), writer()], "b.toml:1:1: [output] topic"),
        ([writer(), owner()], "a.toml:1:1: [errors] dead_letters"),
    ] {
        let found = conflicts(&plans);
        assert_eq!(found.len(), 1, "{found:#?}");
        let both = "\"a.dead-letters\" is [output] topic of b.toml and [errors] dead_letters of a.toml";
        assert!(found[0].starts_with(key) && found[0].contains(both), "{found:#?}");
    }
    let sharing = |name: &str, from: &str, to: &str| {
        let text = MASK.replace("\"mask\"", &format!("\"{name}\"")).replace("\"people.masked\"", &format!("\"{to}\""));
        let text = text.replace("\"people\"", &format!("\"{from}\"")) + "\n[errors]\ndead_letters = \"shared\"\n";
        plan(&format!("{name}.toml"), &text)
    };
    assert!(conflicts(&[sharing("a", "1", "2"), sharing("b", "3", "4")]).is_empty(), "letters say whose they are");
}
