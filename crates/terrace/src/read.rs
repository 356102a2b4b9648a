//! The order of tiers on a read.
//!
//! ```text
//! look in L1 ─miss─▶ board a flight ─▶ look in L2 ─miss─▶ obtain a lease ─▶ load ─▶ fill L2 ─▶ keep in L1
//! ```
//!
//! 1. A hit in L1 touches memory only: no task, no lock that a writer holds for long, no allocation.
//! 2. Whatever is returned as fresh was read or loaded after the caller came, or is held by a tier that knows of every
//!    invalidation that returned on this node before.
//! 3. L2 in trouble is a miss. It is counted; it fails no read.

use crate::coherence::tickets::Ticket;
use crate::entry::{Found, Resident, Tier};
use crate::erased::Erased;
use crate::error::{Error, ErrorKind};
use crate::flight::{Boarding, Joinable, Lead, Outcome};
use crate::lease::{Filled, Right};
use crate::space::{SuspectPolicy, View};
use crate::telemetry::Event;
use futures_util::FutureExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use terrace_core::envelope::Envelope;
use terrace_core::mutants::{self, Mutant};
use terrace_core::remote::{BoxFuture, Stored};
use terrace_core::{Key, Moment, Tag, Ttl, Version};

/// What a loader brought.
pub(crate) struct Loaded {
    pub(crate) value: Erased,
    pub(crate) tags: Vec<Tag>,
    /// Overrides the keyspace's TTL.
    pub(crate) ttl: Option<Ttl>,
}

/// A load that may run, with its result made typeless.
pub(crate) type Loading = BoxFuture<'static, Result<Option<Loaded>, Error>>;

/// What L2 had to say about a key.
pub(crate) enum Look {
    /// It has a fresh value.
    Hit(Found),
    /// It has none, or a dead one of this version.
    Miss { dead: Option<Version> },
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

/// Flights that a caller joins in vain, because the key was invalidated meanwhile, before it begins its own.
const VAIN_JOINS_MAX: usize = 2;
/// How long L2 is asked about a copy that is there, before the copy is returned as stale.
const VALIDATION_MAX: Duration = Duration::from_millis(50);

impl View {
    /// Reads a key that nobody loads.
    pub(crate) async fn read(&self, key: &Key) -> Result<Option<Found>, Error> {
        let found = self.look(key).await?;
        self.count_lookup(found.as_ref());
        Ok(found)
    }

    /// [`View::read`], without counting it.
    pub(crate) async fn look(&self, key: &Key) -> Result<Option<Found>, Error> {
        if let Some(found) = self.look_in_l1(key.as_str()) {
            return Ok(Some(found));
        }
        let can_ask = self.can_ask_l2().await;
        let ticket = self.shared.tickets.take(self.name_of(key.as_str()));
        let look = if can_ask { self.validate(key).await } else { self.without_l2(key) };
        match look {
            Look::Hit(found) => {
                self.promote(ticket, key, &found);
                Ok(Some(found))
            }
            Look::Miss { .. } | Look::Unknown => Ok(None),
            Look::Unproven => Err(ErrorKind::Unproven.into()),
        }
    }

    /// Reads a key, and loads it if no tier has it. `known` is what L2 said of it just now, if it was asked.
    pub(crate) async fn read_or_load(
        &self,
        key: &Key,
        known: Option<Look>,
        wanted: Wanted,
        load: impl FnOnce() -> Loading,
    ) -> Result<Option<Found>, Error> {
        let result = self.find_or_load(key, known, wanted, load).await;
        self.count_lookup(result.as_ref().ok().and_then(Option::as_ref));
        result
    }

