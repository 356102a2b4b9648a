//! The caches, and how each is built and called.
//!
//! Each in the form that suits it best: room made in advance where it can be asked for, foldhash where the hasher can be
//! chosen, one call per operation where it has one. Shards as each chooses itself.

use crate::maps::{Hashbrown, Papaya};
use Ability::{Evict, Expire, Load, ReadInPlace, ShareWrites};
use anyhow::Result;
use foldhash::fast::RandomState;
use foyer_memory::{CacheBuilder, CacheProperties, S3FifoConfig};
use std::cell::RefCell;
use std::convert::Infallible;
use std::time::Duration;
use terrace_bench_harness::ours::Ours;
use terrace_bench_harness::streams::{Operation, Streams};
use terrace_bench_harness::subject::{Subject, Value};
use terrace_bench_harness::workload::Workload;
use terrace_memory::Policy;

/// Whom the targets name: the first row of every table.
pub const PEER: &str = "quick_cache";
/// Our engine as it is built by default.
pub const OURS: &str = "terrace";
/// Our engine, evicting the least recently used.
pub const OURS_LRU: &str = "terrace, LRU";

const TTL: Duration = Duration::from_hours(1);

type Build = fn(&Workload) -> Result<Box<dyn Streams>>;

/// What not everybody can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ability {
    /// Evict, so as to be bounded.
    Evict,
    /// Drop entries after a TTL. Whoever cannot runs the same work without.
    Expire,
    /// Get or load in one call. Whoever cannot gets, then inserts.
    Load,
    /// Look at a value without taking a reference of one's own.
    ReadInPlace,
    /// Write from several threads.
    ShareWrites,
}

/// Somebody who takes part.
#[derive(Clone, Copy, Debug)]
pub struct Contender {
    /// What the tables call it.
    pub name: &'static str,
    /// Builds it, with room for as many entries as the workload says.
    pub build: Build,
    abilities: &'static [Ability],
}

/// Everybody, in the order of the columns.
pub const ALL: [Contender; 8] = [
    Contender {
        name: PEER,
        build: |w| Ok(Box::new(Quick::new(w.capacity))),
        abilities: &[Evict, Load, ShareWrites],
    },
    Contender {
        name: OURS,
        build: |w| Ok(Box::new(Ours::new(w.capacity, Policy::Default, ttl(w))?)),
        abilities: &[Evict, Expire, ReadInPlace, ShareWrites],
    },
    Contender {
        name: OURS_LRU,
        build: |w| Ok(Box::new(Ours::new(w.capacity, Policy::Lru, ttl(w))?)),
        abilities: &[Evict, Expire, ReadInPlace, ShareWrites],
    },
    Contender {
        name: "moka",
        build: |w| Ok(Box::new(Moka::new(w.capacity, ttl(w)))),
        abilities: &[Evict, Expire, Load, ShareWrites],
    },
    Contender {
        name: "mini-moka",
        build: |w| Ok(Box::new(MiniMoka::new(w.capacity, ttl(w)))),
        abilities: &[Evict, Expire, ShareWrites],
    },
    Contender {
        name: "foyer S3-FIFO",
        build: |w| Ok(Box::new(Foyer::new(w.capacity))),
        abilities: &[Evict, ReadInPlace, ShareWrites],
    },
    Contender {
        name: "papaya",
        build: |w| Ok(Box::new(Papaya::new(w.capacity))),
        abilities: &[ReadInPlace, ShareWrites],
    },
    Contender {
        name: "hashbrown",
        build: |w| Ok(Box::new(Hashbrown::new(w.capacity))),
        abilities: &[ReadInPlace],
    },
];

fn ttl(workload: &Workload) -> Option<Duration> {
    workload.has_ttl.then_some(TTL)
}

impl Contender {
    /// Whether it has this ability.
    pub fn can(&self, ability: Ability) -> bool {
        self.abilities.contains(&ability)
    }

    /// Whether it can do this work at so many threads.
    pub fn takes_part(&self, workload: &Workload, threads: usize) -> bool {
        let writes = !matches!(workload.operation, Operation::Get | Operation::Read);
        (self.can(Evict) || !workload.evicts)
            && (self.can(ReadInPlace) || workload.operation != Operation::Read)
            && (self.can(ShareWrites) || threads == 1 || !writes)
    }
}

/// [`quick_cache`](https://crates.io/crates/quick_cache).
pub struct Quick(quick_cache::sync::Cache<String, Value, quick_cache::UnitWeighter, RandomState>);

impl Quick {
    /// Room for so many entries.
    pub fn new(capacity: usize) -> Self {
        let (weighter, hasher) = (quick_cache::UnitWeighter, RandomState::default());
        Self(quick_cache::sync::Cache::with(capacity, capacity as u64, weighter, hasher, <_>::default()))
    }
}

