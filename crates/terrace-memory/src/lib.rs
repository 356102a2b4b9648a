//! The L1 engine of terrace: a bounded, concurrent, synchronous, in-process cache.
//!
//! ```
//! use std::time::Duration;
//! use terrace_core::{Clock, Moment};
//! use terrace_memory::Memory;
//!
//! let clock = Clock::system();
//! let memory = Memory::<String, u64>::builder().entries_max(10_000).bytes_max(64 << 20).clock(clock.clone()).build()?;
//! memory.insert("visits".to_owned(), 7, 32, clock.now().plus(Duration::from_secs(60)));
//! memory.insert("limit".to_owned(), 100, 32, Moment::NEVER);
//! assert_eq!(memory.get("visits"), Some(7));
//! # Ok::<(), terrace_memory::ConfigError>(())
//! ```
//!
//! What is promised:
//!
//! 1. **Bounds.** Never more entries than the entries bound, never more weight than the bytes bound, whichever are
//!    set. Each shard keeps its share, so a cache of several shards (from 2,048 entries on) starts to evict when
//!    its first shard is full, a few percent below the bound.
//! 2. **Expiry.** A read never returns an entry at or after its deadline, and may refuse it 4 µs and one clock resolution
//!    early. An expired entry leaves when it is read, when room is needed, or by [`Memory::expire`], which the owner
//!    calls from time to time: this crate has no threads. Expired entries leave before live ones are evicted. A deadline
//!    more than 36 years after the clock's start is brought forward to then.
//! 3. **Big values.** A value that does not fit is not stored; nothing but its key's old value leaves for it.
//! 4. **Order.** A read after an insert or a removal has returned sees its effect.
//! 5. **The caller's code.** The removal listener, destructors, and closures that read, show or keep run outside all locks; only the
//!    conditions of [`Memory::insert_if`] and [`Memory::remove_if`] and the comparison of keys run under one. A panic of
//!    the caller's code (`Hash`, `Eq`, `Clone`, `Drop`, listener, closures) leaves the cache consistent and usable.
//! 6. **Cost.** A hit takes no lock, allocates nothing, and looks the key up by reference: any `Q` that is
//!    [`Equivalent`](equivalent::Equivalent) to the key will do. An entry takes about 42 bytes besides its key and value, and
//!    8 more if it has a deadline. Keys as [`Text`] are in place up to 24 bytes.
//! 7. **Leaving.** What has left is dropped when the reads that were under way have ended, by one of the next writes or by
//!    [`Memory::expire`]; [`MemoryStats::held_back`] counts what waits.
//!
//! How it works and why is in the page `docs/engine.md` of the project. Deliberately absent: loading, tiers, serialisation, an async
//! runtime, background threads. Time comes from a [`terrace_core::Clock`]. Unsafe code is in the module `raw` alone.

mod bounds;
mod builder;
mod cache;
mod counters;
mod deadline;
mod dials;
mod hash;
mod listener;
#[expect(unsafe_code, reason = "reads without locks; fenced, with a proof for each block")]
mod raw;
mod shard;
#[cfg(test)]
#[cfg(terrace_shuttle)]
#[path = "tests/shuttle.rs"]
mod shuttle_tests;
mod stats;
mod sweep;
mod sync;
#[cfg(test)]
#[cfg(not(any(terrace_loom, terrace_shuttle)))]
mod tests;
mod text;
#[cfg(any(test, feature = "validate"))]
mod validate;
mod write;

pub use builder::{Builder, ConfigError, Policy};
pub use cache::Memory;
pub use dials::CurvePoint;
pub use listener::RemovalCause;
pub use raw::downcast_clone;
pub use stats::MemoryStats;
pub use sweep::Expired;
pub use text::Text;
pub use write::Insertion;
