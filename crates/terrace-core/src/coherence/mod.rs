//! What a node knows of other nodes' changes: pure state machines, fed with what is heard.
//!
//! | module | decides |
//! |---|---|
//! | [`chain`] | is a message of a partition missing, and can the log fill the gap? |
//!
//! Deliberately absent: what a change does to an entry (the library's), and how it is heard ([`crate::bus`]).

pub mod chain;

pub use chain::{Chain, Step};
