//! The flight of one key: from L2 by way of a lease and the loader to the fill, in a task that outlives its callers.
//!
//! 1. What is kept in L1 is kept under the ticket that the flight began with.
//! 2. An old value that takes a new one's place, because that cannot be loaded, is for everybody only if nobody has
//!    invalidated it meanwhile.
//! 3. What a flight brings that was fenced meanwhile is for its leader alone, and is kept nowhere.
//! 4. Whatever the loader does, panic included, the flight ends with an outcome, and its lease is given back or used.

use super::{Loaded, Loading, Look, Ran, Trip};
use crate::bulkhead::Place;
use crate::coherence::tickets::Ticket;
use crate::entry::{Found, Resident, StaleReason, Tier, absent};
use crate::error::{Error, ErrorKind};
use crate::flight::{Lead, Outcome};
use crate::lease::{Filled, Obtained, Right};
use crate::origin::Fault;
use crate::runtime::Leave;
use crate::space::View;
use crate::telemetry::{Event, spans};
use crate::terms::Lasting;
use crate::warm::is_withdrawn;
use futures_util::FutureExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use terrace_core::mutants::{self, Mutant};
use terrace_core::{Key, Tag, Ttl, Version};
use tracing::Instrument;

/// How a flight ends, and the load that is still to run after it.
type Flown = (Outcome, Option<Loading>);

/// How a flight that needs a load goes on.
enum Admitted {
    /// The load runs, in this place.
    Load(Right, Place),
    /// There is a value already.
    Found(Box<Found>),
}

/// How long the knowledge that there is no value takes the place of an old one, where it is not to be remembered.
const REPLACED_FOR: Duration = Duration::from_millis(1);

impl View {
    /// Begins the flight of one key, in a task that nobody can cancel.
    pub(crate) fn take_off(&self, leave: Leave, trip: Trip, known: Option<Look>, loading: Loading) {
        let span = spans::flight(&self.space.namespace, trip.is_behind);
        trip.lead.flight().trace(&span);
        self.shared.runtime.spawn_load(leave, self.clone().fly(trip, known, loading).instrument(span));
    }

    /// The flight of one key, from L2 to the last step.
    async fn fly(self, trip: Trip, known: Option<Look>, loading: Loading) {
        let flown = AssertUnwindSafe(self.flown(&trip, known, loading)).catch_unwind().await;
        let failed = |panic: Box<dyn std::any::Any + Send>| (Outcome::Failed(panicked(&*panic)), None);
        let (outcome, still_to_load) = flown.unwrap_or_else(failed);
        let outcome = match outcome {
            Outcome::Failed(error) if is_withdrawn(&error) => Outcome::Overtaken(None),
            outcome => outcome,
        };
        let Trip { lead, key, terms, is_in_batch, .. } = trip;
        lead.end(outcome);
        if let Some(loading) = still_to_load {
            self.load_behind_as(&key, None, &terms, is_in_batch, || loading);
        }
    }

    async fn flown(&self, trip: &Trip, known: Option<Look>, loading: Loading) -> Flown {
        let Trip { lead, key, budget, .. } = trip;
        let is_new =
            |found: &Found| trip.outdated != Some(found.resident.version) && trip.wanted.takes(found);
        if let Some(found) = self.look_again(key.as_str()).filter(is_new) {
            // For the leader alone: it may be a lease older than the flight. The others find it in L1, if they may.
            return (Outcome::Overtaken(Some(found)), None);
        }
        let look = match known {
            Some(look) => look,
            None => lead.calling(budget.spend(self.validate(key))).await,
        };
        let look = trip.judge(look);
        spans::note_look(&look);
        if !matches!(look, Look::Hit(_) | Look::Kept(_))
            && let Some(found) = self.find_behind(key)
        {
            if trip.wanted.takes(&found) {
                return (self.outcome(lead, key, Some(found)), None);
            }
            // The origin may still have what is to be removed.
            let place = match look {
                Look::Unknown | Look::Unproven => self.place_without_l2(trip).await,
                _ => self.place_of(trip).await,
            };
            return match place {
                Ok(place) => (self.load_and_store(trip, Right::None, place, None, loading).await, None),
                Err(error) => (self.failed(trip, None, error), None),
            };
        }
        let (admitted, old) = match look {
            Look::Hit(found) => (Ok(Admitted::Found(Box::new(found))), None),
            Look::Kept(found) => return (self.outcome(lead, key, Some(found)), None),
            Look::Miss { old: Some(old), .. } if let Some(found) = self.old_at_once(trip, &old) => {
                return (self.outcome(lead, key, Some(found)), Some(loading));
            }
            Look::Miss { dead, old } => (self.admit(trip, dead).await, old),
            Look::Unknown => {
                let place = self.place_without_l2(trip).await;
                (place.map(|place| Admitted::Load(self.right_without_l2(), place)), None)
            }
            Look::Unproven => return (Outcome::Failed(ErrorKind::Unproven.into()), None),
        };
        let old = old.map(|old| *old);
        let outcome = match admitted {
            Ok(Admitted::Load(right, place)) => self.load_and_store(trip, right, place, old, loading).await,
            Ok(Admitted::Found(found)) => {
                self.promote(lead.ticket(), key, &found);
                self.outcome(lead, key, Some(*found))
            }
            Err(error) => {
                if trip.is_behind {
                    self.count_background(false);
                }
                self.failed(trip, old, error)
            }
        };
        (outcome, None)
    }

