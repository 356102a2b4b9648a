//! What is a metric called?
//!
//! The one place with names of metrics and labels. Names follow Prometheus' conventions: base units, `_total` on
//! counters, no label whose values are not known beforehand.

/// What kind of metric it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A metric's name and meaning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// One sentence.
    pub(super) help: &'static str,
}

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, help }
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, help }
}

pub(super) const REQUESTS: Metric = counter(
    "terrace_requests_total",
    "Keys looked up (op get), stored (put) or removed (remove), and invalidations asked for, by result; error is a lookup that nobody answered.",
);
pub(super) const HITS: Metric = counter(
    "terrace_hits_total",
    "Lookups answered with a fresh value, by the tier that had it and the keyspace's strategy.",
);
pub(super) const MISSES: Metric = counter(
    "terrace_misses_total",
    "Lookups that neither L1 nor L2 could answer, whatever the origin then did, by the keyspace's strategy.",
);
pub(super) const OPERATION_DURATION: Metric = Metric {
    name: "terrace_operation_duration_seconds",
    kind: Kind::Histogram,
    help: "Duration of calls, by the farthest tier asked; those that stay in L1 are sampled and weighted.",
};
pub(super) const ORIGIN_REQUESTS: Metric = counter(
    "terrace_origin_requests_total",
    "Loads from the origin that ended, by outcome; refused are those that it was not asked for.",
);
pub(super) const ORIGIN_DURATION: Metric = Metric {
    name: "terrace_origin_duration_seconds",
    kind: Kind::Histogram,
    help: "Duration of calls to the origin, by what they were to do and whether all of it was done; one that was given up is failed.",
};
pub(super) const ORIGIN_WRITES: Metric =
    counter("terrace_origin_writes_total", "Changes that the origin was asked to make at once, by outcome.");
pub(super) const WRITE_REPAIRS: Metric = counter(
    "terrace_write_repairs_total",
    "Changes that the origin took and a tier did not keep, by reason: L2 failed, or somebody else changed the key meanwhile.",
);
pub(super) const LOADS_COLLAPSED: Metric =
    counter("terrace_loads_collapsed_total", "Lookups that joined the flight of another one.");
pub(super) const FILLS: Metric = counter(
    "terrace_fills_total",
    "Loaded values, by whether they were kept or had been invalidated meanwhile.",
);
pub(super) const L1_ENTRIES: Metric = gauge("terrace_l1_entries", "Entries held in L1.");
pub(super) const L1_BYTES: Metric = gauge("terrace_l1_bytes", "Weight of the entries held in L1, in bytes.");
pub(super) const L1_EVICTIONS: Metric = counter(
    "terrace_l1_evictions_total",
    "Entries that left L1, by reason: no room, time over, removed or invalidated.",
);
pub(super) const BUS_EVENTS: Metric = counter(
    "terrace_bus_events_total",
    "Messages of other nodes that were heard (dir in) and of this node that came back (out), by type; a beat is out when it is sent.",
);
pub(super) const BUS_GAPS: Metric = counter(
    "terrace_bus_gaps_total",
    "Partitions of which a change was missed, by whether the log told it or copies are asked about.",
);
pub(super) const BUS_TOUCHES: Metric = counter(
    "terrace_bus_touches_total",
    "Values that L2 told as touched, by whomever, where it tracks; once for all at once.",
);
pub(super) const BUS_INCARNATIONS: Metric = counter(
    "terrace_bus_incarnations_total",
    "Times that L2 was found to have failed over or restarted, so that it may have forgotten changes.",
);
pub(super) const BUS_REASSERTIONS: Metric = counter(
    "terrace_bus_reassertions_total",
    "Changes of this node by whether they were asserted again, or could not be kept for that.",
);
pub(super) const BUS_LAPSES: Metric = counter(
    "terrace_bus_lapses_total",
    "Times that copies stopped to count as fresh, because no message of this node to itself came back in time.",
);
pub(super) const BUS_LAG: Metric = gauge(
    "terrace_bus_lag_seconds",
    "How long this node's last message to itself took to come back: how late it hears of changes.",
);
pub(super) const AUDITS: Metric = counter(
    "terrace_audits_total",
    "Changed keys, on a sample, by whether this node held a copy that counted as fresh and was older.",
);
pub(super) const REFRESHES: Metric =
    counter("terrace_refreshes_total", "Keys loaded anew by this node because somebody asked for it.");
pub(super) const VALIDATIONS: Metric = counter(
    "terrace_validations_total",
    "Lookups whose copy in L1 could not be proven fresh, by what L2 said of it when it was asked.",
);
pub(super) const L2_ROUND_TRIPS: Metric = counter("terrace_l2_round_trips_total", "Requests to L2.");
pub(super) const L2_BYTES: Metric =
    counter("terrace_l2_bytes_total", "Bytes of envelopes exchanged with L2, by direction.");
