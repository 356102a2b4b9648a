//! What an origin is asked that can tell whether an old value still holds.

use crate::fixture::HOUR;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use terrace::{Cache, Clock, EntryOptions, Fetched, Keyspace, L1, Origin, ReadOptions, Tag};
use terrace_testkit::fake::FakeRemote;
use terrace_testkit::wait::{until, until_some};

const TTL: Duration = Duration::from_mins(1);
const PAST_TTL: Duration = Duration::from_secs(61);

/// An origin that notes which old value it was told of, and says that it holds if it is to.
#[derive(Default)]
struct Judge {
    told: Mutex<Vec<Option<String>>>,
    holds: AtomicBool,
    is_empty: AtomicBool,
    number: AtomicU64,
}

impl Judge {
    /// What it was told since it was last asked for that.
    fn told(&self) -> Vec<Option<String>> {
        std::mem::take(&mut *self.told.lock())
    }

    fn next(&self) -> Fetched<String> {
        if self.is_empty.load(Ordering::SeqCst) {
            return Fetched::absent();
        }
        let number = self.number.fetch_add(1, Ordering::SeqCst) + 1;
        Fetched::value(format!("v{number}")).tags(Tag::new("t"))
    }
}

impl Origin<String, String> for Judge {
    type Error = Infallible;

    async fn load(&self, key: &String) -> Result<Option<String>, Infallible> {
        Ok(self.fetch(key).await?.into_value())
    }

    async fn fetch(&self, _: &String) -> Result<Fetched<String>, Infallible> {
        self.told.lock().push(None);
        Ok(self.next())
    }

    async fn fetch_again(&self, _: &String, old: &String) -> Result<Fetched<String>, Infallible> {
        self.told.lock().push(Some(old.clone()));
        Ok(if self.holds.load(Ordering::SeqCst) { Fetched::same() } else { self.next() })
    }
}

struct Node {
    texts: Keyspace<String, String>,
    judge: Arc<Judge>,
    clock: Clock,
}

/// Memory alone, with L2, and with L2 and without L1.
fn everywhere() -> [Node; 3] {
    [(true, false), (true, true), (false, true)].map(|(has_l1, has_l2)| {
        let (clock, judge) = (Clock::manual(), Arc::<Judge>::default());
        let cache = Cache::builder().clock(clock.clone()).l1(L1::default().ttl(HOUR));
        let cache = if has_l2 { cache.l2(FakeRemote::new(clock.clone())) } else { cache };
        let cache = cache.build().expect("valid settings");
        let options = EntryOptions::new().ttl(TTL).grace(HOUR).negative_ttl(TTL);
        let texts = cache.keyspace("texts").options(options).read_through(Arc::clone(&judge));
        let texts = if has_l1 { texts } else { texts.no_l1() };
        Node { texts: texts.build().expect("valid settings"), judge, clock }
    })
}

impl Node {
    async fn get(&self) -> Option<String> {
        self.texts.get("k").await.expect("it does not fail").map(|value| (*value).clone())
    }

    async fn got(&self, value: &str, told: &[Option<&str>]) {
        assert_eq!(self.get().await.as_deref(), Some(value));
        self.was_told(told);
    }

    fn was_told(&self, told: &[Option<&str>]) {
        assert_eq!(self.judge.told().iter().map(Option::as_deref).collect::<Vec<_>>(), told);
    }
}

#[tokio::test]
async fn an_origin_is_told_of_the_value_that_it_would_replace_and_of_no_other() {
    for node in everywhere() {
        node.got("v1", &[None]).await;
        node.clock.advance(PAST_TTL);
        node.judge.holds.store(true, Ordering::SeqCst);
        node.got("v1", &[Some("v1")]).await;
        node.got("v1", &[]).await;
        let entry = node.texts.look("k").await.unwrap().expect("it is there");
        assert_eq!((entry.tags, entry.stale), (vec![Tag::new("t").unwrap()], None));
        node.judge.holds.store(false, Ordering::SeqCst);
        let anew = node.texts.get_entry_with("k", ReadOptions::new().anew()).await.unwrap();
        assert_eq!(anew.map(|entry| (*entry.value).clone()).as_deref(), Some("v2"));
        node.was_told(&[Some("v1")]);
        node.texts.invalidate().tag("t").unwrap().send().await.unwrap();
        node.got("v3", &[None]).await;
        node.texts.put("k", "put".to_owned()).await.unwrap();
        node.clock.advance(PAST_TTL);
        node.got("v4", &[Some("put")]).await;
        node.clock.advance(PAST_TTL);
        let many = node.texts.get_many(&["k".to_owned()]).await.unwrap();
        assert_eq!(many[0].as_deref().map(String::as_str), Some("v5"));
        node.was_told(&[None]);
        node.judge.is_empty.store(true, Ordering::SeqCst);
        node.clock.advance(PAST_TTL);
        assert_eq!(node.get().await, None);
        node.was_told(&[Some("v5")]);
        node.judge.is_empty.store(false, Ordering::SeqCst);
        node.clock.advance(PAST_TTL);
        node.got("v6", &[None]).await;
    }
}

#[tokio::test]
async fn what_is_loaded_anew_on_request_may_still_hold() {
    let [memory, both, _] = everywhere();
    for node in [memory, both] {
        let texts = node.texts.clone().with_refresh(|text| Some(text.to_owned()));
        node.got("v1", &[None]).await;
        node.judge.holds.store(true, Ordering::SeqCst);
        node.clock.advance(TTL / 2);
        texts.refresh("k").await.unwrap();
        until("it was asked for", || !node.judge.told.lock().is_empty()).await;
        node.was_told(&[Some("v1")]);
        until_some("the old value is fresh for as long as a new one", async || {
            let entry = texts.look("k").await.expect("a valid key")?;
            (entry.ttl.duration() > Some(TTL / 2) && *entry.value == "v1").then_some(())
        })
        .await;
    }
}
