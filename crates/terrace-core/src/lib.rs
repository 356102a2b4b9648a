//! The words, traits and pure rules of terrace.
//!
//! Every other crate speaks in these types. Nothing here waits, locks, spawns or opens a socket: given the same
//! arguments, and the clock and the chance it is handed, a function of this crate always answers the same.
//!
//! | module | decides |
//! |---|---|
//! | [`key`] | what may be a key, a namespace or a tag, and which partition a key belongs to |
//! | [`entry`] | is this entry fresh, stale or gone? |
//! | [`version`] | which of two values of a key wins? |
//! | [`envelope`] | what bytes go to L2? |
//! | [`codec`] | how a value becomes bytes and back |
//! | [`glob`] | does this key match this pattern? |
//! | [`clock`] | what time is it? |
//! | [`chance`] | where does chance come from? |
//! | [`remote`] | what an L2 has to be able to do |
//! | [`bus`] | what an L2 tells of changes, and how a node listens |
//! | [`coherence`] | which messages are missing |
//!
//! Deliberately absent: I/O, an async runtime, `unsafe`, and any type of another crate in a public signature
//! except [`bytes::Bytes`], [`futures_core::Stream`] and serde's traits.

#![forbid(unsafe_code)]

pub mod bus;
pub mod chance;
pub mod clock;
pub mod codec;
pub mod coherence;
pub mod entry;
pub mod envelope;
pub mod glob;
pub mod key;
#[doc(hidden)]
pub mod mutants;
mod name;
pub mod remote;
pub mod version;

pub use bus::Bus;
pub use chance::Chance;
pub use clock::{Clock, Moment};
pub use codec::{Codec, CodecError};
pub use entry::{Freshness, Lifetime, Ttl};
pub use glob::Glob;
pub use key::{CacheKey, Key, KeyError, Namespace, Partition, Tag, TextKey};
pub use name::KeyName;
pub use remote::{Remote, RemoteError};
pub use version::Version;
