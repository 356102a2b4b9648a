//! What does a hit in memory cost?
//!
//! 10,000 entries, all of them there, looked up in one random order that is the same for everybody. Values are shared
//! 256 bytes, handed out as a new reference. A keyspace's entries have a TTL of an hour, and so have those of the engine
//! that it is compared with. Peers keep entries without one, which is the faster way for them. Each contender is filled by
//! itself: entries that lie between another's would cost lookups of pages that are not the contender's doing.

use anyhow::{Result, ensure};
use equivalent::Equivalent;
use std::hash::{Hash, Hasher};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use terrace::{CacheKey, Keyspace, L1};
use terrace_bench_harness::keys::Random;
use terrace_bench_harness::rounds::{self, Contender};
use terrace_bench_harness::{table, threads};
use terrace_core::{Clock, Moment};
use terrace_memory::{Memory, Text};
use terrace_testkit::fake::FakeRemote;
use tokio::runtime::{Builder, Handle};

const ENTRIES: usize = 10_000;
/// Room enough that nobody evicts, however unevenly keys fall into shards.
const CAPACITY: usize = 4 * ENTRIES;
const LOOKUPS: usize = 1 << 18;
/// So many are done before, untimed: others have just filled the processor's caches with theirs. Each entry is found a few times.
const WARM_UP: usize = 8 * ENTRIES;
const VALUE_BYTES: usize = 256;
const TTL: Duration = Duration::from_hours(1);

type Value = Arc<Vec<u8>>;

/// Looks up the keys of these indices, one after the other.
type LookUp<'a> = Box<dyn Fn(&[usize]) + Sync + 'a>;

/// Compares hits by string keys and by integer keys, at one thread and at two.
pub(crate) fn run(rounds: usize) -> Result<()> {
    println!("## A hit in memory\n");
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _inside = runtime.enter();
    let order = random_order();
    let texts: Vec<String> = (0..ENTRIES).map(|index| format!("user:{index:019}")).collect();
    let mut by_text = bare(&texts, |text| Text::from(text.as_str()), String::as_str)?;
    by_text.extend(common(&texts, runtime.handle())?);
    by_text.push(cachet(&texts, runtime.handle())?);
    by_text.extend(amalgam(&texts, runtime.handle())?);
    compare("24-byte string keys", rounds, &order, &by_text)?;
    drop(by_text);
    let numbers: Vec<u64> = (0..ENTRIES as u64).collect();
    let mut by_number = bare(&numbers, |number| *number, |number| number)?;
    by_number.extend(common(&numbers, runtime.handle())?);
    by_number.push(cachet(&numbers, runtime.handle())?);
    compare("u64 keys", rounds, &order, &by_number)
}

fn compare(keys: &str, rounds: usize, order: &[usize], ways: &[(&'static str, LookUp<'_>)]) -> Result<()> {
    for threads in [1, 2] {
        let title = format!("{keys}, {threads} thread{}", if threads == 1 { "" } else { "s" });
        let contenders = ways
            .iter()
            .map(|(name, look_up)| Contender::new(name, move || per_lookup(threads, order, look_up)))
            .collect();
        table::print(&title, "ns per hit", 1, &rounds::measure(&title, rounds, contenders)?);
    }
    Ok(())
}

/// A key of the engine as the library has it: within a namespace, which has a number.
#[derive(Clone, PartialEq, Eq)]
struct Named<K>(K, u32);

/// [`Named`] by reference.
struct NamedRef<'a, Q: ?Sized>(&'a Q, u32);

impl<K: Hash> Hash for Named<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        NamedRef(&self.0, self.1).hash(state);
    }
}

impl<Q: Hash + ?Sized> Hash for NamedRef<'_, Q> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
        state.write_u32(self.1);
    }
}

impl<K, Q: Equivalent<K> + ?Sized> Equivalent<Named<K>> for NamedRef<'_, Q> {
    fn equivalent(&self, key: &Named<K>) -> bool {
        self.1 == key.1 && self.0.equivalent(&key.0)
    }
}

/// The engine of terrace by itself, with the keys and the TTL that a keyspace's entries have, and with less.
fn bare<K: Sync, E, Q>(
    keys: &[K],
    owned: fn(&K) -> E,
    borrowed: fn(&K) -> &Q,
) -> Result<Vec<(&'static str, LookUp<'_>)>>
where
    E: Hash + Eq + Clone + Send + Sync + 'static,
    Q: Hash + Equivalent<E> + ?Sized + 'static,
{
    let clock = Clock::system();
    let space = black_box(1);
    let named = Memory::<Named<E>, Value>::builder().entries_max(CAPACITY).clock(clock.clone()).build()?;
    for key in keys {
        named.insert(Named(owned(key), space), value(), 0, clock.now().plus(TTL));
    }
    let alone = Memory::<E, Value>::builder().entries_max(CAPACITY).build()?;
    for key in keys {
        alone.insert(owned(key), value(), 0, Moment::NEVER);
    }
    Ok(vec![
        (
            "terrace, bare engine",
            Box::new(move |order| {
                each(order, |index| named.get(&NamedRef(borrowed(&keys[index]), space)));
            }),
        ),
        (
            "terrace, bare engine, no namespace, no TTL",
            Box::new(move |order| each(order, |index| alone.get(borrowed(&keys[index])))),
        ),
    ])
}

/// A cache of several tiers over moka.
fn cachet<'a, K>(keys: &'a [K], handle: &'a Handle) -> Result<(&'static str, LookUp<'a>)>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
{
    let cache: cachet::Cache<K, Value> = {
        let _inside = handle.enter();
        cachet::Cache::builder(tick::Clock::new_tokio()).memory().ttl(TTL).build()
    };
    for key in keys {
        handle.block_on(cache.insert(key.clone(), cachet::CacheEntry::new(value())))?;
    }
    let look_up = move |order: &[usize]| {
        handle.block_on(async {
            for &index in order {
                let entry = cache.get(&keys[index]).await.ok().flatten();
                found(entry.map(|entry| Arc::clone(entry.value())));
            }
        });
    };
    Ok(("cachet", Box::new(look_up)))
}

