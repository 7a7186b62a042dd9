//! Fisher's 150 irises through the stock parser and classifier: right, and the same bytes every time.

use crate::support::record::{self, Record};
use crate::support::scene::Scene;
use crate::support::{flowers, root};
use anyhow::{Context, Result, ensure};
use std::fs;

crate::tests![a_hundred_and_fifty_flowers_are_classified_byte_for_byte];

/// The output topic's values as last reviewed, one a line. `SANDPIPER_GOLDEN=write` writes the file anew.
const GOLDEN: &str = "tests/golden/flowers.jsonl";

fn a_hundred_and_fifty_flowers_are_classified_byte_for_byte(scene: &Scene) -> Result<()> {
    scene.create_usual(1)?;
    let flowers = flowers::flowers()?;
    ensure!(flowers.len() == 150, "{} flowers", flowers.len());
    let records: Vec<Record> =
        flowers.iter().enumerate().map(|(at, flower)| record::value(&flower.row).key(format!("flower-{at}"))).collect();
    scene.write("in", &records)?;
    let pipeline = scene.flower_pipeline("id = \"key\"", &flowers::model(), "")?;
    let mut daemon = scene.daemon("a", &pipeline)?;
    scene.until_done(&mut [&mut daemon])?;

    let predictions = scene.read("out")?;
    assert_eq!(predictions.len(), flowers.len());
    assert_eq!(scene.read("dead")?, [], "no flower is malformed");
    let model = serde_json::from_slice(&fs::read(flowers::model())?)?;
    let mut right = 0;
    for (at, (prediction, flower)) in predictions.iter().zip(&flowers).enumerate() {
        let value = prediction.json()?;
        let (class, probabilities) = flowers::expect(&model, &flower.cells()?)?;
        assert_eq!(value["id"], format!("flower-{at}"));
        assert_eq!(value["class"], class, "{}", flower.row);
        for (class, expected) in probabilities {
            let found =
                value["probabilities"][&class].as_f64().with_context(|| format!("no probability of {class}"))?;
            assert!((found - expected).abs() < 1e-5, "{class} of {}: {found} instead of {expected}", flower.row);
        }
        right += usize::from(flower.species.ends_with(&class));
    }
    assert!(right >= 140, "only {right} of 150 flowers are classified as the botanist did");

    let texts: Vec<&str> = predictions.iter().map(Record::text).collect::<Result<_>>()?;
    // The release is a digest of the plugins, which another compiler builds otherwise.
    let release = predictions[0].json()?["release"].as_str().context("no release")?.to_owned();
    ensure!(release.len() == 12 && release.bytes().all(|digit| digit.is_ascii_hexdigit()), "{release}");
    let found = texts.join("\n").replace(&release, "a-release") + "\n";
    let path = root().join(GOLDEN);
    if std::env::var("SANDPIPER_GOLDEN").is_ok_and(|wish| wish == "write") {
        fs::write(&path, &found)?;
    }
    let golden =
        fs::read_to_string(&path).with_context(|| format!("{GOLDEN} is missing: SANDPIPER_GOLDEN=write makes it"))?;
    for (line, (found, golden)) in found.lines().zip(golden.lines()).enumerate() {
        assert_eq!(found, golden, "line {} of {GOLDEN}", line + 1);
    }
    assert_eq!(found.lines().count(), golden.lines().count());
    Ok(())
}
