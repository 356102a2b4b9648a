//! origins
pub mod sql;
