//! When has every reader left? Reclamation in grace periods.
//!
//! A reader enters a *section* before it looks at anything shared, and leaves it when it holds no reference any more. A
//! writer takes an entry out of the index, and may use its memory again once every section that was open at that time
//! has ended. No reader waits for anybody, and writes to no cache line but its own thread's.
//!
//! 1. Each thread has a [`Reader`], whose counter says how many sections it is in, one in the other, and how many times it
//!    has left them all. Only its thread writes it.
//! 2. Grace periods are numbered. Period `n` begins by storing `begun = n`, then takes a barrier, then notes which
//!    readers are in a section. It is over when each of these has left once.
//! 3. **What was taken out before [`Domain::ticket`] returned `n` is unreachable once period `n` is over.** The ticket
//!    takes a barrier and then reads `begun = n - 1`, so its barrier comes before period `n`'s. A reader's barrier
//!    stands between its counter and its first look. If it comes before the period's, the period sees a section open,
//!    and waits. If it comes after, it comes after the ticket's too, and the reader finds the entry gone.
//! 4. A section that ends stores its counter with release, and whoever sees the period over does so with acquire: all
//!    that the reader did comes before what is done to the memory afterwards. A section that begins stores it with release
//!    too: the period may see that one first, and learns by it that the one before has ended.
//!
//! The reader's barrier would cost more than the whole lookup. Where the kernel can run a barrier on all processors that
//! run this process (Linux: `membarrier`), the period's barrier does it for everybody, and a reader only keeps
//! its compiler from reordering. Elsewhere, or if the kernel refuses, the reader pays for a fence.
//!
//! One domain serves all caches of the process, so one barrier does for all their shards. What a slow reader holds back
//! it holds back everywhere: sections are meant to be short.
//!
//! Sources: Hart et al., "Performance of memory reclamation for lockless synchronization" (2007), for grace periods by
//! per-thread counters; Desnoyers et al., "User-level implementations of read-copy update" (2012), for the asymmetric
//! barrier; `membarrier(2)`.

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use crate::sync::{Mutex, global, per_thread, yield_now};
use std::cell::Cell;
use std::marker::PhantomData;

/// How many bits of a reader's counter count the sections that are open: more than can ever be leaked.
const DEPTH_BITS: u32 = 32;
const DEPTH: u64 = (1 << DEPTH_BITS) - 1;

/// What every thread that reads has, on cache lines of its own (two, since processors fetch them in pairs).
#[repr(align(128))]
#[derive(Debug)]
pub(crate) struct Reader {
    /// How many sections the thread is in, and above [`DEPTH_BITS`] how many times it has left them all.
    sections: AtomicU64,
    /// Whether the thread must take its barrier itself.
    fences: bool,
    /// The place among all readers.
    index: usize,
    /// Whether a thread has this reader now.
    is_taken: AtomicBool,
}

/// A section of this thread, open until it is dropped. Sections nest, and may end in any order.
#[derive(Debug)]
pub(crate) struct Guard {
    reader: &'static Reader,
    /// Only the thread itself may write its counter.
    not_send: PhantomData<*const ()>,
}

/// How often one write lets others run, at most, when readers hold too much back.
const TURNS_MAX: usize = 64;

/// The number of a grace period.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Ticket(u64);

/// Readers and grace periods.
#[derive(Debug)]
pub(crate) struct Domain {
    /// The newest grace period that has begun.
    begun: AtomicU64,
    /// The newest grace period that is over.
    over: AtomicU64,
    /// The newest grace period that somebody waits for.
    wanted: AtomicU64,
    registry: Mutex<Registry>,
}

#[derive(Debug)]
struct Registry {
    barrier: Barrier,
    readers: Vec<&'static Reader>,
    /// Whom the newest period waits for, and how many times they had left when it began.
    awaited: Vec<(&'static Reader, u64)>,
    /// Whether the newest period has noted them.
    is_noted: bool,
}

/// How a grace period makes sure that it sees every section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Barrier {
    /// Not known before the first reader came.
    Unknown,
    /// The kernel runs one on every processor.
    Everywhere,
    /// Readers take one each.
    Own,
}

