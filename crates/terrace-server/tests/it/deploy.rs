//! What Prometheus and Grafana get in `deploy/`: every metric that a rule, an alert or a panel names is one that the service has, with the
//! labels and the values that are asked for.

use crate::support::start;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

/// Labels that Prometheus itself adds, or that are not in a selector's power.
const NOT_OURS: [&str; 3] = ["job", "instance", "le"];

pub(crate) fn file(path: &str) -> String {
    let path = folder().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

/// The series of a service that has everything: by name, the values of each label.
type Series = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// What a service exports that has everything, with these settings besides.
async fn scraped(settings: &str) -> String {
    let files = tempfile::tempdir().expect("a folder");
    let path = |name: &str| files.path().join(name).display().to_string();
    let (origin, journal) = (path("ref.db"), path("writes.journal"));
    rusqlite::Connection::open(&origin)
        .and_then(|origin| origin.execute_batch("create table docs (id text primary key, doc text);"))
        .expect("a table");
    let toml = format!(
        r#"
        {settings}
        [l2]
        url = "redis://127.0.0.1:1"
        [origin.lite]
        type = "sqlite"
        file = "{origin}"
        [write_behind]
        path = "{journal}"
        [keyspace.docs]
        pattern = "doc:{{id}}"
        strategy = "write-behind"
        [keyspace.docs.source]
        origin = "lite"
        document = "doc"
        load = "select doc from docs where id = :id"
        store = "insert into docs (id, doc) values (:id, :value) on conflict (id) do update set doc = excluded.doc where :version > 0"
        "#
    );
    let service = start(&toml).await;
    service.get("/api/cache/of-no-keyspace:7").await;
    service.get("/metrics").await.body
}

async fn exported() -> Series {
    let text = scraped("").await;
    let mut series = Series::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series_name, _) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = series_name.split_once('{').unwrap_or((series_name, ""));
        let of = series.entry(name.to_owned()).or_default();
        for label in labels.trim_end_matches('}').split("\",").filter_map(|label| label.split_once("=\"")) {
            of.entry(label.0.to_owned()).or_default().insert(label.1.trim_end_matches('"').to_owned());
        }
    }
    assert!(series.len() > 50, "{} series: {series:?}", series.len());
    series
}

/// What the names of all metrics of the service begin with.
const OURS: [&str; 2] = ["terrace_", "process_"];

/// The series that the rules record, and that have a name like those of the service.
fn recorded(rules: &str) -> BTreeSet<String> {
    rules.lines().filter_map(|line| line.trim().strip_prefix("- record: ")).map(str::to_owned).collect()
}

