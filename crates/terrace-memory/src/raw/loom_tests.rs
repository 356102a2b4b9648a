//! Readers and writers at the same time: small cases in every interleaving.
//!
//! Loom runs a model again and again, each time with another order of its steps and, for each load, with another of the
//! stores that the C11 memory model lets it see, with up to `LOOM_MAX_PREEMPTIONS` preemptions (3 unless set).
//!
//! 1. Keys, values and tables tell loom when they are used and when they end ([`Lifetime`]). It reports each use that is
//!    not ordered before the end: freed too early, or not ordered by the right acquire and release.
//! 2. A model returns what it came to. The tests compare the set of all that with what may be, so none passes because
//!    nothing happened.
//!
//! What this does not cover: the barrier that the kernel runs (`membarrier`). Under loom every reader takes its own fence, as
//! where there is no such barrier. And a fence of loom's orders more than C11 promises: what the first of two
//! sequentially consistent fences comes after, the second comes after too, even if no load in between has seen a store.

use super::domain::{Guard, Ticket, domain, enter};
use super::shelf::{Replacement, Shelf};
use super::slab::{Contents, Id, Record};
use super::table::Table;
use crate::deadline::Deadline;
use crate::sync::Lifetime;
use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::{Acquire, Release};
use loom::model::Builder;
use loom::thread;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::ptr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

const PREEMPTIONS: usize = 3;
/// Most steps of one run.
const STEPS_MAX: usize = 10_000;

/// Everything that a model can come to.
fn outcomes<T: Ord + Debug + Send + 'static>(model: impl Fn() -> T + Send + Sync + 'static) -> BTreeSet<T> {
    let all = Arc::new(Mutex::new((0, BTreeSet::new())));
    let inside = Arc::clone(&all);
    let mut builder = Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS);
    builder.max_branches = STEPS_MAX;
    builder.check(move || {
        let outcome = model();
        let mut all = inside.lock().unwrap_or_else(PoisonError::into_inner);
        all.0 += 1;
        all.1.insert(outcome);
    });
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    println!("{} interleavings: {:?}", all.0, all.1);
    std::mem::take(&mut all.1)
}

/// A number whose uses and whose end loom knows of.
#[derive(Debug)]
struct Watched {
    number: u32,
    lifetime: Lifetime,
}

impl Watched {
    fn new(number: u32) -> Self {
        Self { number, lifetime: Lifetime::new() }
    }

    fn number(&self) -> u32 {
        self.lifetime.in_use();
        self.number
    }
}

/// A value that readers find, and the one that is to follow it. (Threads of a model share one thread of the machine, so they
/// may share what is not `Sync`.)
struct Published {
    current: AtomicUsize,
    values: [RefCell<Option<Watched>>; 2],
}

impl Published {
    fn new() -> Rc<Self> {
        let values = [0, 1].map(|number| RefCell::new(Some(Watched::new(number))));
        Rc::new(Self { current: AtomicUsize::new(0), values })
    }

    fn find(&self, _guard: &Guard) -> usize {
        self.current.load(Acquire)
    }

    fn number(&self, found: usize, _guard: &Guard) -> u32 {
        self.values[found].borrow().as_ref().expect("not freed").number()
    }

    fn read(&self) -> u32 {
        let guard = enter();
        self.number(self.find(&guard), &guard)
    }

    /// Shows readers the second value.
    fn replace(&self) -> Ticket {
        self.current.store(1, Release);
        domain().ticket()
    }

    /// Frees the first value if that is allowed.
    fn free(&self, ticket: Ticket) -> bool {
        let is_over = domain().is_over(ticket);
        if is_over {
            drop(self.values[0].take());
        }
        is_over
    }
}

/// A period must be over soon when no section is open any more.
fn assert_ends(ticket: Ticket) {
    (0..2).for_each(|_| domain().advance());
    assert!(domain().is_over(ticket), "no section is open");
}

