//! Which settings are taken, which are refused, and what is never shown.

use super::*;

const SECRET: &str = "s3cret";

fn refusal(builder: RedisBuilder) -> String {
    builder.build().expect_err("refused").to_string()
}

#[test]
fn a_url_says_all_there_is_to_say() {
    let full = settings("rediss://us%40er:p%3Aw@db.example:7000/3");
    assert_eq!((servers(&full).as_str(), full.login.tls, full.database), ("one db.example:7000", true, 3));
    assert_eq!(login(&full.login), known("us@er", "p:w"));
    let bare = settings("redis://localhost");
    assert_eq!((servers(&bare).as_str(), bare.login.tls, bare.database), ("one localhost:6379", false, 0));
    assert_eq!((login(&bare.login), bare.login.tls), (Default::default(), false));
    assert_eq!(servers(&settings("redis://[::1]:6380")), "one [::1]:6380");
}

fn settings(url: &str) -> Settings {
    RedisBuilder::from_url(url).expect("valid").check().expect("valid")
}

fn servers(settings: &Settings) -> String {
    match &settings.servers {
        Servers::One(address) => format!("one {address}"),
        Servers::Sentinel { primary, sentinels } => format!("{primary} of {}", List(sentinels)),
        Servers::Cluster(members) => format!("all of {}", List(members)),
    }
}

fn login(login: &Login) -> (Option<String>, Option<String>) {
    let password = login.password.now().map(|password| password.reveal().to_owned());
    (login.username.clone(), password)
}

fn known(username: &str, password: &str) -> (Option<String>, Option<String>) {
    (Some(username.to_owned()).filter(|name| !name.is_empty()), Some(password.to_owned()))
}

#[test]
fn a_url_names_sentinels_or_members() {
    let watched = settings("rediss+sentinel://us%40er:p%3Aw@a,b:7000,[::1]/main/3");
    assert_eq!(servers(&watched), "main of a:26379, b:7000, [::1]:26379");
    assert_eq!(login(&watched.login), known("us@er", "p:w"));
    assert_eq!((watched.login.tls, watched.sentinel_login.tls, watched.database), (true, true, 3));
    assert_eq!(login(&watched.sentinel_login), (None, None), "sentinels are not told the servers' password");
    let apart = RedisBuilder::from_url("rediss+sentinel://a/main").expect("valid").sentinel_tls(false);
    let apart = apart.sentinel_username("eye").sentinel_password(SECRET).check().expect("valid");
    assert_eq!((apart.login.tls, apart.sentinel_login.tls), (true, false));
    assert_eq!(login(&apart.sentinel_login), known("eye", SECRET));

    let members = settings("redis+cluster://:pw@a:1,b");
    assert_eq!(servers(&members), "all of a:1, b:6379");
    assert_eq!((login(&members.login), members.login.tls), (known("", "pw"), false));
    assert_eq!(servers(&settings("rediss+cluster://a")), "all of a:6379");
}

#[test]
fn several_servers_have_rules_of_their_own() {
    let url = |url: &str| RedisBuilder::from_url(url).expect(url);
    for (builder, expected) in [
        (url("redis+cluster://a/3"), "`database` is 3; allowed is 0, for a Cluster has no other"),
        (Redis::cluster(["a"]).database(1), "`database` is 1; allowed is 0"),
        (Redis::cluster([""; 0]), "`addresses` is none; allowed is one or more"),
        (Redis::cluster(["a,b"]), "`address` is \"a,b\""),
        (Redis::sentinel("main", [""; 0]), "`addresses` is none"),
        (Redis::sentinel("", ["a"]), "`sentinel` is the primary \"\"; allowed is the name that"),
        (url("redis+sentinel://a"), "`sentinel` is the primary \"\""),
        (Redis::sentinel("main", ["a:0"]), "`address` is \"a:0\""),
    ] {
        let refusal = refusal(builder);
        assert!(refusal.contains(expected), "{refusal} should say {expected}");
    }
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
    for text in ["-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "no certificate", ""] {
        std::fs::write(file.path(), text).expect("written");
        let refusal = refusal(RedisBuilder::from_address("localhost").root_certificate(file.path()));
        assert!(refusal.contains("root_certificate"), "{refusal}");
    }
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
        "redis+other://:s3cret@localhost",
        "redis://:s3cret@a,b",
        "redis+cluster://:s3cret@a,,b",
        "redis+cluster://:s3cret@a?x=1,b",
        "redis+sentinel://:s3cret@a/main/x",
        "http+cluster://:s3cret@a",
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
