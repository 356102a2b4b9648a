//! Is there room in L1 for more, without anybody leaving for it? And what would there be if there were more room?

use super::{KeyRef, L1};
use terrace_core::Version;
use terrace_memory::CurvePoint;

/// The share of each bound that is left free: shards fill unevenly, and one that is full evicts though others are not.
const FREE_SHARE: u64 = 8;

impl L1 {
    /// Drops the key's copy if it is older than a version that is kept elsewhere alone. No ticket is void by that.
    pub(crate) fn leave_to(&self, key: KeyRef<'_>, version: Version) {
        self.memory.remove_if(&key, |there| version.supersedes(there.version));
    }

    /// What other sizes would miss, if this one misses so much of what it is asked for. Empty where nothing is known.
    pub(crate) fn miss_ratios_at(&self, measured: f64) -> Vec<CurvePoint> {
        self.memory.miss_ratio_curve_at(measured)
    }

    /// What so many copies weigh, in bytes, if they weigh what those that are here weigh on average.
    pub(crate) fn weight_of(&self, entries: usize) -> u64 {
        let all = u128::from(self.memory.weight_bytes()) * entries as u128;
        u64::try_from(all / self.memory.len().max(1) as u128).unwrap_or(u64::MAX)
    }

    /// Whether so many more entries find room.
    pub(crate) fn has_room(&self, count: usize) -> bool {
        let (entries_max, bytes_max) = self.bounds;
        let is_below = |filled: u64, bound: u64| bound == 0 || filled <= bound - bound.div_ceil(FREE_SHARE);
        let len = self.memory.len();
        let bytes = self.memory.weight_bytes();
        // Those that come are taken to be as heavy as those that are there.
        let more = bytes.checked_div(len as u64).unwrap_or(0).saturating_mul(count as u64);
        is_below((len + count) as u64, entries_max as u64) && is_below(bytes.saturating_add(more), bytes_max)
    }
}