#[test]
fn loom_nothing_is_freed_before_its_readers_have_left() {
    let seen = outcomes(|| {
        let published = Published::new();
        let shared = Rc::clone(&published);
        let reader = thread::spawn(move || shared.read());
        let ticket = published.replace();
        domain().advance();
        let is_freed = published.free(ticket);
        let read = reader.join().unwrap();
        assert_ends(ticket);
        (read, is_freed)
    });
    assert_eq!(seen, BTreeSet::from([(0, false), (0, true), (1, false), (1, true)]));
}

#[test]
fn loom_a_section_that_follows_at_once_still_shows_that_the_one_before_has_ended() {
    let seen = outcomes(|| {
        let published = Published::new();
        let shared = Rc::clone(&published);
        let reader = thread::spawn(move || {
            let read = shared.read();
            drop(enter());
            read
        });
        let ticket = published.replace();
        (0..2).for_each(|_| domain().advance());
        let is_freed = published.free(ticket);
        let read = reader.join().unwrap();
        assert_ends(ticket);
        (read, is_freed)
    });
    assert_eq!(seen, BTreeSet::from([(0, false), (0, true), (1, false), (1, true)]));
}

#[test]
fn loom_a_period_that_another_thread_ends_is_over_for_all() {
    let seen = outcomes(|| {
        let published = Published::new();
        let shared = Rc::clone(&published);
        let reader = thread::spawn(move || shared.read());
        domain().ticket();
        let advancing = thread::spawn(|| (0..2).for_each(|_| domain().advance()));
        let ticket = published.replace();
        let is_freed = published.free(ticket);
        let read = reader.join().unwrap();
        advancing.join().unwrap();
        assert_ends(ticket);
        (read, is_freed)
    });
    assert_eq!(seen, BTreeSet::from([(0, false), (0, true), (1, false), (1, true)]));
}

#[test]
fn loom_a_period_under_way_does_not_count_for_what_is_removed_now() {
    let seen = outcomes(|| {
        let published = Published::new();
        let earlier = enter();
        let before = domain().ticket();
        domain().advance();
        assert!(!domain().is_over(before), "a section is open");
        let shared = Rc::clone(&published);
        let reader = thread::spawn(move || shared.read());
        let ticket = published.replace();
        drop(earlier);
        domain().advance();
        let is_freed = published.free(ticket);
        let read = reader.join().unwrap();
        assert_ends(ticket);
        (domain().is_over(before), read, is_freed)
    });
    assert_eq!(seen, BTreeSet::from([(true, 0, false), (true, 0, true), (true, 1, false), (true, 1, true)]));
}

#[test]
fn loom_a_section_lasts_as_long_as_the_longest_of_those_that_nest() {
    for is_inner_first in [true, false] {
        let seen = outcomes(move || {
            let published = Published::new();
            let shared = Rc::clone(&published);
            let reader = thread::spawn(move || {
                let (one, two) = (enter(), enter());
                let (ends, stays) = if is_inner_first { (two, one) } else { (one, two) };
                let found = shared.find(&stays);
                drop(ends);
                shared.number(found, &stays)
            });
            let ticket = published.replace();
            domain().advance();
            let is_freed = published.free(ticket);
            let read = reader.join().unwrap();
            assert_ends(ticket);
            (read, is_freed)
        });
        assert_eq!(seen, BTreeSet::from([(0, false), (0, true), (1, false), (1, true)]));
    }
}

#[test]
fn loom_a_reader_is_handed_from_a_thread_that_ended_to_a_new_one() {
    let seen = outcomes(|| {
        let published = Published::new();
        let spawn = || {
            let shared = Rc::clone(&published);
            thread::spawn(move || {
                let guard = enter();
                shared.number(shared.find(&guard), &guard);
                guard.thread()
            })
        };
        let (one, other) = (spawn(), spawn());
        let ticket = published.replace();
        domain().advance();
        let is_freed = published.free(ticket);
        let is_same = one.join().unwrap() == other.join().unwrap();
        assert_ends(ticket);
        (is_same, is_freed)
    });
    assert_eq!(seen, BTreeSet::from([(false, false), (false, true), (true, false), (true, true)]));
}

