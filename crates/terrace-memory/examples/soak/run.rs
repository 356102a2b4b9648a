//! Threads that do everything at once to one bounded cache, and the watch over what it keeps in memory.
//!
//! 1. Values count themselves, clones too. At each sample the threads pause, so that what lives is what is held and what
//!    reclamation holds back: after an `expire`, [`HELD_BACK_MAX`] beside the entries.
//! 2. Between samples the most that ever lived is bounded too. A clear or a resize may have a whole cache under way to its
//!    end while the next one fills, so only one thread at a time does either.
//! 3. Resident memory must not grow: the most of the last half of the samples is at most [`GROWTH_MAX`] times the most of
//!    the first half, and [`SLACK_KIB`].
//!
//! Deliberately absent: speed. What is shown of it tells that the threads were at work.

use std::fmt;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::Duration;
use terrace_core::{Clock, Moment};
use terrace_memory::Memory;

/// Most values that reclamation may hold back while nobody uses the cache, once `expire` has been called.
const HELD_BACK_MAX: usize = 0;
/// Most values that readers may hold back which were interrupted for long: as many again as there may be.
const SLOW_READERS_MAX: usize = ENTRIES_MAX;
/// Most values that one thread may have under way: a step of a walk and its own.
const UNDER_WAY_MAX: usize = 256;
/// The most that resident memory may be in the last half, as a part of the most in the first half.
const GROWTH_MAX: f64 = 1.25;
/// What an allocator may take at once, for all that it gives back later.
const SLACK_KIB: u64 = 4 << 10;
const ENTRIES_MAX: usize = 20_000;
const BYTES_MAX: u64 = 64 << 20;
const KEYS: u64 = 60_000;
/// Operations of a thread between two chances to pause it.
const BATCH: u64 = 64;

/// How long, how often, how many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) lasts: Duration,
    pub(crate) interval: Duration,
    pub(crate) threads: usize,
}

/// What was seen while all threads paused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    pub(crate) operations_per_second: f64,
    pub(crate) entries: usize,
    pub(crate) live: usize,
    pub(crate) peak: usize,
    pub(crate) resident_kib: u64,
}

impl Sample {
    pub(crate) const HEADER: &str = "     time    operations/s    entries       live       peak    resident";
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, operations_per_second, entries, live, peak, resident_kib } = self;
        let (seconds, mib) = (at.as_secs_f64(), *resident_kib as f64 / 1024.0);
        write!(
            f,
            "{seconds:>7.1} s {operations_per_second:>15.0} {entries:>10} {live:>10} {peak:>10} {mib:>7.1} MiB"
        )
    }
}

/// How many values live, and the most that ever did.
#[derive(Debug, Default)]
struct Census {
    live: AtomicUsize,
    peak: AtomicUsize,
}

/// A value that counts itself.
#[derive(Debug)]
struct Counted {
    key: u64,
    payload: Box<[u8]>,
    census: Arc<Census>,
}

impl Counted {
    fn new(key: u64, bytes: usize, census: &Arc<Census>) -> Self {
        let live = census.live.fetch_add(1, Ordering::Relaxed) + 1;
        census.peak.fetch_max(live, Ordering::Relaxed);
        Self { key, payload: vec![key.to_le_bytes()[0]; bytes].into(), census: Arc::clone(census) }
    }

    fn check(&self, key: u64) {
        assert_eq!(self.key, key, "the value of another key");
        assert!(self.payload.iter().all(|byte| *byte == key.to_le_bytes()[0]), "a torn value");
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        Self::new(self.key, self.payload.len(), &self.census)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.census.live.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Shared {
    memory: Memory<String, Counted>,
    census: Arc<Census>,
    clock: Clock,
    operations: AtomicU64,
    stop: AtomicBool,
    /// Held for reading by whoever works.
    pause: RwLock<()>,
    /// Held by whoever changes the whole cache.
    whole: Mutex<()>,
}

/// A small seeded generator (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }
}

impl Shared {
    fn new() -> Self {
        let clock = Clock::system();
        let built =
            Memory::builder().entries_max(ENTRIES_MAX).bytes_max(BYTES_MAX).clock(clock.clone()).build();
        Self {
            memory: built.expect("the bounds are allowed"),
            census: Arc::default(),
            clock,
            operations: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            pause: RwLock::new(()),
            whole: Mutex::new(()),
        }
    }

    fn work(&self, seed: u64) {
        let mut random = Random(seed);
        while !self.stop.load(Ordering::Relaxed) {
            let _working = self.pause.read().expect("nobody panics while pausing");
            for _ in 0..BATCH {
                self.operate(&mut random);
            }
            self.operations.fetch_add(BATCH, Ordering::Relaxed);
        }
    }

    fn operate(&self, random: &mut Random) {
        // Some keys are asked for far more often than others.
        let key = random.below(KEYS).min(random.below(KEYS));
        let name = format!("key {key}");
        match random.below(1_000) {
            0..450 => {
                if let Some(value) = self.memory.get(name.as_str()) {
                    value.check(key);
                }
            }
            450..650 => drop(self.memory.get_with(name.as_str(), |value| value.check(key))),
            650..800 => self.insert(name, key, random),
            800..900 => self.insert(format!("key {}", key % 16), key % 16, random),
            900..960 => drop(self.memory.remove(name.as_str())),
            960..990 => drop(self.memory.remove_if(name.as_str(), |value| value.payload.len() % 2 == 0)),
            990..999 => drop(self.memory.expire(usize::try_from(random.below(64)).expect("small"))),
            _ => self.walk(random),
        }
    }

