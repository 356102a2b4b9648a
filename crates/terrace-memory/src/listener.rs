//! Telling the caller what left the cache, and why.
//!
//! 1. The listener runs outside all locks, on the thread whose call took the entry out, before that call returns.
//!    So it may use the cache.
//! 2. Every entry that was held is told of once, when it leaves, but for 4. A value that was never held is not.
//! 3. A panic of the listener is caught and counted; the next removal is told as ever.
//! 4. Removals that the listener causes itself are told of too, nested at most [`NESTING_MAX`] deep
//!    over all caches of a thread. Below that they
//!    are only counted: a listener that puts back whatever is evicted must come to an end.

use crate::counters::{Counter, Counters};
use crate::shard::Departure;
use crate::sync::per_thread;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How deep calls of listeners may nest on one thread.
pub(crate) const NESTING_MAX: u32 = 8;

/// Why an entry left.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum RemovalCause {
    /// Room was needed: by an insert, or by a resize.
    Capacity,
    /// Its deadline had passed when it left, whatever took it out.
    Expired,
    /// `remove`, `remove_if`, `retain`, `clear`, or an insert with a past deadline.
    Explicit,
    /// A newer value of its key came, even if that one was too big to be stored.
    Replaced,
}

/// The caller's function, as the builder took it.
pub(crate) type RemovalFn<K, V> = Box<dyn Fn(&K, &V, RemovalCause) + Send + Sync>;

/// The caller's function, if there is one.
pub(crate) struct Listener<K, V>(Option<RemovalFn<K, V>>);

impl<K, V> Listener<K, V> {
    pub(crate) fn new(function: Option<RemovalFn<K, V>>) -> Self {
        Self(function)
    }

    /// Counts the departures by cause, then tells the listener of each.
    pub(crate) fn tell(&self, departures: &[Departure<'_, K, V>], counters: &Counters, thread: usize) {
        for departure in departures {
            counters.add(thread, counter_of(departure.cause), 1);
        }
        let Some(listener) = &self.0 else { return };
        let Some(_level) = Level::enter() else {
            counters.add(thread, Counter::ListenerSkips, departures.len() as u64);
            return;
        };
        for Departure { entry, cause } in departures {
            let tell = || listener(entry.key(), entry.value(), *cause);
            if let Err(payload) = catch_unwind(AssertUnwindSafe(tell)) {
                // Even to drop what it panicked with is the caller's code.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
                counters.add(thread, Counter::ListenerPanics, 1);
            }
        }
    }
}

impl<K, V> fmt::Debug for Listener<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Some(..)" } else { "None" })
    }
}

const fn counter_of(cause: RemovalCause) -> Counter {
    match cause {
        RemovalCause::Capacity => Counter::Evictions,
        RemovalCause::Expired => Counter::Expirations,
        RemovalCause::Explicit => Counter::Removals,
        RemovalCause::Replaced => Counter::Replacements,
    }
}

/// One level of nesting on this thread, left when dropped.
struct Level;

per_thread! {
    static DEPTH: Cell<u32> = Cell::new(0);
}

impl Level {
    fn enter() -> Option<Self> {
        DEPTH.with(|depth| {
            let deeper = depth.get() + 1;
            (deeper <= NESTING_MAX).then(|| {
                depth.set(deeper);
                Self
            })
        })
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        DEPTH.with(|depth| depth.set(depth.get() - 1));
    }
}
