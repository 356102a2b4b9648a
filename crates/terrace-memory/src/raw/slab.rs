//! Where do entries live? In slots of fixed places, whose memory is given back only with the whole slab.
//!
//! A slot has a *record* of plain atomics (hash, weight, links, deadline, hits) and the *contents*, key and value. Small
//! entries are padded to a cache line, so that a lookup reads one.
//!
//! 1. A slot is vacant, live or retired. Its contents are initialised if it is live or retired, and are written only
//!    while it is vacant.
//! 2. From live to retired to vacant, contents never change. So a reference to them stays good until the slot is vacant.
//! 3. Only the owner of the slab changes a slot's state: it has `&mut` of it. Retired slots become vacant in
//!    [`Slab::vacate`], which is the one unsafe operation: whoever calls it knows that no reader is left.
//! 4. Slots are numbered. A chunk of memory is aligned to its size, and its first slot, which is never used for an entry,
//!    records the chunk's number: so a slot's number follows from its address, and back again.
//! 5. All slots of a chunk are initialised, vacant, before the chunk is listed.
//!
//! Records are atomics because readers see some of them while the writer changes others; all accesses are relaxed, which
//! costs no more than plain ones. What orders them is the index and the lock.

use super::prefetch;
use crate::deadline::Deadline;
use crate::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, Ordering::Relaxed};
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::UnsafeCell;
use std::mem::{self, MaybeUninit};
use std::ptr::{self, NonNull};

/// The number of a slot.
pub(crate) type Id = u32;
/// No slot.
pub(crate) const NONE: Id = u32::MAX;

/// Most hits that a slot counts.
pub(crate) const HITS_MAX: u8 = 3;

/// A chunk has at least this many bytes, and room for 15 entries.
const CHUNK_BYTES_MIN: usize = if cfg!(any(terrace_loom, terrace_shuttle)) { 1 << 10 } else { 16 << 10 };
/// Most chunks that are asked for at once.
const CHUNKS_AT_ONCE_MAX: usize = 64;
const LINE: usize = 64;
/// Padding a slot to whole lines may cost less than this.
const PADDING_MAX: usize = 24;

/// Key and value of an entry. The key comes first: every look at the slot compares it, and reads no more of a large value
/// than it needs.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Contents<K, V> {
    pub(crate) key: K,
    pub(crate) value: V,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum State {
    Vacant = 0,
    Live = 1,
    Retired = 2,
}

/// The part of a slot's tag byte that is the state; the rest is the policy's.
const STATE_MASK: u8 = 3;

/// One entry's place.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Slot<K, V> {
    hash: AtomicU32,
    weight: AtomicU32,
    previous: AtomicU32,
    next: AtomicU32,
    deadline_low: AtomicU32,
    deadline_high: AtomicU16,
    hits: AtomicU8,
    tag: AtomicU8,
    contents: UnsafeCell<MaybeUninit<Contents<K, V>>>,
}

/// A slot with its number.
pub(crate) struct Node<'a, K, V> {
    pub(crate) id: Id,
    pub(crate) slot: &'a Slot<K, V>,
}

impl<K, V> Clone for Node<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Node<'_, K, V> {}

/// What a new entry's slot is to record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) hash: u32,
    pub(crate) weight: u32,
    pub(crate) deadline: Deadline,
}

impl<K, V> Slot<K, V> {
    const fn state(tag: u8) -> u8 {
        tag & STATE_MASK
    }

    #[inline]
    pub(crate) fn hash(&self) -> u32 {
        self.hash.load(Relaxed)
    }

    #[inline]
    pub(crate) fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    #[inline]
    pub(crate) fn previous(&self) -> Id {
        self.previous.load(Relaxed)
    }

    #[inline]
    pub(crate) fn next(&self) -> Id {
        self.next.load(Relaxed)
    }

    /// Links a live slot.
    #[inline]
    pub(crate) fn set_previous(&self, id: Id) {
        debug_assert!(self.is_live());
        self.previous.store(id, Relaxed);
    }

    /// Links a live slot. The links of others are this folder's.
    #[inline]
    pub(crate) fn set_next(&self, id: Id) {
        assert!(self.is_live(), "only entries are linked");
        self.next.store(id, Relaxed);
    }