    /// Waits for a place and then for the right to load, which may find that somebody else has loaded. A flight that waits for a
    /// place can be joined: it has asked for nothing that would be too old for a newcomer.
    async fn admit(&self, trip: &Trip, dead: Option<Version>) -> Result<Admitted, Error> {
        let Trip { lead, key, budget, .. } = trip;
        if let Some(lease) = lead.take_fenced() {
            let right = Right::Leased(lease, None);
            lead.calling(budget.spend(self.give_back(key, &right))).await;
        }
        let mut asking = self.asking(key, dead, trip.wanted);
        loop {
            let queued_at = self.shared.clock.precise();
            let place = match self.place_of(trip).await {
                Ok(place) => place,
                // Another node may have had one.
                Err(error) => match trip.judge(lead.calling(budget.spend(self.look_in_l2(key))).await) {
                    Look::Hit(found) => return Ok(Admitted::Found(Box::new(found))),
                    _ => return Err(error),
                },
            };
            asking.has_queued(self.shared.clock.precise().since(queued_at));
            match lead.calling(budget.spend(self.obtain_right(&mut asking, place))).await {
                Obtained::Right(Right::Unanchored, place) => {
                    self.may_go_without_l2()?;
                    return Ok(Admitted::Load(Right::Unanchored, place));
                }
                Obtained::Right(right, place) => return Ok(Admitted::Load(right, place)),
                Obtained::Found(found) => return Ok(Admitted::Found(found)),
                Obtained::NoPlace => {}
            }
        }
    }

    /// Waits for a place, for a load that L2 was not asked for, if there may be one.
    async fn place_without_l2(&self, trip: &Trip) -> Result<Place, Error> {
        self.may_go_without_l2()?;
        self.place_of(trip).await
    }

    /// The outcome of a flight that brought nothing.
    fn failed(&self, trip: &Trip, old: Option<Found>, error: Error) -> Outcome {
        match self.after_failure(trip, old) {
            Some(old) => self.outcome(&trip.lead, &trip.key, Some(old)),
            None => Outcome::Failed(error),
        }
    }

    async fn load_and_store(
        &self,
        trip: &Trip,
        right: Right,
        place: Place,
        old: Option<Found>,
        loading: Loading,
    ) -> Outcome {
        let Trip { lead, key, terms, budget, .. } = trip;
        let known = old.as_ref().map(|old| old.resident.clone());
        let known = known.or_else(|| self.old_copy(key).map(|old| old.resident));
        // A batch may still wait for its place, or for its other keys.
        if !place.is_in_batch() {
            lead.begin_load(self.shared.clock.now(), right.lease());
        }
        let load = self.load(known.as_ref(), loading);
        let ran = self.holding(key, &right, || lead.is_fenced(), load).await;
        drop(place);
        if trip.is_behind {
            self.count_background(ran.result.is_ok());
        }
        if !lead.end_load() {
            return self.fenced(trip, &right, ran, old);
        }
        let (loaded, lasting) = match ran.result {
            Ok(Some(loaded)) => {
                let ttl = self.ttl_of_loaded(key, loaded.ttl, terms);
                let lasting = terms.lasting(ttl, &self.shared.chance);
                (loaded, lasting)
            }
            Ok(None) => {
                let mut lasting = terms.lasting_absence(&self.shared.chance);
                if lasting.ttl.is_zero() {
                    if known.is_none() {
                        lead.calling(budget.spend(self.give_back(key, &right))).await;
                        return self.outcome(lead, key, None);
                    }
                    // An old value is not to be returned any more after this.
                    lasting.ttl = Ttl::After(REPLACED_FOR);
                }
                (Loaded { value: absent(), tags: Vec::new(), ttl: None }, lasting)
            }
            Err(error) => {
                lead.calling(budget.spend(self.give_back(key, &right))).await;
                return self.failed(trip, old, error);
            }
        };
        self.after_success(key);
        let mut resident = self.entry(loaded.value, right.version(), lasting, &loaded.tags);
        resident.load_micros = ran.micros;
        lead.calling(budget.spend(self.store(trip, right, resident, lasting, &loaded.tags))).await
    }

