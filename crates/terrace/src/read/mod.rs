//! The order of tiers on a read.
//!
//! ```text
//! look in L1 ─miss─▶ board a flight ─▶ look in L2 ─miss─▶ obtain a lease ─▶ load ─▶ fill L2 ─▶ keep in L1
//! ```
//!
//! 1. A hit in L1 touches memory only: no task, no lock that a writer holds for long, no allocation.
//! 2. Whatever is returned as fresh was read or loaded after the caller came, or is held by a tier that knows of every
//!    invalidation that returned on this node before.
//! 3. L2 in trouble is a miss. It is counted; it fails no read, but of keyspaces that fail closed: those load nothing then, and say of
//!    no key that it is absent.

mod anew;
mod counted;
mod fly;
mod l2;
mod many;
pub(crate) mod together;

pub(crate) use fly::begin_loading;
pub(crate) use l2::Sent;
pub(crate) use many::Loads;

use crate::coherence::tickets::Ticket;
use crate::entry::{Found, Resident, StaleReason};
use crate::erased::Erased;
use crate::error::{Error, ErrorKind};
use crate::flight::{Boarding, Flight, Joinable, Joined, Lead};
use crate::resilience::Budget;
use crate::space::{SuspectPolicy, View};
use crate::stale::Here;
use crate::telemetry::{Event, spans};
use crate::terms::Terms;
use std::time::Duration;
use terrace_core::mutants::{self, Mutant};
use terrace_core::remote::BoxFuture;
use terrace_core::{Key, Moment, Tag, Ttl, Version};
use tracing::Instrument;

/// What a loader brought.
pub(crate) struct Loaded {
    pub(crate) value: Erased,
    pub(crate) tags: Vec<Tag>,
    /// Overrides the keyspace's TTL.
    pub(crate) ttl: Option<Ttl>,
}

/// A load that may run, with its result made typeless. It is told of the old value, if there is one.
pub(crate) type Loading =
    Box<dyn FnOnce(Option<&Resident>) -> BoxFuture<'static, Result<Option<Loaded>, Error>> + Send>;

/// What a load came to, and how many microseconds it took.
pub(crate) struct Ran {
    pub(crate) result: Result<Option<Loaded>, Error>,
    pub(crate) micros: u32,
}

/// What L2 had to say about a key.
#[derive(Clone)]
pub(crate) enum Look {
    /// It has a fresh value.
    Hit(Found),
    /// The same, and L1 has a copy of it by now, if it may have one.
    Kept(Found),
    /// It has none, or a dead one of this version, which may still be good enough to be returned as stale.
    Miss { dead: Option<Version>, old: Option<Box<Found>> },
    /// It could not be asked, or may not be believed.
    Unknown,
    /// Nor could it be asked about a copy in L1 that may be old, and the keyspace wants an error then.
    Unproven,
}

/// What a caller can do with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    /// The value, or the knowledge that the origin has none.
    Answer,
    /// The value: its own loader always brings one.
    Value,
}

/// A flight on its way.
pub(crate) struct Trip {
    pub(crate) lead: Lead,
    pub(crate) key: Key,
    pub(crate) terms: Terms,
    pub(crate) wanted: Wanted,
    /// The version that is to be replaced, although it is fresh.
    pub(crate) outdated: Option<Version>,
    /// Whether nobody waits for it.
    pub(crate) is_behind: bool,
    /// Whether its loader's call is a batch's, which has a place for all of its keys.
    pub(crate) is_in_batch: bool,
    /// How much longer it may wait for L2.
    pub(crate) budget: Budget,
}

impl Trip {
    /// One that somebody waits for, and that loads by itself.
    pub(crate) fn new(lead: Lead, key: &Key, terms: &Terms, wanted: Wanted, budget: Budget) -> Self {
        let (key, terms) = (key.clone(), *terms);
        Self { lead, key, terms, wanted, outdated: None, is_behind: false, is_in_batch: false, budget }
    }
}

/// Flights that a caller joins in vain, because the key was invalidated meanwhile, before it begins its own.
const VAIN_JOINS_MAX: usize = 2;

