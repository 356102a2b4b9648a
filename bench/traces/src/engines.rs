//! Ours and others' engines, called by one thread through their public interfaces.
//!
//! Ours as it is built by default. Others in the most favourable form that their interface allows: one shard where that
//! can be asked for, pending work done before the next request. The value is the weight, for those who weigh it.

use crate::replay::{Candidate, Engine, Room};
use crate::simulations::{Fifo, Lru, Optimum};
use crate::trace::{Request, Trace};
use anyhow::Result;
use foyer_memory::{CacheBuilder, S3FifoConfig};
use terrace_core::Moment;
use terrace_memory::{Memory, Policy};

/// The optimum, which bounds the others.
pub(crate) const OPTIMUM: &str = "optimum";
/// The policy that none may be much worse than.
pub(crate) const FIFO: &str = "FIFO";
/// Our engine as it is built by default.
pub(crate) const OURS: &str = "terrace";

/// Everybody, in the order of the columns.
pub(crate) fn all() -> Vec<Candidate> {
    vec![
        Candidate { name: OPTIMUM, build: |trace, room| Ok(Box::new(Optimum::new(trace, room))) },
        Candidate { name: FIFO, build: |trace, room| Ok(Box::new(Fifo::new(trace, room))) },
        Candidate { name: "LRU", build: |trace, room| Ok(Box::new(Lru::new(trace, room))) },
        Candidate { name: OURS, build: |trace, room| ours(trace, room, Policy::Default) },
        Candidate { name: "terrace, LRU", build: |trace, room| ours(trace, room, Policy::Lru) },
        Candidate { name: "moka", build: |_, room| Ok(Box::new(Moka::new(room))) },
        Candidate { name: "quick_cache", build: |_, room| Ok(Box::new(Quick::new(room))) },
        Candidate { name: "foyer S3-FIFO", build: |_, room| Ok(Box::new(Foyer::new(room)?)) },
    ]
}

struct Ours(Memory<u64, u32>);

fn ours(trace: &Trace, room: Room, policy: Policy) -> Result<Box<dyn Engine>> {
    let builder = Memory::builder().policy(policy);
    let builder = if trace.by_bytes {
        builder.entries_max(0).bytes_max(room.weight)
    } else {
        builder.entries_max(room.entries)
    };
    Ok(Box::new(Ours(builder.build()?)))
}

impl Engine for Ours {
    fn get(&mut self, request: Request) -> bool {
        self.0.get(&request.key).is_some()
    }

    fn insert(&mut self, request: Request) {
        self.0.insert(request.key, request.weight, u64::from(request.weight), Moment::NEVER);
    }
}

struct Moka {
    cache: moka::sync::Cache<u64, u32>,
    gets: u32,
}

impl Moka {
    /// After so many reads, what they put off is done.
    const READS_PUT_OFF_MAX: u32 = 32;

    fn new(room: Room) -> Self {
        let builder = moka::sync::Cache::builder().max_capacity(room.weight);
        Self { cache: builder.weigher(|_, weight: &u32| *weight).build(), gets: 0 }
    }
}

impl Engine for Moka {
    fn get(&mut self, request: Request) -> bool {
        self.gets += 1;
        if self.gets == Self::READS_PUT_OFF_MAX {
            self.gets = 0;
            self.cache.run_pending_tasks();
        }
        self.cache.get(&request.key).is_some()
    }

    fn insert(&mut self, request: Request) {
        self.cache.insert(request.key, request.weight);
        self.cache.run_pending_tasks();
    }
}

#[derive(Clone)]
struct ByValue;

impl quick_cache::Weighter<u64, u32> for ByValue {
    fn weight(&self, _: &u64, weight: &u32) -> u64 {
        u64::from(*weight)
    }
}

struct Quick(quick_cache::unsync::Cache<u64, u32, ByValue>);

impl Quick {
    fn new(room: Room) -> Self {
        Self(quick_cache::unsync::Cache::with_weighter(room.entries, room.weight, ByValue))
    }
}

impl Engine for Quick {
    fn get(&mut self, request: Request) -> bool {
        self.0.get(&request.key).is_some()
    }

    fn insert(&mut self, request: Request) {
        self.0.insert(request.key, request.weight);
    }
}

struct Foyer(foyer_memory::Cache<u64, u32>);

impl Foyer {
    fn new(room: Room) -> Result<Self> {
        let builder = CacheBuilder::new(usize::try_from(room.weight)?).with_shards(1);
        let builder = builder.with_eviction_config(S3FifoConfig::default());
        Ok(Self(builder.with_weighter(|_: &u64, weight: &u32| *weight as usize).build()))
    }
}

impl Engine for Foyer {
    fn get(&mut self, request: Request) -> bool {
        self.0.get(&request.key).is_some()
    }

    fn insert(&mut self, request: Request) {
        self.0.insert(request.key, request.weight);
    }
}
