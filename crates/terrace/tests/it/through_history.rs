//! Two nodes that write the same keys through one origin, where messages are late, L2 fails, and others change rows: when all is
//! quiet, no tier has anything but what the origin has.
//!
//! What happens when follows from the seed: calls give the others their turn, and what a node is told is held back now and then.
//! Checked (K4): after all was heard and all watches have ended, L1 of both nodes and L2 have a key's row, or nothing. That they have
//! something is counted, too: a cache that drops everything would pass.

use crate::fixture::{HOUR, LEASE, ended, let_others_run, spawn};
use crate::jitter::{Dice, Jittery};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use terrace::{Cache, Clock, EntryOptions, Keyspace, Origin, WriteFailure};
use terrace_testkit::fake::{FakeRemote, Fault};
use terrace_testkit::wait::{pause, until};

const KEYS: u64 = 3;
const CALLERS: u64 = 2;
const ACTS: u64 = 10;

/// What the origin has, by key. Each change has a number of its own.
struct Rows {
    by_key: Mutex<HashMap<u64, u64>>,
    last: AtomicU64,
    dice: Dice,
}

impl Rows {
    fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::SeqCst) + 1
    }

    async fn change(&self, key: u64, value: Option<u64>) -> Result<(), WriteFailure<&'static str>> {
        self.dice.wait(8).await;
        if self.dice.below(16) == 0 {
            return Err("locked".into());
        }
        match value {
            Some(value) => self.by_key.lock().insert(key, value),
            None => self.by_key.lock().remove(&key),
        };
        self.dice.wait(8).await;
        if self.dice.below(16) == 0 { Err(WriteFailure::Unknown("lost")) } else { Ok(()) }
    }
}

struct Table(Arc<Rows>);

impl Origin<u64, u64> for Table {
    type Error = &'static str;

    async fn load(&self, key: &u64) -> Result<Option<u64>, &'static str> {
        let row = self.0.by_key.lock().get(key).copied();
        self.0.dice.wait(8).await;
        Ok(row)
    }

    async fn store(&self, key: &u64, value: &u64) -> Result<(), WriteFailure<&'static str>> {
        self.0.change(*key, Some(*value)).await
    }

    async fn delete(&self, key: &u64) -> Result<(), WriteFailure<&'static str>> {
        self.0.change(*key, None).await
    }
}

struct Node {
    cache: Cache,
    through: Keyspace<u64, u64>,
    remote: FakeRemote,
    rows: Arc<Rows>,
}

impl Node {
    fn new(server: &FakeRemote, clock: &Clock, rows: &Arc<Rows>, seed: u64) -> Self {
        let remote = server.another_node().hearing();
        let jittery = Jittery { remote: remote.clone(), around: Dice::new(seed) };
        let builder = Cache::builder().clock(clock.clone()).l2(jittery).staleness_max(LEASE);
        let cache = builder.default_ttl(HOUR).build().expect("valid settings");
        let through = cache.keyspace("rows").write_through(Table(Arc::clone(rows)));
        let through = through.build().expect("a new keyspace");
        Self { cache, through, remote, rows: Arc::clone(rows) }
    }

    /// Does one thing. What fails may fail.
    async fn act(&self, dice: &Dice) {
        let (key, value) = (dice.below(KEYS), self.rows.next());
        match dice.below(100) {
            0..50 => drop(self.through.put(&key, value).await),
            50..60 => drop(self.through.put_many([(key, value), ((key + 1) % KEYS, value)]).await),
            60..68 => drop(self.through.remove(&key).await),
            68..76 => {
                let options = EntryOptions::new().tag("t").expect("a tag");
                drop(self.through.put_with(&key, value, options).await);
            }
            76..80 => {
                let rows = Arc::clone(&self.rows);
                let store = async move {
                    rows.dice.wait(8).await;
                    rows.by_key.lock().insert(key, value);
                    rows.dice.wait(8).await;
                    Ok::<_, &str>(())
                };
                drop(self.through.put_around(&key, store).await);
            }
            80..84 => {
                // Somebody changes the row, and says so.
                self.rows.by_key.lock().insert(key, value);
                drop(self.through.invalidate().keys([key]).send().await);
            }
            84..86 => {
                self.rows.by_key.lock().insert(key, value);
                let pattern = self.through.invalidate().pattern(&key.to_string()).expect("a pattern");
                drop(pattern.send().await);
            }
            _ => drop(self.through.get(&key).await),
        }
    }