global! {
    /// The domain of this process.
    static DOMAIN: Domain = Domain::new();
}

per_thread! {
    /// This thread's reader, once it has one.
    static READER: Cell<Option<&'static Reader>> = Cell::new(None);
    /// Gives the reader back when the thread ends.
    static TENANCY: Tenancy = Tenancy(Cell::new(None));
}

/// A thread's hold on its reader.
struct Tenancy(Cell<Option<&'static Reader>>);

impl Drop for Tenancy {
    fn drop(&mut self) {
        let _ = READER.try_with(|reader| reader.set(None));
        if let Some(reader) = self.0.take() {
            reader.is_taken.store(false, Ordering::Release);
        }
    }
}

/// The domain of this process.
#[inline]
pub(crate) fn domain() -> &'static Domain {
    &DOMAIN
}

/// Opens a section.
#[inline]
pub(crate) fn enter() -> Guard {
    match READER.with(Cell::get) {
        Some(reader) => reader.enter(),
        None => enter_first(),
    }
}

/// A thread that comes here once more while its own destructors run keeps its reader for ever: one reader is lost.
#[cold]
fn enter_first() -> Guard {
    let reader = domain().register();
    READER.with(|own| own.set(Some(reader)));
    let _ = TENANCY.try_with(|tenancy| tenancy.0.set(Some(reader)));
    reader.enter()
}

impl Reader {
    #[inline]
    fn enter(&'static self) -> Guard {
        self.sections.store(self.sections.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
        if self.fences {
            fence(Ordering::SeqCst);
        } else {
            std::sync::atomic::compiler_fence(Ordering::SeqCst);
        }
        Guard { reader: self, not_send: PhantomData }
    }
}

impl Guard {
    /// A number that no other thread has while this one lives; small, since numbers are used again.
    #[inline]
    pub(crate) fn thread(&self) -> usize {
        self.reader.index
    }
}

impl Drop for Guard {
    #[inline]
    fn drop(&mut self) {
        let open = self.reader.sections.load(Ordering::Relaxed);
        let is_last = u64::from(open & DEPTH == 1);
        let after = open.wrapping_sub(1).wrapping_add(is_last << DEPTH_BITS);
        self.reader.sections.store(after, Ordering::Release);
    }
}

impl Domain {
    #[cfg(not(any(terrace_loom, terrace_shuttle)))]
    const fn new() -> Self {
        let (begun, over, wanted) = (AtomicU64::new(1), AtomicU64::new(1), AtomicU64::new(1));
        Self { begun, over, wanted, registry: Mutex::new(Registry::new()) }
    }

    #[cfg(any(terrace_loom, terrace_shuttle))]
    fn new() -> Self {
        let (begun, over, wanted) = (AtomicU64::new(1), AtomicU64::new(1), AtomicU64::new(1));
        Self { begun, over, wanted, registry: Mutex::new(Registry::new()) }
    }

    /// A reader that no thread has.
    fn register(&self) -> &'static Reader {
        let mut registry = self.registry.lock();
        if registry.barrier == Barrier::Unknown {
            registry.barrier = if everywhere::register() { Barrier::Everywhere } else { Barrier::Own };
        }
        let free = |reader: &&&Reader| {
            let swapped = reader.is_taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
            swapped.is_ok()
        };
        if let Some(reader) = registry.readers.iter().find(free) {
            return reader;
        }
        let reader = Box::leak(Box::new(Reader {
            sections: AtomicU64::new(0),
            fences: registry.barrier == Barrier::Own,
            index: registry.readers.len(),
            is_taken: AtomicBool::new(true),
        }));
        registry.readers.push(reader);
        reader
    }

    /// The grace period after which nobody can see what the caller, or whoever it has synchronised with, has made
    /// unreachable before this call.
    #[inline]
    pub(crate) fn ticket(&self) -> Ticket {
        fence(Ordering::SeqCst);
        let number = self.begun.load(Ordering::Relaxed) + 1;
        self.wanted.fetch_max(number, Ordering::Relaxed);
        Ticket(number)
    }