type Numbers = Shelf<Watched, Watched, ()>;

fn record(hash: u32) -> Record {
    Record { hash, weight: 1, deadline: Deadline::NEVER }
}

fn contents(key: u32, value: u32) -> Contents<Watched, Watched> {
    Contents { key: Watched::new(key), value: Watched::new(value) }
}

/// A shelf with these keys, whose values are ten times as much.
fn shelf(keys: impl IntoIterator<Item = u32>) -> Rc<Numbers> {
    let shelf = Rc::new(Shelf::new(0, true, ()));
    keys.into_iter().for_each(|key| {
        insert(&shelf, key, key);
    });
    shelf
}

fn insert(shelf: &Numbers, hash: u32, key: u32) -> Id {
    let mut writer = shelf.lock();
    let id = writer.insert(record(hash), contents(key, 10 * key)).expect("there is room");
    drop(writer.unlock());
    id
}

fn overwrite(shelf: &Numbers, hash: u32, key: u32, value: u32) {
    let guard = enter();
    let mut writer = shelf.lock();
    let id = writer.find(hash, |found| found.number() == key).expect("it is there");
    let new = contents(key, value);
    let Replacement { replaced, .. } = writer.replace(id, record(hash), new, &guard).expect("there is room");
    writer.retire(replaced);
    let aftermath = writer.unlock();
    drop(guard);
    drop(aftermath);
}

fn remove(shelf: &Numbers, id: Id) {
    let guard = enter();
    let mut writer = shelf.lock();
    writer.remove(id, &guard);
    let aftermath = writer.unlock();
    drop(guard);
    drop(aftermath);
}

/// Lets what was taken out wait for its readers, and the domain go on.
fn seal(shelf: &Numbers) {
    let mut writer = shelf.lock();
    writer.seal();
    drop(writer.unlock());
}

/// Drops a slot's contents if no reader has them.
fn reclaim(shelf: &Numbers) -> bool {
    let mut writer = shelf.lock();
    let has_reclaimed = writer.reclaim_some(1) == 1;
    drop(writer.unlock());
    has_reclaimed
}

fn find(shelf: &Numbers, hash: u32, key: u32, guard: &Guard) -> Option<u32> {
    shelf.find(hash, guard, |found| found.number() == key).map(|entry| entry.value().number())
}

#[test]
fn loom_a_key_that_is_overwritten_has_the_old_value_or_the_new_one() {
    let seen = outcomes(|| {
        let shelf = shelf([1]);
        let shared = Rc::clone(&shelf);
        let reader = thread::spawn(move || {
            let guard = enter();
            [find(&shared, 1, 1, &guard), find(&shared, 1, 1, &guard)]
        });
        overwrite(&shelf, 1, 1, 11);
        seal(&shelf);
        let is_freed = reclaim(&shelf);
        (reader.join().unwrap().map(|found| found.expect("never neither")), is_freed)
    });
    let reads = seen.iter().map(|outcome| outcome.0).collect::<BTreeSet<_>>();
    assert_eq!(reads, BTreeSet::from([[10, 10], [10, 11], [11, 11]]));
    assert!(seen.contains(&([10, 10], true)) && seen.contains(&([10, 11], false)));
}

#[test]
fn loom_a_slot_that_is_used_again_shows_nobody_another_keys_value() {
    let seen = outcomes(|| {
        let shelf = Rc::new(Shelf::new(0, true, ()));
        let old = insert(&shelf, 1, 1);
        let shared = Rc::clone(&shelf);
        let reader = thread::spawn(move || {
            let guard = enter();
            find(&shared, 1, 1, &guard)
        });
        remove(&shelf, old);
        seal(&shelf);
        let is_freed = reclaim(&shelf);
        let new = insert(&shelf, 1, 2);
        assert_eq!(new == old, is_freed, "a vacant slot is used first");
        let found = reader.join().unwrap();
        assert_eq!(find(&shelf, 1, 2, &enter()), Some(20));
        (found, is_freed)
    });
    let expected = [(Some(10), false), (Some(10), true), (None, false), (None, true)];
    assert_eq!(seen, expected.into());
}