    /// What both tiers have of a key, without the origin.
    fn peek(&self, key: u64) -> Option<u64> {
        self.through.peek(&key).map(|value| *value)
    }
}

/// Holds messages back, and lets them arrive; breaks L2, and mends it.
fn disturb(nodes: &[Arc<Node>], dice: &Dice, fails: bool) {
    let node = &nodes[usize::from(dice.below(2) == 0)];
    match dice.below(8) {
        0..3 => node.remote.hold_back(),
        3..6 => node.remote.let_arrive(),
        6 if fails => node.remote.set_fault(dice.one_of(&[
            Some(Fault::Unavailable),
            Some(Fault::TimeoutAfterEffect),
            Some(Fault::TimeoutBeforeEffect),
        ])),
        _ => node.remote.set_fault(None),
    }
}

/// One history. Gives how many copies there are in the end, and of how many keys.
async fn run(seed: u64, fails: bool) -> (usize, usize) {
    let clock = Clock::manual();
    let server = FakeRemote::with_partitions(clock.clone(), 2);
    let dice = Dice::new(seed ^ 0x5eed);
    let rows = Arc::new(Rows { by_key: Mutex::default(), last: AtomicU64::new(0), dice });
    let nodes: Vec<_> = (0..2).map(|n| Arc::new(Node::new(&server, &clock, &rows, seed * 100 + n))).collect();
    for node in &nodes {
        node.through.contains(&0).await.expect("the first call opens the namespace");
    }
    let_others_run().await;
    let callers: Vec<_> = (0..2 * CALLERS)
        .map(|n| {
            let node = Arc::clone(&nodes[usize::from(n % 2 == 0)]);
            let dice = Dice::new(seed * 1_000 + n);
            spawn(async move {
                for _ in 0..ACTS {
                    node.act(&dice).await;
                    dice.wait(6).await;
                }
            })
        })
        .collect();
    let weather = Dice::new(seed ^ 0xfeed);
    while callers.iter().any(|caller| !caller.is_finished()) {
        disturb(&nodes, &weather, fails);
        // Now and then time passes: who waits for a limit has reached it.
        if weather.below(50) == 0 {
            pause(LEASE / 4).await;
        }
        weather.wait(40).await;
    }
    for caller in callers {
        ended(caller).await;
    }
    for node in &nodes {
        node.remote.set_fault(None);
        node.remote.let_arrive();
    }
    for node in &nodes {
        until("L2 to be told", || node.cache.stats().pending_invalidations == 0).await;
    }
    pause(LEASE * 6).await;
    let reader = Cache::builder().clock(clock.clone()).no_l1().l2(server.another_node()).build();
    let reader =
        reader.expect("valid settings").keyspace::<u64, u64>("rows").build().expect("a new keyspace");
    let mut kept = 0;
    for key in 0..KEYS {
        let row = rows.by_key.lock().get(&key).copied();
        let in_l2 = reader.get(&key).await.expect("a valid key").map(|value| *value);
        for found in [nodes[0].peek(key), nodes[1].peek(key), in_l2].into_iter().flatten() {
            assert_eq!(Some(found), row, "seed {seed}: key {key}: {in_l2:?} is in L2");
        }
        kept += usize::from(in_l2.is_some());
    }
    (kept, rows.by_key.lock().len())
}

async fn run_all(fails: bool) -> (usize, usize) {
    let seed = std::env::var("TERRACE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let count = std::env::var("TERRACE_TEST_SEEDS").ok().and_then(|count| count.parse().ok());
    let mut sum = (0, 0);
    for seed in seed.map_or(1..=count.unwrap_or(300), |seed| seed..=seed) {
        let (kept, rows) = run(seed, fails).await;
        sum = (sum.0 + kept, sum.1 + rows);
    }
    println!("{} of {} rows are in L2 in the end", sum.0, sum.1);
    sum
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_in_a_tier_that_the_origin_does_not_have() {
    let (kept, rows) = run_all(false).await;
    assert!(kept * 4 > rows || rows < 100, "{kept} of {rows}: most is dropped");
}

#[tokio::test(start_paused = true)]
async fn nor_where_l2_fails_now_and_then() {
    run_all(true).await;
}
