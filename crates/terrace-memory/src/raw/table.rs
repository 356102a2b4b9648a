//! Where is the entry of this hash? An index that is read without locks.
//!
//! A bucket is one cache line: seven pointers, and a word with one byte of hash (a *tag*) for each of them and a count of
//! entries that found the bucket full and went on to the next. A lookup reads the word, compares seven tags at
//! once, and follows the pointers of those that match: one line for the bucket and one for the entry.
//!
//! 1. One writer at a time; any number of readers, at any time.
//! 2. An entry never moves within a table. Overwriting stores another pointer in its place: a reader finds the old entry or
//!    the new one, never neither.
//! 3. A pointer is stored before its tag, and a tag cleared before its pointer. A reader may find a tag with no pointer or
//!    with another entry's: it compares the key, and goes on.
//! 4. The counts of all buckets that an entry passed over are raised before its tag is stored. So a reader that finds a
//!    count of zero, and has not found its key, need not look further.
//! 5. A count that has reached 255 stays there: it then only costs lookups of absent keys one more bucket. A new table
//!    counts anew.
//!
//! Nothing here follows a pointer, so nothing here can be unsound: what is stored comes back, that is all.

use crate::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::ptr;

/// Pointers in a bucket.
const SLOTS: usize = 7;
/// Fill the table to this many entries per ten buckets: four fifths of its places.
const PER_TEN_BUCKETS: usize = 56;
/// Where the count begins in a bucket's word.
const COUNT_SHIFT: u32 = 56;
const COUNT_MAX: u64 = 255;
/// The highest bit of each tag.
const HIGH_BITS: u64 = 0x0080_8080_8080_8080;
const LOW_BITS: u64 = 0x0101_0101_0101_0101;

#[repr(C, align(64))]
#[derive(Debug)]
struct Bucket<T> {
    /// Bytes 0 to 6: tags, 0 for an empty place. Byte 7: how many entries went past.
    word: AtomicU64,
    places: [AtomicPtr<T>; SLOTS],
}

/// The index of one shard.
#[derive(Debug)]
pub(super) struct Table<T> {
    buckets: Box<[Bucket<T>]>,
}

/// Where an entry is in its table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    bucket: usize,
    index: usize,
}

/// The places of a bucket whose tag is a given one. A place above one that really has it may be among them wrongly.
#[derive(Clone, Copy)]
struct Matches(u64);

impl Matches {
    #[inline]
    const fn of(word: u64, tag: u8) -> Self {
        let differing = word ^ LOW_BITS.wrapping_mul(tag as u64);
        Self(differing.wrapping_sub(LOW_BITS) & !differing & HIGH_BITS)
    }
}

impl Iterator for Matches {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let lowest = self.0;
        self.0 &= lowest.wrapping_sub(1);
        (lowest != 0).then(|| (lowest.trailing_zeros() / 8) as usize)
    }
}

/// The tag of a hash: its lowest byte, which says nothing of its bucket, and never 0.
#[inline]
fn tag_of(hash: u32) -> u8 {
    (hash as u8).max(1)
}

const fn count_of(word: u64) -> u64 {
    word >> COUNT_SHIFT
}

impl<T> Bucket<T> {
    fn new() -> Self {
        Self { word: AtomicU64::new(0), places: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())) }
    }
}

impl<T> Table<T> {
    /// An empty table of this many buckets.
    pub(super) fn with_buckets(buckets: usize) -> Self {
        Self { buckets: (0..buckets.max(1)).map(|_| Bucket::new()).collect() }
    }

    /// How many buckets hold this many entries.
    pub(super) const fn buckets_for(entries: usize) -> usize {
        entries.div_ceil(PER_TEN_BUCKETS).saturating_mul(10)
    }

    pub(super) fn buckets(&self) -> usize {
        self.buckets.len()
    }

    /// How many entries it may have before lookups get slow.
    pub(super) fn capacity(&self) -> usize {
        if self.buckets.len() == 1 { SLOTS } else { self.buckets.len() * PER_TEN_BUCKETS / 10 }
    }

