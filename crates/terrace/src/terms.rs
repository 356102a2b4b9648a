//! How long is an entry kept, how long is a load waited for, and what is returned meanwhile?
//!
//! The answers are the *terms* of an entry: a keyspace has some, and [`EntryOptions`] of one call override them.
//!
//! ```text
//! written    refresh is due      + ttl               + stale-while-revalidate       + grace
//!    |---------- fresh ------|------|---- stale: returned at once ----|-- stale: if a load --|-- expired
//!               loaded ahead        |     and loaded behind           |  is slow or fails    |
//! ```
//!
//! 1. Terms that contradict each other are refused, with the reason, before anything is done under them.
//! 2. Chance only shortens: a TTL is an upper bound, also one that is longer because its entry is read often ([`crate::adaptive`]).
//! 3. What is stale is returned as stale, never as fresh.

use crate::adaptive::AdaptiveTtl;
use crate::error::ConfigError;
use std::time::Duration;
use terrace_core::{Chance, Tag, Ttl};

/// When an entry is loaded anew although it is still fresh.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum RefreshAhead {
    /// After this share of its TTL, above 0 and below 1.
    After(f64),
    /// At a moment drawn by chance for each copy, which lies before the end of the TTL by one and a half times what its last load
    /// took, and by about so many times that again. The entries of a fleet that were loaded together are so loaded apart, a slow load
    /// begins earlier, and one that takes no more than half as long again as the last is over, and told of, before the end.
    ///
    /// Source: A. Vattani, F. Chierichetti, K. Lowenstein, *Optimal Probabilistic Cache Stampede Prevention*, VLDB 2015 (`XFetch`; 1
    /// is its β).
    Likely(f64),
}

/// Options of one call, or the defaults of a keyspace. What is not set is as the keyspace has it.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use terrace::EntryOptions;
/// let options = EntryOptions::new()
///     .ttl(Duration::from_secs(60))
///     .grace(Duration::from_secs(600))
///     .soft_timeout(Duration::from_millis(200))
///     .tag("org:7")?;
/// # Ok::<(), terrace::KeyError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use = "options do nothing until they are given to a call"]
pub struct EntryOptions {
    pub(crate) tags: Vec<Tag>,
    ttl: Option<Ttl>,
    l1_ttl: Option<Ttl>,
    grace: Option<Duration>,
    revalidate: Option<Duration>,
    negative_ttl: Option<Duration>,
    jitter: Option<f64>,
    soft_timeout: Option<Duration>,
    hard_timeout: Option<Duration>,
    failure_pause: Option<Duration>,
    flight_age_max: Option<Duration>,
    #[expect(clippy::option_option, reason = "not said, or said to be never")]
    refresh_ahead: Option<Option<RefreshAhead>>,
    #[expect(clippy::option_option, reason = "not said, or said to be never")]
    adaptive: Option<Option<AdaptiveTtl>>,
}