/// The caches that take any type of key.
fn common<'a, K>(keys: &'a [K], handle: &'a Handle) -> Result<Vec<(&'static str, LookUp<'a>)>>
where
    K: CacheKey + Clone + Eq + Hash + Send + Sync + 'static,
{
    let bare = quick_cache::sync::Cache::new(CAPACITY);
    let sync = moka::sync::Cache::new(CAPACITY as u64);
    let future = moka::future::Cache::new(CAPACITY as u64);
    let ours = terrace::Cache::builder().l1(L1::entries(CAPACITY)).default_ttl(TTL).build()?;
    let ours = ours.keyspace::<K, Vec<u8>>("bench").build()?;
    for key in keys {
        bare.insert(key.clone(), value());
    }
    for key in keys {
        sync.insert(key.clone(), value());
    }
    for key in keys {
        handle.block_on(future.insert(key.clone(), value()));
    }
    for key in keys {
        handle.block_on(ours.put(key, vec![7; VALUE_BYTES]))?;
    }
    let hearing = hearing(keys, handle)?;
    let peeked = ours.clone();
    Ok(vec![
        ("quick_cache", Box::new(move |order| each(order, |index| bare.get(&keys[index])))),
        ("moka, sync", Box::new(move |order| each(order, |index| sync.get(&keys[index])))),
        (
            "moka, future",
            Box::new(move |order| {
                handle.block_on(async {
                    for &index in order {
                        found(future.get(&keys[index]).await);
                    }
                });
            }),
        ),
        ("terrace, `peek`", Box::new(move |order| each(order, |index| peeked.peek(&keys[index])))),
        ("terrace, `get`", Box::new(move |order| handle.block_on(get_each(&ours, keys, order)))),
        (
            "terrace, `get`, hearing of other nodes",
            Box::new(move |order| handle.block_on(get_each(&hearing, keys, order))),
        ),
    ])
}

async fn get_each<K: CacheKey + Clone + Send + Sync + 'static>(
    keyspace: &Keyspace<K, Vec<u8>>,
    keys: &[K],
    order: &[usize],
) {
    for &index in order {
        found(keyspace.get(&keys[index]).await.ok().flatten());
    }
}

/// A keyspace with an L2 behind it that tells of changes: a copy is fresh only while that is proven.
fn hearing<K>(keys: &[K], handle: &Handle) -> Result<Keyspace<K, Vec<u8>>>
where
    K: CacheKey + Clone + Send + Sync + 'static,
{
    let builder = terrace::Cache::builder().l1(L1::entries(CAPACITY).ttl(TTL)).default_ttl(TTL);
    let remote = FakeRemote::new(Clock::system()).hearing();
    let cache = builder.staleness_max(TTL).l2(remote).build()?;
    let keyspace = cache.keyspace("bench").build()?;
    for key in keys {
        handle.block_on(keyspace.put(key, vec![7; VALUE_BYTES]))?;
    }
    ensure!(keys.iter().all(|key| keyspace.peek(key).is_some()), "every value is kept in L1");
    Ok(keyspace)
}

/// The cache whose keys are text.
fn amalgam<'a>(keys: &'a [String], handle: &'a Handle) -> Result<Vec<(&'static str, LookUp<'a>)>> {
    let builder = || {
        amalgam::Cache::builder()
            .max_capacity(CAPACITY as u64)
            .default_options(amalgam::EntryOptions::new(TTL))
    };
    let future = builder().try_build()?;
    let blocking = amalgam::BlockingCache::from_builder(builder())?;
    for key in keys {
        handle.block_on(async { future.set(key, value()).await })?;
    }
    for key in keys {
        blocking.set(key, value()).execute()?;
    }
    Ok(vec![
        (
            "amalgam-cache, blocking",
            Box::new(move |order| {
                each(order, |index| blocking.try_get(&keys[index]).execute().ok().flatten());
            }),
        ),
        (
            "amalgam-cache, async",
            Box::new(move |order| {
                handle.block_on(async {
                    for &index in order {
                        found(future.try_get(&keys[index]).await.ok().flatten());
                    }
                });
            }),
        ),
    ])
}

fn value() -> Value {
    Arc::new(vec![7; VALUE_BYTES])
}

/// A lookup that did not find its value would be measured as a fast one.
#[inline]
fn found(value: Option<Value>) {
    assert!(black_box(value).is_some(), "every lookup of this benchmark is a hit");
}

#[inline]
fn each(order: &[usize], look_up: impl Fn(usize) -> Option<Value>) {
    for &index in order {
        found(look_up(index));
    }
}

/// Indices of entries in a random order.
fn random_order() -> Vec<usize> {
    let mut random = Random::new(42);
    (0..LOOKUPS).map(|_| random.index(ENTRIES)).collect()
}

/// Nanoseconds per lookup, when every thread looks up all of `order`, each from another point of it.
fn per_lookup(threads: usize, order: &[usize], look_up: &LookUp<'_>) -> Result<f64> {
    let parts = |thread: usize| order.split_at(thread * LOOKUPS / threads);
    threads::undisturbed(|| {
        let warm_up = |thread| look_up(&parts(thread).1[..WARM_UP]);
        Ok(threads::time(threads, LOOKUPS, warm_up, |thread| {
            let (before, after) = parts(thread);
            look_up(after);
            look_up(before);
        }))
    })
}
