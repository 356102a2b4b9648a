//! The origin as a loader sees it: it may take long, and brings what was true when it was asked. Where entries have a grace it also
//! fails, panics, never answers, or says that it has nothing.

use crate::record::{Truth, Value};
use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use terrace::Origin;
use terrace_testkit::history::What;
use terrace_testkit::wait::pause;

/// The longest that the origin takes.
pub(crate) const ORIGIN_MAX: Duration = Duration::from_millis(700);
/// How long it takes to refuse on top of that, at least, and how much longer at most.
const REFUSES_AFTER: Duration = Duration::from_millis(300);
const REFUSES_WITHIN_MILLIS: u64 = 1000;
/// What its panics say.
pub(crate) const PANIC: &str = "the origin has panicked";
/// The origin is up or down for at least so long.
const PERIOD_NANOS: u64 = 1_500_000_000;
/// Of so many periods it is down in one.
const PERIODS_PER_DOWN: u64 = 2;

/// What goes wrong with one load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mishap {
    Refused,
    Panics,
    NeverAnswers,
    Nothing,
}

/// The origin does not do what it is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Refusal;

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the origin refuses")
    }
}

/// The origin, for the loaders of one node.
#[derive(Clone)]
pub(crate) struct Slow(pub(crate) u32, pub(crate) Arc<Truth>);

impl Slow {
    /// What it has of a key, unless something goes wrong with that.
    pub(crate) async fn value(&self, key: u64) -> Result<Option<Value>, Refusal> {
        let mishap = self.mishap();
        let value = self.answer(key).await;
        match mishap {
            None => Ok(Some(value)),
            Some(Mishap::Nothing) => Ok(None),
            Some(Mishap::Refused) => {
                pause(REFUSES_AFTER + Duration::from_millis(self.1.chance.below(REFUSES_WITHIN_MILLIS)))
                    .await;
                Err(Refusal)
            }
            // Without the panic hook, which would print it.
            Some(Mishap::Panics) => std::panic::resume_unwind(Box::new(PANIC)),
            Some(Mishap::NeverAnswers) => pending().await,
        }
    }

    async fn answer(&self, key: u64) -> Value {
        let Self(node, truth) = self;
        let version = truth.number(key);
        let loading = truth.record.begin(*node, key, What::Load { version });
        let chance = &truth.chance;
        let longest = if chance.below(8) == 0 { ORIGIN_MAX } else { Duration::from_millis(30) };
        let took = chance.below(u64::try_from(longest.as_millis()).unwrap_or(u64::MAX));
        pause(Duration::from_millis(took)).await;
        truth.record.end(&loading, What::Load { version });
        (key, version)
    }

    fn mishap(&self) -> Option<Mishap> {
        let truth = &self.1;
        let salt = truth.fails?;
        let period = truth.record.now() / PERIOD_NANOS;
        let mixed = (salt ^ period).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        if mixed.is_multiple_of(PERIODS_PER_DOWN) {
            return match truth.chance.below(8) {
                0 => Some(Mishap::NeverAnswers),
                1 => Some(Mishap::Panics),
                _ => Some(Mishap::Refused),
            };
        }
        match truth.chance.below(32) {
            0 => Some(Mishap::NeverAnswers),
            1 => Some(Mishap::Panics),
            2 | 3 => Some(Mishap::Refused),
            4 => Some(Mishap::Nothing),
            _ => None,
        }
    }
}

impl Origin<u64, Value> for Slow {
    type Error = Refusal;

    async fn load(&self, key: &u64) -> Result<Option<Value>, Refusal> {
        self.value(*key).await
    }
}
