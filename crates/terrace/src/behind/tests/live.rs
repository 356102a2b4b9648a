//! The whole of it, with its thread and its tasks: sinks that misbehave, disks that fail, room that is missing, ends.

use super::disk::{Disk, Faults};
use crate::behind::{
    Ack, Condition, DeadLetter, Flushed, Journal, JournalOptions, Lane, LaneOptions, OpenError, Operation,
    Outcome, Outcomes, Pending, RetryError, Sink, WhenFull, Write, WriteError,
};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::Chance;
use tokio::sync::Semaphore;

pub(super) const LONG: Duration = Duration::from_mins(1);

/// An origin that does what the test says.
#[derive(Default)]
pub(super) struct Origin {
    /// All writes that it was given, in order.
    pub(super) log: Mutex<Vec<Write>>,
    /// What it does with the next calls, first to last; afterwards it stores.
    pub(super) script: Mutex<Vec<Act>>,
    /// Keys that fail.
    pub(super) failing: Mutex<BTreeMap<Bytes, Outcome>>,
    pub(super) letters: Mutex<Vec<DeadLetter>>,
    /// A call waits for a permit, if there is a gate.
    pub(super) gate: Option<Semaphore>,
}

#[derive(Clone, Copy)]
pub(super) enum Act {
    Panic,
    Hang,
    Short,
}

impl Sink for Origin {
    fn store_many<'a>(&'a self, writes: &'a [Write]) -> Outcomes<'a> {
        Box::pin(async move {
            self.log.lock().extend_from_slice(writes);
            if let Some(gate) = &self.gate {
                gate.acquire().await.expect("open").forget();
            }
            let act = self.script.lock().pop();
            match act {
                Some(Act::Panic) => panic!("sink on fire"),
                Some(Act::Hang) => std::future::pending().await,
                Some(Act::Short) => vec![Outcome::Stored],
                None => {
                    let failing = self.failing.lock();
                    let outcome = |write: &Write| failing.get(&write.key).cloned().unwrap_or(Outcome::Stored);
                    writes.iter().map(outcome).collect()
                }
            }
        })
    }

    fn given_up(&self, letters: &[DeadLetter]) {
        self.letters.lock().extend_from_slice(letters);
    }
}

pub(super) fn options() -> LaneOptions {
    LaneOptions::default()
        .backoff(Duration::from_millis(2), Duration::from_millis(10))
        .attempt_timeout(Duration::from_millis(100))
        .interval(LONG)
        .attempts_max(3)
}

pub(super) fn journal_on(disk: &Disk, options: JournalOptions) -> Journal {
    let options = options.chance(Chance::seeded(1)).full_retry(Duration::from_millis(5));
    Journal::open_with(Path::new("live.journal"), disk.opener(), options).expect("sound")
}

pub(super) fn lane_of(journal: &Journal, options: LaneOptions, origin: &Arc<Origin>) -> Lane {
    journal.lane("space", options, Arc::<Origin>::clone(origin)).expect("its first sink")
}

pub(super) async fn put(lane: &Lane, key: &str, value: &str) -> Result<u64, WriteError> {
    let operation = Operation::Store(Bytes::copy_from_slice(value.as_bytes()));
    let written = lane.write(Bytes::copy_from_slice(key.as_bytes()), operation, None, LONG).await?;
    Ok(written.id.number)
}

