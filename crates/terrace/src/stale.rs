//! When is an old value returned, and who loads a new one then?
//!
//! 1. Old is what is past its TTL, or past the L1 TTL of its copy, and within its grace. It is an answer only on the
//!    [terms](crate::terms) of the keyspace or the call, and marked as stale; what was invalidated is not there any more.
//! 2. Whoever is given an old or an aging value at once does not wait for the load that it causes: that runs in a flight of its
//!    own ([`crate::flight`]), of which there is one per key and node, and under a lease, of which there is one in the fleet.
//! 3. After a failed load none is begun for a while, so long as there is an old value to return. At most [`COOLING_MAX`] keys of a
//!    namespace are remembered; of one more, the pause is not kept.
//! 4. Returning a copy in L1 as stale does not keep it anew: its time there would begin again, and it would count as fresh.

use crate::entry::{Found, Resident, StaleReason, Tier};
use crate::flight::{Boarding, Joinable, Lead};
use crate::read::{Loading, Look, Trip, Wanted, begin_loading};
use crate::space::View;
use crate::telemetry::Event;
use crate::terms::Terms;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;
use terrace_core::mutants::{self, Mutant};
use terrace_core::{Key, Moment, Version};

/// Keys of a namespace whose last load has failed that are remembered.
const COOLING_MAX: usize = 4096;

/// What this process' memory has of a key, where that counts.
pub(crate) enum Here {
    /// A fresh copy.
    Fresh(Found),
    /// A fresh copy that is to be loaded anew.
    Due(Found),
    /// A copy that is no answer by itself any more.
    Old(Found),
    /// None.
    Nothing,
}

/// The keys whose last load has failed, and until when no other is begun while there is an old value.
#[derive(Default)]
pub(crate) struct Cooling(Mutex<HashMap<Key, Moment>>);

impl Cooling {
    /// A load has failed.
    fn note(&self, key: &Key, now: Moment, until: Moment) {
        let mut cooling = self.0.lock();
        if cooling.len() >= COOLING_MAX {
            cooling.retain(|_, until| now < *until);
        }
        if cooling.len() < COOLING_MAX {
            cooling.insert(key.clone(), until);
        }
    }

    /// A load was successful.
    fn forget(&self, key: &Key) {
        let mut cooling = self.0.lock();
        if !cooling.is_empty() {
            cooling.remove(key);
        }
    }

    fn holds(&self, key: &Key, now: Moment) -> bool {
        self.0.lock().get(key).is_some_and(|until| now < *until)
    }
}

impl Resident {
    /// Whether a copy in L1 is an answer, if the time may be `latest`.
    pub(crate) fn is_answer(&self, latest: Moment) -> bool {
        latest < self.copy_until
    }
}

impl View {
    /// The latest that the time may be.
    pub(crate) fn latest(&self) -> Moment {
        self.shared.clock.now().plus(self.shared.clock.resolution())
    }

    /// What this process' memory has of a key, if its copies count as fresh.
    pub(crate) fn here(&self, text: &str) -> Here {
        let Some((l1, reading)) = self.l1_trusted() else { return Here::Nothing };
        let name = self.name_of(text);
        let Some(copy) = l1.get_with(name, &self.space.bans, reading, Resident::clone) else {
            return Here::Nothing;
        };
        let now = reading.now(&self.shared.clock);
        if copy.is_answer(now.plus(self.shared.clock.resolution())) {
            let is_due = now >= copy.plain_until && !copy.is_absent();
            let found = Found::in_l1(copy);
            return if is_due { Here::Due(found) } else { Here::Fresh(found) };
        }
        if copy.is_absent() { Here::Nothing } else { Here::Old(Found::in_l1(copy)) }
    }

    /// A copy in L1 that may be returned as stale, whether or not it is proven to be the last. None that a ban makes suspect:
    /// what is found here may be kept anew.
    pub(crate) fn old_copy(&self, key: &Key) -> Option<Found> {
        let (l1, name) = (self.l1()?, self.name_of(key.as_str()));
        let copy = if mutants::is(Mutant::OldIgnoresBans) {
            l1.peek_banned(name)?
        } else {
            l1.peek_with(name, &self.space.bans, Resident::clone)?
        };
        (!copy.is_absent() && self.latest() < copy.stale_until).then(|| Found::in_l1(copy))
    }

    /// Whether an old value is to be returned without waiting, and why.
    pub(crate) fn is_returned_at_once(&self, key: &Key, old: &Found, terms: &Terms) -> Option<StaleReason> {
        let (latest, resident) = (self.latest(), &old.resident);
        if latest < resident.fresh_until || latest >= resident.stale_until {
            return None;
        }
        if self.space.cooling.holds(key, latest) {
            return Some(StaleReason::LoadFailed);
        }
        let at_once = !terms.revalidate.is_zero() && latest < resident.fresh_until.plus(terms.revalidate);
        at_once.then_some(StaleReason::Revalidating)
    }

