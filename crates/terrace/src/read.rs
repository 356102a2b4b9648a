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

use crate::entry::{Found, Resident, Tier};
use crate::erased::Erased;
use crate::error::Error;
use crate::flight::{Boarding, Lead, Outcome};
use crate::l1::Copy;
use crate::lease::{Filled, Right};
use crate::space::View;
use crate::telemetry::Event;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use terrace_core::envelope::Envelope;
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
}

/// Flights that a caller joins in vain, because the key was invalidated meanwhile, before it begins its own.
const VAIN_JOINS_MAX: usize = 2;

impl View {
    /// Reads a key that nobody loads.
    pub(crate) async fn read(&self, key: &Key) -> Option<Found> {
        if let Some(found) = self.look_in_l1(key.as_str()) {
            return Some(found);
        }
        let ticket = self.shared.tickets.take(self.name(key.as_str()));
        let Look::Hit(found) = self.look_in_l2(key).await else {
            self.space.counters.miss();
            return None;
        };
        if let Some(l1) = self.l1() {
            l1.keep(self.space.id, key, ticket, self.copy(found.resident.clone(), None, true));
        }
        self.space.counters.hit(Tier::L2);
        Some(found)
    }

    /// Reads a key, and loads it if no tier has it.
    pub(crate) async fn read_or_load(
        &self,
        key: &Key,
        load: impl FnOnce() -> Loading,
    ) -> Result<Option<Found>, Error> {
        let mut vain_joins = 0;
        let flight = loop {
            if let Some(found) = self.look_in_l1(key.as_str()) {
                return Ok(Some(found));
            }
            let anew = vain_joins >= VAIN_JOINS_MAX;
            match self.space.flights.board(key, self.name(key.as_str()), &self.shared.tickets, anew) {
                Boarding::Lead(lead) => break lead,
                Boarding::Wait(flight) => flight.call_over().await,
                Boarding::Join(flight) => {
                    self.space.counters.count(Event::Coalesced);
                    match flight.joined().await {
                        Some(result) => return self.count_flown(result),
                        None => vain_joins += 1,
                    }
                }
            }
        };
        self.begin()?;
        let led = flight.flight();
        self.shared.runtime.spawn(self.clone().fly(flight, key.clone(), load()));
        self.count_flown(led.led().await)
    }

    fn count_flown(&self, result: Result<Option<Found>, Error>) -> Result<Option<Found>, Error> {
        match &result {
            Ok(Some(found)) => self.space.counters.hit(found.tier),
            _ => self.space.counters.miss(),
        }
        result
    }

    /// A fresh copy in this process' memory.
    #[inline]
    pub(crate) fn look_in_l1(&self, text: &str) -> Option<Found> {
        let resident = self.l1()?.get_with(self.name(text), Resident::clone)?;
        self.space.counters.hit(Tier::L1);
        Some(Found { resident, tier: Tier::L1 })
    }

    /// A fresh copy that came between a caller's look and its ticket. A write without L2 has no other witness: a load
    /// that began then must not replace it.
    fn look_again(&self, text: &str) -> Option<Found> {
        Some(Found { resident: self.l1()?.peek(self.name(text))?, tier: Tier::L1 })
    }

