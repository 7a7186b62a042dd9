//! `[rollout]`: steps and guards.

use super::{IRIS, MASK, mistakes_in, only_mistake, valid};
use crate::config::plan::{Guard, LatencyGuard, RolloutStep, Until};

fn with(rollout: &str) -> String {
    format!("{IRIS}{rollout}")
}

#[test]
fn steps_and_guards_are_read_as_documented() {
    let plan = valid(&with(
        r#"[rollout]
sample = 0.5
guards = { disagreement = { above = 0.2, below = 0.001 }, latency_p99 = { above = "20ms", records = 10 }, rejected = { above = 0.1 } }
[[rollout.step]]
shadow = "500 labels"
[[rollout.step]]
canary = 0.05
hold = "30m"
[[rollout.step]]
pause = true
[[rollout.step]]
canary = 1
hold = "10000 records"
"#,
    ));
    let rollout = plan.rollout.unwrap();
    assert_eq!(rollout.sample, 0.5);
    let steps = [
        RolloutStep::Shadow { until: Until::Labels(500) },
        RolloutStep::Canary { share: 0.05, until: Until::Time(1_800_000) },
        RolloutStep::Pause,
        RolloutStep::Canary { share: 1.0, until: Until::Records(10_000) },
    ];
    assert_eq!(rollout.steps, steps);
    let guards = rollout.guards;
    assert_eq!(guards.disagreement, Some(Guard { above: Some(0.2), below: Some(0.001), records: 1_000 }));
    assert_eq!(guards.latency_p99, Some(LatencyGuard { above_ms: 20.0, records: 10 }));
    assert_eq!(guards.rejected, Some(Guard { above: Some(0.1), below: None, records: 1_000 }));
    assert_eq!(
        guards.failed,
        Some(Guard { above: Some(0.05), below: None, records: 1_000 }),
        "unless it says otherwise"
    );
    assert_eq!(guards.dead_letters, None);
    assert_eq!(valid(IRIS).rollout, None);
}

#[test]
fn a_rollout_without_a_step_or_a_step_that_is_none_is_a_mistake() {
    only_mistake(&with("[rollout]\n"), "15:1: [rollout] step", &["missing", "[[rollout.step]]"]);
    let step = |text: &str| with(&format!("[[rollout.step]]\n{text}\n"));
    only_mistake(
        &step("shadow = \"10m\"\ncanary = 0.1\nhold = \"1m\""),
        "15:1: [[rollout.step]] 1",
        &["a step is one of"],
    );
    only_mistake(
        &step("canary = 1.4\nhold = \"1m\""),
        "16:10: [[rollout.step]] 1 canary",
        &["1.4 is not a share above 0"],
    );
    only_mistake(&step("canary = 0\nhold = \"1m\""), "16:10: [[rollout.step]] 1 canary", &["no record", "shadow ="]);
    only_mistake(&step("canary = 0.1"), "15:1: [[rollout.step]] 1 hold", &["missing", "30m"]);
    only_mistake(&step("shadow = \"10m\"\nhold = \"1m\""), "17:8: [[rollout.step]] 1 hold", &["only a canary is held"]);
    only_mistake(&step("shadow = \"soon\""), "16:10: [[rollout.step]] 1 shadow", &["500 labels", "30m"]);
    only_mistake(&step("shadow = \"0 labels\""), "16:10: [[rollout.step]] 1 shadow", &["over before it begins"]);
    only_mistake(&step("pause = false"), "16:9: [[rollout.step]] 1 pause", &["false is not true"]);
    only_mistake(
        &step("sahdow = \"10m\"\npause = true"),
        "16:1: [[rollout.step]] 1 sahdow",
        &["did you mean \"shadow\""],
    );
}

#[test]
fn labels_are_waited_for_only_where_there_are_some() {
    let text = format!("{MASK}[[rollout.step]]\nshadow = \"500 labels\"\n");
    only_mistake(&text, "11:10: [[rollout.step]] 1 shadow", &["no [feedback]", "10000 records"]);
}

#[test]
fn a_guard_without_its_figure_and_a_share_beyond_one_are_mistakes() {
    let guards = |text: &str| with(&format!("[rollout]\nguards = {{ {text} }}\n[[rollout.step]]\npause = true\n"));
    only_mistake(&guards("failed = {}"), "16:21: [rollout] guards.failed", &["needs its figure", "above = 0.05"]);
    only_mistake(
        &guards("latency_p99 = { records = 5 }"),
        "16:26: [rollout] guards.latency_p99.above",
        &["needs its figure"],
    );
    only_mistake(&guards("rejected = { above = 2 }"), "16:33: [rollout] guards.rejected.above", &["2 is not a share"]);
    let below = mistakes_in(&guards("rejected = { below = 0.1 }")).join("\n");
    assert!(below.contains("guards.rejected.below: unknown key. Allowed here: above, records"), "{below}");
    only_mistake(
        &guards("disagreement = { above = 0.1, records = 0 }"),
        "16:52: [rollout] guards.disagreement.records",
        &["0 is not"],
    );
    only_mistake(
        &with("[rollout]\nsample = 0\n[[rollout.step]]\npause = true\n"),
        "16:10: [rollout] sample",
        &["no record"],
    );
}
