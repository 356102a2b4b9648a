//! The order of tiers on a read of many keys.
//!
//! ```text
//! look in L1 ─▶ look in L2, in one call ─▶ board a flight for each key that is left ─▶ load those that this batch leads, in one call
//! ```
//!
//! 1. Each key goes the way of a single read: the same flights, leases and fills. So a key is loaded once, whether it is asked for
//!    by itself, twice in a batch or in two batches, and fails by itself.
//! 2. Only the loader's call is shared ([`super::together`]).
//! 3. A key whose flight somebody else leads is waited for, and read by itself if that was in vain.

use super::{Loading, Look, Trip, Wanted};
use crate::coherence::tickets::Ticket;
use crate::entry::Found;
use crate::error::{Error, ErrorKind};
use crate::flight::{Boarding, Flight, Joined, Lead};
use crate::space::View;
use crate::stale::Here;
use crate::telemetry::Event;
use crate::terms::Terms;
use futures_util::future::join_all;
use std::sync::Arc;
use terrace_core::{Key, Version};

/// How the keys of a batch are loaded: by their places in it.
pub(crate) trait Loads: Send + Sync {
    /// Loads of these keys, in one call.
    fn together(&self, places: &[usize]) -> Vec<Loading>;

    /// A load of one key by itself.
    fn alone(&self, place: usize) -> Loading;
}

/// A flight that this batch begins.
struct Departure {
    at: usize,
    lead: Lead,
    look: Option<Look>,
    outdated: Option<Version>,
    is_behind: bool,
}

/// What became of one key so far.
enum Fate {
    /// It has its answer.
    Ended(Result<Option<Found>, Error>),
    /// It is to be looked at in L2.
    Open,
    /// This batch leads its flight.
    Led(Arc<Flight>),
    /// Somebody else does.
    Joined(Arc<Flight>),
    /// Somebody else does, and cannot be joined now.
    Met,
}

impl View {
    /// Reads many keys, and loads those that no tier has. They are not counted.
    pub(crate) async fn find_or_load_many(
        &self,
        keys: &[Key],
        wanted: Wanted,
        terms: &Terms,
        loads: &dyn Loads,
    ) -> Vec<Result<Option<Found>, Error>> {
        let mut aging = Vec::new();
        let here = keys.iter().enumerate();
        let mut fates: Vec<Fate> =
            here.map(|(at, key)| self.fate_here(at, key, wanted, terms, &mut aging)).collect();
        let open: Vec<usize> = (0..keys.len()).filter(|&at| matches!(fates[at], Fate::Open)).collect();
        let asked: Vec<Key> = open.iter().map(|&at| keys[at].clone()).collect();
        let tickets: Vec<Ticket> =
            asked.iter().map(|key| self.shared.tickets.take(self.name_of(key.as_str()))).collect();
        let looks = self.look_for_many(&asked).await;
        // From here until they depart nobody waits: a caller that goes away leaves no flight behind that nobody leads.
        let mut leads = self.board_aging(keys, aging);
        for ((at, look), ticket) in open.into_iter().zip(looks).zip(tickets) {
            fates[at] = match look {
                Look::Hit(found) | Look::Kept(found) if wanted.takes(&found) => Fate::Ended(Ok(Some(found))),
                Look::Unproven => Fate::Ended(Err(ErrorKind::Unproven.into())),
                look => match self.board_one(&keys[at], terms) {
                    Boarding::Lead(lead) => {
                        let flight = lead.flight();
                        // What was changed since L2 was asked is asked about again, under the flight's own ticket.
                        let look = self.is_look_untouched(ticket, &keys[at], &look).then_some(look);
                        leads.push(Departure { at, lead, look, outdated: None, is_behind: false });
                        Fate::Led(flight)
                    }
                    Boarding::Join(flight) => Fate::Joined(flight),
                    Boarding::Wait(_) => Fate::Met,
                },
            };
        }
        self.depart(keys, leads, wanted, terms, loads);
        let ending = fates.into_iter().enumerate().map(|(at, fate)| {
            let finding = self.end_of(fate, at, &keys[at], wanted, terms, loads);
            self.with_patience(&keys[at], wanted, terms, finding)
        });
        join_all(ending).await
    }

