//! A damaged journal is refused, or has all that was acknowledged: nothing is lost without a word.
//!
//! The first byte of the input chooses. Either the rest is the file; or it damages a sound journal with writes that wait and
//! one that was given up: four bytes at a time are a place and what it is combined with, and the last odd bytes cut it short.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use terrace::behind::{
    DeadLetter, Journal, JournalOptions, Lane, LaneOptions, Operation, Outcome, Outcomes, Sink, Write,
};
use tokio::runtime::{Builder, Runtime};

const WRITES: u32 = 40;
const LISTED_MAX: usize = 1_000;

/// Refuses all it gets, for good.
struct Refusal;

impl Sink for Refusal {
    fn store_many<'a>(&'a self, writes: &'a [Write]) -> Outcomes<'a> {
        Box::pin(async move { vec![Outcome::Refused("no".to_owned()); writes.len()] })
    }
}

/// What a journal holds.
type Held = (Vec<Write>, Vec<DeadLetter>);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));
static SOUND: LazyLock<(Vec<u8>, Held)> = LazyLock::new(|| RUNTIME.block_on(sound()));

fuzz_target!(|input: &[u8]| {
    let Some((&choice, rest)) = input.split_first() else { return };
    let (bytes, held) = &*SOUND;
    let file = if choice % 4 == 0 { rest.to_vec() } else { damaged(bytes, rest) };
    let is_sound = file == *bytes;
    let path = place();
    std::fs::write(&path, &file).expect("room");
    let opened = Journal::open(&path, JournalOptions::default());
    let outcome = opened.map(|journal| RUNTIME.block_on(read_and_close(journal)));
    std::fs::remove_file(&path).expect("it is there");
    match outcome {
        Ok(found) => assert!(choice % 4 == 0 || found == *held, "{found:?}"),
        Err(error) => assert!(!is_sound && error.to_string().contains("terrace-fuzz"), "{error}"),
    }
});

fn damaged(sound: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut file = sound.to_vec();
    let (changes, cut) = changes.as_chunks();
    for &[high, middle, low, bits] in changes {
        let at = u32::from_be_bytes([0, high, middle, low]) as usize % file.len();
        file[at] ^= bits;
    }
    if let &[high, low] = cut {
        file.truncate(file.len() - usize::from(u16::from_be_bytes([high, low])) % file.len());
    }
    file
}

/// In memory, where there is such a folder: this is about what is read, and not about the disk.
fn place() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    folder.join(format!("terrace-fuzz-{}.journal", std::process::id()))
}

fn lane(journal: &Journal) -> Lane {
    let waits = LaneOptions::default().interval(Duration::from_secs(3_600)).flush_at(LISTED_MAX);
    journal.lane("users", waits, Arc::new(Refusal)).expect("it has no sink yet")
}

fn contents(lane: &Lane) -> Held {
    (lane.waiting(LISTED_MAX), lane.dead_letters(LISTED_MAX))
}

async fn read_and_close(journal: Journal) -> Held {
    let held = contents(&lane(&journal));
    while !journal.shutdown(Duration::ZERO).await.is_closed {}
    held
}

async fn sound() -> (Vec<u8>, Held) {
    let path = place();
    let journal = Journal::open(&path, JournalOptions::default()).expect("a folder");
    let lane = lane(&journal);
    write(&lane, 0).await;
    lane.flush().await;
    for number in 1..=WRITES {
        write(&lane, number).await;
    }
    let held = contents(&lane);
    assert_eq!((held.0.len(), held.1.len()), (WRITES as usize, 1));
    journal.shutdown(Duration::ZERO).await;
    let bytes = std::fs::read(&path).expect("it is there");
    std::fs::remove_file(&path).expect("it is there");
    (bytes, held)
}

async fn write(lane: &Lane, number: u32) {
    let operation = match number % 5 {
        4 => Operation::Delete,
        _ => Operation::Store(Bytes::from(format!("{number:0width$}", width = number as usize * 7))),
    };
    let key = format!("user:{number}").into();
    lane.write(key, operation, None, Duration::from_secs(10)).await.expect("it is taken");
}
