//! How long entries are fresh, what is done with old ones, and how long a load is waited for.
//!
//! What goes together is for the library to say (`terrace::EntryOptions`); here it is put beside the place in the file.

use super::check::Checker;
use super::report::Refusal;
use super::units::Period;
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::time::Duration;
use terrace::{EntryOptions, RefreshAhead};
use toml::Spanned;

/// What a file can say of it, in `[defaults]` and in `[keyspace.X]`.
pub(super) struct Given {
    pub(super) stale_while_revalidate: Option<Spanned<Period>>,
    pub(super) stale_if_error: Option<Spanned<Period>>,
    pub(super) soft_timeout: Option<Spanned<Period>>,
    pub(super) hard_timeout: Option<Spanned<Period>>,
    pub(super) negative_ttl: Option<Spanned<Period>>,
    pub(super) jitter: Option<Spanned<Share>>,
    pub(super) refresh_ahead: Option<Spanned<Share>>,
}

/// How long entries are fresh beside their TTL, what is done with old ones, and how long a load is waited for.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Freshness {
    /// How long after its TTL an entry is returned at once while it is loaded in the background. Default: not at all.
    pub stale_while_revalidate: Option<Period>,
    /// How long after its TTL an entry is returned if it cannot be loaded. Default: not at all.
    pub stale_if_error: Option<Period>,
    /// How long a load is waited for if there is an old value. Default: as long as it takes.
    pub soft_timeout: Option<Period>,
    /// How long a load is waited for. Default: as long as it takes.
    pub hard_timeout: Option<Period>,
    /// How long it is remembered that an origin has no such entry. Default: not at all.
    pub negative_ttl: Option<Period>,
    /// By what share of itself a TTL is shortened at most, by chance. Default 0.
    pub jitter: Share,
    /// After what share of its TTL an entry that is read is loaded anew. Default: never.
    pub refresh_ahead: Option<Share>,
}

impl Freshness {
    /// As options of the library.
    pub(crate) fn options(&self) -> EntryOptions {
        let mut options = EntryOptions::new()
            .grace(self.grace())
            .stale_while_revalidate(time(self.stale_while_revalidate))
            .negative_ttl(time(self.negative_ttl))
            .jitter(self.jitter.0)
            .refresh_ahead(self.refresh_ahead.map(|share| RefreshAhead::After(share.0)));
        if let Some(limit) = self.soft_timeout {
            options = options.soft_timeout(limit.0);
        }
        if let Some(limit) = self.hard_timeout {
            options = options.hard_timeout(limit.0);
        }
        options
    }

    /// How long after its TTL an entry is of use: the library has one time for both ways to return it.
    pub(super) fn grace(&self) -> Duration {
        time(self.stale_if_error).max(time(self.stale_while_revalidate))
    }
}

/// A time that is none if it is not given.
fn time(period: Option<Period>) -> Duration {
    period.map_or(Duration::ZERO, |period| period.0)
}

impl Checker<'_> {
    /// What a keyspace has that says so much itself, and else has these.
    pub(super) fn freshness(&mut self, given: Given, defaults: &Freshness) -> Freshness {
        let soft_at = given.soft_timeout.as_ref().map(Spanned::span);
        let timeout_at = soft_at.or(given.hard_timeout.as_ref().map(Spanned::span));
        let given_or = |given: Option<Spanned<Period>>, default| given.map(Spanned::into_inner).or(default);
        let shares = "it must be a share from 0 to 1, e.g. 0.1";
        let part = "it must be a share above 0 and below 1, e.g. 0.8";
        let fresh = Freshness {
            stale_while_revalidate: given_or(given.stale_while_revalidate, defaults.stale_while_revalidate),
            stale_if_error: given_or(given.stale_if_error, defaults.stale_if_error),
            soft_timeout: given_or(given.soft_timeout, defaults.soft_timeout),
            hard_timeout: self.given_positive(given.hard_timeout, defaults.hard_timeout),
            negative_ttl: given_or(given.negative_ttl, defaults.negative_ttl),
            jitter: self.ranged(
                given.jitter,
                defaults.jitter,
                |share| (0.0..=1.0).contains(&share.0),
                shares,
            ),
            refresh_ahead: match given.refresh_ahead {
                None => defaults.refresh_ahead,
                Some(given) => {
                    Some(self.ranged(Some(given), Share(0.8), |share| share.0 > 0.0 && share.0 < 1.0, part))
                }
            },
        };
        if let (Some(soft), Some(at)) = (fresh.soft_timeout, timeout_at) {
            if fresh.grace().is_zero() {
                let title = "without `stale_if_error` there is no old value to return after a soft timeout";
                self.refuse(&Refusal::new(at, title).help("set `stale_if_error`, or remove it"));
            } else if fresh.hard_timeout.is_some_and(|hard| hard <= soft) {
                let title =
                    "a soft timeout has to be shorter than the hard one, after which a caller gives up";
                self.refuse(&Refusal::new(at, title));
            }
        }
        fresh
    }

    fn given_positive(&mut self, given: Option<Spanned<Period>>, default: Option<Period>) -> Option<Period> {
        match given {
            None => default,
            Some(given) => Some(self.positive(Some(given), Period::seconds(30))),
        }
    }
}

