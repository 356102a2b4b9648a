//! Loading a key anew because somebody asked for it, on whichever node that was.
//!
//! 1. The old value stays where it is until a new one is there, and stays for good if none can be loaded.
//! 2. A request has a number in L2. A value of a greater version was loaded after it, any other was not. So one load in the
//!    fleet is enough: it runs under a lease that names the old value as dead, and the others wait for its value.
//! 3. A node that can load what it has a copy of answers a request; a node that only has a copy waits for the new value, for
//!    [`WAIT_MAX`] at most, and then drops the copy.
//!    If there is no place for its load ([`crate::bulkhead`]), the old value stays, as after one that fails.
//! 4. At most [`AT_ONCE_MAX`] keys are at work in a namespace, and [`WAITING_MAX`] wait. Of one more, the copy is dropped.

use crate::bulkhead::Place;
use crate::error::{Error, ErrorKind};
use crate::events::EventKind;
use crate::lease::{Filled, Right};
use crate::read::{Loaded, Loading, Look};
use crate::runtime::sleep;
use crate::space::View;
use crate::telemetry::Event;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use terrace_core::remote::{LeaseOutcome, LeaseToken};
use terrace_core::{Key, Version};
use tokio::sync::Semaphore;

/// Keys that are loaded anew at a time, of one namespace.
const AT_ONCE_MAX: usize = 16;
/// Keys that wait for that.
const WAITING_MAX: usize = 4096;
/// How long another node's load is waited for.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// First pause between two looks for another node's value; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// Longest pause between two looks.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Makes the load of a key from its text; `None` if the text is of no key.
type Reload = dyn Fn(&Key) -> Option<Loading> + Send + Sync;

/// The requests of one namespace that are being answered.
pub(crate) struct Refreshes {
    reload: RwLock<Option<Arc<Reload>>>,
    /// The greatest number that was asked for, of each key that is at work or waits.
    asked: Mutex<HashMap<Key, Version>>,
    at_once: Arc<Semaphore>,
}

impl Default for Refreshes {
    fn default() -> Self {
        Self {
            reload: RwLock::default(),
            asked: Mutex::default(),
            at_once: Arc::new(Semaphore::new(AT_ONCE_MAX)),
        }
    }
}

impl Refreshes {
    /// From now on keys are loaded so.
    pub(crate) fn load_by(&self, reload: Arc<Reload>) {
        *self.reload.write() = Some(reload);
    }

    /// From now on keys are not loaded.
    pub(crate) fn load_no_more(&self) {
        *self.reload.write() = None;
    }

    /// Notes a request. Whether somebody has to begin to answer it; `None` if there are too many.
    fn ask(&self, key: &Key, number: Version) -> Option<bool> {
        let mut asked = self.asked.lock();
        if let Some(known) = asked.get_mut(key) {
            *known = number.max(*known);
            return Some(false);
        }
        if asked.len() >= WAITING_MAX {
            return None;
        }
        asked.insert(key.clone(), number);
        Some(true)
    }

    /// The number that was asked for last.
    fn number(&self, key: &Key) -> Version {
        self.asked.lock().get(key).copied().unwrap_or_default()
    }

    /// Ends the work on a key that was answered up to this number, unless more was asked for meanwhile.
    fn end(&self, key: &Key, number: Version) -> bool {
        let mut asked = self.asked.lock();
        let is_over = asked.get(key).is_none_or(|asked| *asked <= number);
        if is_over {
            asked.remove(key);
        }
        is_over
    }
}

impl View {
    /// Asks every node to load `key` anew. This one does in any case, if it knows how to.
    pub(crate) async fn refresh(&self, key: Key) -> Result<Version, Error> {
        let view = self.clone();
        self.carry_out(async move {
            if view.writes_behind() {
                // A load could find the origin without what waits for it.
                view.remove_through(std::slice::from_ref(&key)).await?;
                return Ok(Version::ZERO);
            }
            let number = view.ask_all(&key).await?;
            view.answer(&key, number, true);
            Ok(number)
        })
        .await
    }

    async fn ask_all(&self, key: &Key) -> Result<Version, Error> {
        let Some(l2) = self.l2() else {
            self.space.events.tell(&self.shared.clock, || EventKind::Refresh(key.clone()));
            return Ok(Version::ZERO);
        };
        let asked = l2.call(&self.space, "refresh", |remote| match remote.bus() {
            Some(bus) => bus.refresh(&self.space.namespace, key),
            // Where nobody counts, no value is known to have been loaded after now.
            None => Box::pin(std::future::ready(Ok(u64::MAX.into()))),
        });
        Ok(asked.await?)
    }

    /// A request was heard.
    pub(crate) fn hear_refresh(&self, key: &Key, number: Version) {
        let is_held = self.l1().is_some_and(|l1| {
            let name = self.name_of(key.as_str());
            l1.peek_with(name, &self.space.bans, |_| ()).is_some()
        });
        if is_held {
            self.answer(key, number, false);
        }
    }

    /// Begins to load a key anew, or to wait for another node's load.
    fn answer(&self, key: &Key, number: Version, is_own: bool) {
        if self.writes_behind() {
            return;
        }
        let reload = self.space.refreshes.reload.read().clone();
        if is_own && reload.is_none() || !self.shared.runtime.is_available() {
            return;
        }
        match self.space.refreshes.ask(key, number) {
            Some(false) => {}
            Some(true) => {
                let (view, key) = (self.clone(), key.clone());
                self.shared.runtime.spawn_until_closed(async move { view.answer_all(&key, reload).await });
            }
            None => {
                self.drop_l1(key);
            }
        }
    }