impl EntryOptions {
    /// No options: all as the keyspace has it.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long the entry is fresh.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.ttl = Some(ttl.into());
        self
    }

    /// How long a copy stays in L1 at most. Never longer than the entry, nor than the cache's own L1 TTL.
    pub fn l1_ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.l1_ttl = Some(ttl.into());
        self
    }

    /// How long after its TTL an entry is kept, to be returned as stale if it cannot be loaded anew (stale-if-error), or not
    /// within the [soft timeout](Self::soft_timeout). What was invalidated is never returned. Default: not at all.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }

    /// How long after its TTL an entry is returned at once, as stale, while it is loaded in the background. Part of the
    /// [grace](Self::grace). Default: not at all.
    pub fn stale_while_revalidate(mut self, time: Duration) -> Self {
        self.revalidate = Some(time);
        self
    }

    /// How long it is remembered that the origin has no such entry. Zero, the default, remembers nothing.
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.negative_ttl = Some(ttl);
        self
    }

    /// By what share of itself a TTL is shortened at most, by chance, so that what was stored together does not expire together.
    /// From 0, the default, to 1.
    pub fn jitter(mut self, share: f64) -> Self {
        self.jitter = Some(share);
        self
    }

    /// How long a caller waits for a value if there is a stale one, which it gets then. The load goes on. Needs a
    /// [grace](Self::grace). Default: as long as it takes.
    pub fn soft_timeout(mut self, limit: Duration) -> Self {
        self.soft_timeout = Some(limit);
        self
    }

    /// How long a caller waits for a value at all; then it gets [`ErrorKind::LoadTimedOut`](crate::ErrorKind::LoadTimedOut). The
    /// load goes on. Default: as long as it takes, which the keyspace's `load_timeout` bounds.
    pub fn hard_timeout(mut self, limit: Duration) -> Self {
        self.hard_timeout = Some(limit);
        self
    }

    /// After a load has failed, for how long a stale value is returned without another attempt. Default: 1 second.
    pub fn failure_pause(mut self, pause: Duration) -> Self {
        self.failure_pause = Some(pause);
        self
    }

    /// How long a loader may have run before this call begins another: see
    /// [`KeyspaceBuilder::flight_age_max`](crate::KeyspaceBuilder::flight_age_max). At least 10 ms; one above the keyspace's `load_timeout`
    /// has no effect.
    pub fn flight_age_max(mut self, limit: Duration) -> Self {
        self.flight_age_max = Some(limit);
        self
    }

    /// When an entry that is read is loaded anew, in the background, although it is still fresh; `None` for never, the default.
    pub fn refresh_ahead(mut self, when: impl Into<Option<RefreshAhead>>) -> Self {
        self.refresh_ahead = Some(when.into());
        self
    }

    /// How much longer the entry is fresh if it is read often; `None` for no longer, the default. Of no effect where a loader says a TTL
    /// ([`Fetched::ttl`](crate::Fetched::ttl)), and on what is stored by `put`.
    pub fn adaptive_ttl(mut self, how: impl Into<Option<AdaptiveTtl>>) -> Self {
        self.adaptive = Some(how.into());
        self
    }

    /// What they say of an entry that is stored, its TTLs and tags, in bytes that are the same in every process and release.
    #[cfg(feature = "journal")]
    pub(crate) fn of_stored(&self) -> Vec<u8> {
        let ttl = |ttl: Ttl| ttl.duration().map_or(u128::MAX, |ttl| ttl.as_nanos());
        let times = [
            self.ttl.map(ttl),
            self.l1_ttl.map(ttl),
            self.grace.map(|grace| grace.as_nanos()),
            self.revalidate.map(|time| time.as_nanos()),
        ];
        let mut bytes = Vec::new();
        for (which, nanos) in (1_u8..).zip(times) {
            if let Some(nanos) = nanos {
                bytes.push(which);
                bytes.extend_from_slice(&nanos.to_le_bytes());
            }
        }
        for tag in &self.tags {
            bytes.push(0);
            bytes.extend_from_slice(&(tag.as_str().len() as u64).to_le_bytes());
            bytes.extend_from_slice(tag.as_str().as_bytes());
        }
        bytes
    }

    /// Puts the entry under a tag.
    ///
    /// # Errors
    /// [`KeyError`](crate::KeyError) if the text cannot be a tag.
    pub fn tag(mut self, tag: &str) -> Result<Self, terrace_core::KeyError> {
        self.tags.push(Tag::new(tag)?);
        Ok(self)
    }
}

/// The terms on which an entry is kept and loaded.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Terms {
    pub(crate) ttl: Ttl,
    /// How long L1 copies stay at most.
    pub(crate) l1_ttl: Ttl,
    pub(crate) grace: Duration,
    pub(crate) revalidate: Duration,
    pub(crate) negative_ttl: Duration,
    pub(crate) jitter: f64,
    pub(crate) soft_timeout: Option<Duration>,
    pub(crate) hard_timeout: Option<Duration>,
    pub(crate) failure_pause: Duration,
    /// How long a loader may have run before another begins.
    pub(crate) flight_age_max: Option<Duration>,
    pub(crate) refresh_ahead: Option<RefreshAhead>,
    pub(crate) adaptive: Option<AdaptiveTtl>,
}

/// How long an entry lasts, with chance taken into account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Lasting {
    pub(crate) ttl: Ttl,
    pub(crate) grace: Duration,
}

impl Lasting {
    /// How long L2 keeps the entry.
    pub(crate) fn in_all(self) -> Ttl {
        match self.ttl {
            Ttl::After(ttl) if !ttl.is_zero() => Ttl::from(ttl.saturating_add(self.grace)),
            ttl => ttl,
        }
    }
}

impl Terms {
    /// After a load has failed, for how long no other is begun while there is a stale value, unless told otherwise.
    const FAILURE_PAUSE_DEFAULT: Duration = Duration::from_secs(1);

    /// The shortest age at which a flight can be given up.
    const FLIGHT_AGE_MIN: Duration = Duration::from_millis(10);