impl View {
    /// Reads a key that nobody loads.
    pub(crate) async fn read(&self, key: &Key) -> Result<Option<Found>, Error> {
        let mut lookup = self.lookups(1);
        let result = self.look(key).await;
        lookup.end(&result);
        result
    }

    /// [`View::read`], without counting it.
    pub(crate) async fn look(&self, key: &Key) -> Result<Option<Found>, Error> {
        self.look_and(key, true).await
    }

    /// [`View::look`]; whether L1 gets a copy of what L2 has is for the caller to say.
    pub(crate) async fn look_and(&self, key: &Key, is_kept: bool) -> Result<Option<Found>, Error> {
        if let Some(found) = self.look_in_l1(key.as_str()) {
            return Ok(Some(found));
        }
        let budget = self.budget();
        let can_ask = budget.spend(self.can_ask_l2()).await;
        let ticket = self.shared.tickets.take(self.name_of(key.as_str()));
        let look = if can_ask { budget.spend(self.validate(key)).await } else { self.without_l2(key) };
        match look {
            Look::Hit(found) => {
                if is_kept {
                    self.promote(ticket, key, &found);
                }
                Ok(Some(found))
            }
            Look::Kept(found) => Ok(Some(found)),
            Look::Miss { .. } | Look::Unknown | Look::Unproven if let Some(found) = self.find_behind(key) => {
                Ok(Some(found))
            }
            Look::Miss { .. } => Ok(None),
            Look::Unknown => self.unknown(key),
            Look::Unproven => Err(ErrorKind::Unproven.into()),
        }
    }

    /// Reads a key, and loads it if no tier has it.
    pub(crate) async fn read_or_load(
        &self,
        key: &Key,
        wanted: Wanted,
        terms: &Terms,
        load: impl FnOnce() -> Loading,
    ) -> Result<Option<Found>, Error> {
        let mut lookup = self.lookups(1);
        let finding = self.find_or_load(key, wanted, terms, load);
        let result = self.with_patience(key, wanted, terms, finding).await;
        lookup.end(&result);
        result
    }

    pub(crate) async fn find_or_load(
        &self,
        key: &Key,
        wanted: Wanted,
        terms: &Terms,
        load: impl FnOnce() -> Loading,
    ) -> Result<Option<Found>, Error> {
        let (budget, mut vain_joins, mut unanswered) = (self.budget(), 0, 0);
        let came = self.shared.clock.now();
        let (lead, look) = loop {
            match self.here(key.as_str()) {
                Here::Fresh(found) if wanted.takes(&found) => return Ok(Some(found)),
                Here::Due(found) => {
                    self.load_behind(key, Some(found.resident.version), terms, load);
                    return Ok(Some(found));
                }
                Here::Old(old) => {
                    if let Some(reason) = self.is_returned_at_once(key, &old, terms) {
                        self.load_behind(key, None, terms, load);
                        return Ok(Some(old.stale(reason)));
                    }
                }
                Here::Fresh(_) | Here::Nothing => {}
            }
            let (ticket, look) = self.known_before(key, &budget).await;
            match look {
                Some(Look::Hit(found) | Look::Kept(found)) if wanted.takes(&found) => return Ok(Some(found)),
                Some(Look::Unproven) => return Err(ErrorKind::Unproven.into()),
                _ => {}
            }
            let joinable = if vain_joins >= VAIN_JOINS_MAX { Joinable::No } else { self.joinable() };
            match self.board(key, joinable, self.shared.clock.now(), terms.flight_age_max) {
                // What was changed since L2 was asked is asked about again, under the flight's own ticket.
                Boarding::Lead(lead) => {
                    break (lead, look.filter(|look| self.is_look_untouched(ticket, key, look)));
                }
                Boarding::Wait(flight) => {
                    if let Some(error) = self.unanswered(&flight, &mut unanswered).await {
                        return self.kept_instead(key, wanted, error);
                    }
                }
                Boarding::Join(flight) => match self.joined(&flight, terms.flight_age_max).await {
                    Joined::Ended(Ok(found)) if !self.is_untouched(flight.ticket(), key, found.as_ref()) => {
                        vain_joins += 1;
                    }
                    Joined::Ended(Ok(None)) if wanted == Wanted::Value => vain_joins += 1,
                    Joined::Ended(Ok(Some(found))) if !wanted.takes(&found) => vain_joins += 1,
                    Joined::Ended(result) => {
                        self.space.counters.count(Event::Coalesced);
                        return result.map(|found| found.map(|found| Found { is_shared: true, ..found }));
                    }
                    Joined::Overtaken => vain_joins += 1,
                    Joined::Fenced if self.has_patience(came) => {}
                    Joined::Fenced => return self.gives_up(key, wanted),
                },
            }
        };
        let leave = self.begin()?;
        let flight = lead.flight();
        let trip = Trip::new(lead, key, terms, wanted, budget);
        self.take_off(leave, trip, look, begin_loading(load));
        flight.led().await
    }