    /// A fresh value in L2.
    pub(crate) async fn look_in_l2(&self, key: &Key) -> Look {
        let Some(l2) = self.l2() else { return Look::Unknown };
        if self.space.pending.distrusts(key) {
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

    /// The envelope, if the bytes are one of this key.
    pub(crate) fn open(&self, key: &Key, stored: &Stored) -> Option<Envelope> {
        self.space.counters.add(Event::L2BytesRead, stored.bytes.len() as u64);
        let opened = Envelope::open(&stored.bytes, &self.space.namespace, key, self.limits());
        opened
            .inspect_err(|error| {
                self.space.counters.count(Event::L2Envelope);
                tracing::warn!(namespace = %self.space.namespace, %error, "an entry in L2 is no envelope of its key");
            })
            .ok()
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
        let left = stored.remaining.unwrap_or(envelope.ttl);
        let tags: Vec<Tag> = envelope.tags.iter().map(|stamp| stamp.tag.clone()).collect();
        let resident = Resident {
            value,
            version: envelope.version,
            created_ms: envelope.created_ms,
            fresh_until: left.duration().map_or(Moment::NEVER, |left| sent.plus(left)),
            tags: (!tags.is_empty()).then(|| tags.into()),
            weight_bytes: 0,
        };
        Found { resident, tier: Tier::L2 }
    }

    /// The flight of one key, from L2 to the last step.
    async fn fly(self, lead: Lead, key: Key, loading: Loading) {
        let outcome = self.flown(&lead, &key, loading).await;
        lead.end(outcome);
    }

    async fn flown(&self, lead: &Lead, key: &Key, loading: Loading) -> Outcome {
        if let Some(found) = self.look_again(key.as_str()) {
            return self.outcome(lead, Some(found));
        }
        let right = match lead.calling(self.look_in_l2(key)).await {
            Look::Hit(found) => return self.promote(lead, key, found),
            Look::Miss { dead } => lead.calling(self.obtain_right(key, dead)).await,
            Look::Unknown => self.right_without_l2(),
        };
        let right = match right {
            Ok(right) => right,
            Err(found) => return self.promote(lead, key, *found),
        };
        match self.load(loading).await {
            Ok(Some(loaded)) => lead.calling(self.store(lead, key, right, loaded)).await,
            Ok(None) => {
                self.give_back(key, &right).await;
                self.outcome(lead, None)
            }
            Err(error) => {
                self.give_back(key, &right).await;
                Outcome::Failed(error)
            }
        }
    }

    /// Copies an L2 hit into L1.
    fn promote(&self, lead: &Lead, key: &Key, found: Found) -> Outcome {
        self.keep(lead, key, self.copy(found.resident.clone(), None, true));
        self.outcome(lead, Some(found))
    }

    /// Runs the loader, come what may of it.
    async fn load(&self, loading: Loading) -> Result<Option<Loaded>, Error> {
        let limit = self.space.rules.load_timeout;
        let ran = crate::runtime::within(limit, AssertUnwindSafe(loading).catch_unwind()).await;
        let result = match ran {
            None => Err(Error::LoadTimedOut { after: limit }),
            Some(Err(panic)) => Err(Error::LoadPanicked { message: panic_message(&*panic).into() }),
            Some(Ok(result)) => result,
        };
        self.space.counters.count(match &result {
            Ok(Some(_)) => Event::LoadFound,
            Ok(None) => Event::LoadAbsent,
            Err(Error::LoadPanicked { .. }) => Event::LoadPanicked,
            Err(_) => Event::LoadFailed,
        });
        result
    }

    /// Fills L2 and L1 with what was loaded, as far as the right to do so goes.
    async fn store(&self, lead: &Lead, key: &Key, right: Right, loaded: Loaded) -> Outcome {
        let ttl = loaded.ttl.unwrap_or(self.space.rules.ttl);
        let resident = self.entry(loaded.value, right.version(), ttl, &loaded.tags);
        let found = Found { resident: resident.clone(), tier: Tier::Origin };
        if ttl.is_zero() {
            self.give_back(key, &right).await;
            return self.outcome(lead, Some(found));
        }
        let filled = self.fill(key, &right, &resident, ttl, &loaded.tags).await;
        match filled {
            Filled::Yes { encoded } => {
                self.keep(lead, key, self.copy(resident, Some(encoded), true));
                self.outcome(lead, Some(found))
            }
            Filled::WithoutL2 { is_anchored } => {
                self.keep(lead, key, self.copy(resident, None, is_anchored));
                self.outcome(lead, Some(found))
            }
            Filled::Nowhere => self.outcome(lead, Some(found)),
            Filled::Overtaken => Outcome::Overtaken(Some(found)),
        }
    }

    fn keep(&self, lead: &Lead, key: &Key, copy: Copy) {
        if copy.weight_bytes > self.space.rules.value_bytes_max {
            tracing::warn!(namespace = %self.space.namespace, "a loaded value is larger than the keyspace allows; it is not kept");
        } else if let Some(l1) = self.l1() {
            l1.keep(self.space.id, key, lead.ticket(), copy);
        }
    }

    /// The outcome of a flight: for everybody, unless the key was invalidated since it began.
    fn outcome(&self, lead: &Lead, found: Option<Found>) -> Outcome {
        if self.shared.tickets.is_valid(lead.ticket()) {
            Outcome::Answer(found)
        } else {
            Outcome::Overtaken(found)
        }
    }
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
