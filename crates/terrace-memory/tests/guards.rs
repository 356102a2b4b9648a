//! Guards against what has gone wrong in caches before: drifting weights, lifetimes that wrap, clocks that jump, values
//! under the wrong key, and walks that make others wait.
//!
//! 1. No test measures time. That a walk makes nobody wait is shown by another thread that works between its steps, which
//!    are counted.
//! 2. A thread that waits for another gives up after [`PATIENCE`], so a stall is a failure and not a hang.

use std::hash::{Hash, Hasher};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use terrace_core::{Clock, Moment};
use terrace_memory::{Builder, Insertion, Memory, Policy, RemovalCause};

const POLICIES: [Policy; 2] = [Policy::Default, Policy::Lru];
const PATIENCE: Duration = Duration::from_mins(1);
/// An entry may leave this much before its deadline.
const EARLY: Duration = Duration::from_micros(5);
/// Deadlines further off than this may be brought forward to it: years.
const FARTHEST: Duration = Duration::from_hours(24 * 365 * 30);
const HOUR: Duration = Duration::from_hours(1);
/// More than a granule of background expiry: what expired this long ago is always found.
const GRANULE: Duration = Duration::from_millis(68);

fn builder<V: Clone + Send + Sync + 'static>(policy: Policy, clock: &Clock) -> Builder<u64, V> {
    Memory::builder().policy(policy).clock(clock.clone())
}

/// Moves a manual clock back: forward by almost the whole scale.
fn back(clock: &Clock, by: Duration) {
    let nanos = u64::try_from(by.as_nanos()).expect("short");
    clock.advance(Duration::from_nanos(nanos.wrapping_neg()));
}

/// A small seeded generator (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Values are weights here, so that the sum can be taken from what is held.
fn assert_weights_agree(memory: &Memory<u64, u64>, entries_max: usize, bytes_max: u64) {
    memory.validate();
    let (mut count, mut sum) = (0, 0);
    memory.for_each(|_, weight| (count, sum) = (count + 1, sum + weight));
    assert_eq!((memory.len(), memory.weight_bytes()), (count, sum));
    assert!(count <= entries_max && (bytes_max == 0 || sum <= bytes_max), "{count} entries, {sum} bytes");
}

#[test]
fn weights_do_not_drift_and_bounds_hold_when_few_keys_are_used_again_and_again() {
    let clock = Clock::manual();
    for policy in POLICIES {
        for (entries, bytes) in [(4, 0), (4, 100), (100, 60)] {
            let memory = builder(policy, &clock).entries_max(entries).bytes_max(bytes).build().unwrap();
            thread::scope(|scope| {
                for seed in 1..=2 {
                    let (memory, clock) = (&memory, &clock);
                    scope.spawn(move || {
                        let mut random = Random(seed);
                        for _ in 0..20_000 {
                            let (key, weight) = (random.below(8), random.below(40));
                            match random.below(8) {
                                0 => drop(memory.remove(&key)),
                                1 => drop(memory.insert(key, weight, weight, clock.now().plus(GRANULE))),
                                2 => drop(memory.insert(key, weight, 1_000, clock.now())),
                                3 => clock.advance(Duration::from_millis(random.below(9))),
                                _ => drop(memory.insert(key, weight, weight, Moment::NEVER)),
                            }
                            assert!(memory.len() <= entries, "held at every moment");
                        }
                    });
                }
            });
            clock.advance(GRANULE);
            memory.expire(1_000);
            assert_weights_agree(&memory, entries, bytes);
            assert!((0..8).filter_map(|key| memory.remove(&key)).count() <= entries);
            assert_eq!((memory.len(), memory.weight_bytes()), (0, 0), "nothing is left over");
        }
    }
}

#[test]
fn deadlines_at_the_edges_of_common_number_formats_neither_wrap_nor_come_early() {
    let edges = [1 << 31, 1 << 32, (1 << 53) - 1, 1 << 53, i64::MAX.unsigned_abs(), u64::MAX - 1, u64::MAX];
    let lifetimes = edges.into_iter().flat_map(|edge| {
        [edge - 1, edge, edge.saturating_add(1)]
            .into_iter()
            .flat_map(|count| [Duration::from_nanos(count), Duration::from_millis(count)])
    });
    for lifetime in lifetimes.chain([Duration::from_secs(u64::MAX), Duration::MAX]) {
        for policy in POLICIES {
            let clock = Clock::manual();
            let memory = builder(policy, &clock).build().unwrap();
            let deadline = clock.now().plus(lifetime);
            assert_eq!(memory.insert(1, 1, 1, deadline), Insertion::Stored, "{lifetime:?}");
            memory.validate();
            clock.advance(deadline.since(clock.now()).min(FARTHEST).saturating_sub(EARLY));
            assert_eq!((memory.expire(9).removed, memory.get(&1)), (0, Some(1)), "{lifetime:?}");
            clock.advance(deadline.since(clock.now()));
            let expected = (deadline == Moment::NEVER).then_some(1);
            assert_eq!(memory.get(&1), expected, "{lifetime:?}");
            memory.validate();
        }
    }
}

