//! The terrace service: the library behind an HTTP API, with keyspaces and origins from a file.
//!
//! ```text
//! connection ─▶ wire ─▶ guard ─▶ handler ─▶ keyspace of the key ─▶ L1 ─▶ L2 ─▶ origin
//! ```
//!
//! | module | decides |
//! |---|---|
//! | [`config`] | what the service is told, and what it refuses to be told |
//! | [`template`] | which keyspace a key belongs to, and what its parts are |
//! | [`origin`] | what a load asks a database, and what its answer means |
//! | [`auth`] | who is asking, and what they may |
//! | `document` | what a value is, and how it is kept |
//! | `api` | paths, bodies, statuses |
//! | `audit` | what is noted of what people do to the service |
//! | `wire`, `connection`, `tls`, `server` | connections, and how they end |
//! | `reload` | what of the configuration changes while the service runs, and how |
//! | `security` | which credentials and certificates are in force |
//! | `feed` | which events are kept for those who read them |
//! | `keyspaces`, `tiers` | what of the library the configuration sets up |
//! | `traces` | which requests are traced, and how that is told |
//! | `process` | what the system says of this process |
//! | `runtime` | tasks, threads, waiting |
//!
//! [`Server`] runs it; [`check()`] tries what a configuration names without serving.
//!
//! Deliberately absent: any decision about tiers, which are the library's, and a command line, which is `terrace`'s.

#![forbid(unsafe_code)]

mod api;
mod audit;
pub mod auth;
mod check;
pub mod config;
mod connection;
mod document;
mod explain;
mod feed;
mod history;
mod keyspaces;
pub mod origin;
mod process;
mod reload;
mod runtime;
mod security;
mod server;
mod structured;
mod tagging;
pub mod template;
mod tiers;
mod tls;
mod traces;
mod wire;

#[cfg(fuzzing)]
pub use api::fuzzing;
pub use check::{Finding, check, forget_settings};
pub use explain::{Asked, Explained, Lifetime};
pub use reload::{ReloadError, Reloader};
pub use security::{Security, SecurityError};
pub use server::{Ended, Server, StartError, Stop};
pub use tagging::{TagRule, TagRuleError};
pub use tls::TlsError;
#[cfg(feature = "otlp")]
pub use traces::{Traces, TracesError};
