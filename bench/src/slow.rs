//! What does an L2 that is slow cost a hit in L1? The same hits are timed beside loads that go through a Redis at the end of a good
//! road, and of one that takes a second each way: in turn, round by round, in one process.

use anyhow::Result;
use std::convert::Infallible;
use std::time::Duration;
use terrace::{Cache, Clock, Keyspace, Redis};
use terrace_testkit::server::{Proxy, RedisServer, Road};
use tokio::runtime::Builder;

const HOUR: Duration = Duration::from_hours(1);
/// Of which there are two in a call.
const SLOW: Duration = Duration::from_secs(1);
/// Hits that are timed together: one by one the clock would be what is measured.
const GROUP: usize = 64;
const GROUPS: usize = 20_000;
/// Callers that load what nobody has, meanwhile.
const LOADERS: usize = 8;

struct Node {
    numbers: Keyspace<u64, u64>,
    proxy: Proxy,
}

/// Measures quantiles of hits.
pub(crate) fn run(rounds: usize) -> Result<()> {
    println!("## Hits in L1 while L2 is slow\n");
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let Some(server) = runtime.block_on(RedisServer::start()) else { return Ok(()) };
    let good = runtime.block_on(node(&server))?;
    let slow = runtime.block_on(node(&server))?;
    slow.proxy.roads(Road::Slow(SLOW), Road::Slow(SLOW));
    for node in [&good, &slow] {
        for loader in 0..LOADERS {
            crate::tasks::spawn(&runtime, load_for_ever(node.numbers.clone(), loader as u64));
        }
    }
    let (mut of_good, mut of_slow) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        of_good.push(quantiles(&good.numbers));
        of_slow.push(quantiles(&slow.numbers));
    }
    println!("| hits | p50 | p99 | p99 against a good road |\n|---|---:|---:|---:|");
    let ratio: Vec<f64> = of_good.iter().zip(&of_slow).map(|(good, slow)| slow.1 / good.1).collect();
    for (name, times, ratio) in
        [("a good road", &of_good, None), ("a second each way", &of_slow, Some(median(ratio)))]
    {
        let p50 = median(times.iter().map(|times| times.0).collect());
        let p99 = median(times.iter().map(|times| times.1).collect());
        let ratio = ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
        println!("| {name} | {p50:.1} ns | {p99:.1} ns | {ratio} |");
    }
    println!();
    Ok(())
}

async fn node(server: &RedisServer) -> Result<Node> {
    let proxy = Proxy::start(server.port()).await;
    let redis = Redis::address(&proxy.address()).build()?;
    // Copies stay trusted: what hits cost is measured, not what is done with those that are not.
    let cache = Cache::builder().default_ttl(HOUR).staleness_max(HOUR).l2(redis).build()?;
    let numbers = cache.keyspace("numbers").build()?;
    numbers.put(&u64::MAX, 7).await?;
    Ok(Node { numbers, proxy })
}

async fn load_for_ever(numbers: Keyspace<u64, u64>, loader: u64) {
    for n in 0_u64.. {
        let key = loader << 32 | n;
        let load = move || async move { Ok::<_, Infallible>(key) };
        numbers.get_or_load(&key, load).await.expect("the loader does not fail");
        terrace_testkit::wait::pause(Duration::from_millis(1)).await;
    }
}

/// The median and the 99th of 100 of what a hit took, in nanoseconds, by the mean of each group.
fn quantiles(numbers: &Keyspace<u64, u64>) -> (f64, f64) {
    let clock = Clock::system();
    let mut times: Vec<f64> = (0..GROUPS)
        .map(|_| {
            let begun = clock.precise();
            for _ in 0..GROUP {
                let hit = futures_util::FutureExt::now_or_never(numbers.get(&u64::MAX));
                assert!(matches!(hit, Some(Ok(Some(_)))), "every read of this benchmark is a hit");
            }
            clock.precise().since(begun).as_secs_f64() * 1e9 / GROUP as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