    async fn find_or_load(
        &self,
        key: &Key,
        mut known: Option<Look>,
        wanted: Wanted,
        load: impl FnOnce() -> Loading,
    ) -> Result<Option<Found>, Error> {
        let mut vain_joins = 0;
        let (lead, known) = loop {
            if let Some(found) = self.look_in_l1(key.as_str()) {
                return Ok(Some(found));
            }
            if known.is_none() && !self.can_ask_l2().await {
                known = Some(self.without_l2(key));
            }
            if self.l1().is_none() && known.is_none() {
                known = Some(self.look_in_l2(key).await);
            }
            if known.is_none() && self.space.rules.suspect == SuspectPolicy::Stale {
                known = self.suspect_copy(key).map(Look::Hit);
            }
            let look = known.take();
            match look {
                Some(Look::Hit(found)) => return Ok(Some(found)),
                Some(Look::Unproven) => return Err(ErrorKind::Unproven.into()),
                _ => {}
            }
            let (name, now) = (self.name_of(key.as_str()), self.shared.clock.now());
            let joinable = if vain_joins >= VAIN_JOINS_MAX { Joinable::No } else { self.joinable() };
            match self.space.flights.board(key, name, &self.shared.tickets, joinable, now) {
                Boarding::Lead(lead) => break (lead, look),
                Boarding::Wait(flight) => flight.call_over().await,
                Boarding::Join(flight) => match flight.joined().await {
                    Some(Ok(found)) if !self.is_untouched(flight.ticket(), key, found.as_ref()) => {
                        vain_joins += 1;
                    }
                    Some(Ok(None)) if wanted == Wanted::Value => vain_joins += 1,
                    Some(result) => {
                        self.space.counters.count(Event::Coalesced);
                        return result;
                    }
                    None => vain_joins += 1,
                },
            }
        };
        let leave = self.begin()?;
        let flight = lead.flight();
        let loading = catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|panic| {
            let error = panicked(&*panic);
            Box::pin(async move { Err(error) })
        });
        self.shared.runtime.spawn_load(leave, self.clone().fly(lead, key.clone(), known, loading));
        flight.led().await
    }

