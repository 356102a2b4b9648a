//! How much may be kept, and what an entry costs of it.
//!
//! 1. Both bounds hold at once, in every shard and so in the whole: the shares of the shards add up to the bound.
//! 2. A bound by bytes alone bounds the number of entries too, by the same number: entries without weight are not free.
//!
//! Deliberately absent: measuring values. The caller says what an entry weighs.

use crate::builder::ConfigError;

/// Most entries that can be asked for: two to the 31st.
pub(crate) const ENTRIES_LIMIT: usize = 1 << 31;
/// Most bytes that can be asked for: two to the 62nd, so that sums of weights stay within 64 bits.
pub(crate) const BYTES_LIMIT: u64 = 1 << 62;

/// A shard holds at least this many entries, since smaller ones fill unevenly.
const SHARD_ENTRIES_MIN: usize = 1 << 10;
/// A shard holds at least this many bytes, since no value may be larger than its shard.
const SHARD_BYTES_MIN: u64 = 16 << 20;
/// More shards than threads, so that two threads seldom meet.
const SHARDS_PER_CORE: usize = 8;

/// The bounds of a cache or of one shard. Zero means "not bounded by this".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bounds {
    pub(crate) entries: usize,
    pub(crate) bytes: u64,
}

impl Bounds {
    /// These bounds, if a cache of `shards` shards can have them.
    pub(crate) fn checked(self, shards: usize) -> Result<Self, ConfigError> {
        if self.entries == 0 && self.bytes == 0 {
            let allowed =
                "a bound above 0 here or in `bytes_max`: a cache without any bound would grow for ever";
            return Err(ConfigError::new("entries_max", &0, allowed));
        }
        if self.entries > ENTRIES_LIMIT || (self.entries != 0 && self.entries < shards) {
            let allowed = format!("0 (not bounded by entries) or {shards} to {ENTRIES_LIMIT}");
            return Err(ConfigError::new("entries_max", &self.entries, allowed));
        }
        if self.bytes > BYTES_LIMIT || (self.bytes != 0 && self.bytes < shards as u64) {
            let allowed = format!("0 (not bounded by bytes) or {shards} to {BYTES_LIMIT}");
            return Err(ConfigError::new("bytes_max", &self.bytes, allowed));
        }
        Ok(self)
    }

    /// How many shards these bounds are worth on a machine of `cores`: a power of two.
    pub(crate) fn shards(self, cores: usize) -> usize {
        let by_entries = if self.entries == 0 { usize::MAX } else { self.entries / SHARD_ENTRIES_MIN };
        let by_bytes = if self.bytes == 0 { u64::MAX } else { self.bytes / SHARD_BYTES_MIN };
        let by_bytes = usize::try_from(by_bytes).unwrap_or(usize::MAX);
        let most = by_entries.min(by_bytes).min(cores.saturating_mul(SHARDS_PER_CORE)).max(1);
        1 << most.ilog2()
    }

    /// The bound that so many entries of so much weight together would break.
    #[inline]
    pub(crate) fn pressed(self, entries: usize, bytes: u128) -> Option<Bound> {
        if self.bytes != 0 && bytes > u128::from(self.bytes) {
            return Some(Bound::Bytes);
        }
        let entries_max = if self.entries == 0 { self.bytes } else { self.entries as u64 };
        (entries as u64 > entries_max).then_some(Bound::Entries)
    }

    /// Whether so many entries of so much weight together use half of either bound.
    pub(crate) fn are_half_used(self, entries: usize, bytes: u128) -> bool {
        let of_entries = self.entries != 0 && entries >= self.entries / 2;
        of_entries || (self.bytes != 0 && bytes >= u128::from(self.bytes / 2))
    }

    /// These bounds, or as much more as is held.
    pub(crate) fn or_held(self, entries: usize, bytes: u128) -> Self {
        Self {
            entries: if self.entries == 0 { 0 } else { self.entries.max(entries) },
            bytes: if self.bytes == 0 { 0 } else { self.bytes.max(u64::try_from(bytes).unwrap_or(u64::MAX)) },
        }
    }

