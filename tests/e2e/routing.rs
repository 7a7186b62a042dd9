//! Transforms that send records to named outputs, with our stamp in a header.

use crate::support::record::{self, Record};
use crate::support::scene::Scene;
use anyhow::Result;

crate::tests![a_route_sends_each_record_to_its_output, a_transforms_output_is_stamped_as_configured];

/// A pipeline that routes by the header `kind`: `urgent` to a topic of its own, the rest to the output.
fn pipeline(scene: &Scene, output: &str) -> Result<std::path::PathBuf> {
    let head = scene.head("").replace("[output]\n", &format!("[output]\n{output}"));
    scene.pipeline(&format!(
        "{head}\
         [[transform]]\n\
         plugin = \"route\"\n\
         config = {{ by = \"header:kind\", routes = {{ urgent = \"urgent\" }}, default = \"rest\" }}\n\
         outputs = {{ urgent = {:?} }}\n",
        scene.topic("urgent"),
    ))
}

fn records() -> Vec<Record> {
    let record =
        |at: i64| record::value(format!("{at}")).key(format!("k{at}")).on(at as i32 % 2).at(1_600_000_000_000 + at);
    let kinds = [Some("urgent"), None, Some("other"), Some("urgent"), Some("urgent"), None];
    let with_kind = |(at, kind): (i64, Option<&str>)| match kind {
        Some(kind) => record(at).header("kind", Some(kind.as_bytes())),
        None => record(at),
    };
    (0..).zip(kinds).map(with_kind).collect()
}

/// Runs the records, and answers what came out at `urgent` and at `out`.
fn run(scene: &Scene, output: &str) -> Result<[Vec<Record>; 2]> {
    scene.create_usual(2)?;
    scene.create(&[("urgent", 2, &[])])?;
    scene.write("in", &records())?;
    let mut daemon = scene.daemon("a", &pipeline(scene, output)?)?;
    scene.until_done(&mut [&mut daemon])?;
    assert_eq!(scene.read("dead")?, []);
    Ok([scene.read("urgent")?, scene.read("out")?])
}

/// The records that are to come out there, partition by partition.
fn expected(urgent: bool) -> Vec<Record> {
    let kind = (String::from("kind"), Some(b"urgent".to_vec()));
    let mut records: Vec<Record> =
        records().into_iter().filter(|record| record.content.headers.contains(&kind) == urgent).collect();
    records.sort_by_key(|record| record.partition);
    records
}

fn a_route_sends_each_record_to_its_output(scene: &Scene) -> Result<()> {
    let found = run(scene, "stamp = \"none\"\n")?;
    for (found, urgent) in found.iter().zip([true, false]) {
        let expected = expected(urgent);
        assert_eq!(found.len(), expected.len(), "urgent: {urgent}");
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.content, expected.content);
            assert_eq!((found.partition, found.timestamp), (expected.partition, expected.timestamp));
        }
    }
    Ok(())
}

fn a_transforms_output_is_stamped_as_configured(scene: &Scene) -> Result<()> {
    let found = run(scene, "stamp = \"header\"\n")?;
    let input = scene.read("in")?;
    for record in found.iter().flatten() {
        let source = input.iter().find(|source| source.content.key == record.content.key);
        let (partition, offset) =
            source.map(|source| (source.partition.unwrap_or(-1), source.offset)).unwrap_or_default();
        let stamp = record.header_text("sandpiper")?;
        assert_eq!(stamp, format!("1 champion {}/{partition}@{offset}", scene.topic("in")));
    }
    Ok(())
}
