//! One shard's entries: read by anyone without a lock, changed by one writer at a time.
//!
//! Here index, slots and reclamation meet, behind an interface that safe code cannot misuse:
//!
//! 1. A pointer in the table is a live slot's, of this shelf's slab, with its contents written. It was stored with release,
//!    and readers load it with acquire.
//! 2. A slot is retired only after it has left the table. It becomes vacant only after a grace period that began later
//!    ([`Domain::ticket`]). So what a reader finds in the table stays readable while its [`Guard`] lives.
//! 3. A table that was replaced is freed likewise.
//! 4. While the writer changes something, none of the caller's code runs: contents are moved, never cloned, compared or
//!    dropped under the lock. (The one exception is the comparison of keys while a writer looks for one, before it
//!    changes anything.) What is to be dropped is dropped after the lock is released.
//!
//! The policy's state is kept beside the slots, under the same lock.

use super::domain::{Domain, Guard, Ticket, domain};
use super::prefetch;
use super::retired::Retired;
use super::slab::{Contents, Id, NONE, Node, Record, Slab, Slot};
use super::table::{Place, Table};
use crate::deadline::Deadline;
use crate::sync::atomic::{AtomicPtr, Ordering};
use crate::sync::{Mutex, MutexGuard};
use smallvec::SmallVec;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::ptr;

/// A batch of retired slots is this part of the entries expected...
const BATCH_PART: usize = 32;
/// ...but not less,
const BATCH_MIN: usize = 8;
/// and not more.
const BATCH_MAX: usize = 256;
/// How many slots a write makes vacant while more than a batch is held back.
const CATCHING_UP: usize = 8;

/// One shard.
#[repr(align(128))]
pub(crate) struct Shelf<K, V, P> {
    table: Link<K, V>,
    inner: Apart<Mutex<Inner<K, V, P>>>,
    /// Readers on any thread share keys and values, and any thread may drop them.
    shares: PhantomData<*const (K, V)>,
}

/// Where a shard's table is.
type Link<K, V> = AtomicPtr<Table<Slot<K, V>>>;

/// On cache lines of its own: readers of the table are not disturbed by writers taking the lock.
#[repr(align(128))]
struct Apart<T>(T);

struct Inner<K, V, P> {
    slab: Slab<K, V>,
    retired: Retired,
    tables: Vec<(Ticket, Link<K, V>)>,
    len: usize,
    /// How many buckets the table has once it is as large as expected.
    buckets_expected: usize,
    policy: P,
}

// SAFETY: a shelf owns its keys, values and policy, and dropping it on another thread drops them there.
unsafe impl<K: Send, V: Send, P: Send> Send for Shelf<K, V, P> {}
// SAFETY: through a shared shelf any thread reads keys and values (`Sync`) and takes over and drops them (`Send`). The policy
// is reached under the lock only (`Send`).
unsafe impl<K: Send + Sync, V: Send + Sync, P: Send> Sync for Shelf<K, V, P> {}

/// An entry that was in the table when the guard's section was open, and can be read until the section ends.
pub(crate) struct Entry<'g, K, V> {
    slot: &'g Slot<K, V>,
}

impl<K, V> Clone for Entry<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Entry<'_, K, V> {}

impl<'g, K, V> Entry<'g, K, V> {
    #[inline]
    fn contents(self) -> &'g Contents<K, V> {
        // SAFETY: an `Entry` is made only of slots that are live, or that this guard's holder has just retired, while the
        // guard is alive. Such a slot's contents are initialised, and stay as they are while the section lasts (2).
        unsafe { &*self.slot.contents() }
    }

    #[inline]
    pub(crate) fn key(self) -> &'g K {
        &self.contents().key
    }

    #[inline]
    pub(crate) fn value(self) -> &'g V {
        &self.contents().value
    }

    #[inline]
    pub(crate) fn deadline(self) -> Deadline {
        self.slot.deadline()
    }

    /// Counts a hit.
    #[inline]
    pub(crate) fn hit(self) {
        self.slot.hit();
    }
}

