//! How a configuration that cannot be is refused, word for word.

use std::time::Duration;
use terrace::CompressionLevel;
use terrace_server::config::{BusMode, Config, LogForm, Sources};

fn refusal(toml: &str) -> String {
    match Config::load(&Sources::text(toml)) {
        Ok(config) => panic!("accepted: {config:?}"),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn assert_refused(toml: &str, expected: &str) {
    let refusal = refusal(toml);
    assert_eq!(refusal, expected.trim_matches('\n'), "\n{refusal}");
}

#[test]
fn unknown_keys_are_refused_with_the_place() {
    assert_refused(
        "[keyspace.users]\npattern = \"user:*\"\nstrtegy = \"read-through\"\n",
        r#"
error: unknown field `strtegy`
 --> configuration:3:1
  |
3 | strtegy = "read-through"
  | ^^^^^^^
  |
  = help: did you mean `strategy`?
"#,
    );
    assert_refused(
        "[metrics]\nelephant = 1\n",
        r"
error: unknown field `elephant`
 --> configuration:2:1
  |
2 | elephant = 1
  | ^^^^^^^^
  |
  = help: there is `enabled`, `interval`, `prefix`, `hot_keys`
",
    );
    assert!(refusal("[cluster]\na = 1\n").contains("unknown field `cluster`"));
}

#[test]
fn the_file_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("terrace.toml");
    std::fs::write(&path, "[l1]\nmax_entires = 5\n").expect("written");
    let error = Config::load(&Sources::file(&path)).expect_err("refused").to_string();
    let expected = format!("error: unknown field `max_entires`\n --> {}:2:1\n", path.display());
    assert!(error.starts_with(&expected), "{error}");

    let missing = folder.path().join("none.toml");
    let error = Config::load(&Sources::file(&missing)).expect_err("refused").to_string();
    assert!(error.starts_with(&format!("error: cannot read {}", missing.display())), "{error}");
}

#[test]
fn what_is_no_toml_is_refused_with_the_place() {
    assert_refused(
        "[l1]\nmax_entries = = 5\n",
        r"
error: extra `=`, expected nothing
 --> configuration:2:15
  |
2 | max_entries = = 5
  |               ^
",
    );
}

#[test]
fn values_of_another_type_are_refused_with_the_place() {
    assert_refused(
        "[server]\nrequest_timeout = \"5 parsecs\"\n",
        r#"
error: invalid value: string "5 parsecs", expected a duration such as "5m" or "250ms", or a number of seconds
 --> configuration:2:19
  |
2 | request_timeout = "5 parsecs"
  |                   ^^^^^^^^^^^
"#,
    );
    assert_refused(
        "l1 = 5\n",
        r"
error: invalid type: integer `5`, expected a table
 --> configuration:1:6
  |
1 | l1 = 5
  |      ^
",
    );
    for toml in
        ["l1.max_entries = -1", "l1.max_entries = 1.5", "l1.enabled = 'maybe'", "defaults.max_value = '5 XB'"]
    {
        assert!(refusal(toml).starts_with("error: invalid "), "{toml}");
    }
}

#[test]
fn values_out_of_range_are_refused_never_clamped() {
    assert_refused(
        "[l1]\nmax_entries = 0\n",
        r"
error: this cannot be: it is at most 2147483648, and 0 entries are bounded by bytes only, so `max_bytes` has to be set
 --> configuration:2:15
  |
2 | max_entries = 0
  |               ^
",
    );
    for toml in [
        "server.request_timeout = 0",
        "server.request_timeout = '25h'",
        "server.header_timeout = 0",
        "server.header_timeout = 86401",
        "server.header_timeout = 9223372036854775807",
        "server.shutdown.drain = 9223372036854775807",
        "server.shutdown.grace = 9223372036854775807",
        "server.max_body = 0",
        "server.max_requests = 0",
        "server.listen = 'nowhere'",
        "server.listen = ':4000'",
        "l1.ttl = 0",
        "l1.enabled = false",
        "l1.max_entries = 99999999999",
        "keyspace.a = { pattern = 'a', l1.enabled = false }",
        "l1.max_bytes = 0",
        "l1.policy = 'fifo'",
        "l1.cleanup_interval = 0",
        "l1.staleness_max = '99ms'",
        "defaults.suspect = 'trust'",
        "keyspace.a = { pattern = 'a', suspect = 'trust' }",
        "l2 = { url = 'redis://h', database = 70000 }",
        "l2 = { url = 'http://h' }",
        "l2 = { url = 'redis://h', pool_size = 5, min_idle = 6 }",
        "l2 = { url = 'redis://h', pool_size = 5, max_idle = 6 }",
        "l2 = { url = 'redis://h', key_prefix = '{x}' }",
        "l2 = { url = 'redis+cluster://h/3' }",
        "l2 = { url = 'redis+cluster://h', database = 3 }",
        "l2 = { url = 'redis+sentinel://h' }",
        "l2 = { url = 'redis://h1,h2' }",
        "l2 = { url = 'redis+other://h' }",
        "bus.mode = 'auto'",
        "bus.kind = 'plain'",
        "bus.mode = 1",
        "l2 = { url = 'redis://h', sentinel = { password = 'p' } }",
        "l2 = { url = 'redis+sentinel://h/main', sentinel = { name = 'main' } }",
        "defaults.max_key = 1025",
        "defaults.codec = 'json'",
        "defaults.compression.algo = 'brotli'",
        "metrics.interval = 0",
        "metrics.hot_keys = 4097",
        "telemetry.log = 'text'",
        "metrics.prefix = ''",
        "metrics.prefix = '9a'",
        "metrics.prefix = 'Terrace'",
        "metrics.prefix = 'a-b'",
        "metrics.prefix = 'a23456789b123456789c123456789d123456789e1'",
        "write_behind.interval = 0",
    ] {
        let refusal = refusal(toml);
        assert!(refusal.contains(" --> configuration:1:"), "{toml}: {refusal}");
    }
    let longest = "server = { header_timeout = '24h', request_timeout = 86400, shutdown.grace = 0 }";
    Config::load(&Sources::text(longest)).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn the_mode_of_the_bus_is_one_of_two_and_the_plain_one_has_no_cluster() {
    assert_refused(
        "[bus]\nmode = \"plane\"\n",
        r#"
error: unknown mode `plane`
 --> configuration:2:8
  |
2 | mode = "plane"
  |        ^^^^^^^
  |
  = help: did you mean `plain`?
"#,
    );
    let refusal = refusal("bus.mode = 'plain'\nl2.url = 'redis+cluster://h'\n");
    assert!(refusal.contains("the plain mode serves no Cluster"), "{refusal}");
    assert!(refusal.contains(" --> configuration:2:"), "{refusal}");
    for (toml, mode) in [
        ("", BusMode::Coherent),
        ("bus.mode = 'coherent'", BusMode::Coherent),
        ("bus.mode = 'plain'", BusMode::Plain),
    ] {
        assert_eq!(Config::load(&Sources::text(toml)).expect("valid").bus.mode, mode);
    }
}

#[test]
fn an_origin_that_is_not_there_is_refused_with_a_guess() {
    assert_refused(
        r#"
[origin.main]
type = "sqlite"
file = "a.db"

[keyspace.users]
pattern = "user:{id}"
source = { origin = "mian", load = "select * from users where id = :id" }
"#,
        r#"
error: there is no origin `mian`
 --> configuration:8:21
  |
8 | source = { origin = "mian", load = "select * from users where id = :id" }
  |                     ^^^^^^
  |
  = help: did you mean `main`?
"#,
    );
}

#[test]
fn origins_with_the_wrong_settings_are_refused() {
    for (toml, words) in [
        ("origin.a = {}", "this origin has no type"),
        ("origin.a = { type = 'mysql' }", "unknown type of origin `mysql`"),
        ("origin.a = { type = 'sqlite' }", "this origin has no file"),
        ("origin.a = { type = 'sqlite', file = 'x', url = 'y' }", "has no `url`"),
        ("origin.a = { type = 'postgres' }", "this origin has no url"),
        ("origin.a = { type = 'postgres', url = 'x' }", "not the address of a PostgreSQL server"),
        ("origin.a = { type = 'postgres', url = 'postgres://h/d?sslmode=verify-ca' }", "believe any host"),
        ("origin.a = { type = 'postgres', url = 'postgres://h/d', file = 'x' }", "has no `file`"),
        ("origin.a = { type = 'sqlite', file = 'x', pool = 0 }", "it must be from 1 to 64"),
    ] {
        let refusal = refusal(toml);
        assert!(refusal.contains(words), "{toml}: {refusal}");
    }
}

#[test]
fn statements_must_use_what_the_pattern_captures() {
    let with = |pattern: &str, load: &str| {
        refusal(&format!(
            "origin.a = {{ type = 'sqlite', file = 'x' }}\n[keyspace.k]\npattern = '{pattern}'\n\
             source = {{ origin = 'a', load = \"{load}\" }}\n"
        ))
    };
    assert_eq!(
        with("user:{id}", "select * from t where id = :idd"),
        r#"
error: `:idd` is not captured by the pattern
 --> configuration:4:33
  |
3 | pattern = 'user:{id}'
  |           ----------- this pattern
4 | source = { origin = 'a', load = "select * from t where id = :idd" }
  |                                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: did you mean `:id`?
"#
        .trim_matches('\n')
    );
    for (pattern, load, words) in [
        ("user:{id}", "select 1", "`{id}` is not used by this statement"),
        ("user:{a}:{b}", "select :a", "`{b}` is not used by this statement"),
        ("user:*", "select 1", "this statement has no parameter"),
        ("user:{id}", "select $1", "`$1` is a parameter by number"),
        ("user:{id}", "select :id; drop table t", "there is more than one statement"),
        ("user:{id}", "", "there is no statement"),
        ("user:{id}", "select ':id", "a string is not closed"),
    ] {
        let refusal = with(pattern, load);
        assert!(refusal.contains(words), "{pattern} {load}: {refusal}");
    }
    for (pattern, load) in [
        ("user:{id}", "select :id"),
        ("user:{_tenant}:{id}", "select :id"),
        ("user:{id}", "select :key"),
        ("user:*", "select :key"),
        ("motd", "select 'hello' as text"),
    ] {
        let toml = format!(
            "origin.a = {{ type = 'sqlite', file = 'x' }}\n[keyspace.k]\npattern = '{pattern}'\n\
             source = {{ origin = 'a', load = \"{load}\" }}\n"
        );
        assert!(Config::load(&Sources::text(toml)).is_ok(), "{pattern} {load}");
    }
}

#[test]
fn patterns_that_leave_a_choice_are_refused() {
    assert_refused(
        "[keyspace.a]\npattern = 'user:{id}'\n[keyspace.b]\npattern = 'user:*'\n",
        r"
error: some keys match this pattern and that of keyspace `a`
 --> configuration:4:11
  |
2 | pattern = 'user:{id}'
  |           ----------- and this one
3 | [keyspace.b]
4 | pattern = 'user:*'
  |           ^^^^^^^^ this pattern
  |
  = help: give one of them a longer plain text before its first capture
",
    );
    assert!(
        Config::load(&Sources::text("keyspace.a.pattern='u:{id}'\nkeyspace.b.pattern='u:{id}:x'")).is_ok()
    );
    assert!(Config::load(&Sources::text("keyspace.a.pattern='u:*'\nkeyspace.b.pattern='u:v:*'")).is_ok());
}

#[test]
fn a_strategy_that_reads_needs_a_source() {
    let needs = refusal("[keyspace.a]\npattern = 'a:{id}'\nstrategy = 'read-through'\n");
    assert!(needs.contains("`read-through` needs a source to read from"), "{needs}");
}

#[test]
fn names_of_keyspaces_are_names_of_namespaces() {
    assert!(refusal("keyspace.default.pattern = 'a'").contains("`default` is the keyspace of all keys"));
    assert!(
        refusal("keyspace.Users.pattern = 'a'").contains("the name of a keyspace contains 'U' at byte 0")
    );
    assert!(refusal("keyspace.users.ttl = 5").contains("this keyspace has no pattern"));
}

#[test]
fn everything_that_is_wrong_is_shown_at_once_in_order() {
    let sources = Sources::text("[server]\nmax_body = 0\n[l1]\nttl = 0\n[metrics]\ninterval = 0\n");
    let error = Config::load(&sources).expect_err("refused");
    assert_eq!(error.count(), 3);
    let text = error.to_string();
    let lines: Vec<usize> = ["configuration:2", "configuration:4", "configuration:6"]
        .iter()
        .map(|place| text.find(place).expect("shown"))
        .collect();
    assert!(lines.is_sorted(), "{text}");
}

#[test]
fn several_servers_are_named_by_a_url() {
    let toml = "[l2]\nurl = 'rediss+sentinel://app:hunter2@a,b:7000/main/3'\n\
                sentinel = { username = 'eye', password = 'hunter3', tls = false }\n";
    let config = Config::load(&Sources::text(toml)).expect("valid");
    let l2 = config.l2.as_ref().expect("an L2");
    assert_eq!(l2.url.to_string(), "rediss+sentinel://***@a,b:7000/main/3");
    let sentinel = l2.sentinel.as_ref().expect("they are named");
    assert_eq!((sentinel.username.as_deref(), sentinel.tls), (Some("eye"), Some(false)));
    assert_eq!(sentinel.password.as_ref().map(terrace_server::config::Secret::reveal), Some("hunter3"));
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter"), "{shown}");
    let variables =
        [("TERRACE__L2__SENTINEL__PASSWORD", "hunter4"), ("REDIS_URL", "redis+sentinel://a/main")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::load(&Sources::none().variables(variables)).expect("valid");
    let sentinel = config.l2.and_then(|l2| l2.sentinel).expect("they are named");
    assert_eq!(sentinel.password.map(|password| password.reveal().to_owned()).as_deref(), Some("hunter4"));
    Config::load(&Sources::text("l2.url = 'redis+cluster://:pw@a,b,[::1]:7000'")).expect("valid");
}

#[test]
fn the_effective_configuration_loads_again() {
    let toml = r#"
        [server]
        listen = "127.0.0.1:0"
        shutdown = { drain = 0, grace = "1500ms" }
        [l1]
        max_bytes = "64MiB"
        policy = "lru"
        [l2]
        url = "redis://cache:6379/3"
        timeouts = { connect = "1s" }
        [defaults]
        ttl = "never"
        compression = { algo = "lz4", min = "2KiB" }
        [origin.lite]
        type = "sqlite"
        file = "ref.db"
        [origin.main]
        type = "postgres"
        url = "postgres://localhost/app"
        [keyspace.users]
        pattern = "user:{id}"
        ttl = "15m"
        l1 = { ttl = "10s" }
        source = { origin = "main", load = "select * from users where id = :id", load_many = "select * from users where id = any(:id)" }
        [keyspace.sessions]
        pattern = "session:*"
    "#;
    let config = Config::load(&Sources::text(toml)).unwrap_or_else(|error| panic!("{error}"));
    let effective = config.effective_toml();
    let again = Config::load(&Sources::text(effective.as_str())).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config, again, "{effective}");
}

#[test]
fn defaults_are_those_that_are_promised() {
    let config = Config::load(&Sources::none()).expect("nothing is a configuration");
    assert_eq!(config.server.listen, "127.0.0.1:4000");
    assert_eq!(config.l1.max_entries, 10_000);
    assert_eq!(config.l1.max_bytes, None);
    assert_eq!(config.l1.cleanup_interval.0, Duration::from_mins(1));
    assert_eq!(config.defaults.ttl.0.duration(), Some(Duration::from_hours(1)));
    assert_eq!(config.defaults.max_value.0, 1 << 20);
    assert_eq!(config.defaults.max_key.0, 512);
    assert_eq!(config.metrics.interval.0, Duration::from_secs(10));
    assert!(config.metrics.enabled && config.write_behind.enabled && config.l2.is_none());
    assert_eq!((config.metrics.prefix.as_str(), config.metrics.hot_keys), ("terrace", 256));
    assert_eq!(
        (config.telemetry.log, config.defaults.compression.level),
        (LogForm::Auto, Some(CompressionLevel::FASTEST))
    );
    assert_eq!(config.l1.ttl.0, terrace::Ttl::Never, "without an L2 a copy is the entry");

    let config = Config::load(&Sources::text("l2.url = 'redis://h'")).expect("valid");
    let l2 = config.l2.expect("an L2");
    assert_eq!((l2.pool_size, l2.min_idle, l2.max_retries, l2.key_prefix.as_str()), (100, 10, 3, "terrace:"));
    assert!(!l2.tracking, "it costs something");
    assert_eq!(l2.timeouts.connect.0, Duration::from_secs(5));
    assert_eq!((l2.timeouts.read.0, l2.timeouts.write.0), (Duration::from_secs(3), Duration::from_secs(3)));
    assert_eq!(config.l1.ttl.0.duration(), Some(Duration::from_mins(1)));
}

#[test]
fn how_much_trouble_of_l2_is_put_up_with() {
    let load = |text: &str| Config::load(&Sources::text(format!("[l2]\nurl = 'redis://h'\n{text}")));
    let l2 = load("").expect("valid").l2.expect("an L2");
    assert_eq!((l2.wait_max.0, l2.retry.max), (Duration::from_millis(250), 3));
    assert!(l2.breaker.enabled && (l2.breaker.failures - 0.5).abs() < 1e-9 && l2.breaker.min_calls == 20);
    let text = "wait_max = '1s'\nretry = { max = 1, base = '5ms' }\nbreaker = { failures = 1, open = '1s', slow = '100ms' }";
    let l2 = load(text).expect("valid").l2.expect("an L2");
    assert_eq!((l2.retry.max, l2.max_retries, l2.wait_max.0), (1, 1, Duration::from_secs(1)));
    assert_eq!(l2.breaker.slow.map(|slow| slow.0), Some(Duration::from_millis(100)));
    assert_eq!(load("max_retries = 5").expect("valid").l2.expect("an L2").retry.max, 5);
    let refused = [
        ("breaker = { failures = 1.5 }", "breaker.failures"),
        ("breaker = { failures = 'half' }", "a number from 0 to 1"),
        ("breaker = { window = '1ms' }", "breaker.window"),
        ("breaker = { openn = '1s' }", "openn"),
        ("retry = { base = '1s' }", "retry.cap"),
        ("retry = { max = 101 }", "retry.max"),
        ("max_retries = 101", "retry.max"),
        ("wait_max = 0", "wait_max"),
        ("max_retries = 1\nretry = { max = 2 }", "differ"),
    ];
    for (text, expected) in refused {
        let report = load(text).expect_err(text).to_string();
        assert!(report.contains(expected) && report.contains('^'), "{text}: {report}");
    }
}

#[test]
fn the_file_in_the_documentation_is_accepted() {
    let page = include_str!("../../../../docs/service.md");
    let (_, rest) = page.split_once("```toml\n").expect("there is a file");
    let (file, _) = rest.split_once("```").expect("it ends");
    let config = Config::load(&Sources::text(file)).expect("a valid file");
    assert_eq!(config.keyspaces.len(), 5);
}

#[test]
fn where_traces_go_is_an_address_without_secrets_and_a_share() {
    for (otlp, words) in [
        ("endpoint = 'collector:4317'", "this is not the address of a collector"),
        ("endpoint = 'grpc://collector:4317'", "traces are sent by `http` or `https`"),
        ("endpoint = 'nowhere'", "this is not the address of a collector"),
        ("endpoint = 'http://u:hunter2@collector'", "credentials do not stand in an address"),
        ("endpoint = 'http://collector?token=1'", "has no `?` and no `#`"),
        ("sample = 1.5", "it is a share, from 0 to 1"),
        ("headers = { 'no header' = '1' }", "this is not the name of a header"),
    ] {
        let error = Config::load(&Sources::text(format!("telemetry.otlp = {{ {otlp} }}")));
        let error = error.expect_err(otlp).to_string();
        assert!(error.contains(words), "{otlp}: {error}");
    }
    let toml =
        "telemetry.otlp = { endpoint = 'http://c:4318', headers = { authorization = 'Bearer hunter2' } }";
    let config = Config::load(&Sources::text(toml)).expect("a configuration");
    let otlp = &config.telemetry.otlp;
    assert_eq!((otlp.endpoint.as_deref(), otlp.sample.0), (Some("http://c:4318"), 0.01));
    assert!(!format!("{config:?} {}", config.effective_toml()).contains("hunter2"));
}
