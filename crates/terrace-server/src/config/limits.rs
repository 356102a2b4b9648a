//! What bounds the loads of a keyspace, how long its hot entries last, and how stale its answers may be.
//!
//! What can be is for the library to say; here it is put beside the place in the file.

use super::check::Checker;
use super::file;
use super::freshness::{Freshness, Number, Share};
use super::report::Refusal;
use super::units::{Count, Period};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;
use terrace::{AdaptiveTtl, Bulkhead, EntryOptions, KeyspaceBuilder, StalenessBudget};
use toml::Spanned;

/// Most loads at a time that a setting allows.
const LOADS_MAX: u64 = 1_000_000;
/// How long a load of the library may take, which the service leaves as it is.
const LOAD_TIMEOUT: Period = Period::seconds(30);

/// What a file can say of it, in `[defaults]` and in `[keyspace.X]`.
pub(super) struct Given {
    pub(super) loads_max: Option<Spanned<Count>>,
    pub(super) loads_wait_max: Option<Spanned<Period>>,
    pub(super) flight_age_max: Option<Spanned<Period>>,
    pub(super) adaptive_ttl: Option<Spanned<Number>>,
    pub(super) adaptive_ttl_reads: Option<Spanned<Count>>,
    pub(super) stale_share_max: Option<Spanned<Share>>,
    pub(super) stale_age_max: Option<Spanned<Period>>,
}

/// What bounds the loads of a keyspace, how long its hot entries last, and how stale its answers may be.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Limits {
    /// Loads of the keyspace at a time. Default: no bound.
    pub loads_max: Option<u64>,
    /// How long one more waits. Default 1 s.
    pub loads_wait_max: Option<Period>,
    /// How long a loader runs before others stop waiting for it. Default: as long as it may.
    pub flight_age_max: Option<Period>,
    /// How many times its TTL an entry lasts that is read often. Default: once.
    pub adaptive_ttl: Option<f64>,
    /// How many lookups make an entry last so long. Default 1,000.
    pub adaptive_ttl_reads: Option<u64>,
    /// The share of stale answers above which the service is degraded. Default: none.
    pub stale_share_max: Option<f64>,
    /// The time past its TTL above which an answer makes the service degraded. Default: none.
    pub stale_age_max: Option<Period>,
}

impl Limits {
    /// Gives the library's keyspace these bounds.
    pub(crate) fn on<K, V, C>(&self, mut builder: KeyspaceBuilder<K, V, C>) -> KeyspaceBuilder<K, V, C> {
        if let Some(loads) = self.loads_max {
            builder = builder.loads_max(number(loads));
        }
        if let Some(wait) = self.loads_wait_max.filter(|_| self.loads_max.is_some()) {
            builder = builder.loads_wait_max(wait.0);
        }
        if let Some(age) = self.flight_age_max {
            builder = builder.flight_age_max(age.0);
        }
        if let Some(factor) = self.adaptive_ttl {
            let reads = self.adaptive_ttl_reads.unwrap_or(AdaptiveTtl::READS_DEFAULT);
            builder =
                builder.options(EntryOptions::new().adaptive_ttl(AdaptiveTtl::up_to(factor).reads(reads)));
        }
        let mut budget = StalenessBudget::new();
        if let Some(share) = self.stale_share_max {
            budget = budget.share_max(share);
        }
        if let Some(age) = self.stale_age_max {
            budget = budget.age_max(age.0);
        }
        builder.staleness_budget(budget)
    }
}

/// How many loads of an origin are at work at a time, of all keyspaces together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct OriginLoads {
    /// Loads at a time. Default: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loads_max: Option<u64>,
    /// How long one more waits. Default 1 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loads_wait_max: Option<Period>,
}

impl OriginLoads {
    /// The bulkhead of the origin with this name, if it has a bound.
    pub(crate) fn bulkhead(&self, name: &str) -> Option<Result<Bulkhead, terrace::ConfigError>> {
        let wait = self.loads_wait_max.map_or(Bulkhead::WAIT_MAX_DEFAULT, |wait| wait.0);
        Some(Bulkhead::new(name, number(self.loads_max?), wait))
    }
}

