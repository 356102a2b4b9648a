//! Several servers, where both sides have to prove who they are.

use crate::cluster::adapter;
use crate::support::{Ear, key, namespace, patient, read, set};
use terrace_core::bus::{Bus, BusEvent};
use terrace_core::remote::{Remote, RemoteError};
use terrace_redis::Redis;
use terrace_testkit::conformance::remote;
use terrace_testkit::server::{RedisCluster, RedisSentinel, RedisServer};

const SECRET: &str = "s3cret-w0rd";
/// What the documentation says, without the first words.
const RIGHTS: &str = ">s3cret-w0rd ~terrace:* &terrace:* -@all +get +getrange +pttl +pexpire +set +unlink +hget +hmget +hset +hsetnx \
                      +hdel +hexists +hlen +xadd +xrange +xrevrange +zadd +zcard +zrem +zrange +zrangebyscore +scan \
                      +evalsha +script|load +publish +subscribe +time +ping";
const CLUSTER_RIGHTS: &str = "+spublish +ssubscribe +asking +cluster|slots +cluster|info +cluster|nodes";

async fn assert_hears(redis: &Redis) {
    let users = namespace("heard");
    redis.open(&users).await.expect("it opens");
    redis.join(&users);
    let mut ear = Ear::of(redis);
    ear.joined(&users).await;
    set(redis, &users, &key("key"), "value").await;
    ear.message(&users).await;
    redis.beat(1).await.expect("it succeeds");
    assert_eq!(ear.next().await, BusEvent::Beat(1));
    assert_eq!(read(redis, &users, &key("key")).await.as_deref(), Some("value"));
}

#[tokio::test]
async fn a_cluster_with_tls_and_users_is_spoken_to_with_the_rights_that_are_documented() {
    let member =
        RedisServer::builder().tls().password("admin").acl(&format!("app on {RIGHTS} {CLUSTER_RIGHTS}"));
    let Some(cluster) = RedisCluster::start_with(member).await else { return };
    let authority = cluster.members()[0].authority().expect("it has TLS");
    let app = || adapter(&cluster).username("app").root_certificate(authority).partitions(8);
    let redis = app().password(SECRET).build().expect("valid settings");
    remote::check(&redis, "acl").await;
    assert_hears(&redis).await;

    let error = app().password("wrong").build().expect("valid").health().await.expect_err("not its password");
    assert!(
        matches!(error, RemoteError::Refused { .. }) && error.to_string().contains("WRONGPASS"),
        "{error}"
    );
    let stranger = cluster.members()[0].stranger().expect("it has TLS");
    let error = adapter(&cluster).root_certificate(stranger).build().expect("valid").health().await;
    assert!(error.expect_err("not its authority").to_string().contains("certificate"));
    let urls = cluster.addresses().join(",");
    let url = format!("rediss+cluster://app:{SECRET}@{urls}");
    let by_url = patient(Redis::url(&url).expect("a valid URL")).root_certificate(authority).partitions(8);
    let by_url = by_url.build().expect("valid settings");
    assert!(!format!("{by_url:?}").contains(SECRET));
    assert_hears(&by_url).await;
}

#[tokio::test]
async fn servers_and_sentinels_know_different_users() {
    let server = RedisServer::builder().tls().password("admin").acl(&format!("app on {RIGHTS}"));
    let sentinel = RedisServer::builder().acl("eye on >an0ther -@all +sentinel|master");
    let Some(watched) = RedisSentinel::start_with(server, sentinel).await else { return };
    let authority = watched.servers()[0].authority().expect("it has TLS");
    let addresses = watched.addresses().join(",");
    let url = format!("rediss+sentinel://app:{SECRET}@{addresses}/{}", RedisSentinel::PRIMARY);
    let builder =
        || patient(Redis::url(&url).expect("a valid URL")).root_certificate(authority).partitions(8);
    let redis =
        builder().sentinel_username("eye").sentinel_password("an0ther").build().expect("valid settings");
    remote::check(&redis, "acl").await;
    assert_hears(&redis).await;
    assert!(redis.health().await.expect("it is well").warnings.is_empty(), "it may not read the settings");

    let wrong = builder().sentinel_username("eye").sentinel_password(SECRET).build().expect("valid settings");
    let error = wrong.health().await.expect_err("not its password");
    assert!(
        matches!(error, RemoteError::Refused { .. }) && error.to_string().contains("WRONGPASS"),
        "{error}"
    );
    assert!(!format!("{error} {wrong:?}").contains(SECRET));
}
