//! The environment: the well-known variables, one for every key, and who wins.

use std::time::Duration;
use terrace_server::config::{Config, Secret, Sources};

fn load(toml: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(&Sources::text(toml).variables(variables)).map_err(|error| error.to_string())
}

#[track_caller]
fn loaded(toml: &str, variables: &[(&str, &str)]) -> Config {
    load(toml, variables).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_well_known_variable_works() {
    let config = loaded(
        "",
        &[
            ("CACHE_L1_MAX_ENTRIES", "123"),
            ("CACHE_DEFAULT_TTL", "456"),
            ("CACHE_CLEANUP_INTERVAL", "7"),
            ("REDIS_URL", "redis://cache:6379"),
            ("REDIS_PASSWORD", "pw"),
            ("REDIS_DB", "3"),
            ("METRICS_ENABLED", "false"),
            ("METRICS_INTERVAL", "8"),
            ("REDIS_POOL_SIZE", "50"),
            ("REDIS_MIN_IDLE_CONNS", "5"),
            ("REDIS_WRITE_BEHIND_ENABLED", "false"),
            ("REDIS_WRITE_BEHIND_BATCH", "90s"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
            ("OTEL_SERVICE_NAME", "shop"),
        ],
    );
    let otlp = &config.telemetry.otlp;
    assert_eq!((otlp.endpoint.as_deref(), otlp.service.as_str()), (Some("http://collector:4318"), "shop"));
    assert_eq!(config.l1.max_entries, 123);
    assert_eq!(config.defaults.ttl.0.duration(), Some(Duration::from_secs(456)));
    assert_eq!(config.l1.cleanup_interval.0, Duration::from_secs(7));
    assert_eq!((config.metrics.enabled, config.metrics.interval.0), (false, Duration::from_secs(8)));
    assert_eq!(
        (config.write_behind.enabled, config.write_behind.lane.interval.0),
        (false, Duration::from_secs(90))
    );
    let l2 = config.l2.expect("an L2");
    assert_eq!(l2.url.reveal(), "redis://cache:6379");
    assert_eq!(l2.password.as_ref().map(Secret::reveal), Some("pw"));
    assert_eq!((l2.database, l2.pool_size, l2.min_idle), (Some(3), 50, 5));
}

#[test]
fn without_an_address_there_is_no_l2() {
    assert!(loaded("", &[]).l2.is_none());
    assert!(loaded("", &[("REDIS_PASSWORD", "pw"), ("REDIS_DB", "1")]).l2.is_none());
    assert!(loaded("", &[("REDIS_URL", ""), ("REDIS_ADDR", "")]).l2.is_none());
}

#[test]
fn an_address_is_as_good_as_a_url_and_the_url_wins() {
    let l2 = loaded("", &[("REDIS_ADDR", "cache:6380")]).l2.expect("an L2");
    assert_eq!(l2.url.reveal(), "redis://cache:6380");
    let both = [("REDIS_ADDR", "one:1"), ("REDIS_URL", "redis://two:2")];
    assert_eq!(loaded("", &both).l2.expect("an L2").url.reveal(), "redis://two:2");
}

#[test]
fn the_later_wins_defaults_file_variables_flags() {
    let file = "l1.max_entries = 1";
    let entries = |toml, variables: &[(&str, &str)]| loaded(toml, variables).l1.max_entries;
    assert_eq!(entries("", &[]), 10_000);
    assert_eq!(entries(file, &[]), 1);
    assert_eq!(entries(file, &[("CACHE_L1_MAX_ENTRIES", "2")]), 2);
    let both = [("CACHE_L1_MAX_ENTRIES", "2"), ("TERRACE__L1__MAX_ENTRIES", "3")];
    assert_eq!(entries(file, &both), 3);
    let variables = both.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let sources = Sources::text(file).variables(variables).flag("--entries", "l1.max_entries", "4");
    assert_eq!(Config::load(&sources).expect("valid").l1.max_entries, 4);
}

#[test]
fn any_key_can_be_set_by_a_variable() {
    let config = loaded(
        "[keyspace.users]\npattern = 'user:{id}'\n",
        &[
            ("TERRACE__L1__MAX_BYTES", "1GiB"),
            ("TERRACE__SERVER__SHUTDOWN__DRAIN", "0"),
            ("TERRACE__KEYSPACE__USERS__TTL", "5m"),
            ("TERRACE__ORIGIN__LITE__TYPE", "sqlite"),
            ("TERRACE__ORIGIN__LITE__FILE", "12345"),
            ("TERRACE__ORIGIN__LITE__POOL", "3"),
        ],
    );
    assert_eq!(config.l1.max_bytes.map(|size| size.0), Some(1 << 30));
    assert_eq!(config.server.shutdown.drain.0, Duration::ZERO);
    assert_eq!(config.keyspaces["users"].ttl.0.duration(), Some(Duration::from_mins(5)));
    assert!(
        config.effective_toml().contains("[origin.lite]\ntype = \"sqlite\"\nfile = \"12345\"\npool = 3\n")
    );
}

#[test]
fn a_variable_of_the_platform_can_be_passed_over() {
    let ambient = ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318");
    let config = loaded("", &[ambient, ("TERRACE__TELEMETRY__OTLP__ENDPOINT", "")]);
    assert_eq!(config.telemetry.otlp.endpoint, None);
}

#[test]
fn what_a_variable_cannot_be_is_refused_with_its_name() {
    for (name, value, expected) in [
        (
            "REDIS_DB",
            "x",
            "error: invalid value: string \"x\", expected a whole number, zero or more\n --> environment variable REDIS_DB",
        ),
        (
            "TERRACE__L1__MAX_BITES",
            "5",
            "error: unknown field `max_bites`\n --> environment variable TERRACE__L1__MAX_BITES\n  = help: did you mean `max_bytes`?",
        ),
        (
            "CACHE_CLEANUP_INTERVAL",
            "0",
            "error: this cannot be: it must be more than zero\n --> environment variable CACHE_CLEANUP_INTERVAL",
        ),
        #[cfg(feature = "otlp")]
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "collector:4318",
            "error: this is not the address of a collector\n --> environment variable OTEL_EXPORTER_OTLP_ENDPOINT\n  = help: write `http://localhost:4318`",
        ),
        (
            "METRICS_ENABLED",
            "maybe",
            "error: invalid value: string \"maybe\", expected true or false\n --> environment variable METRICS_ENABLED",
        ),
    ] {
        assert_eq!(load("", &[(name, value)]).expect_err("refused"), expected);
    }
    for (name, value) in [
        ("CACHE_L1_MAX_ENTRIES", "-5"),
        ("CACHE_DEFAULT_TTL", "soon"),
        ("REDIS_URL", "http://h"),
        ("REDIS_ADDR", "a b"),
        ("REDIS_POOL_SIZE", "0"),
        ("REDIS_WRITE_BEHIND_BATCH", "0s"),
        ("METRICS_INTERVAL", "0"),
    ] {
        let refusal = load("", &[(name, value)]).expect_err("refused");
        assert!(refusal.ends_with(&format!(" --> environment variable {name}")), "{refusal}");
    }
    let sources = Sources::none().flag("--listen", "server.listen", "here");
    let refusal = Config::load(&sources).expect_err("refused").to_string();
    assert!(refusal.starts_with("error: this is not a host and a port\n --> --listen\n"), "{refusal}");
}

#[test]
fn texts_expand_variables() {
    let toml = "[l2]\nurl = 'redis://${HOST:-localhost}:6379'\npool_size = '${POOL:-20}'\n";
    let l2 = |variables: &[(&str, &str)]| loaded(toml, variables).l2.expect("an L2");
    assert_eq!(l2(&[]).url.reveal(), "redis://localhost:6379");
    assert_eq!(l2(&[("HOST", "cache"), ("POOL", "30")]).url.reveal(), "redis://cache:6379");
    assert_eq!((l2(&[]).pool_size, l2(&[("POOL", "30")]).pool_size), (20, 30));
    let refusal = load("[l2]\nurl = '${NOT_SET}'\n", &[]).expect_err("refused");
    assert!(refusal.starts_with("error: `NOT_SET` is not set"), "{refusal}");
    assert!(refusal.contains(" --> configuration:2:7\n"), "{refusal}");
}
