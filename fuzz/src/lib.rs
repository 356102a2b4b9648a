//! What oracles of several targets share.

#![forbid(unsafe_code)]

pub mod json;
pub mod number;
