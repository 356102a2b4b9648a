//! How much trouble of the shared tier is put up with: `wait_max`, `breaker` and `retry` of `[l2]`.
//!
//! The library knows which settings can be; it is asked, and what it refuses is shown where it stands.

use super::check::Checker;
use super::file;
use super::freshness::Share;
use super::report::Refusal;
use super::units::{Count, Flag, Period};
use crate::tiers;
use serde::Serialize;
use std::ops::Range;
use terrace::{Breaker, CacheBuilder, Clock, OriginBreaker, Retry};
use toml::Spanned;

/// When the shared tier is left alone, because too much of what it is asked fails.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[non_exhaustive]
pub struct L2Breaker {
    /// Whether it ever is. Default true.
    pub enabled: bool,
    /// The share of calls that have to fail. Default 0.5.
    pub failures: f64,
    /// The time over which they are counted. Default 10 s.
    pub window: Period,
    /// How many have to be counted. Default 20.
    pub min_calls: u64,
    /// How long it is left alone before it is probed, at most; half of it at least. Default 5 s.
    pub open: Period,
    /// A call that took longer counts as failed. Default none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow: Option<Period>,
    /// How long it takes until all reads ask again, once it is well. Default 5 s.
    pub ramp: Period,
}

/// When an origin is left alone, because too much of what it is asked fails. The settings mean what those of the shared tier mean; it comes
/// back at once, so there is no ramp.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[non_exhaustive]
pub struct OriginBreakerConfig {
    /// Whether it ever is. Default true.
    pub enabled: bool,
    /// The share of calls that have to fail. Default 0.5.
    pub failures: f64,
    /// The time over which they are counted. Default 10 s.
    pub window: Period,
    /// How many have to be counted. Default 20.
    pub min_calls: u64,
    /// How long it is left alone before the next call may be made, at most; half of it at least. Default 5 s.
    pub open: Period,
    /// A call that took longer counts as failed. Default none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow: Option<Period>,
}

impl OriginBreakerConfig {
    /// The settings, as the library has them.
    pub(crate) fn settings(&self) -> Breaker {
        let settings = Breaker::default()
            .failures(self.failures)
            .window(self.window.0)
            .min_calls(u32::try_from(self.min_calls).unwrap_or(u32::MAX))
            .open(self.open.0);
        self.slow.map_or(settings, |slow| settings.slow(slow.0))
    }
}

/// What of a failed call is tried again: what was certainly not sent, and questions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct L2Retry {
    /// Attempts after the first. Default 3.
    pub max: u64,
    /// The bound of the first pause, which is drawn at random; it doubles. Default 20 ms.
    pub base: Period,
    /// The bound of every pause. Default 500 ms.
    pub cap: Period,
}

/// The settings, as far as they stand in the file.
pub(super) struct Patience {
    pub(super) wait_max: Period,
    pub(super) breaker: L2Breaker,
    pub(super) retry: L2Retry,
}

impl Checker<'_> {
    pub(super) fn patience(
        &mut self,
        wait_max: Option<Spanned<Period>>,
        breaker: Option<Spanned<file::Breaker>>,
        retry: Option<Spanned<file::Retry>>,
        max_retries: Option<&Spanned<Count>>,
    ) -> Patience {
        let span = |at: Option<Range<usize>>| at.unwrap_or_default();
        let waits_at = span(wait_max.as_ref().map(Spanned::span));
        let breaker_at = span(breaker.as_ref().map(Spanned::span));
        let retry_at = span(retry.as_ref().map(Spanned::span));
        let wait_max = wait_max.map_or(Period(CacheBuilder::L2_WAIT_MAX_DEFAULT), Spanned::into_inner);
        let breaker = of_breaker(&breaker.map(Spanned::into_inner).unwrap_or_default());
        let given = retry.map(Spanned::into_inner).unwrap_or_default();
        if let (Some(max), Some(other)) = (given.max, max_retries)
            && max != *other.get_ref()
        {
            let refusal =
                Refusal::new(other.span(), "`max_retries` and `retry.max` differ, and are the same");
            self.refuse(&refusal.also(retry_at.clone(), "this one").help("leave `max_retries` out"));
        }
        let max = given.max.or(max_retries.map(|max| *max.get_ref()));
        let retry = L2Retry {
            max: max.map_or(u64::from(Retry::MAX_DEFAULT), |max| max.0),
            base: given.base.unwrap_or(Period(Retry::BASE_DEFAULT)),
            cap: given.cap.unwrap_or(Period(Retry::CAP_DEFAULT)),
        };
        let patience = Patience { wait_max, breaker, retry };
        if let Err(error) = tiers::patient(terrace::Cache::builder(), wait_max, &breaker, &retry).build() {
            let at = match error.setting.split_once('.') {
                Some(("breaker", _)) => breaker_at,
                Some(("retry", _)) if max_retries.is_some() && error.setting == "retry.max" => {
                    max_retries.map(Spanned::span).unwrap_or(retry_at)
                }
                Some(("retry", _)) => retry_at,
                _ => waits_at,
            };
            let setting = error.setting.strip_prefix("l2_").unwrap_or(error.setting);
            let title = format!("`{setting}` cannot be {}: {}", error.value, error.allowed);
            self.refuse(&Refusal::new(at, title));
        }
        patience
    }
}

impl Checker<'_> {
    pub(super) fn origin_breaker(
        &mut self,
        given: Option<Spanned<file::OriginBreaker>>,
    ) -> OriginBreakerConfig {
        let at = given.as_ref().map(Spanned::span).unwrap_or_default();
        let given = given.map(Spanned::into_inner).unwrap_or_default();
        let breaker = OriginBreakerConfig {
            enabled: given.enabled.is_none_or(|Flag(is_on)| is_on),
            failures: given.failures.map_or(Breaker::FAILURES_DEFAULT, |Share(share)| share),
            window: given.window.unwrap_or(Period(Breaker::WINDOW_DEFAULT)),
            min_calls: given.min_calls.map_or(u64::from(Breaker::MIN_CALLS_DEFAULT), |Count(calls)| calls),
            open: given.open.unwrap_or(Period(Breaker::OPEN_DEFAULT)),
            slow: given.slow,
        };
        if let Err(error) = OriginBreaker::new("", breaker.settings(), Clock::system()) {
            let title = format!("`{}` cannot be {}: {}", error.setting, error.value, error.allowed);
            self.refuse(&Refusal::new(at, title));
        }
        breaker
    }
}

fn of_breaker(given: &file::Breaker) -> L2Breaker {
    L2Breaker {
        enabled: given.enabled.is_none_or(|Flag(is_on)| is_on),
        failures: given.failures.map_or(Breaker::FAILURES_DEFAULT, |Share(share)| share),
        window: given.window.unwrap_or(Period(Breaker::WINDOW_DEFAULT)),
        min_calls: given.min_calls.map_or(u64::from(Breaker::MIN_CALLS_DEFAULT), |Count(calls)| calls),
        open: given.open.unwrap_or(Period(Breaker::OPEN_DEFAULT)),
        slow: given.slow,
        ramp: given.ramp.unwrap_or(Period(Breaker::RAMP_DEFAULT)),
    }
}
