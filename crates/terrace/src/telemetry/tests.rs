//! Counting with many threads, resetting, and the text that Prometheus reads.

use super::names::{self, Kind, Metric};
use super::*;
use crate::entry::Tier;
use crate::resilience::BreakerState;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Barrier;
use std::time::Duration;
use terrace_core::RemoteError;

/// What the rest of the library would know.
#[derive(Default)]
struct Fixed {
    engine: EngineGauges,
    pending: u64,
    has_l2: bool,
    /// Writes that were given up, and those of them that wait.
    dead: (u64, u64),
}

impl Sources for Fixed {
    fn engine(&self, _: &Namespace) -> EngineGauges {
        self.engine
    }

    fn pending_invalidations(&self) -> u64 {
        self.pending
    }

    fn bulkheads(&self) -> Vec<BulkheadLoad> {
        let name = "main".to_owned();
        vec![BulkheadLoad { name, is_own: false, loads_max: 0, running: 0, waiting: 0, refused: 0 }]
    }

    fn breaker(&self) -> Option<BreakerGauges> {
        Some(BreakerGauges { state: BreakerState::Open, transitions: [0; 3] })
    }

    #[cfg(feature = "journal")]
    fn journal(&self) -> Option<JournalGauges> {
        let (dead, dead_letters) = self.dead;
        let lane = crate::behind::LaneFigures { dead_letters, dead, ..Default::default() };
        let lanes = [("users".to_owned(), lane)].into();
        let figures = crate::behind::JournalFigures { lanes, ..Default::default() };
        Some(JournalGauges { figures, flushes: vec![("users".to_owned(), HistogramSnapshot::zero())] })
    }

    fn bus_lag(&self) -> Duration {
        Duration::ZERO
    }

    fn bus_events(&self) -> BusEvents {
        BusEvents::default()
    }

    fn has_l2(&self) -> bool {
        self.has_l2
    }
}

/// A keyspace in which nothing happened.
fn staleness() -> Vec<Staleness> {
    vec![Staleness {
        keyspace: "users".to_owned(),
        lookups: 0,
        stale: 0,
        oldest: Duration::ZERO,
        background_loads: 0,
        background_failed: 0,
        is_share_over: false,
        is_age_over: false,
    }]
}

fn name(text: &str) -> Namespace {
    Namespace::new(text).unwrap()
}

fn telemetry() -> (Telemetry, Clock) {
    let clock = Clock::manual();
    (Telemetry::new(clock.clone(), Build { version: "1.2.3", commit: "unknown" }), clock)
}

/// Takes a call that lasts `nanos`.
fn call(space: &SpaceCounters, clock: &Clock, op: Op, farthest: Tier, nanos: u64) {
    let timer = space.timer();
    clock.advance(Duration::from_nanos(nanos));
    space.observe(op, farthest, timer);
}

#[test]
fn no_count_is_lost_when_more_threads_than_shards_count() {
    const THREADS: u64 = 40;
    const EACH: u64 = 5_000;
    let (telemetry, _) = telemetry();
    let barrier = Barrier::new(usize::try_from(THREADS).unwrap());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let space = telemetry.space(&name("users"));
                barrier.wait();
                for _ in 0..EACH {
                    space.hit(Tier::L1);
                    space.add(Event::L2BytesRead, 3);
                    space.observe(Op::Get, Tier::L2, space.timer());
                }
            });
        }
    });
    let total = telemetry.stats(&Fixed::default()).total;
    assert_eq!(total.hits_l1, THREADS * EACH);
    assert_eq!(total.requests, THREADS * EACH);
    assert_eq!(total.l2_bytes_read, 3 * THREADS * EACH);
    assert_eq!(total.latency.get_l2.count, THREADS * EACH);
}