    /// Sees to it that L2 and this node agree about the namespace, before a ticket is taken. `false` if L2 cannot be asked.
    pub(crate) async fn can_ask_l2(&self) -> bool {
        self.see_to_l2();
        match self.l2() {
            Some(l2) => l2.prepare(&self.space).await.is_ok(),
            None => true,
        }
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

    /// Counts one lookup, as a hit or as a miss.
    pub(crate) fn count_lookup(&self, found: Option<&Found>) {
        match found {
            Some(found) if found.is_stale => self.space.counters.count(Event::HitStale),
            Some(found) => self.space.counters.hit(found.tier),
            None => self.space.counters.miss(),
        }
    }

    /// A fresh copy in this process' memory.
    #[inline]
    pub(crate) fn look_in_l1(&self, text: &str) -> Option<Found> {
        let resident = self.l1_trusted()?.get_with(self.name_of(text), &self.space.bans, Resident::clone)?;
        Some(Found::in_l1(resident, false))
    }

    /// A fresh copy that came between a caller's look and its ticket. A write without L2 has no other witness: a load
    /// that began then must not replace it.
    fn look_again(&self, text: &str) -> Option<Found> {
        let resident = self.l1_trusted()?.peek_in_order(self.name_of(text), &self.space.bans)?;
        Some(Found::in_l1(resident, false))
    }

    /// [`View::look_in_l1`], or a copy that the keyspace wants to be returned although it cannot be proven fresh.
    pub(crate) fn look_here(&self, key: &Key) -> Option<Found> {
        let as_it_is = || match self.space.rules.suspect {
            SuspectPolicy::Stale => self.suspect_copy(key),
            SuspectPolicy::Validate | SuspectPolicy::Error => None,
        };
        self.look_in_l1(key.as_str()).or_else(as_it_is)
    }

    /// A copy in this process' memory that cannot be proven fresh.
    fn suspect_copy(&self, key: &Key) -> Option<Found> {
        let l1 = self.l1().filter(|_| !self.space.trust.holds(&self.shared.clock))?;
        let resident = l1.get_with(self.name_of(key.as_str()), &self.space.bans, Resident::clone)?;
        Some(Found::in_l1(resident, true))
    }

    /// What L2 says; where it says nothing, what the keyspace wants to be done with a copy that may be old.
    pub(crate) async fn validate(&self, key: &Key) -> Look {
        let Some(copy) = self.suspect_copy(key) else { return self.look_in_l2(key).await };
        self.space.counters.count(Event::Validated);
        if let Some(l2) = self.l2() {
            l2.see_to_listening();
        }
        let look = match self.space.rules.suspect {
            SuspectPolicy::Stale => return Look::Hit(copy),
            SuspectPolicy::Validate => crate::runtime::within(VALIDATION_MAX, self.look_in_l2(key)).await,
            SuspectPolicy::Error => Some(self.look_in_l2(key).await),
        };
        match look.unwrap_or(Look::Unknown) {
            Look::Miss { dead } => {
                self.forget(key, copy.resident.version);
                Look::Miss { dead }
            }
            Look::Unknown => self.unproven(copy),
            look => look,
        }
    }

    /// What becomes of a copy that may be old when L2 cannot be asked.
    pub(crate) fn unproven(&self, copy: Found) -> Look {
        if self.space.rules.suspect == SuspectPolicy::Error { Look::Unproven } else { Look::Hit(copy) }
    }

    /// [`View::unproven`] of a key's copy, if there is one.
    pub(crate) fn without_l2(&self, key: &Key) -> Look {
        self.suspect_copy(key).map_or(Look::Unknown, |copy| self.unproven(copy))
    }

    /// A fresh value in L2.
    pub(crate) async fn look_in_l2(&self, key: &Key) -> Look {
        let Some(l2) = self.l2() else { return Look::Unknown };
        if self.distrusts(key) {
            return Look::Unknown;
        }
        let sent = self.shared.clock.now();
        let read = l2.call(&self.space, |remote| remote.get(&self.space.namespace, key));
        match read.await {
            Ok(Some(stored)) => self.examine(key, &stored, sent).await,
            Ok(None) => Look::Miss { dead: None },
            Err(_) => Look::Unknown,
        }
    }

    /// Whether what L2 holds is an entry of this key that nobody has invalidated.
    pub(crate) async fn examine(&self, key: &Key, stored: &Stored, sent: Moment) -> Look {
        let dead = Look::Miss { dead: Some(stored.claimed_version()) };
        let Some(envelope) = self.open(key, stored) else { return dead };
        match self.are_tags_alive(&envelope.tags).await {
            Some(true) => {}
            Some(false) => return dead,
            None => return Look::Unknown,
        }
        match self.decode(&envelope) {
            Some(value) => Look::Hit(Self::found(value, &envelope, stored, sent)),
            None => dead,
        }
    }

    /// The envelope, if the bytes are one of this key, and no change is known that made it invalid and that L2 has forgotten.
    pub(crate) fn open(&self, key: &Key, stored: &Stored) -> Option<Envelope> {
        self.space.counters.add(Event::L2BytesRead, stored.bytes.len() as u64);
        let opened = Envelope::open(&stored.bytes, &self.space.namespace, key, self.limits());
        opened
            .inspect_err(|error| {
                self.space.counters.count(Event::L2Envelope);
                tracing::warn!(namespace = %self.space.namespace, %error, "an entry in L2 is no envelope of its key");
            })
            .ok()
            .filter(|envelope| !self.space.recent.outdates(key, envelope.version))
    }

    /// The value in an envelope, if this namespace's codec wrote it and can read it.
    pub(crate) fn decode(&self, envelope: &Envelope) -> Option<Erased> {
        let decoded = if envelope.codec == self.space.format.codec() {
            self.space.format.decode(&envelope.payload).ok()
        } else {
            None
        };
        if decoded.is_none() {
            self.space.counters.count(Event::L2Payload);
            tracing::warn!(namespace = %self.space.namespace, codec = envelope.codec.0, "a value in L2 cannot be decoded");
        }
        decoded
    }

    /// An entry read from L2 by a request that was sent at `sent`: it ends here no later than there.
    pub(crate) fn found(value: Erased, envelope: &Envelope, stored: &Stored, sent: Moment) -> Found {
        let remaining = stored.remaining.filter(|_| !mutants::is(Mutant::TtlBeginsAnew));
        let left = remaining.map_or(envelope.ttl, |left| left.min(envelope.ttl));
        let tags: Vec<Tag> = envelope.tags.iter().map(|stamp| stamp.tag.clone()).collect();
        let resident = Resident {
            value,
            version: envelope.version,
            created_ms: envelope.created_ms,
            fresh_until: left.duration().map_or(Moment::NEVER, |left| sent.plus(left)),
            tags: (!tags.is_empty()).then(|| tags.into()),
            born: 0,
            weight_bytes: 0,
        };
        Found { resident, tier: Tier::L2, encoded: Some(envelope.payload.len()), is_stale: false }
    }

    /// The flight of one key, from L2 to the last step.
    async fn fly(self, lead: Lead, key: Key, known: Option<Look>, loading: Loading) {
        let flown = AssertUnwindSafe(self.flown(&lead, &key, known, loading)).catch_unwind().await;
        lead.end(flown.unwrap_or_else(|panic| Outcome::Failed(panicked(&*panic))));
    }

    async fn flown(&self, lead: &Lead, key: &Key, known: Option<Look>, loading: Loading) -> Outcome {
        if let Some(found) = self.look_again(key.as_str()) {
            // For the leader alone: it may be a lease older than the flight. The others find it in L1, if they may.
            return Outcome::Overtaken(Some(found));
        }
        let look = match known {
            Some(look) => look,
            None => lead.calling(self.validate(key)).await,
        };
        let right = match look {
            Look::Hit(found) => Err(Box::new(found)),
            Look::Miss { dead } => lead.calling(self.obtain_right(key, dead)).await,
            Look::Unknown => self.right_without_l2(),
            Look::Unproven => return Outcome::Failed(ErrorKind::Unproven.into()),
        };
        let right = match right {
            Ok(right) => right,
            Err(found) => {
                self.promote(lead.ticket(), key, &found);
                return self.outcome(lead, key, Some(*found));
            }
        };
        match self.holding(key, &right, self.load(loading)).await {
            Ok(Some(loaded)) => lead.calling(self.store(lead, key, right, loaded)).await,
            Ok(None) => {
                lead.calling(self.give_back(key, &right)).await;
                self.outcome(lead, key, None)
            }
            Err(error) => {
                lead.calling(self.give_back(key, &right)).await;
                Outcome::Failed(error)
            }
        }
    }

    /// Copies an L2 hit into L1.
    pub(crate) fn promote(&self, ticket: Ticket, key: &Key, found: &Found) {
        if let Some(l1) = self.l1().filter(|_| !found.is_stale) {
            let weight = self.weigh(&found.resident.value, found.encoded);
            if !l1.keep(self.space.id, key, ticket, self.copy(found.resident.clone(), weight, true)) {
                self.forget_older(key, found.resident.version);
            }
        }
    }

    /// Drops the copy of this version, which L2 does not have any more. Nothing was changed by that, so no ticket is void.
    fn forget(&self, key: &Key, version: Version) {
        if let Some(l1) = self.l1() {
            l1.forget(self.name_of(key.as_str()), version);
        }
    }

    fn forget_older(&self, key: &Key, version: Version) {
        if let Some(l1) = self.l1() {
            l1.forget_older(self.name_of(key.as_str()), version);
        }
    }

    /// Runs the loader, come what may of it.
    pub(crate) async fn load(&self, loading: Loading) -> Result<Option<Loaded>, Error> {
        let limit = self.space.rules.load_timeout;
        let ran = crate::runtime::within(limit, AssertUnwindSafe(loading).catch_unwind()).await;
        let result = match ran {
            None => Err(ErrorKind::LoadTimedOut { after: limit }.into()),
            Some(Err(panic)) => Err(panicked(&*panic)),
            Some(Ok(result)) => result,
        };
        self.space.counters.count(match result.as_ref().map_err(Error::kind) {
            Ok(Some(_)) => Event::LoadFound,
            Ok(None) => Event::LoadAbsent,
            Err(ErrorKind::LoadPanicked { .. }) => Event::LoadPanicked,
            Err(_) => Event::LoadFailed,
        });
        result
    }

    /// Fills L2 and L1 with what was loaded, as far as the right to do so goes.
    async fn store(&self, lead: &Lead, key: &Key, right: Right, loaded: Loaded) -> Outcome {
        let ttl = loaded.ttl.unwrap_or(self.space.rules.ttl);
        let resident = self.entry(loaded.value, right.version(), ttl, &loaded.tags);
        let found = Found { resident: resident.clone(), tier: Tier::Origin, encoded: None, is_stale: false };
        if ttl.is_zero() {
            self.give_back(key, &right).await;
            let outcome = self.outcome(lead, key, Some(found));
            self.forget_older(key, right.version());
            return outcome;
        }
        match self.fill(key, &right, &resident, ttl, &loaded.tags).await {
            Filled::Yes { encoded } => {
                self.space.counters.count(Event::FillStored);
                self.keep(lead, key, resident, Some(encoded), true);
                self.outcome(lead, key, Some(found))
            }
            Filled::WithoutL2 { is_anchored } => {
                match self.keep(lead, key, resident, None, is_anchored) {
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
        lead: &Lead,
        key: &Key,
        resident: Resident,
        encoded: Option<usize>,
        is_anchored: bool,
    ) -> Option<bool> {
        let l1 = self.l1()?;
        let weight = self.weigh(&resident.value, encoded);
        if weight > self.space.rules.value_bytes_max {
            tracing::warn!(namespace = %self.space.namespace, "a loaded value is larger than the keyspace allows; it is not kept");
            return None;
        }
        Some(l1.keep(self.space.id, key, lead.ticket(), self.copy(resident, weight, is_anchored)))
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
    fn is_untouched(&self, ticket: Ticket, key: &Key, found: Option<&Found>) -> bool {
        let tags = found.map_or(&[][..], |found| found.resident.tags());
        // In this order: who retires a ban voids tickets first.
        !self.space.bans.name(ticket.born, key.as_str(), tags) && self.shared.tickets.is_valid(ticket)
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    ErrorKind::LoadPanicked { message: panic_message(panic).into() }.into()
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "a panic without a message"
    }
}