    /// Answers requests for a key, until there is none.
    async fn answer_all(&self, key: &Key, reload: Option<Arc<Reload>>) {
        let refreshes = &self.space.refreshes;
        let _place = refreshes.at_once.acquire().await;
        loop {
            let number = refreshes.number(key);
            let loading = reload.as_ref().and_then(|reload| {
                // The caller's code: that it panics is no reason not to answer for the key ever again.
                catch_unwind(AssertUnwindSafe(|| reload(key))).unwrap_or_default()
            });
            if !self.renew(key, number, loading).await {
                self.forget_before(key, number);
            }
            if refreshes.end(key, number) {
                return;
            }
        }
    }

    /// Drops a copy that was not loaded after this number.
    fn forget_before(&self, key: &Key, number: Version) {
        if let Some(l1) = self.l1() {
            l1.forget_older(self.name_of(key.as_str()), number);
        }
    }

    /// Brings a value that was loaded after `number`, by `loading` or from another node. Whether it did, or the old one is to
    /// stay.
    async fn renew(&self, key: &Key, number: Version, loading: Option<Loading>) -> bool {
        let Some(l2) = self.l2() else { return self.renew_here(key, loading).await };
        let (mut loading, mut dead) = (loading, None);
        let (mut paused, mut pause) = (Duration::ZERO, PAUSE_MIN);
        let duration = self.term();
        let token = LeaseToken(crate::lease::token(&self.shared.chance));
        let namespace = &self.space.namespace;
        while paused < WAIT_MAX {
            let queued_at = self.shared.clock.precise();
            let place = match loading {
                Some(_) => match self.place().await {
                    Ok(place) => Some(place),
                    Err(_) => return true,
                },
                None => None,
            };
            paused += self.shared.clock.precise().since(queued_at);
            let ticket = self.shared.tickets.take(self.name_of(key.as_str()));
            if self.distrusts(key) {
                return false;
            }
            let sent = self.sending(key);
            let found = if loading.is_some() {
                match l2
                    .call(&self.space, "lease", |remote| remote.lease(namespace, key, token, duration, dead))
                    .await
                {
                    Ok(LeaseOutcome::Granted(lease)) => {
                        let right = Right::Leased(lease, self.space.generations.heads());
                        let loading = loading.take().expect("it was there");
                        return self.renew_by(key, ticket, (right, dead), place, loading).await;
                    }
                    Ok(LeaseOutcome::Hit(stored)) => Some(stored),
                    Ok(LeaseOutcome::Held { .. }) => None,
                    Err(_) => return true,
                }
            } else {
                match l2.ask(&self.space, "get", |remote| remote.get(namespace, key)).await {
                    Ok(found) => found,
                    Err(_) => return false,
                }
            };
            if let Some(stored) = found {
                let version = stored.claimed_version();
                if version.supersedes(number) {
                    if let Look::Hit(found) = self.examine(key, &stored, sent).await {
                        self.promote(ticket, key, &found);
                    }
                    return true;
                }
                if loading.is_some() && dead != Some(version) {
                    dead = Some(version);
                    continue;
                }
            }
            drop(place);
            sleep(pause).await;
            paused += pause;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        false
    }

    async fn renew_here(&self, key: &Key, loading: Option<Loading>) -> bool {
        let Some(loading) = loading else { return true };
        let Ok(place) = self.place().await else { return true };
        let ticket = self.shared.tickets.take(self.name_of(key.as_str()));
        let right = Right::Alone(self.shared.versions.next());
        let there = self.there_here(key).version;
        self.renew_by(key, ticket, (right, there), Some(place), loading).await
    }

    /// Loads under a right, while the tier that gives versions has this one of it, and keeps what comes of it. What cannot be loaded stays as
    /// it is; what the origin does not have any more is removed.
    async fn renew_by(
        &self,
        key: &Key,
        ticket: crate::coherence::tickets::Ticket,
        (right, there): (Right, Option<Version>),
        place: Option<Place>,
        loading: Loading,
    ) -> bool {
        let old = self.old_copy(key).map(|old| old.resident);
        let ran = self.holding(key, &right, || false, self.load(old.as_ref(), loading)).await;
        drop(place);
        self.count_background(ran.result.is_ok());
        let Loaded { value, tags, ttl } = match ran.result {
            Ok(Some(loaded)) => loaded,
            Ok(None) => return self.remove_gone(key, &right, there).await,
            Err(error) => {
                if !matches!(error.kind(), ErrorKind::Closed) {
                    tracing::warn!(namespace = %self.space.namespace, %error, "a key could not be loaded anew; its value stays");
                }
                self.give_back(key, &right).await;
                return true;
            }
        };
        let terms = &self.space.terms();
        let lasting = terms.lasting(self.ttl_of_loaded(key, ttl, terms), &self.shared.chance);
        if lasting.ttl.is_zero() {
            // It is kept nowhere, and nothing is left for the old one to be right about.
            return self.remove_gone(key, &right, there).await;
        }
        let mut resident = self.entry(value, right.version(), lasting, &tags);
        resident.load_micros = ran.micros;
        let (resident, encoded, is_anchored) = match self.fill(key, &right, &resident, lasting, &tags).await {
            Filled::Yes { encoded, generations } => (resident.stamped(generations), Some(encoded), true),
            Filled::WithoutL2 { is_anchored } => (resident, None, is_anchored),
            Filled::Nowhere | Filled::Overtaken => {
                self.forget_before(key, right.version());
                return true;
            }
        };
        self.space.counters.count(Event::Refreshed);
        if let Some(l1) = self.l1() {
            let weight = self.weigh(&resident.value, encoded);
            let version = resident.version;
            if weight > self.space.rules().value_bytes_max
                || !l1.keep(self.space.id, key, ticket, self.copy(resident, weight, is_anchored, terms))
            {
                l1.forget_older(self.name_of(key.as_str()), version);
            }
        }
        true
    }
}