#[test]
fn loom_a_key_is_found_while_a_larger_table_takes_the_tables_place() {
    let seen = outcomes(|| {
        let shelf = shelf(1..=7);
        let shared = Rc::clone(&shelf);
        let reader = thread::spawn(move || {
            let guard = enter();
            let new = find(&shared, 8, 8, &guard);
            assert_eq!(find(&shared, 3, 3, &guard), Some(30));
            new
        });
        domain().ticket();
        let advancing = thread::spawn(|| domain().advance());
        insert(&shelf, 8, 8);
        seal(&shelf);
        advancing.join().unwrap();
        reader.join().unwrap()
    });
    assert_eq!(seen, BTreeSet::from([None, Some(80)]));
}

#[test]
fn loom_whoever_knows_of_a_write_sees_its_effect() {
    let seen = outcomes(|| {
        let shelf = shelf([1]);
        let news = Rc::new(AtomicUsize::new(0));
        let (shared, heard) = (Rc::clone(&shelf), Rc::clone(&news));
        let reader = thread::spawn(move || {
            let known = heard.load(Acquire);
            let guard = enter();
            (known, find(&shared, 1, 1, &guard), find(&shared, 2, 2, &guard))
        });
        overwrite(&shelf, 1, 1, 11);
        insert(&shelf, 2, 2);
        news.store(1, Release);
        reader.join().unwrap()
    });
    assert!(seen.contains(&(0, Some(10), None)));
    let informed = seen.into_iter().filter(|outcome| outcome.0 == 1);
    assert_eq!(informed.collect::<Vec<_>>(), [(1, Some(11), Some(20))]);
}

/// A pointer that stands for an entry of this hash, and is never followed.
fn pointer(hash: u32) -> *mut u64 {
    ptr::without_provenance_mut(hash as usize * align_of::<u64>())
}

fn is_found(table: &Table<u64>, hash: u32) -> bool {
    table.search(hash, |found| found == pointer(hash)).is_some()
}

/// A table of a few buckets with these hashes, all of which belong into the first: seven fit.
fn crowded(hashes: impl IntoIterator<Item = u32>) -> Rc<Table<u64>> {
    let table = Table::with_buckets(2);
    hashes.into_iter().for_each(|hash| table.add(hash, pointer(hash)));
    Rc::new(table)
}

#[test]
fn loom_a_key_past_a_full_bucket_is_found_while_others_come_and_go() {
    let seen = outcomes(|| {
        let table = crowded(1..=8);
        let shared = Rc::clone(&table);
        let reader = thread::spawn(move || {
            assert!(is_found(&shared, 8), "past the full bucket");
            let other = is_found(&shared, 9);
            assert!(is_found(&shared, 3) && is_found(&shared, 8), "throughout");
            other
        });
        table.add(9, pointer(9));
        let place = table.place_of(9, pointer(9)).expect("just added");
        table.remove(9, place);
        reader.join().unwrap()
    });
    assert_eq!(seen, BTreeSet::from([false, true]));
}

#[test]
fn loom_a_place_that_is_used_again_is_its_new_owners_only() {
    let seen = outcomes(|| {
        const OLD: u32 = 1;
        const NEW: u32 = 1 << 12 | OLD;
        let table = crowded(OLD..=7);
        let shared = Rc::clone(&table);
        let reader = thread::spawn(move || {
            assert!(is_found(&shared, 2));
            let found = [is_found(&shared, NEW), is_found(&shared, OLD)];
            assert!(is_found(&shared, 7));
            found
        });
        let place = table.place_of(OLD, pointer(OLD)).expect("it is there");
        table.remove(OLD, place);
        table.add(NEW, pointer(NEW));
        assert_eq!(table.place_of(NEW, pointer(NEW)), Some(place));
        reader.join().unwrap()
    });
    assert_eq!(seen, BTreeSet::from([[false, false], [false, true], [true, false]]));
}
