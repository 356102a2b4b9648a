//! Entries that are read often last longer, and no others.

use crate::fixture::{HOUR, Node, let_others_run, loader};
use std::convert::Infallible;
use std::time::Duration;
use terrace::{AdaptiveTtl, Cache, Clock, EntryOptions, Fetched, KeyspaceError, Origin};

type Texts = terrace::Keyspace<String, String>;

const TTL: Duration = Duration::from_mins(1);
const READS: u64 = 1_000;

fn options() -> EntryOptions {
    EntryOptions::new().ttl(TTL).adaptive_ttl(AdaptiveTtl::up_to(5.0).reads(READS))
}

struct There;

impl Origin<String, String> for There {
    type Error = Infallible;

    async fn load(&self, _: &String) -> Result<Option<String>, Infallible> {
        Ok(Some("v".to_owned()))
    }
}

/// A keyspace in memory, and one with an L2.
async fn both(options: EntryOptions) -> [(Texts, Clock); 2] {
    let clock = Clock::manual();
    let memory = Cache::builder().clock(clock.clone()).build().expect("valid");
    let node = Node::first().await;
    let open = |cache: &Cache| {
        let texts = cache.keyspace("adaptive").options(options.clone()).build();
        texts.expect("valid").with_origin(There).with_refresh(|text| Some(text.to_owned()))
    };
    [(open(&memory), clock), (open(&node.cache), node.clock)]
}

/// Looks a key up so often, and loads it anew after its time. How long it lasts then.
async fn ttl_after(texts: &Texts, clock: &Clock, key: &str, lookups: u64) -> Duration {
    for _ in 0..lookups {
        texts.get(key).await.expect("valid");
    }
    let left = texts.peek_ttl(key).and_then(terrace::Ttl::duration).unwrap_or_default();
    clock.advance(left.max(Duration::from_millis(1)));
    texts.get(key).await.expect("valid");
    texts.peek_ttl(key).and_then(terrace::Ttl::duration).expect("it was loaded")
}

#[tokio::test]
async fn what_is_read_often_lasts_longer_and_no_longer_than_it_may() {
    for (texts, clock) in both(options()).await {
        assert_eq!(ttl_after(&texts, &clock, "k", 0).await, TTL);
        assert_eq!(ttl_after(&texts, &clock, "k", READS * 5).await, TTL * 5);
        let half = ttl_after(&texts, &clock, "k", READS / 2).await;
        assert!((TTL * 2..TTL * 4).contains(&half), "{half:?}");
        let back = ttl_after(&texts, &clock, "k", 0).await;
        assert!(
            (TTL..=TTL * 3 / 2).contains(&back),
            "what was read before the last load does not count: {back:?}"
        );
        let rare = ttl_after(&texts, &clock, "rare", 2).await;
        assert_eq!(rare, TTL);
    }
}

#[tokio::test]
async fn a_loader_that_says_how_long_its_value_is_right_is_believed() {
    for (texts, clock) in both(options()).await {
        ttl_after(&texts, &clock, "k", READS * 5).await;
        texts.invalidate().keys(["k"]).send().await.unwrap();
        for _ in 0..READS * 5 {
            texts.contains("k").await.unwrap();
        }
        let said = async |_| Ok::<_, Infallible>(Fetched::value("v".to_owned()).ttl(TTL / 2));
        let entry = texts.fetch("k", EntryOptions::new(), said).await.unwrap().unwrap();
        assert_eq!(entry.ttl.duration(), Some(TTL / 2));
        texts.put("k", "v".to_owned()).await.unwrap();
        assert_eq!(texts.peek_ttl("k").and_then(terrace::Ttl::duration), Some(TTL), "so is who stores it");
    }
}

#[tokio::test]
async fn one_that_is_loaded_anew_on_request_adapts_as_well() {
    for (texts, _) in both(options()).await {
        for _ in 0..READS * 5 {
            texts.get("k").await.unwrap();
        }
        let before = texts.get_entry("k").await.unwrap().unwrap();
        assert!(before.ttl.duration() <= Some(TTL));
        texts.refresh("k").await.unwrap();
        while texts.peek_ttl("k").and_then(terrace::Ttl::duration) <= Some(TTL) {
            let_others_run().await;
        }
        assert_eq!(texts.peek_ttl("k").and_then(terrace::Ttl::duration), Some(TTL * 5));
    }
}

#[tokio::test]
async fn chance_shortens_what_was_stretched_and_a_call_may_say_otherwise() {
    for (texts, clock) in both(options().jitter(0.5)).await {
        let jittered = ttl_after(&texts, &clock, "k", READS * 5).await;
        assert!((TTL * 5 / 2..=TTL * 5).contains(&jittered), "{jittered:?}");
        texts.invalidate().keys(["k"]).send().await.unwrap();
        for _ in 0..READS {
            texts.get("other").await.unwrap();
        }
        texts.invalidate().keys(["other"]).send().await.unwrap();
        let plain = EntryOptions::new().adaptive_ttl(None).jitter(0.0);
        texts.get_or_load_with("other", plain, loader("v")).await.unwrap();
        assert_eq!(texts.peek_ttl("other").and_then(terrace::Ttl::duration), Some(TTL));
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let cache = Cache::memory().unwrap();
    let options = EntryOptions::new().ttl(HOUR).adaptive_ttl(AdaptiveTtl::up_to(0.5));
    let refused = cache.keyspace::<u8, u8>("a").options(options).build().unwrap_err();
    assert!(matches!(refused, KeyspaceError::Setting(error) if error.setting == "adaptive_ttl"));
}