fn number(of: u64) -> usize {
    usize::try_from(of).unwrap_or(usize::MAX)
}

/// Where it is said that entries last longer that are read often.
pub(super) fn adaptive_at(
    defaults: &file::Defaults,
    keyspaces: &BTreeMap<Spanned<String>, Spanned<file::Keyspace>>,
) -> Vec<Range<usize>> {
    let of_keyspaces = keyspaces.values().map(|keyspace| &keyspace.get_ref().adaptive_ttl);
    [&defaults.adaptive_ttl].into_iter().chain(of_keyspaces).flatten().map(Spanned::span).collect()
}

impl Checker<'_> {
    /// What a keyspace has that says so much itself, and else has these. `at` is where it stands.
    pub(super) fn limits(
        &mut self,
        given: Given,
        at: &Range<usize>,
        defaults: &Limits,
        freshness: &Freshness,
    ) -> Limits {
        let wait_at = given.loads_wait_max.as_ref().map(Spanned::span);
        let reads_at = given.adaptive_ttl_reads.as_ref().map(Spanned::span);
        let stale_at = given.stale_age_max.as_ref().map_or(at.clone(), Spanned::span);
        let factors = "it is how many times its TTL an entry may last: more than 1 and at most 1000, e.g. 4";
        let shares = "it must be a share from 0 and below 1, e.g. 0.2; leave it out for no bound";
        let ages = "it is from 10 ms on, and less than the 30 s after which a load ends anyway";
        let reads = "it is at least 61, because one lookup in 61 is looked at";
        let is_age = |age: &Period| age.0.as_millis() >= 10 && age.0 < LOAD_TIMEOUT.0;
        let limits = Limits {
            loads_max: self.loads(given.loads_max).or(defaults.loads_max),
            loads_wait_max: given.loads_wait_max.map(Spanned::into_inner).or(defaults.loads_wait_max),
            flight_age_max: self.within(given.flight_age_max, is_age, ages).or(defaults.flight_age_max),
            adaptive_ttl: self
                .within(
                    given.adaptive_ttl,
                    |factor| factor.0 > 1.0 && factor.0 <= AdaptiveTtl::FACTOR_MAX,
                    factors,
                )
                .map(|factor| factor.0)
                .or(defaults.adaptive_ttl),
            adaptive_ttl_reads: self
                .within(given.adaptive_ttl_reads, |reads| reads.0 >= 61, reads)
                .map(|reads| reads.0)
                .or(defaults.adaptive_ttl_reads),
            stale_share_max: self
                .within(given.stale_share_max, |share| (0.0..1.0).contains(&share.0), shares)
                .map(|share| share.0)
                .or(defaults.stale_share_max),
            stale_age_max: given.stale_age_max.map(Spanned::into_inner).or(defaults.stale_age_max),
        };
        self.needs(wait_at.filter(|_| limits.loads_max.is_none()), "loads_max");
        self.needs(reads_at.filter(|_| limits.adaptive_ttl.is_none()), "adaptive_ttl");
        let (grace, age) = (freshness.grace(), limits.stale_age_max);
        if !grace.is_zero() && age.is_some_and(|age| age.0 >= grace) {
            let title =
                "no stale value is returned that is as old as `stale_age_max`, so it would never be seen";
            let help = "set it lower than `stale_if_error` and `stale_while_revalidate`, or raise those";
            self.refuse(&Refusal::new(stale_at, title).help(help));
        }
        limits
    }

    pub(super) fn origin_loads(
        &mut self,
        loads_max: Option<Spanned<Count>>,
        loads_wait_max: Option<Spanned<Period>>,
    ) -> OriginLoads {
        let wait_at = loads_wait_max.as_ref().map(Spanned::span);
        let loads_max = self.loads(loads_max);
        self.needs(wait_at.filter(|_| loads_max.is_none()), "loads_max");
        OriginLoads { loads_max, loads_wait_max: loads_wait_max.map(Spanned::into_inner) }
    }

    fn loads(&mut self, given: Option<Spanned<Count>>) -> Option<u64> {
        given.map(|given| self.count(Some(given), 1, LOADS_MAX))
    }

    /// A value that is given, if it is allowed.
    fn within<T: Copy>(
        &mut self,
        given: Option<Spanned<T>>,
        is_allowed: impl Fn(&T) -> bool,
        allowed: &str,
    ) -> Option<T> {
        given.map(|given| {
            let value = *given.get_ref();
            self.ranged(Some(given), value, is_allowed, allowed)
        })
    }

    /// Refuses a setting that says something about another one that is not there.
    pub(super) fn needs(&mut self, at: Option<Range<usize>>, other: &str) {
        if let Some(at) = at {
            let refusal = Refusal::new(at, format!("this says nothing without `{other}`"));
            self.refuse(&refusal.help(format!("set `{other}`, or remove it")));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Sources};

    fn load(toml: &str) -> Result<Config, String> {
        Config::load(&Sources::text(toml)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_keyspace_overrides_what_is_said_for_all_and_what_is_printed_loads_again() {
        let toml = "[defaults]\nloads_max = 8\nflight_age_max = '5s'\nadaptive_ttl = 4\nstale_share_max = '0.5'\n\
                    stale_age_max = '5m'\n\
                    [origin.o]\ntype = 'sqlite'\nfile = 'x.db'\nloads_max = 16\nloads_wait_max = '200ms'\n\
                    [keyspace.a]\npattern = 'a:{id}'\nloads_max = 2\nloads_wait_max = 0\nadaptive_ttl_reads = 500\n\
                    stale_if_error = '10m'\nstale_age_max = '1m'\n\
                    [keyspace.b]\npattern = 'b:{id}'\nadaptive_ttl = 2.5";
        let config = load(toml).unwrap_or_else(|error| panic!("{error}"));
        let (a, b) = (config.keyspaces["a"].limits, config.keyspaces["b"].limits);
        assert_eq!((a.loads_max, b.loads_max, b.loads_wait_max), (Some(2), Some(8), None));
        assert_eq!((a.adaptive_ttl, a.adaptive_ttl_reads, b.adaptive_ttl), (Some(4.0), Some(500), Some(2.5)));
        assert_eq!((a.stale_share_max, b.stale_share_max), (Some(0.5), Some(0.5)));
        assert_eq!(a.flight_age_max.map(|age| age.0.as_secs()), Some(5));
        assert_eq!([a, b].map(|of| of.stale_age_max.map(|age| age.0.as_secs())), [Some(60), Some(300)]);
        let printed = config.effective_toml();
        assert_eq!(load(&printed).unwrap_or_else(|error| panic!("{error}\n{printed}")), config);
    }

    #[test]
    fn what_cannot_be_is_refused_where_it_stands() {
        for (setting, words) in [
            ("loads_max = 0", "from 1 to 1000000"),
            ("loads_wait_max = '1s'", "nothing without `loads_max`"),
            ("flight_age_max = '30s'", "after which a load ends anyway"),
            ("flight_age_max = 0", "from 10 ms on"),
            ("adaptive_ttl = 1", "more than 1"),
            ("adaptive_ttl = 'much'", "expected a number"),
            ("adaptive_ttl_reads = 500", "nothing without `adaptive_ttl`"),
            ("adaptive_ttl = 2\nadaptive_ttl_reads = 60", "at least 61"),
            ("stale_share_max = 1", "below 1"),
            ("stale_if_error = '10m'\nstale_age_max = '10m'", "would never be seen"),
        ] {
            let error = load(&format!("[keyspace.a]\npattern = 'a:{{id}}'\n{setting}")).expect_err(setting);
            assert!(error.contains(words) && error.contains('^'), "{setting}: {error}");
        }
        let inherited =
            load("[defaults]\nstale_age_max = '5m'\n[keyspace.a]\npattern = 'a:{id}'\nstale_if_error = '1m'");
        let inherited = inherited.unwrap_err();
        assert!(
            inherited.contains("would never be seen") && inherited.contains("[keyspace.a]"),
            "{inherited}"
        );
        let origin = load("[origin.o]\ntype = 'sqlite'\nfile = 'x.db'\nloads_wait_max = '1s'").unwrap_err();
        assert!(origin.contains("nothing without `loads_max`"), "{origin}");
    }
}
