//! What is done to every contender: which entries it has, which operations follow in which order.
//!
//! 1. A workload of hits checks that all were hits, one of misses that none was: a lookup that does not find its value
//!    would be measured as a fast one.
//! 2. A contender goes on in the stream where it stopped, so keys that are to be new are new.
//! 3. Before the time runs, a quarter of as much is done: others have just filled the processor's caches with theirs.
//! 4. Threads walk parts of the stream that lie far from each other.

use crate::keys::Keys;
use crate::rounds::Contender;
use crate::streams::{Operation, Stream, Streams};
use crate::threads::{self, Timing};
use anyhow::{Result, ensure};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How big workloads are.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Entries that fit the processor's caches.
    pub small: usize,
    /// Entries that do not.
    pub large: usize,
    /// Entries that a cache has room for where it must evict.
    pub cached: usize,
    /// Keys that are asked for where not all fit.
    pub asked: usize,
    /// Operations of a stream, after which it begins anew.
    pub stream: usize,
    /// Reads per thread and measurement: few, so that all contenders of a round meet the same mood of the machine.
    pub reads: usize,
    /// Writes, or mixtures with writes, per thread and measurement.
    pub writes: usize,
}

impl Scale {
    /// For figures.
    pub const FULL: Self = Self {
        small: 10_000,
        large: 1_000_000,
        cached: 100_000,
        asked: 1_000_000,
        stream: 1 << 20,
        reads: 1 << 17,
        writes: 1 << 15,
    };
    /// To see that everything runs. Not smaller, or keys spread so unevenly over shards that one of them must evict.
    pub const SMOKE: Self = Self {
        small: 2_000,
        large: 4_000,
        cached: 100,
        asked: 1_000,
        stream: 1_600,
        reads: 200,
        writes: 200,
    };
}

/// What reads must find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expected {
    Every,
    None,
    Any,
}

/// One kind of work.
#[derive(Debug)]
pub struct Workload {
    /// What a table calls it.
    pub name: &'static str,
    /// How many entries a contender must have room for.
    pub capacity: usize,
    /// Whether entries have a TTL, for those who know one.
    pub has_ttl: bool,
    /// Whether contenders must be able to evict.
    pub evicts: bool,
    /// What is timed.
    pub operation: Operation,
    stream: Stream,
    entries: usize,
    /// Reads through the cache before anything is timed: brings a policy into the state that it has in service.
    warm_up: Option<Stream>,
    count: usize,
    expected: Expected,
}

impl Workload {
    /// Hits on few entries, all equally likely.
    pub fn hit(scale: Scale) -> Self {
        let keys = Keys::uniform(0, scale.small, scale.reads, 1);
        Self::hits("get hit, small", Operation::Get, scale.small, keys, scale.reads)
    }

    /// The same without a reference of one's own.
    pub fn read(scale: Scale) -> Self {
        Self { name: "get hit, small, by reference", operation: Operation::Read, ..Self::hit(scale) }
    }

    /// Hits on few entries with a TTL, some much more popular than others.
    pub fn ttl(scale: Scale) -> Self {
        let keys = Keys::zipf(scale.small, scale.reads, 2);
        let hits = Self::hits("get hit, small, TTL, zipf", Operation::Get, scale.small, keys, scale.reads);
        Self { has_ttl: true, ..hits }
    }

    /// Hits on many entries.
    pub fn large(scale: Scale) -> Self {
        let keys = Keys::uniform(0, scale.large, scale.stream, 3);
        Self::hits("get hit, large", Operation::Get, scale.large, keys, scale.reads / 2)
    }

    /// Lookups of keys that are not there, where others are.
    pub fn miss(scale: Scale) -> Self {
        let keys = Keys::uniform(1_000_000_000, scale.asked, scale.reads, 5);
        let hits = Self::hits("get miss", Operation::Get, scale.small, keys, scale.reads);
        Self { expected: Expected::None, ..hits }
    }

    /// Stores new keys in a full cache.
    pub fn insert(scale: Scale) -> Self {
        let keys = Keys::sequence(10_000_000, 2 * scale.stream);
        Self {
            evicts: true,
            warm_up: Some(Stream::of(Keys::zipf(scale.asked, scale.stream, 7))),
            ..Self::stores("insert with eviction", scale.cached, keys, scale)
        }
    }

    /// Stores new values of keys that are there.
    pub fn overwrite(scale: Scale) -> Self {
        let entries = scale.cached / 2;
        let keys = Keys::uniform(0, entries, scale.stream / 4, 6);
        Self { entries, ..Self::stores("overwrite", scale.cached, keys, scale) }
    }

    /// Nineteen reads and a write in turn, on average, of keys by Zipf's law, of which a tenth fits.
    pub fn mixed(scale: Scale) -> Self {
        Self::zipf("mixed 95/5, zipf", Operation::Mixed, 5, scale)
    }

    /// The same with one write for three reads, under which single reads are timed.
    pub fn tail(scale: Scale) -> Self {
        Self::zipf("reads among 75/25, zipf", Operation::Mixed, 25, scale)
    }