#[test]
fn short_lifetimes_end_on_a_clock_that_has_run_for_decades() {
    for policy in POLICIES {
        let clock = Clock::manual();
        clock.advance(FARTHEST);
        let memory = builder(policy, &clock).build().unwrap();
        memory.insert(1, 1, 1, clock.now().plus(Duration::from_millis(1)));
        memory.insert(2, 2, 1, clock.now().plus(2 * HOUR));
        memory.insert(3, 3, 1, Moment::from_nanos(u64::MAX - 1));
        memory.validate();
        assert_eq!((memory.get(&1), memory.get(&2), memory.get(&3)), (Some(1), Some(2), Some(3)));
        clock.advance(HOUR);
        assert_eq!((memory.get(&1), memory.get(&2), memory.get(&3)), (None, Some(2), Some(3)));
        clock.advance(HOUR);
        assert_eq!((memory.get(&2), memory.get(&3)), (None, Some(3)));
        memory.expire(9);
        memory.validate();
        assert_eq!(memory.len(), 1);
    }
}

#[test]
fn a_clock_that_jumps_by_an_hour_to_and_fro_never_shows_what_has_expired() {
    for policy in POLICIES {
        let clock = Clock::manual();
        clock.advance(1_000 * HOUR);
        let memory: Memory<u64, Moment> = builder(policy, &clock).entries_max(20).build().unwrap();
        let mut random = Random(42);
        for _ in 0..5_000 {
            let key = random.below(30);
            match random.below(10) {
                0 => clock.advance(HOUR),
                1 => back(&clock, HOUR),
                2 => drop(memory.expire(3)),
                3 => memory.for_each(|_, deadline| assert!(*deadline > clock.now())),
                4..7 => {
                    let seconds = random.below(5_400);
                    let deadline = clock.now().plus(Duration::from_secs(seconds));
                    memory.insert(key, deadline, 1, deadline);
                    assert_eq!(memory.peek(&key), (seconds > 0).then_some(deadline));
                }
                _ => assert!(memory.get(&key).is_none_or(|deadline| deadline > clock.now())),
            }
            memory.validate();
            assert!(memory.len() <= 20);
        }
        clock.advance(100 * HOUR);
        memory.expire(100);
        assert!(memory.is_empty(), "whatever the clock did, everything can leave");
        memory.validate();
    }
}

/// A key whose hash says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Collides(u64);

impl Hash for Collides {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(7);
    }
}

#[test]
fn keys_of_one_hash_keep_their_own_newest_values() {
    for policy in POLICIES {
        for entries in [1, 2, 8, 60] {
            let clock = Clock::manual();
            let memory: Memory<Collides, (u64, u64)> =
                Memory::builder().entries_max(entries).policy(policy).clock(clock.clone()).build().unwrap();
            let mut newest = [None; 40];
            let mut random = Random(3);
            for step in 0..4_000 {
                let key = random.below(40);
                let mine = &mut newest[usize::try_from(key).unwrap()];
                match random.below(6) {
                    0 => {
                        let found = memory.remove(&Collides(key));
                        assert!(found.is_none() || found == *mine);
                        *mine = None;
                    }
                    1 => {
                        memory.insert(Collides(key), (key, step), 1, clock.now().plus(GRANULE));
                        *mine = Some((key, step));
                        assert_eq!(memory.get(&Collides(key)), *mine, "an overwrite is seen");
                        clock.advance(GRANULE);
                        *mine = None;
                        assert_eq!(memory.get(&Collides(key)), None, "and its end");
                    }
                    2 => {
                        let inserted = memory.insert(Collides(key), (key, step), 1, Moment::NEVER);
                        *mine = (inserted == Insertion::Stored).then_some((key, step));
                        assert_eq!(memory.get(&Collides(key)), *mine, "the newest is held");
                    }
                    _ => {
                        let found = memory.get(&Collides(key));
                        assert!(found.is_none() || found == *mine, "key {key}: {found:?}, not {mine:?}");
                    }
                }
                memory.validate();
                assert!(memory.len() <= entries);
            }
        }
    }
}

/// Most entries that a walk may handle while others wait.
const STEP: usize = 128;
const MANY: usize = 100_000;
/// Keys from here on are the other thread's.
const OTHERS: u64 = 1 << 40;

type Held = Arc<Memory<u64, u64>>;

/// Another thread, which uses the cache when it is asked to.
struct Other {
    ask: SyncSender<u64>,
    done: Mutex<Receiver<bool>>,
}

