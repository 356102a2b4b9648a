//! What a node hears of changes that others make, while nothing goes wrong.

use crate::support::{
    Ear, RedisRig, Shared, adapter, key, messages, namespace, physical, raw, read_log, set,
};
use futures_util::{FutureExt, StreamExt};
use terrace_core::bus::{Bus, BusEvent, Change, Message};
use terrace_core::coherence::{Chain, Step};
use terrace_core::remote::{Remote, SweepRule};
use terrace_core::{Glob, Namespace, Partition, Tag, Ttl, Version};
use terrace_redis::Redis;
use terrace_testkit::conformance::differential::Rig;
use terrace_testkit::conformance::samples;
use terrace_testkit::server::RedisServer;

/// Two nodes of one deployment, of so many partitions.
fn nodes(shared: &Shared, partitions: u16) -> [Redis; 2] {
    [(); 2].map(|()| shared.builder().partitions(partitions).build().expect("valid settings"))
}

#[tokio::test]
async fn changes_of_one_node_are_heard_by_another_in_an_unbroken_chain() {
    let Some(shared) = Shared::find().await else { return };
    let [writer, listener] = nodes(&shared, 2);
    let users = namespace("users");
    writer.open(&users).await.expect("it opens");
    listener.join(&users);
    let mut ear = Ear::of(&listener);
    let counters = ear.joined(&users).await;
    assert_eq!(counters.len(), 2);
    assert!(counters.iter().all(|counter| *counter != Version::ZERO), "opening has made a change of each");
    let mut chains = [Chain::default(), Chain::default()];
    for (chain, counter) in chains.iter_mut().zip(&counters) {
        chain.joined(*counter);
        chain.settle();
    }

    let mut versions = Vec::new();
    for index in 0..50 {
        versions.push(set(&writer, &users, &key(&format!("key:{index}")), "value").await);
    }
    for (index, version) in versions.into_iter().enumerate() {
        let key = key(&format!("key:{index}"));
        let (partition, message) = ear.message(&users).await;
        assert_eq!(partition, Partition::of(&users, key.as_str(), 2));
        assert_eq!((message.number, message.origin), (version, writer.node()));
        assert_eq!(message.change, Change::Set(key));
        assert_eq!(chains[usize::from(partition.0)].heard(&message), Step::Apply);
    }
}

#[tokio::test]
async fn every_operation_is_heard_as_a_message() {
    let Some(shared) = Shared::find().await else { return };
    let [writer, listener] = nodes(&shared, 1);
    let (all, key, tag) = (namespace("all"), key(" a key \u{1f980}"), Tag::new("org 7").expect("valid"));
    writer.open(&all).await.expect("it opens");
    listener.join(&all);
    let mut ear = Ear::of(&listener);
    ear.joined(&all).await;

    set(&writer, &all, &key, "value").await;
    let nothing = Ttl::After(std::time::Duration::ZERO);
    let value = samples::sealed(&all, &key, "value", nothing);
    writer.set(&all, &key, value, nothing).await.expect("it succeeds");
    writer.invalidate(&all, std::slice::from_ref(&key)).await.expect("it succeeds");
    writer.bump_tags(&all, std::slice::from_ref(&tag)).await.expect("it succeeds");
    let rule = SweepRule::Matching(Glob::new("user:* x").expect("valid"));
    writer.sweep(&all, &rule).await.expect("it succeeds");
    writer.sweep(&all, &SweepRule::All).await.expect("it succeeds");
    let rig = RedisRig::new(&shared.url, &shared.prefix, shared.builder(), 1).await;
    rig.lose_generations(&all, Partition(0)).await;
    writer.generations(&all, std::slice::from_ref(&tag)).await.expect("it succeeds");

    let expected = [
        Change::Set(key.clone()),
        Change::Invalidate(key.clone()),
        Change::Invalidate(key),
        Change::Tag(tag),
        Change::Sweep(rule),
        Change::Sweep(SweepRule::All),
        Change::Floor,
    ];
    for change in expected {
        assert_eq!(ear.message(&all).await.1.change, change);
    }
}

