//! A fleet of nodes under observation: every answer is checked against what the answering node has acknowledged.
//!
//! The origin gives each key a number that grows with each change. A change of a key is made at the origin first and
//! told to the cache then; changes of one key do not overlap, reads and loads overlap with everything. Checked:
//!
//! 1. No read that starts after a change was acknowledged on its node brings a value from before the change, whether
//!    or not L2 was there (K1).
//! 2. Every value is one of the key that was asked for (K8), and one that the origin had.
//! 3. When all is delivered and all L1 copies have run out, every node has the newest value of a key, or none (K4).

use crate::fixture::L1_TTL;
use crate::jitter::{Dice, Jittery};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use terrace::{
    Cache, Clock, EntryOptions, Error, ErrorKind, Keyspace, LoadError, Origin, SuspectPolicy, Tag,
};
use terrace_testkit::fake::{FakeRemote, Fault, Loss};
use tokio::sync::{Mutex, MutexGuard};

/// What the caches hold: the key, and the number that the origin had.
pub(crate) type Value = (u64, u64);

/// Keys `n` with the same `n % GROUPS` share a tag; keys of one group also match one pattern.
pub(crate) const GROUPS: u64 = 3;
pub(crate) const KEYS: u64 = 9;

/// The system of record.
pub(crate) struct Truth {
    numbers: Vec<AtomicU64>,
    changing: Vec<Mutex<()>>,
    dice: Dice,
}

impl Truth {
    fn number(&self, key: u64) -> u64 {
        self.numbers[at(key)].load(Ordering::SeqCst)
    }

    /// Begins a change of these keys, which are in order, and waits for those under way.
    pub(crate) async fn change(&self, keys: &[u64]) -> Vec<MutexGuard<'_, ()>> {
        let mut guards = Vec::new();
        for &key in keys {
            guards.push(self.changing[at(key)].lock().await);
            self.numbers[at(key)].fetch_add(1, Ordering::SeqCst);
        }
        guards
    }
}

fn at(key: u64) -> usize {
    usize::try_from(key).expect("few keys")
}

/// The origin as a loader sees it: it may take long, and brings what was true when it was asked.
struct Slow(Arc<Truth>);

impl Origin<u64, Value> for Slow {
    type Error = Infallible;

    async fn load(&self, key: &u64) -> Result<Option<Value>, Infallible> {
        let value = (*key, self.0.number(*key));
        self.0.dice.wait(20).await;
        Ok(Some(value))
    }
}

/// One node of the fleet.
pub(crate) struct Watched {
    pub(crate) cache: Cache,
    pub(crate) remote: FakeRemote,
    pub(crate) plain: Keyspace<u64, Value>,
    through: Keyspace<u64, Value>,
    /// By key, the newest number whose change this node has acknowledged.
    acknowledged: Vec<AtomicU64>,
    truth: Arc<Truth>,
}

/// A fleet on one L2, with its origin.
pub(crate) struct Fleet {
    pub(crate) nodes: Vec<Arc<Watched>>,
    pub(crate) truth: Arc<Truth>,
    pub(crate) clock: Clock,
}

impl Fleet {
    /// Two nodes with both tiers, and one without L1.
    pub(crate) fn new(seed: u64) -> Self {
        let clock = Clock::manual();
        let remote = FakeRemote::with_partitions(clock.clone(), 5);
        let truth = Arc::new(Truth {
            numbers: (0..KEYS).map(|_| AtomicU64::new(1)).collect(),
            changing: (0..KEYS).map(|_| Mutex::new(())).collect(),
            dice: Dice::new(seed ^ 0x5eed),
        });
        let nodes = (0..3)
            .map(|n| {
                let node = remote.another_node();
                Arc::new(Watched::new(node, &clock, &truth, n < 2, seed + n))
            })
            .collect();
        Self { nodes, truth, clock }
    }

