//! Fleets of terrace in virtual time, with everything that can go wrong between them, from one seed.
//!
//! [`run()`] makes a fleet of what a [`Setting`] says, lets callers read and change while there is trouble, and hands the
//! history of all calls to [`terrace_testkit::history`]. Nothing in it depends on the machine: the same setting is the same
//! history, call by call.
//!
//! | module | is |
//! |---|---|
//! | `setting` | what a run is made of |
//! | `world` | what happens next? |
//! | `network` | messages on their way, connections that stand still or break |
//! | `remote` | a node's adapter to L2 |
//! | `node` | a cache on a runtime of its own, which can be paused |
//! | `origin` | where loaders get what is true, if they do |
//! | `grace` | runs in which old values are used, and the origin fails |
//! | `workload` | what callers do |
//! | `trouble` | what goes wrong |
//! | [`figures`] | how soon changes are heard, losses found, and connections made again |
//! | `totals` | what many runs came to |
//! | `record` | what was called, and the origin that knows the truth |
//!
//! Deliberately absent: threads. A node stands still between two polls of a task only; what can happen within one is for
//! the interleavings that `cargo xtask sanitize shuttle` explores.

#![forbid(unsafe_code)]

pub mod figures;
mod grace;
mod network;
mod node;
mod origin;
mod record;
mod remote;
mod run;
mod setting;
mod totals;
mod trouble;
mod workload;
mod world;

pub use grace::Grace;
pub use run::{Run, run};
pub use setting::{Setting, Trouble};
pub use totals::Totals;