#[tokio::test]
async fn a_bump_and_the_last_partition_of_a_sweep_are_heard_under_the_numbers_that_their_caller_is_told() {
    let Some(server) = RedisServer::start().await else { return };
    let mut raw = raw(&server.url()).await;
    for partitions in [1, 16, 600] {
        let node = || adapter(&server).partitions(partitions).build().expect("valid settings");
        let (writer, listener, users) = (node(), node(), namespace(&format!("numbers{partitions}")));
        writer.open(&users).await.expect("it opens");
        listener.join(&users);
        let mut ear = Ear::of(&listener);
        ear.joined(&users).await;
        let tags = ["b", "a", "b"].map(|text| Tag::new(text).expect("valid"));
        let bumped = writer.bump_tags(&users, &tags).await.expect("it succeeds");
        for (tag, version) in tags.iter().zip(bumped) {
            let (_, message) = ear.message(&users).await;
            assert_eq!((message.change, message.number), (Change::Tag(tag.clone()), version));
        }
        for rule in [SweepRule::Matching(Glob::new("user:*").expect("valid")), SweepRule::All] {
            // What has to be sent again is told of in order, too.
            redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut raw).await.expect("it forgets");
            let swept = writer.sweep(&users, &rule).await.expect("it succeeds");
            for expected in (0..partitions).map(Partition) {
                let (partition, message) = ear.message(&users).await;
                assert_eq!((partition, message.change), (expected, Change::Sweep(rule.clone())));
                assert!(partition.0 + 1 < partitions || swept.version == Some(message.number), "{swept:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_beat_comes_back_after_all_that_was_published_before_it() {
    let Some(shared) = Shared::find().await else { return };
    let [writer, listener] = nodes(&shared, 16);
    let busy = namespace("busy");
    writer.open(&busy).await.expect("it opens");
    listener.join(&busy);
    let mut ear = Ear::of(&listener);
    ear.joined(&busy).await;
    let keys: Vec<_> = (0..200).map(|index| key(&format!("key:{index}"))).collect();
    for round in 1..=5 {
        writer.invalidate(&busy, &keys).await.expect("they succeed");
        listener.beat(round).await.expect("it succeeds");
        writer.invalidate(&busy, &keys[..1]).await.expect("it succeeds");
        for key in &keys {
            assert_eq!(ear.message(&busy).await.1.change, Change::Invalidate(key.clone()));
        }
        assert_eq!(ear.next().await, BusEvent::Beat(round));
        assert_eq!(ear.message(&busy).await.1.change, Change::Invalidate(keys[0].clone()));
    }
}

#[tokio::test]
async fn nodes_hear_their_own_beats_alone() {
    let Some(shared) = Shared::find().await else { return };
    let [one, other] = nodes(&shared, 1);
    let namespace = namespace("beats");
    let mut ears = [Ear::of(&one), Ear::of(&other)];
    for (node, ear) in [&one, &other].into_iter().zip(&mut ears) {
        node.join(&namespace);
        ear.joined(&namespace).await;
    }
    for (node, number) in [(&one, 1), (&other, u64::MAX), (&one, 1), (&one, 2), (&other, 0)] {
        node.beat(number).await.expect("it succeeds");
    }
    let [ear_of_one, ear_of_other] = &mut ears;
    for number in [1, 1, 2] {
        assert_eq!(ear_of_one.next().await, BusEvent::Beat(number));
    }
    for number in [u64::MAX, 0] {
        assert_eq!(ear_of_other.next().await, BusEvent::Beat(number));
    }
}

#[tokio::test]
async fn a_beat_is_remembered_for_a_while_and_not_for_ever() {
    let Some(shared) = Shared::find().await else { return };
    let redis = shared.builder().node_id(0xab).build().expect("valid settings");
    redis.beat(7).await.expect("it succeeds");
    let name = format!("{}1:beat:00000000000000ab", shared.prefix);
    let mut pipe = redis::pipe();
    pipe.cmd("GET").arg(&name).cmd("PTTL").arg(&name);
    let (number, left): (u64, i64) = pipe.query_async(&mut shared.raw().await).await.expect("it is there");
    assert_eq!(number, 7);
    assert!((1..=60_000).contains(&left), "{left} ms");
}

#[tokio::test]
async fn a_namespace_that_is_joined_later_is_heard() {
    let Some(shared) = Shared::find().await else { return };
    let [writer, listener] = nodes(&shared, 4);
    let (early, late) = (namespace("early"), namespace("late"));
    for namespace in [&early, &late] {
        writer.open(namespace).await.expect("it opens");
    }
    listener.join(&early);
    let mut ear = Ear::of(&listener);
    ear.joined(&early).await;
    for _greeted in 0..4 {
        ear.next_of_all().await;
    }
    set(&writer, &late, &key("unheard"), "value").await;
    {
        let mut waiting = std::pin::pin!(ear.events.next());
        assert!(waiting.as_mut().now_or_never().is_none(), "nothing is to be told");
        listener.join(&early);
        listener.join(&late);
        let event = terrace_testkit::wait::within("the joining", terrace_testkit::wait::DEADLINE, waiting);
        let Some(BusEvent::Joined { namespace, .. }) = event.await else { panic!("it is joined") };
        assert_eq!(namespace, late, "joining again changes nothing");
    }
    set(&writer, &late, &key("late"), "value").await;
    set(&writer, &early, &key("early"), "value").await;
    assert_eq!(ear.message(&late).await.1.change, Change::Set(key("late")));
    assert_eq!(ear.message(&early).await.1.change, Change::Set(key("early")));
}

#[tokio::test]
async fn nothing_is_missed_that_is_published_while_a_namespace_is_joined() {
    let Some(shared) = Shared::find().await else { return };
    let [writer, listener] = nodes(&shared, 1);
    let mut ear = Ear::of(&listener);
    for round in 0..20 {
        let busy = namespace(&format!("busy{round}"));
        writer.open(&busy).await.expect("it opens");
        let last = key("last");
        let writing = async {
            for index in 0..50 {
                set(&writer, &busy, &key(&format!("key:{index}")), "value").await;
                if index == 10 {
                    listener.join(&busy);
                }
            }
            set(&writer, &busy, &last, "value").await;
        };
        let hearing = async {
            let mut chain = Chain::default();
            chain.joined(ear.joined(&busy).await[0]);
            loop {
                let message = ear.message(&busy).await.1;
                let step = chain.heard(&message);
                assert!(matches!(step, Step::Apply | Step::Known), "{step:?} after {message}");
                if message.change == Change::Set(last.clone()) {
                    return;
                }
            }
        };
        tokio::join!(writing, hearing);
    }
}

#[tokio::test]
async fn two_streams_of_a_node_hear_the_same() {
    let Some(shared) = Shared::find().await else { return };
    let node = shared.redis();
    let users = namespace("users");
    node.open(&users).await.expect("it opens");
    node.join(&users);
    let mut ears = [Ear::of(&node), Ear::of(&node)];
    for ear in &mut ears {
        ear.joined(&users).await;
    }
    set(&node, &users, &key("key"), "value").await;
    node.beat(1).await.expect("it succeeds");
    for ear in &mut ears {
        assert_eq!(ear.message(&users).await.1.origin, node.node(), "a node hears its own changes too");
        assert_eq!(ear.next().await, BusEvent::Beat(1));
    }
}

#[tokio::test]
async fn what_was_missed_is_read_from_the_logs() {
    let Some(shared) = Shared::find().await else { return };
    let node = shared.builder().partitions(300).build().expect("valid settings");
    let users = namespace("users");
    assert_eq!(node.counters(&users, 0..300).await.expect("they are read"), [Version::ZERO; 300]);
    let nothing = [(Partition(0), Version::ZERO), (Partition(1), Version::from(u64::MAX))];
    let found = node.changes_since(&users, &nothing).await.expect("they are read");
    assert!(found.iter().all(Vec::is_empty) && found.len() == 2, "{found:?}");

    node.open(&users).await.expect("it opens");
    let keys: Vec<_> = (0..3000).map(|index| key(&format!("key:{index}"))).collect();
    node.invalidate(&users, &keys).await.expect("they succeed");
    let counters = node.counters(&users, 0..300).await.expect("they are read");
    assert_eq!(counters.len(), 300);
    assert_eq!(node.counters(&users, 7..9).await.expect("they are read"), counters[7..9]);
    let whole: Vec<_> = (0..300).rev().map(|partition| (Partition(partition), Version::ZERO)).collect();
    let logs = node.changes_since(&users, &whole).await.expect("they are read");
    assert_eq!(logs.len(), 300);
    let mut raw = shared.raw().await;
    for ((partition, _), log) in whole.into_iter().zip(logs) {
        let messages = messages(&log);
        let last = messages.last().expect("opening has made a change of each");
        assert_eq!(last.number, counters[usize::from(partition.0)]);
        let name = physical(&shared.prefix, &users, partition, "log");
        assert_eq!(messages.len(), read_log(&mut raw, &name).await.len(), "the whole log");
        let middle = messages[messages.len() / 2].number;
        let rest = node.changes_since(&users, &[(partition, middle)]).await.expect("they are read");
        assert_eq!(rest[0], log[messages.len() / 2 + 1..], "what came after, without the number itself");
    }
}

#[tokio::test]
async fn changes_in_another_database_are_not_heard() {
    let Some(server) = RedisServer::start().await else { return };
    let [zero, three] =
        [0, 3].map(|number| adapter(&server).partitions(1).database(number).build().expect("valid"));
    let users = namespace("users");
    for node in [&zero, &three] {
        node.open(&users).await.expect("it opens");
        node.join(&users);
    }
    let mut ears = [Ear::of(&zero), Ear::of(&three)];
    for ear in &mut ears {
        ear.joined(&users).await;
    }
    set(&zero, &users, &key("in zero"), "value").await;
    set(&three, &users, &key("in three"), "value").await;
    for (ear, text) in ears.iter_mut().zip(["in zero", "in three"]) {
        assert_eq!(ear.message(&users).await.1.change, Change::Set(key(text)));
    }
    zero.beat(1).await.expect("it succeeds");
    assert_eq!(ears[0].next().await, BusEvent::Beat(1), "and nothing before it");
}

#[tokio::test]
async fn what_strangers_publish_is_passed_over_or_handed_on_as_it_is() {
    let Some(shared) = Shared::find().await else { return };
    let node = shared.builder().partitions(1).node_id(0xab).build().expect("valid settings");
    let users = Namespace::new("users").expect("valid");
    node.join(&users);
    let mut ear = Ear::of(&node);
    ear.joined(&users).await;
    let mut raw = shared.raw().await;
    let beats = format!("{}1:beat:00000000000000ab", shared.prefix);
    let channel = physical(&shared.prefix, &users, Partition(0), "c");
    for (channel, message) in [(&beats, &b"x"[..]), (&channel, &b"\xff\0"[..]), (&beats, &b"5"[..])] {
        redis::cmd("PUBLISH").arg(channel).arg(message).exec_async(&mut raw).await.expect("it is published");
    }
    let BusEvent::Heard { partition, bytes, .. } = ear.next().await else { panic!("it is handed on") };
    assert_eq!((partition, &*bytes), (Partition(0), &b"\xff\0"[..]));
    assert!(Message::parse(&bytes).is_err());
    assert_eq!(ear.next().await, BusEvent::Beat(5));
}
