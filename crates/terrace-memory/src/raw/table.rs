//! Where is the entry of this hash? An index that is read without locks.
//!
//! A bucket is one cache line: seven pointers, and a word with one byte of hash (a *tag*) for each of them and two counts of
//! entries that found the bucket full and went on. A lookup reads the word, compares seven tags at once, and follows the
//! pointers of those that match: one line for the bucket and one for the entry.
//!
//! An entry that goes on takes strides of 1, 2, 4 … 128 buckets, by its hash, so that those of one crowded bucket spread. It is
//! counted in one of the two counts, by its hash again, so that only every other stranger follows it. At seven tenths
//! full, the search for a key that is not there looks at 1.6 buckets, against 3.4 with one count and strides of one.
//!
//! 1. One writer at a time; any number of readers, at any time.
//! 2. An entry never moves within a table. Overwriting stores another pointer in its place: a reader finds the old entry or
//!    the new one, never neither.
//! 3. A pointer is stored before its tag, and a tag cleared before its pointer. A reader may find a tag with no pointer or
//!    with another entry's: it compares the key, and goes on.
//! 4. The counts of all buckets that an entry passed over are raised before its tag is stored. So a reader that finds its
//!    count zero, and has not found its key, need not look further.
//! 5. A count that has reached 15 stays there: it then only costs lookups of absent keys one more bucket. A new table
//!    counts anew.
//! 6. The number of buckets is odd, so strides that are powers of two meet every bucket.
//!
//! Nothing here follows a pointer, so nothing here can be unsound: what is stored comes back, that is all.

use crate::sync::Lifetime;
use crate::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::ptr;

/// Pointers in a bucket.
const SLOTS: usize = 7;
/// Fill the table to this many entries per ten buckets: seven tenths of its places.
const PER_TEN_BUCKETS: usize = 49;
/// Where the counts begin in a bucket's word, of four bits each.
const COUNTS_SHIFT: u32 = 56;
const COUNT_BITS: u32 = 4;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
/// The highest bit of each tag.
const HIGH_BITS: u64 = 0x0080_8080_8080_8080;
const LOW_BITS: u64 = 0x0101_0101_0101_0101;

#[repr(C, align(64))]
#[derive(Debug)]
struct Bucket<T> {
    /// Bytes 0 to 6: tags, 0 for an empty place. Byte 7: how many entries went on, in two counts.
    word: AtomicU64,
    places: [AtomicPtr<T>; SLOTS],
}

/// The index of one shard.
#[derive(Debug)]
pub(super) struct Table<T> {
    buckets: Box<[Bucket<T>]>,
    lifetime: Lifetime,
}

/// Where an entry is in its table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    bucket: usize,
    index: usize,
}

/// The places of a bucket whose tag is a given one. A place above one that really has it may be among them wrongly.
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
    hash.to_le_bytes()[0].max(1)
}

/// How the entries of a hash go on from a full bucket.
#[derive(Clone, Copy)]
struct Path {
    stride: usize,
    /// Where their count is in the word.
    shift: u32,
}

impl Path {
    #[inline]
    const fn of(hash: u32) -> Self {
        let stride = 1 << (hash >> 9 & 7);
        Self { stride, shift: COUNTS_SHIFT + (hash >> 8 & 1) * COUNT_BITS }
    }

    /// How many of them went on.
    #[inline]
    const fn count(self, word: u64) -> u64 {
        word >> self.shift & COUNT_MAX
    }

    /// The word when one more has gone on.
    const fn raise(self, word: u64) -> u64 {
        if self.count(word) < COUNT_MAX { word + (1 << self.shift) } else { word }
    }

    /// The word when one of them has left.
    const fn lower(self, word: u64) -> u64 {
        if self.count(word) < COUNT_MAX { word - (1 << self.shift) } else { word }
    }
}

impl<T> Bucket<T> {
    fn new() -> Self {
        Self { word: AtomicU64::new(0), places: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())) }
    }
}

impl<T> Table<T> {
    /// An empty table of this many buckets, or one more.
    pub(super) fn with_buckets(buckets: usize) -> Self {
        let buckets = (0..buckets | 1).map(|_| Bucket::new()).collect();
        Self { buckets, lifetime: Lifetime::new() }
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
    fn after(&self, bucket: usize, path: Path) -> usize {
        let next = bucket.wrapping_add(path.stride);
        if next < self.buckets.len() { next } else { next % self.buckets.len() }
    }

    /// Shows pointers of entries that may have this hash, until one `is_it`. For readers and writers.
    #[expect(clippy::inline_always, reason = "it is most of a hit, and knows the key's type only there")]
    #[inline(always)]
    pub(super) fn search(&self, hash: u32, mut is_it: impl FnMut(*mut T) -> bool) -> Option<(Place, *mut T)> {
        self.lifetime.in_use();
        let home = self.home(hash);
        let bucket = &self.buckets[home];
        let word = bucket.word.load(Ordering::Acquire);
        for index in Matches::of(word, tag_of(hash)) {
            let found = bucket.places[index].load(Ordering::Acquire);
            if !found.is_null() && is_it(found) {
                return Some((Place { bucket: home, index }, found));
            }
        }
        let path = Path::of(hash);
        if path.count(word) == 0 { None } else { self.search_on(hash, home, path, is_it) }
    }

    /// Goes on from a home that was full.
    #[inline(never)]
    fn search_on(
        &self,
        hash: u32,
        home: usize,
        path: Path,
        mut is_it: impl FnMut(*mut T) -> bool,
    ) -> Option<(Place, *mut T)> {
        let mut at = self.after(home, path);
        while at != home {
            let bucket = &self.buckets[at];
            let word = bucket.word.load(Ordering::Acquire);
            for index in Matches::of(word, tag_of(hash)) {
                let found = bucket.places[index].load(Ordering::Acquire);
                if !found.is_null() && is_it(found) {
                    return Some((Place { bucket: at, index }, found));
                }
            }
            if path.count(word) == 0 {
                return None;
            }
            at = self.after(at, path);
        }
        None
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
        let path = Path::of(hash);
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
            bucket.word.store(path.raise(word), Ordering::Release);
            at = self.after(at, path);
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
        let path = Path::of(hash);
        let mut at = self.home(hash);
        while at != place.bucket {
            let word = self.buckets[at].word.load(Ordering::Relaxed);
            self.buckets[at].word.store(path.lower(word), Ordering::Release);
            at = self.after(at, path);
        }
    }
}
