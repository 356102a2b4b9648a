//! Reads that go past what the tiers have.
//!
//! 1. The load is begun after the caller came, in a flight that names what the tiers have as outdated. What it brings replaces that. Each such
//!    caller begins a flight; with L2, one load serves those who name the same as outdated, and others who come meanwhile share it.
//! 2. The old value stays until there is a new one. It is the answer, as stale, if none can be loaded.

use super::{Loading, Trip, Wanted, begin_loading};
use crate::entry::Found;
use crate::error::Error;
use crate::flight::{Boarding, Joinable};
use crate::space::View;
use crate::terms::Terms;
use terrace_core::Key;

impl View {
    /// Loads a key, whatever the tiers have.
    pub(crate) async fn read_past_tiers(
        &self,
        key: &Key,
        terms: &Terms,
        load: impl FnOnce() -> Loading,
    ) -> Result<Option<Found>, Error> {
        let mut lookup = self.lookups(1);
        let loading = self.load_anew(key, terms, load);
        let result = self.with_patience(key, Wanted::Answer, terms, loading).await;
        lookup.end(&result);
        result
    }

    async fn load_anew(
        &self,
        key: &Key,
        terms: &Terms,
        load: impl FnOnce() -> Loading,
    ) -> Result<Option<Found>, Error> {
        let outdated = self.look(key).await.ok().flatten().map(|found| found.resident.version);
        let budget = self.budget();
        let lead = loop {
            let now = self.shared.clock.now();
            match self.board(key, Joinable::No, now, terms.flight_age_max) {
                Boarding::Lead(lead) => break lead,
                Boarding::Wait(flight) | Boarding::Join(flight) => drop(flight.call_over().await),
            }
        };
        let leave = self.begin()?;
        let flight = lead.flight();
        let trip = Trip { outdated, ..Trip::new(lead, key, terms, Wanted::Answer, budget) };
        self.take_off(leave, trip, None, begin_loading(load));
        flight.led().await
    }

    /// Reads what L2 has, past the copy in L1; where L2 cannot be asked, as ever.
    pub(crate) async fn read_l2_anew(&self, key: &Key) -> Result<Option<Found>, Error> {
        if self.l2().is_none() {
            return self.read(key).await;
        }
        let mut lookup = self.lookups(1);
        let result = match self.there(key).await {
            Ok(there) => Ok(there.found.or_else(|| self.find_behind(key))),
            Err(_) => self.look(key).await,
        };
        lookup.end(&result);
        result
    }
}
