//! One file per verb.

pub(crate) mod check;
pub(crate) mod data;
pub(crate) mod demo;
pub(crate) mod forget_settings;
pub(crate) mod hot;
pub(crate) mod invalidate;
pub(crate) mod replay;
pub(crate) mod serve;
pub(crate) mod stats;
pub(crate) mod watch;
pub(crate) mod why;
