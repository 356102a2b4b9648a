//! The loops that are timed.
//!
//! One loop per operation, compiled for each contender: the call that chooses among contenders and operations happens
//! once per measurement. Every value that comes back is looked at, so none of the work can be left out.

use crate::keys::{Keys, Random};
use crate::subject::{Subject, value};
use std::hint::black_box;
use std::time::Duration;

/// What is done with every key of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Take the value out.
    Get,
    /// Look at the value in place.
    Read,
    /// Store a new value.
    Insert,
    /// Remove the key.
    Remove,
    /// Store a new value where the stream says so, else take the value out.
    Mixed,
    /// Take the value out; where there is none, make and store it.
    Load,
}

/// Keys in the order of their use, and which of the operations are writes.
#[derive(Debug)]
pub struct Stream {
    /// The keys.
    pub keys: Keys,
    /// For [`Operation::Mixed`], as long as the keys: whether this one is written.
    pub writes: Vec<bool>,
}

impl Stream {
    /// A stream of one operation only.
    pub fn of(keys: Keys) -> Self {
        Self { keys, writes: Vec::new() }
    }

    /// A stream of which so many in a hundred are writes.
    pub fn mixed(keys: Keys, writes_percent: u64, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let writes = (0..keys.len()).map(|_| random.below(100) < writes_percent).collect();
        Self { keys, writes }
    }
}

/// A contender as the timed loops see it.
pub trait Streams: Sync {
    /// Does `operation` with so many keys of the stream, from this place on. Returns how many reads found a value.
    fn run(&self, operation: Operation, stream: &Stream, from: usize, count: usize) -> usize;

    /// A mixed stream, each read timed on its own and told to `took`.
    fn time_reads(&self, stream: &Stream, from: usize, count: usize, took: &mut dyn FnMut(Duration));

    /// Does what was put off.
    fn settle(&self);
}

impl<S: Subject + Sync> Streams for S {
    fn run(&self, operation: Operation, stream: &Stream, from: usize, count: usize) -> usize {
        run(self, operation, stream, from, count)
    }

    fn time_reads(&self, stream: &Stream, from: usize, count: usize, took: &mut dyn FnMut(Duration)) {
        time_reads(self, stream, from, count, took);
    }

    fn settle(&self) {
        Subject::settle(self);
    }
}

/// [`Streams::run`] for one that cannot be shared between threads.
pub fn run<S: Subject>(
    subject: &S,
    operation: Operation,
    stream: &Stream,
    from: usize,
    count: usize,
) -> usize {
    let walk = stream.keys.walk(from, count);
    match operation {
        Operation::Get => found(walk.map(|(_, key)| subject.get(key).map(|value| value[0]))),
        Operation::Read => found(walk.map(|(_, key)| subject.read(key))),
        Operation::Load => found(walk.map(|(at, key)| Some(subject.load(key, || value(at))[0]))),
        Operation::Mixed => found(walk.map(|(at, key)| {
            if stream.writes[at] {
                subject.insert(key, value(at));
                None
            } else {
                subject.get(key).map(|value| value[0])
            }
        })),
        Operation::Insert => {
            walk.for_each(|(at, key)| subject.insert(key, value(at)));
            0
        }
        Operation::Remove => {
            walk.for_each(|(_, key)| subject.remove(key));
            0
        }
    }
}

/// Counts what was found, and uses it.
#[inline]
fn found(reads: impl Iterator<Item = Option<u8>>) -> usize {
    let (count, sum) = reads
        .flatten()
        .fold((0_usize, 0_u64), |(count, sum), byte| (count + 1, sum.wrapping_add(u64::from(byte))));
    black_box(sum);
    count
}

/// [`Streams::time_reads`] for one that cannot be shared between threads. Keys and values of writes are made within the write, which is not timed.
pub fn time_reads<S: Subject>(
    subject: &S,
    stream: &Stream,
    from: usize,
    count: usize,
    took: &mut dyn FnMut(Duration),
) {
    for (at, key) in stream.keys.walk(from, count) {
        if stream.writes[at] {
            subject.insert(key, value(at));
        } else {
            let (duration, value) = crate::timing::time(|| subject.get(key));
            black_box(value.map(|value| value[0]));
            took(duration);
        }
    }
}
