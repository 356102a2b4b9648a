//! Which of two values of a key wins?
//!
//! A [`Version`] is an integer given out by the shared tier, one counter per partition: `max(previous + 1, the
//! server's time in microseconds)`. It orders every change of every key of that partition. Nodes never make versions
//! and never compare wall clocks: the greater version wins, and that is the whole rule.
//!
//! Without a shared tier there is one node, and it counts for itself ([`LocalVersions`]).

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// The place of one change in the order of all changes of its partition.
///
/// # Examples
/// ```
/// use terrace_core::Version;
/// assert!(Version::from(2).supersedes(Version::from(1)));
/// assert!(!Version::from(1).supersedes(Version::from(1)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Version(u64);

impl Version {
    /// Older than every version that was ever given out.
    pub const ZERO: Self = Self(0);
    /// Newer than every version that will ever be given out.
    pub const MAX: Self = Self(u64::MAX);

    /// The version as a number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether a value of this version replaces one of version `other`. Equal versions are the same value.
    pub const fn supersedes(self, other: Self) -> bool {
        self.0 > other.0
    }
}

impl From<u64> for Version {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Gives out versions where there is no shared tier to do it.
#[derive(Debug, Default)]
pub struct LocalVersions(AtomicU64);

impl LocalVersions {
    /// The next version, greater than all before.
    pub fn next(&self) -> Version {
        Version(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}
