//! What the benchmarks share: how to measure in turns, how to print it, which keys and which work.
//!
//! 1. What is compared runs in one process, in turn, many times ([`rounds`]): a slow moment of the machine hits all.
//! 2. Keys and orders of operations are made before the time runs ([`keys`]), the same for everybody.
//! 3. Everybody runs the same loop ([`streams`]), compiled for it: one dynamic call per measurement, none per operation.
//!
//! Deliberately absent: the contenders, except ours, and what is good enough.

#![forbid(unsafe_code)]

pub mod keys;
pub mod machine;
pub mod ours;
pub mod rounds;
pub mod streams;
pub mod subject;
pub mod table;
pub mod threads;
pub mod timing;
pub mod workload;

#[cfg(test)]
mod tests;
