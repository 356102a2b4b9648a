//! How long calls to the origin took, as Prometheus is told: each call once, by whichever way it was made, and nothing around it.

use crate::fixture::HOUR;
use std::time::Duration;
use terrace::{Cache, Clock, EntryOptions, Fetched, Keyspace, OriginFn, WriteFailure};

/// What a call takes.
const TOOK: Duration = Duration::from_millis(30);
/// The key that the origin fails for.
const BAD: u64 = 13;

struct Fixture {
    cache: Cache,
    clock: Clock,
}

impl Fixture {
    fn new() -> Self {
        let clock = Clock::manual();
        let cache = Cache::builder().clock(clock.clone()).default_ttl(HOUR).build().expect("valid settings");
        Self { cache, clock }
    }

    /// An origin each of whose calls takes [`TOOK`].
    fn origin(&self) -> OriginFn<u64, u64, &'static str> {
        let clocks = [self.clock.clone(), self.clock.clone(), self.clock.clone()];
        let [load, store, delete] = clocks.map(|clock| move || clock.advance(TOOK));
        OriginFn::load(move |key| {
            load();
            async move { if key == BAD { Err("bad") } else { Ok(Some(key)) } }
        })
        .store(move |key, _| {
            store();
            async move { if key == BAD { Err(WriteFailure::Failed("bad")) } else { Ok(()) } }
        })
        .delete(move |_| {
            delete();
            async { Ok(()) }
        })
    }

    /// A closure's work, which takes [`TOOK`].
    fn work<T: Send + 'static>(&self, result: T) -> impl Future<Output = T> + Send + use<T> {
        let clock = self.clock.clone();
        async move {
            clock.advance(TOOK);
            result
        }
    }

    /// How many calls of a keyspace ended so, and how many seconds they took.
    fn calls(&self, keyspace: &str, op: &str, outcome: &str) -> (u64, f64) {
        let text = self.cache.metrics();
        let of = |part: &str| {
            let series = format!(
                "terrace_origin_duration_seconds_{part}{{keyspace=\"{keyspace}\",op=\"{op}\",outcome=\"{outcome}\"}} "
            );
            let value = text.lines().find_map(|line| line.strip_prefix(&series));
            value.unwrap_or_else(|| panic!("no {series} in {text}")).to_owned()
        };
        (of("count").parse().expect("a number"), of("sum").parse().expect("a number"))
    }

    #[track_caller]
    fn assert_calls(&self, keyspace: &str, op: &str, outcome: &str, expected: u32) {
        let (count, seconds) = self.calls(keyspace, op, outcome);
        assert_eq!(count, u64::from(expected), "{keyspace} {op} {outcome}");
        let all = (TOOK * expected).as_secs_f64();
        assert!((seconds - all).abs() < 1e-6, "{keyspace} {op} {outcome}: {seconds} s, not {all}");
    }

    fn keyspace(&self, name: &str) -> Keyspace<u64, u64> {
        self.cache.keyspace(name).build().expect("a new keyspace")
    }
}

#[tokio::test]
async fn each_call_of_a_bound_origin_is_timed_by_what_it_does() {
    let fixture = Fixture::new();
    let keyspace = fixture.cache.keyspace::<u64, u64>("bound").write_through(fixture.origin());
    let bound = keyspace.build().expect("a new keyspace");
    assert!(bound.get(&1).await.is_ok() && bound.get(&1).await.is_ok());
    assert!(bound.get(&BAD).await.is_err());
    fixture.assert_calls("bound", "load", "ok", 1);
    fixture.assert_calls("bound", "load", "failed", 1);
    bound.put(&2, 2).await.expect("it is stored");
    bound.put(&BAD, 2).await.expect_err("the origin does not take it");
    bound.remove(&2).await.expect("it is removed");
    fixture.assert_calls("bound", "store", "ok", 1);
    fixture.assert_calls("bound", "store", "failed", 1);
    fixture.assert_calls("bound", "delete", "ok", 1);
    // One call for three keys, whose loads take their time one after the other; and one that fails in part.
    bound.get_many(&[4, 5, 6]).await.expect("they are loaded");
    let (count, seconds) = fixture.calls("bound", "load_many", "ok");
    assert!(count == 1 && (seconds - 3.0 * TOOK.as_secs_f64()).abs() < 1e-6, "{count} {seconds}");
    bound.get_many(&[7, BAD]).await.expect_err("one of them cannot be loaded");
    assert_eq!(fixture.calls("bound", "load_many", "failed").0, 1);
    fixture.assert_calls("bound", "load", "ok", 1);
}

