//! Who was evicted lately? Fingerprints of keys, without keys.
//!
//! A hash has a bucket, and there the newest fingerprint pushes the oldest out: two bytes per key remembered, and no
//! pointers. With 16 bits a stranger is taken for an old acquaintance once in some ten thousand times, which costs it a
//! place in the other queue, nothing else.
//!
//! There is a bucket for every two entries held, and how many fingerprints it keeps is a dial. So a change of the dial
//! keeps what is remembered.

/// Remembered fingerprints of one shard.
#[derive(Debug)]
pub(super) struct Ghost {
    prints: Vec<u16>,
    ways: usize,
    buckets: usize,
}

/// An empty place.
const NOBODY: u16 = 0;

impl Ghost {
    pub(super) const fn new(ways: u8) -> Self {
        Self { prints: Vec::new(), ways: ways as usize, buckets: 0 }
    }

    /// Remembers a hash, in a cache that holds so many entries.
    #[inline]
    pub(super) fn remember(&mut self, hash: u32, entries: usize) {
        self.fit(entries);
        let bucket = self.bucket(hash);
        let last = bucket.len() - 1;
        bucket.copy_within(..last, 1);
        bucket[0] = print_of(hash);
    }

    /// Whether a hash is remembered. It is forgotten then.
    #[inline]
    pub(super) fn recall(&mut self, hash: u32) -> bool {
        if self.prints.is_empty() {
            return false;
        }
        let bucket = self.bucket(hash);
        let Some(at) = bucket.iter().position(|print| *print == print_of(hash)) else { return false };
        bucket.copy_within(at + 1.., at);
        bucket[bucket.len() - 1] = NOBODY;
        true
    }

    /// Changes how many fingerprints a bucket keeps.
    pub(super) fn set_ways(&mut self, ways: u8) {
        let ways = usize::from(ways);
        if ways == self.ways {
            return;
        }
        if !self.prints.is_empty() {
            let mut prints = vec![NOBODY; self.buckets * ways];
            let kept = ways.min(self.ways);
            for (new, old) in prints.chunks_exact_mut(ways).zip(self.prints.chunks_exact(self.ways)) {
                new[..kept].copy_from_slice(&old[..kept]);
            }
            self.prints = prints;
        }
        self.ways = ways;
    }

    /// Adapts to another number of entries, if it is another by far; then everything is forgotten.
    fn fit(&mut self, entries: usize) {
        let buckets = entries.div_ceil(2).max(1);
        if buckets > self.buckets * 2 || buckets < self.buckets / 4 {
            self.buckets = buckets;
            self.prints = vec![NOBODY; buckets * self.ways];
        }
    }

    fn bucket(&mut self, hash: u32) -> &mut [u16] {
        let bucket = ((u64::from(hash) * self.buckets as u64) >> 32) as usize;
        &mut self.prints[bucket * self.ways..][..self.ways]
    }
}

/// The lower half of a hash; the bucket follows from the upper half.
fn print_of(hash: u32) -> u16 {
    let [first, second, ..] = hash.to_le_bytes();
    u16::from_le_bytes([first, second]).max(NOBODY + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash;
    use std::hash::BuildHasher;

    /// Hashes of the first bucket.
    fn neighbours(count: u32) -> impl Iterator<Item = u32> {
        1..=count
    }

    #[test]
    fn the_oldest_of_a_bucket_is_forgotten_first() {
        let mut ghost = Ghost::new(4);
        neighbours(6).for_each(|hash| ghost.remember(hash, 1_000));
        let recalled: Vec<bool> = neighbours(6).map(|hash| ghost.recall(hash)).collect();
        assert_eq!(recalled, [false, false, true, true, true, true]);
        assert!(!neighbours(6).any(|hash| ghost.recall(hash)), "what was recalled is forgotten");
    }

    #[test]
    fn changing_the_length_keeps_the_newest() {
        let mut ghost = Ghost::new(2);
        neighbours(2).for_each(|hash| ghost.remember(hash, 1_000));
        ghost.set_ways(8);
        assert!(neighbours(2).all(|hash| ghost.recall(hash)));
        neighbours(8).for_each(|hash| ghost.remember(hash, 1_000));
        ghost.set_ways(2);
        let recalled: Vec<u32> = neighbours(8).filter(|hash| ghost.recall(*hash)).collect();
        assert_eq!(recalled, [7, 8]);
    }

    #[test]
    fn strangers_are_seldom_taken_for_acquaintances() {
        let mut ghost = Ghost::new(4);
        let hash = |key: u32| hash::lower(foldhash::fast::FixedState::default().hash_one(key));
        (0..20_000).for_each(|key| ghost.remember(hash(key), 10_000));
        let mistaken = (20_000..120_000).filter(|key| ghost.recall(hash(*key))).count();
        assert!(mistaken < 20, "{mistaken} of 100,000");
    }
}