pub(super) const COMPRESSION_BYTES: Metric = counter(
    "terrace_compression_bytes_total",
    "Bytes of values for L2, as the codec wrote them (stage before) and as L2 gets them (after).",
);
pub(super) const L2_ERRORS: Metric = counter(
    "terrace_l2_errors_total",
    "Requests to L2 that failed, and entries in L2 that could not be read, by kind.",
);
pub(super) const INVALIDATIONS: Metric =
    counter("terrace_invalidations_total", "Keys, patterns, tags and whole keyspaces invalidated, by kind.");
pub(super) const PENDING_INVALIDATIONS: Metric =
    gauge("terrace_pending_invalidations", "Invalidations that wait for L2 to come back.");
pub(super) const BREAKER_STATE: Metric = gauge(
    "terrace_breaker_state",
    "1 for the state that the breaker is in, 0 for the others: closed, half_open, open.",
);
pub(super) const BREAKER_TRANSITIONS: Metric =
    counter("terrace_breaker_transitions_total", "Times that the breaker came into a state.");
pub(super) const ORIGIN_BREAKER_STATE: Metric = gauge(
    "terrace_origin_breaker_state",
    "1 for the state that the breaker of an origin's loads or writes is in, 0 for the others: closed, half_open (also while nobody asks), open.",
);
pub(super) const ORIGIN_BREAKER_TRANSITIONS: Metric = counter(
    "terrace_origin_breaker_transitions_total",
    "Times that the breaker of an origin's loads or writes came into a state.",
);
pub(super) const ORIGIN_CALLS: Metric = counter(
    "terrace_origin_calls_total",
    "Loads and writes of an origin, by whether they failed by its fault, or were not made because its breaker was open.",
);
pub(super) const L2_REJECTED: Metric = counter(
    "terrace_l2_rejected_total",
    "Requests to L2 that were not made, because its breaker is open or it comes back step by step.",
);
pub(super) const L2_RETRIES: Metric = counter(
    "terrace_l2_retries_total",
    "Requests to L2 that were made again, because one before was not sent.",
);
#[cfg(feature = "journal")]
pub(super) const BEHIND_PENDING: Metric =
    gauge("terrace_write_behind_pending", "Writes that are acknowledged and that the origin does not have.");
#[cfg(feature = "journal")]
pub(super) const BEHIND_PENDING_MAX: Metric =
    gauge("terrace_write_behind_pending_max", "Writes that may wait, of all keyspaces: the setting.");
#[cfg(feature = "journal")]
pub(super) const BEHIND_BYTES: Metric =
    gauge("terrace_write_behind_pending_bytes", "What they and the dead letters count, in bytes.");
#[cfg(feature = "journal")]
pub(super) const BEHIND_OLDEST: Metric =
    gauge("terrace_write_behind_oldest_seconds", "How long the oldest of them has waited.");
#[cfg(feature = "journal")]
pub(super) const BEHIND_PARKED: Metric =
    gauge("terrace_write_behind_parked_keys", "Keys whose writes failed and wait to be tried again.");
#[cfg(feature = "journal")]
pub(super) const BEHIND_DEAD: Metric =
    gauge("terrace_write_behind_dead_letters", "Writes that were given up and wait for somebody.");
#[cfg(feature = "journal")]
pub(super) const BEHIND_DEAD_TOTAL: Metric =
    counter("terrace_write_behind_dead_total", "Writes that were given up since the start.");
#[cfg(feature = "journal")]
pub(super) const BEHIND_WRITES: Metric =
    counter("terrace_write_behind_writes_total", "What became of writes that are written behind.");
#[cfg(feature = "journal")]
pub(super) const BEHIND_FLUSHES: Metric = Metric {
    name: "terrace_write_behind_flush_duration_seconds",
    kind: Kind::Histogram,
    help: "How long the calls took that bring a batch of writes to the origin.",
};
#[cfg(feature = "journal")]
pub(super) const JOURNAL_STATE: Metric =
    gauge("terrace_journal_state", "1 for the state that the journal's file is in, 0 for the others.");
