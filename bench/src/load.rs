//! What does it cost to be ready to load, and to wait for a load together?
//!
//! A hit through `get_or_load` is compared with one through `get`, on the same keyspace. For the wait, a number of callers of one
//! key that nobody has come while its load is held; what is measured is the time from the end of the load until the last
//! of them has its value. A load is a load of its own for each round, so each round has a key of its own.

use crate::tasks;
use anyhow::{Result, ensure};
use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use terrace::{Cache, Clock, EntryOptions, Keyspace, L1};
use terrace_bench_harness::keys::Random;
use terrace_bench_harness::rounds::{self, Contender};
use terrace_bench_harness::{table, threads};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Notify;

const ENTRIES: usize = 10_000;
const CAPACITY: usize = 4 * ENTRIES;
const LOOKUPS: usize = 1 << 18;
const WARM_UP: usize = 8 * ENTRIES;
const VALUE_BYTES: usize = 256;
const TTL: Duration = Duration::from_hours(1);
/// Callers of one key.
const CALLERS: [usize; 2] = [100, 10_000];

type Value = Arc<Vec<u8>>;
type Blobs = Keyspace<u64, Vec<u8>>;

/// Compares hits, then waits.
pub(crate) fn run(rounds: usize) -> Result<()> {
    println!("## Loading\n");
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    hits(rounds, runtime.handle())?;
    for callers in CALLERS {
        waits(rounds, callers, &runtime)?;
    }
    Ok(())
}

fn value() -> Vec<u8> {
    vec![7; VALUE_BYTES]
}

fn blobs() -> Result<Blobs> {
    let cache = Cache::builder().l1(L1::entries(CAPACITY)).default_ttl(TTL).build()?;
    Ok(cache.keyspace("bench").build()?)
}

/// One way to look up many keys.
type LookUp<'a> = Box<dyn Fn(&[u64]) + Sync + 'a>;

/// Compares on two caches that have all keys.
fn hits(rounds: usize, handle: &Handle) -> Result<()> {
    let (blobs, moka) = (&blobs()?, &moka::future::Cache::<u64, Value>::new(CAPACITY as u64));
    for key in 0..ENTRIES as u64 {
        handle.block_on(blobs.put(&key, value()))?;
        handle.block_on(moka.insert(key, Arc::new(value())));
    }
    let mut random = Random::new(42);
    let order: Vec<u64> = (0..LOOKUPS).map(|_| random.index(ENTRIES) as u64).collect();
    let ways: Vec<(&'static str, LookUp<'_>)> =
        ours(blobs, handle).into_iter().chain(theirs(moka, handle)).collect();
    let measure = |look_up: &LookUp<'_>| {
        let warm_up = |_| look_up(&order[..WARM_UP]);
        threads::undisturbed(|| Ok(threads::time(1, LOOKUPS, warm_up, |_| look_up(&order))))
    };
    let contenders =
        ways.iter().map(|(name, look_up)| Contender::new(name, move || measure(look_up))).collect();
    let title = "A hit with a loader at hand, u64 keys, 1 thread";
    table::print(title, "ns per hit", 1, &rounds::measure(title, rounds, contenders)?);
    Ok(())
}

async fn never() -> Result<Vec<u8>, Infallible> {
    unreachable!("every lookup of this benchmark is a hit")
}

fn ours<'a>(blobs: &'a Blobs, handle: &'a Handle) -> [(&'static str, LookUp<'a>); 3] {
    let get = move |keys: &[u64]| {
        handle.block_on(async {
            for key in keys {
                found(blobs.get(key).await.ok().flatten());
            }
        });
    };
    let load = move |keys: &[u64]| {
        handle.block_on(async {
            for key in keys {
                found(blobs.get_or_load(key, never).await.ok());
            }
        });
    };
    let load_with = move |keys: &[u64]| {
        handle.block_on(async {
            for key in keys {
                let options = EntryOptions::new().ttl(TTL).grace(TTL);
                found(blobs.get_or_load_with(key, options, never).await.ok());
            }
        });
    };
    [
        ("terrace, `get`", Box::new(get)),
        ("terrace, `get_or_load`", Box::new(load)),
        ("terrace, `get_or_load_with`", Box::new(load_with)),
    ]
}

fn theirs<'a>(
    moka: &'a moka::future::Cache<u64, Value>,
    handle: &'a Handle,
) -> [(&'static str, LookUp<'a>); 2] {
    let get = move |keys: &[u64]| {
        handle.block_on(async {
            for key in keys {
                found(moka.get(key).await);
            }
        });
    };
    let load = move |keys: &[u64]| {
        handle.block_on(async {
            for key in keys {
                found(Some(moka.get_with(*key, async { unreachable!("every lookup is a hit") }).await));
            }
        });
    };
    [("moka, future, `get`", Box::new(get)), ("moka, future, `get_with`", Box::new(load))]
}

#[inline]
fn found(value: Option<Value>) {
    assert!(black_box(value).is_some(), "every lookup of this benchmark is a hit");
}

/// A load that ends when it is told to, and notes when it did.
#[derive(Clone, Default)]
struct Held(Arc<Notify>);

impl Held {
    async fn value(self) -> Vec<u8> {
        self.0.notified().await;
        value()
    }
}

fn waits(rounds: usize, callers: usize, runtime: &Runtime) -> Result<()> {
    let blobs = blobs()?;
    let moka = moka::future::Cache::<u64, Value>::new(CAPACITY as u64);
    let merger = uniflight::Merger::<u64, Value>::new();
    let (mut ours, mut theirs, mut bare) = (0, 0, 0);
    let contenders = vec![
        Contender::new("uniflight, nothing kept", || {
            bare += 1;
            runtime.block_on(wait(callers, |held| {
                let merger = merger.clone();
                async move { merger.execute(&bare, || async { Arc::new(held.value().await) }).await.ok() }
            }))
        }),
        Contender::new("moka, `get_with`", || {
            theirs += 1;
            runtime.block_on(wait(callers, |held| {
                let moka = moka.clone();
                async move { Some(moka.get_with(theirs, async { Arc::new(held.value().await) }).await) }
            }))
        }),
        Contender::new("terrace, `get_or_load`", || {
            ours += 1;
            runtime.block_on(wait(callers, |held| {
                let blobs = blobs.clone();
                let loader = async move || Ok::<_, Infallible>(held.value().await);
                async move { blobs.get_or_load(&ours, loader).await.ok() }
            }))
        }),
    ];
    let title = format!("{callers} callers of one key, 2 threads");
    let rows = rounds::measure(&title, rounds, contenders)?;
    table::print(&title, "µs from the end of the load to the last answer", 1, &rows);
    Ok(())
}

/// Microseconds from the end of the load until the last of the callers has its value.
async fn wait<F>(callers: usize, call: impl Fn(Held) -> F) -> Result<f64>
where
    F: Future<Output = Option<Value>> + Send + 'static,
{
    let (held, clock) = (Held::default(), Clock::system());
    let waiting = tasks::all_waiting((0..callers).map(|_| call(held.clone()))).await;
    let begun = clock.precise();
    held.0.notify_one();
    let answered = waiting.join_all().await.iter().flatten().count();
    let took = clock.precise().since(begun);
    ensure!(answered == callers, "{answered} of {callers} callers have an answer");
    Ok(took.as_secs_f64() * 1e6)
}
