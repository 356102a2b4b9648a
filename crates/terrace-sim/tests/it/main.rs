//! Simulated fleets, held against what is promised.

mod figures;
mod seeds;
