//! Who runs the loader?
//!
//! Concurrent misses of one key share one [`Flight`]: its leader's loader runs in a task of its own, and everybody
//! waits for the outcome.
//!
//! 1. At most one flight per key and node that can be joined.
//! 2. A caller that goes away never cancels the flight; a flight that ends, fails, panics or is dropped with its
//!    runtime always frees the key and answers every member.
//! 3. A flight can be joined only while nobody has invalidated the key since it began, and not while it calls L2:
//!    the answer to a read, or a fill, that was sent before the caller came may be older than what the caller may
//!    see. Whoever comes meanwhile waits for the call to end and looks again.
//! 4. A value that was overtaken (its fill was rejected, or it was invalidated meanwhile) is given to the leader
//!    alone, whose call began before. The others look again. Whether a tag of it was invalidated is known only at the end,
//!    so every member asks that itself.

use crate::coherence::tickets::{Ticket, Tickets};
use crate::entry::Found;
use crate::error::{Error, ErrorKind};
use crate::l1::KeyRef;
use crate::sync::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::{Key, Moment};
use tokio::sync::Notify;

/// What a flight brought.
#[derive(Clone)]
pub(crate) enum Outcome {
    /// An answer for every member; `None` if the origin has no such value.
    Answer(Option<Found>),
    /// An answer for the leader alone.
    Overtaken(Option<Found>),
    /// No answer.
    Failed(Error),
}

#[derive(Clone)]
enum Phase {
    /// The flight can be joined.
    Open,
    /// A call to L2 is on its way whose answer newcomers may not share.
    Calling,
    /// The flight has ended.
    Done(Outcome),
}

/// One load of one key.
pub(crate) struct Flight {
    ticket: Ticket,
    begun: Moment,
    phase: Mutex<Phase>,
    changed: Notify,
}

/// Which flights a caller may join.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Joinable {
    /// Any whose key was not changed since it began.
    Unchanged,
    /// Those of them that began at most so long ago: of changes since then this node may not have heard.
    BegunWithin(Duration),
    /// None.
    No,
}

/// What a caller is to do.
pub(crate) enum Boarding {
    /// Run the load: this caller leads.
    Lead(Lead),
    /// Wait for the outcome.
    Join(Arc<Flight>),
    /// Wait until the flight's call is over, then look again.
    Wait(Arc<Flight>),
}

/// The flights of one namespace.
#[derive(Default)]
pub(crate) struct Flights {
    by_key: Arc<Mutex<HashMap<Key, Arc<Flight>>>>,
}

impl Flights {
    /// Joins the flight of `key`, if that is `joinable`, or begins one.
    pub(crate) fn board(
        &self,
        key: &Key,
        name: KeyRef<'_>,
        tickets: &Tickets,
        joinable: Joinable,
        now: Moment,
    ) -> Boarding {
        let mut by_key = self.by_key.lock();
        let can_join = |flight: &Flight| match joinable {
            Joinable::Unchanged => tickets.is_valid(flight.ticket),
            Joinable::BegunWithin(age) => now.since(flight.begun) < age && tickets.is_valid(flight.ticket),
            Joinable::No => false,
        };
        let slot = match by_key.entry(key.clone()) {
            Slot::Occupied(slot) if can_join(slot.get()) => {
                let flight = Arc::clone(slot.get());
                let is_calling = matches!(*flight.phase.lock(), Phase::Calling);
                return if is_calling { Boarding::Wait(flight) } else { Boarding::Join(flight) };
            }
            slot => slot,
        };
        let flight = Flight {
            ticket: tickets.take(name),
            begun: now,
            phase: Mutex::new(Phase::Open),
            changed: Notify::new(),
        };
        let flight = Arc::new(flight);
        slot.insert_entry(Arc::clone(&flight));
        Boarding::Lead(Lead { key: key.clone(), flight, by_key: Arc::clone(&self.by_key) })
    }
}

impl Flights {
    /// Whether one of this key is under way.
    pub(crate) fn is_any_of(&self, key: &Key) -> bool {
        self.by_key.lock().contains_key(key)
    }
}

impl Flight {
    /// The ticket under which it began.
    pub(crate) fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Waits for the end; `None` if the outcome is for the leader alone.
    pub(crate) async fn joined(&self) -> Option<Result<Option<Found>, Error>> {
        match self.outcome().await {
            Outcome::Answer(found) => Some(Ok(found)),
            Outcome::Overtaken(_) => None,
            Outcome::Failed(error) => Some(Err(error)),
        }
    }

    /// Waits for the end, as the leader.
    pub(crate) async fn led(&self) -> Result<Option<Found>, Error> {
        match self.outcome().await {
            Outcome::Answer(found) | Outcome::Overtaken(found) => Ok(found),
            Outcome::Failed(error) => Err(error),
        }
    }

    /// Waits until no call to L2 is on its way.
    pub(crate) async fn call_over(&self) {
        self.until(|phase| (!matches!(phase, Phase::Calling)).then_some(())).await;
    }

    async fn outcome(&self) -> Outcome {
        let done = |phase: &Phase| match phase {
            Phase::Done(outcome) => Some(outcome.clone()),
            Phase::Open | Phase::Calling => None,
        };
        self.until(done).await
    }

    /// Waits for a phase from which something can be taken.
    async fn until<T>(&self, take: impl Fn(&Phase) -> Option<T>) -> T {
        loop {
            // Made before the look, so that no change after the look is missed.
            let changed = self.changed.notified();
            let taken = take(&self.phase.lock());
            match taken {
                Some(taken) => return taken,
                None => changed.await,
            }
        }
    }

    fn enter(&self, phase: Phase) {
        *self.phase.lock() = phase;
        self.changed.notify_waiters();
    }
}

/// The duty to end a flight. Dropping it undone, as a runtime does when it shuts down, fails the flight.
pub(crate) struct Lead {
    key: Key,
    flight: Arc<Flight>,
    by_key: Arc<Mutex<HashMap<Key, Arc<Flight>>>>,
}

impl Lead {
    pub(crate) fn flight(&self) -> Arc<Flight> {
        Arc::clone(&self.flight)
    }

    /// The ticket under which the flight began.
    pub(crate) fn ticket(&self) -> Ticket {
        self.flight.ticket
    }

    /// Runs a call to L2, during which nobody can join.
    pub(crate) async fn calling<T>(&self, call: impl Future<Output = T>) -> T {
        self.flight.enter(Phase::Calling);
        let result = call.await;
        self.flight.enter(Phase::Open);
        result
    }

    /// Leaves the map, unless a later flight of the key has taken the place.
    fn close(&self) {
        let mut by_key = self.by_key.lock();
        if by_key.get(&self.key).is_some_and(|there| Arc::ptr_eq(there, &self.flight)) {
            by_key.remove(&self.key);
        }
    }

    /// Ends the flight.
    pub(crate) fn end(self, outcome: Outcome) {
        self.close();
        self.flight.enter(Phase::Done(outcome));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.close();
        let is_undone = !matches!(*self.flight.phase.lock(), Phase::Done(_));
        if is_undone {
            self.flight.enter(Phase::Done(Outcome::Failed(ErrorKind::Closed.into())));
        }
    }
}