    /// Whether a grace period is over.
    #[inline]
    pub(crate) fn is_over(&self, ticket: Ticket) -> bool {
        Ticket(self.over.load(Ordering::Acquire)) >= ticket
    }

    /// Ends the grace period under way if it can end, then begins another if somebody waits for it, which may end at once.
    /// Waits for nobody: if another thread is at it, it returns.
    ///
    /// # Cost
    /// One barrier (about a microsecond where the kernel runs it) and a look at every thread's counter.
    #[cold]
    pub(crate) fn advance(&self) {
        let Some(mut registry) = self.registry.try_lock() else { return };
        let mut number = self.begun.load(Ordering::Relaxed);
        if registry.is_noted {
            if !self.try_end(&mut registry, number) || self.wanted.load(Ordering::Relaxed) <= number {
                return;
            }
            number += 1;
            registry.is_noted = false;
            self.begun.store(number, Ordering::Relaxed);
        }
        if registry.note() {
            self.try_end(&mut registry, number);
        }
    }

    /// Gives readers some turns to leave that were interrupted while they read, and hold back what others take out. So the
    /// more is held back, the slower it grows. Does nothing within a section, and gives up soon: a reader may stay as
    /// long as it likes.
    ///
    /// # Cost
    /// A few system calls, if readers are slow.
    #[cold]
    pub(crate) fn give_way(&self, turns: usize) {
        let is_inside =
            READER.with(Cell::get).is_some_and(|own| own.sections.load(Ordering::Relaxed) & DEPTH != 0);
        if is_inside {
            return;
        }
        for _ in 0..turns.min(TURNS_MAX) {
            if self.over.load(Ordering::Relaxed) >= self.wanted.load(Ordering::Relaxed) {
                return;
            }
            yield_now();
            self.advance();
        }
    }

    /// Ends period `number` unless a section it waits for is still open.
    fn try_end(&self, registry: &mut Registry, number: u64) -> bool {
        registry
            .awaited
            .retain(|(reader, left)| reader.sections.load(Ordering::Acquire) >> DEPTH_BITS == *left);
        let ends = registry.awaited.is_empty();
        if ends {
            self.over.store(number, Ordering::Release);
        }
        ends
    }
}

impl Registry {
    const fn new() -> Self {
        Self { barrier: Barrier::Unknown, readers: Vec::new(), awaited: Vec::new(), is_noted: true }
    }

    /// Takes the barrier of a period that has begun, then notes which sections are open. Returns whether it could; if
    /// not, the period goes on, and nothing is freed that it guards.
    fn note(&mut self) -> bool {
        fence(Ordering::SeqCst);
        if self.barrier == Barrier::Everywhere && !everywhere::barrier() {
            return false;
        }
        let Self { readers, awaited, .. } = self;
        awaited.extend(readers.iter().filter_map(|reader| {
            let section = reader.sections.load(Ordering::Acquire);
            (section & DEPTH != 0).then_some((*reader, section >> DEPTH_BITS))
        }));
        self.is_noted = true;
        true
    }
}

/// Barriers that the kernel runs on every processor that runs this process.
#[cfg(all(target_os = "linux", not(any(terrace_portable, terrace_loom, terrace_shuttle))))]
mod everywhere {
    use rustix::thread::{MembarrierCommand, MembarrierQuery, membarrier, membarrier_query};

    /// Asks the kernel to be ready for them. Returns whether it is.
    pub(super) fn register() -> bool {
        membarrier_query().contains(MembarrierQuery::PRIVATE_EXPEDITED)
            && membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
    }

    /// Runs one. A process that was forked has to register again.
    pub(super) fn barrier() -> bool {
        let run = || membarrier(MembarrierCommand::PrivateExpedited).is_ok();
        run() || (register() && run())
    }
}

#[cfg(not(all(target_os = "linux", not(any(terrace_portable, terrace_loom, terrace_shuttle)))))]
mod everywhere {
    pub(super) const fn register() -> bool {
        false
    }

    pub(super) const fn barrier() -> bool {
        false
    }
}
