//! The right to load a key and to fill L2 with it, fleet-wide.
//!
//! 1. A fill happens only under a lease that L2 granted before the load began, and that no invalidation has voided.
//!    So the result of a late loader is never stored over an invalidation.
//! 2. A token is the name of one load, never of a node.
//! 3. A lease lasts for [`TERM`], and is renewed while its load runs, which is for the keyspace's `load_timeout` at most. So one that
//!    is lost with its node runs out soon, and one that lives belongs to somebody who is at work.
//! 4. Somebody else's lease is waited for, for at most [`WAIT_MAX`]. That it has ended is heard over the bus ([`crate::waiting`]);
//!    where that may be deaf, the value is looked for in pauses that grow. After that the value is loaded and returned,
//!    and kept nowhere: this node has no right to fill. Such a load is shared by those who came while it ran, although
//!    only this node's invalidations can end it early.
//!    Whoever waits gives its place for a load back first ([`crate::bulkhead`]), and takes one again afterwards if there is one at
//!    once; else it looks for the value, and queues for a place without a lease.
//! 5. A lease whose load brought nothing that can be stored is given back, and so is one that comes too late for its read.
//! 6. A fill goes on when its read waits for it no longer: L2 stores it if the lease still holds. The copy in L1 is unanchored then.

use crate::bulkhead::Place;
use crate::coherence::generations::Heads;
use crate::entry::{Found, Resident};
use crate::read::{Look, Wanted};
use crate::resilience::L2;
use crate::space::{Made, View};
use crate::telemetry::Event;
use crate::terms::Lasting;
use crate::waiting::Waiter;
use std::time::Duration;
use terrace_core::remote::{FillOutcome, Lease, LeaseOutcome, LeaseToken};
use terrace_core::{Chance, Clock, Key, Moment, RemoteError, Tag, Version};

/// How long a lease lasts: so long others wait for a node that died during its load.
const TERM: Duration = Duration::from_secs(3);
/// A lease is renewed so many times in its term: a machine that is busy may miss some.
const RENEWALS_PER_TERM: u32 = 4;
/// Longest wait for others' loads: a few terms, so that one whose holder dies, and the next one's load, are waited for.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// First pause between two looks for somebody else's value; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(2);
/// Longest pause between two looks, where nothing is heard of the value's coming.
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// The pause between two looks, where it is.
const PAUSE_HEARING: Duration = Duration::from_millis(500);

/// What a load may do with its result.
pub(crate) enum Right {
    /// Fill L2 and L1. The heads were taken before the load.
    Leased(Lease, Option<Heads>),
    /// Keep it in L1: there is no L2. The version was given out on this node before the load.
    Alone(Version),
    /// Keep it in L1 for a short while: L2 cannot be asked.
    Unanchored,
    /// Return it, and keep it nowhere: somebody else has the lease.
    None,
}

impl Right {
    /// The lease, if there is one.
    pub(crate) fn lease(&self) -> Option<&Lease> {
        match self {
            Self::Leased(lease, _) => Some(lease),
            Self::Alone(_) | Self::Unanchored | Self::None => None,
        }
    }

    /// The version that the result will have.
    pub(crate) fn version(&self) -> Version {
        match self {
            Self::Leased(lease, _) => lease.version,
            Self::Alone(version) => *version,
            Self::Unanchored | Self::None => Version::ZERO,
        }
    }
}

/// What came of filling L2.
pub(crate) enum Filled {
    /// It holds the value, in this many bytes before compression.
    Yes {
        /// The length of the encoding.
        encoded: usize,
        /// The generations of its tags, in their order.
        generations: Vec<Version>,
    },
    /// There is none, or it cannot be reached.
    WithoutL2 {
        /// Whether the version was given out by the one who gives versions here.
        is_anchored: bool,
    },
    /// It is kept nowhere: somebody else has the lease, or the value cannot be stored.
    Nowhere,
    /// The key or one of its tags was invalidated while it was loaded.
    Overtaken,
}