impl Other {
    /// Serves until `ask` is dropped. The thread is told of the cache later, since the cache's listener owns this.
    fn start() -> (Self, SyncSender<Held>) {
        let (ask, asked) = sync_channel::<u64>(0);
        let (tell, done) = sync_channel(0);
        let (give, given) = sync_channel::<Held>(1);
        drop(thread::spawn(move || {
            let Ok(memory) = given.recv() else { return };
            let memory = Arc::downgrade(&memory);
            for number in asked {
                let Some(memory) = memory.upgrade() else { return };
                let key = OTHERS + number % 1_000;
                memory.insert(key, number, 1, Moment::NEVER);
                let seen = memory.get(&key) == Some(number);
                if tell.send(seen && memory.remove(&key) == Some(number)).is_err() {
                    return;
                }
            }
        }));
        (Self { ask, done: Mutex::new(done) }, give)
    }

    /// Lets the other thread insert, read and remove a key, and waits for it.
    fn work(&self, number: u64) {
        self.ask.send(number).expect("the other thread lives");
        let done = self.done.lock().expect("one walker").recv_timeout(PATIENCE);
        assert_eq!(done, Ok(true), "the other thread had to wait for a walk, or did not see its own write");
    }
}

/// A full cache whose listener hands over to another thread each time that something has left, and writes down how much
/// was held then.
struct Walked {
    memory: Held,
    held: Arc<Mutex<Vec<usize>>>,
}

impl Walked {
    fn new(policy: Policy, clock: &Clock, deadline: Moment) -> Self {
        let (other, give) = Other::start();
        let held = Arc::<Mutex<Vec<usize>>>::default();
        let (log, own) =
            (Arc::clone(&held), Arc::new(Mutex::new(std::sync::Weak::<Memory<u64, u64>>::new())));
        let inside = Arc::clone(&own);
        let memory = builder(policy, clock)
            .entries_max(4 * MANY)
            .on_removal(move |key: &u64, _: &u64, cause| {
                if *key >= OTHERS {
                    return;
                }
                assert!(matches!(cause, RemovalCause::Explicit | RemovalCause::Expired));
                let memory = inside.lock().expect("no panic").upgrade().expect("it is in use");
                let (now, mut log) = (memory.len(), log.lock().expect("no panic"));
                if log.last() != Some(&now) {
                    log.push(now);
                    other.work(now as u64);
                }
            })
            .build()
            .expect("a bound is set");
        let memory = Arc::new(memory);
        *own.lock().expect("no panic") = Arc::downgrade(&memory);
        give.send(Arc::clone(&memory)).expect("the other thread waits for it");
        assert!((0..MANY as u64).all(|key| memory.insert(key, key, 1, deadline) == Insertion::Stored));
        assert_eq!(memory.stats().evictions, 0, "there is room");
        Self { memory, held }
    }

    /// The most that left between two moments at which the other thread worked.
    fn longest_step(&self) -> usize {
        let held = self.held.lock().expect("no panic");
        let before = std::iter::once(MANY).chain(held.iter().copied());
        before.zip(held.iter()).map(|(before, after)| before - after).max().expect("something left")
    }

    fn end(self) {
        self.memory.validate();
        let stats = self.memory.stats();
        assert_eq!((stats.listener_panics, stats.listener_skips), (0, 0), "the listener's assertions held");
    }
}

#[test]
fn retain_lets_others_in_after_each_step() {
    let clock = Clock::manual();
    for policy in POLICIES {
        let walked = Walked::new(policy, &clock, Moment::NEVER);
        let (mut judged, mut since, mut longest, mut seen) = (0, 0, 0, 0);
        walked.memory.retain(|key, _| {
            let steps = walked.held.lock().expect("no panic").len();
            if steps != seen {
                (seen, since) = (steps, 0);
            }
            since += 1;
            longest = longest.max(since);
            judged += usize::from(*key < OTHERS);
            key % 2 == 0
        });
        assert_eq!(judged, MANY, "each once, whatever the other thread did");
        // A short step at a shard's end may keep all that it judges, and then nothing tells of it.
        assert!(longest < 2 * STEP, "{longest} entries were judged before another thread could write");
        assert!(walked.longest_step() <= STEP);
        assert_eq!(walked.memory.len(), MANY / 2);
        walked.end();
    }
}

#[test]
fn expire_lets_others_in_after_each_step() {
    let clock = Clock::manual();
    for policy in POLICIES {
        let walked = Walked::new(policy, &clock, clock.now().plus(GRANULE));
        clock.advance(GRANULE);
        assert_eq!(walked.memory.expire(usize::MAX).removed, MANY);
        assert!(walked.longest_step() <= STEP, "{} at once", walked.longest_step());
        assert_eq!(walked.memory.len(), 0);
        walked.end();
    }
}

#[test]
fn clear_lets_others_in_while_it_sees_off_what_was_held() {
    let clock = Clock::manual();
    for policy in POLICIES {
        let walked = Walked::new(policy, &clock, Moment::NEVER);
        assert_eq!(walked.memory.clear(), MANY);
        assert!(!walked.held.lock().expect("no panic").is_empty(), "another thread worked meanwhile");
        assert_eq!(walked.memory.len(), 0);
        walked.end();
    }
}
