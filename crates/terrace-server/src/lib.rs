//! The terrace service.

pub mod config;
pub mod origin;
pub mod template;
