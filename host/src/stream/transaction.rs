//! What one transaction holds until it commits or never happened: positions and counts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::config::plan::Plan;
use crate::record::output::{Counts, Outputs};
use crate::record::{Batch, Origin, Revision};
use crate::stream::source::{Committed, Position, TopicPartition};
use sandpiper_sandbox::Digest;

/// When a transaction closes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// From the start of one commit to the start of the next, at least.
    pub interval: Duration,
    pub records: usize,
    pub bytes: usize,
    /// From the first record to the end of the commit.
    pub budget: Duration,
    /// Share of a minute's records above which dead letters pause the pipeline.
    pub pause_above: f32,
}

impl From<&Plan> for Bounds {
    fn from(plan: &Plan) -> Self {
        let delivery = &plan.delivery;
        Self {
            interval: delivery.commit_interval,
            records: delivery.max_records,
            bytes: delivery.max_bytes,
            budget: delivery.budget,
            pause_above: plan.errors.pause_above,
        }
    }
}

/// An open transaction. Everything in it is staged: dropping it forgets it.
#[derive(Debug)]
pub struct Transaction {
    opened: Instant,
    due: Instant,
    records: usize,
    bytes: usize,
    /// The next offset to be read, by partition.
    positions: BTreeMap<TopicPartition, i64>,
    pub counts: Counts,
    /// Records whose outcomes were fixed beforehand, and stand in it.
    pub fixed: Vec<Origin>,
}

impl Transaction {
    /// `due` is when it closes, unless it is full before.
    pub fn open(now: Instant, due: Instant) -> Self {
        Self {
            opened: now,
            due,
            records: 0,
            bytes: 0,
            positions: BTreeMap::new(),
            counts: Counts::default(),
            fixed: Vec::new(),
        }
    }

    /// A batch whose outputs were handed to the sink.
    pub fn add(&mut self, batch: &Batch, outputs: &Outputs) {
        self.records += batch.len();
        self.bytes += outputs.size() + outputs.kept;
        self.counts.add(&outputs.counts);
        let mut run: Option<(TopicPartition, i64)> = None;
        for row in batch.rows.iter() {
            let partition = TopicPartition::from(row.origin);
            match &mut run {
                // Records come in runs of one partition: the map is touched once a run.
                Some((current, next)) if *current == partition => *next = row.origin.offset + 1,
                _ => {
                    if let Some((partition, next)) = run.replace((partition, row.origin.offset + 1)) {
                        self.positions.insert(partition, next);
                    }
                }
            }
        }
        self.positions.extend(run);
    }

    pub fn is_due(&self, bounds: &Bounds, now: Instant) -> bool {
        self.records >= bounds.records || self.bytes >= bounds.bytes || now >= self.due
    }

    /// Until it is due.
    pub fn time_left(&self, now: Instant) -> Duration {
        self.due.saturating_duration_since(now)
    }

    pub fn deadline(&self, bounds: &Bounds) -> Instant {
        self.opened + bounds.budget
    }

    pub fn positions(&self) -> Vec<Position> {
        let position =
            |(partition, offset): (&TopicPartition, &i64)| Position { partition: *partition, offset: *offset };
        self.positions.iter().map(position).collect()
    }

    /// Whether the committed offsets are those that its commit writes, all or none of which it does. One of a partition that is
    /// not ours any more says nothing while there are others: its next owner may have moved it.
    pub fn is_committed(&self, committed: &[Committed], is_ours: impl Fn(TopicPartition) -> bool) -> bool {
        let has_ours = self.positions.keys().any(|partition| is_ours(*partition));
        let found = |partition| committed.iter().find(|committed| committed.partition == partition)?.offset;
        let telling = self.positions.iter().filter(|(partition, _)| !has_ours || is_ours(**partition));
        let mut telling = telling.peekable();
        telling.peek().is_some() && telling.all(|(partition, offset)| found(*partition) == Some(*offset))
    }
}

/// Which deployment processed the records before a committed offset: its number, and what it ran.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Deployed {
    pub revision: Revision,
    /// Of its releases; `None` where an older version of this program wrote it.
    pub releases: Option<Digest>,
}

impl Deployed {
    /// Whether both are known to run the same, whatever their numbers are.
    pub fn runs_the_same(&self, other: &Self) -> bool {
        self.releases.is_some() && self.releases == other.releases
    }

    /// Whether both are known to run different things under one number.
    pub fn is_tied_with(&self, other: &Self) -> bool {
        let are_known = self.releases.is_some() && other.releases.is_some();
        self.revision == other.revision && are_known && self.releases != other.releases
    }

