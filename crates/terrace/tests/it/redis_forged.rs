//! Somebody who may publish on the channels of a fleet and tells it lies: nodes forget, and nothing old becomes fresh.
//!
//! 1. Who lies knows more than a channel tells: the last number of a partition, so that a forged message can be the next of its chain, and
//!    the last messages of its log, which are told again as they are and with a byte changed.
//! 2. Most are told in floods, of the keys that are read. Now and then there is one alone, of another key and with a number far ahead, and
//!    silence after it: copies stay then, and the changes that come have numbers that were told already.
//! 3. Values cannot be forged so, because no message carries one. What is checked is K2, as where a server is ill-treated.
//!
//! Deliberately absent: beats that are forged, and numbers that are guessed before they are given out. Against those there is no proof:
//! who may publish is trusted that far.

use crate::fixture::spawn;
use crate::redis_fleet::{KEYS, LEASE, Watch, node, reader, writer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use terrace::{Namespace, Redis};
use terrace_core::Partition;
use terrace_testkit::server::RedisServer;
use terrace_testkit::wait::{pause, until};
use tokio::task::JoinHandle;

/// Forged messages in the short form; `TERRACE_TEST_FORGERIES` sets another number.
const FORGERIES: u64 = 3_000;
const FORGED_AT_ONCE: u64 = 50;
/// Floods between two that are told alone.
const FLOODS: u64 = 20;

/// Publishes messages in the name of others, which change nothing at the server.
const FORGE: &str = "math.randomseed(tonumber(ARGV[2])) \
    local seq, key = redis.call('HGET', KEYS[1], 'seq') or '0', ARGV[3] \
    local told = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 8) \
    local changes = { 'set ' .. key, 'invalidate ' .. key, 'refresh ' .. key, 'floor ', 'hello ', 'sweep ', 'sweep x*', \
                      'tag t', 'nothing ' .. key, 'ended ' .. key } \
    local number = function(above) return string.format('%.0f', tonumber(seq) + above) end \
    local message = function(previous, own) \
      return '1 ' .. previous .. ' ' .. own .. ' 00000000000000ff ' .. changes[math.random(#changes)] \
    end \
    for turn = 1, ARGV[1] do \
      local kind = math.random(6) \
      local old = #told > 0 and told[math.random(#told)][2][2] or '' \
      local forged = old \
      if ARGV[1] == '1' then forged = '1 ' .. seq .. ' ' .. number(1000000) .. ' 00000000000000ff invalidate other' kind = 0 end \
      if kind == 2 then forged = message(seq, number(math.random(1000000))) end \
      if kind == 3 then forged = message(number(-math.random(1000)), number(math.random(1000))) end \
      if kind == 4 then forged = message(seq, seq) end \
      if kind == 5 and #old > 0 then \
        local at = math.random(#old) \
        forged = old:sub(1, at - 1) .. string.char(math.random(0, 255)) .. old:sub(at + 1) \
      end \
      if kind == 6 then forged = '' for byte = 1, math.random(60) do forged = forged .. string.char(math.random(0, 255)) end end \
      redis.call('PUBLISH', KEYS[3], forged) \
    end \
    return ARGV[1]";

/// Publishes so many in the partition of a key.
async fn forge(server: &RedisServer, key: u64, count: u64, seed: u64) {
    let (namespace, key) = (Namespace::new("numbers").expect("valid"), key.to_string());
    let partition = Partition::of(&namespace, &key, Partition::COUNT_DEFAULT).0;
    let [counter, log, channel] =
        ["s", "log", "c"].map(|kind| format!("terrace:1:{{{namespace}.{partition}}}:{kind}"));
    let (count, seed) = (count.to_string(), seed.to_string());
    let words = ["EVAL", FORGE, "3", &counter, &log, &channel, &count, &seed, &key];
    let told = server.cli(&words).await;
    assert_eq!(told.trim().trim_matches('"'), count, "the script runs");
}

fn forger(watch: &Arc<Watch>, server: &Arc<RedisServer>, forged: &Arc<AtomicU64>) -> JoinHandle<()> {
    let (watch, server, forged) = (Arc::clone(watch), Arc::clone(server), Arc::clone(forged));
    spawn(async move {
        for turn in 1_u64.. {
            if watch.is_over() {
                return;
            }
            if turn % FLOODS == 1 {
                for key in 0..KEYS {
                    forge(&server, key, 1, turn).await;
                }
                forged.fetch_add(KEYS, Ordering::Relaxed);
                pause(LEASE * 3).await;
            }
            forge(&server, turn % KEYS, FORGED_AT_ONCE, turn).await;
            forged.fetch_add(FORGED_AT_ONCE, Ordering::Relaxed);
            pause(Duration::from_millis(5)).await;
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_messages_make_nodes_forget_and_nothing_old_fresh() {
    let Some(server) = RedisServer::start().await else { return };
    let wanted = std::env::var("TERRACE_TEST_FORGERIES").ok().map(|count| count.parse().expect("a number"));
    let wanted: u64 = wanted.unwrap_or(FORGERIES);
    let nodes = [(); 2].map(|()| node(Redis::address(&server.address())));
    let (server, watch, forged) = (Arc::new(server), Watch::new(), Arc::new(AtomicU64::new(0)));
    let mut tasks = vec![writer(&watch, &nodes[0].1), forger(&watch, &server, &forged)];
    for ((_, numbers), first) in nodes.iter().zip(0..) {
        tasks.push(reader(&watch, numbers, first));
    }
    while forged.load(Ordering::Relaxed) < wanted && tasks.iter().all(|task| !task.is_finished()) {
        pause(Duration::from_millis(20)).await;
    }
    let calm = watch.fresh.load(Ordering::Relaxed);
    until("fresh reads meanwhile", || watch.fresh.load(Ordering::Relaxed) > calm + 1000).await;
    watch.is_over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    }
    let (fresh, stale) = (watch.fresh.load(Ordering::Relaxed), watch.stale.load(Ordering::Relaxed));
    let forged = forged.load(Ordering::Relaxed);
    println!("{forged} forged messages: {fresh} fresh reads, none older than a lease, {stale} stale ones");
}