    /// Loads a key in the background, unless that is going on or has just failed. A value of the version `outdated` is not new.
    pub(crate) fn load_behind(
        &self,
        key: &Key,
        outdated: Option<Version>,
        terms: &Terms,
        load: impl FnOnce() -> Loading,
    ) {
        self.load_behind_as(key, outdated, terms, false, load);
    }

    /// [`View::load_behind`], with a load that may be a batch's.
    pub(crate) fn load_behind_as(
        &self,
        key: &Key,
        outdated: Option<Version>,
        terms: &Terms,
        is_in_batch: bool,
        load: impl FnOnce() -> Loading,
    ) {
        let (Some(lead), Ok(leave)) = (self.board_behind(key, outdated), self.begin()) else { return };
        let trip = Trip::new(lead, key, terms, Wanted::Answer, self.budget());
        let trip = Trip { outdated, is_behind: true, is_in_batch, ..trip };
        self.take_off(leave, trip, None, begin_loading(load));
    }

    /// The flight of a key that is to be loaded in the background; `None` if that is going on, or has just failed.
    pub(crate) fn board_behind(&self, key: &Key, outdated: Option<Version>) -> Option<Lead> {
        let (now, age_max) = (self.shared.clock.now(), self.space.terms().flight_age_max);
        if self.space.cooling.holds(key, now) {
            return None;
        }
        let Boarding::Lead(lead) = self.board(key, Joinable::Unchanged, now, age_max) else { return None };
        self.space.counters.count(if outdated.is_some() { Event::LoadAhead } else { Event::LoadBehind });
        Some(lead)
    }

    /// An old value in L2 that is returned at once, kept here meanwhile.
    pub(crate) fn old_at_once(&self, trip: &Trip, old: &Found) -> Option<Found> {
        let reason = self.is_returned_at_once(&trip.key, old, &trip.terms).filter(|_| !trip.is_behind)?;
        self.promote(trip.lead.ticket(), &trip.key, old);
        Some(old.clone().stale(reason))
    }

    /// A load has failed: notes it, and finds the old value that may be returned instead: one that nobody has invalidated
    /// meanwhile.
    pub(crate) fn after_failure(&self, trip: &Trip, old: Option<Found>) -> Option<Found> {
        let latest = self.latest();
        let old = self.old_instead(trip, old)?;
        self.space.cooling.note(&trip.key, latest, latest.plus(trip.terms.failure_pause));
        if old.tier == Tier::L2 || mutants::is(Mutant::FailedLoadKeepsAnew) {
            self.promote(trip.lead.ticket(), &trip.key, &old);
        }
        Some(old.stale(StaleReason::LoadFailed))
    }

    /// The old value that may be returned where a load has failed.
    pub(crate) fn old_instead(&self, trip: &Trip, old: Option<Found>) -> Option<Found> {
        let old = old.or_else(|| self.old_copy(&trip.key))?;
        let is_untouched = self.is_untouched(trip.lead.ticket(), &trip.key, Some(&old))
            || mutants::is(Mutant::FailedLoadForgives);
        (self.latest() < old.resident.stale_until && is_untouched).then_some(old)
    }

    /// A load was successful.
    pub(crate) fn after_success(&self, key: &Key) {
        self.space.cooling.forget(key);
    }

    /// How long before its end an entry is to be loaded anew, if it is to be.
    pub(crate) fn ahead(&self, resident: &Resident, terms: &Terms) -> Option<Duration> {
        // The origin may not have yet what was stored here.
        let is_stored = resident.load_micros == 0 && self.writes_behind();
        if is_stored
            || terms.refresh_ahead.is_none()
            || resident.fresh_until == Moment::NEVER
            || resident.is_absent()
        {
            return None;
        }
        let left = resident.fresh_until.since(self.shared.clock.now());
        let load_time = Duration::from_micros(u64::from(resident.load_micros));
        terms.ahead(left, load_time, &self.shared.chance)
    }
}

impl Wanted {
    /// Whether what was found is an answer to one who wants this.
    pub(crate) fn takes(self, found: &Found) -> bool {
        self == Self::Answer || !found.resident.is_absent()
    }
}

impl Trip {
    /// What an answer of L2 means to this trip: a value that is to be replaced is as good as none.
    pub(crate) fn judge(&self, look: Look) -> Look {
        match look {
            Look::Hit(found) | Look::Kept(found)
                if self.outdated == Some(found.resident.version) || !self.wanted.takes(&found) =>
            {
                let dead = Some(found.resident.version);
                let old = (!found.resident.is_absent()).then(|| Box::new(found));
                Look::Miss { dead, old }
            }
            look => look,
        }
    }
}

#[cfg(test)]
mod tests;