impl View {
    /// The right of a load that cannot ask L2.
    pub(crate) fn right_without_l2(&self) -> Right {
        match self.l2() {
            None => Right::Alone(self.shared.versions.next()),
            Some(_) => Right::Unanchored,
        }
    }

    /// Begins to ask for the right to load a key, of which L2 has a dead value of this version.
    pub(crate) fn asking<'a>(&'a self, key: &'a Key, dead: Option<Version>, wanted: Wanted) -> Asking<'a> {
        Asking {
            key,
            dead,
            wanted,
            token: LeaseToken(token(&self.shared.chance)),
            was_held: false,
            patience: Patience::new(&self.shared.clock),
            waiter: self.space.waiting.begin(key),
        }
    }

    /// Asks for a lease, for a load that has a place, waiting for another holder within bounds; or finds what it brought meanwhile, if
    /// that is what is wanted.
    pub(crate) async fn obtain_right(&self, asking: &mut Asking<'_>, place: Place) -> Obtained {
        let Some(l2) = self.l2() else { return Obtained::Right(self.right_without_l2(), place) };
        let (key, mut place) = (asking.key, place);
        loop {
            let ended = asking.waiter.ended();
            let sent = self.sending(key);
            let remaining = match self.ask_again(l2, asking).await {
                Ok(LeaseOutcome::Granted(lease)) => {
                    return Obtained::Right(Right::Leased(lease, self.space.generations.heads()), place);
                }
                Ok(LeaseOutcome::Hit(stored)) => match self.examine(key, &stored, sent).await {
                    Look::Hit(found) | Look::Kept(found) if asking.wanted.takes(&found) => {
                        return Obtained::Found(Box::new(found));
                    }
                    Look::Hit(found) | Look::Kept(found) => {
                        asking.dead = Some(found.resident.version);
                        Duration::ZERO
                    }
                    Look::Miss { dead: seen, .. } => {
                        asking.dead = seen;
                        Duration::ZERO
                    }
                    Look::Unknown | Look::Unproven => return Obtained::Right(Right::Unanchored, place),
                },
                Ok(LeaseOutcome::Held { remaining }) => {
                    asking.was_held = true;
                    remaining
                }
                Err(_) => return Obtained::Right(Right::Unanchored, place),
            };
            if self.distrusts(key) {
                return Obtained::Right(Right::Unanchored, place);
            }
            if asking.patience.is_over(&self.shared.clock) {
                return Obtained::Right(Right::None, place);
            }
            let is_in_batch = place.is_in_batch();
            drop(place);
            let hears = l2.remote().bus().is_some() && self.space.trust.holds(&self.shared.clock);
            asking.patience.pause(hears, remaining, ended).await;
            let again = if is_in_batch { Some(Place::in_batch()) } else { self.place_now() };
            place = match again {
                Some(place) => place,
                None => match self.look_in_l2(key).await {
                    Look::Hit(found)
                        if asking.dead != Some(found.resident.version) && asking.wanted.takes(&found) =>
                    {
                        return Obtained::Found(Box::new(found));
                    }
                    _ => return Obtained::NoPlace,
                },
            };
        }
    }

    /// Asks for a lease once more. Where L2 has answered that somebody else loads, and the keyspace fails closed, each question has a read's time of
    /// its own: the wait for another node's load is none for L2.
    async fn ask_again(&self, l2: &L2, asking: &Asking<'_>) -> Result<LeaseOutcome, RemoteError> {
        let asked = self.ask_for_lease(l2, asking.key, asking.token, asking.dead);
        if asking.was_held && self.may_go_without_l2().is_err() {
            return self.budget().spend(asked).await;
        }
        asked.await
    }

