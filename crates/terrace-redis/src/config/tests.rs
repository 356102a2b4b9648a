//! Which settings are taken, which are refused, and what is never shown.

use super::*;

const SECRET: &str = "s3cret";

fn refusal(builder: RedisBuilder) -> String {
    builder.build().expect_err("refused").to_string()
}

#[test]
fn a_url_says_all_there_is_to_say() {
    let settings = |url| RedisBuilder::from_url(url).expect("valid").check().expect("valid");
    let full = settings("rediss://us%40er:p%3Aw@db.example:7000/3");
    assert_eq!((full.address.to_string().as_str(), full.tls, full.database), ("db.example:7000", true, 3));
    assert_eq!(
        (full.username.as_deref(), full.password.as_ref().map(Secret::reveal)),
        (Some("us@er"), Some("p:w"))
    );
    let bare = settings("redis://localhost");
    assert_eq!((bare.address.to_string().as_str(), bare.tls, bare.database), ("localhost:6379", false, 0));
    assert_eq!((bare.username, bare.password), (None, None));
    let six = settings("redis://[::1]:6380");
    assert_eq!((six.address.host.as_str(), six.address.port), ("::1", 6380));
}

#[test]
fn defaults_are_those_that_are_promised() {
    let settings = RedisBuilder::from_address("localhost").check().expect("valid");
    let seconds = Duration::from_secs;
    assert_eq!(
        (settings.connect_timeout, settings.read_timeout, settings.write_timeout),
        (seconds(5), seconds(3), seconds(3))
    );
    assert_eq!((settings.max_retries, settings.partitions, settings.connections), (3, 256, 2));
    assert_eq!(settings.key_prefix, "terrace:");
}

#[test]
fn a_pool_becomes_a_number_of_connections() {
    let connections = |builder: RedisBuilder| builder.check().expect("valid").connections;
    let address = || RedisBuilder::from_address("localhost");
    assert_eq!(connections(address().pool_size(20)), 1);
    assert_eq!(connections(address().pool_size(100).min_idle(10)), 2);
    assert_eq!(connections(address().pool_size(100_000)), 4);
    assert_eq!(connections(address().pool_size(100).connections(8)), 8);
}

#[test]
fn wrong_values_are_refused_with_what_and_what_else() {
    let address = || RedisBuilder::from_address("localhost");
    for (builder, expected) in [
        (RedisBuilder::from_address(""), "`address` is \"\"; allowed is `host`"),
        (RedisBuilder::from_address("localhost:0"), "`address` is \"localhost:0\""),
        (RedisBuilder::from_address("localhost:99999"), "`address` is"),
        (RedisBuilder::from_address("redis://localhost"), "`address` is"),
        (RedisBuilder::from_address("[::1"), "`address` is"),
        (address().connections(0), "`connections` is 0; allowed is 1 to 64"),
        (address().connections(65), "`connections` is 65"),
        (address().pool_size(0), "`pool_size` is 0; allowed is 1 or more"),
        (address().pool_size(5).min_idle(6), "`min_idle` is 6; allowed is 0 to the pool size"),
        (address().pool_size(5).max_idle(6), "`max_idle` is 6; allowed is 0 to the pool size"),
        (address().partitions(0), "`partitions` is 0; allowed is 1 to 4096"),
        (address().partitions(4097), "`partitions` is 4097"),
        (address().database(u32::MAX), "`database` is 4294967295"),
        (address().read_timeout(Duration::ZERO), "`read_timeout` is 0ns; allowed is 1 ms to 1 h"),
        (address().connect_timeout(Duration::MAX), "`connect_timeout` is"),
        (
            address().max_lifetime(Duration::from_millis(999)),
            "`max_lifetime` is 999ms; allowed is 1 s or more",
        ),
        (address().key_prefix("a{b"), "`key_prefix` is \"a{b\"; allowed is at most 64 bytes without"),
        (address().key_prefix("a\nb"), "`key_prefix` is"),
        (address().key_prefix("p".repeat(65)), "`key_prefix` is"),
        (address().root_certificate("/does/not/exist.pem"), "`root_certificate` is /does/not/exist.pem"),
    ] {
        let refusal = refusal(builder);
        assert!(refusal.contains(expected), "{refusal} should say {expected}");
    }
}

#[test]
fn a_file_without_certificates_is_refused() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")
        .expect("written");
    let refusal = refusal(RedisBuilder::from_address("localhost").root_certificate(file.path()));
    assert!(refusal.contains("root_certificate"), "{refusal}");
}

#[test]
fn odd_urls_are_refused_without_being_repeated() {
    for url in [
        "s3cret",
        "http://:s3cret@localhost",
        "redis://:s3cret@localhost/notanumber",
        "redis://:s3cret@",
        "redis://:s3cret@localhost/-1",
        "rediss://:s3cret@localhost/#insecure",
        "redis://:s3cret@localhost/?protocol=resp2",
        "redis+unix:///s3cret",
    ] {
        let refusal = RedisBuilder::from_url(url).expect_err(url).to_string();
        assert!(refusal.contains("`url`") && !refusal.contains(SECRET), "{refusal}");
    }
}

#[test]
fn a_password_is_shown_nowhere() {
    let builder = RedisBuilder::from_url("redis://user:s3cret@localhost").expect("valid");
    assert!(!format!("{builder:?}{builder:#?}").contains(SECRET));
    let redis = builder.build().expect("valid");
    assert!(!format!("{redis:?}{redis:#?}").contains(SECRET));
}