impl Subject for Quick {
    #[inline]
    fn get(&self, key: &str) -> Option<Value> {
        self.0.get(key)
    }

    #[inline]
    fn insert(&self, key: &str, value: Value) {
        self.0.insert(key.to_owned(), value);
    }

    #[inline]
    fn remove(&self, key: &str) {
        self.0.remove(key);
    }

    #[inline]
    fn load(&self, key: &str, make: impl FnOnce() -> Value) -> Value {
        let Ok(value) = self.0.get_or_insert_with(key, || Ok::<_, Infallible>(make()));
        value
    }
}

/// [`moka`](https://crates.io/crates/moka), the synchronous one.
pub struct Moka(moka::sync::Cache<String, Value, RandomState>);

impl Moka {
    /// Room for so many entries.
    pub fn new(capacity: usize, ttl: Option<Duration>) -> Self {
        let builder = moka::sync::Cache::builder().max_capacity(capacity as u64).initial_capacity(capacity);
        let builder = if let Some(ttl) = ttl { builder.time_to_live(ttl) } else { builder };
        Self(builder.build_with_hasher(RandomState::default()))
    }
}

impl Subject for Moka {
    #[inline]
    fn get(&self, key: &str) -> Option<Value> {
        self.0.get(key)
    }

    #[inline]
    fn insert(&self, key: &str, value: Value) {
        self.0.insert(key.to_owned(), value);
    }

    #[inline]
    fn remove(&self, key: &str) {
        self.0.invalidate(key);
    }

    #[inline]
    fn load(&self, key: &str, make: impl FnOnce() -> Value) -> Value {
        self.0.get_with_by_ref(key, make)
    }

    fn settle(&self) {
        self.0.run_pending_tasks();
        self.0.run_pending_tasks();
    }
}

/// [`mini-moka`](https://crates.io/crates/mini-moka). Its keys cannot be looked up by `&str`: the text is copied into a
/// string that each thread keeps for that, which costs about 2 ns.
pub struct MiniMoka(mini_moka::sync::Cache<String, Value, RandomState>);

thread_local!(static KEY: RefCell<String> = const { RefCell::new(String::new()) });

impl MiniMoka {
    /// Room for so many entries.
    pub fn new(capacity: usize, ttl: Option<Duration>) -> Self {
        let builder =
            mini_moka::sync::Cache::builder().max_capacity(capacity as u64).initial_capacity(capacity);
        let builder = if let Some(ttl) = ttl { builder.time_to_live(ttl) } else { builder };
        Self(builder.build_with_hasher(RandomState::default()))
    }
}

#[inline]
fn with_owned<R>(key: &str, use_it: impl FnOnce(&String) -> R) -> R {
    KEY.with_borrow_mut(|owned| {
        owned.clear();
        owned.push_str(key);
        use_it(owned)
    })
}

impl Subject for MiniMoka {
    #[inline]
    fn get(&self, key: &str) -> Option<Value> {
        with_owned(key, |key| self.0.get(key))
    }

    #[inline]
    fn insert(&self, key: &str, value: Value) {
        self.0.insert(key.to_owned(), value);
    }

    #[inline]
    fn remove(&self, key: &str) {
        with_owned(key, |key| self.0.invalidate(key));
    }

    fn settle(&self) {
        use mini_moka::sync::ConcurrentCacheExt;
        self.0.sync();
        self.0.sync();
    }
}

/// [`foyer-memory`](https://crates.io/crates/foyer-memory) with S3-FIFO. It hands out entries, which count references of
/// their own: a read in place is a read of such an entry.
pub struct Foyer(foyer_memory::Cache<String, Value, RandomState>);

impl Foyer {
    /// Room for so many entries.
    pub fn new(capacity: usize) -> Self {
        let builder = CacheBuilder::new(capacity).with_eviction_config(S3FifoConfig::default());
        Self(builder.with_hash_builder(RandomState::default()).build::<CacheProperties>())
    }
}

impl Subject for Foyer {
    #[inline]
    fn get(&self, key: &str) -> Option<Value> {
        self.0.get(key).map(|entry| entry.value().clone())
    }

    #[inline]
    fn read(&self, key: &str) -> Option<u8> {
        self.0.get(key).map(|entry| entry.value()[0])
    }

    #[inline]
    fn insert(&self, key: &str, value: Value) {
        self.0.insert(key.to_owned(), value);
    }

    #[inline]
    fn remove(&self, key: &str) {
        self.0.remove(key);
    }
}

/// Debug output of those whose own would list their entries.
macro_rules! named {
    ($($subject:ident),*) => {
        $(impl std::fmt::Debug for $subject {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($subject)).finish_non_exhaustive()
            }
        })*
    };
}
named!(Quick, Moka, MiniMoka, Foyer);
