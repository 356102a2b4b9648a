//! How much may a tenant ask for, whatever its tokens?
//!
//! 1. It has one rate and one number of requests at work, of all its tokens together. What is more is refused at once, before its body is
//!    read, so that a tenant that asks for too much keeps nobody else waiting.
//! 2. Another configuration keeps what was used of a bound that stays. Another bound counts anew.
//!
//! Deliberately absent: room in L1 and bytes of answers, which tenants share.

use super::rate::Rate;
use crate::config::TenantLimits;
use std::fmt;
use std::sync::Arc;
use terrace::Clock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Who has keyspaces of their own, and what they may ask for.
pub(super) struct Tenant {
    pub(super) name: Box<str>,
    pub(super) rate: Option<Arc<Rate>>,
    places: Option<Places>,
}

/// The requests that may be at work.
#[derive(Clone)]
struct Places {
    most: u64,
    free: Arc<Semaphore>,
}

impl Tenant {
    pub(super) fn new(name: &str, limits: TenantLimits, clock: &Clock, before: Option<&Self>) -> Self {
        let places_before = before.and_then(|before| before.places.as_ref());
        let places = limits.max_requests.map(|most| {
            let same = places_before.filter(|places| places.most == most);
            same.cloned().unwrap_or_else(|| Places { most, free: Arc::new(Semaphore::new(permits(most))) })
        });
        let rate = Rate::again(limits.rate, before.and_then(|before| before.rate.as_ref()), clock);
        Self { name: name.into(), rate, places }
    }

    /// A place for one more request, if places are counted.
    ///
    /// # Errors
    /// How many there are, if all are taken.
    pub(super) fn enter(&self) -> Result<Option<OwnedSemaphorePermit>, u64> {
        let Some(Places { most, free }) = &self.places else { return Ok(None) };
        Arc::clone(free).try_acquire_owned().map(Some).map_err(|_| *most)
    }
}

fn permits(most: u64) -> usize {
    usize::try_from(most).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tenant({})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_the_same_in_another_configuration_unless_their_number_is_another() {
        let clock = Clock::manual();
        let limits = |max_requests| TenantLimits { max_requests, ..TenantLimits::default() };
        let one = Tenant::new("a", limits(Some(1)), &clock, None);
        let place = one.enter().expect("it is free").expect("they are counted");
        assert_eq!(one.enter().err(), Some(1));
        let same = Tenant::new("a", limits(Some(1)), &clock, Some(&one));
        assert_eq!(same.enter().err(), Some(1));
        let more = Tenant::new("a", limits(Some(2)), &clock, Some(&same));
        assert!(more.enter().is_ok());
        let unbounded = Tenant::new("a", limits(None), &clock, Some(&more));
        assert!(unbounded.enter().is_ok_and(|place| place.is_none()));
        drop(place);
        assert!(same.enter().is_ok());
    }
}
