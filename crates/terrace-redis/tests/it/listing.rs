//! Listing keys of servers that change meanwhile.

use crate::cluster;
use crate::support::{adapter, key, namespace, patient, set};
use terrace_core::Namespace;
use terrace_core::remote::{ListPlace, Remote, RemoteError, SweepRule};
use terrace_redis::Redis;
use terrace_testkit::server::{RedisCluster, RedisServer};
use terrace_testkit::wait::until_some;

async fn filled(redis: &Redis) -> Namespace {
    let users = namespace("users");
    redis.open(&users).await.expect("it opens");
    for index in 0..300 {
        set(redis, &users, &key(&format!("k{index}")), "v").await;
    }
    users
}

/// The place behind the first page.
async fn begun(redis: &Redis, users: &Namespace) -> ListPlace {
    let page = redis.list(users, &SweepRule::All, None, 10).await.expect("it is listed");
    page.expect("nothing has changed").next.expect("there is more")
}

/// Asks until the server answers again.
async fn goes_on(redis: &Redis, users: &Namespace, place: ListPlace) -> bool {
    until_some("an answer", async || redis.list(users, &SweepRule::All, Some(place), 10).await.ok())
        .await
        .is_some()
}

#[tokio::test]
async fn a_place_goes_on_over_any_connection_and_not_in_another_life_of_the_server() {
    let Some(server) = RedisServer::start().await else { return };
    let (one, two) = (patient(adapter(&server)), patient(adapter(&server)));
    let (one, two) = (one.build().expect("valid settings"), two.build().expect("valid settings"));
    let users = filled(&one).await;
    two.open(&users).await.expect("it opens");
    let place = begun(&one, &users).await;
    assert!(goes_on(&two, &users, place).await);
    server.cli(&["client", "kill", "type", "normal"]).await;
    assert!(goes_on(&one, &users, place).await);
    server.restart().await;
    assert!(!goes_on(&one, &users, place).await);
    assert!(!goes_on(&two, &users, place).await);
}

#[tokio::test]
async fn a_server_that_does_not_say_who_it_is_gives_one_page() {
    let Some(server) = RedisServer::builder().acl("silent on >pw ~* &* +@all -info").start().await else {
        return;
    };
    let url = server.url().replacen("redis://", "redis://silent:pw@", 1);
    let redis = patient(Redis::url(&url).expect("a URL")).build().expect("valid settings");
    let users = filled(&redis).await;
    let place = begun(&redis, &users).await;
    let refused = redis.list(&users, &SweepRule::All, Some(place), 10).await;
    assert!(matches!(refused, Err(RemoteError::Refused { .. })), "{refused:?}");
}

#[tokio::test]
async fn slots_that_move_end_a_listing() {
    let Some(servers) = RedisCluster::start().await else { return };
    let redis = cluster::adapter(&servers).build().expect("valid settings");
    let users = filled(&redis).await;
    let place = begun(&redis, &users).await;
    assert!(goes_on(&redis, &users, place).await);
    let primaries = servers.primaries().await;
    let slot = servers.slot_of("{1}").await;
    let from = servers.owner_of("{1}").await;
    let to = primaries.into_iter().find(|primary| *primary != from).expect("there are several");
    servers.move_slots(from, to, slot..slot + 1).await;
    until_some("the move is known and the place is lost", async || {
        let page = redis.list(&users, &SweepRule::All, Some(place), 10).await;
        // Until its map is drawn anew the adapter finds out at the end.
        set(&redis, &users, &key("k1"), "v").await;
        matches!(page, Ok(None)).then_some(())
    })
    .await;
}