    /// What is known of a key without a flight, if anything is, under a ticket that was taken before: where there is no L1, what L2 says; where L2
    /// cannot be asked, or copies are returned as they are, what is here.
    async fn known_before(&self, key: &Key, budget: &Budget) -> (Ticket, Option<Look>) {
        let can_ask = budget.spend(self.can_ask_l2()).await;
        let ticket = self.shared.tickets.take(self.name_of(key.as_str()));
        let look = if !can_ask {
            Some(self.without_l2(key))
        } else if self.l1().is_none() {
            Some(budget.spend(self.look_in_l2(key)).await)
        } else if self.space.rules().suspect == SuspectPolicy::Stale {
            self.stale_copy(key).map(Look::Hit)
        } else {
            None
        };
        (ticket, look)
    }

    /// Joins the flight of a key, or begins one, which may fence one that takes too long.
    pub(crate) fn board(
        &self,
        key: &Key,
        joinable: Joinable,
        now: Moment,
        age_max: Option<Duration>,
    ) -> Boarding {
        let name = self.name_of(key.as_str());
        let boarding = self.space.flights.board(key, name, &self.shared.tickets, joinable, now, age_max);
        if matches!(&boarding, Boarding::Lead(lead) if lead.has_fenced()) {
            self.space.counters.count(Event::FlightFenced);
        }
        boarding
    }

    /// Waits until a flight's call to L2 is over. If the keyspace fails closed and L2 did not answer, that is an answer for who has waited for at
    /// least half as long as a read may, or for the second time: each of them would else ask again, one after the other. Who came late
    /// looks again: the time that was over is the flight's.
    async fn unanswered(&self, flight: &Flight, times: &mut u32) -> Option<Error> {
        let Some(l2) = self.l2().filter(|_| self.may_go_without_l2().is_err()) else {
            return flight.call_over().await;
        };
        let half = l2.wait_max() / 2;
        let (failed, is_long) = match crate::runtime::within(half, flight.call_over()).await {
            Some(failed) => (failed, false),
            None => (flight.call_over().await, true),
        };
        *times += u32::from(failed.is_some());
        failed.filter(|_| is_long || *times > 1)
    }

    /// What memory has by now, in place of an answer that L2 did not give.
    fn kept_instead(&self, key: &Key, wanted: Wanted, error: Error) -> Result<Option<Found>, Error> {
        let kept = self.look_in_l1(key.as_str()).filter(|found| wanted.takes(found));
        kept.map(Some).ok_or(error)
    }

    /// Waits for a flight that was joined. One that may have to be fenced is as good as one that was: the caller boards again,
    /// and fences it then if it is so.
    async fn joined(&self, flight: &Flight, age_max: Option<Duration>) -> Joined {
        let joined = flight.joined().instrument(spans::wait(&self.space.namespace, flight.span()));
        let Some(age_max) = age_max else { return joined.await };
        let patience = flight.patience(self.shared.clock.now(), age_max);
        crate::runtime::within(patience, joined).await.unwrap_or(Joined::Fenced)
    }

    /// Whether a caller who came then waits on: for no longer than a load may take, whichever flight it is that takes too long.
    fn has_patience(&self, came: Moment) -> bool {
        self.shared.clock.now().since(came) < self.space.rules().load_timeout
    }

    /// What a caller gets who has waited for as long as a load may take, for one flight after the other that took too long.
    fn gives_up(&self, key: &Key, wanted: Wanted) -> Result<Option<Found>, Error> {
        let old = self.old_copy(key).filter(|old| wanted.takes(old));
        let after = self.space.rules().load_timeout;
        old.map(|old| Some(old.stale(StaleReason::LoadFailed)))
            .ok_or_else(|| ErrorKind::LoadTimedOut { after }.into())
    }

