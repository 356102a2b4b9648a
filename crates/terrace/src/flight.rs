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

//! 5. A flight whose loader has run for longer than the keyspace lets one be waited for (`flight_age_max`) is *fenced* by the next
//!    who comes: a second one begins, and takes the first one's lease, so as to end it. Those who waited look again. What
//!    the first still brings is for its leader alone, and is kept nowhere. One that is not loading, or has done so, is not fenced:
//!    what it waits for is bounded elsewhere.

use crate::coherence::tickets::{Ticket, Tickets};
use crate::entry::Found;
use crate::error::{Error, ErrorKind};
use crate::l1::KeyRef;
use crate::sync::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use terrace_core::remote::Lease;
use terrace_core::{Key, Moment};
use tokio::sync::Notify;
use tracing::Span;

/// A flight is not looked at more often than this: the clock may lag by some milliseconds.
const PATIENCE_MIN: Duration = Duration::from_millis(5);

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

/// How far the load of a flight is.
enum Stage {
    /// It has not begun.
    Before,
    /// It runs since then, under this lease if there is one.
    Loading(Moment, Option<Lease>),
    /// Its result is being kept, or nothing is to be loaded any more.
    After,
    /// It runs, and its result is for the leader alone.
    Fenced,
}

/// A flight that was fenced just now.
struct Fenced {
    /// What it loads under, if it is anything.
    lease: Option<Lease>,
}

/// One load of one key.
pub(crate) struct Flight {
    ticket: Ticket,
    begun: Moment,
    phase: Mutex<Phase>,
    stage: Mutex<Stage>,
    changed: Notify,
    /// What traces it, if it is traced.
    span: OnceLock<Span>,
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

/// What came of joining a flight.
pub(crate) enum Joined {
    /// An answer, or none, for everybody who joined.
    Ended(Result<Option<Found>, Error>),
    /// The outcome is for the leader alone.
    Overtaken,
    /// The flight takes too long, and another one has begun.
    Fenced,
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
        age_max: Option<Duration>,
    ) -> Boarding {
        let mut by_key = self.by_key.lock();
        let aged = by_key.get(key).zip(age_max).and_then(|(flight, age_max)| flight.fence(now, age_max));
        let can_join = |flight: &Flight| match joinable {
            Joinable::Unchanged => tickets.is_valid(flight.ticket),
            Joinable::BegunWithin(age) => now.since(flight.begun) < age && tickets.is_valid(flight.ticket),
            Joinable::No => false,
        };
        let slot = match by_key.entry(key.clone()) {
            Slot::Occupied(slot) if aged.is_none() && can_join(slot.get()) => {
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
            stage: Mutex::new(Stage::Before),
            changed: Notify::new(),
            span: OnceLock::new(),
        };
        let flight = Arc::new(flight);
        slot.insert_entry(Arc::clone(&flight));
        let has_fenced = aged.is_some();
        let fenced = Mutex::new(aged.and_then(|aged| aged.lease));
        Boarding::Lead(Lead {
            key: key.clone(),
            flight,
            by_key: Arc::clone(&self.by_key),
            fenced,
            has_fenced,
        })
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

    /// Notes what traces it, if anything does.
    pub(crate) fn trace(&self, span: &Span) {
        if !span.is_none() {
            self.span.get_or_init(|| span.clone());
        }
    }

    /// What traces it, for those who wait for it.
    pub(crate) fn span(&self) -> Option<&Span> {
        self.span.get()
    }

    /// Waits for the end, as one who has joined.
    pub(crate) async fn joined(&self) -> Joined {
        self.until(|phase| match phase {
            _ if matches!(*self.stage.lock(), Stage::Fenced) => Some(Joined::Fenced),
            Phase::Done(Outcome::Answer(found)) => Some(Joined::Ended(Ok(found.clone()))),
            Phase::Done(Outcome::Overtaken(_)) => Some(Joined::Overtaken),
            Phase::Done(Outcome::Failed(error)) => Some(Joined::Ended(Err(error.clone()))),
            Phase::Open | Phase::Calling => None,
        })
        .await
    }

    /// How long it may still be waited for, at most, before it is to be looked at again whether it is to be fenced.
    pub(crate) fn patience(&self, now: Moment, age_max: Duration) -> Duration {
        match *self.stage.lock() {
            Stage::Loading(since, _) => age_max.saturating_sub(now.since(since)).max(PATIENCE_MIN),
            Stage::Before | Stage::After | Stage::Fenced => age_max,
        }
    }

    /// Fences it if its loader has run for so long.
    fn fence(&self, now: Moment, age_max: Duration) -> Option<Fenced> {
        let mut stage = self.stage.lock();
        let lease = match &mut *stage {
            Stage::Loading(since, lease) if now.since(*since) >= age_max => lease.take(),
            _ => return None,
        };
        *stage = Stage::Fenced;
        drop(stage);
        self.changed.notify_waiters();
        Some(Fenced { lease })
    }

    /// Waits for the end, as the leader.
    pub(crate) async fn led(&self) -> Result<Option<Found>, Error> {
        match self.outcome().await {
            Outcome::Answer(found) | Outcome::Overtaken(found) => Ok(found),
            Outcome::Failed(error) => Err(error),
        }
    }

    /// Waits until no call to L2 is on its way. If the flight has ended because L2 could not be asked, says so.
    pub(crate) async fn call_over(&self) -> Option<Error> {
        self.until(|phase| match phase {
            Phase::Calling => None,
            Phase::Done(Outcome::Failed(error)) if matches!(error.kind(), ErrorKind::L2Unavailable) => {
                Some(Some(error.clone()))
            }
            Phase::Open | Phase::Done(_) => Some(None),
        })
        .await
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
    /// The lease of the flight that this one has fenced.
    fenced: Mutex<Option<Lease>>,
    has_fenced: bool,
}

impl Lead {
    pub(crate) fn flight(&self) -> Arc<Flight> {
        Arc::clone(&self.flight)
    }

    /// The ticket under which the flight began.
    pub(crate) fn ticket(&self) -> Ticket {
        self.flight.ticket
    }

    /// The lease of the flight that this one has fenced, to be given back, for the first who asks.
    pub(crate) fn take_fenced(&self) -> Option<Lease> {
        self.fenced.lock().take()
    }

    /// Whether this flight has fenced another one.
    pub(crate) fn has_fenced(&self) -> bool {
        self.has_fenced
    }

    /// The loader begins to run, under this lease if there is one.
    pub(crate) fn begin_load(&self, now: Moment, lease: Option<&Lease>) {
        *self.flight.stage.lock() = Stage::Loading(now, lease.cloned());
    }

    /// The loader has ended. `false` if the flight was fenced meanwhile; else it cannot be any more.
    pub(crate) fn end_load(&self) -> bool {
        let mut stage = self.flight.stage.lock();
        if matches!(*stage, Stage::Fenced) {
            return false;
        }
        *stage = Stage::After;
        true
    }

    /// Whether the flight was fenced.
    pub(crate) fn is_fenced(&self) -> bool {
        matches!(*self.flight.stage.lock(), Stage::Fenced)
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
