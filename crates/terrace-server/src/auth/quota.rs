//! How much may a tenant ask for, whatever its tokens?
//!
//! 1. It has one rate and one number of requests at work, of all its tokens together. What is more is refused at once, before its body is
//!    read, so that a tenant that asks for too much keeps nobody else waiting.
//! 2. Of those at work a share may be sending bodies ([`UPLOAD_SHARE`]), so that it does not take all places that the service has for bodies.
//! 3. Another configuration keeps what was used of a bound that stays. Another bound counts anew.
//!
//! Deliberately absent: room in L1 and bytes of answers, which tenants share.

use super::rate::Rate;
use crate::config::TenantLimits;
use std::fmt;
use std::sync::Arc;
use terrace::Clock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Of the requests that may be at work, the share that may be sending a body, as a divisor: of a tenant's, and of all.
pub(crate) const UPLOAD_SHARE: usize = 4;

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
    uploads_most: usize,
    uploads: Arc<Semaphore>,
}

impl Places {
    fn new(most: u64) -> Self {
        let uploads_most = (permits(most) / UPLOAD_SHARE).max(1);
        let (free, uploads) = (Semaphore::new(permits(most)), Semaphore::new(uploads_most));
        Self { most, free: Arc::new(free), uploads_most, uploads: Arc::new(uploads) }
    }
}

impl Tenant {
    pub(super) fn new(name: &str, limits: TenantLimits, clock: &Clock, before: Option<&Self>) -> Self {
        let places_before = before.and_then(|before| before.places.as_ref());
        let places = limits.max_requests.map(|most| {
            let same = places_before.filter(|places| places.most == most);
            same.cloned().unwrap_or_else(|| Places::new(most))
        });
        let rate = Rate::again(limits.rate, before.and_then(|before| before.rate.as_ref()), clock);
        Self { name: name.into(), rate, places }
    }

    /// A place for one more request, if places are counted.
    ///
    /// # Errors
    /// How many there are, if all are taken.
    pub(super) fn enter(&self) -> Result<Option<OwnedSemaphorePermit>, u64> {
        let Some(Places { most, free, .. }) = &self.places else { return Ok(None) };
        Arc::clone(free).try_acquire_owned().map(Some).map_err(|_| *most)
    }

    /// A place for one more request that sends a body, if places are counted.
    ///
    /// # Errors
    /// How many there are, if all are taken.
    pub(super) fn upload(&self) -> Result<Option<OwnedSemaphorePermit>, usize> {
        let Some(Places { uploads_most, uploads, .. }) = &self.places else { return Ok(None) };
        Arc::clone(uploads).try_acquire_owned().map(Some).map_err(|_| *uploads_most)
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
        let upload = one.upload().expect("a share of one is one").expect("they are counted");
        let same = Tenant::new("a", limits(Some(1)), &clock, Some(&one));
        assert_eq!((same.enter().err(), same.upload().err()), (Some(1), Some(1)));
        let more = Tenant::new("a", limits(Some(2)), &clock, Some(&same));
        assert!(more.enter().is_ok());
        let unbounded = Tenant::new("a", limits(None), &clock, Some(&more));
        assert!(unbounded.enter().is_ok_and(|place| place.is_none()));
        assert!(unbounded.upload().is_ok_and(|place| place.is_none()));
        drop((place, upload));
        assert!(same.enter().is_ok() && same.upload().is_ok());
    }

    #[test]
    fn a_share_of_the_requests_at_work_may_send_bodies() {
        for (most, share) in [(1, 1), (3, 1), (8, 2), (1024, 256), (u64::MAX, Semaphore::MAX_PERMITS / 4)] {
            let places = Places::new(most);
            assert_eq!((places.uploads_most, places.uploads.available_permits()), (share, share), "{most}");
        }
    }
}
