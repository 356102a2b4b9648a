//! Suites that every implementation of a trait has to pass.
//!
//! | module | checks |
//! |---|---|
//! | [`remote`] | the contract of [`terrace_core::Remote`], sentence by sentence |
//! | [`differential`] | two of them against each other, on random lists of operations |
//! | [`samples`] | values to store |

pub mod differential;
pub mod remote;
pub mod samples;