    fn insert(&self, name: String, key: u64, random: &mut Random) {
        let size = random.below(900);
        let weight = if random.below(500) == 0 { 2 * BYTES_MAX } else { 8 * size };
        let deadline = match random.below(3) {
            0 => Moment::NEVER,
            _ => self.clock.now().plus(Duration::from_millis(random.below(3_000))),
        };
        let value = Counted::new(key, usize::try_from(size).expect("small"), &self.census);
        self.memory.insert(name, value, weight, deadline);
    }

    fn walk(&self, random: &mut Random) {
        match random.below(1_024) {
            0..40 => drop(self.memory.retain(|_, value| value.key % 11 != 0)),
            40..60 => self.memory.for_each(|name, value| assert_eq!(*name, format!("key {}", value.key))),
            60..100 => {
                let Ok(_mine) = self.whole.try_lock() else { return };
                let entries = ENTRIES_MAX - usize::try_from(random.below(10_000)).expect("small");
                self.memory.resize(entries, BYTES_MAX).expect("allowed");
            }
            100 => {
                let Ok(_mine) = self.whole.try_lock() else { return };
                self.memory.clear();
            }
            _ => {}
        }
    }

    fn sample(&self, at: Duration, operations_before: u64, lasted: Duration) -> (Sample, u64) {
        let _all_pause = self.pause.write().expect("no thread panicked");
        self.memory.expire(usize::MAX);
        self.memory.validate();
        let operations = self.operations.load(Ordering::Relaxed);
        let sample = Sample {
            at,
            operations_per_second: (operations - operations_before) as f64 / lasted.as_secs_f64(),
            entries: self.memory.len(),
            live: self.census.live.load(Ordering::Relaxed),
            peak: self.census.peak.load(Ordering::Relaxed),
            resident_kib: resident_kib(),
        };
        (sample, operations)
    }
}

/// Resident memory of this process; 0 where the system does not tell.
fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(0)
}

/// Tells when its thread ends, however it ends.
struct Ends(Sender<()>);

impl Drop for Ends {
    fn drop(&mut self) {
        // Nobody listens any more when all is over.
        let _over = self.0.send(());
    }
}

/// Lets the threads work and shows each sample.
///
/// # Errors
/// A sentence that says which bound was broken.
///
/// # Panics
/// If a value is found under the wrong key, or the cache does not agree with itself.
pub(crate) fn soak(settings: Settings, mut show: impl FnMut(&Sample)) -> Result<(), String> {
    let shared = Shared::new();
    let census = Arc::clone(&shared.census);
    let mut samples = Vec::new();
    thread::scope(|scope| {
        let (ends, ended) = mpsc::channel();
        for thread in 0..settings.threads {
            let (shared, ends) = (&shared, Ends(ends.clone()));
            scope.spawn(move || {
                let _ends = ends;
                shared.work(thread as u64);
            });
        }
        let begin = shared.clock.precise();
        let (mut before, mut operations) = (begin, 0);
        while before.since(begin) < settings.lasts {
            if ended.recv_timeout(settings.interval) != Err(RecvTimeoutError::Timeout) {
                break;
            }
            let now = shared.clock.precise();
            let (sample, count) = shared.sample(now.since(begin), operations, now.since(before));
            show(&sample);
            samples.push(sample);
            (before, operations) = (now, count);
        }
        shared.stop.store(true, Ordering::Relaxed);
    });
    drop(shared);
    let left = census.live.load(Ordering::Relaxed);
    if left > HELD_BACK_MAX {
        return Err(format!("{left} values outlive their cache"));
    }
    judge(&samples, settings.threads)
}

/// Whether every bound held.
///
/// # Errors
/// A sentence that says which did not.
pub(crate) fn judge(samples: &[Sample], threads: usize) -> Result<(), String> {
    let peak_max = 2 * ENTRIES_MAX + SLOW_READERS_MAX + threads * UNDER_WAY_MAX;
    for sample in samples {
        if sample.entries > ENTRIES_MAX || sample.live > sample.entries + HELD_BACK_MAX {
            return Err(format!(
                "at most {ENTRIES_MAX} entries and {HELD_BACK_MAX} held back, not\n{sample}"
            ));
        }
        if sample.peak > peak_max {
            return Err(format!("at most {peak_max} values at any moment, not\n{sample}"));
        }
    }
    let (first, last) = samples.split_at(samples.len() / 2);
    let most = |half: &[Sample]| half.iter().map(|sample| sample.resident_kib).max().unwrap_or(0);
    let (first, last) = (most(first), most(last));
    if last as f64 > first as f64 * GROWTH_MAX + SLACK_KIB as f64 {
        return Err(format!("resident memory grew from {first} to {last} KiB"));
    }
    Ok(())
}