#[tokio::test]
async fn an_origin_that_is_bound_later_is_timed_too() {
    let fixture = Fixture::new();
    let bound = fixture.keyspace("later").with_origin(fixture.origin());
    assert!(bound.get(&1).await.is_ok());
    fixture.assert_calls("later", "load", "ok", 1);
}

#[tokio::test]
async fn each_call_of_a_closure_is_timed_by_what_it_does() {
    let fixture = Fixture::new();
    let keyspace = fixture.keyspace("closures");
    let options = EntryOptions::default;
    keyspace.get_or_load(&1, || fixture.work(Ok::<_, &str>(1))).await.expect("it is loaded");
    keyspace.get_or_load(&2, || fixture.work(Err::<u64, _>("bad"))).await.expect_err("it is not");
    let fetched = fixture.work(Ok::<_, &str>(Fetched::value(3)));
    keyspace.fetch(&3, options(), move |_| fetched).await.expect("it is loaded");
    let clock = fixture.clock.clone();
    let warm = keyspace.warm().keys_with([4, 5], |key| {
        let clock = clock.clone();
        async move {
            clock.advance(TOOK);
            Ok::<_, &str>(Some(key))
        }
    });
    warm.await.expect("they are loaded");
    fixture.assert_calls("closures", "load", "ok", 4);
    fixture.assert_calls("closures", "load", "failed", 1);
    let clock = fixture.clock.clone();
    let many = move |keys: Vec<u64>| {
        let clock = clock.clone();
        async move {
            clock.advance(TOOK);
            keys.into_iter().map(|key| Ok::<_, &str>(Some(key))).collect::<Vec<_>>()
        }
    };
    keyspace.get_or_load_many(&[6, 7, 8], many).await;
    fixture.assert_calls("closures", "load_many", "ok", 1);
    let stored = fixture.work(Ok::<_, &str>(()));
    keyspace.put_through(&9, 9, options(), |_| stored).await.expect("it is stored");
    keyspace.put_around(&9, fixture.work(Err::<(), _>("bad"))).await.expect_err("it is not");
    fixture.assert_calls("closures", "store", "ok", 1);
    fixture.assert_calls("closures", "store", "failed", 1);
    fixture.assert_calls("closures", "load", "ok", 4);
}

/// What takes too long is given up, and what panics is over: both have failed, after the time that they took.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_or_panics_has_failed() {
    let fixture = Fixture::new();
    let keyspace = fixture.cache.keyspace::<u64, u64>("hung").load_timeout(Duration::from_secs(1));
    let hung = keyspace.build().expect("a new keyspace");
    let clock = fixture.clock.clone();
    let never = || async move {
        clock.advance(TOOK);
        std::future::pending::<Result<u64, &str>>().await
    };
    hung.get_or_load(&1, never).await.expect_err("it takes too long");
    fixture.assert_calls("hung", "load", "failed", 1);
    let clock = fixture.clock.clone();
    let panics = || async move {
        clock.advance(TOOK);
        let nothing: Option<Result<u64, &str>> = clock.resolution().checked_sub(Duration::MAX).map(|_| Ok(1));
        nothing.expect("a panic, as it should be")
    };
    hung.get_or_load(&2, panics).await.expect_err("it panics");
    fixture.assert_calls("hung", "load", "failed", 2);
    fixture.assert_calls("hung", "load", "ok", 0);
}

/// What is written behind reaches the origin by calls as well; a batch is one.
#[cfg(feature = "journal")]
#[tokio::test]
async fn a_batch_that_is_written_behind_is_one_call() {
    use terrace::behind::{Journal, JournalOptions, LaneOptions};
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(folder.path().join("writes.journal"), JournalOptions::default());
    let clock = Clock::manual();
    let builder = Cache::builder().clock(clock.clone()).default_ttl(HOUR);
    let cache = builder.journal(journal.expect("it opens")).build().expect("valid settings");
    let fixture = Fixture { cache, clock };
    let keyspace = fixture.cache.keyspace::<u64, u64>("behind");
    let keyspace = keyspace.write_behind(fixture.origin(), LaneOptions::default());
    let behind = keyspace.build().expect("a new keyspace");
    behind.put(&1, 1).await.expect("it is acknowledged");
    behind.put(&2, 2).await.expect("it is acknowledged");
    fixture.assert_calls("behind", "store", "ok", 0);
    behind.behind().expect("it is written behind").flush().await;
    let (calls, seconds) = fixture.calls("behind", "store", "ok");
    assert!(
        (1..=2).contains(&calls) && (seconds - 2.0 * TOOK.as_secs_f64()).abs() < 1e-6,
        "{calls} {seconds}"
    );
}