    /// Whether it must not process what comes behind the other's records: the other is newer, or another of the same number.
    pub fn must_wait_for(&self, other: &Self) -> bool {
        self.revision < other.revision || self.is_tied_with(other)
    }
}

/// What is written beside a committed offset: `r17 sha256:…`, `r17` where the releases are not known, or nothing where there
/// is no deployment.
pub fn metadata(deployed: Option<Deployed>) -> String {
    match deployed {
        None => String::new(),
        Some(Deployed { revision, releases: None }) => format!("r{revision}"),
        Some(Deployed { revision, releases: Some(releases) }) => format!("r{revision} {releases}"),
    }
}

/// The deployment in a committed offset's metadata; `None` where there is none or somebody else wrote it.
pub fn deployed_in(metadata: &str) -> Option<Deployed> {
    let (revision, releases) = match metadata.strip_prefix('r')?.split_once(' ') {
        None => (metadata.strip_prefix('r')?, None),
        Some((revision, releases)) => (revision, Some(releases.parse().ok()?)),
    };
    Some(Deployed { revision: revision.parse().ok().and_then(Revision::new)?, releases })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, TopicIndex, Topics};

    const BOUNDS: Bounds = Bounds {
        interval: Duration::from_millis(100),
        records: 4,
        bytes: 10,
        budget: Duration::from_secs(3),
        pause_above: 1.0,
    };

    fn partition(partition: i32) -> TopicPartition {
        TopicPartition { topic: TopicIndex::FIRST, partition }
    }

    fn open(now: Instant) -> Transaction {
        Transaction::open(now, now + BOUNDS.interval)
    }

    fn batch(origins: &[(i32, i64)]) -> Batch {
        let mut builder = BatchBuilder::new(Topics::new(["in"]));
        for (partition, offset) in origins {
            builder.push(
                Origin { topic: TopicIndex::FIRST, partition: *partition, offset: *offset },
                None,
                None,
                None,
                None,
            );
        }
        builder.finish()
    }

    fn outputs(bytes: usize) -> Outputs {
        let mut outputs = Outputs::default();
        outputs.put(&vec![0; bytes]);
        outputs.counts.emitted = 1;
        outputs
    }

    fn positions(transaction: &Transaction) -> Vec<(i32, i64)> {
        transaction.positions().iter().map(|position| (position.partition.partition, position.offset)).collect()
    }

    #[test]
    fn a_position_is_behind_the_last_record_of_each_partition() {
        let mut transaction = open(Instant::now());
        transaction.add(&batch(&[(1, 4), (1, 5), (0, 7), (1, 9), (0, 8)]), &outputs(0));
        assert_eq!(positions(&transaction), [(0, 9), (1, 10)]);
        transaction.add(&batch(&[(2, 0), (1, 11)]), &outputs(0));
        assert_eq!(positions(&transaction), [(0, 9), (1, 12), (2, 1)]);
    }

    #[test]
    fn topics_keep_positions_of_their_own() {
        let (topics, [one, two]) = Topics::of(["in", "labels"]);
        let mut builder = BatchBuilder::new(topics);
        for (topic, offset) in [(one, 3), (two, 8), (one, 4)] {
            builder.push(Origin { topic, partition: 0, offset }, None, None, None, None);
        }
        let mut transaction = open(Instant::now());
        transaction.add(&builder.finish(), &outputs(0));
        let read = |position: &Position| (position.partition.topic, position.offset);
        assert_eq!(transaction.positions().iter().map(read).collect::<Vec<_>>(), [(one, 5), (two, 9)]);
    }

    #[test]
    fn it_is_committed_when_the_offsets_of_its_partitions_that_are_still_ours_say_so() {
        let mut transaction = open(Instant::now());
        transaction.add(&batch(&[(0, 4), (1, 9)]), &outputs(0));
        let committed = |offsets: [Option<i64>; 2]| -> Vec<Committed> {
            let of = |(at, offset)| Committed { partition: partition(at), offset, metadata: String::new() };
            (0..).zip(offsets).map(of).collect()
        };
        for (offsets, both, first, none) in [
            ([Some(5), Some(10)], true, true, true),
            ([Some(5), Some(20)], false, true, false),
            ([Some(4), Some(10)], false, false, false),
            ([None, None], false, false, false),
        ] {
            let committed = committed(offsets);
            assert_eq!(transaction.is_committed(&committed, |_| true), both, "{offsets:?}");
            assert_eq!(transaction.is_committed(&committed, |ours| ours == partition(0)), first, "{offsets:?}");
            assert_eq!(transaction.is_committed(&committed, |_| false), none, "{offsets:?}");
        }
        assert!(!open(Instant::now()).is_committed(&[], |_| true), "without a record nothing is written");
    }

    #[test]
    fn it_is_due_at_each_of_its_bounds_and_not_just_below() {
        let now = Instant::now();
        for (records, bytes, later, due) in
            [(3, 9, 99, false), (4, 9, 99, true), (3, 10, 99, true), (3, 9, 100, true), (5, 11, 101, true)]
        {
            let mut transaction = open(now);
            let origins: Vec<(i32, i64)> = (0..records).map(|offset| (0, offset)).collect();
            transaction.add(&batch(&origins), &outputs(bytes));
            let at = now + Duration::from_millis(later);
            assert_eq!(transaction.is_due(&BOUNDS, at), due, "{records} records, {bytes} bytes, {later} ms");
        }
    }

    #[test]
    fn records_bytes_and_counts_add_up_over_batches() {
        let now = Instant::now();
        let mut transaction = open(now);
        transaction.add(&batch(&[(0, 0), (0, 1)]), &outputs(4));
        assert!(!transaction.is_due(&BOUNDS, now));
        transaction.add(&batch(&[(0, 2)]), &outputs(6));
        assert!(transaction.is_due(&BOUNDS, now), "4 + 6 bytes");
        assert_eq!(transaction.counts.emitted, 2);
    }

    #[test]
    fn time_left_ends_at_zero_and_the_deadline_is_the_budget() {
        let now = Instant::now();
        let transaction = open(now);
        assert_eq!(transaction.time_left(now + Duration::from_millis(30)), Duration::from_millis(70));
        assert_eq!(transaction.time_left(now + Duration::from_secs(9)), Duration::ZERO);
        assert_eq!(transaction.deadline(&BOUNDS), now + BOUNDS.budget);
    }

    #[test]
    fn a_deployment_reads_back_from_the_metadata_and_foreign_metadata_is_none() {
        let deployed = |number, releases| Revision::new(number).map(|revision| Deployed { revision, releases });
        assert_eq!((metadata(None).as_str(), metadata(deployed(17, None)).as_str()), ("", "r17"));
        for deployed in [None, deployed(1, None), deployed(17, Some(Digest::of(b"a"))), deployed(u64::MAX, None)] {
            assert_eq!(deployed_in(&metadata(deployed)), deployed);
        }
        let longest = metadata(deployed(u64::MAX, Some(Digest::of(b"a"))));
        assert!(longest.len() < 4_096, "offset.metadata.max.bytes");
        for foreign in ["", "17", "r", "r0", "r-1", "r1.5", "revision 17", "r99999999999999999999", "r1 x", "r1 "] {
            assert_eq!(deployed_in(foreign), None, "{foreign:?}");
        }
    }

    #[test]
    fn deployments_run_the_same_only_where_both_say_what_they_run() {
        let deployed = |number, of: Option<&str>| Deployed {
            revision: Revision::new(number).unwrap(),
            releases: of.map(|of| Digest::of(of.as_bytes())),
        };
        assert!(deployed(1, Some("a")).runs_the_same(&deployed(2, Some("a"))));
        assert!(!deployed(1, Some("a")).runs_the_same(&deployed(1, Some("b"))));
        assert!(!deployed(1, None).runs_the_same(&deployed(1, None)));
    }

    #[test]
    fn what_is_newer_is_waited_for_and_so_is_another_of_the_same_number() {
        let deployed = |number, of: Option<&str>| Deployed {
            revision: Revision::new(number).unwrap(),
            releases: of.map(|of| Digest::of(of.as_bytes())),
        };
        let ours = deployed(2, Some("a"));
        for (theirs, tied, waits) in [
            (deployed(1, Some("b")), false, false),
            (deployed(2, Some("a")), false, false),
            (deployed(2, Some("b")), true, true),
            (deployed(2, None), false, false),
            (deployed(3, Some("a")), false, true),
            (deployed(3, None), false, true),
        ] {
            assert_eq!((ours.is_tied_with(&theirs), ours.must_wait_for(&theirs)), (tied, waits), "{theirs:?}");
        }
        assert!(!deployed(2, None).must_wait_for(&ours), "of what does not say what it runs nothing is known");
    }
}
