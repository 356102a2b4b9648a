//! What does it cost to kill many entries at once?
//!
//! A tag is bumped and a pattern is swept, again and again, on a Redis that holds few keys, and then on one that holds many which the
//! pattern names. Both are one short script per shard or partition, whatever the number: the tables show whether that is
//! so. What is dead is removed in the background meanwhile, which takes its share of the server's time.

use anyhow::{Result, ensure};
use std::time::Duration;
use terrace::{Cache, Clock, Keyspace, Redis, Tag};
use terrace_testkit::server::RedisServer;
use tokio::runtime::Builder;

/// Keys that a small server holds, and a large one.
const FEW: usize = 10_000;
const MANY: usize = 10_000_000;
/// Entries that have the tag.
const TAGGED: usize = 100_000;
const PUT_AT_ONCE: usize = 1000;
/// Each round does so many of each.
const AT_ONCE: usize = 20;

/// Measures latencies with few keys and with many.
pub(crate) fn run(rounds: usize) -> Result<()> {
    println!("## Many entries at once\n");
    println!(
        "| keys in Redis | operation | p50 | p99 | longest | in the server, per script |\n|---|---|---|---|---|---|"
    );
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for keys in [FEW, MANY] {
        runtime.block_on(measure(keys, rounds))?;
    }
    println!();
    Ok(())
}

async fn measure(keys: usize, rounds: usize) -> Result<()> {
    let builder = RedisServer::builder().setting("enable-debug-command", "yes");
    let Some(server) = builder.start().await else { return Ok(()) };
    let cache = Cache::builder().no_l1().l2(Redis::url(&server.url())?.build()?).build()?;
    let tag = Tag::new("org:7")?;
    let tagger =
        move |key: &String, _: &u64| key.starts_with("tagged:").then(|| tag.clone()).into_iter().collect();
    let users = cache.keyspace::<String, u64>("users").ttl(Duration::from_hours(24)).tags(tagger).build()?;
    fill(&server, &users, keys).await?;
    let times = rounds * AT_ONCE;
    let tag = async || users.invalidate().tag("org:7")?.send().await.map_err(anyhow::Error::from);
    report(&server, keys, "a tag of 100,000 entries", times, async || tag().await.map(drop)).await?;
    ensure!(users.get("tagged:1").await?.is_none(), "the tag was bumped");
    let sweep = async || users.invalidate().pattern("user:*")?.send().await.map_err(anyhow::Error::from);
    report(&server, keys, "the pattern `user:*`", times, async || sweep().await.map(drop)).await?;
    ensure!(users.get("user:1").await?.is_none(), "the pattern was swept");
    Ok(())
}

/// Stores entries with a tag, and so many keys that the pattern names.
async fn fill(server: &RedisServer, users: &Keyspace<String, u64>, keys: usize) -> Result<()> {
    users.put(&"user:1".to_owned(), 1).await?;
    server.cli(&["debug", "populate", &keys.to_string(), "terrace:1:{users.0}:d:user", "64"]).await;
    for first in (0..TAGGED).step_by(PUT_AT_ONCE) {
        users.put_many((first..first + PUT_AT_ONCE).map(|number| (format!("tagged:{number}"), 1))).await?;
    }
    Ok(())
}

async fn report(
    server: &RedisServer,
    keys: usize,
    what: &str,
    times: usize,
    act: impl AsyncFn() -> Result<()>,
) -> Result<()> {
    let clock = Clock::system();
    server.cli(&["config", "resetstat"]).await;
    let mut taken = Vec::with_capacity(times);
    for _ in 0..times {
        let begun = clock.precise();
        act().await?;
        taken.push(clock.precise().since(begun));
    }
    taken.sort_unstable();
    let scripts = server.cli(&["info", "commandstats"]).await;
    let per_call = scripts.lines().find_map(|line| {
        let fields = line.strip_prefix("cmdstat_evalsha:")?;
        fields.split(',').find_map(|field| field.strip_prefix("usec_per_call="))
    });
    let (half, late) = (taken[times / 2], taken[times * 99 / 100]);
    let longest = taken[times - 1];
    println!(
        "| {keys} | {what} | {half:.1?} | {late:.1?} | {longest:.1?} | {} µs |",
        per_call.unwrap_or("?")
    );
    Ok(())
}
