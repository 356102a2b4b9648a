//! The file by itself: commits on a disk that fails at every point.

use super::disk::{Disk, Faults};
use crate::behind::Request;
use crate::behind::error::OpenError;
use crate::behind::record::{Operation, Record};
use crate::behind::store::{self, Commit, CommitError, Loaded, Note, Store};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use terrace_core::Chance;

const BLOCK: u64 = 1_000;

fn open(disk: &Disk) -> Result<(Store, Loaded), OpenError> {
    Store::open(Path::new("test.journal"), disk.opener(), BLOCK, 7)
}

/// A disk with a new file on it, as it is before it gets its name.
fn new_file() -> Disk {
    let disk = Disk::default();
    drop(redb::Database::builder().create_with_backend(disk.clone()).expect("new"));
    disk
}

fn record(number: u64) -> Arc<Record> {
    let value = Bytes::from(vec![
        u8::try_from(number % 251).expect("small");
        40 + usize::try_from(number * 37 % 900).expect("small")
    ]);
    let operation = if number.is_multiple_of(5) { Operation::Delete } else { Operation::Store(value) };
    let key = Bytes::from(format!("key:{}", number % 7));
    let request = Request { name: u128::from(number % 11), content: u128::from(number) };
    Arc::new(Record::new(number, "space".into(), key, operation, number).asked_for_by(Some(request)))
}

/// What a file has: pending writes and dead letters, by number; and which write is that of a request.
type Contents = (BTreeMap<u64, (Bytes, Operation)>, BTreeMap<u64, String>, BTreeMap<u128, u64>);

fn contents(loaded: &Loaded) -> Contents {
    let pending = loaded
        .pending
        .iter()
        .map(|(record, _)| (record.number, (record.key.clone(), record.operation.clone())));
    let dead = loaded.dead.iter().map(|(record, _, reason, _)| (record.number, reason.to_string()));
    let requests = loaded.requests.iter().map(|row| (row.request.name, row.number));
    (pending.collect(), dead.collect(), requests.collect())
}

/// Records, notes, whether the commit acknowledges, and what a file has after it.
type Step = (Vec<Arc<Record>>, Vec<Note>, bool, Contents);

/// The commits of the test.
fn script() -> Vec<Step> {
    let (mut state, mut next) = (Contents::default(), 1);
    let mut steps = Vec::new();
    for step in 0..14_u64 {
        let records: Vec<_> = (next..next + 1 + step % 4).map(record).collect();
        next += records.len() as u64;
        for record in &records {
            state.0.insert(record.number, (record.key.clone(), record.operation.clone()));
            state.2.extend(record.request.map(|request| (request.name, record.number)));
        }
        let mut notes = Vec::new();
        if step % 3 == 1 {
            let done: Vec<u64> = state.0.keys().take(2).copied().collect();
            for number in done {
                notes.push(Note::Done(number));
                state.0.remove(&number);
            }
        }
        if step % 5 == 4
            && let Some((number, _)) = state.0.pop_first()
        {
            notes.push(Note::Bury(number, 8, "refused".into()));
            state.1.insert(number, "refused".into());
        }
        if step % 4 == 2
            && let Some((name, number)) = state.2.pop_first()
        {
            notes.push(Note::Forget("space".into(), name, number));
            // That of another write stays.
            notes.push(Note::Forget("space".into(), name + 1, number));
        }
        steps.push((records, notes, step % 4 < 2, state.clone()));
    }
    steps
}

fn next_of(records: &[Arc<Record>]) -> u64 {
    records.last().map_or(1, |record| record.number + 1)
}

/// Runs the script until something fails. Gives what must be there, and what may be there instead.
fn run(store: &mut Store) -> (Contents, Option<Contents>) {
    let mut sure = Contents::default();
    for (records, notes, acknowledges, after) in script() {
        let next = next_of(&records);
        let commit = Commit {
            records: &records,
            requested: &records,
            notes: &notes,
            next,
            acknowledges,
            ..Commit::default()
        };
        if store.commit(&commit).is_err() {
            return (sure, Some(after));
        }
        sure = after;
    }
    (sure, None)
}

