//! How instances tell each other of changes, as it was set.

use serde::Serialize;

/// How instances tell each other of changes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct BusConfig {
    /// What is asked of the server, and promised for it. The same on all instances. Default `coherent`.
    pub mode: BusMode,
}

/// What is asked of the server of the shared tier.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum BusMode {
    /// Scripts and streams, for all that is promised.
    Coherent,
    /// Neither, for less: `health` says what is missing.
    Plain,
}
