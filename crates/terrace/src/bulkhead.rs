//! How many loads may be at work at the same time?
//!
//! 1. A load runs in a *place*: one of its keyspace's own, where that is bounded, and then one of the bulkhead that it shares with
//!    others, where it does. All take them in this order, so nobody waits for somebody who waits for him.
//! 2. Places come before leases. Nobody who waits for a place has a lease, which others would wait for; and nobody waits for
//!    another node's lease with a place in hand, which a load on this node could have: it is given back before
//!    ([`crate::lease`]).
//! 3. Who waits for a place, waits in the order of coming, for [`Bulkhead::wait_max`] at most and beside [`WAITING_MAX`] others;
//!    then the load is refused. A flight that waits can be joined, so those who want one key wait once, together.
//!    A batch is the exception: its one call of the loader takes one place, when it is known which keys it is for, so their leases are
//!    held while it waits.
//! 4. A place is held while the loader runs, and no longer: not while L2 is filled.

use crate::error::{ConfigError, Error, ErrorKind};
use crate::read::Trip;
use crate::runtime::within;
use crate::space::View;
use crate::telemetry::Event;
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Loads that wait for a place of one bulkhead; of one more, none waits.
const WAITING_MAX: usize = 16_384;
/// The largest bulkhead.
const LOADS_MAX: usize = 1_000_000;

/// A bound on the loads that are at work at the same time, for keyspaces that share an origin. Clones are the same bulkhead.
///
/// A load that finds no place waits, in the order of coming; one that has waited for too long is refused with
/// [`ErrorKind::Overloaded`], and a stale value within its grace is returned instead, as after any load that fails.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use std::time::Duration;
/// use terrace::{Bulkhead, Cache};
/// let database = Bulkhead::new("database", 16, Duration::from_millis(500))?;
/// let cache = Cache::memory()?;
/// let users = cache.keyspace::<u64, String>("users").bulkhead(&database).build()?;
/// let teams = cache.keyspace::<u64, String>("teams").bulkhead(&database).loads_max(4).build()?;
/// users.get_or_load(&1, async || Ok::<_, std::convert::Infallible>("ann".to_owned())).await?;
/// assert_eq!((database.load().running, database.load().refused), (0, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Bulkhead(Arc<Inner>);

struct Inner {
    name: String,
    loads_max: usize,
    wait_max: Duration,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    refused: AtomicU64,
}

/// How full a bulkhead is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct BulkheadLoad {
    /// Its name; of a keyspace's own, the keyspace's.
    pub name: String,
    /// Whether it is a keyspace's own.
    pub is_own: bool,
    /// Loads that may be at work at a time.
    pub loads_max: usize,
    /// Loads that have a place now.
    pub running: usize,
    /// Loads that wait for one now.
    pub waiting: usize,
    /// Loads that were refused, since it was made.
    pub refused: u64,
}

/// The right to run one load now. Dropping it gives the place to the next.
#[derive(Debug)]
#[must_use]
pub(crate) struct Place {
    _own: Option<OwnedSemaphorePermit>,
    _shared: Option<OwnedSemaphorePermit>,
    is_in_batch: bool,
}

impl Place {
    /// That of a load whose batch has, or will have, a place for all of its loads.
    pub(crate) fn in_batch() -> Self {
        Self { _own: None, _shared: None, is_in_batch: true }
    }

    /// Whether it is one of a batch.
    pub(crate) fn is_in_batch(&self) -> bool {
        self.is_in_batch
    }
}

/// A place of a [`Bulkhead`] that its holder loads in by himself. Dropping it gives the place to the next.
#[derive(Debug)]
#[must_use = "dropping it gives the place back"]
pub struct BulkheadPlace {
    _permit: OwnedSemaphorePermit,
}

impl Bulkhead {
    /// How long a load waits for a place, unless told otherwise: 1 second.
    pub const WAIT_MAX_DEFAULT: Duration = Duration::from_secs(1);