#[test]
fn threads_that_end_leave_their_counts_and_their_place_to_others() {
    const THREADS: u64 = 100;
    /// Counts once more while its thread ends, before or after the thread has given up its block.
    struct Late(Option<Arc<SpaceCounters>>);
    impl Drop for Late {
        fn drop(&mut self) {
            self.0.iter().for_each(|space| space.miss());
        }
    }
    thread_local! { static LATE: RefCell<Late> = const { RefCell::new(Late(None)) }; }
    let (telemetry, _) = telemetry();
    for thread in 0..THREADS {
        let space = telemetry.space(&name("users"));
        let counting = move || {
            let is_first = thread % 2 == 0;
            if is_first {
                space.hit(Tier::L1);
            }
            LATE.with_borrow_mut(|late| late.0 = Some(Arc::clone(&space)));
            if !is_first {
                space.hit(Tier::L1);
            }
        };
        std::thread::spawn(counting).join().unwrap();
    }
    let total = telemetry.stats(&Fixed::default()).total;
    assert_eq!((total.hits_l1, total.misses), (THREADS, THREADS));
}

#[test]
fn snapshots_taken_while_threads_count_never_go_back() {
    let (telemetry, _) = telemetry();
    let space = telemetry.space(&name("users"));
    std::thread::scope(|scope| {
        let counting: Vec<_> =
            (0..2).map(|_| scope.spawn(|| (0..50_000).for_each(|_| space.hit(Tier::L2)))).collect();
        let mut before = 0;
        while !counting.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            let now = telemetry.stats(&Fixed::default()).total;
            assert!(now.hits >= before);
            assert_eq!(now.requests, now.hits + now.stale_hits + now.misses);
            before = now.hits;
        }
    });
    assert_eq!(telemetry.stats(&Fixed::default()).total.hits_l2, 100_000);
}

#[test]
fn every_lookup_is_exactly_one_of_hit_stale_hit_and_miss() {
    let (telemetry, _) = telemetry();
    let space = telemetry.space(&name("users"));
    space.hit(Tier::L1);
    space.hit(Tier::L2);
    space.hit(Tier::Origin);
    space.miss();
    space.count(Event::HitStale);
    space.count(Event::Coalesced);
    let total = telemetry.stats(&Fixed { has_l2: true, ..Fixed::default() }).total;
    assert_eq!((total.requests, total.hits, total.stale_hits, total.misses), (5, 2, 1, 2));
    assert_eq!((total.misses_l1, total.misses_l2, total.coalesced), (4, 2, 1));
    assert_eq!(telemetry.stats(&Fixed::default()).total.misses_l2, 0);
    assert!((total.hit_rate() - 0.4).abs() < 1e-9);
    assert!((total.l1_hit_rate() - 0.2).abs() < 1e-9);
    assert!(Figures::default().hit_rate().abs() < 1e-9);
}

#[test]
fn each_error_of_l2_has_its_kind() {
    let (telemetry, _) = telemetry();
    let space = telemetry.space(&name("users"));
    let reason = String::new;
    space.l2_error(&RemoteError::Unavailable { reason: reason() });
    space.l2_error(&RemoteError::Timeout { after: Duration::ZERO });
    space.l2_error(&RemoteError::Broken { reason: reason() });
    space.l2_error(&RemoteError::Late { reason: reason() });
    space.l2_error(&RemoteError::Refused { reason: reason() });
    space.l2_error(&RemoteError::Protocol { reason: reason() });
    space.l2_error(&RemoteError::Mismatch { reason: reason() });
    space.count(Event::L2Envelope);
    let total = telemetry.stats(&Fixed::default()).total;
    assert_eq!((total.l2_errors, total.network_errors, total.decode_failures), (8, 4, 1));
    let text = telemetry.encode(&Fixed::default(), staleness());
    for kind in ["unavailable", "timeout", "broken", "late", "refused", "protocol", "mismatch", "envelope"] {
        let series = format!("terrace_l2_errors_total{{keyspace=\"users\",kind=\"{kind}\"}}");
        assert_eq!(value(&text, &series), "1");
    }
    assert_eq!(value(&text, "terrace_l2_errors_total{keyspace=\"users\",kind=\"other\"}"), "0");
}