/// The metrics that a text names, each with its selector, and the recorded series.
fn named(text: &str) -> (Vec<(String, String)>, BTreeSet<String>) {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
    let (mut metrics, mut recorded) = (Vec::new(), BTreeSet::new());
    let names = OURS.iter().flat_map(|start| text.match_indices(start));
    for (at, _) in names {
        let begin = text[..at].rfind(|letter| !is_part(letter)).map_or(0, |before| before + 1);
        let end = text[at..].find(|letter| !is_part(letter)).map_or(text.len(), |length| at + length);
        let name = &text[begin..end];
        if name.contains(':') {
            recorded.insert(name.to_owned());
        } else if begin == at {
            let rest = text[end..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
            metrics
                .push((name.to_owned(), rest.map_or_else(String::new, |(selector, _)| selector.to_owned())));
        }
    }
    (metrics, recorded)
}

/// What is wrong with a selector, given the series that there are.
fn wrong(series: &Series, name: &str, selector: &str) -> Vec<String> {
    let Some(labels) = series.get(name) else { return vec![format!("there is no {name}")] };
    let mut found = Vec::new();
    for condition in selector.split("\",").filter(|condition| !condition.is_empty()) {
        let at = condition.find(['=', '!']).expect("a comparison");
        let label = condition[..at].trim();
        if NOT_OURS.contains(&label) {
            continue;
        }
        let Some(values) = labels.get(label) else {
            found.push(format!("{name} has no label {label}"));
            continue;
        };
        let wanted = condition[at..].trim_start_matches(['=', '!', '~', '"']).trim_end_matches('"');
        let unknown = wanted.split('|').filter(|one| !one.contains('$') && !values.contains(*one));
        found.extend(unknown.map(|one| format!("{name} has no {label}=\"{one}\"")));
    }
    found
}

fn all_wrong(series: &Series, text: &str) -> Vec<String> {
    named(text).0.iter().flat_map(|(name, selector)| wrong(series, name, selector)).collect()
}

/// Every text of a JSON document.
fn texts(value: &serde_json::Value) -> Vec<&str> {
    match value {
        serde_json::Value::String(text) => vec![text],
        serde_json::Value::Array(items) => items.iter().flat_map(texts).collect(),
        serde_json::Value::Object(members) => members.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn rules_and_alerts_name_metrics_that_there_are() {
    let mut series = exported().await;
    let rules = file("prometheus/rules.yml");
    let alerts = file("prometheus/alerts.yml");
    let recorded = recorded(&rules);
    assert!(recorded.iter().all(|name| !series.contains_key(name)), "the service exports what is recorded");
    series.extend(recorded.iter().map(|name| (name.clone(), BTreeMap::new())));
    assert_eq!(all_wrong(&series, &rules), [""; 0]);
    assert_eq!(all_wrong(&series, &alerts), [""; 0]);
    let used: BTreeSet<String> = named(&rules).1.union(&named(&alerts).1).cloned().collect();
    assert_eq!(used.difference(&recorded).collect::<Vec<_>>(), [""; 0]);
    assert!(named(&alerts).0.len() > 10);
}

#[tokio::test]
async fn panels_name_metrics_that_there_are_and_follow_the_variables() {
    let series = exported().await;
    let board: serde_json::Value = serde_json::from_str(&file("grafana/terrace.json")).expect("JSON");
    let variables: Vec<&str> = board["templating"]["list"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    assert_eq!(variables, ["datasource", "instance", "keyspace"]);
    let panels = board["panels"].as_array().expect("a list");
    let mut expressions = 0;
    for target in panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten() {
        let text = target["expr"].as_str().expect("an expression");
        assert_eq!(all_wrong(&series, text), [""; 0], "{text}");
        assert!(text.contains("instance=~\"$instance\""), "{text}");
        assert_eq!(target["datasource"]["uid"], "${datasource}", "{text}");
        expressions += 1;
    }
    assert!(expressions > 30, "{expressions}");
    let everything = texts(&board).join("\n");
    assert_eq!(all_wrong(&series, &everything), [""; 0]);
}

/// What is promised to those who watch a service: names, and of labels the values that each has from the start.
const PROMISED: [(&str, &[(&str, &str)]); 39] = [
    (
        "terrace_requests_total",
        &[("op", "get put"), ("result", "hit_l1 hit_l2 hit_stale miss error negative failed")],
    ),
    (
        "terrace_hits_total",
        &[("keyspace", "default docs"), ("tier", "l1 l2"), ("strategy", "cache-aside write-behind")],
    ),
    ("terrace_misses_total", &[("keyspace", "default docs"), ("strategy", "cache-aside write-behind")]),
    ("terrace_operation_duration_seconds", &[("op", "get put remove invalidate"), ("tier", "l1 l2 origin")]),
    ("terrace_origin_requests_total", &[("outcome", "found absent failed panicked refused")]),
    ("terrace_origin_duration_seconds", &[("op", "load load_many store delete"), ("outcome", "ok failed")]),
    ("terrace_origin_breaker_state", &[("origin", "lite"), ("state", "closed half_open open")]),
    (
        "terrace_keyspace_info",
        &[("keyspace", "default docs"), ("strategy", "cache-aside write-behind"), ("origin", "lite")],
    ),
    ("terrace_loads_collapsed_total", &[("keyspace", "default docs")]),
    ("terrace_l1_entries", &[("keyspace", "default docs")]),
    ("terrace_l1_bytes", &[("keyspace", "default docs")]),
    ("terrace_l1_evictions_total", &[("reason", "size ttl invalidated")]),
    ("terrace_l2_errors_total", &[("kind", "unavailable timeout broken refused envelope payload other")]),
    ("terrace_breaker_state", &[("target", "l2"), ("state", "closed half_open open")]),
    ("terrace_bus_lag_seconds", &[]),
    (
        "terrace_bus_events_total",
        &[("dir", "in out"), ("type", "set invalidate tag sweep floor refresh hello ended beat")],
    ),
    ("terrace_bus_gaps_total", &[("outcome", "repaired suspected")]),
    ("terrace_write_behind_pending", &[("keyspace", "docs")]),
    ("terrace_write_behind_pending_max", &[]),
    ("terrace_write_behind_oldest_seconds", &[("keyspace", "docs")]),
    ("terrace_write_behind_flush_duration_seconds", &[("keyspace", "docs")]),
    ("terrace_write_behind_dead_total", &[("keyspace", "docs")]),
    ("terrace_write_behind_dead_letters", &[("keyspace", "docs")]),
    ("terrace_journal_state", &[("state", "sound disk_full poisoned")]),
    ("terrace_invalidations_total", &[("kind", "key pattern tag clear")]),
    ("terrace_compression_bytes_total", &[("keyspace", "default docs"), ("stage", "before after")]),
    ("terrace_audits_total", &[("outcome", "passed failed")]),
    ("terrace_stale_age_seconds", &[("reason", "unproven revalidating load_slow load_failed")]),
    ("terrace_pending_invalidations", &[]),
    ("terrace_config_reload_success", &[]),
    ("terrace_config_reloads_total", &[("result", "taken refused")]),
    ("terrace_build_info", &[("version", env!("CARGO_PKG_VERSION")), ("commit", COMMIT)]),
    ("process_cpu_seconds_total", &[]),
    ("process_resident_memory_bytes", &[]),
    ("process_virtual_memory_bytes", &[]),
    ("process_open_fds", &[]),
    ("process_max_fds", &[]),
    ("process_threads", &[]),
    ("process_start_time_seconds", &[]),
];

/// What the build was told, which these tests are told as well.
const COMMIT: &str = match option_env!("TERRACE_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

#[tokio::test]
async fn a_service_that_runs_has_every_metric_that_is_promised_from_its_first_moment() {
    let series = exported().await;
    let mut missing = Vec::new();
    for (name, labels) in PROMISED {
        if !cfg!(target_os = "linux") && name.starts_with("process_") {
            continue;
        }
        let count = format!("{name}_count");
        let Some(of) = series.get(name).or_else(|| series.get(&count)) else {
            missing.push(name.to_owned());
            continue;
        };
        for (label, values) in labels {
            let has = |value: &str| of.get(*label).is_some_and(|values| values.contains(value));
            let values = values.split(' ').filter(|value| !has(value));
            missing.extend(values.map(|value| format!("{name}{{{label}=\"{value}\"}}")));
        }
    }
    assert_eq!(missing, [""; 0]);
    let rules = file("prometheus/rules.yml");
    assert!(recorded(&rules).contains("terrace_compression_ratio"), "this one is made of rates");
    // A key that no pattern names is of the keyspace `default`, so labels are as many as the file has keyspaces.
    let keyspaces = series.values().filter_map(|labels| labels.get("keyspace")).flatten();
    let keyspaces: BTreeSet<&str> = keyspaces.map(String::as_str).collect();
    assert_eq!(keyspaces, BTreeSet::from(["default", "docs"]));
    // Durations of the origin's calls are many series: those that have no origin have none.
    let of_origins = &series["terrace_origin_duration_seconds_count"]["keyspace"];
    assert_eq!(of_origins.iter().collect::<Vec<_>>(), ["docs"]);
}

#[tokio::test]
async fn keyspaces_tell_their_origins_whatever_those_are_called() {
    let toml = "[origin.'a \"b\" \\']\ntype = 'http'\nbase_url = 'http://127.0.0.1:1'\n\
                [keyspace.docs]\npattern = 'doc:{id}'\nstrategy = 'read-through'\n\
                source = { origin = 'a \"b\" \\', load = 'GET /docs/{id}' }\n";
    let metrics = start(toml).await.get("/metrics").await.body;
    let info: Vec<&str> = metrics.lines().filter(|line| line.starts_with("terrace_keyspace_info{")).collect();
    let expected = [
        "terrace_keyspace_info{keyspace=\"docs\",strategy=\"read-through\",origin=\"a \\\"b\\\" \\\\\"} 1",
        "terrace_keyspace_info{keyspace=\"default\",strategy=\"cache-aside\",origin=\"\"} 1",
    ];
    assert_eq!(info, expected);
}

/// The name that each line of a scrape is about, and the mark before it.
fn names(scraped: &str) -> Vec<(String, String)> {
    let name = |line: &str| {
        let marked = ["# HELP ", "# TYPE "].into_iter().find(|mark| line.starts_with(mark)).unwrap_or("");
        let name = line[marked.len()..].split([' ', '{']).next().expect("a name");
        (marked.to_owned(), name.to_owned())
    };
    scraped.lines().filter(|line| *line != "# EOF").map(name).collect()
}

#[tokio::test]
async fn names_begin_as_the_configuration_says() {
    let service = start("metrics.prefix = 'acme_cache'").await;
    let text = service.get("/metrics").await.body;
    let named = names(&text);
    let (process, ours): (Vec<_>, Vec<_>) = named.iter().partition(|(_, name)| name.starts_with("process_"));
    assert!(ours.len() > 100 && ours.iter().all(|(_, name)| name.starts_with("acme_cache_")), "{text}");
    assert!(!process.is_empty() || !cfg!(target_os = "linux"));
    let hits = "keyspace=\"default\",tier=\"l1\",strategy=\"cache-aside\"";
    assert!(text.contains(&format!("\nacme_cache_hits_total{{{hits}}} 0\n")), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    let plain = names(&start("").await.get("/metrics").await.body);
    let renamed = plain.into_iter().map(|(mark, name)| (mark, name.replacen("terrace_", "acme_cache_", 1)));
    assert_eq!(named, renamed.collect::<Vec<_>>(), "nothing else is different");
}

/// A scrape in the older format, the only one that `promtool check metrics` reads: counters are called there as their series are, and there is
/// no mark of the end.
fn in_older_format(scraped: &str) -> String {
    let counter = |line: &str| Some(line.strip_prefix("# TYPE ")?.strip_suffix(" counter")?.to_owned());
    let counters: BTreeSet<String> = scraped.lines().filter_map(counter).collect();
    assert!(counters.len() > 30, "{counters:?}");
    let older = |line: &str| {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(mark), Some(name), Some(rest)) if counters.contains(name) => {
                format!("# {mark} {name}_total {rest}\n")
            }
            _ => format!("{line}\n"),
        }
    };
    scraped.trim_end_matches("# EOF\n").lines().map(older).collect()
}

/// What a real Prometheus' own reader says of a scrape: nothing at all.
#[tokio::test]
async fn promtool_reads_what_is_exported() {
    for settings in ["", "metrics.prefix = 'acme_cache'"] {
        let text = scraped(settings).await;
        for part in
            ["origin_duration_seconds_bucket", "origin_breaker_state", "breaker_state", "journal_state"]
        {
            assert!(text.contains(&format!("_{part}{{")), "no {part}: {text}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let scraped = folder.path().join("scraped");
        std::fs::write(&scraped, in_older_format(&text)).expect("the folder is ours");
        let read = std::fs::File::open(&scraped).expect("it was written");
        let Ok(checked) = Command::new("promtool").args(["check", "metrics"]).stdin(read).output() else {
            eprintln!("SKIP: install promtool, which Debian has in the package prometheus");
            return;
        };
        let said = String::from_utf8_lossy(&checked.stderr);
        assert_eq!((checked.status.code(), said.as_ref()), (Some(0), ""), "{settings}");
    }
}

#[test]
fn what_is_wrong_is_found() {
    let labels = BTreeMap::from([("op".to_owned(), BTreeSet::from(["get".to_owned(), "put".to_owned()]))]);
    let series = Series::from([("terrace_a_total".to_owned(), labels)]);
    for (text, expected) in [
        ("rate(terrace_a_total{op=\"get\",job=\"x\"}[5m])", None),
        ("rate(terrace_a_total{op=~\"get|put\"}[5m])", None),
        ("terrace_a_total{op=~\"$op\"}", None),
        ("a:terrace_hits:rate5m", None),
        ("terrace_b_total", Some("there is no terrace_b_total")),
        ("rate(process_b_total[5m])", Some("there is no process_b_total")),
        ("terrace_a_total{of=\"get\"}", Some("terrace_a_total has no label of")),
        ("terrace_a_total{op=~\"get|got\"}", Some("terrace_a_total has no op=\"got\"")),
        ("terrace_a_total{op!=\"gone\"}", Some("terrace_a_total has no op=\"gone\"")),
    ] {
        assert_eq!(all_wrong(&series, text).first().map(String::as_str), expected, "{text}");
    }
}

#[test]
fn the_rules_say_what_their_tests_expect() {
    let run = |words: &[&str]| {
        Command::new("promtool").args(words).current_dir(folder().join("prometheus")).output()
    };
    let Ok(checked) = run(&["check", "rules", "rules.yml", "alerts.yml"]) else {
        eprintln!("SKIP: install promtool, which Debian has in the package prometheus");
        return;
    };
    assert!(checked.status.success(), "{checked:?}");
    let tested = run(&["test", "rules", "tests.yml"]).expect("it ran a moment ago");
    assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stdout));
}

/// Every alert is in a test.
#[test]
fn every_alert_has_a_test() {
    let tests = file("prometheus/tests.yml");
    let alerts = file("prometheus/alerts.yml");
    let names: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 10);
    let untested = names.iter().filter(|name| !tests.contains(&format!("alertname: {name}")));
    assert_eq!(untested.collect::<Vec<_>>(), [&""; 0]);
}