impl<K, V, P> Shelf<K, V, P> {
    /// An empty shelf for about this many entries. If they are `likely` only, nothing is sized by them that could be too large.
    pub(crate) fn new(likely: usize, is_certain: bool, policy: P) -> Self {
        let expected = if is_certain { likely } else { 0 };
        let buckets_expected = if expected == 0 { 1 } else { Table::<Slot<K, V>>::buckets_for(expected) };
        let mut buckets = buckets_expected;
        while buckets > 16 {
            buckets = buckets.div_ceil(2);
        }
        let batch = (likely / BATCH_PART).clamp(BATCH_MIN, BATCH_MAX);
        let inner = Inner {
            slab: Slab::new(expected + 2 * batch),
            retired: Retired::new(batch),
            tables: Vec::new(),
            len: 0,
            buckets_expected,
            policy,
        };
        Self {
            table: AtomicPtr::new(Box::into_raw(Box::new(Table::with_buckets(buckets)))),
            inner: Apart(Mutex::new(inner)),
            shares: PhantomData,
        }
    }

    /// Finds an entry by hash and key.
    #[expect(clippy::inline_always, reason = "it is most of a hit")]
    #[inline(always)]
    pub(crate) fn find<'g>(
        &'g self,
        hash: u32,
        guard: &'g Guard,
        mut is_it: impl FnMut(&K) -> bool,
    ) -> Option<Entry<'g, K, V>> {
        let (_, slot) = self.table(guard).search(hash, |slot| {
            // SAFETY: a pointer in the table is a live slot's (1). If it is taken out meanwhile, the guard keeps it (2).
            is_it(unsafe { &(*(*slot).contents()).key })
        })?;
        // SAFETY: as above.
        Some(Entry { slot: unsafe { &*slot } })
    }

    /// Begins to fetch what [`Shelf::find`] will read first.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u32, guard: &Guard) {
        prefetch::line(self.table(guard).first_line(hash));
    }

    #[inline]
    fn table<'g>(&'g self, _guard: &'g Guard) -> &'g Table<Slot<K, V>> {
        // SAFETY: the pointer is always a table's. If that is replaced meanwhile, the guard keeps it (3).
        unsafe { &*self.table.load(Ordering::Acquire) }
    }

    /// Takes the lock.
    pub(crate) fn lock(&self) -> Writer<'_, K, V, P> {
        let inner = self.inner.0.lock();
        let after = Aftermath { goes_on: false, turns_due: 0, garbage: SmallVec::new() };
        Writer { inner, table: &self.table, found: Cell::new(None), after }
    }
}

impl<K, V, P> Drop for Shelf<K, V, P> {
    fn drop(&mut self) {
        let mut inner = self.inner.0.lock();
        let old = inner.tables.drain(..).map(|(_, table)| table.load(Ordering::Relaxed));
        for table in old.chain([self.table.load(Ordering::Relaxed)]) {
            // SAFETY: each table came from a `Box` and is in one of the two places. Nobody else has the shelf any more.
            drop(unsafe { Box::from_raw(table) });
        }
    }
}

impl<K, V, P> fmt::Debug for Shelf<K, V, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").finish_non_exhaustive()
    }
}

/// A locked shelf.
pub(crate) struct Writer<'a, K, V, P> {
    /// Released first.
    inner: MutexGuard<'a, Inner<K, V, P>>,
    table: &'a Link<K, V>,
    /// Where the entry is that was found last.
    found: Cell<Option<Place>>,
    after: Aftermath<K, V>,
}

/// A slot that has left the table, and is to be retired.
#[must_use]
pub(crate) struct Replaced {
    id: Id,
    /// Numbers are a shelf's own, addresses are not.
    address: *const (),
}

impl Replaced {
    /// The slot's number.
    pub(crate) const fn id(&self) -> Id {
        self.id
    }
}

/// What [`Writer::replace`] has done.
pub(crate) struct Replacement<'g, K, V> {
    /// The new entry.
    pub(crate) id: Id,
    /// The old entry, to read.
    pub(crate) entry: Entry<'g, K, V>,
    /// The old entry's slot, to retire.
    pub(crate) replaced: Replaced,
}

/// What remains to be done after the lock is released, and at best after the section is closed: it is done when this is
/// dropped.
#[must_use]
pub(crate) struct Aftermath<K, V> {
    goes_on: bool,
    turns_due: usize,
    garbage: SmallVec<[Contents<K, V>; 2]>,
}

impl<K, V> Drop for Aftermath<K, V> {
    fn drop(&mut self) {
        if self.goes_on {
            domain().advance();
        }
        if self.turns_due > 0 {
            domain().give_way(self.turns_due);
        }
    }
}

/// The slots of a locked shelf, to read and to link.
pub(crate) struct Slots<'a, K, V>(&'a Slab<K, V>);

impl<K, V> Clone for Slots<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Slots<'_, K, V> {}

