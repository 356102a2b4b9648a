//! What does a lookup count as?
//!
//! 1. Each counts once, when it ends: as a hit, as a stale hit, as the knowledge that there is nothing, or as a miss.
//! 2. A miss that nobody answered has failed. That is an error, and also a caller that does not wait for the end: a deadline of its own
//!    has passed, or it went away. What it would have been is not known by then.
//! 3. A hit in L1 that waits for nothing has no [`Lookups`], and costs nothing of this.

use crate::entry::{Found, Tier};
use crate::error::Error;
use crate::origin::Fault;
use crate::space::View;
use crate::telemetry::Event;

/// Lookups that are under way. Those that have not ended when it is dropped were given up.
pub(crate) struct Lookups<'a> {
    view: &'a View,
    open: u64,
}

impl Lookups<'_> {
    /// One of them has ended.
    pub(crate) fn end(&mut self, result: &Result<Option<Found>, Error>) {
        self.open = self.open.saturating_sub(1);
        self.view.count_lookup(result.as_ref().map(Option::as_ref));
    }
}

impl Drop for Lookups<'_> {
    fn drop(&mut self) {
        if self.open > 0 {
            self.view.space.counters.add(Event::LookupFailed, self.open);
        }
    }
}

impl View {
    /// So many lookups begin that may wait.
    pub(crate) fn lookups(&self, count: usize) -> Lookups<'_> {
        Lookups { view: self, open: count as u64 }
    }

    /// Counts one lookup by what came of it.
    pub(crate) fn count_lookup(&self, result: Result<Option<&Found>, &Error>) {
        let counters = &self.space.counters;
        match result {
            Ok(Some(Found { stale: Some(reason), resident, .. })) => self.count_stale(*reason, resident),
            Ok(Some(found)) if found.resident.is_absent() && found.tier != Tier::Origin => {
                counters.count(Event::HitAbsent);
            }
            Ok(Some(found)) => counters.hit(found.tier),
            Ok(None) => counters.miss(),
            // That there can be no such key is an answer.
            Err(error) if error.load_fault() == Some(Fault::Caller) => counters.miss(),
            Err(_) => counters.count(Event::LookupFailed),
        }
    }
}
