//! Which numbers of a keyspace are in which metric?
//!
//! 1. Every series is written for every keyspace, at zero if nothing happened yet.
//! 2. Names come from [`super::names`], label values from closed sets.

use super::by_strategy::Answers;
use super::event::Event;
use super::names::{self, Metric};
use super::{EngineGauges, SpaceSnapshot};
use crate::Strategy;

/// A metric with one number per keyspace and labels.
pub(super) struct Family {
    pub(super) metric: Metric,
    pub(super) series: &'static [(Labels, Value)],
}

/// The labels of one series besides the keyspace.
pub(super) type Labels = &'static [(&'static str, &'static str)];

/// Where the number of a series comes from.
pub(super) enum Value {
    Count(Event),
    /// The sum of several events.
    Sum(&'static [Event]),
    Engine(fn(&EngineGauges) -> u64),
    /// One number for each strategy that the keyspace has had.
    ByStrategy(fn(&Answers) -> u64),
}

impl Value {
    /// The numbers of a series: one, or one for each strategy.
    pub(super) fn of(&self, space: &SpaceSnapshot) -> Vec<(Option<Strategy>, u64)> {
        let one = |number| vec![(None, number)];
        match self {
            Self::Count(event) => one(space.counters.count(*event)),
            Self::Sum(events) => one(space.counters.sum(events)),
            Self::Engine(gauge) => one(gauge(&space.engine)),
            Self::ByStrategy(of) => {
                let shares = space.counters.by_strategy().iter();
                shares.map(|(strategy, answers)| (Some(*strategy), of(answers))).collect()
            }
        }
    }
}

/// What is written for every keyspace.
pub(super) const FAMILIES: [Family; 29] = [
    Family {
        metric: names::REQUESTS,
        series: &[
            (&[(names::OP, "get"), (names::RESULT, "hit_l1")], Value::Count(Event::HitL1)),
            (&[(names::OP, "get"), (names::RESULT, "hit_l2")], Value::Count(Event::HitL2)),
            (&[(names::OP, "get"), (names::RESULT, "hit_stale")], Value::Count(Event::HitStale)),
            (
                &[(names::OP, "get"), (names::RESULT, "hit_revalidating")],
                Value::Count(Event::HitRevalidating),
            ),
            (&[(names::OP, "get"), (names::RESULT, "hit_load_slow")], Value::Count(Event::HitLoadSlow)),
            (&[(names::OP, "get"), (names::RESULT, "hit_load_failed")], Value::Count(Event::HitLoadFailed)),
            (&[(names::OP, "get"), (names::RESULT, "negative")], Value::Count(Event::HitAbsent)),
            (&[(names::OP, "get"), (names::RESULT, "miss")], Value::Count(Event::Miss)),
            (&[(names::OP, "get"), (names::RESULT, "error")], Value::Count(Event::LookupFailed)),
            (&[(names::OP, "put"), (names::RESULT, "applied")], Value::Count(Event::PutApplied)),
            (&[(names::OP, "put"), (names::RESULT, "queued")], Value::Count(Event::PutQueued)),
            (&[(names::OP, "put"), (names::RESULT, "failed")], Value::Count(Event::PutFailed)),
            (&[(names::OP, "remove"), (names::RESULT, "applied")], Value::Count(Event::RemoveApplied)),
            (&[(names::OP, "remove"), (names::RESULT, "queued")], Value::Count(Event::RemoveQueued)),
            (&[(names::OP, "remove"), (names::RESULT, "failed")], Value::Count(Event::RemoveFailed)),
            (
                &[(names::OP, "invalidate"), (names::RESULT, "applied")],
                Value::Count(Event::InvalidateApplied),
            ),
            (&[(names::OP, "invalidate"), (names::RESULT, "queued")], Value::Count(Event::InvalidateQueued)),
            (&[(names::OP, "invalidate"), (names::RESULT, "failed")], Value::Count(Event::InvalidateFailed)),
        ],
    },
    Family {
        metric: names::HITS,
        series: &[
            (&[(names::TIER, "l1")], Value::ByStrategy(|answers| answers.hits_l1)),
            (&[(names::TIER, "l2")], Value::ByStrategy(|answers| answers.hits_l2)),
        ],
    },
    Family { metric: names::MISSES, series: &[(&[], Value::ByStrategy(|answers| answers.misses))] },
    Family {
        metric: names::ORIGIN_REQUESTS,
        series: &[
            (&[(names::OUTCOME, "found")], Value::Count(Event::LoadFound)),
            (&[(names::OUTCOME, "absent")], Value::Count(Event::LoadAbsent)),
            (&[(names::OUTCOME, "failed")], Value::Count(Event::LoadFailed)),
            (&[(names::OUTCOME, "panicked")], Value::Count(Event::LoadPanicked)),
            (&[(names::OUTCOME, "refused")], Value::Sum(&Event::NOT_RUN)),
        ],
    },
    Family {
        metric: names::ORIGIN_WRITES,
        series: &[
            (&[(names::OUTCOME, "stored")], Value::Count(Event::OriginStored)),
            (&[(names::OUTCOME, "failed")], Value::Count(Event::OriginNotStored)),
            (&[(names::OUTCOME, "unknown")], Value::Count(Event::OriginUnknown)),
        ],
    },
    Family {
        metric: names::WRITE_REPAIRS,
        series: &[
            (&[(names::REASON, "l2")], Value::Count(Event::WriteRepaired)),
            (&[(names::REASON, "contested")], Value::Count(Event::WriteContested)),
        ],
    },
    Family {
        metric: names::BACKGROUND_LOADS,
        series: &[
            (&[(names::OUTCOME, "succeeded")], Value::Count(Event::BackgroundLoaded)),
            (&[(names::OUTCOME, "failed")], Value::Count(Event::BackgroundFailed)),
        ],
    },
    Family { metric: names::FLIGHTS_FENCED, series: &[(&[], Value::Count(Event::FlightFenced))] },
    Family { metric: names::LOADS_REFUSED, series: &[(&[], Value::Count(Event::LoadRefused))] },
    Family { metric: names::LOADS_COLLAPSED, series: &[(&[], Value::Count(Event::Coalesced))] },
    Family {
        metric: names::FILLS,
        series: &[
            (&[(names::OUTCOME, "stored")], Value::Count(Event::FillStored)),
            (&[(names::OUTCOME, "rejected")], Value::Count(Event::FillRejected)),
        ],
    },
    Family { metric: names::L1_ENTRIES, series: &[(&[], Value::Engine(|engine| engine.entries))] },
    Family { metric: names::L1_BYTES, series: &[(&[], Value::Engine(|engine| engine.bytes))] },
    Family {
        metric: names::L1_EVICTIONS,
        series: &[
            (&[(names::REASON, "size")], Value::Engine(|engine| engine.evictions)),
            (&[(names::REASON, "ttl")], Value::Engine(|engine| engine.expirations)),
            (&[(names::REASON, "invalidated")], Value::Engine(|engine| engine.invalidated)),
        ],
    },
    Family {
        metric: names::BUS_GAPS,
        series: &[
            (&[(names::OUTCOME, "repaired")], Value::Count(Event::BusRepaired)),
            (&[(names::OUTCOME, "suspected")], Value::Count(Event::BusSuspected)),
        ],
    },
    Family { metric: names::BUS_TOUCHES, series: &[(&[], Value::Count(Event::BusTouched))] },
    Family { metric: names::BUS_INCARNATIONS, series: &[(&[], Value::Count(Event::BusIncarnation))] },
    Family {
        metric: names::BUS_REASSERTIONS,
        series: &[
            (&[(names::OUTCOME, "asserted")], Value::Count(Event::Reasserted)),
            (&[(names::OUTCOME, "dropped")], Value::Count(Event::RecentDropped)),
        ],
    },
    Family { metric: names::BUS_LAPSES, series: &[(&[], Value::Count(Event::BusLapsed))] },
    Family {
        metric: names::AUDITS,
        series: &[
            (&[(names::OUTCOME, "passed")], Value::Count(Event::AuditPassed)),
            (&[(names::OUTCOME, "failed")], Value::Count(Event::AuditFailed)),
        ],
    },
    Family { metric: names::REFRESHES, series: &[(&[], Value::Count(Event::Refreshed))] },
    Family {
        metric: names::VALIDATIONS,
        series: &[
            (&[(names::OUTCOME, "same")], Value::Count(Event::ValidatedSame)),
            (&[(names::OUTCOME, "changed")], Value::Count(Event::ValidatedChanged)),
            (&[(names::OUTCOME, "missing")], Value::Count(Event::ValidatedMissing)),
            (&[(names::OUTCOME, "unanswered")], Value::Count(Event::ValidationUnanswered)),
        ],
    },
    Family { metric: names::L2_ROUND_TRIPS, series: &[(&[], Value::Count(Event::L2RoundTrip))] },
    Family { metric: names::L2_REJECTED, series: &[(&[], Value::Count(Event::L2Rejected))] },
    Family { metric: names::L2_RETRIES, series: &[(&[], Value::Count(Event::L2Retried))] },
    Family {
        metric: names::L2_BYTES,
        series: &[
            (&[(names::DIRECTION, "read")], Value::Count(Event::L2BytesRead)),
            (&[(names::DIRECTION, "written")], Value::Count(Event::L2BytesWritten)),
        ],
    },
    Family {
        metric: names::COMPRESSION_BYTES,
        series: &[
            (&[(names::STAGE, "before")], Value::Count(Event::PayloadBytes)),
            (&[(names::STAGE, "after")], Value::Count(Event::PayloadBytesKept)),
        ],
    },
    Family {
        metric: names::L2_ERRORS,
        series: &[
            (&[(names::KIND, "unavailable")], Value::Count(Event::L2Unavailable)),
            (&[(names::KIND, "timeout")], Value::Count(Event::L2Timeout)),
            (&[(names::KIND, "broken")], Value::Count(Event::L2Broken)),
            (&[(names::KIND, "late")], Value::Count(Event::L2Late)),
            (&[(names::KIND, "refused")], Value::Count(Event::L2Refused)),
            (&[(names::KIND, "protocol")], Value::Count(Event::L2Protocol)),
            (&[(names::KIND, "mismatch")], Value::Count(Event::L2Mismatch)),
            (&[(names::KIND, "other")], Value::Count(Event::L2Other)),
            (&[(names::KIND, "envelope")], Value::Count(Event::L2Envelope)),
            (&[(names::KIND, "payload")], Value::Count(Event::L2Payload)),
        ],
    },
    Family {
        metric: names::INVALIDATIONS,
        series: &[
            (&[(names::KIND, "key")], Value::Count(Event::InvalidatedKey)),
            (&[(names::KIND, "pattern")], Value::Count(Event::InvalidatedPattern)),
            (&[(names::KIND, "tag")], Value::Count(Event::InvalidatedTag)),
            (&[(names::KIND, "clear")], Value::Count(Event::InvalidatedAll)),
        ],
    },
];