/// A share: a number from 0 to 1.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Share(pub f64);

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor("a number from 0 to 1")).map(Share)
    }
}

/// A number that need not be a whole one.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Number(pub(super) f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor("a number")).map(Number)
    }
}

/// Reads a number, also from text; with what is expected, for errors.
struct NumberVisitor(&'static str);

impl Visitor<'_> for NumberVisitor {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<f64, E> {
        Ok(number)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<f64, E> {
        Ok(number as f64)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<f64, E> {
        Ok(number as f64)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<f64, E> {
        text.trim().parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Sources};

    fn refused(toml: &str) -> String {
        Config::load(&Sources::text(toml)).expect_err("refused").to_string()
    }

    #[test]
    fn a_keyspace_overrides_what_is_said_for_all() {
        let toml = "[defaults]\njitter = 0.1\nstale_if_error = '10m'\n\
                    [keyspace.a]\npattern = 'a:{id}'\nstale_if_error = '1h'\nsoft_timeout = '200ms'\nrefresh_ahead = 0.8\n\
                    [keyspace.b]\npattern = 'b:{id}'\nstale_while_revalidate = '20m'\njitter = 0";
        let config = Config::load(&Sources::text(toml)).expect("valid");
        let of = |name: &str| {
            config.keyspaces.iter().find(|(found, _)| *found == name).expect("it is there").1.freshness
        };
        assert_eq!(of("a").grace().as_secs(), 3600);
        assert_eq!((of("a").jitter.0, of("a").refresh_ahead.map(|share| share.0)), (0.1, Some(0.8)));
        assert_eq!(of("b").grace().as_secs(), 1200);
        assert!((of("b").jitter.0, of("b").soft_timeout) == (0.0, None));
    }

    #[test]
    fn what_cannot_be_is_refused_where_it_stands() {
        let keyspace = |setting: &str| refused(&format!("[keyspace.a]\npattern = 'a:{{id}}'\n{setting}"));
        let soft = keyspace("soft_timeout = '200ms'");
        assert!(soft.contains("stale_if_error") && soft.contains("soft_timeout = '200ms'"), "{soft}");
        let soft = keyspace("stale_if_error = '1m'\nhard_timeout = '100ms'\nsoft_timeout = '200ms'");
        assert!(soft.contains("shorter than the hard one"), "{soft}");
        let hard = refused(
            "[defaults]\nstale_if_error = '1m'\nsoft_timeout = '200ms'\n[keyspace.a]\npattern = 'a:{id}'\nhard_timeout = '100ms'",
        );
        assert!(
            hard.contains("shorter than the hard one") && hard.contains("hard_timeout = '100ms'"),
            "{hard}"
        );
        assert!(keyspace("jitter = 1.5").contains("from 0 to 1"));
        assert!(keyspace("refresh_ahead = 1").contains("below 1"));
        assert!(keyspace("hard_timeout = 0").contains("more than zero"));
        assert!(keyspace("jitter = 'much'").contains("a number from 0 to 1"));
    }
}
