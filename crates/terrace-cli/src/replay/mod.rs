//! Replaying recorded requests: what is asked, what is expected, what came of it.

pub(crate) mod asker;
pub(crate) mod config;
pub(crate) mod expected;
pub(crate) mod local;
pub(crate) mod progress;
pub(crate) mod remote;
pub(crate) mod report;
pub(crate) mod rows;
pub(crate) mod run;
