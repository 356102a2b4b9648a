//! Who we are to the server, who it is to us, and what must not be seen.

use crate::support::{Ear, Shared, adapter, key, messages, namespace, patient, read, set};
use terrace_core::bus::{Bus, BusEvent};
use terrace_core::codec::CodecId;
use terrace_core::remote::{Remote, RemoteError, SharedSettings};
use terrace_redis::{Redis, RedisBuilder};
use terrace_testkit::conformance::swept;
use terrace_testkit::server::{Proxy, RedisServer};
use terrace_testkit::wait;

const SECRET: &str = "s3cret-w0rd";

/// What is published and what is logged reach this node.
async fn assert_hears(redis: &Redis, namespace_name: &str) {
    let namespace = namespace(namespace_name);
    redis.open(&namespace).await.expect("it opens");
    redis.join(&namespace);
    let mut ear = Ear::of(redis);
    let counters = ear.joined(&namespace).await;
    let version = set(redis, &namespace, &key("key"), "value").await;
    let (partition, message) = ear.message(&namespace).await;
    assert_eq!(message.number, version);
    redis.beat(1).await.expect("it succeeds");
    assert_eq!(ear.next().await, BusEvent::Beat(1));
    let after = [(partition, counters[usize::from(partition.0)])];
    let log = redis.changes_since(&namespace, &after).await.expect("it is read");
    assert_eq!(messages(&log[0]), [message]);
}

fn build(builder: RedisBuilder) -> Redis {
    builder.build().expect("valid settings")
}

async fn refusal(builder: RedisBuilder) -> String {
    let redis = build(builder);
    let error = redis.health().await.expect_err("refused");
    assert!(matches!(error, RemoteError::Refused { .. }), "{error}");
    let text = format!("{error} {error:?} {redis:?}");
    assert!(!text.contains(SECRET), "{text}");
    text
}

#[tokio::test]
async fn a_password_is_needed_and_never_shown() {
    let Some(server) = RedisServer::builder().password(SECRET).start().await else { return };
    let namespace = namespace("auth");
    let redis = build(adapter(&server).password(SECRET));
    redis.open(&namespace).await.expect("it knows the password");
    set(&redis, &namespace, &key("key"), "value").await;
    let url = format!("redis://:{SECRET}@{}", server.address());
    let redis = build(Redis::url(&url).expect("a valid URL"));
    assert_eq!(read(&redis, &namespace, &key("key")).await.as_deref(), Some("value"));
    assert_hears(&redis, "heard").await;

    assert!(refusal(adapter(&server)).await.contains("NOAUTH"));
    assert!(refusal(adapter(&server).password(format!("{SECRET}x"))).await.contains("WRONGPASS"));
}

#[tokio::test]
async fn a_password_that_changes_is_noticed_and_recovered_from() {
    let Some(server) = RedisServer::builder().password(SECRET).start().await else { return };
    let redis = build(adapter(&server).password(SECRET));
    redis.health().await.expect("it is well");
    server.cli(&["config", "set", "requirepass", "another"]).await;
    server.cli(&["-a", "another", "client", "kill", "type", "normal"]).await;
    let refused =
        async || redis.health().await.err().filter(|error| matches!(error, RemoteError::Refused { .. }));
    let error = wait::until_some("the refusal", refused).await;
    assert!(error.to_string().contains("WRONGPASS"), "{error}");
    server.cli(&["-a", "another", "config", "set", "requirepass", SECRET]).await;
    crate::support::until_served(&redis).await;
}

#[tokio::test]
async fn a_password_is_changed_while_connections_are_open_and_no_call_fails() {
    let Some(server) = RedisServer::builder().password(SECRET).start().await else { return };
    let proxy = Proxy::start(server.port()).await;
    let redis = build(Redis::address(&proxy.address()).connections(2).password(SECRET));
    let passwords = redis.passwords();
    let opened = async |count: u64| {
        let calling = async {
            while proxy.connections() < count {
                redis.health().await.expect("no call fails");
            }
        };
        wait::within("connections to be opened", wait::DEADLINE, calling).await;
    };
    opened(2).await;
    server.cli(&["config", "set", "requirepass", "another"]).await;
    passwords.set("another");
    opened(4).await;
    // One that is refused leaves the old one in use.
    passwords.set("a third");
    opened(6).await;
    redis.health().await.expect("what was open stays in use");
    assert!(!format!("{passwords:?} {redis:?}").contains("a third"));
    passwords.set("another");
    opened(8).await;
    // What is opened anew has it, too.
    server.cli(&["-a", "another", "client", "kill", "type", "normal"]).await;
    crate::support::until_served(&redis).await;
}