#[test]
fn whatever_a_loss_of_power_leaves_has_all_commits_that_returned() {
    let whole = new_file();
    run(&mut open(&whole).expect("sound").0);
    let changes = usize::try_from(whole.writes()).expect("few") + 60;
    let (mut cuts, mut halves) = (0, 0);
    for power in 0..changes {
        let chance = Chance::seeded(power as u64);
        let disk = new_file();
        disk.fail(Faults { power: Some(power), ..Faults::default() });
        let (sure, maybe) = match open(&disk) {
            Ok((mut store, _)) => run(&mut store),
            Err(_) => (Contents::default(), Some(Contents::default())),
        };
        cuts += u32::from(maybe.is_some());
        for _ in 0..3 {
            let left = disk.after_power_loss(&chance);
            let (store, loaded) = open(&left).unwrap_or_else(|error| panic!("power {power}: {error}"));
            let found = contents(&loaded);
            let is_half = maybe.as_ref().is_some_and(|maybe| *maybe == found && *maybe != sure);
            halves += u32::from(is_half);
            assert!(found == sure || is_half, "power {power}: {found:?} is neither {sure:?} nor {maybe:?}");
            drop(store);
            let (_, again) = open(&left).expect("sound after it was opened once");
            assert_eq!(contents(&again), found);
        }
    }
    assert!(cuts > 50 && halves > 0, "{cuts} cuts, {halves} of which the last commit survived");
}

#[test]
fn who_looks_into_a_file_sees_what_the_next_start_would_and_changes_nothing() {
    let whole = new_file();
    run(&mut open(&whole).expect("sound").0);
    let changes = usize::try_from(whole.writes()).expect("few") + 20;
    for power in (0..changes).step_by(3) {
        let disk = new_file();
        disk.fail(Faults { power: Some(power), ..Faults::default() });
        if let Ok((mut store, _)) = open(&disk) {
            run(&mut store);
        }
        for left in [disk.after_kill(), disk.after_power_loss(&Chance::seeded(power as u64))] {
            let before = left.bytes();
            let looked = store::inspect(Path::new("test.journal"), Box::new(left.clone()));
            let looked = looked.unwrap_or_else(|error| panic!("power {power}: {error}"));
            assert!(left.bytes() == before && left.writes() == 0, "power {power}: the file was changed");
            let (_, loaded) = open(&left).expect("sound");
            assert_eq!(contents(&looked), contents(&loaded), "power {power}");
            assert!(left.writes() > 0, "a start does change it");
        }
    }
}

/// How often each sector is damaged, by `TERRACE_TEST_DAMAGES`.
fn rounds() -> usize {
    let given = std::env::var("TERRACE_TEST_DAMAGES").ok();
    given.map_or(1, |rounds| rounds.parse().expect("a number of rounds"))
}

#[test]
fn a_damaged_byte_is_seen_and_the_file_keeps_its_bytes() {
    for is_clean in [false, true] {
        let disk = Disk::default();
        let (mut store, _) = open(&disk).expect("sound");
        let (sure, _) = run(&mut store);
        let all: Vec<Arc<Record>> = (1_000..1_040).map(record).collect();
        let commit =
            Commit { records: &all, requested: &all, next: 2_000, acknowledges: true, ..Commit::default() };
        store.commit(&commit).expect("sound");
        let bytes = if is_clean {
            drop(store);
            disk.bytes()
        } else {
            disk.bytes()
        };
        let mut expected = sure;
        expected
            .0
            .extend(all.iter().map(|record| (record.number, (record.key.clone(), record.operation.clone()))));
        let requests = all.iter().filter_map(|record| Some((record.request?.name, record.number)));
        expected.2.extend(requests);
        let (mut seen, mut harmless) = (0, 0);
        let chance = Chance::seeded(11);
        for sector in (0..bytes.len() / 256).cycle().take(bytes.len() / 256 * rounds()) {
            let mut damaged = bytes.clone();
            let at = sector * 256 + usize::try_from(chance.below(256)).expect("small");
            damaged[at] ^= 1 << chance.below(8);
            let disk = Disk::of(damaged.clone());
            match open(&disk) {
                Ok((_, loaded)) => {
                    assert_eq!(
                        contents(&loaded),
                        expected,
                        "clean {is_clean}, byte {at}: something is missing"
                    );
                    harmless += 1;
                }
                Err(error) => {
                    assert!(error.to_string().contains("test.journal"), "{error}");
                    assert!(disk.bytes() == damaged, "clean {is_clean}, byte {at}: the file was changed");
                    seen += 1;
                }
            }
        }
        println!("a damaged bit, clean {is_clean}: {seen} seen, {harmless} harmless");
        assert!(seen > 20, "clean {is_clean}: {seen} seen, {harmless} harmless");
    }
}

