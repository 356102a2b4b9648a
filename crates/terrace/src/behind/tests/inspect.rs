//! A look into a journal's file: what is seen, who is kept out, and that nothing changes.

use super::live::{LONG, Origin, drain, lane_of, options, put};
use crate::behind::{Journal, JournalOptions, OpenError, Operation, Outcome, store};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use terrace_core::Clock;

/// A journal with a write that waits, a removal that does, and a dead letter; and its file as a kill would leave it now.
async fn killed(folder: &Path) -> (Journal, PathBuf) {
    let path = folder.join("writes.journal");
    let journal = Journal::open(&path, JournalOptions::default()).expect("new");
    let origin = Arc::new(Origin::default());
    origin.failing.lock().insert("bad".into(), Outcome::Refused("too long".into()));
    let lane = lane_of(&journal, options(), &origin);
    put(&lane, "bad", "v").await.expect("room");
    drain(&lane).await;
    put(&lane, "k\u{1b}[2J", "12345").await.expect("room");
    lane.write("gone".into(), Operation::Delete, None, LONG).await.expect("room");
    let left = folder.join("left.journal");
    fs::copy(&path, &left).expect("room");
    (journal, left)
}

#[tokio::test]
async fn what_a_kill_left_is_seen_and_no_byte_of_it_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Clock::system();
    let before = clock.wall() - Duration::from_micros(1);
    let (_journal, left) = killed(folder.path()).await;
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_hours(1_000);
    File::options().write(true).open(&left).and_then(|file| file.set_modified(long_ago)).expect("ours");
    let mut permissions = fs::metadata(&left).expect("there").permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&left, permissions).expect("ours");
    let bytes = fs::read(&left).expect("there");

    let found = Journal::inspect(&left).expect("sound");
    assert!(fs::read(&left).expect("there") == bytes, "the file was changed");
    assert_eq!(fs::metadata(&left).and_then(|meta| meta.modified()).expect("there"), long_ago);
    let names = fs::read_dir(folder.path()).expect("there").count();
    assert_eq!(names, 2, "nothing lies beside the two files");

    let seen: Vec<_> = found.pending.iter().map(|write| (&write.key[..], &write.operation)).collect();
    let stored = Operation::Store("12345".into());
    assert_eq!(seen, [(&b"k\x1b[2J"[..], &stored), (b"gone", &Operation::Delete)]);
    let letter = &found.dead[0];
    assert_eq!((&letter.write.key[..], letter.write.attempt, &*letter.reason), (&b"bad"[..], 1, "too long"));
    assert_eq!((found.dead.len(), letter.is_overtaken, &*letter.write.keyspace), (1, false, "space"));
    for write in found.pending.iter().chain([&letter.write]) {
        let taken = write.taken_at().expect("a time");
        assert!(before <= taken && taken <= clock.wall(), "{taken:?}");
    }
    assert_eq!(found.pending[0].weight(), "k\u{1b}[2J12345".len() + 256);
}

#[tokio::test]
async fn who_writes_and_who_looks_exclude_each_other_and_who_look_do_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, left) = killed(folder.path()).await;
    let in_use = Journal::inspect(folder.path().join("writes.journal")).expect_err("it is open");
    assert!(matches!(in_use, OpenError::InUse { .. }), "{in_use}");
    journal.shutdown(Duration::ZERO).await;
    drop(journal);

    let file = crate::behind::inspect::ReadOnly::open(&left).expect("there").expect("not empty");
    let looking = store::open_held(&left, Box::new(file)).expect("sound");
    assert_eq!(Journal::inspect(&left).expect("sound").pending.len(), 2);
    let refused = Journal::open(&left, JournalOptions::default()).expect_err("somebody looks");
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    drop(looking);
    assert_eq!(Journal::open(&left, JournalOptions::default()).expect("sound").figures().pending, 2);
}

#[test]
fn what_is_no_journal_is_not_made_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("writes.journal");
    assert!(matches!(Journal::inspect(&path), Err(OpenError::Io { .. })));
    assert!(!path.exists());
    for bytes in [&b""[..], b"this is no journal, and was none before"] {
        fs::write(&path, bytes).expect("room");
        let error = Journal::inspect(&path).expect_err("no journal");
        assert_eq!(matches!(error, OpenError::NotAJournal { .. }), bytes.is_empty(), "{error}");
        assert_eq!(fs::read(&path).expect("there"), bytes);
    }
    fs::remove_file(&path).expect("ours");
    drop(redb::Database::create(&path).expect("new"));
    let empty = Journal::inspect(&path).expect("a journal before its first write");
    assert!(empty.pending.is_empty() && empty.dead.is_empty());
}
