//! Small numbers for the hashes of the keys that any of the simulations knows, so that each access is searched once
//! and not once per simulation.
//!
//! 1. A key has a number as long as somebody holds it: each simulation in which it is resident or a ghost, and the
//!    batch that is being run. The last release takes it back.
//! 2. Numbers never run out: simulations and batch are bounded, and their sum is the maximum here.
//! 3. The index is at most half full, so every search ends at a vacancy. It is searched linearly from the high bits
//!    of the hash; removal closes the gap.
//!
//! Two keys of the same 32 bits are one key.

/// In the index: nobody.
const VACANT: u16 = u16::MAX;

#[derive(Debug)]
pub(super) struct Keys {
    index: Box<[u16]>,
    shift: u32,
    hashes: Box<[u32]>,
    holders: Box<[u8]>,
    free: Vec<u16>,
}

impl Keys {
    /// The most numbers there can be: what a place has bits for.
    pub(super) const MAX: usize = 1 << 13;

    /// Numbers for so many keys.
    pub(super) fn new(keys_max: usize) -> Self {
        let keys_max = keys_max.min(Self::MAX);
        let bits = (2 * keys_max).max(2).next_power_of_two().ilog2();
        Self {
            index: vec![VACANT; 1 << bits].into_boxed_slice(),
            shift: u32::BITS - bits,
            hashes: vec![0; keys_max].into_boxed_slice(),
            holders: vec![0; keys_max].into_boxed_slice(),
            free: (0..).take(keys_max).collect(),
        }
    }

    pub(super) const fn max(&self) -> usize {
        self.hashes.len()
    }

    pub(super) fn hash(&self, key: u16) -> u32 {
        self.hashes[usize::from(key)]
    }

    /// The number of the key, which it keeps until a release more.
    pub(super) fn take(&mut self, hash: u32) -> Option<u16> {
        let at = self.find(hash);
        let known = self.index[at];
        let key = if known == VACANT { self.free.pop()? } else { known };
        self.index[at] = key;
        self.hashes[usize::from(key)] = hash;
        self.hold(key);
        Some(key)
    }

    pub(super) fn hold(&mut self, key: u16) {
        self.holders[usize::from(key)] += 1;
    }

    pub(super) fn release(&mut self, key: u16) {
        let holders = &mut self.holders[usize::from(key)];
        *holders -= 1;
        if *holders == 0 {
            self.clear(self.find(self.hashes[usize::from(key)]));
            self.free.push(key);
        }
    }

    const fn home(&self, hash: u32) -> usize {
        (hash >> self.shift) as usize
    }

    const fn after(&self, at: usize) -> usize {
        (at + 1) & (self.index.len() - 1)
    }

    /// Where the key is in the index, or the vacancy where it would be.
    fn find(&self, hash: u32) -> usize {
        let mut at = self.home(hash);
        while self.index[at] != VACANT && self.hashes[usize::from(self.index[at])] != hash {
            at = self.after(at);
        }
        at
    }

    /// Vacates a place in the index and moves up whoever was pushed past it.
    fn clear(&mut self, at: usize) {
        let mask = self.index.len() - 1;
        let (mut gap, mut next) = (at, self.after(at));
        while self.index[next] != VACANT {
            let home = self.home(self.hashes[usize::from(self.index[next])]);
            if next.wrapping_sub(home) & mask >= next.wrapping_sub(gap) & mask {
                self.index[gap] = self.index[next];
                gap = next;
            }
            next = self.after(next);
        }
        self.index[gap] = VACANT;
    }
}
