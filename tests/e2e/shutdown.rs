//! A daemon's clean shutdown.

use crate::support::flowers::ROW;
use crate::support::record::{self, Record};
use crate::support::scene::Scene;
use crate::support::topic::{self, Isolation};
use crate::support::until_true;
use anyhow::Result;

crate::tests![sigterm_finishes_the_transaction_and_exits_0, a_daemon_without_work_ends_at_once];

fn sigterm_finishes_the_transaction_and_exits_0(scene: &Scene) -> Result<()> {
    scene.create_usual(2)?;
    // Long enough that the signal comes while the transaction is open.
    let slow = "[delivery]\ncommit_interval = \"20s\"\nbudget = \"30s\"\ntransaction_timeout = \"40s\"\nmax_poll_interval = \"60s\"\n";
    let pipeline = scene.flower_pipeline("", &scene.model_of("setosa")?, slow)?;
    let mut daemon = scene.daemon("a", &pipeline)?;
    let records: Vec<Record> = (0..1000).map(|at| record::value(ROW).on(at % 2)).collect();
    scene.write("in", &records)?;
    until_true("outputs of an open transaction", || {
        daemon.check_alive()?;
        Ok(topic::ends(&scene.bootstrap(), &scene.topic("out"))?.iter().sum::<i64>() > 0)
    })?;
    daemon.sigterm()?;
    let status = daemon.wait_exit()?;
    assert_eq!(status.code(), Some(0), "{status}");

    let committed = scene.read("out")?;
    assert!(!committed.is_empty(), "the transaction was open, so it had records to finish");
    let all = topic::read(&scene.bootstrap(), &scene.topic("out"), Isolation::Uncommitted)?;
    assert_eq!(committed.len(), all.len(), "nothing was aborted");
    for (partition, commit) in (0..).zip(scene.commits()?) {
        let emitted = committed.iter().filter(|record| record.partition == Some(partition)).count();
        assert_eq!(
            commit.offset.max(0),
            i64::try_from(emitted)?,
            "partition {partition}: each offset that is committed was emitted"
        );
    }
    Ok(())
}

fn a_daemon_without_work_ends_at_once(scene: &Scene) -> Result<()> {
    scene.create_usual(1)?;
    let pipeline = scene.flower_pipeline("", &scene.model_of("setosa")?, "")?;
    let mut daemon = scene.daemon("a", &pipeline)?;
    daemon.sigterm()?;
    assert_eq!(daemon.wait_exit()?.code(), Some(0));
    Ok(())
}