    /// What this process' memory makes of a key. What is to be loaded in the background is noted.
    fn fate_here(
        &self,
        at: usize,
        key: &Key,
        wanted: Wanted,
        terms: &Terms,
        aging: &mut Vec<(usize, Option<Version>)>,
    ) -> Fate {
        let (found, outdated) = match self.here(key.as_str()) {
            Here::Fresh(found) if wanted.takes(&found) => return Fate::Ended(Ok(Some(found))),
            Here::Due(found) => {
                let version = found.resident.version;
                (found, Some(version))
            }
            Here::Old(old) => match self.is_returned_at_once(key, &old, terms) {
                Some(reason) => (old.stale(reason), None),
                None => return Fate::Open,
            },
            Here::Fresh(_) | Here::Nothing => return Fate::Open,
        };
        aging.push((at, outdated));
        Fate::Ended(Ok(Some(found)))
    }

    /// The flights of keys that are loaded in the background, as far as they are not under way.
    fn board_aging(&self, keys: &[Key], aging: Vec<(usize, Option<Version>)>) -> Vec<Departure> {
        let board = |(at, outdated): (usize, Option<Version>)| {
            let lead = self.board_behind(&keys[at], outdated)?;
            Some(Departure { at, lead, look: None, outdated, is_behind: true })
        };
        aging.into_iter().filter_map(board).collect()
    }

    /// Whether nothing was invalidated that concerns what L2 said to a question that was asked under this ticket.
    pub(super) fn is_look_untouched(&self, ticket: Ticket, key: &Key, look: &Look) -> bool {
        let old = match look {
            Look::Miss { old, .. } => old.as_deref(),
            _ => None,
        };
        self.is_untouched(ticket, key, old)
    }

    fn board_one(&self, key: &Key, terms: &Terms) -> Boarding {
        self.board(key, self.joinable(), self.shared.clock.now(), terms.flight_age_max)
    }

    /// Begins the flights that this batch leads. Those that cannot begin, because the cache is closed, fail.
    fn depart(&self, keys: &[Key], leads: Vec<Departure>, wanted: Wanted, terms: &Terms, loads: &dyn Loads) {
        let places: Vec<usize> = leads.iter().map(|departure| departure.at).collect();
        let mut loadings = loads.together(&places).into_iter();
        for Departure { at, lead, look, outdated, is_behind } in leads {
            let (Ok(leave), Some(loading)) = (self.begin(), loadings.next()) else { return };
            let trip = Trip::new(lead, &keys[at], terms, wanted, self.budget());
            let trip = Trip { outdated, is_behind, is_in_batch: true, ..trip };
            self.take_off(leave, trip, look, loading);
        }
    }

    async fn end_of(
        &self,
        fate: Fate,
        at: usize,
        key: &Key,
        wanted: Wanted,
        terms: &Terms,
        loads: &dyn Loads,
    ) -> Result<Option<Found>, Error> {
        match fate {
            Fate::Ended(result) => return result,
            Fate::Led(flight) => return flight.led().await,
            Fate::Joined(flight) => {
                let is_for_all = |found: Option<&Found>| {
                    let is_wanted =
                        wanted == Wanted::Answer || found.is_some_and(|found| wanted.takes(found));
                    is_wanted && self.is_untouched(flight.ticket(), key, found)
                };
                match self.joined(&flight, terms.flight_age_max).await {
                    Joined::Ended(Ok(found)) if !is_for_all(found.as_ref()) => {}
                    Joined::Ended(result) => {
                        self.space.counters.count(Event::Coalesced);
                        return result;
                    }
                    Joined::Overtaken | Joined::Fenced => {}
                }
            }
            Fate::Met | Fate::Open => {}
        }
        self.find_or_load(key, wanted, terms, || loads.alone(at)).await
    }
}
