//! What can happen, and what is a call?
//!
//! 1. Each event has exactly one rule, written at its variant. A number that is the sum of others is never counted:
//!    lookups are hits plus stale hits plus misses, so they agree in every snapshot.
//! 2. Of events that a sum takes together each counts by itself: a difference of two would run backwards between them.

use crate::entry::StaleReason;
use terrace_core::RemoteError;

/// What can happen to the entries of a keyspace. A batch counts once per key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub(crate) enum Event {
    /// A lookup answered by L1 with a fresh value.
    HitL1,
    /// A lookup answered by L2 with a fresh value, by its own question or by that of a flight it joined.
    HitL2,
    /// A lookup answered with a copy in L1 that could not be proven fresh.
    HitStale,
    /// A lookup answered with a value past its TTL, which is loaded in the background.
    HitRevalidating,
    /// A lookup answered with a value past its TTL, because its load takes longer than the soft timeout.
    HitLoadSlow,
    /// A lookup answered with a value past its TTL, because its load has failed, now or a little while ago.
    HitLoadFailed,
    /// A lookup answered with the knowledge that the origin has no such value.
    HitAbsent,
    /// A lookup that neither L1 nor L2 could answer, and that was answered: with a value, that there is none, or that the key cannot be one
    /// of the origin's.
    Miss,
    /// A lookup that nobody answered: it ended in an error, or its caller gave it up. It is a miss as well ([`Event::MISSES`]).
    LookupFailed,
    /// A lookup that joined a flight instead of starting one. It is also a hit or a miss, by what the flight found.
    Coalesced,
    /// A value stored at the caller's wish, in every tier there is. Fills are not puts.
    PutApplied,
    /// A value stored in L1 only, because L2 could not be reached.
    PutQueued,
    /// A put that returned an error.
    PutFailed,
    /// A key removed from every tier, whether or not it was there.
    RemoveApplied,
    /// A key removed from L1, while its removal from L2 waits.
    RemoveQueued,
    /// A removal that returned an error.
    RemoveFailed,
    /// One call to invalidate or to clear that every tier carried out.
    InvalidateApplied,
    /// One call to invalidate or to clear that L1 carried out and that waits for L2.
    InvalidateQueued,
    /// One call to invalidate or to clear that returned an error.
    InvalidateFailed,
    /// A key named in an invalidation. Removals are not invalidations.
    InvalidatedKey,
    /// A pattern named in an invalidation, however many keys it matched.
    InvalidatedPattern,
    /// A tag named in an invalidation, however many entries had it.
    InvalidatedTag,
    /// A keyspace cleared.
    InvalidatedAll,
    /// A load that ended with a value. Loads count when they end, once for all lookups that waited.
    LoadFound,
    /// A load that ended with the knowledge that the origin has no such value.
    LoadAbsent,
    /// A load that ended with the loader's error.
    LoadFailed,
    /// A load that ended with the loader's panic.
    LoadPanicked,
    /// A load that did not run, because there was no place for it.
    LoadRefused,
    /// A load that its origin was not asked for: it is left alone, or had no place for the call.
    LoadNotAsked,
    /// A load in the background that ended with an answer: a value, or that there is none.
    BackgroundLoaded,
    /// A load in the background that ended with none, or for which there was no place.
    BackgroundFailed,
    /// A flight that another one has fenced, because its loader took too long.
    FlightFenced,
    /// A load that began in the background because an old value was returned.
    LoadBehind,
    /// A load that began in the background because a value was near the end of its TTL.
    LoadAhead,
    /// A loaded value that was kept.
    FillStored,
    /// A loaded value that was given to its caller and kept nowhere, because the key changed during the load.
    FillRejected,
    /// A change that the origin took.
    OriginStored,
    /// A change that the origin did not take.
    OriginNotStored,
    /// A change that the origin may have taken or not.
    OriginUnknown,
    /// A change that the origin took and L2 did not, which is told later.
    WriteRepaired,
    /// A value that the origin took and that was not kept, because somebody else changed the key meanwhile.
    WriteContested,
    /// A request to L2, whatever came of it. A pipeline is one.
    L2RoundTrip,
    /// A request to L2 that was not made, because L2 is left alone or comes back step by step.
    L2Rejected,
    /// A request to L2 that was made again.
    L2Retried,
    /// Bytes of envelopes received from L2.
    L2BytesRead,
    /// Bytes of envelopes sent to L2.
    L2BytesWritten,
    /// Bytes of payloads for L2, as the codec wrote them.
    PayloadBytes,
    /// Bytes of the same payloads as L2 gets them, compressed where that pays.
    PayloadBytesKept,
    /// A request to L2 that was not sent: there was no connection.
    L2Unavailable,
    /// A request to L2 that was not answered in time.
    L2Timeout,
    /// A request to L2 whose connection broke.
    L2Broken,
    /// A request that reached L2 when its caller had given it up.
    L2Late,
    /// A request that L2 refused.
    L2Refused,
    /// An answer of L2 that made no sense.
    L2Protocol,
    /// A request refused because this node and L2 disagree about settings.
    L2Mismatch,
    /// Any other failure of a request to L2.
    L2Other,
    /// A gap in what was heard of a partition, filled from its log.
    BusRepaired,
    /// A partition of which a change may have been missed for good: its copies are asked about.
    BusSuspected,
    /// A value that somebody has touched, or all of them at once, as a server tells that tracks.
    BusTouched,
    /// The namespace was joined on a server of which it is not known that it remembers what was acknowledged before.
    BusIncarnation,
    /// A change of this node's that was asserted again, because L2 may have forgotten it.
    Reasserted,
    /// A change that cannot be asserted again, because there was no room to keep it.
    RecentDropped,
    /// A time that copies stopped to count as fresh, because this node could not know whether it hears of changes.
    BusLapsed,
    /// A copy of a key that was changed for long enough that did not count as fresh, was not older, or was not there.
    AuditPassed,
    /// A copy that counted as fresh, and was older than a change of long enough ago.
    AuditFailed,
    /// A key that was loaded anew because somebody asked for it.
    Refreshed,
    /// A lookup whose copy in L1 could not be proven fresh, and that L2 has as well.
    ValidatedSame,
    /// A lookup whose copy in L1 could not be proven fresh, and that L2 has another value of, or whose value had to be read.
    ValidatedChanged,
    /// A lookup whose copy in L1 could not be proven fresh, and that L2 does not have, or that a tag has killed.
    ValidatedMissing,
    /// A lookup whose copy in L1 could not be proven fresh: L2 did not answer, not in time, or there was no room to ask.
    ValidationUnanswered,
    /// Bytes from L2 that are no envelope of this key. Such a lookup goes on as if L2 had nothing.
    L2Envelope,
    /// An envelope from L2 whose payload the codec could not read. Such a lookup goes on as if L2 had nothing.
    L2Payload,
}