impl<'a, K, V> Slots<'a, K, V> {
    /// A slot that was handed out.
    #[inline]
    pub(crate) fn at(self, id: Id) -> &'a Slot<K, V> {
        self.0.slot(id)
    }

    /// A slot that was handed out, with its number.
    #[inline]
    pub(crate) fn node(self, id: Id) -> Node<'a, K, V> {
        Node { id, slot: self.0.slot(id) }
    }

    /// One past the highest number in use.
    pub(crate) fn end(self) -> Id {
        self.0.end()
    }

    /// Whether a number is a live entry's.
    pub(crate) fn is_live(self, id: Id) -> bool {
        self.0.has(id) && self.0.slot(id).is_live()
    }
}

impl<'a, K, V, P> Writer<'a, K, V, P> {
    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.inner.len
    }

    /// How many slots hold what was taken out and may still be read.
    pub(crate) fn held_back(&self) -> usize {
        self.inner.retired.len()
    }

    /// Releases the lock.
    pub(crate) fn unlock(self) -> Aftermath<K, V> {
        self.after
    }

    pub(crate) fn policy(&self) -> &P {
        &self.inner.policy
    }

    pub(crate) fn slots(&self) -> Slots<'_, K, V> {
        Slots(&self.inner.slab)
    }

    /// The policy's state, and the slots it is about.
    pub(crate) fn parts(&mut self) -> (&mut P, Slots<'_, K, V>) {
        let inner = &mut *self.inner;
        (&mut inner.policy, Slots(&inner.slab))
    }

    /// Finds an entry by hash and key.
    pub(crate) fn find(&self, hash: u32, mut is_it: impl FnMut(&K) -> bool) -> Option<Id> {
        let (place, slot) = self.table().search(hash, |slot| {
            // SAFETY: a pointer in the table is a live slot's (1), and the lock keeps it there.
            let slot = unsafe { &*slot };
            // SAFETY: as above, so its contents are there.
            slot.hash() == hash && is_it(unsafe { &(*slot.contents()).key })
        })?;
        self.found.set(Some(place));
        Some(self.inner.slab.id_of(slot))
    }

    /// Begins to fetch what removing an entry will need, and the entry after it in its list. Its own slot should have come
    /// by now.
    #[inline]
    pub(crate) fn prefetch_removal(&self, id: Id) {
        let slot = self.inner.slab.slot(id);
        prefetch::line(self.table().first_line(slot.hash()));
        if slot.next() != NONE {
            prefetch::line(self.inner.slab.address(slot.next()));
        }
    }

    /// Where a live entry is in the table.
    fn place_of(&self, slot: *mut Slot<K, V>, hash: u32) -> Place {
        let table = self.table();
        let known = self.found.take().filter(|place| ptr::eq(table.at(*place), slot));
        known.or_else(|| table.place_of(hash, slot)).expect("a live entry is in the table")
    }

    #[inline]
    fn table(&self) -> &Table<Slot<K, V>> {
        // SAFETY: the pointer is always a table's, and only a writer replaces it.
        unsafe { &*self.table.load(Ordering::Relaxed) }
    }

    /// A live entry, to read until the guard's section ends.
    pub(crate) fn entry<'g>(&self, id: Id, _guard: &'g Guard) -> Entry<'g, K, V>
    where
        'a: 'g,
    {
        let slot = self.inner.slab.address(id);
        // SAFETY: the slot was handed out (`address` checks), and its memory stays while the shelf does, that is for `'a`.
        let slot: &'g Slot<K, V> = unsafe { &*slot };
        assert!(slot.is_live(), "slot {id} has an entry");
        Entry { slot }
    }

    /// Adds an entry whose key is not there. Gives the contents back if there are too many.
    pub(crate) fn insert(&mut self, record: Record, contents: Contents<K, V>) -> Result<Id, Contents<K, V>> {
        self.reclaim_for_one();
        if self.inner.len >= self.table().capacity() {
            self.grow();
        }
        let id = self.inner.slab.fill(record, contents)?;
        self.table().add(record.hash, self.inner.slab.address(id));
        self.inner.len += 1;
        Ok(id)
    }

    /// Puts an entry of the same key in the place of another, whose slot stays in its list until it is retired by
    /// [`Writer::retire`]. Gives the contents back if there are too many.
    pub(crate) fn replace<'g>(
        &mut self,
        old: Id,
        record: Record,
        contents: Contents<K, V>,
        guard: &'g Guard,
    ) -> Result<Replacement<'g, K, V>, Contents<K, V>>
    where
        'a: 'g,
    {
        let entry = self.entry(old, guard);
        assert_eq!(entry.slot.hash(), record.hash, "the same key has the same hash");
        self.reclaim_for_one();
        let id = self.inner.slab.fill(record, contents)?;
        let place = self.place_of(self.inner.slab.address(old), record.hash);
        self.table().replace(place, self.inner.slab.address(id));
        let address = self.inner.slab.address(old).cast_const().cast();
        Ok(Replacement { id, entry, replaced: Replaced { id: old, address } })
    }

    /// Takes an entry out. Its slot must be in no list any more.
    pub(crate) fn remove<'g>(&mut self, id: Id, guard: &'g Guard) -> Entry<'g, K, V>
    where
        'a: 'g,
    {
        let entry = self.entry(id, guard);
        let hash = entry.slot.hash();
        let slot = self.inner.slab.address(id);
        let place = self.place_of(slot, hash);
        self.table().remove(hash, place);
        self.inner.len -= 1;
        self.retire(Replaced { id, address: slot.cast_const().cast() });
        entry
    }

    /// Retires a slot that has left the table, once it is in no list any more.
    pub(crate) fn retire(&mut self, Replaced { id, address }: Replaced) {
        let Inner { slab, retired, .. } = &mut *self.inner;
        assert!(ptr::addr_eq(slab.address(id), address), "slot {id} is this shelf's");
        slab.retire(id);
        self.after.goes_on |= retired.push(slab, id, domain());
        self.after.turns_due = retired.turns_due(domain());
    }

    /// Makes a slot vacant whose readers have left, or a few more: so as many leave as come, and a backlog shrinks.
    fn reclaim_for_one(&mut self) {
        self.reclaim();
        if self.inner.retired.is_behind() {
            self.reclaim_some(CATCHING_UP);
        }
        if !self.inner.tables.is_empty() {
            self.free_tables(domain());
        }
    }

    /// Makes up to `limit` slots vacant whose readers have left. Returns how many.
    pub(crate) fn reclaim_some(&mut self, limit: usize) -> usize {
        (0..limit).take_while(|_| self.reclaim()).count()
    }

    /// Lets all retired slots wait for their readers from now on, and asks the domain to go on, if there are any.
    pub(crate) fn seal(&mut self) {
        self.inner.retired.seal(domain());
        self.after.goes_on |= self.inner.retired.len() > 0 || !self.inner.tables.is_empty();
        self.free_tables(domain());
    }

    /// Makes the oldest retired slot vacant, if its readers have left.
    fn reclaim(&mut self) -> bool {
        let Inner { slab, retired, .. } = &mut *self.inner;
        let Some(id) = retired.pop(slab, domain()) else { return false };
        if let Some(next) = retired.first_unseen(domain()) {
            slab.prefetch_drop(next);
        }
        // SAFETY: the slot was retired after it had left the table, and the grace period of a ticket taken later is over (2).
        let contents = unsafe { slab.vacate(id) };
        self.after.garbage.push(contents);
        true
    }

    /// Puts a larger table in the table's place.
    #[cold]
    fn grow(&mut self) {
        let old = self.table();
        let buckets = next_size(old.buckets(), self.inner.buckets_expected);
        let new = Table::with_buckets(buckets);
        old.each(|slot| {
            // SAFETY: a pointer in the table is a live slot's (1).
            new.add(unsafe { (*slot).hash() }, slot);
        });
        let old = self.table.swap(Box::into_raw(Box::new(new)), Ordering::AcqRel);
        self.inner.tables.push((domain().ticket(), AtomicPtr::new(old)));
        self.after.goes_on = true;
        self.free_tables(domain());
    }

    /// Frees replaced tables whose readers have left.
    fn free_tables(&mut self, domain: &Domain) {
        self.inner.tables.retain(|(ticket, table)| {
            let is_over = domain.is_over(*ticket);
            if is_over {
                // SAFETY: it came from a `Box`, is freed once, and the grace period of a ticket taken after it was
                // replaced is over (3).
                drop(unsafe { Box::from_raw(table.load(Ordering::Relaxed)) });
            }
            !is_over
        });
    }
}

/// How many buckets come after `now`: about twice as many, by steps that meet the number expected.
fn next_size(now: usize, expected: usize) -> usize {
    if now >= expected {
        return now * 2;
    }
    let mut next = expected;
    while next.div_ceil(2) > now {
        next = next.div_ceil(2);
    }
    next
}