    /// Whether an entry of this weight can be held at all.
    pub(crate) const fn admit(self, bytes: u64) -> bool {
        self.bytes == 0 || bytes <= self.bytes
    }

    /// Roughly how many entries fit, for what is sized by that.
    pub(crate) fn entries_expected(self) -> usize {
        const TYPICAL_ENTRY_BYTES: u64 = 1 << 10;
        if self.entries == 0 {
            usize::try_from(self.bytes / TYPICAL_ENTRY_BYTES).unwrap_or(usize::MAX).max(1)
        } else {
            self.entries
        }
    }

    /// The share of one of `shards` shards. The shares add up to the whole.
    pub(crate) fn share(self, shard: usize, shards: usize) -> Self {
        let entries = self.entries / shards + usize::from(shard < self.entries % shards);
        let (shard, shards) = (shard as u64, shards as u64);
        let bytes = self.bytes / shards + u64::from(shard < self.bytes % shards);
        Self { entries, bytes }
    }
}

/// The bounds of a whole cache. None of the caller's code runs while they are locked.
#[derive(Debug)]
pub(crate) struct Overall {
    pub(crate) of_all: Bounds,
    /// How many calls are at evicting what no longer fits. Until they are done, a shard may have more.
    pub(crate) shrinking: usize,
}

/// Which bound is it?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bound {
    Entries,
    Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_table_of_shard_counts() {
        for (entries, bytes, cores, shards) in [
            (1, 0, 2, 1),
            (2_047, 0, 2, 1),
            (10_000, 0, 2, 8),
            (10_000, 0, 1, 8),
            (1_000_000, 0, 3, 16),
            (1_000_000, 0, 64, 512),
            (0, 1, 2, 1),
            (0, 50 << 20, 8, 2),
            (0, 512 << 20, 16, 32),
            (10_000, 50 << 20, 8, 2),
            (ENTRIES_LIMIT, 0, 0, 1),
        ] {
            assert_eq!(
                Bounds { entries, bytes }.shards(cores),
                shards,
                "{entries} entries, {bytes} bytes, {cores} cores"
            );
        }
    }

    #[test]
    fn a_cache_without_any_bound_is_refused() {
        let error = Bounds { entries: 0, bytes: 0 }.checked(1).expect_err("no bound");
        assert_eq!(error.setting, "entries_max");
        assert!(error.to_string().contains("`bytes_max`"), "{error}");
    }

    #[test]
    fn bounds_out_of_range_are_refused_with_the_range() {
        let too_many =
            Bounds { entries: ENTRIES_LIMIT + 1, bytes: 0 }.checked(1).expect_err("too many entries");
        assert_eq!(
            too_many.to_string(),
            "entries_max = 2147483649: allowed is 0 (not bounded by entries) or 1 to 2147483648"
        );
        let too_big = Bounds { entries: 0, bytes: u64::MAX }.checked(1).expect_err("too many bytes");
        assert_eq!(too_big.setting, "bytes_max");
        let too_few = Bounds { entries: 3, bytes: 0 }.checked(8).expect_err("a shard without room");
        assert!(too_few.to_string().ends_with("or 8 to 2147483648"), "{too_few}");
    }

    proptest! {
        #[test]
        fn shares_add_up(entries in 0..=ENTRIES_LIMIT, bytes in 0..=BYTES_LIMIT, power in 0..10_u32) {
            let shards = 1_usize << power;
            let shares = (0..shards).map(|shard| Bounds { entries, bytes }.share(shard, shards));
            let (sum_entries, sum_bytes) =
                shares.fold((0, 0), |(e, b), share| (e + share.entries, b + share.bytes));
            prop_assert_eq!((sum_entries, sum_bytes), (entries, bytes));
        }
    }
}