    /// Links a retired or vacant slot to the next.
    #[inline]
    pub(super) fn chain(&self, id: Id) {
        self.next.store(id, Relaxed);
    }

    #[inline]
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::from_parts(self.deadline_low.load(Relaxed), self.deadline_high.load(Relaxed))
    }

    /// How often the entry was hit lately, at most [`HITS_MAX`].
    #[inline]
    pub(crate) fn hits(&self) -> u8 {
        self.hits.load(Relaxed)
    }

    #[inline]
    pub(crate) fn set_hits(&self, hits: u8) {
        self.hits.store(hits, Relaxed);
    }

    /// Counts a hit. Hits at the same time may count as one. An entry that has all it can have is not written to.
    #[inline]
    pub(crate) fn hit(&self) {
        let hits = self.hits.load(Relaxed);
        if hits < HITS_MAX {
            self.hits.store(hits + 1, Relaxed);
        }
    }

    /// What the policy noted in [`Slot::set_mark`]; 0 for a new entry.
    #[inline]
    pub(crate) fn mark(&self) -> u8 {
        self.tag.load(Relaxed) >> STATE_MASK.count_ones()
    }

    /// Notes a number up to 63.
    #[inline]
    pub(crate) fn set_mark(&self, mark: u8) {
        let state = Self::state(self.tag.load(Relaxed));
        self.tag.store(mark << STATE_MASK.count_ones() | state, Relaxed);
    }

    /// Whether the slot has an entry that was not taken out.
    #[inline]
    pub(crate) fn is_live(&self) -> bool {
        Self::state(self.tag.load(Relaxed)) == State::Live as u8
    }

    #[inline]
    pub(super) fn is_vacant(&self) -> bool {
        Self::state(self.tag.load(Relaxed)) == State::Vacant as u8
    }

    #[inline]
    fn set_state(&self, state: State) {
        let mark = self.tag.load(Relaxed) & !STATE_MASK;
        self.tag.store(mark | state as u8, Relaxed);
    }

    pub(super) const fn contents(&self) -> *const Contents<K, V> {
        self.contents.get().cast_const().cast()
    }

    fn vacant() -> Self {
        Self {
            hash: AtomicU32::new(0),
            weight: AtomicU32::new(0),
            previous: AtomicU32::new(NONE),
            next: AtomicU32::new(NONE),
            deadline_low: AtomicU32::new(0),
            deadline_high: AtomicU16::new(0),
            hits: AtomicU8::new(0),
            tag: AtomicU8::new(State::Vacant as u8),
            contents: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }
}

/// The slots of one shard.
#[derive(Debug)]
pub(super) struct Slab<K, V> {
    blocks: Vec<(NonNull<u8>, Layout)>,
    chunks: Vec<NonNull<Slot<K, V>>>,
    /// How many chunks of the last block are not listed yet.
    spare: usize,
    /// The first number that was never handed out.
    fresh: Id,
    /// The first vacant slot that was; each points to the next.
    vacant: Id,
    /// How many slots are likely to be needed.
    expected: usize,
}

// SAFETY: the slab owns what its pointers point to: slots with their keys and values, which may go to another thread.
unsafe impl<K: Send, V: Send> Send for Slab<K, V> {}

impl<K, V> Slab<K, V> {
    /// Bytes from one slot to the next: whole cache lines where that costs little.
    const STRIDE: usize = {
        let size = size_of::<Slot<K, V>>();
        let padded = size.next_multiple_of(LINE);
        if padded - size < PADDING_MAX { padded } else { size }
    };
    const CHUNK_BYTES: usize = {
        let needed = (16 * Self::STRIDE).next_power_of_two();
        if needed > CHUNK_BYTES_MIN { needed } else { CHUNK_BYTES_MIN }
    };
    #[expect(clippy::cast_possible_truncation, reason = "asserted before")]
    const PER_CHUNK: u32 = {
        assert!(align_of::<Slot<K, V>>() <= LINE, "keys and values are aligned to 64 bytes at most");
        assert!(Self::STRIDE.is_multiple_of(align_of::<Slot<K, V>>()));
        assert!(Self::CHUNK_BYTES / Self::STRIDE <= u32::MAX as usize);
        (Self::CHUNK_BYTES / Self::STRIDE) as u32
    };
    /// Most chunks: as many as numbers below [`NONE`] allow.
    const CHUNKS_MAX: usize = (NONE / Self::PER_CHUNK) as usize;

