//! What the pictures of the dashboard are made of, of the last quarter of an hour: so that a page that is opened now shows what was before.
//!
//! 1. A task notes the counters every [`STEP`], and keeps the last [`SAMPLES_MAX`] of them. Requests pay nothing for it.
//! 2. What is kept is bounded: 12 KiB for each keyspace, of which [`KEYSPACES_MAX`] are kept, and a third of a megabyte besides, so less than four
//!    megabytes. At the start keyspaces of nobody in particular come first, then those of tenants. One beyond that has no history, and
//!    [`Kept::left_out`] says how many there are.
//! 3. A keyspace has its place here for good, also one that is gone: its numbers are always those of the same name.
//! 4. Counters are kept as they were, not as differences: who reads them does as with two answers of the other paths.
//! 5. Times are told by how long ago they were: a browser's clock may be another one.

use crate::api::App;
use crate::reload::InForce;
use crate::runtime::{self, Tasks};
use futures_util::future::{Either, select};
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use terrace::{Figures, Moment, TierTimes};

/// Between two samples.
pub(crate) const STEP: Duration = Duration::from_secs(5);
/// Samples that are kept: of fifteen minutes.
const SAMPLES_MAX: usize = 181;
/// Keyspaces whose history is kept.
const KEYSPACES_MAX: usize = 256;
/// Breakers whose history is kept.
const BREAKERS_MAX: usize = 64;

/// What a keyspace had counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) hits_l1: u64,
    pub(crate) hits_l2: u64,
    pub(crate) hits_stale: u64,
    pub(crate) misses: u64,
    pub(crate) loads: u64,
    pub(crate) load_failures: u64,
    pub(crate) evictions: u64,
    pub(crate) invalidations: u64,
}

impl From<&Figures> for Counted {
    fn from(figures: &Figures) -> Self {
        Self {
            hits_l1: figures.hits_l1,
            hits_l2: figures.hits_l2,
            hits_stale: figures.stale_hits,
            misses: figures.misses,
            loads: figures.loads,
            load_failures: figures.loads_failed + figures.loads_panicked,
            evictions: figures.evictions,
            invalidations: figures.invalidations,
        }
    }
}

/// What was at one time.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) at: Moment,
    /// In the order of [`Kept::keyspaces`]; those that came later are missing.
    pub(crate) keyspaces: Box<[Counted]>,
    /// Lookups in each class, by tier, in the order of the tiers.
    pub(crate) latencies: Box<[Box<[u64]>]>,
    /// The state of each breaker, in the order of [`Kept::breakers`]; those that came later are missing.
    pub(crate) breakers: Box<[Option<&'static str>]>,
    pub(crate) lag: Option<Duration>,
}

/// All that is kept.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The oldest first.
    pub(crate) samples: VecDeque<Arc<Sample>>,
    pub(crate) keyspaces: Vec<Arc<str>>,
    pub(crate) breakers: Vec<Arc<str>>,
    /// Keyspaces for which there was no place.
    pub(crate) left_out: usize,
}

impl Kept {
    /// Keeps a sample, and forgets the oldest if there are too many.
    fn push(&mut self, sample: Sample) {
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(Arc::new(sample));
    }
}

/// The last quarter of an hour.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<Kept>);

impl History {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept now: the samples are shared, the lists of names are copied.
    pub(crate) fn read(&self) -> Kept {
        let kept = self.kept();
        Kept {
            samples: kept.samples.clone(),
            keyspaces: kept.keyspaces.clone(),
            breakers: kept.breakers.clone(),
            left_out: kept.left_out,
        }
    }