#[cfg(feature = "journal")]
pub(super) const JOURNAL_COMMITS: Metric = counter(
    "terrace_journal_commits_total",
    "Commits of the journal, each of which may acknowledge many writes.",
);
pub(super) const STALE_AGE: Metric = Metric {
    name: "terrace_stale_age_seconds",
    kind: Kind::Histogram,
    help: "How long values were past their TTL that were returned as stale, by reason; zero for those that were only not proven fresh.",
};
pub(super) const STALE_SHARE: Metric = gauge(
    "terrace_stale_share",
    "Share of the lookups of the last minute that were answered with a stale value.",
);
pub(super) const STALE_OLDEST: Metric = gauge(
    "terrace_stale_oldest_seconds",
    "How long the oldest value was past its TTL that was returned in the last minute.",
);
pub(super) const STALE_OVER_BUDGET: Metric = gauge(
    "terrace_stale_over_budget",
    "1 if more of the answers of the last minute were stale than the keyspace allows, or one was older, else 0.",
);
pub(super) const BACKGROUND_LOADS: Metric = counter(
    "terrace_background_loads_total",
    "Loads in the background that ended, by whether they brought an answer.",
);
pub(super) const BACKGROUND_SUCCESS: Metric = gauge(
    "terrace_background_success_ratio",
    "Share of the background loads of the last minute that brought an answer; 1 if there were none.",
);
pub(super) const FLIGHTS_FENCED: Metric = counter(
    "terrace_flights_fenced_total",
    "Flights whose loader took too long to be waited for, so that another one began.",
);
pub(super) const LOADS_REFUSED: Metric =
    counter("terrace_loads_refused_total", "Loads that did not run, because there was no place for them.");
pub(super) const BULKHEAD_LOADS: Metric = gauge(
    "terrace_bulkhead_loads",
    "Loads that have a place of a bulkhead (state running) or wait for one (waiting), by the bulkhead's name and scope.",
);
pub(super) const BULKHEAD_LOADS_MAX: Metric =
    gauge("terrace_bulkhead_loads_max", "Loads that a bulkhead lets run at the same time.");
pub(super) const BULKHEAD_REFUSED: Metric =
    counter("terrace_bulkhead_refused_total", "Loads that a bulkhead refused after their wait.");
/// A gauge, not an `info`, because Prometheus' older text format does not know the latter.
pub(super) const BUILD_INFO: Metric =
    gauge("terrace_build_info", "Always 1; the labels tell the version and the commit of the build.");

/// All metrics there are, but for those of a journal.
#[cfg(test)]
pub(super) const ALL: [Metric; 45] = [
    REQUESTS,
    HITS,
    MISSES,
    OPERATION_DURATION,
    ORIGIN_REQUESTS,
    ORIGIN_DURATION,
    ORIGIN_WRITES,
    WRITE_REPAIRS,
    LOADS_COLLAPSED,
    FILLS,
    L1_ENTRIES,
    L1_BYTES,
    L1_EVICTIONS,
    BUS_EVENTS,
    BUS_GAPS,
    BUS_TOUCHES,
    BUS_INCARNATIONS,
    BUS_REASSERTIONS,
    BUS_LAPSES,
    BUS_LAG,
    AUDITS,
    REFRESHES,
    VALIDATIONS,
    L2_ROUND_TRIPS,
    L2_BYTES,
    COMPRESSION_BYTES,
    L2_ERRORS,
    INVALIDATIONS,
    PENDING_INVALIDATIONS,
    BREAKER_STATE,
    BREAKER_TRANSITIONS,
    L2_REJECTED,
    L2_RETRIES,
    STALE_AGE,
    STALE_SHARE,
    STALE_OLDEST,
    STALE_OVER_BUDGET,
    BACKGROUND_LOADS,
    BACKGROUND_SUCCESS,
    FLIGHTS_FENCED,
    LOADS_REFUSED,
    BULKHEAD_LOADS,
    BULKHEAD_LOADS_MAX,
    BULKHEAD_REFUSED,
    BUILD_INFO,
];

/// Those that are there if there is a journal.
#[cfg(all(test, feature = "journal"))]
pub(super) const BEHIND: [Metric; 11] = [
    BEHIND_PENDING,
    BEHIND_PENDING_MAX,
    BEHIND_BYTES,
    BEHIND_OLDEST,
    BEHIND_PARKED,
    BEHIND_DEAD,
    BEHIND_DEAD_TOTAL,
    BEHIND_WRITES,
    BEHIND_FLUSHES,
    JOURNAL_STATE,
    JOURNAL_COMMITS,
];

pub(super) const KEYSPACE: &str = "keyspace";
pub(super) const OP: &str = "op";
pub(super) const RESULT: &str = "result";
pub(super) const TIER: &str = "tier";
pub(super) const OUTCOME: &str = "outcome";
pub(super) const REASON: &str = "reason";
pub(super) const DIRECTION: &str = "direction";
pub(super) const KIND: &str = "kind";
pub(super) const TARGET: &str = "target";
pub(super) const STATE: &str = "state";
pub(super) const BULKHEAD: &str = "bulkhead";
pub(super) const SCOPE: &str = "scope";
pub(super) const VERSION: &str = "version";
pub(super) const COMMIT: &str = "commit";
pub(super) const DIR: &str = "dir";
pub(super) const TYPE: &str = "type";
pub(super) const STAGE: &str = "stage";
pub(super) const STRATEGY: &str = "strategy";
