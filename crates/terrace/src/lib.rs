//! terrace is a coherent multi-tier cache: values in the memory of each process (L1), in a shared Redis or Valkey
//! (L2), in front of the database or service that you already have (the origin).
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let cache = terrace::Cache::memory()?;
//! let users = cache.keyspace::<u64, String>("users").build()?;
//!
//! let load = async || Ok::<_, std::io::Error>("ann".to_owned());
//! let user = users.get_or_load(&42, load).await?;
//! assert_eq!(*user, "ann");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! | module | decides |
//! |---|---|
//! | `read` | the order of tiers on a read |
//! | `write`, `invalidate` | the order of tiers on a change |
//! | `behind` | which writes the origin does not have yet, and when it gets them |
//! | `flight` | who runs the loader on this node |
//! | `terms` | how long an entry lasts, and a load is waited for |
//! | `stale` | when an old value is returned, and who loads a new one then |
//! | `lease` | who may fill L2, fleet-wide |
//! | `strategies` | how one keyspace is used in several ways |
//! | `warm` | what is loaded ahead of its first read |
//! | `listing` | which keys the tiers hold |
//! | `refresh` | what is loaded anew because somebody asked for it |
//! | `events` | what those are told who want to know what happens |
//! | `tags` | whether an entry with tags is still alive |
//! | `coherence` | when a value may enter L1, and when L2 may be believed |
//! | `resilience` | what a failing L2 means |
//! | `runtime` | spawning, waiting, joining |
//! | `telemetry` | what is counted, and what it is called |
//!
//! Deliberately absent here: how the bytes of L2 look (`terrace-core`), who is evicted (`terrace-memory`), how Redis
//! is spoken to (`terrace-redis`).

#![forbid(unsafe_code)]

mod adaptive;
#[cfg(feature = "journal")]
pub mod behind;
mod builder;
mod bulkhead;
mod cache;
mod coherence;
mod entry;
mod erased;
mod error;
mod events;
mod flight;
mod hot;
mod invalidate;
mod keyspace;
mod l1;
mod lease;
mod listing;
mod origin;
mod read;
mod refresh;
mod resilience;
mod runtime;
mod sizes;
mod space;
mod stale;
mod staleness;
pub mod strategies;
mod sync;
mod tags;
mod telemetry;
mod terms;
mod waiting;
mod warm;
mod why;
mod write;

pub use adaptive::AdaptiveTtl;
pub use builder::{CacheBuilder, L1};
pub use bulkhead::{Bulkhead, BulkheadLoad, BulkheadPlace};
pub use cache::{Cache, Health};
pub use coherence::bus_health::{BusHealth, BusState};
pub use entry::{Entry, Lookup, StaleReason, Tier};
pub use erased::Opaque;
pub use error::{
    ConfigError, Error, ErrorKind, KeyspaceError, LoadError, OriginFailure, ShutdownError, StoreError,
};
pub use events::{Event, EventKind, Events};
pub use hot::HotKey;
pub use invalidate::{
    InvalidateError, Invalidated, Invalidation, InvalidationPolicy, Invalidator, Numbered, Preview,
};
pub use keyspace::{Fetched, Keyspace, KeyspaceBuilder, ReadOptions, Strategy};
pub use listing::{HeldKey, KeyPage, KeyPlace, KeyPlaceError};
pub use origin::{
    Fault, Fence, Origin, OriginAnswer, OriginFn, OriginWrite, WriteFailure, WriteId, WriteIdError,
};
pub use resilience::{
    Breaker, BreakerHealth, BreakerState, OriginBreaker, OriginCall, OriginHealth, Retry, Transition,
    Transitions,
};
pub use sizes::{L1Size, NoSizes};
pub use space::SuspectPolicy;
pub use staleness::{Staleness, StalenessBudget};
pub use telemetry::spans::TARGET as TRACE_TARGET;
pub use telemetry::{
    Figures, Latencies, Latency, LookupTimes, METRICS_CONTENT_TYPE, OriginTimer, OriginTiming, Stats,
    TierTimes, origin_metrics,
};
pub use terms::{EntryOptions, RefreshAhead};
pub use terrace_core::bus::{Change, NodeId};
pub use terrace_core::envelope::{
    Algorithm, Compression, CompressionLevel, CompressionLevelError, Dictionary, DictionaryError,
};
pub use terrace_core::glob::GlobError;
pub use terrace_core::remote::{Remote, RemoteError, RemoteHealth, SweepRule};
pub use terrace_core::{
    CacheKey, Chance, Clock, CodecError, Glob, Key, KeyError, KeyName, Moment, Namespace, Tag, TextKey, Ttl,
    Version, codec,
};
pub use terrace_memory::Policy;
#[cfg(feature = "redis")]
pub use terrace_redis::{
    ConfigError as RedisError, Passwords as RedisPasswords, PlainRedis, Redis, RedisBuilder,
};
pub use warm::{Warm, WarmProgress, Warmed};
pub use why::{Changed, DeadBy, Held, Trusted, Why};
pub use write::{Effect, Removed, Written};

/// The programs of the README, compiled and run as documentation tests.
#[cfg(all(doctest, feature = "redis"))]
#[doc = include_str!("../../../README.md")]
#[derive(Debug)]
pub struct Readme;

/// The programs of the guide, compiled and run in the same way.
#[cfg(all(doctest, feature = "redis"))]
#[doc = include_str!("../../../docs/guide/library.md")]
#[derive(Debug)]
pub struct Guide;
