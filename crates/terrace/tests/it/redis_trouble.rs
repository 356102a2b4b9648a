//! A real Redis at the end of a road that gets as bad as roads get: what reads wait for, and when it is asked again.

use crate::fixture::HOUR;
use std::convert::Infallible;
use std::time::Duration;
use terrace::{Breaker, BreakerState, Cache, CacheBuilder, Clock, Keyspace, Redis};
use terrace_testkit::server::{Proxy, RedisServer, Road};
use terrace_testkit::wait::{pause, until};

const WAIT: Duration = CacheBuilder::L2_WAIT_MAX_DEFAULT;
const OPEN: Duration = Duration::from_secs(1);

struct Bad {
    name: &'static str,
    to_server: Road,
    to_client: Road,
}

/// The longest of the shortest 99 of 100; of fewer, the longest.
fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[(times.len() * 99).div_ceil(100) - 1]
}

struct Node {
    cache: Cache,
    numbers: Keyspace<u64, u64>,
    clock: Clock,
    next: u64,
}

impl Node {
    async fn on(proxy: &Proxy) -> Self {
        let redis = Redis::address(&proxy.address()).build().expect("valid settings");
        let breaker = Breaker::default().min_calls(8).open(OPEN).ramp(OPEN);
        // Copies stay trusted: what hits cost is measured, not what is done with those that are not.
        let cache = Cache::builder().default_ttl(HOUR).staleness_max(HOUR).breaker(breaker).l2(redis);
        let cache = cache.build().expect("valid settings");
        let numbers = cache.keyspace("numbers").build().expect("a new keyspace");
        let node = Self { cache, numbers, clock: Clock::system(), next: 0 };
        node.numbers.put(&u64::MAX, 7).await.expect("it can be stored");
        node
    }

    fn state(&self) -> BreakerState {
        self.cache.breaker().expect("there is one").state
    }

    /// How long a load of a key that nobody has takes, through all tiers.
    async fn miss(&mut self) -> Duration {
        self.next += 1;
        let (key, since) = (self.next, self.clock.precise());
        let loaded = self.numbers.get_or_load(&key, move || async move { Ok::<_, Infallible>(key) }).await;
        assert_eq!(*loaded.expect("the loader does not fail"), key);
        self.clock.precise().since(since)
    }

    /// How long a hit in L1 takes, in the worst of 99 of 100.
    fn hits(&self) -> Duration {
        let hit = |_| {
            let since = self.clock.precise();
            assert!(self.numbers.peek(&u64::MAX).is_some());
            self.clock.precise().since(since)
        };
        p99((0..10_000).map(hit).collect())
    }
}

#[tokio::test]
async fn hung_half_open_and_slow_servers_cost_a_read_what_it_may_wait_and_then_nothing() {
    let Some(server) = RedisServer::start().await else { return };
    let slow = Road::Slow(Duration::from_millis(200));
    let roads = [
        Bad { name: "200 ms each way", to_server: slow, to_client: slow },
        Bad { name: "half-open", to_server: Road::Blocked, to_client: Road::Blocked },
        Bad { name: "replies do not come", to_server: Road::Open, to_client: Road::Blocked },
        Bad { name: "one byte a second", to_server: Road::Open, to_client: Road::Trickle },
    ];
    for Bad { name, to_server, to_client } in roads {
        let proxy = Proxy::start(server.port()).await;
        let mut node = Node::on(&proxy).await;
        node.hits();
        let baseline = node.hits();
        proxy.roads(to_server, to_client);
        let since = node.clock.precise();
        let mut misses = Vec::new();
        while node.state() == BreakerState::Closed {
            misses.push(node.miss().await);
            assert!(misses.len() < 200, "{name}: it is left alone at last");
        }
        let opened = node.clock.precise().since(since);
        let hits = node.hits();
        let mut after = Vec::new();
        for _ in 0..200 {
            after.push(node.miss().await);
        }
        proxy.unblock();
        let since = node.clock.precise();
        until("it to be asked again", || node.state() == BreakerState::Closed).await;
        let closed = node.clock.precise().since(since);
        pause(OPEN).await;
        let (worst, then) = (p99(misses.clone()), p99(after));
        println!(
            "{name}: opened after {opened:.2?} and {} misses, p99 {worst:.1?} of {WAIT:?}; open: p99 {then:.1?}; closed \
             {closed:.2?} after the road was good again; L1 p99 {hits:?}, before {baseline:?}, ratio {:.2}",
            misses.len(),
            hits.as_secs_f64() / baseline.as_secs_f64(),
        );
        assert!(worst < WAIT * 2, "{name}: {worst:?}");
        assert!(then < WAIT / 2, "{name}: {then:?}");
    }
}