    /// A bulkhead for so many loads at a time, each of which waits for its place for so long at most. `name` is what
    /// errors and metrics call it; keyspaces of one cache cannot have two of one name.
    ///
    /// # Errors
    /// [`ConfigError`] for no loads at all, or more than a million.
    pub fn new(name: impl Into<String>, loads_max: usize, wait_max: Duration) -> Result<Self, ConfigError> {
        if !(1..=LOADS_MAX).contains(&loads_max) {
            return Err(ConfigError::new("loads_max", loads_max, "from 1 to 1,000,000 loads at a time"));
        }
        Ok(Self(Arc::new(Inner {
            name: name.into(),
            loads_max,
            wait_max,
            places: Arc::new(Semaphore::new(loads_max)),
            waiting: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
        })))
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// How long a load waits for a place at most.
    pub fn wait_max(&self) -> Duration {
        self.0.wait_max
    }

    /// How full it is. The numbers are read one after the other, so they may be an instant apart.
    pub fn load(&self) -> BulkheadLoad {
        let Inner { name, loads_max, places, waiting, refused, .. } = &*self.0;
        BulkheadLoad {
            name: name.clone(),
            is_own: false,
            loads_max: *loads_max,
            running: loads_max.saturating_sub(places.available_permits()),
            waiting: waiting.load(Ordering::Relaxed),
            refused: refused.load(Ordering::Relaxed),
        }
    }

    /// A place for a call that the cache does not make itself, if one is free and nobody waits for it: for an origin whose
    /// [`load_many`](crate::Origin::load_many), which has one place for all its keys, makes several calls at the same time.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use terrace::Bulkhead;
    /// let database = Bulkhead::new("database", 1, Duration::from_millis(500))?;
    /// let place = database.try_place();
    /// assert!(place.is_some() && database.try_place().is_none());
    /// drop(place);
    /// assert!(database.try_place().is_some());
    /// # Ok::<(), terrace::ConfigError>(())
    /// ```
    pub fn try_place(&self) -> Option<BulkheadPlace> {
        self.take_now().map(|permit| BulkheadPlace { _permit: permit })
    }

    /// Whether they are the same bulkhead.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn take_now(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.places).try_acquire_owned().ok()
    }

    /// A place, after a bounded wait.
    async fn take(&self) -> Result<OwnedSemaphorePermit, Error> {
        if let Some(permit) = self.take_now() {
            return Ok(permit);
        }
        let taken = match Waiting::begin(&self.0) {
            Some(_waiting) => within(self.0.wait_max, Arc::clone(&self.0.places).acquire_owned()).await,
            None => None,
        };
        taken.and_then(Result::ok).ok_or_else(|| {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
            let Inner { name, loads_max, wait_max, .. } = &*self.0;
            let (bulkhead, loads_max, waited_max) = (name.clone(), *loads_max, *wait_max);
            ErrorKind::Overloaded { bulkhead, loads_max, waited_max }.into()
        })
    }
}

impl fmt::Debug for Bulkhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { name, loads_max, wait_max, .. } = &*self.0;
        f.debug_struct("Bulkhead")
            .field("name", name)
            .field("loads_max", loads_max)
            .field("wait_max", wait_max)
            .finish_non_exhaustive()
    }
}

/// One who waits for a place.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    /// `None` if there are too many.
    fn begin(inner: &'a Inner) -> Option<Self> {
        let waiting = Self(&inner.waiting);
        (inner.waiting.fetch_add(1, Ordering::Relaxed) < WAITING_MAX).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The bulkheads of one namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bulkheads {
    pub(crate) own: Option<Bulkhead>,
    pub(crate) shared: Option<Bulkhead>,
}

impl Bulkheads {
    /// How many loads may be at work at the same time; `None` if that is not bounded.
    pub(crate) fn loads_max(&self) -> Option<usize> {
        [&self.own, &self.shared].into_iter().flatten().map(|bulkhead| bulkhead.0.loads_max).min()
    }
}

impl View {
    /// A place for the load of a flight, as soon as there is one.
    ///
    /// # Errors
    /// [`ErrorKind::Overloaded`] if there is none for too long.
    pub(crate) async fn place_of(&self, trip: &Trip) -> Result<Place, Error> {
        if trip.is_in_batch { Ok(Place::in_batch()) } else { self.place().await }
    }

    /// A place for a load, as soon as there is one.
    ///
    /// # Errors
    /// [`ErrorKind::Overloaded`] if there is none for too long.
    pub(crate) async fn place(&self) -> Result<Place, Error> {
        self.place_for_batch().await.inspect_err(|_| self.space.counters.count(Event::LoadRefused))
    }

    /// A place for a call within the loads of a batch. Its refusal is what these loads bring, so each of them counts it by itself.
    ///
    /// # Errors
    /// [`ErrorKind::Overloaded`] if there is none for too long.
    pub(crate) async fn place_for_batch(&self) -> Result<Place, Error> {
        let Bulkheads { own, shared } = &self.space.rules().bulkheads;
        let own = match own {
            Some(own) => Some(own.take().await?),
            None => None,
        };
        let shared = match shared {
            Some(shared) => Some(shared.take().await?),
            None => None,
        };
        Ok(Place { _own: own, _shared: shared, is_in_batch: false })
    }

    /// A place for a load, if there is one now and nobody waits for it.
    pub(crate) fn place_now(&self) -> Option<Place> {
        let now = |bulkhead: &Option<Bulkhead>| match bulkhead {
            Some(bulkhead) => bulkhead.take_now().map(Some),
            None => Some(None),
        };
        let Bulkheads { own, shared } = &self.space.rules().bulkheads;
        Some(Place { _own: now(own)?, _shared: now(shared)?, is_in_batch: false })
    }
}