#[tokio::test]
async fn an_acl_user_needs_what_the_documentation_says() {
    let documented = "app on >s3cret-w0rd ~terrace:* &terrace:* -@all +get +getrange +pttl +pexpire +set +unlink +hget +hmget +hset \
                      +hsetnx +hdel +hexists +hlen +xadd +xrange +xrevrange +zadd +zcard +zrem +zrange +zrangebyscore +scan \
                      +evalsha +script|load +publish +subscribe +time +ping";
    let narrow = documented.replace("~terrace:*", "~other:*").replace("app", "narrow");
    let Some(server) = RedisServer::builder().acl(documented).acl(&narrow).start().await else { return };
    let redis = build(patient(adapter(&server)).username("app").password(SECRET).partitions(2));
    terrace_testkit::conformance::remote::check(&redis, "acl").await;
    assert_hears(&redis, "heard").await;

    let redis = build(adapter(&server).username("narrow").password(SECRET));
    let error = redis.get(&namespace("users"), &key("key")).await.expect_err("not its keys");
    assert!(matches!(&error, RemoteError::Refused { reason } if reason.starts_with("NOPERM")), "{error}");
}

#[tokio::test]
async fn databases_are_apart() {
    let Some(server) = RedisServer::start().await else { return };
    let namespace = namespace("db");
    let (zero, three) = (build(adapter(&server)), build(adapter(&server).database(3)));
    zero.open(&namespace).await.expect("it opens");
    three.open(&namespace).await.expect("it opens");
    set(&three, &namespace, &key("key"), "in three").await;
    assert_eq!(read(&zero, &namespace, &key("key")).await, None);
    let url = format!("{}/3", server.url());
    let by_url = build(Redis::url(&url).expect("a valid URL"));
    assert_eq!(read(&by_url, &namespace, &key("key")).await.as_deref(), Some("in three"));
    assert_hears(&by_url, "heard").await;
    let error = build(adapter(&server).database(1000)).health().await.expect_err("there are 16");
    assert!(error.to_string().contains("DB index is out of range"), "{error}");
}

#[tokio::test]
async fn tls_is_spoken_and_the_peer_is_verified() {
    let Some(server) = RedisServer::builder().tls().start().await else { return };
    let authority = server.authority().expect("it has TLS");
    let stranger = server.stranger().expect("it has TLS");
    let namespace = namespace("tls");
    for address in [server.address(), format!("localhost:{}", server.port())] {
        let redis = build(Redis::address(&address).root_certificate(authority));
        redis.open(&namespace).await.expect("it opens");
        set(&redis, &namespace, &key("key"), "value").await;
        assert_eq!(read(&redis, &namespace, &key("key")).await.as_deref(), Some("value"));
    }
    let by_url = Redis::url(&server.url()).expect("a valid URL");
    let redis = build(by_url.root_certificate(authority));
    assert_eq!(read(&redis, &namespace, &key("key")).await.as_deref(), Some("value"));
    assert_hears(&redis, "heard").await;

    let error =
        build(adapter(&server).root_certificate(stranger)).health().await.expect_err("not its authority");
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(build(adapter(&server)).health().await.is_err(), "a server with TLS is not spoken to without");
}

#[tokio::test]
async fn another_root_in_the_same_file_is_believed_by_the_next_connection() {
    let Some(server) = RedisServer::builder().tls().start().await else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ca.pem");
    let put = |from: &std::path::Path| std::fs::copy(from, &file).expect("it is there");
    put(server.stranger().expect("it has TLS"));
    let redis = build(adapter(&server).root_certificate(&file));
    let error = redis.health().await.expect_err("not its authority");
    assert!(error.to_string().contains("certificate"), "{error}");
    put(server.authority().expect("it has TLS"));
    let answers = async || redis.health().await.ok();
    wait::until_some("its authority to be believed", answers).await;
    std::fs::write(&file, "no certificate").expect("it is written");
    server.cli(&["client", "kill", "type", "normal"]).await;
    wait::until_some("a connection by the roots before", answers).await;
}