    /// Reads by Zipf's law of keys of which a tenth fits, where every miss stores a value.
    pub fn load(scale: Scale) -> Self {
        Self::zipf("get or load, zipf", Operation::Load, 0, scale)
    }

    /// Removes all entries, in a random order.
    pub fn remove(scale: Scale) -> Self {
        let keys = Keys::shuffled(scale.writes, 9);
        let stores = Self::stores("remove", scale.writes * 2, keys, scale);
        Self { operation: Operation::Remove, entries: scale.writes, ..stores }
    }

    fn hits(name: &'static str, operation: Operation, entries: usize, keys: Keys, count: usize) -> Self {
        Self {
            name,
            capacity: entries * 13 / 8,
            has_ttl: false,
            evicts: false,
            operation,
            stream: Stream::of(keys),
            entries,
            warm_up: None,
            count,
            expected: Expected::Every,
        }
    }

    fn stores(name: &'static str, capacity: usize, keys: Keys, scale: Scale) -> Self {
        Self {
            capacity,
            entries: capacity,
            expected: Expected::Any,
            ..Self::hits(name, Operation::Insert, capacity, keys, scale.writes)
        }
    }

    fn zipf(name: &'static str, operation: Operation, writes_percent: u64, scale: Scale) -> Self {
        let keys = Keys::zipf(scale.asked, scale.stream, 7);
        Self {
            evicts: true,
            operation,
            stream: Stream::mixed(keys, writes_percent, 8),
            entries: 0,
            warm_up: Some(Stream::of(Keys::zipf(scale.asked, scale.stream, 17))),
            ..Self::stores(name, scale.cached, Keys::of([]), scale)
        }
    }

    /// Gives a contender its entries.
    pub fn prepare<'a>(&self, name: &'static str, subject: Box<dyn Streams + 'a>) -> Prepared<'a> {
        let prepared = Prepared { name, subject, cursor: Cell::new(0) };
        self.fill(&*prepared.subject);
        if let Some(warm_up) = &self.warm_up {
            prepared.subject.run(Operation::Load, warm_up, 0, warm_up.keys.len());
            prepared.subject.settle();
        }
        prepared
    }

    /// In portions, so that caches which put work off can keep up.
    fn fill(&self, subject: &dyn Streams) {
        const PORTION: usize = 20_000;
        for first in (0..self.entries).step_by(PORTION) {
            let count = PORTION.min(self.entries - first);
            let stream = Stream::of(Keys::sequence(first as u64, count));
            subject.run(Operation::Insert, &stream, 0, count);
            subject.settle();
        }
    }

    /// This work with that contender, at so many threads.
    pub fn contender<'a>(&'a self, prepared: &'a Prepared<'_>, threads: usize) -> Contender<'a> {
        Contender::new(prepared.name, move || threads::undisturbed(|| self.attempt(prepared, threads)))
    }

    fn attempt(&self, prepared: &Prepared<'_>, threads: usize) -> Result<Timing> {
        let subject = &*prepared.subject;
        let (mut count, mut before) = (self.count, self.count / 4);
        if self.operation == Operation::Remove {
            self.fill(subject);
            (count, before) = (self.entries / threads, 0);
        }
        let from = prepared.advance((before + count) * threads);
        let start = |thread| self.start(from, thread, threads);
        let run = |start, count| subject.run(self.operation, &self.stream, start, count);
        let warm_up = |thread| {
            run(start(thread), before);
        };
        let all = AtomicUsize::new(0);
        let timing = threads::time(threads, count, warm_up, |thread| {
            all.fetch_add(run(start(thread) + before, count), Ordering::Relaxed);
        });
        let (found, reads) = (all.into_inner(), count * threads);
        let is_expected = match self.expected {
            Expected::Every => found == reads,
            Expected::None => found == 0,
            Expected::Any => true,
        };
        ensure!(is_expected, "{}: {found} of {reads} reads found a value", prepared.name);
        Ok(timing)
    }

    /// The mixed stream on so many threads; every read of thread `n` is told to `took[n]`.
    pub fn time_reads(&self, prepared: &Prepared<'_>, took: &mut [impl FnMut(std::time::Duration) + Send]) {
        let (subject, threads) = (&*prepared.subject, took.len());
        let from = prepared.advance(self.count * threads);
        std::thread::scope(|scope| {
            for (thread, took) in took.iter_mut().enumerate() {
                scope.spawn(move || {
                    let start = self.start(from, thread, threads);
                    subject.time_reads(&self.stream, start, self.count, took);
                });
            }
        });
    }

    fn start(&self, from: usize, thread: usize, threads: usize) -> usize {
        from + thread * (self.stream.keys.len() / threads)
    }
}

/// A contender that has its entries.
pub struct Prepared<'a> {
    /// What a table calls it.
    pub name: &'static str,
    subject: Box<dyn Streams + 'a>,
    cursor: Cell<usize>,
}

impl Prepared<'_> {
    /// Where to go on in the stream; the next one goes on after so many operations.
    fn advance(&self, operations: usize) -> usize {
        self.cursor.replace(self.cursor.get() + operations)
    }
}

impl std::fmt::Debug for Prepared<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("name", &self.name).finish_non_exhaustive()
    }
}