#[test]
fn a_reset_starts_statistics_again_and_leaves_prometheus_alone() {
    let (telemetry, clock) = telemetry();
    let space = telemetry.space(&name("users"));
    let engine = EngineGauges { entries: 7, bytes: 70, evictions: 5, expirations: 4, invalidated: 3 };
    let mut sources = Fixed { engine, pending: 2, has_l2: true, ..Fixed::default() };
    space.hit(Tier::L1);
    call(&space, &clock, Op::Get, Tier::L2, 1_000);
    clock.advance(Duration::from_secs(3));
    assert!(telemetry.stats(&sources).seconds >= 3.0);
    telemetry.reset(&sources);

    let after = telemetry.stats(&sources);
    assert!(after.seconds < 1e-9);
    assert_eq!((after.total.requests, after.total.evictions, after.total.expirations), (0, 0, 0));
    assert_eq!((after.total.entries, after.total.bytes, after.pending_invalidations), (7, 70, 2));
    assert_eq!(after.total.latency, Latencies::default());

    space.hit(Tier::L1);
    telemetry.space(&name("made-after")).hit(Tier::L2);
    sources.engine.evictions += 1;
    let later = telemetry.stats(&sources);
    assert_eq!((later.total.hits_l1, later.total.hits_l2), (1, 1));
    assert_eq!(later.keyspaces["users"].evictions, 1);
    let text = telemetry.encode(&sources, staleness());
    assert_eq!(
        value(&text, "terrace_hits_total{keyspace=\"users\",tier=\"l1\",strategy=\"cache-aside\"}"),
        "2"
    );
    assert_eq!(value(&text, "terrace_l1_evictions_total{keyspace=\"users\",reason=\"size\"}"), "6");
    let calls = "terrace_operation_duration_seconds_count{keyspace=\"users\",op=\"get\",tier=\"l2\"}";
    assert_eq!(value(&text, calls), "1");
}