    /// Those of a keyspace that was told nothing but this.
    pub(crate) fn new(ttl: Ttl) -> Self {
        Self {
            ttl,
            l1_ttl: Ttl::Never,
            grace: Duration::ZERO,
            revalidate: Duration::ZERO,
            negative_ttl: Duration::ZERO,
            jitter: 0.0,
            soft_timeout: None,
            hard_timeout: None,
            failure_pause: Self::FAILURE_PAUSE_DEFAULT,
            flight_age_max: None,
            refresh_ahead: None,
            adaptive: None,
        }
    }

    /// These, but for what the options say.
    pub(crate) fn with(&self, options: &EntryOptions) -> Self {
        Self {
            ttl: options.ttl.unwrap_or(self.ttl),
            l1_ttl: options.l1_ttl.unwrap_or(self.l1_ttl),
            grace: options.grace.unwrap_or(self.grace),
            revalidate: options.revalidate.unwrap_or(self.revalidate),
            negative_ttl: options.negative_ttl.unwrap_or(self.negative_ttl),
            jitter: options.jitter.unwrap_or(self.jitter),
            soft_timeout: options.soft_timeout.or(self.soft_timeout),
            hard_timeout: options.hard_timeout.or(self.hard_timeout),
            failure_pause: options.failure_pause.unwrap_or(self.failure_pause),
            flight_age_max: options.flight_age_max.or(self.flight_age_max),
            refresh_ahead: options.refresh_ahead.unwrap_or(self.refresh_ahead),
            adaptive: options.adaptive.unwrap_or(self.adaptive),
        }
    }

    /// Whether they can be kept.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting that contradicts another, and how.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let no =
            |setting, value: &dyn std::fmt::Debug, allowed| Err(ConfigError::new(setting, value, allowed));
        if !(0.0..=1.0).contains(&self.jitter) {
            return no("jitter", &self.jitter, "a share of the TTL, from 0 to 1, e.g. 0.1");
        }
        if self.revalidate > self.grace {
            let allowed = "part of the grace: at most as long, so set `grace` at least as high";
            return no("stale_while_revalidate", &self.revalidate, allowed);
        }
        if let Some(soft) = self.soft_timeout {
            if self.grace.is_zero() {
                return no("soft_timeout", &soft, "there is no stale value to return then without a `grace`");
            }
            if self.hard_timeout.is_some_and(|hard| hard <= soft) {
                return no(
                    "soft_timeout",
                    &soft,
                    "shorter than `hard_timeout`, after which a caller gives up",
                );
            }
        }
        if let Some(age) = self.flight_age_max.filter(|age| *age < Self::FLIGHT_AGE_MIN) {
            return no("flight_age_max", &age, "from 10 ms on: clocks lag by some milliseconds");
        }
        if let Some(hard) = self.hard_timeout.filter(Duration::is_zero) {
            return no("hard_timeout", &hard, "give a load some time, e.g. 5 s");
        }
        if let Some(adaptive) = &self.adaptive {
            adaptive.check()?;
        }
        match self.refresh_ahead {
            Some(RefreshAhead::After(share)) if !(share > 0.0 && share < 1.0) => {
                no("refresh_ahead", &share, "a share of the TTL, above 0 and below 1, e.g. 0.8")
            }
            Some(RefreshAhead::Likely(beta)) if !(beta > 0.0 && beta.is_finite()) => {
                no("refresh_ahead", &beta, "a positive factor, e.g. 1")
            }
            _ => Ok(()),
        }
    }

    /// Whether a copy may be of use in L1 after the time that it answers by itself.
    pub(crate) fn may_linger(&self) -> bool {
        !self.grace.is_zero() || self.refresh_ahead.is_some()
    }

    /// How long an entry lasts that has this TTL.
    pub(crate) fn lasting(&self, ttl: Ttl, chance: &Chance) -> Lasting {
        Lasting { ttl: self.shortened(ttl, chance), grace: self.grace }
    }

    /// How long it lasts that the origin is known to have no such entry.
    pub(crate) fn lasting_absence(&self, chance: &Chance) -> Lasting {
        Lasting { ttl: self.shortened(Ttl::from(self.negative_ttl), chance), grace: Duration::ZERO }
    }

    fn shortened(&self, ttl: Ttl, chance: &Chance) -> Ttl {
        match ttl {
            Ttl::After(ttl) if self.jitter > 0.0 => {
                Ttl::After(ttl.mul_f64(1.0 - self.jitter * share(chance)).min(ttl))
            }
            ttl => ttl,
        }
    }

    /// How long before the end of its freshness an entry is to be loaded anew, if it is to be.
    pub(crate) fn ahead(&self, left: Duration, load_time: Duration, chance: &Chance) -> Option<Duration> {
        match self.refresh_ahead? {
            RefreshAhead::After(share) => Some(left.mul_f64(1.0 - share)),
            RefreshAhead::Likely(beta) => {
                let drawn = -(1.0 - share(chance)).ln();
                Some(
                    Duration::try_from_secs_f64(load_time.as_secs_f64() * (HEADROOM + beta * drawn))
                        .map_or(left, |ahead| ahead.min(left)),
                )
            }
        }
    }
}