#[test]
fn after_a_failed_sync_nothing_is_written_any_more() {
    let disk = Disk::default();
    let (mut store, _) = open(&disk).expect("sound");
    let records = [record(1)];
    let commit = Commit { records: &records, next: 2, acknowledges: true, ..Commit::default() };
    disk.fail(Faults { sync: true, ..Faults::default() });
    assert!(matches!(store.commit(&commit), Err(CommitError::Poisoned(_))));
    disk.fail(Faults::default());
    let writes = disk.writes();
    for _ in 0..3 {
        assert!(matches!(store.commit(&commit), Err(CommitError::Poisoned(_))));
    }
    drop(store);
    assert_eq!(disk.writes(), writes);
}

#[test]
fn a_full_disk_loses_nothing_wherever_it_is_found_full() {
    let mut refused = 0;
    for room in 0..120 {
        let disk = Disk::default();
        let (mut store, _) = open(&disk).expect("sound");
        disk.fail(Faults { room: Some(room), ..Faults::default() });
        for (records, notes, acknowledges, _) in script() {
            let next = next_of(&records);
            let commit = Commit {
                records: &records,
                requested: &records,
                notes: &notes,
                next,
                acknowledges,
                ..Commit::default()
            };
            match store.commit(&commit) {
                Ok(()) => {}
                Err(CommitError::DiskFull) => {
                    refused += 1;
                    assert!(matches!(store.commit(&commit), Err(CommitError::DiskFull)), "room {room}");
                    disk.fail(Faults::default());
                    store.commit(&commit).expect("there is room again");
                }
                Err(CommitError::Poisoned(reason)) => panic!("room {room}: {reason}"),
            }
        }
        drop(store);
        let (_, loaded) = open(&disk).expect("sound");
        assert_eq!(contents(&loaded), script().pop().expect("steps").3, "room {room}");
    }
    assert!(refused > 20, "{refused} commits found the disk full");
}

#[test]
fn numbers_are_never_given_out_twice() {
    let disk = Disk::default();
    let (_, first) = open(&disk).expect("sound");
    let mut last = first.next;
    for _ in 0..3 {
        let (mut store, loaded) = open(&disk).expect("sound");
        assert!(loaded.next > last, "{} after {last}", loaded.next);
        // Given out, and not in the file: the caller was told from memory, and the process ended.
        last = loaded.next + BLOCK / 2 - 1;
        let commit = Commit { next: loaded.next + 1, ..Commit::default() };
        store.commit(&commit).expect("sound");
    }
}

#[test]
fn a_file_of_somebody_else_is_refused_and_kept() {
    let disk = Disk::of(b"not a journal at all".repeat(1_000));
    let before = disk.bytes();
    assert!(open(&disk).is_err());
    assert_eq!(disk.bytes(), before);
    let disk = Disk::default();
    let other = redb::Database::builder().create_with_backend(disk.clone()).expect("new");
    let transaction = other.begin_write().expect("writable");
    transaction.open_table(redb::TableDefinition::<u64, u64>::new("other")).expect("new");
    transaction.commit().expect("sound");
    drop(other);
    assert!(matches!(open(&disk), Err(OpenError::NotAJournal { .. })));
}