#[test]
fn totals_are_the_sums_of_the_keyspaces() {
    let (telemetry, clock) = telemetry();
    for (keyspace, nanos) in [("a", 1_000), ("b", 3_000)] {
        let space = telemetry.space(&name(keyspace));
        space.miss();
        space.count(Event::LoadFound);
        space.count(Event::PutQueued);
        call(&space, &clock, Op::Get, Tier::Origin, nanos);
    }
    let engine = EngineGauges { entries: 10, ..EngineGauges::default() };
    let stats = telemetry.stats(&Fixed { engine, ..Fixed::default() });
    assert_eq!(stats.keyspaces.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(stats.keyspaces["b"].latency.get_origin.mean_ns, 3_000);
    let total = stats.total;
    assert_eq!((total.misses, total.loads, total.sets, total.sets_queued, total.entries), (2, 2, 2, 2, 20));
    assert_eq!(total.average_latency(), Duration::from_micros(2));
}

#[test]
fn one_sample_stands_for_the_calls_around_it() {
    let (telemetry, clock) = telemetry();
    let spaces = [telemetry.space(&name("even")), telemetry.space(&name("odd"))];
    for space in spaces.iter().cycle().take(2 * 61 * 10) {
        let timer = space.timer_sampled();
        clock.advance(Duration::from_nanos(150));
        space.observe(Op::Get, Tier::L1, timer);
    }
    let stats = telemetry.stats(&Fixed::default());
    for keyspace in ["even", "odd"] {
        let latency = stats.keyspaces[keyspace].latency.get_l1;
        assert_eq!((latency.count, latency.mean_ns), (610, 150), "{keyspace}");
    }
}

#[test]
fn a_sampled_call_that_went_further_counts_once() {
    let (telemetry, clock) = telemetry();
    let space = telemetry.space(&name("users"));
    for _ in 0..10 {
        let _missed_in_l1 = space.timer_sampled();
        clock.advance(Duration::from_nanos(50));
        let timer = space.timer();
        clock.advance(Duration::from_micros(1));
        space.observe(Op::Get, Tier::L2, timer);
    }
    assert_eq!(telemetry.stats(&Fixed::default()).total.latency.get_l2.count, 10);
}

#[test]
fn exactly_the_names_of_the_list_are_exported_and_each_series_from_the_start() {
    let (telemetry, _) = telemetry();
    let _bound = OriginTimer::new(&telemetry.space(&name("users")));
    let families = parse(&telemetry.encode(&Fixed::default(), staleness()));
    let exported: BTreeSet<_> =
        families.iter().map(|family| (family.name.clone(), family.kind.clone())).collect();
    #[cfg(feature = "journal")]
    let all = names::ALL.iter().chain(&names::BEHIND);
    #[cfg(not(feature = "journal"))]
    let all = names::ALL.iter();
    let listed: BTreeSet<_> = all
        .map(|Metric { name, kind, .. }| match kind {
            Kind::Counter => {
                (name.strip_suffix("_total").expect("a counter's suffix").into(), "counter".into())
            }
            Kind::Gauge => ((*name).into(), "gauge".into()),
            Kind::Histogram => ((*name).into(), "histogram".into()),
        })
        .collect();
    assert_eq!(exported, listed);
    for family in &families {
        assert!(!family.samples.is_empty(), "{} has no series", family.name);
        let is_zero =
            family.samples.iter().all(|(_, value)| value.parse::<f64>().expect("a number").abs() < 1e-12);
        let may_be_one = [
            "terrace_build_info",
            "terrace_breaker_state",
            "terrace_journal_state",
            "terrace_background_success_ratio",
        ];
        let has_one = may_be_one.contains(&family.name.as_str());
        assert!(is_zero || has_one, "{} is not zero", family.name);
    }
    let source = include_str!("prometheus.rs");
    assert!(!source.contains("\"terrace_"), "names belong to names.rs");
}

#[test]
fn the_text_follows_the_grammar_and_histograms_are_cumulative() {
    let (telemetry, clock) = telemetry();
    let space = telemetry.space(&name("users"));
    for nanos in [1, 100, 101, 100_000_000, 60_000_000_000] {
        call(&space, &clock, Op::Put, Tier::L2, nanos);
    }
    let text = telemetry.encode(&Fixed { pending: 9, ..Fixed::default() }, staleness());
    parse(&text);
    assert_eq!(value(&text, "terrace_pending_invalidations"), "9");
    let buckets: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("terrace_operation_duration_seconds_bucket"))
        .filter(|line| line.contains("op=\"put\",tier=\"l2\""))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
        .collect();
    assert_eq!((buckets[0], buckets[1]), (2, 3));
    assert_eq!(buckets[buckets.len() - 2..], [4, 5]);
    assert!(buckets.is_sorted());
}

#[tokio::test]
async fn calls_of_the_origin_are_kept_by_what_they_do_and_how_they_end() {
    let (telemetry, clock) = telemetry();
    let space = telemetry.space(&name("users"));
    let took = |nanos: u64| clock.advance(Duration::from_nanos(nanos));
    let loading = async {
        took(100);
        Ok::<_, ()>(())
    };
    timed_one(&space, Call::Load, loading).await.expect("it is ok");
    timed_many(&space, Call::Store, async {
        took(250);
        vec![Ok(()), Err(())]
    })
    .await;
    let text = telemetry.encode(&Fixed::default(), staleness());
    for (op, outcome, count, sum) in
        [("load", "ok", "1", "1e-7"), ("load", "failed", "0", "0.0"), ("store", "failed", "1", "2.5e-7")]
    {
        let of = |part: &str| {
            format!(
                "terrace_origin_duration_seconds_{part}{{keyspace=\"users\",op=\"{op}\",outcome=\"{outcome}\"}}"
            )
        };
        assert_eq!(value(&text, &of("count")), count, "{op} {outcome}");
        assert_eq!(value(&text, &of("sum")), sum, "{op} {outcome}");
    }
}

#[test]
fn label_values_are_escaped() {
    let build = Build { version: "a\"b\\c\nd", commit: "0a1b" };
    let telemetry = Telemetry::new(Clock::manual(), build);
    let families = parse(&telemetry.encode(&Fixed::default(), staleness()));
    let build = families.iter().find(|family| family.name == "terrace_build_info").expect("build info");
    assert_eq!(
        build.samples,
        [("terrace_build_info{version=\"a\\\"b\\\\c\\nd\",commit=\"0a1b\"}".into(), "1".into())]
    );
}