    /// Mends every node, waits until L2 knows everything, lets all copies run out, and checks what is left.
    pub(crate) async fn settle(&self) {
        for node in &self.nodes {
            node.remote.set_fault(None);
            node.remote.set_loss(Loss::Nothing);
            node.remote.mend_bus();
        }
        for node in &self.nodes {
            let is_told = || node.cache.stats().pending_invalidations == 0;
            terrace_testkit::wait::until("the invalidations to be delivered", is_told).await;
        }
        self.clock.advance(L1_TTL);
        for (node, key) in self.nodes.iter().flat_map(|node| (0..KEYS).map(move |key| (node, key))) {
            let left = node.plain.get(&key).await.expect("a valid key");
            let newest = (key, self.truth.number(key));
            assert!(
                left.as_ref().is_none_or(|left| **left == newest),
                "{left:?} is left, and {newest:?} is true"
            );
            let found = node.through.get(&key).await.expect("the origin does not fail");
            assert_eq!(found.as_deref(), Some(&newest), "what was loaded last");
        }
    }
}

impl Watched {
    fn new(remote: FakeRemote, clock: &Clock, truth: &Arc<Truth>, has_l1: bool, seed: u64) -> Self {
        let jittery = Jittery { remote: remote.clone(), around: Dice::new(seed) };
        let builder = Cache::builder().clock(clock.clone()).l2(jittery);
        let cache = if has_l1 { builder } else { builder.no_l1() }.build().expect("valid settings");
        let tagger = |key: &u64, _: &Value| vec![tag(key % GROUPS)];
        let plain = cache.keyspace("watched").tags(tagger).suspect(SuspectPolicy::Error);
        let plain = plain.build().expect("a new keyspace");
        let through = plain.clone().with_origin(Slow(Arc::clone(truth)));
        let acknowledged = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
        let truth = Arc::clone(truth);
        Self { cache, remote, plain, through, acknowledged, truth }
    }

    fn acknowledge(&self, key: u64, number: u64) {
        self.acknowledged[at(key)].fetch_max(number, Ordering::SeqCst);
    }

    /// The oldest number that a read of this key may bring which starts now.
    fn oldest(&self, key: u64) -> u64 {
        self.acknowledged[at(key)].load(Ordering::SeqCst)
    }

    fn check(&self, key: u64, found: Value, oldest: u64) {
        let (of, number) = found;
        assert_eq!(of, key, "a value of another key");
        assert!(number >= oldest, "key {key}: {number} was read, and {oldest} acknowledged before");
        assert!(number <= self.truth.number(key), "key {key}: {number} was never true");
    }

    /// Does one thing, chosen by the dice.
    pub(crate) async fn act(&self, dice: &Dice) {
        let key = dice.below(KEYS);
        match dice.below(100) {
            0..55 => self.read(key, dice).await,
            55..68 => self.put(key).await,
            68..76 => self.put_pair(key).await,
            76..84 => self.remove(key).await,
            84..90 => self.invalidate_group(key % GROUPS, true).await,
            90..94 => self.invalidate_group(key % GROUPS, false).await,
            94..96 => self.clear().await,
            _ => self.load_uncached(key).await,
        }
    }

    /// Loads every key, and checks what comes.
    pub(crate) async fn check_all(&self) {
        for key in 0..KEYS {
            let oldest = self.oldest(key);
            if let Some(found) = proven(self.through.get(&key).await) {
                self.check(key, *found.expect("the origin has every key"), oldest);
            }
        }
    }

    async fn read(&self, key: u64, dice: &Dice) {
        let oldest = self.oldest(key);
        match dice.below(5) {
            0 => {
                if let Some(Some(found)) = proven(self.plain.get(&key).await) {
                    self.check(key, *found, oldest);
                }
            }
            1 => {
                if let Some(found) = proven(self.through.get(&key).await) {
                    self.check(key, *found.expect("the origin has every key"), oldest);
                }
            }
            2 => {
                let keys = [key, (key + 1) % KEYS, key];
                let oldest = keys.map(|key| self.oldest(key));
                let keyspace = if dice.below(2) == 0 { &self.plain } else { &self.through };
                let found = proven(keyspace.get_many(&keys).await).unwrap_or_default();
                for ((key, oldest), found) in keys.into_iter().zip(oldest).zip(found) {
                    if let Some(found) = found {
                        self.check(key, *found, oldest);
                    }
                }
            }
            _ => {
                let truth = Arc::clone(&self.truth);
                let load = async move || Ok(Slow(truth).load(&key).await?.expect("the origin has every key"));
                if let Some(found) = loaded(self.plain.get_or_load(&key, load).await) {
                    self.check(key, *found, oldest);
                }
            }
        }
    }