    /// Asks for a lease once. One that comes too late for the read is given back, because others wait for it.
    async fn ask_for_lease(
        &self,
        l2: &L2,
        key: &Key,
        token: LeaseToken,
        dead: Option<Version>,
    ) -> Result<LeaseOutcome, RemoteError> {
        let (view, own, term) = (self.clone(), key.clone(), self.term());
        let asking = async move {
            let Some(l2) = view.l2() else { return Ok(LeaseOutcome::Held { remaining: term }) };
            let namespace = &view.space.namespace;
            l2.call(&view.space, "lease", |remote| remote.lease(namespace, &own, token, term, dead)).await
        };
        match self.see_through(asking).await {
            Ok(asked) => asked,
            Err(rest) => {
                let (view, key) = (self.clone(), key.clone());
                self.shared.runtime.spawn_until_closed(async move {
                    if let Ok(LeaseOutcome::Granted(lease)) = rest.await {
                        view.give_back(&key, &Right::Leased(lease, None)).await;
                    }
                });
                Err(l2.timed_out(&self.space))
            }
        }
    }

    /// How long a lease is asked for at a time.
    pub(crate) fn term(&self) -> Duration {
        TERM.min(self.space.rules().load_timeout)
    }

    /// Keeps a lease while `work` goes on, unless it `is_let_go`.
    pub(crate) async fn holding<T>(
        &self,
        key: &Key,
        right: &Right,
        is_let_go: impl Fn() -> bool,
        work: impl Future<Output = T>,
    ) -> T {
        let (Some(l2), Right::Leased(lease, _)) = (self.l2(), right) else { return work.await };
        let term = self.term();
        let renewing = async {
            loop {
                crate::runtime::sleep(term / RENEWALS_PER_TERM).await;
                if is_let_go() {
                    return std::future::pending().await;
                }
                let renewed = l2
                    .call(&self.space, "renew", |remote| {
                        remote.renew(&self.space.namespace, key, lease, term)
                    })
                    .await;
                if matches!(renewed, Ok(false)) {
                    return std::future::pending().await;
                }
            }
        };
        tokio::select! {
            biased;
            done = work => done,
            done = renewing => done,
        }
    }

    /// Gives a lease back whose load brought nothing. That it cannot be given back costs others a wait, no more.
    pub(crate) async fn give_back(&self, key: &Key, right: &Right) {
        let Right::Leased(lease, _) = right else { return };
        let (view, key, lease) = (self.clone(), key.clone(), lease.clone());
        let giving_back = async move {
            let (Some(l2), namespace) = (view.l2(), &view.space.namespace) else { return };
            if l2
                .call(&view.space, "release", |remote| remote.release(namespace, &key, &lease))
                .await
                .is_err()
            {
                tracing::debug!(%namespace, "a lease could not be given back");
            }
        };
        if let Err(rest) = self.see_through(giving_back).await {
            self.shared.runtime.spawn_until_closed(rest);
        }
    }

    /// [`View::give_back`] without waiting for an L2 that has just failed.
    fn give_back_soon(&self, key: &Key, lease: &Lease) {
        let (view, key, right) = (self.clone(), key.clone(), Right::Leased(lease.clone(), None));
        self.shared.runtime.spawn_until_closed(async move { view.give_back(&key, &right).await });
    }

