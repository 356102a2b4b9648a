//! What terrace's own tests stand on. Not published.
//!
//! | module | gives |
//! |---|---|
//! | [`fake`] | an L2 in memory with the behaviour of the real server, and with faults at will |
//! | [`server`] | real servers on free loopback ports, and the addresses of shared ones |
//! | [`history`] | what a fleet answered, and the rules K1–K8 over it |
//! | [`conformance`] | suites that every implementation of a trait has to pass |
//! | [`wait`] | waiting for a condition, with a deadline |
//!
//! 1. Nothing here listens on a fixed port, and everything listens on loopback only.
//! 2. Only processes that this crate started are ended, and by their id.
//! 3. A server that is not installed makes a visible `skipped:` line, never a silent pass.
//!
//! Deliberately absent: anything that the library itself would need, and a clock of its own (see
//! [`terrace_core::Clock::manual`]).

#![forbid(unsafe_code)]

pub mod conformance;
pub mod fake;
pub mod history;
pub mod server;
pub mod wait;