#[tokio::test]
async fn nodes_have_to_agree_on_partitions() {
    let Some(shared) = Shared::find().await else { return };
    let namespace = namespace("agreed");
    shared.redis().open(&namespace).await.expect("the first one decides");
    shared.redis().open(&namespace).await.expect("the second one agrees");
    let other = build(shared.builder().partitions(64));
    let error = other.open(&namespace).await.expect_err("another number");
    assert!(matches!(error, RemoteError::Mismatch { .. }), "{error}");
    assert!(
        error.to_string().contains("namespace `agreed` has partitions `256`, and this node is set to `64`"),
        "{error}"
    );
}

#[tokio::test]
async fn a_record_of_an_earlier_release_is_completed_and_compared() {
    let Some(shared) = Shared::find().await else { return };
    let namespace = namespace("older");
    let record = format!("{}1:meta:older", shared.prefix);
    let mut raw = shared.raw().await;
    let _: () =
        redis::cmd("HSET").arg(&record).arg(&["partitions", "256"]).query_async(&mut raw).await.expect("set");
    let settings = |name: &str| SharedSettings { codec: Some((CodecId::JSON, name.to_owned())) };
    let open = async |name: &str| shared.redis().open_with(&namespace, &settings(name)).await;
    let refused = build(shared.builder().partitions(64)).open_with(&namespace, &settings("json")).await;
    assert!(matches!(refused, Err(RemoteError::Mismatch { .. })));
    let fields = async |raw: &mut redis::aio::MultiplexedConnection| {
        let fields: std::collections::BTreeMap<String, String> =
            redis::cmd("HGETALL").arg(&record).query_async(raw).await.expect("read");
        fields.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(fields(&mut raw).await, "partitions=256", "who is refused completes nothing");
    open("json").await.expect("it agrees with what is there");
    let whole = "codec=1 codec_name=json mode=coherent partitions=256";
    assert_eq!(fields(&mut raw).await, whole);
    let _: () =
        redis::cmd("HSET").arg(&record).arg(&["later", "x"]).query_async(&mut raw).await.expect("set");
    open("json").await.expect("what a later release added is not looked at");
    assert!(matches!(open("other").await, Err(RemoteError::Mismatch { .. })));
    assert_eq!(fields(&mut raw).await, "codec=1 codec_name=json later=x mode=coherent partitions=256");
}

#[tokio::test]
async fn of_nodes_that_open_at_once_with_different_settings_one_kind_is_let_in() {
    let Some(shared) = Shared::find().await else { return };
    let redis = shared.redis();
    for round in 0..20 {
        let namespace = namespace(&format!("race{round}"));
        let settings: Vec<SharedSettings> = (0..8)
            .map(|n: u8| SharedSettings { codec: Some((CodecId(200 + n % 2), format!("name{}", n % 2))) })
            .collect();
        let opened =
            futures_util::future::join_all(settings.iter().map(|own| redis.open_with(&namespace, own))).await;
        let are_in: Vec<bool> = opened.iter().map(Result::is_ok).collect();
        let first = are_in[0];
        assert!((0..8).all(|n| are_in[n] == (first == (n % 2 == 0))), "{are_in:?}");
    }
}

#[tokio::test]
async fn prefixes_that_look_like_patterns_and_siblings_are_apart() {
    let Some(shared) = Shared::find().await else { return };
    let namespace = namespace("users");
    let sweep = terrace_core::remote::SweepRule::All;
    let endings = ["*", "?", "[a-z]", "a", "ab", "\\", "\\*"];
    let deployments: Vec<Redis> = endings
        .iter()
        .map(|ending| build(shared.builder().key_prefix(format!("{}{ending}", shared.prefix))))
        .collect();
    for redis in &deployments {
        redis.open(&namespace).await.expect("it opens");
        set(redis, &namespace, &key("key"), "value").await;
    }
    for (index, redis) in deployments.iter().enumerate() {
        assert_eq!(swept(redis, &namespace, &sweep).await, 1, "{}", endings[index]);
        for (other, redis) in deployments.iter().enumerate() {
            assert_eq!(read(redis, &namespace, &key("key")).await.is_some(), other > index);
        }
    }
}