    async fn load_uncached(&self, key: u64) {
        let (truth, oldest) = (Arc::clone(&self.truth), self.oldest(key));
        let options = EntryOptions::default().ttl(Duration::ZERO);
        let load = async move || Ok(Slow(truth).load(&key).await?.expect("the origin has every key"));
        if let Some(found) = loaded(self.plain.get_or_load_with(&key, options, load).await) {
            self.check(key, *found, oldest);
        }
    }

    async fn put(&self, key: u64) {
        let _changing = self.truth.change(&[key]).await;
        let number = self.truth.number(key);
        done(self.plain.put(&key, (key, number)).await);
        self.acknowledge(key, number);
    }

    async fn put_pair(&self, key: u64) {
        let keys = [key.min(KEYS - 2), key.min(KEYS - 2) + 1];
        let _changing = self.truth.change(&keys).await;
        let values = keys.map(|key| (key, (key, self.truth.number(key))));
        done(self.plain.put_many(values).await);
        for (key, (_, number)) in values {
            self.acknowledge(key, number);
        }
    }

    async fn remove(&self, key: u64) {
        let _changing = self.truth.change(&[key]).await;
        let number = self.truth.number(key);
        done(self.plain.remove(&key).await);
        self.acknowledge(key, number);
    }

    async fn invalidate_group(&self, group: u64, by_tag: bool) {
        let keys: Vec<u64> = (0..KEYS).filter(|key| key % GROUPS == group).collect();
        let _changing = self.truth.change(&keys).await;
        let numbers: Vec<u64> = keys.iter().map(|&key| self.truth.number(key)).collect();
        let invalidation = self.plain.invalidate();
        let invalidation = if by_tag {
            invalidation.tag(tag(group).as_str()).expect("a valid tag")
        } else {
            let pattern: Vec<String> = keys.iter().map(u64::to_string).collect();
            invalidation.pattern(&format!("[{}]", pattern.concat())).expect("a valid pattern")
        };
        done(invalidation.send().await);
        keys.into_iter().zip(numbers).for_each(|(key, number)| self.acknowledge(key, number));
    }

    async fn clear(&self) {
        let keys: Vec<u64> = (0..KEYS).collect();
        let _changing = self.truth.change(&keys).await;
        let numbers: Vec<u64> = keys.iter().map(|&key| self.truth.number(key)).collect();
        done(self.plain.clear().await);
        keys.into_iter().zip(numbers).for_each(|(key, number)| self.acknowledge(key, number));
    }

    /// Breaks or mends this node's connection.
    pub(crate) fn disturb(&self, dice: &Dice) {
        const FAULTS: [Option<Fault>; 10] = [
            None,
            None,
            None,
            None,
            Some(Fault::Unavailable),
            Some(Fault::TimeoutBeforeEffect),
            Some(Fault::TimeoutAfterEffect),
            Some(Fault::BrokenAfterEffect),
            Some(Fault::Refused),
            Some(Fault::Protocol),
        ];
        self.remote.set_fault(dice.one_of(&FAULTS));
    }
}

fn tag(group: u64) -> Tag {
    Tag::new(&format!("group:{group}")).expect("valid")
}

/// A change that an L2 refused holds on its node all the same; anything else that fails is a bug.
fn done<T>(result: Result<T, Error>) {
    match result {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), ErrorKind::Remote(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

/// What was read, unless it could not be proven fresh.
fn proven<T>(read: Result<T, Error>) -> Option<T> {
    match read {
        Ok(found) => Some(found),
        Err(error) if matches!(error.kind(), ErrorKind::Unproven) => None,
        Err(error) => panic!("{error}"),
    }
}

/// What was loaded, unless it could not be proven fresh.
fn loaded<T>(loaded: Result<T, LoadError<Infallible>>) -> Option<T> {
    match loaded {
        Ok(found) => Some(found),
        Err(error) if matches!(error.cache(), Some(ErrorKind::Unproven)) => None,
        Err(error) => panic!("{error}"),
    }
}