    /// The outcome of a flight that was fenced: what it brought, for its leader alone. A copy that is older than that leaves, so
    /// that no later read goes back; no ticket is void by it, because the flight that has begun meanwhile brings nothing older.
    fn fenced(&self, trip: &Trip, right: &Right, ran: Ran, old: Option<Found>) -> Outcome {
        let Trip { key, terms, .. } = trip;
        match ran.result {
            Ok(Some(Loaded { value, tags, ttl })) => {
                let lasting = terms.lasting(ttl.unwrap_or(terms.ttl), &self.shared.chance);
                let resident = self.entry(value, right.version(), lasting, &tags);
                self.leave_older(key, right.version());
                Outcome::Overtaken(Some(Found {
                    resident,
                    tier: Tier::Origin,
                    encoded: None,
                    stale: None,
                    is_shared: false,
                }))
            }
            Ok(None) => {
                self.leave_older(key, right.version());
                Outcome::Overtaken(None)
            }
            Err(error) => match self.old_instead(trip, old) {
                Some(old) => Outcome::Overtaken(Some(old.stale(StaleReason::LoadFailed))),
                None => Outcome::Failed(error),
            },
        }
    }

    /// Copies an L2 hit into L1.
    pub(crate) fn promote(&self, ticket: Ticket, key: &Key, found: &Found) {
        if let Some(l1) = self.l1().filter(|_| found.stale.is_none()) {
            let weight = self.weigh(&found.resident.value, found.encoded);
            let copy = self.copy(found.resident.clone(), weight, true, &self.space.terms());
            if !l1.keep(self.space.id, key, ticket, copy) {
                self.forget_older(key, found.resident.version);
            }
        }
    }

    /// Drops the copy of this version, which L2 does not have any more. Nothing was changed by that, so no ticket is void.
    pub(crate) fn forget(&self, key: &Key, version: Version) {
        if let Some(l1) = self.l1() {
            l1.forget(self.name_of(key.as_str()), version);
        }
    }

    /// Drops a copy that is older than this version, and leaves tickets as they are.
    fn leave_older(&self, key: &Key, version: Version) {
        if let Some(l1) = self.l1() {
            l1.leave_older(self.name_of(key.as_str()), version);
        }
    }

    pub(crate) fn forget_older(&self, key: &Key, version: Version) {
        if let Some(l1) = self.l1() {
            l1.forget_older(self.name_of(key.as_str()), version);
        }
    }

    /// Runs the loader, come what may of it.
    pub(crate) async fn load(&self, old: Option<&Resident>, loading: Loading) -> Ran {
        let limit = self.space.rules().load_timeout;
        let begun = self.shared.clock.precise();
        let running = async { loading(old).await };
        let allowed = if mutants::is(Mutant::NoLoadTimeout) { Duration::MAX } else { limit };
        let span = spans::load(&self.space.namespace);
        let running = AssertUnwindSafe(running).catch_unwind().instrument(span.clone());
        let ran = crate::runtime::within(allowed, running).await;
        // Never zero: that is what tells a loaded value from one that was stored.
        let micros = self.shared.clock.precise().since(begun).as_micros().max(1);
        let result = match ran {
            None => Err(ErrorKind::LoadTimedOut { after: limit }.into()),
            Some(Err(panic)) => Err(panicked(&*panic)),
            Some(Ok(result)) => result,
        };
        self.space.counters.count(match result.as_ref().map_err(Error::kind) {
            Ok(Some(_)) => Event::LoadFound,
            Ok(None) => Event::LoadAbsent,
            Err(ErrorKind::LoadPanicked { .. }) => Event::LoadPanicked,
            Err(ErrorKind::Overloaded { .. }) => Event::LoadRefused,
            Err(ErrorKind::Load(failure)) if failure.fault() == Fault::Here => Event::LoadNotAsked,
            Err(_) => Event::LoadFailed,
        });
        spans::end_load(&span, &result);
        Ran { result, micros: u32::try_from(micros).unwrap_or(u32::MAX) }
    }

