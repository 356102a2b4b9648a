//! Where does chance come from?
//!
//! As time, chance is a parameter ([`crate::Clock`]): the operating system's randomness, or numbers that follow from a seed, so
//! that a run can be repeated.
//!
//! 1. Names that must never be shared, as the tokens of leases, are drawn from the operating system unless a test says
//!    otherwise.
//! 2. Clones of a seeded source draw from one row of numbers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A source of numbers that nobody can foresee, or that anybody can who knows the seed.
///
/// # Examples
/// ```
/// use terrace_core::Chance;
/// let (one, other) = (Chance::seeded(7), Chance::seeded(7));
/// assert_eq!(one.number(), other.number());
/// assert_ne!(one.number(), one.number());
/// ```
#[derive(Clone, Default)]
pub struct Chance(Source);

#[derive(Clone, Default)]
enum Source {
    #[default]
    System,
    Seeded(Arc<AtomicU64>),
}

impl Chance {
    /// The step of `SplitMix64`, which the seeded numbers are.
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

    /// The operating system's.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// Numbers that follow from `seed`. For tests: whoever knows the seed knows every lease's token.
    pub fn seeded(seed: u64) -> Self {
        Self(Source::Seeded(Arc::new(AtomicU64::new(seed))))
    }

    /// Any number.
    ///
    /// # Panics
    /// If the operating system has no randomness.
    ///
    /// # Cost
    /// A system call, unless it is seeded.
    pub fn number(&self) -> u64 {
        match &self.0 {
            Source::System => getrandom::u64().expect("the operating system has randomness"),
            Source::Seeded(state) => {
                let state = state.fetch_add(Self::STEP, Ordering::Relaxed).wrapping_add(Self::STEP);
                let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                mixed ^ (mixed >> 31)
            }
        }
    }

    /// A number below `bound`, or zero if that is zero. Evenly spread, but for bounds near the largest number.
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.number() % bound }
    }
}

impl fmt::Debug for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::System => "Chance::system",
            Source::Seeded(_) => "Chance::seeded",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_draw_from_one_row() {
        let (row, whole) = (Chance::seeded(1), Chance::seeded(1));
        let drawn = [row.clone().number(), row.number(), row.clone().number()];
        assert_eq!(drawn, [whole.number(), whole.number(), whole.number()]);
    }

    #[test]
    fn numbers_are_below_their_bound() {
        for chance in [Chance::system(), Chance::seeded(3)] {
            assert!((0..100).all(|_| chance.below(7) < 7));
            assert_eq!(chance.below(0), 0);
        }
    }
}
