//! How long calls to the origin took, as Prometheus is told: each call once, by whichever way it was made, and nothing around it.

use crate::fixture::HOUR;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use terrace::{Cache, Clock, EntryOptions, Fetched, Keyspace, Origin, OriginFn, OriginTimer, WriteFailure};

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
async fn an_origin_that_replaces_another_is_timed_too() {
    let fixture = Fixture::new();
    let builder = || fixture.cache.keyspace::<u64, u64>("replaced").write_through(fixture.origin());
    let before = builder().build().expect("a new keyspace");
    assert!(before.get(&1).await.is_ok());
    let after = builder().replace(&before).expect("settings that can be");
    assert!(after.get(&2).await.is_ok());
    after.put(&3, 3).await.expect("it is stored");
    fixture.assert_calls("replaced", "load", "ok", 2);
    fixture.assert_calls("replaced", "store", "ok", 1);
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

/// What is written behind reaches the origin by calls as well; a batch is one, however many writes it has.
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
    // Nothing is written before it is asked for.
    let patient = LaneOptions::default().interval(HOUR).flush_at(1_000_000);
    let keyspace = fixture.cache.keyspace::<u64, u64>("behind").write_behind(fixture.origin(), patient);
    let behind = keyspace.build().expect("a new keyspace");
    let entries: Vec<(u64, u64)> = (1..=5).map(|number| (number, number)).collect();
    behind.put_many(entries).await.expect("they are acknowledged");
    fixture.assert_calls("behind", "store", "ok", 0);
    behind.behind().expect("it is written behind").flush().await;
    let (calls, seconds) = fixture.calls("behind", "store", "ok");
    assert!(calls == 1 && (seconds - 5.0 * TOOK.as_secs_f64()).abs() < 1e-6, "{calls} {seconds}");
}

/// Durations are many series, so a keyspace has them once there may be a call: of an origin that is bound to it, or of a closure.
#[tokio::test]
async fn a_keyspace_has_durations_once_there_may_be_a_call() {
    let fixture = Fixture::new();
    let series = |keyspace: &str| {
        let of_keyspace = format!("terrace_origin_duration_seconds_count{{keyspace=\"{keyspace}\"");
        fixture.cache.metrics().lines().filter(|line| line.starts_with(&of_keyspace)).count()
    };
    let plain = fixture.keyspace("plain");
    plain.put(&1, 1).await.expect("it is kept");
    assert!(plain.get(&1).await.is_ok() && plain.get(&2).await.is_ok());
    assert_eq!(series("plain"), 0);
    plain.get_or_load(&2, || fixture.work(Ok::<_, &str>(2))).await.expect("it is loaded");
    assert_eq!(series("plain"), 8);
    let later = fixture.keyspace("later");
    assert_eq!(series("later"), 0);
    let _bound = later.with_origin(fixture.origin());
    assert_eq!(series("later"), 8);
}

/// An origin that asks somebody for some keys alone, and says itself when.
struct Choosy {
    clock: Clock,
    timer: OnceLock<OriginTimer>,
}

impl Origin<u64, u64> for Choosy {
    type Error = &'static str;

    async fn load(&self, key: &u64) -> Result<Option<u64>, &'static str> {
        self.clock.advance(TOOK);
        if *key == 0 {
            return Err("nobody is asked for this one");
        }
        let timing = self.timer.get().expect("it is bound").load();
        self.clock.advance(TOOK);
        match *key {
            BAD => timing.end(false),
            1 => timing.not_made(),
            2 => drop(timing),
            _ => timing.end(true),
        }
        Ok(Some(*key))
    }

    fn time_by(&self, timer: &OriginTimer) -> bool {
        self.timer.set(timer.clone()).is_ok()
    }
}

#[tokio::test]
async fn an_origin_that_times_its_calls_itself_is_timed_by_nobody_else() {
    let fixture = Fixture::new();
    // In layers, as origins are.
    let origin = Arc::new(Choosy { clock: fixture.clock.clone(), timer: OnceLock::new() });
    let keyspace = fixture.cache.keyspace::<u64, u64>("choosy").read_through(origin);
    let choosy = keyspace.build().expect("a new keyspace");
    choosy.get(&0).await.expect_err("nobody was asked");
    assert!(choosy.get(&1).await.is_ok());
    fixture.assert_calls("choosy", "load", "ok", 0);
    fixture.assert_calls("choosy", "load", "failed", 0);
    choosy.get_many(&[3, 4, 5]).await.expect("they are loaded");
    assert_eq!(fixture.calls("choosy", "load", "ok").0, 3, "each by itself");
    assert_eq!(fixture.calls("choosy", "load_many", "ok").0, 0);
    assert!(choosy.get(&BAD).await.is_ok() && choosy.get(&2).await.is_ok());
    fixture.assert_calls("choosy", "load", "failed", 2);
}
