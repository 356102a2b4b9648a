//! One file per verb, or for a few that belong together.

pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod data;
pub(crate) mod demo;
pub(crate) mod dict;
pub(crate) mod doctor;
pub(crate) mod explain;
mod finding;
pub(crate) mod forget_settings;
pub(crate) mod hot;
pub(crate) mod init;
pub(crate) mod invalidate;
pub(crate) mod journal;
pub(crate) mod manual;
pub(crate) mod many;
pub(crate) mod overview;
pub(crate) mod queue;
pub(crate) mod replay;
pub(crate) mod serve;
pub(crate) mod stats;
#[cfg(feature = "top")]
pub(crate) mod top;
pub(crate) mod warm;
pub(crate) mod watch;
pub(crate) mod why;