#[cfg(feature = "journal")]
#[test]
fn writes_that_were_given_up_are_counted_once_and_those_that_wait_are_a_gauge() {
    let (telemetry, _) = telemetry();
    let text = telemetry.encode(&Fixed { dead: (3, 2), ..Fixed::default() }, staleness());
    assert_eq!(value(&text, "terrace_write_behind_dead_total{keyspace=\"users\"}"), "3");
    assert_eq!(value(&text, "terrace_write_behind_dead_letters{keyspace=\"users\"}"), "2.0");
    assert!(!text.contains("outcome=\"dead\""), "it would be counted twice");
}

#[test]
fn statistics_can_be_written_as_json() {
    let (telemetry, _) = telemetry();
    telemetry.space(&name("users")).hit(Tier::L1);
    let json = serde_json::to_value(telemetry.stats(&Fixed::default())).unwrap();
    assert_eq!(json["keyspaces"]["users"]["hits_l1"], 1);
    assert_eq!(json["total"]["latency"]["get"]["count"], 0);
}

/// One metric as it stands in the text.
struct ParsedFamily {
    name: String,
    kind: String,
    samples: Vec<(String, String)>,
}

/// The value of one series.
fn value<'t>(text: &'t str, series: &str) -> &'t str {
    let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    let line = line.unwrap_or_else(|| panic!("no series {series} in\n{text}"));
    line.rsplit_once(' ').unwrap().1
}

/// Reads the text strictly: families in one piece, each introduced once by help and type, names and labels well
/// formed, no series twice, and the end marked.
fn parse(text: &str) -> Vec<ParsedFamily> {
    let body = text.strip_suffix("# EOF\n").expect("the end is marked");
    let mut families: Vec<ParsedFamily> = Vec::new();
    let mut series = BTreeSet::new();
    let mut lines = body.lines().peekable();
    while let Some(line) = lines.next() {
        let help = line.strip_prefix("# HELP ").unwrap_or_else(|| panic!("help expected: {line}"));
        let (name, help) = help.split_once(' ').expect("a help text");
        assert!(help.ends_with('.') && !help.contains('\\'), "{help}");
        let kind = lines.next().and_then(|line| line.strip_prefix("# TYPE ")).expect("a type");
        let (typed, kind) = kind.split_once(' ').expect("a type after the name");
        assert_eq!(typed, name);
        assert!(families.iter().all(|family| family.name != name), "{name} comes twice");
        let mut samples = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (id, number) = line.rsplit_once(' ').expect("a value");
            check_series(id, name, kind);
            assert!(series.insert(id.to_owned()), "{id} comes twice");
            number.parse::<f64>().expect("a number");
            samples.push((id.to_owned(), number.to_owned()));
        }
        families.push(ParsedFamily { name: name.into(), kind: kind.into(), samples });
    }
    families
}

fn check_series(id: &str, family: &str, kind: &str) {
    let (sample, labels) = id.split_once('{').map_or((id, None), |(sample, labels)| (sample, Some(labels)));
    let suffix = sample.strip_prefix(family).unwrap_or_else(|| panic!("{sample} is not of {family}"));
    let suffixes: &[&str] = match kind {
        "counter" => &["_total"],
        "histogram" => &["_bucket", "_sum", "_count"],
        "gauge" => &[""],
        _ => panic!("unknown type {kind}"),
    };
    assert!(suffixes.contains(&suffix), "{sample} of a {kind}");
    assert!(sample.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'));
    let Some(mut rest) = labels else { return };
    while rest != "}" {
        let (label, value) = rest.split_once("=\"").expect("a label with a value");
        assert!(
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "{label}"
        );
        let end = end_of_quoted(value);
        rest = &value[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

/// Where the closing quote is.
fn end_of_quoted(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' if !is_escaped => return at,
            b'\\' if !is_escaped => is_escaped = true,
            _ => is_escaped = false,
        }
    }
    panic!("no closing quote in {text}")
}