    pub(super) const fn new(expected: usize) -> Self {
        Self { blocks: Vec::new(), chunks: Vec::new(), spare: 0, fresh: 0, vacant: NONE, expected }
    }

    /// One past the highest number in use.
    pub(super) const fn end(&self) -> Id {
        self.fresh
    }

    /// Where a slot is. Panics if there is none of this number.
    #[inline]
    pub(super) fn address(&self, id: Id) -> *mut Slot<K, V> {
        let chunk = self.chunks[(id / Self::PER_CHUNK) as usize];
        Self::within(chunk, id % Self::PER_CHUNK)
    }

    #[inline]
    const fn within(chunk: NonNull<Slot<K, V>>, index: u32) -> *mut Slot<K, V> {
        chunk.as_ptr().wrapping_byte_add(index as usize * Self::STRIDE)
    }

    /// A slot.
    #[inline]
    pub(super) fn slot(&self, id: Id) -> &Slot<K, V> {
        // SAFETY: `address` gives only slots of listed chunks, which are initialised (5). Their memory stays while the slab
        // does, and all changes go through atomics or the cell.
        unsafe { &*self.address(id) }
    }

    /// Whether a number may be an entry's.
    pub(super) const fn has(&self, id: Id) -> bool {
        id < self.fresh
    }

    /// The number of a slot of this slab, by its address.
    #[inline]
    pub(super) fn id_of(&self, slot: *mut Slot<K, V>) -> Id {
        let head = slot.map_addr(|address| address & !(Self::CHUNK_BYTES - 1));
        let offset = slot.addr() - head.addr();
        // SAFETY: addresses of slots come from `address`, which derives them from their chunk's, and chunks are aligned to their
        // size: this is the chunk's first slot, which is initialised (5).
        let number = unsafe { (*head).hash() };
        #[expect(clippy::cast_possible_truncation, reason = "a chunk has fewer slots")]
        let id = number * Self::PER_CHUNK + (offset / Self::STRIDE) as u32;
        debug_assert!(ptr::eq(self.address(id), slot), "a slot of this slab");
        id
    }

    /// A live slot with these contents. `None`, and the contents back, if there are too many.
    pub(super) fn fill(&mut self, record: Record, contents: Contents<K, V>) -> Result<Id, Contents<K, V>> {
        let Some(id) = self.next_vacant() else { return Err(contents) };
        let slot = self.slot(id);
        slot.hash.store(record.hash, Relaxed);
        slot.weight.store(record.weight, Relaxed);
        let (low, high) = record.deadline.to_parts();
        slot.deadline_low.store(low, Relaxed);
        slot.deadline_high.store(high, Relaxed);
        slot.hits.store(0, Relaxed);
        assert!(slot.is_vacant(), "slot {id} is vacant");
        // SAFETY: the slot is vacant, so nobody refers to its contents, and they are not initialised (1).
        unsafe { slot.contents.get().write(MaybeUninit::new(contents)) };
        slot.tag.store(State::Live as u8, Relaxed);
        Ok(id)
    }

    /// Marks a live slot as taken out. Its contents stay.
    pub(super) fn retire(&mut self, id: Id) {
        let slot = self.slot(id);
        assert!(slot.is_live(), "slot {id} is taken out once");
        slot.set_state(State::Retired);
    }

    /// Takes the contents of a retired slot, which is vacant then.
    ///
    /// # Safety
    /// Nobody refers to the contents, or can come to do so: a grace period has passed since the slot was retired and
    /// taken out of the index.
    pub(super) unsafe fn vacate(&mut self, id: Id) -> Contents<K, V> {
        let before = self.vacant;
        let slot = self.slot(id);
        assert_eq!(Self::state_of(slot), State::Retired as u8, "slot {id} was retired");
        slot.tag.store(State::Vacant as u8, Relaxed);
        slot.chain(before);
        // SAFETY: a retired slot's contents are initialised (1), the caller knows that nobody refers to them, and from
        // here on the slot is vacant, so they are taken once.
        let contents = unsafe { slot.contents.get().read().assume_init() };
        self.vacant = id;
        contents
    }

