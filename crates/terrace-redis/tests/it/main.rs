//! The adapter against real servers.
//!
//! Tests that only read and write share a server, each under a prefix of its own; tests that kill, halt or fill a
//! server start one for themselves.

mod bus;
mod bus_faults;
mod cluster;
mod cluster_faults;
mod cluster_security;
mod contract;
mod cost;
mod faults;
mod globs;
mod incarnations;
mod late;
mod limits;
mod listing;
mod messages;
mod plain;
mod security;
mod sentinel;
mod support;
mod tracking;