    /// Notes what is now, and forgets what is too old.
    fn note(&self, app: &App) {
        let stats = app.cache.stats();
        let times = app.cache.lookup_times();
        let breakers = app.breaker_states();
        let mut kept = self.kept();
        let spaces = [&app.spaces].into_iter().chain(app.spaces_of_tenants.values());
        kept.left_out = 0;
        for name in spaces.flat_map(|spaces| spaces.iter().map(terrace::Keyspace::name)) {
            kept.left_out += usize::from(!place(&mut kept.keyspaces, name, KEYSPACES_MAX));
        }
        for (name, _) in &breakers {
            place(&mut kept.breakers, name, BREAKERS_MAX);
        }
        let counted = |name: &Arc<str>| stats.keyspaces.get(&**name).map(Counted::from).unwrap_or_default();
        let state = |name: &Arc<str>| breakers.iter().find(|of| *of.0 == **name).map(|of| of.1);
        let sample = Sample {
            at: app.clock.now(),
            keyspaces: kept.keyspaces.iter().map(counted).collect(),
            latencies: times.tiers.into_iter().map(|TierTimes { counts, .. }| counts.into()).collect(),
            breakers: kept.breakers.iter().map(state).collect(),
            lag: app.cache.bus_health().lag,
        };
        kept.push(sample);
    }
}

/// Notes what is, until the service is about to stop.
pub(crate) async fn keep(in_force: Arc<tokio::sync::Mutex<InForce>>, tasks: Tasks) {
    loop {
        // A reload can take long, and an end does not wait for it.
        let look = async { Arc::clone(&in_force.lock().await.app) };
        let Either::Left((app, _)) = select(pin!(look), tasks.stopped()).await else { return };
        app.history.note(&app);
        drop(app);
        if runtime::within(STEP, tasks.stopped()).await.is_some() {
            return;
        }
    }
}

/// Gives a name a place, if there is room for it. Returns whether it has one.
fn place(names: &mut Vec<Arc<str>>, name: &str, most: usize) -> bool {
    let has_place = names.iter().any(|there| &**there == name);
    if !has_place && names.len() < most {
        names.push(name.into());
        return true;
    }
    has_place
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: u64) -> Sample {
        Sample {
            at: Moment::from_nanos(seconds * 1_000_000_000),
            keyspaces: Box::default(),
            latencies: Box::default(),
            breakers: Box::default(),
            lag: None,
        }
    }

    #[test]
    fn the_last_fifteen_minutes_are_kept_and_no_more() {
        let mut kept = Kept::default();
        for step in 0..1_000 {
            kept.push(sample(step * STEP.as_secs()));
            assert!(kept.samples.len() <= SAMPLES_MAX);
        }
        let [first, last] =
            [kept.samples.front(), kept.samples.back()].map(|sample| sample.expect("some").at);
        assert_eq!(last.since(first), Duration::from_mins(15));
        assert_eq!(last, sample(999 * STEP.as_secs()).at);
    }

    #[test]
    fn each_counter_is_that_of_its_name() {
        let mut figures = Figures::default();
        (figures.hits_l1, figures.hits_l2, figures.stale_hits, figures.misses) = (1, 2, 3, 4);
        (figures.loads, figures.loads_failed, figures.loads_panicked) = (50, 6, 7);
        (figures.evictions, figures.invalidations, figures.hits) = (8, 9, 100);
        let expected = Counted {
            hits_l1: 1,
            hits_l2: 2,
            hits_stale: 3,
            misses: 4,
            loads: 50,
            load_failures: 13,
            evictions: 8,
            invalidations: 9,
        };
        assert_eq!(Counted::from(&figures), expected);
    }

    #[test]
    fn a_name_keeps_its_place_and_there_are_only_so_many() {
        let mut names = Vec::new();
        assert!(place(&mut names, "a", 2) && place(&mut names, "b", 2) && place(&mut names, "a", 2));
        assert!(!place(&mut names, "c", 2), "there is no room");
        assert_eq!(names.iter().map(|name| &**name).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn it_is_as_large_as_is_said() {
        assert!(size_of::<Counted>() * SAMPLES_MAX <= 12 << 10);
        let latencies = 3 * (29 * size_of::<u64>() + size_of::<Box<[u64]>>());
        let breakers = BREAKERS_MAX * size_of::<Option<&str>>();
        assert!((size_of::<Sample>() + latencies + breakers) * SAMPLES_MAX <= (1 << 20) / 3);
    }
}