    /// Fills L2 and L1 with what was loaded, as far as the right to do so goes.
    async fn store(
        &self,
        trip: &Trip,
        right: Right,
        resident: Resident,
        lasting: Lasting,
        tags: &[Tag],
    ) -> Outcome {
        let Trip { lead, key, .. } = trip;
        let found = Found {
            resident: resident.clone(),
            tier: Tier::Origin,
            encoded: None,
            stale: None,
            is_shared: false,
        };
        if lasting.ttl.is_zero() {
            let outcome = self.outcome(lead, key, Some(found));
            if trip.outdated.is_some() {
                // What L2 has is fresh, and would be found again. The lease ends with it.
                let _removed_or_queued = self.remove_gone(key, &right, trip.outdated).await;
            } else {
                self.give_back(key, &right).await;
            }
            self.forget_older(key, right.version());
            return outcome;
        }
        match self.fill(key, &right, &resident, lasting, tags).await {
            Filled::Yes { encoded, generations } => {
                self.space.counters.count(Event::FillStored);
                self.keep(trip, resident.stamped(generations), Some(encoded), true);
                self.outcome(lead, key, Some(found))
            }
            Filled::WithoutL2 { is_anchored } => {
                match self.keep(trip, resident, None, is_anchored) {
                    Some(true) => self.space.counters.count(Event::FillStored),
                    Some(false) => self.space.counters.count(Event::FillRejected),
                    None => {}
                }
                self.outcome(lead, key, Some(found))
            }
            Filled::Nowhere => {
                let outcome = self.outcome(lead, key, Some(found));
                self.forget_older(key, right.version());
                outcome
            }
            Filled::Overtaken => {
                self.space.counters.count(Event::FillRejected);
                self.forget_older(key, right.version());
                Outcome::Overtaken(Some(found))
            }
        }
    }

    /// Keeps a loaded value in L1, unless its key was invalidated meanwhile. Returns whether it was not; `None` if the
    /// value is nothing for L1.
    fn keep(
        &self,
        trip: &Trip,
        resident: Resident,
        encoded: Option<usize>,
        is_anchored: bool,
    ) -> Option<bool> {
        let Trip { lead, key, terms, .. } = trip;
        let l1 = self.l1()?;
        if terms.l1_ttl.is_zero() {
            l1.leave_to(self.name_of(key.as_str()), resident.version);
            return None;
        }
        let weight = self.weigh(&resident.value, encoded);
        if weight > self.space.rules().value_bytes_max {
            tracing::warn!(namespace = %self.space.namespace, "a loaded value is larger than the keyspace allows; it is not kept");
            return None;
        }
        Some(l1.keep(self.space.id, key, lead.ticket(), self.copy(resident, weight, is_anchored, terms)))
    }

    /// The outcome of a flight: for everybody, unless the value was invalidated since it began.
    fn outcome(&self, lead: &Lead, key: &Key, found: Option<Found>) -> Outcome {
        if self.is_untouched(lead.ticket(), key, found.as_ref()) {
            Outcome::Answer(found)
        } else {
            Outcome::Overtaken(found)
        }
    }

    /// Whether nothing was invalidated that concerns what was found under this ticket.
    pub(crate) fn is_untouched(&self, ticket: Ticket, key: &Key, found: Option<&Found>) -> bool {
        let tags = found.map_or(&[][..], |found| found.resident.tags());
        // In this order: who retires a ban voids tickets first.
        !self.space.bans.name(ticket.born, key.as_str(), tags) && self.shared.tickets.is_valid(ticket)
    }
}

/// Begins what the caller's code makes of it; that it panics is a failure of the load.
pub(crate) fn begin_loading(load: impl FnOnce() -> Loading) -> Loading {
    catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|panic| {
        let error = panicked(&*panic);
        Box::new(move |_| Box::pin(async move { Err(error) }))
    })
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    ErrorKind::LoadPanicked { message: crate::runtime::panic_message(panic).into() }.into()
}
