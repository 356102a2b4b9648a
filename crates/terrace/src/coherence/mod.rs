//! When may a value enter L1, and when may L2 be believed?
//!
//! Two small state machines answer, and nothing else in the library keeps or drops an L1 copy:
//!
//! | module | guards |
//! |---|---|
//! | [`tickets`] | L1 against values that were read or loaded before an invalidation |
//! | [`pending`] | reads against an L2 that has not seen an invalidation yet, because it could not be reached |
//!
//! `delivery` tells L2 what it has not seen.
//!
//! What this gives, on one node: after a write or an invalidation returns, no read that starts later on that node
//! returns a value whose load or L2 read began before. It holds with L2 down.
//!
//! Deliberately absent, for now: listening to other nodes. Each change is logged and published in L2, and nobody
//! hears it yet, so an L1 copy of another node lives until its L1 TTL.

mod delivery;
pub(crate) mod pending;
pub(crate) mod tickets;