    /// Begins to fetch what dropping a retired slot's value will need, and the slot retired after it. Nobody may see the slot any
    /// more, else this would race with what its readers do to the value.
    pub(super) fn prefetch_drop(&self, id: Id) {
        let slot = self.slot(id);
        assert_eq!(Self::state_of(slot), State::Retired as u8, "slot {id} was retired");
        // SAFETY: a retired slot's contents are initialised (1).
        unsafe { prefetch::pointee(&raw const (*slot.contents()).value) };
        if slot.next() != NONE {
            prefetch::line(self.address(slot.next()));
        }
    }

    fn state_of(slot: &Slot<K, V>) -> u8 {
        Slot::<K, V>::state(slot.tag.load(Relaxed))
    }

    /// The number of a slot that is vacant.
    fn next_vacant(&mut self) -> Option<Id> {
        if self.vacant != NONE {
            let id = self.vacant;
            self.vacant = self.slot(id).next();
            return Some(id);
        }
        if self.fresh.is_multiple_of(Self::PER_CHUNK) {
            if self.chunks.len() == Self::CHUNKS_MAX {
                return None;
            }
            self.add_chunk();
            self.fresh += 1;
        }
        self.fresh += 1;
        Some(self.fresh - 1)
    }

    /// Lists one more chunk.
    #[cold]
    fn add_chunk(&mut self) {
        if self.spare == 0 {
            self.add_block();
        }
        let (block, layout) = *self.blocks.last().expect("a block was just added");
        let offset = layout.size() - self.spare * Self::CHUNK_BYTES;
        // SAFETY: as many chunks are left at the block's end.
        let chunk = unsafe { block.add(offset) }.cast::<Slot<K, V>>();
        for index in 0..Self::PER_CHUNK {
            // SAFETY: that many slots fit into the chunk, which nobody else knows yet.
            unsafe { Self::within(chunk, index).write(Slot::vacant()) };
        }
        let number = u32::try_from(self.chunks.len()).expect("there are at most CHUNKS_MAX");
        // SAFETY: just written.
        unsafe { chunk.as_ref() }.hash.store(number, Relaxed);
        self.spare -= 1;
        self.chunks.push(chunk);
    }

    /// Takes memory for some more chunks: a sixteenth of what there is, but not more than is expected to be needed.
    fn add_block(&mut self) {
        let have = self.chunks.len();
        let expected = self.expected.div_ceil(Self::PER_CHUNK as usize - 1).saturating_sub(have).max(1);
        self.spare = (have / 16).clamp(1, CHUNKS_AT_ONCE_MAX).min(expected);
        let layout = Layout::from_size_align(self.spare * Self::CHUNK_BYTES, Self::CHUNK_BYTES)
            .expect("a few chunks fit into the address space");
        self.blocks.reserve(1);
        // SAFETY: the layout's size is not zero.
        let Some(block) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        self.blocks.push((block, layout));
    }
}

impl<K, V> Drop for Slab<K, V> {
    /// Drops all contents, then gives the memory back. If a destructor panics, the memory is given back all the same, and the
    /// contents that were left are forgotten. Nobody refers to a slot any more: who does borrows what owns the slab.
    fn drop(&mut self) {
        struct Memory<'a>(&'a mut Vec<(NonNull<u8>, Layout)>);
        impl Drop for Memory<'_> {
            fn drop(&mut self) {
                for (block, layout) in self.0.drain(..) {
                    // SAFETY: `add_block` has allocated it with this layout, and nothing refers to it (see above).
                    unsafe { dealloc(block.as_ptr(), layout) };
                }
            }
        }
        let mut blocks = mem::take(&mut self.blocks);
        let _memory = Memory(&mut blocks);
        if !mem::needs_drop::<Contents<K, V>>() {
            return;
        }
        for id in 0..self.fresh {
            let slot = self.slot(id);
            if !slot.is_vacant() {
                slot.tag.store(State::Vacant as u8, Relaxed);
                // SAFETY: contents of a live or retired slot are initialised (1), and dropped once: it is vacant now.
                unsafe { ptr::drop_in_place(slot.contents.get().cast::<Contents<K, V>>()) };
            }
        }
    }
}
