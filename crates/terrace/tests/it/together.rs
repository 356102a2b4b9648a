//! What was stored together is not loaded together: jitter spreads it, values and the knowledge that there is none alike.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use terrace::{Cache, CacheBuilder, Clock, EntryOptions, Fetched, Keyspace, L1, Ttl};
use terrace_core::Chance;
use terrace_testkit::fake::FakeRemote;

const TTL_SECONDS: u64 = 60;
const TTL: Duration = Duration::from_secs(TTL_SECONDS);
/// As many again say that there is no value.
const VALUES: u64 = 10_000;
const SECOND: Duration = Duration::from_secs(1);

/// Entries that are all read in every second.
struct Herd {
    clock: Clock,
    numbers: Keyspace<u64, u64>,
    size: u64,
    loaded_at: Vec<u64>,
}

impl Herd {
    /// So many values, and as many keys without one, stored in the same moment.
    async fn stored(size: u64, jitter: u64, set: impl FnOnce(CacheBuilder, &Clock) -> CacheBuilder) -> Self {
        let clock = Clock::manual();
        let builder = Cache::builder().clock(clock.clone()).chance(Chance::seeded(7));
        let room = usize::try_from(4 * size).expect("a small number");
        let builder = builder.l1(L1::entries(room).ttl(Ttl::Never)).staleness_max(TTL * 10);
        let cache = set(builder, &clock).build().expect("valid settings");
        let options = EntryOptions::new().ttl(TTL).negative_ttl(TTL).jitter(jitter as f64 / 100.0);
        let numbers = cache.keyspace("numbers").options(options).build().expect("a new keyspace");
        let mut herd = Self { clock, numbers, size, loaded_at: vec![0; room / 2] };
        herd.numbers.put_many((0..size).map(|key| (key, key))).await.expect("stored");
        for key in size..2 * size {
            assert!(herd.is_loaded_by_reading(key, 0).await);
        }
        herd
    }

    async fn is_loaded_by_reading(&mut self, key: u64, second: u64) -> bool {
        let (is_loaded, has_value) = (Arc::new(AtomicBool::default()), key < self.size);
        let ran = Arc::clone(&is_loaded);
        let loader = move |_| async move {
            ran.store(true, Ordering::SeqCst);
            Ok::<_, Infallible>(if has_value { Fetched::value(key) } else { Fetched::absent() })
        };
        let entry = self.numbers.fetch(&key, EntryOptions::new(), loader).await.expect("it does not fail");
        assert_eq!(entry.map(|entry| *entry.value), has_value.then_some(key));
        let is_loaded = is_loaded.load(Ordering::SeqCst);
        if is_loaded {
            self.loaded_at[usize::try_from(key).expect("small")] = second;
        }
        is_loaded
    }

    /// How many loads there are in each second, when every key is read in each from the time that its entry may have expired.
    async fn loads(&mut self, seconds: u64, jitter: u64) -> Vec<u64> {
        let lasts = lasts_at_least(jitter);
        let mut loads = Vec::new();
        for second in 1..=seconds {
            self.clock.advance(SECOND);
            let mut now = 0;
            for key in 0..2 * self.size {
                let age = second - self.loaded_at[usize::try_from(key).expect("small")];
                // Now and then also where nothing can have expired yet.
                if age >= lasts || (key + second).is_multiple_of(101) {
                    let is_loaded = self.is_loaded_by_reading(key, second).await;
                    assert!(!is_loaded || age >= lasts, "{key} was loaded after {age} s");
                    assert!(is_loaded || age < TTL_SECONDS, "{key} was not loaded after {age} s");
                    now += u64::from(is_loaded);
                }
            }
            loads.push(now);
        }
        loads
    }
}

/// How many seconds an entry is fresh that has this jitter, in percent, at least.
fn lasts_at_least(jitter: u64) -> u64 {
    TTL_SECONDS * (100 - jitter) / 100
}

/// The most in one second, as a multiple of the mean.
fn peak_over_mean(loads: &[u64]) -> f64 {
    let mean = loads.iter().sum::<u64>() as f64 / loads.len() as f64;
    *loads.iter().max().expect("some seconds") as f64 / mean
}

/// The seconds in which the first entries to expire may be loaded.
fn first_wave(loads: &[u64], jitter: u64) -> &[u64] {
    let second = |number: u64| usize::try_from(number).expect("a small number");
    &loads[second(lasts_at_least(jitter))..second(TTL_SECONDS)]
}

#[tokio::test]
async fn ten_thousand_values_and_as_many_absences_are_loaded_apart() {
    let mut none = Herd::stored(VALUES, 0, |builder, _| builder).await;
    let together = peak_over_mean(&none.loads(TTL_SECONDS, 0).await);
    assert!(together > TTL_SECONDS as f64 - 1.0, "without jitter all are loaded in one second: {together}");
    for jitter in [10, 25] {
        let loads = Herd::stored(VALUES, jitter, |builder, _| builder).await.loads(TTL_SECONDS, jitter).await;
        assert_eq!(loads.iter().sum::<u64>(), 2 * VALUES);
        let wave = peak_over_mean(first_wave(&loads, jitter));
        println!(
            "jitter {jitter} %: first wave over {} s, peak / mean {wave:.2}",
            TTL_SECONDS * jitter / 100
        );
        assert!(wave <= 2.0, "jitter {jitter}: {loads:?}");
    }
    let (jitter, lifetimes) = (50, 3);
    let mut herd = Herd::stored(VALUES, jitter, |builder, _| builder).await;
    let loads = herd.loads(TTL_SECONDS * lifetimes, jitter).await;
    let (wave, all) = (peak_over_mean(first_wave(&loads, jitter)), peak_over_mean(&loads));
    println!(
        "jitter {jitter} %: first wave over 30 s, peak / mean {wave:.2}; over {lifetimes} TTLs {all:.2}"
    );
    assert!(wave <= 2.0 && all <= 2.0, "{loads:?}");
}

#[tokio::test]
async fn with_an_l2_they_are_too() {
    let jitter = 25;
    let with_l2 = |builder: CacheBuilder, clock: &Clock| builder.l2(FakeRemote::new(clock.clone()));
    let mut herd = Herd::stored(1000, jitter, with_l2).await;
    let loads = herd.loads(TTL_SECONDS, jitter).await;
    assert_eq!(loads.iter().sum::<u64>(), 2000);
    let wave = peak_over_mean(first_wave(&loads, jitter));
    println!("with an L2, jitter {jitter}: peak / mean {wave:.2}");
    assert!(wave <= 2.0, "{loads:?}");
}