    #[inline]
    fn home(&self, hash: u32) -> usize {
        (u64::from(hash).wrapping_mul(self.buckets.len() as u64) >> 32) as usize
    }

    #[inline]
    fn after(&self, bucket: usize) -> usize {
        let next = bucket.wrapping_add(1);
        if next == self.buckets.len() { 0 } else { next }
    }

    /// Shows pointers of entries that may have this hash, until one `is_it`. For readers and writers.
    #[inline(always)]
    pub(super) fn search(
        &self,
        hash: u32,
        mut is_it: impl FnMut(*mut T) -> bool,
    ) -> Option<(Place, *mut T)> {
        let tag = tag_of(hash);
        let home = self.home(hash);
        let mut at = home;
        loop {
            let bucket = &self.buckets[at];
            let word = bucket.word.load(Ordering::Acquire);
            for index in Matches::of(word, tag) {
                let found = bucket.places[index].load(Ordering::Acquire);
                if !found.is_null() && is_it(found) {
                    return Some((Place { bucket: at, index }, found));
                }
            }
            if count_of(word) == 0 {
                return None;
            }
            at = self.after(at);
            if at == home {
                return None;
            }
        }
    }

    /// The line that a lookup of this hash reads first.
    #[inline]
    pub(super) fn first_line(&self, hash: u32) -> *const () {
        ptr::from_ref(&self.buckets[self.home(hash)]).cast()
    }

    /// Where a pointer is. For the writer.
    pub(super) fn place_of(&self, hash: u32, pointer: *mut T) -> Option<Place> {
        self.search(hash, |found| found == pointer).map(|(place, _)| place)
    }

    /// What is in a place. For the writer.
    #[inline]
    pub(super) fn at(&self, place: Place) -> *mut T {
        self.buckets[place.bucket].places[place.index].load(Ordering::Relaxed)
    }

    /// Adds a pointer. For the writer; there must be an empty place.
    pub(super) fn add(&self, hash: u32, pointer: *mut T) {
        let mut at = self.home(hash);
        loop {
            let bucket = &self.buckets[at];
            let word = bucket.word.load(Ordering::Relaxed);
            if let Some(index) = Matches::of(word, 0).next().filter(|index| *index < SLOTS) {
                bucket.places[index].store(pointer, Ordering::Release);
                let tag = u64::from(tag_of(hash)) << (8 * index);
                bucket.word.store(word | tag, Ordering::Release);
                return;
            }
            if count_of(word) < COUNT_MAX {
                bucket.word.store(word + (1 << COUNT_SHIFT), Ordering::Release);
            }
            at = self.after(at);
        }
    }

    /// Stores another pointer, of the same hash, in a place. For the writer.
    pub(super) fn replace(&self, place: Place, pointer: *mut T) {
        self.buckets[place.bucket].places[place.index].store(pointer, Ordering::Release);
    }

    /// Shows every pointer. For the writer.
    pub(super) fn each(&self, mut see: impl FnMut(*mut T)) {
        let places = self.buckets.iter().flat_map(|bucket| &bucket.places);
        places.map(|place| place.load(Ordering::Relaxed)).filter(|found| !found.is_null()).for_each(&mut see);
    }

    /// Empties a place. For the writer.
    pub(super) fn remove(&self, hash: u32, place: Place) {
        let bucket = &self.buckets[place.bucket];
        let word = bucket.word.load(Ordering::Relaxed);
        bucket.word.store(word & !(0xff << (8 * place.index)), Ordering::Release);
        bucket.places[place.index].store(ptr::null_mut(), Ordering::Release);
        let mut at = self.home(hash);
        while at != place.bucket {
            let word = self.buckets[at].word.load(Ordering::Relaxed);
            if count_of(word) < COUNT_MAX {
                self.buckets[at].word.store(word - (1 << COUNT_SHIFT), Ordering::Release);
            }
            at = self.after(at);
        }
    }
}
