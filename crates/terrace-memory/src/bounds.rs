//! How much may be kept, and what an entry costs of it.
//!
//! 1. Both bounds hold at once, in every shard and so in the whole: the shares of the shards add up to the bound.
//! 2. The default policy knows one weight only. With both bounds set an entry costs the larger of its part of the
//!    entries and its part of the bytes, so that the costs fit only if both bounds hold. The price: a cache that
//!    mixes very light and very heavy entries may be full at half of either bound, never below.
//! 3. No sum of costs can overflow: a cost is at most 2^62, and at most one cost is added to a full shard.
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
const SHARDS_PER_CORE: usize = 4;

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

    /// The share of one of `shards` shards. The shares add up to the whole.
    pub(crate) fn share(self, shard: usize, shards: usize) -> Self {
        let entries = self.entries / shards + usize::from(shard < self.entries % shards);
        let (shard, shards) = (shard as u64, shards as u64);
        let bytes = self.bytes / shards + u64::from(shard < self.bytes % shards);
        Self { entries, bytes }
    }
}

/// What an entry costs of a shard's capacity, for a policy that knows one weight only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pricing {
    bounds: Bounds,
    /// The least that an entry costs.
    unit: u64,
    /// Bytes are scaled by two to this, so that rounding the unit up loses nothing noticeable.
    shift: u32,
    capacity: u64,
}

impl Pricing {
    /// Extra bits of precision of a cost; 16 bits keep the rounding of the unit below a hundredth of a percent.
    const SHIFT_MAX: u32 = 16;

    pub(crate) fn new(bounds: Bounds) -> Self {
        let Bounds { entries, bytes } = bounds;
        let (unit, shift, capacity) = match (entries, bytes) {
            (entries, 0) => (1, 0, entries as u64),
            (0, bytes) => (1, 0, bytes),
            (entries, bytes) => {
                let shift = (bytes.leading_zeros() - 1).min(Self::SHIFT_MAX);
                let shift = if bytes << shift > BYTES_LIMIT { shift - 1 } else { shift };
                let capacity = bytes << shift;
                (capacity.div_ceil(entries as u64), shift, capacity)
            }
        };
        Self { bounds, unit, shift, capacity }
    }

    /// What the entries of a shard may cost together.
    pub(crate) const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The least that an entry can cost.
    pub(crate) const fn unit(&self) -> u64 {
        self.unit
    }

    /// The cost of an entry that weighs `bytes`; `u64::MAX` if it can never fit.
    #[inline]
    pub(crate) fn cost(&self, bytes: u64) -> u64 {
        if self.bounds.bytes == 0 {
            self.unit
        } else if bytes > self.bounds.bytes {
            u64::MAX
        } else {
            (bytes << self.shift).max(self.unit)
        }
    }

    /// Roughly how many entries fit: what a policy should remember about evicted ones.
    pub(crate) fn entries_expected(&self) -> usize {
        const TYPICAL_ENTRY_BYTES: u64 = 1 << 10;
        if self.bounds.entries == 0 {
            usize::try_from(self.bounds.bytes / TYPICAL_ENTRY_BYTES).unwrap_or(usize::MAX).max(1)
        } else {
            self.bounds.entries
        }
    }

    /// Whether entries cost the same under `other`, so that only the capacity differs.
    pub(crate) fn costs_as(&self, other: &Self) -> bool {
        let kind = |pricing: &Self| (pricing.bounds.entries == 0, pricing.bounds.bytes == 0);
        let mixed = self.bounds.entries != 0 && self.bounds.bytes != 0;
        kind(self) == kind(other) && !mixed
    }
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
            (10_000, 0, 1, 4),
            (1_000_000, 0, 3, 8),
            (1_000_000, 0, 64, 256),
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

        #[test]
        fn costs_that_fit_keep_both_bounds(
            entries in 1..2_000_usize,
            bytes in prop_oneof![1..64_u64, 1..=BYTES_LIMIT],
            weights in prop_oneof![Just(vec![0]), prop::collection::vec(any::<u64>(), 1..50)],
        ) {
            let pricing = Pricing::new(Bounds { entries, bytes });
            prop_assert!(pricing.capacity() <= BYTES_LIMIT);
            let (mut cost, mut count, mut weight) = (0_u64, 0_usize, 0_u64);
            for one in weights.iter().cycle().take(3_000).map(|w| w % bytes.saturating_mul(2)) {
                let price = pricing.cost(one);
                prop_assert_eq!(price == u64::MAX, one > bytes);
                if price <= pricing.capacity() - cost {
                    cost += price;
                    count += 1;
                    weight += one;
                }
            }
            prop_assert!(count <= entries && weight <= bytes);
        }

        #[test]
        fn light_entries_fill_the_entries_bound(entries in 1..100_000_usize, each in 1_000..1_000_000_u64) {
            let pricing = Pricing::new(Bounds { entries, bytes: each * entries as u64 });
            let fit = pricing.capacity() / pricing.cost(each / 2);
            prop_assert!(fit * 10_000 >= entries as u64 * 9_998, "{} of {}", fit, entries);
        }
    }
}