/// So many times what its last load took, an entry that is loaded ahead is loaded before its end at least. The paper draws at each
/// read, so that one of many is early enough; here a copy has one draw. The half is for loads that take longer than the last, and
/// for the way to the other nodes.
const HEADROOM: f64 = 1.5;

/// A number from 0 up to, but not including, 1.
fn share(chance: &Chance) -> f64 {
    const STEPS: u64 = 1 << 53;
    (chance.number() % STEPS) as f64 / STEPS as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn refused(options: &EntryOptions) -> Option<&'static str> {
        Terms::new(MINUTE.into()).with(options).check().err().map(|error| error.setting)
    }

    #[test]
    fn terms_that_contradict_each_other_are_refused() {
        let none = EntryOptions::new;
        let second = Duration::from_secs(1);
        assert_eq!(refused(&none()), None);
        assert_eq!(refused(&none().jitter(1.5)), Some("jitter"));
        assert_eq!(refused(&none().jitter(f64::NAN)), Some("jitter"));
        assert_eq!(refused(&none().stale_while_revalidate(second)), Some("stale_while_revalidate"));
        assert_eq!(refused(&none().grace(MINUTE).stale_while_revalidate(second)), None);
        assert_eq!(refused(&none().soft_timeout(second)), Some("soft_timeout"));
        assert_eq!(
            refused(&none().grace(MINUTE).soft_timeout(second).hard_timeout(second)),
            Some("soft_timeout")
        );
        assert_eq!(refused(&none().grace(MINUTE).soft_timeout(second).hard_timeout(MINUTE)), None);
        assert_eq!(refused(&none().hard_timeout(Duration::ZERO)), Some("hard_timeout"));
        assert_eq!(refused(&none().flight_age_max(Duration::from_millis(9))), Some("flight_age_max"));
        for share in [0.0, 1.0, -0.1, f64::NAN] {
            assert_eq!(refused(&none().refresh_ahead(RefreshAhead::After(share))), Some("refresh_ahead"));
        }
        assert_eq!(refused(&none().refresh_ahead(RefreshAhead::Likely(0.0))), Some("refresh_ahead"));
        assert_eq!(refused(&none().refresh_ahead(RefreshAhead::Likely(1.0))), None);
    }

    #[test]
    fn chance_only_shortens() {
        let chance = Chance::seeded(1);
        let terms = Terms::new(MINUTE.into()).with(&EntryOptions::new().jitter(0.25));
        let drawn: Vec<_> =
            (0..1000).map(|_| terms.lasting(terms.ttl, &chance).ttl.duration().unwrap()).collect();
        assert!(drawn.iter().all(|ttl| (MINUTE * 3 / 4..=MINUTE).contains(ttl)));
        assert!(
            drawn.iter().any(|ttl| *ttl < MINUTE * 4 / 5) && drawn.iter().any(|ttl| *ttl > MINUTE * 19 / 20)
        );
        assert_eq!(terms.lasting(Ttl::Never, &chance).ttl, Ttl::Never);
    }

    #[test]
    fn a_slow_load_begins_earlier_and_none_begins_too_late_to_be_over_before_the_end() {
        let chance = Chance::seeded(2);
        let terms =
            Terms::new(MINUTE.into()).with(&EntryOptions::new().refresh_ahead(RefreshAhead::Likely(2.0)));
        let load = Duration::from_millis(100);
        let mean = |load| {
            (0..10_000).map(|_| terms.ahead(MINUTE, load, &chance).unwrap().as_secs_f64()).sum::<f64>()
                / 10_000.0
        };
        let (quick, slow) = (mean(load), mean(load * 10));
        assert!((0.34..0.36).contains(&quick), "{quick}");
        assert!((3.4..3.6).contains(&slow), "{slow}");
    }
}
