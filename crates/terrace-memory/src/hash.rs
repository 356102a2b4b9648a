//! Which bits of a key's hash decide what.
//!
//! | bits | decide |
//! |---|---|
//! | 0–31 | the place in a shard's index, the fingerprint of a ghost, and who the key is in a simulation |
//! | 32 up | the shard |
//! | from 63 down | whether the key is in the sample |

/// The bits that identify a key within its shard.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is asked for")]
pub(crate) const fn lower(hash: u64) -> u32 {
    hash as u32
}

/// The bits that choose the shard.
#[inline]
pub(crate) const fn upper(hash: u64) -> usize {
    (hash >> 32) as usize
}
