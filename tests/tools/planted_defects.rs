//! The checker finds each kind of defect, planted once in a run that is otherwise without any.

use crate::checker::{Commit, Defect, Input, Observed, Output, TransactionPart, check};

/// Two partitions of ten records: every fifth a dead letter, revision 2 from the sixth on, a transaction each five.
fn sound() -> Observed {
    let mut observed = Observed::default();
    for partition in 0..2 {
        for offset in 0..10 {
            let id = format!("{partition}-{offset}");
            observed.inputs.push(Input { at: (partition, offset), id: id.clone() });
            let topic = if offset % 5 == 0 { "dead" } else { "out" }.to_owned();
            let revision = if offset < 5 { 1 } else { 2 };
            observed.outputs.push(Output { topic, at: (partition, offset), origin: (partition, offset), id, revision });
        }
        observed.committed.push(10);
        observed.ends.push(10);
    }
    observed.outputs.sort_by(|one, other| (&one.topic, one.at).cmp(&(&other.topic, other.at)));
    observed.attempts = observed.outputs.clone();
    for (revision, end) in [(1, 5), (2, 10)] {
        let part = TransactionPart {
            directory: "out-0".into(),
            outcome: "commit".into(),
            first: end - 4,
            revisions: vec![revision],
        };
        observed.parts.push(part);
        observed.commits.push(Commit { revisions: [revision].into(), offsets: vec![(0, end), (1, end)] });
    }
    observed
}

/// The defect is found, that many times, and no other is.
fn finds(defect: Defect, times: usize, plant: impl Fn(&mut Observed)) {
    let mut observed = sound();
    plant(&mut observed);
    let report = check(&observed);
    assert_eq!(report.count(defect), times, "{report}");
    let others = [
        Defect::Lost,
        Defect::Duplicated,
        Defect::Disordered,
        Defect::Foreign,
        Defect::Mixed,
        Defect::WentBack,
        Defect::Open,
        Defect::Behind,
    ];
    let others = others.into_iter().filter(|other| *other != defect);
    assert_eq!(others.map(|other| report.count(other)).sum::<usize>(), 0, "nothing else: {report}");
    assert!(!report.is_clean());
}

#[test]
fn a_sound_run_has_no_defect() {
    let report = check(&sound());
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.records, report.transactions), (20, 2));
}

#[test]
fn a_lost_record() {
    finds(Defect::Lost, 2, |observed| {
        observed.outputs.retain(|output| output.origin.1 != 3);
    });
}

#[test]
fn a_record_that_came_out_twice() {
    finds(Defect::Duplicated, 1, |observed| {
        let again = Output { at: (1, 11), ..observed.outputs.last().unwrap().clone() };
        observed.outputs.push(again);
    });
}

#[test]
fn a_record_that_came_out_and_was_dead_lettered() {
    finds(Defect::Duplicated, 1, |observed| {
        let letter = observed.outputs.iter().find(|output| output.topic == "dead").unwrap().clone();
        observed.outputs.push(Output { topic: "out".into(), at: (0, 12), ..letter });
    });
}

#[test]
fn a_batch_that_was_replayed_whole_is_duplicated_and_not_disordered() {
    finds(Defect::Duplicated, 4, |observed| {
        let again: Vec<Output> =
            observed.outputs.iter().filter(|each| each.topic == "out" && each.origin >= (1, 5)).cloned().collect();
        observed.outputs.extend(again);
    });
}

#[test]
fn two_records_that_changed_places() {
    finds(Defect::Disordered, 1, |observed| {
        let at = observed.outputs.iter().position(|output| output.topic == "out" && output.origin == (0, 2)).unwrap();
        observed.outputs.swap(at, at + 1);
    });
}

#[test]
fn an_output_of_no_input() {
    finds(Defect::Foreign, 1, |observed| {
        let stranger = Output { origin: (1, 99), at: (1, 99), ..observed.outputs[0].clone() };
        observed.attempts.push(stranger);
    });
}

#[test]
fn an_output_under_the_id_of_another_input_is_foreign_and_its_own_record_lost() {
    let mut observed = sound();
    observed.outputs[0].id = "1-1".into();
    let report = check(&observed);
    assert_eq!((report.count(Defect::Foreign), report.count(Defect::Lost)), (1, 1), "{report}");
}

#[test]
fn two_revisions_in_one_partitions_part_of_a_transaction() {
    finds(Defect::Mixed, 1, |observed| observed.parts[0].revisions.push(2));
}

#[test]
fn two_revisions_among_the_offsets_of_one_transaction() {
    let mut observed = sound();
    observed.commits[1].revisions.insert(1);
    assert_eq!(check(&observed).count(Defect::Mixed), 1);
}

#[test]
fn outputs_of_one_revision_whose_offsets_name_another() {
    finds(Defect::Mixed, 10, |observed| observed.commits[1].revisions = [3].into());
}

#[test]
fn a_revision_that_went_back_on_a_partition() {
    let mut observed = sound();
    let at = observed.outputs.iter().position(|output| output.topic == "out" && output.origin == (0, 9)).unwrap();
    observed.outputs[at].revision = 1;
    assert_eq!(check(&observed).count(Defect::WentBack), 1);
}

#[test]
fn an_offset_that_went_back() {
    let mut observed = sound();
    observed.commits.push(Commit { revisions: [2].into(), offsets: vec![(0, 7)] });
    assert_eq!(check(&observed).count(Defect::WentBack), 1);
}

#[test]
fn a_transaction_that_was_left_open() {
    finds(Defect::Open, 1, |observed| observed.open.push("out/1: stable up to 7 of 9".into()));
    finds(Defect::Open, 1, |observed| observed.parts[1].outcome = "open".into());
}

#[test]
fn an_offset_behind_the_inputs_end() {
    finds(Defect::Behind, 1, |observed| observed.committed[1] = 9);
    finds(Defect::Behind, 1, |observed| observed.committed[1] = -1);
}
