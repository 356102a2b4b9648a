//! What does an L2 that is slow cost a hit in L1?
//!
//! Two nodes with keyspaces of their own, one at the end of a good road to Redis and one at the end of a road that takes a second each way, so that a
//! call takes two. Beside both, all the time, loads of what nobody has go through all tiers. Hits of the two are timed in turn, round
//! by round, in groups: one by one, the clock would be what is measured. A group's time is its mean, and the 99th of 100 groups is a row.

use anyhow::Result;
use futures_util::FutureExt;
use std::convert::Infallible;
use std::time::Duration;
use terrace::{Cache, Clock, Keyspace, Redis};
use terrace_bench_harness::rounds::{self, Contender};
use terrace_bench_harness::table;
use terrace_testkit::server::{Proxy, RedisServer, Road};
use terrace_testkit::wait::pause;
use tokio::runtime::Builder;

const HOUR: Duration = Duration::from_hours(1);
const EACH_WAY: Duration = Duration::from_secs(1);
const GROUP: usize = 64;
const GROUPS: usize = 20_000;
/// Callers that load what nobody has, meanwhile, and how long each pauses.
const LOADERS: u64 = 8;
const PAUSE: Duration = Duration::from_millis(1);
const HOT: u64 = u64::MAX;

type Numbers = Keyspace<u64, u64>;

/// Measures the slowest hits.
pub(crate) fn run(rounds: usize) -> Result<()> {
    println!("## Hits in L1 while L2 is slow\n");
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let _inside = runtime.enter();
    let Some(server) = runtime.block_on(RedisServer::start()) else { return Ok(()) };
    let (near, _near_road) = runtime.block_on(node(&server, "near", Road::Open))?;
    let (far, _far_road) = runtime.block_on(node(&server, "far", Road::Slow(EACH_WAY)))?;
    for numbers in [&near, &far] {
        for loader in 0..LOADERS {
            crate::tasks::spawn(&runtime, load_for_ever(numbers.clone(), loader));
        }
    }
    let contenders = || {
        vec![
            Contender::new("L2 at the end of a good road", || Ok(quantile(&near, 99))),
            Contender::new("L2 that takes 2 s", || Ok(quantile(&far, 99))),
        ]
    };
    table::print("99th of 100", "ns per hit", 1, &rounds::measure("99th of 100", rounds, contenders())?);
    Ok(())
}

/// A node that has the hot key in L1. Its copies stay trusted: what hits cost is measured, not what is done with those that are not.
async fn node(server: &RedisServer, name: &str, road: Road) -> Result<(Numbers, Proxy)> {
    let proxy = Proxy::start(server.port()).await;
    let redis = Redis::address(&proxy.address()).build()?;
    let cache = Cache::builder().default_ttl(HOUR).staleness_max(HOUR).l2(redis).build()?;
    let numbers: Numbers = cache.keyspace(name).build()?;
    numbers.put(&HOT, 7).await?;
    while !is_hit(&numbers) {
        pause(PAUSE).await;
        numbers.get(&HOT).await?;
    }
    proxy.roads(road, road);
    Ok((numbers, proxy))
}

async fn load_for_ever(numbers: Numbers, loader: u64) {
    for count in 0_u64.. {
        let key = loader << 32 | count;
        let load = move || async move { Ok::<_, Infallible>(key) };
        if numbers.get_or_load(&key, load).await.is_err() {
            return; // the cache is gone, and the benchmark over
        }
        pause(PAUSE).await;
    }
}

/// Whether a read has its value at its first poll: nothing but L1 is that quick.
fn is_hit(numbers: &Numbers) -> bool {
    matches!(numbers.get(&HOT).now_or_never(), Some(Ok(Some(_))))
}

/// What so many percent of the groups took at most, in nanoseconds per hit.
fn quantile(numbers: &Numbers, percent: usize) -> f64 {
    let clock = Clock::system();
    let group = |_| {
        let begun = clock.precise();
        for _ in 0..GROUP {
            assert!(is_hit(numbers), "every read of this benchmark is a hit in L1");
        }
        clock.precise().since(begun).as_secs_f64() * 1e9 / GROUP as f64
    };
    let mut times: Vec<f64> = (0..GROUPS).map(group).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() * percent / 100]
}