    /// Stores what was loaded in L2, if there is the right to.
    pub(crate) async fn fill(
        &self,
        key: &Key,
        right: &Right,
        resident: &Resident,
        lasting: Lasting,
        tags: &[Tag],
    ) -> Filled {
        let (lease, heads) = match right {
            Right::Leased(lease, heads) => (lease, heads.as_ref()),
            Right::Alone(_) => return Filled::WithoutL2 { is_anchored: true },
            Right::Unanchored => return Filled::WithoutL2 { is_anchored: false },
            Right::None => return Filled::Nowhere,
        };
        let Ok(payload) = self.encode(&resident.value) else {
            tracing::warn!(namespace = %self.space.namespace, "a loaded value cannot be stored: too large, or its codec refused it");
            self.give_back(key, right).await;
            return Filled::Nowhere;
        };
        let encoded = payload.bytes.len();
        let stamps = match self.stamps_since(tags, lease, heads).await {
            Ok(Some(stamps)) => stamps,
            Ok(None) => {
                self.give_back(key, right).await;
                return Filled::Overtaken;
            }
            Err(_) => {
                self.give_back_soon(key, lease);
                return Filled::WithoutL2 { is_anchored: false };
            }
        };
        let made = match resident.load_micros {
            _ if resident.is_absent() => Made::Absent,
            micros => Made::Loaded { micros },
        };
        let generations = stamps.iter().map(|stamp| stamp.generation).collect();
        let Ok(sealed) = self.seal(key, made, payload, lasting, stamps) else {
            self.give_back(key, right).await;
            return Filled::Nowhere;
        };
        self.space.counters.add(Event::L2BytesWritten, sealed.as_bytes().len() as u64);
        let ttl = lasting.in_all();
        let (view, own, held) = (self.clone(), key.clone(), lease.clone());
        let filling = async move {
            let l2 = view.l2()?;
            let namespace = &view.space.namespace;
            let filled = l2
                .call(&view.space, "fill", |remote| remote.fill(namespace, &own, &held, sealed.clone(), ttl))
                .await;
            if filled.is_err() {
                view.give_back_soon(&own, &held);
            }
            filled.ok()
        };
        match self.see_through(filling).await {
            Ok(Some(FillOutcome::Stored)) => Filled::Yes { encoded, generations },
            Ok(Some(FillOutcome::Rejected)) => Filled::Overtaken,
            Ok(None) => Filled::WithoutL2 { is_anchored: false },
            Err(rest) => {
                self.shared.runtime.spawn_until_closed(async move {
                    let _seen_through = rest.await;
                });
                Filled::WithoutL2 { is_anchored: false }
            }
        }
    }
}

/// What came of asking for the right to load.
pub(crate) enum Obtained {
    /// The load can run, in its place.
    Right(Right, Place),
    /// Somebody else has loaded.
    Found(Box<Found>),
    /// Somebody else was waited for, in vain, and the place is another load's by now.
    NoPlace,
}

/// What is kept of one load while it asks for its right, again and again.
pub(crate) struct Asking<'a> {
    key: &'a Key,
    dead: Option<Version>,
    wanted: Wanted,
    token: LeaseToken,
    /// Whether somebody else had it when it was asked for.
    was_held: bool,
    patience: Patience,
    waiter: Waiter<'a>,
}

impl Asking<'_> {
    /// A wait for a place, which is no wait for another node.
    pub(crate) fn has_queued(&mut self, for_: Duration) {
        self.patience.start = self.patience.start.plus(for_);
    }
}

/// The wait for somebody else, in pauses that grow.
struct Patience {
    start: Moment,
    paused: Duration,
    next: Duration,
}

impl Patience {
    fn new(clock: &Clock) -> Self {
        Self { start: clock.precise(), paused: Duration::ZERO, next: PAUSE_MIN }
    }

    /// Whether the wait has been long enough, by the clock or by the pauses alone.
    fn is_over(&self, clock: &Clock) -> bool {
        self.paused.max(clock.precise().since(self.start)) >= WAIT_MAX
    }

    /// Pauses until `ended` or a while later, and no longer than the lease lasts.
    async fn pause(&mut self, hears: bool, remaining: Duration, ended: impl Future<Output = ()>) {
        let pause = if hears { PAUSE_HEARING } else { self.next };
        let pause = pause.min(remaining.max(PAUSE_MIN));
        if crate::runtime::within(pause, ended).await.is_none() {
            self.paused += pause;
            self.next = (self.next * 2).min(PAUSE_MAX);
        }
    }
}

/// 128 random bits, because two loads of two nodes must never share a token.
pub(crate) fn token(chance: &Chance) -> u128 {
    u128::from(chance.number()) << 64 | u128::from(chance.number())
}