/// Flushes until nothing waits.
pub(super) async fn drain(lane: &Lane) {
    tokio::time::timeout(LONG, async {
        while lane.figures().pending > 0 {
            lane.flush().await;
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it drains");
}

#[tokio::test]
async fn a_sink_that_panics_hangs_or_answers_nonsense_loses_nothing() {
    let journal = journal_on(&Disk::default(), JournalOptions::default());
    let origin = Arc::new(Origin::default());
    *origin.script.lock() = vec![Act::Short, Act::Hang, Act::Panic];
    let lane = lane_of(&journal, options().attempts_max(9), &origin);
    for key in 0..20 {
        put(&lane, &format!("k{key}"), "v").await.expect("room");
    }
    let first = lane.flush().await;
    assert_eq!(first, Flushed { stored: 0, parked: 20, dead: 0 });
    drain(&lane).await;
    let figures = lane.figures();
    assert_eq!((figures.stored, figures.dead, figures.pending), (20, 0, 0));
    assert!(figures.retried >= 20 && figures.parked == 20, "{figures:?}");
    put(&lane, "after", "v").await.expect("room");
    assert_eq!(lane.flush().await.left(), 0);
}

#[tokio::test]
async fn a_key_that_makes_its_batch_hang_is_soon_alone() {
    struct Stuck(Origin);
    impl Sink for Stuck {
        fn store_many<'a>(&'a self, writes: &'a [Write]) -> Outcomes<'a> {
            if writes.iter().any(|write| &write.key[..] == b"stuck") {
                return Box::pin(std::future::pending());
            }
            self.0.store_many(writes)
        }
    }
    let journal = journal_on(&Disk::default(), JournalOptions::default());
    let sink = Arc::new(Stuck(Origin::default()));
    let patient = options().attempt_timeout(Duration::from_millis(20)).attempts_max(4);
    let lane = journal.lane("space", patient, Arc::<Stuck>::clone(&sink)).expect("first");
    for key in 0..100 {
        put(&lane, &format!("k{key}"), "v").await.expect("room");
    }
    put(&lane, "stuck", "v").await.expect("room");
    drain(&lane).await;
    let figures = lane.figures();
    assert_eq!((figures.stored, figures.dead), (100, 1));
    assert_eq!(&lane.dead_letters(9)[0].write.key[..], b"stuck");
}

#[tokio::test]
async fn a_failing_key_waits_by_itself_and_ends_with_all_of_its_writes() {
    let disk = Disk::default();
    let journal = journal_on(&disk, JournalOptions::default());
    let origin = Arc::new(Origin::default());
    let bad = Bytes::from_static(b"bad");
    origin.failing.lock().insert(bad.clone(), Outcome::Failed("constraint".into()));
    let lane = lane_of(&journal, options(), &origin);
    let first = put(&lane, "bad", "1").await.expect("room");
    put(&lane, "good", "1").await.expect("room");
    assert_eq!(lane.flush().await, Flushed { stored: 1, parked: 1, dead: 0 });
    lane.write(bad.clone(), Operation::Delete, None, LONG).await.expect("room");
    let last = put(&lane, "bad", "3").await.expect("room");
    assert_eq!(lane.pending(&bad), Pending::Stored("3".into()), "the newest is seen");
    drain(&lane).await;
    assert_eq!(lane.pending(&bad), Pending::Nothing);
    let letters = lane.dead_letters(9);
    let numbers: Vec<u64> = letters.iter().map(|letter| letter.write.id.number).collect();
    assert_eq!(numbers, [first, last], "the delete was never sent, and the put behind it took its place");
    assert_eq!(letters[0].write.attempt, 3);
    assert_eq!(letters[0].reason, "constraint");
    assert!(letters[1].reason.contains("stood behind"), "{}", letters[1].reason);
    assert_eq!(*origin.letters.lock(), letters, "the sink was told");

    // They are still there after a restart, and come back in their order.
    journal.shutdown(LONG).await;
    let journal = journal_on(&disk.after_kill(), JournalOptions::default());
    let origin = Arc::new(Origin::default());
    let lane = lane_of(&journal, options(), &origin);
    assert_eq!(lane.dead_letters(9).len(), 2);
    assert_eq!(lane.retry_dead(b"none"), Err(RetryError::Unknown));
    assert_eq!(lane.retry_dead(&bad), Ok(2));
    assert_eq!(lane.pending(&bad), Pending::Stored("3".into()));
    drain(&lane).await;
    let sent: Vec<u64> = origin.log.lock().iter().map(|write| write.id.number).collect();
    assert_eq!(sent, [first, last]);
    assert!(lane.dead_letters(9).is_empty());
}

#[tokio::test]
async fn a_dead_letter_never_undoes_a_newer_write() {
    let disk = Disk::default();
    let journal = journal_on(&disk, JournalOptions::default());
    let origin = Arc::new(Origin::default());
    let lane = lane_of(&journal, options(), &origin);
    origin.failing.lock().insert("k".into(), Outcome::Refused("too long".into()));
    put(&lane, "k", "old").await.expect("room");
    lane.flush().await;
    assert_eq!(lane.figures().dead_letters, 1, "refused at once");
    origin.failing.lock().clear();
    put(&lane, "k", "new").await.expect("room");
    assert_eq!(lane.retry_dead(b"k"), Err(RetryError::Overtaken));
    drain(&lane).await;
    journal.shutdown(LONG).await;
    let journal = journal_on(&disk.after_kill(), JournalOptions::default());
    let lane = lane_of(&journal, options(), &origin);
    assert!(lane.dead_letters(9)[0].is_overtaken, "also after a restart");
    assert_eq!(lane.retry_dead(b"k"), Err(RetryError::Overtaken));
    assert_eq!(lane.drop_dead(b"k"), 1);
    assert_eq!(lane.figures().dead_letters, 0);
}

#[tokio::test]
async fn an_unavailable_origin_costs_no_attempts() {
    let journal = journal_on(&Disk::default(), JournalOptions::default());
    let origin = Arc::new(Origin::default());
    origin.failing.lock().insert("k".into(), Outcome::Unavailable("connection refused".into()));
    let lane = lane_of(&journal, options(), &origin);
    put(&lane, "k", "v").await.expect("room");
    tokio::time::timeout(LONG, async {
        while origin.log.lock().len() < 20 {
            lane.flush().await;
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it is tried again and again");
    assert_eq!(lane.figures().dead, 0);
    origin.failing.lock().clear();
    drain(&lane).await;
}

#[tokio::test]
async fn only_what_was_not_sent_is_coalesced() {
    let journal = journal_on(&Disk::default(), JournalOptions::default());
    let origin = Arc::new(Origin { gate: Some(Semaphore::new(0)), ..Origin::default() });
    let lane = lane_of(&journal, options().attempt_timeout(LONG), &origin);
    put(&lane, "k", "1").await.expect("room");
    let flushing = tokio::time::timeout(Duration::from_millis(20), lane.flush()).await;
    assert!(flushing.is_err(), "the sink waits at its gate");
    for value in ["2", "3", "4"] {
        put(&lane, "k", value).await.expect("room");
    }
    assert_eq!(lane.figures().pending, 2, "the one that is under way, and the newest");
    origin.gate.as_ref().expect("gated").add_permits(9);
    assert_eq!(lane.flush().await.left(), 0);
    let values: Vec<Bytes> =
        origin.log.lock().iter().filter_map(|write| write.operation.value().cloned()).collect();
    assert_eq!(values, ["1", "4"]);
    assert_eq!(lane.figures().coalesced, 2);
}

#[tokio::test]
async fn without_room_a_write_waits_for_it_or_is_refused() {
    let small = || JournalOptions::default().pending_max(5);
    let origin = Arc::new(Origin { gate: Some(Semaphore::new(0)), ..Origin::default() });
    let journal = journal_on(&Disk::default(), small());
    let lane = lane_of(&journal, options().attempt_timeout(LONG), &origin);
    for key in 0..5 {
        put(&lane, &format!("k{key}"), "v").await.expect("room");
    }
    let sixth = lane.write("k5".into(), Operation::Delete, None, Duration::from_millis(20)).await;
    assert!(matches!(sixth, Err(WriteError::Full { pending: 5, .. })), "{sixth:?}");
    origin.gate.as_ref().expect("gated").add_permits(99);
    put(&lane, "k6", "v").await.expect("room comes without a flush");

    let journal = journal_on(&Disk::default(), small().pending_bytes_max(2_000));
    let lane = lane_of(&journal, options().when_full(WhenFull::Refuse), &Arc::new(Origin::default()));
    let large = Operation::Store(Bytes::from(vec![0; 3_000]));
    let never = lane.write("large".into(), large, None, LONG).await;
    assert!(matches!(never, Err(WriteError::TooLarge { .. })), "{never:?}");
    let half = || Operation::Store(Bytes::from(vec![0; 1_000]));
    lane.write("a".into(), half(), None, LONG).await.expect("room");
    let full = lane.write("b".into(), half(), None, LONG).await;
    assert!(matches!(full, Err(WriteError::Full { pending: 1, .. })), "{full:?}");
    assert_eq!(lane.figures().pending, 1);
}

#[tokio::test]
async fn a_failed_disk_refuses_writes_and_still_sends_what_it_acknowledged() {
    let disk = Disk::default();
    let journal = journal_on(&disk, JournalOptions::default());
    let origin = Arc::new(Origin::default());
    let lane = lane_of(&journal, options(), &origin);
    let first = put(&lane, "kept", "v").await.expect("sound");
    disk.fail(Faults { sync: true, ..Faults::default() });
    assert!(matches!(put(&lane, "lost", "v").await, Err(WriteError::Poisoned { .. })));
    disk.fail(Faults::default());
    let writes = disk.writes();
    assert!(matches!(put(&lane, "later", "v").await, Err(WriteError::Poisoned { .. })));
    assert!(matches!(journal.figures().condition, Condition::Poisoned(_)));
    assert_eq!(lane.pending(b"lost"), Pending::Nothing);
    assert_eq!(lane.flush().await, Flushed { stored: 1, parked: 0, dead: 0 });
    let sent: Vec<u64> = origin.log.lock().iter().map(|write| write.id.number).collect();
    assert_eq!(sent, [first], "what was refused is not sent");
    assert!(journal.shutdown(LONG).await.is_closed);
    assert_eq!(disk.writes(), writes, "the file is left alone");
}

#[tokio::test]
async fn a_full_disk_refuses_until_there_is_room() {
    let disk = Disk::default();
    let journal = journal_on(&disk, JournalOptions::default());
    let (origin, other) = (Arc::new(Origin::default()), Arc::new(Origin::default()));
    let lane = lane_of(&journal, options(), &origin);
    let fast = journal.lane("fast", options().ack(Ack::Memory), Arc::<Origin>::clone(&other)).expect("first");
    put(&lane, "before", "v").await.expect("sound");
    disk.fail(Faults { room: Some(1), ..Faults::default() });
    put(&fast, "told", "v").await.expect("from memory");
    assert_eq!(put(&lane, "refused", "v").await, Err(WriteError::DiskFull));
    assert_eq!(journal.figures().condition, Condition::DiskFull);
    assert_eq!(put(&lane, "refused", "v").await, Err(WriteError::DiskFull));
    disk.fail(Faults::default());
    tokio::time::timeout(LONG, async {
        while put(&lane, "after", "v").await == Err(WriteError::DiskFull) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it looks again");
    let left = disk.after_kill();
    let (_, loaded) =
        crate::behind::store::Store::open(Path::new("left"), left.opener(), 9, 9).expect("sound");
    let keys: Vec<&[u8]> = loaded.pending.iter().map(|(record, _)| &record.key[..]).collect();
    assert_eq!(keys, [&b"before"[..], b"told", b"after"], "what was told from memory is in the file as well");
    assert_eq!(fast.flush().await.left() + lane.flush().await.left(), 0);
}

#[tokio::test]
async fn each_mode_says_what_it_means() {
    let disk = Disk::default();
    let journal = journal_on(&disk, JournalOptions::default());
    for ack in [Ack::Fsync, Ack::Os, Ack::Memory] {
        let lane =
            journal.lane(ack.as_str(), options().ack(ack), Arc::new(Origin::default())).expect("first");
        let written = lane.write("k".into(), Operation::Delete, None, LONG).await.expect("sound");
        assert_eq!(written.ack, ack);
        assert_eq!(lane.pending(b"k"), Pending::Deleted);
    }
    // What the operating system has is not lost with the process, even if the sync that follows fails.
    disk.fail(Faults { sync: true, ..Faults::default() });
    let lane = journal.lane("late", options().ack(Ack::Os), Arc::new(Origin::default())).expect("first");
    put(&lane, "os", "v").await.expect("the operating system had it before the sync failed");
    let left = disk.after_kill();
    let (_, loaded) =
        crate::behind::store::Store::open(Path::new("left"), left.opener(), 9, 9).expect("sound");
    assert!(loaded.pending.iter().any(|(record, _)| &record.key[..] == b"os"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_under_load_leaves_nothing_behind_that_it_does_not_name() {
    let disk = Disk::default();
    let journal = journal_on(&disk, JournalOptions::default());
    let origin = Arc::new(Origin { gate: Some(Semaphore::new(40)), ..Origin::default() });
    let lane = lane_of(&journal, options().flush_at(5).batch_max(5).attempt_timeout(LONG), &origin);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..16 {
        let lane = lane.clone();
        writers.spawn(async move {
            let mut acknowledged = Vec::new();
            for count in 0.. {
                match put(&lane, &format!("k{writer}:{count}"), "v").await {
                    Ok(number) => acknowledged.push(number),
                    Err(WriteError::Closed) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            acknowledged
        });
    }
    tokio::time::timeout(LONG, async {
        while lane.figures().acknowledged < 500 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("writes are acknowledged");
    let drained = journal.shutdown(Duration::from_millis(200)).await;
    let acknowledged: Vec<u64> = writers.join_all().await.into_iter().flatten().collect();
    assert!(drained.is_closed && drained.left > 0, "the gate lets 200 through: {drained:?}");
    drop((journal, lane));

    let journal = journal_on(&disk, JournalOptions::default());
    assert_eq!(journal.figures().unattended, drained.left, "all that is left is in the file, and no more");
    let again = Arc::new(Origin::default());
    let lane = lane_of(&journal, options(), &again);
    assert_eq!(lane.flush().await, Flushed { stored: drained.left, parked: 0, dead: 0 });
    let sent: std::collections::BTreeSet<u64> =
        origin.log.lock().iter().chain(&*again.log.lock()).map(|write| write.id.number).collect();
    assert!(acknowledged.iter().all(|number| sent.contains(number)), "an acknowledged write was never sent");
}

#[tokio::test]
async fn one_file_has_one_user() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("one.journal");
    let journal = Journal::open(&path, JournalOptions::default()).expect("new");
    let error = Journal::open(&path, JournalOptions::default()).expect_err("in use");
    assert!(matches!(&error, OpenError::InUse { path: named } if *named == path), "{error}");
    let origin = Arc::new(Origin::default());
    let lane = lane_of(&journal, options(), &origin);
    let error = journal.lane("space", options(), origin).expect_err("it has a sink");
    assert!(matches!(error, OpenError::Attached { .. }));
    put(&lane, "k", "v").await.expect("sound");
    journal.shutdown(Duration::ZERO).await;
    assert_eq!(put(&lane, "k", "v").await, Err(WriteError::Closed));
    let journal = Journal::open(&path, JournalOptions::default()).expect("free again");
    assert_eq!(journal.figures().pending, 1);
}

#[test]
fn a_lane_outlives_the_runtime_that_it_was_used_on() {
    let journal = journal_on(&Disk::default(), JournalOptions::default());
    let origin = Arc::new(Origin { gate: Some(Semaphore::new(0)), ..Origin::default() });
    let lane = lane_of(&journal, options().attempt_timeout(LONG), &origin);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let first = runtime();
    first.block_on(async {
        put(&lane, "k", "v").await.expect("sound");
        let flushing = tokio::time::timeout(Duration::from_millis(20), lane.flush()).await;
        assert!(flushing.is_err(), "the sink waits at its gate");
    });
    drop(first);
    origin.gate.as_ref().expect("gated").add_permits(9);
    let flushed = runtime().block_on(lane.flush());
    assert_eq!(flushed, Flushed { stored: 1, parked: 0, dead: 0 });
    let sent: Vec<u32> = origin.log.lock().iter().map(|write| write.attempt).collect();
    assert_eq!(sent, [1, 1], "what was broken off is no failed attempt");
}
