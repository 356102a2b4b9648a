//! When may a value enter L1, and when may L2 be believed?
//!
//! Small state machines answer, and nothing else in the library keeps or drops an L1 copy:
//!
//! | module | guards |
//! |---|---|
//! | [`tickets`] | L1 against values that were read or loaded before an invalidation |
//! | [`bans`] | reads against copies that a tag, a pattern or a clearing has killed |
//! | [`generations`] | reads against entries in L2 whose tags were bumped |
//! | [`pending`] | reads against an L2 that has not seen an invalidation yet, because it could not be reached |
//! | [`recent`] | reads against an L2 that has forgotten an invalidation which this node made |
//! | [`validation`] | reads against copies in L1 that L2 does not have any more, where that is in doubt |
//! | [`trust`] | reads against copies in L1 of which this node may not have heard that they changed |
//!
//! `delivery` tells L2 what it has not seen, `debts` what it may have forgotten; `sweeping` removes from L2 what is dead; `delayed` makes
//! what was asked for later; `chores` does on behalf of others what nobody else does; `questions` are those that `validation`
//! has yet to ask; `audit` holds
//! this node's copies against what L2 says;
//! `listener` hears what L2 tells, and `hearing` is what that does here; `bus_health` is what people are told of it.
//!
//! What this gives, on one node: after a write or an invalidation returns, no read that starts later on that node
//! returns a value whose load or L2 read began before. It holds with L2 down.
//!
//! And between nodes, where L2 tells of changes: after a change was acknowledged, no read that starts a lease later on any
//! node returns an older value as fresh, whatever connection is lost and whoever is late or paused. (What is lost silently from
//! a connection that stays open is found out later: `listener`, 4.)

mod audit;
pub(crate) mod bans;
mod beats;
pub(crate) mod bus_health;
mod chores;
mod debts;
pub(crate) mod delayed;
mod delivery;
pub(crate) mod generations;
mod heard;
mod hearing;
pub(crate) mod listener;
pub(crate) mod pending;
pub(crate) mod questions;
pub(crate) mod recent;
pub(crate) mod sweeping;
pub(crate) mod tickets;
pub(crate) mod trust;
pub(crate) mod validation;

#[cfg(all(test, terrace_shuttle))]
mod shuttle_tests;