    /// Waits for an answer as long as the caller's terms allow: with an old value until the soft timeout, without one until
    /// the hard one. What was begun goes on.
    async fn with_patience(
        &self,
        key: &Key,
        wanted: Wanted,
        terms: &Terms,
        finding: impl Future<Output = Result<Option<Found>, Error>>,
    ) -> Result<Option<Found>, Error> {
        if terms.soft_timeout.is_none() && terms.hard_timeout.is_none() {
            return finding.await;
        }
        let mut finding = std::pin::pin!(finding);
        if let Some(soft) = terms.soft_timeout {
            if let Some(result) = crate::runtime::within(soft, finding.as_mut()).await {
                return result;
            }
            if let Some(old) = self.old_copy(key).filter(|old| wanted.takes(old)) {
                return Ok(Some(old.stale(StaleReason::LoadSlow)));
            }
        }
        let hard = terms.hard_timeout.filter(|_| !mutants::is(Mutant::NoHardTimeout));
        let Some(hard) = hard else { return finding.await };
        let left = hard.saturating_sub(terms.soft_timeout.unwrap_or_default());
        let result = crate::runtime::within(left, finding).await;
        result.unwrap_or_else(|| Err(ErrorKind::LoadTimedOut { after: hard }.into()))
    }

    /// Sees to it that L2 and this node agree about the namespace, before a ticket is taken. `false` if L2 cannot be asked.
    pub(crate) async fn can_ask_l2(&self) -> bool {
        self.see_to_l2();
        match self.l2() {
            Some(l2) => l2.prepare_read(&self.space).await.is_ok(),
            None => true,
        }
    }

    /// The answer to a read that nobody loads for, where L2 could not be asked. Where there is none, nothing is left to be proven: what is
    /// past its TTL is for those who load.
    pub(crate) fn unknown(&self, key: &Key) -> Result<Option<Found>, Error> {
        if self.l2().is_none() {
            return Ok(None);
        }
        match self.old_copy(key) {
            Some(old) => Ok(Some(old.stale(StaleReason::Unproven))),
            None => self.may_go_without_l2().map(|()| None),
        }
    }

    /// Whether a read goes on that L2 could not be asked for.
    pub(crate) fn may_go_without_l2(&self) -> Result<(), Error> {
        let is_refused = self.l2().is_some() && self.space.rules().fails_closed;
        if is_refused { Err(ErrorKind::L2Unavailable.into()) } else { Ok(()) }
    }

    /// Which flights may be joined now. A flight is no fresher than its beginning, unless all changes since were heard.
    fn joinable(&self) -> Joinable {
        match self.l2() {
            Some(l2) if !self.space.trust.holds(&self.shared.clock) => {
                Joinable::BegunWithin(l2.lease().saturating_sub(self.shared.clock.resolution()))
            }
            _ => Joinable::Unchanged,
        }
    }

    /// A fresh copy in this process' memory.
    pub(crate) fn look_in_l1(&self, text: &str) -> Option<Found> {
        match self.here(text) {
            Here::Fresh(found) | Here::Due(found) => Some(found),
            Here::Old(_) | Here::Nothing => None,
        }
    }

    /// A fresh copy that came between a caller's look and its ticket. A write without L2 has no other witness: a load
    /// that began then must not replace it.
    pub(crate) fn look_again(&self, text: &str) -> Option<Found> {
        let (l1, _) = self.l1_trusted()?;
        let resident = l1.peek_in_order(self.name_of(text), &self.space.bans)?;
        resident.is_answer(self.latest()).then(|| Found::in_l1(resident))
    }

    /// [`View::look_in_l1`], or a copy that the keyspace wants to be returned although it cannot be proven fresh.
    pub(crate) fn look_here(&self, key: &Key) -> Option<Found> {
        let as_it_is = || match self.space.rules().suspect {
            SuspectPolicy::Stale => self.stale_copy(key),
            SuspectPolicy::Validate | SuspectPolicy::Error => None,
        };
        self.look_in_l1(key.as_str()).or_else(as_it_is)
    }
}