impl Event {
    /// Lookups that were answered with a stale value.
    pub(super) const STALE: [Self; 4] =
        [Self::HitStale, Self::HitRevalidating, Self::HitLoadSlow, Self::HitLoadFailed];

    /// Lookups that neither L1 nor L2 could answer.
    pub(super) const MISSES: [Self; 2] = [Self::Miss, Self::LookupFailed];

    /// Loads that did not run.
    pub(super) const NOT_RUN: [Self; 2] = [Self::LoadRefused, Self::LoadNotAsked];

    /// A lookup that was answered with a stale value for this reason.
    pub(super) const fn of_stale(reason: StaleReason) -> Self {
        match reason {
            StaleReason::Unproven => Self::HitStale,
            StaleReason::Revalidating => Self::HitRevalidating,
            StaleReason::LoadSlow => Self::HitLoadSlow,
            StaleReason::LoadFailed => Self::HitLoadFailed,
        }
    }

    /// How many events there are.
    pub(super) const COUNT: usize = Self::L2Payload as usize + 1;

    /// The event of a failed request to L2.
    pub(super) fn of_error(error: &RemoteError) -> Self {
        match error.kind() {
            "unavailable" => Self::L2Unavailable,
            "timeout" => Self::L2Timeout,
            "broken" => Self::L2Broken,
            "late" => Self::L2Late,
            "refused" => Self::L2Refused,
            "protocol" => Self::L2Protocol,
            "mismatch" => Self::L2Mismatch,
            _ => Self::L2Other,
        }
    }
}

/// What a call of the library is, where its duration is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub(crate) enum Op {
    /// One call that looks up, of one key or of many.
    Get,
    /// One call that stores.
    Put,
    /// One call that removes.
    Remove,
    /// One call that invalidates or clears.
    Invalidate,
}

impl Op {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Self; 4] = [Self::Get, Self::Put, Self::Remove, Self::Invalidate];

    /// One word for metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Remove => "remove",
            Self::Invalidate => "invalidate",
        }
    }
}
