//! terrace's engine of L1 against other caches: `cargo run --release -p terrace-bench-compare [-- rounds]`.
//!
//! 1. The report is one Markdown page on standard output: what everything costs, side by side; the same with spreads
//!    and ratios; and which of the set targets this run met.
//! 2. What is timed runs under the system's allocator. Allocations and bytes are counted by a second program of this
//!    crate, under an allocator that counts, which the first one starts.
//!
//! Deliberately absent: hit ratios on recorded requests, which are the business of `terrace-bench-traces`.

#![forbid(unsafe_code)]

pub mod contenders;
pub mod counts;
pub mod maps;
pub mod report;
pub mod speed;
pub mod tail;
pub mod targets;

#[cfg(test)]
mod tests;
