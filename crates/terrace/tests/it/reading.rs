//! Lookups that want something else than what the keyspace does by itself.

use crate::fixture::{HOUR, Node, Texts, ended, let_others_run, spawn};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use terrace::{Cache, Clock, EntryOptions, Origin, ReadOptions, StaleReason, Tier};

/// An origin whose value a test changes, and that fails without one.
#[derive(Clone, Default)]
struct Table(Arc<Mutex<(Option<String>, u32)>>);

impl Table {
    fn set(&self, value: Option<&str>) {
        self.0.lock().0 = value.map(str::to_owned);
    }

    fn loads(&self) -> u32 {
        self.0.lock().1
    }
}

impl Origin<String, String> for Table {
    type Error = &'static str;

    async fn load(&self, _: &String) -> Result<Option<String>, &'static str> {
        tokio::task::yield_now().await;
        let mut table = self.0.lock();
        table.1 += 1;
        table.0.clone().map(Some).ok_or("it is away")
    }
}

fn memory() -> (Clock, Table, Texts) {
    let (clock, table) = (Clock::manual(), Table::default());
    let cache = Cache::builder().clock(clock.clone()).default_ttl(HOUR).build().expect("valid settings");
    let options = EntryOptions::new().grace(HOUR);
    let texts =
        cache.keyspace("texts").options(options).read_through(table.clone()).build().expect("a new keyspace");
    (clock, table, texts)
}

async fn read(texts: &Texts, options: ReadOptions) -> Option<(Tier, String, Option<StaleReason>)> {
    let entry = texts.get_entry_with("k", options).await.expect("it answers")?;
    Some((entry.tier, (*entry.value).clone(), entry.stale))
}

#[tokio::test]
async fn who_wants_it_anew_gets_what_the_origin_has_and_so_does_everybody_after() {
    let (_, table, texts) = memory();
    table.set(Some("1"));
    assert_eq!(read(&texts, ReadOptions::new()).await, Some((Tier::Origin, "1".into(), None)));
    table.set(Some("2"));
    assert_eq!(read(&texts, ReadOptions::new()).await, Some((Tier::L1, "1".into(), None)));
    assert_eq!(read(&texts, ReadOptions::new().anew()).await, Some((Tier::Origin, "2".into(), None)));
    assert_eq!(read(&texts, ReadOptions::new()).await, Some((Tier::L1, "2".into(), None)));
    table.set(None);
    let old = read(&texts, ReadOptions::new().anew()).await;
    assert_eq!(old, Some((Tier::L1, "2".into(), Some(StaleReason::LoadFailed))), "the origin is away");
    assert_eq!(read(&texts, ReadOptions::new()).await, Some((Tier::L1, "2".into(), None)));
    assert_eq!(table.loads(), 3);
}

#[tokio::test]
async fn with_l2_who_wants_it_anew_gets_past_both_tiers() {
    let node = Node::first().await;
    let table = Table::default();
    let texts = node.texts.clone().with_origin(table.clone());
    table.set(Some("1"));
    assert_eq!(read(&texts, ReadOptions::new()).await, Some((Tier::Origin, "1".into(), None)));
    table.set(Some("2"));
    assert_eq!(read(&texts, ReadOptions::new().anew()).await, Some((Tier::Origin, "2".into(), None)));
    assert_eq!(node.another_without_l1().await.get("k").await.as_deref(), Some("2"));
    assert_eq!(node.get("k").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn without_an_origin_who_wants_it_anew_gets_what_l2_has() {
    let one = Node::first().await;
    let two = one.another().await;
    one.put("k", "1").await;
    assert_eq!(two.get("k").await.as_deref(), Some("1"));
    one.put("k", "2").await;
    assert_eq!(two.get("k").await.as_deref(), Some("1"), "it does not hear of changes, and has a copy");
    assert_eq!(read(&two.texts, ReadOptions::new().anew()).await, Some((Tier::L2, "2".into(), None)));
}

#[tokio::test]
async fn what_is_unkept_is_loaded_again() {
    let (_, table, texts) = memory();
    table.set(Some("1"));
    for loads in 1..=2 {
        assert_eq!(read(&texts, ReadOptions::new().unkept()).await, Some((Tier::Origin, "1".into(), None)));
        assert_eq!(table.loads(), loads);
    }
    assert!(texts.look("k").await.expect("a valid key").is_none());
    read(&texts, ReadOptions::new()).await;
    assert_eq!(read(&texts, ReadOptions::new().unkept()).await, Some((Tier::L1, "1".into(), None)));
}

#[tokio::test]
async fn who_takes_a_stale_value_is_given_one_for_so_long() {
    let (clock, table, texts) = memory();
    table.set(Some("1"));
    read(&texts, ReadOptions::new()).await;
    clock.advance(HOUR + Duration::from_secs(10));
    table.set(Some("2"));
    let too_old = read(&texts, ReadOptions::new().max_stale(Duration::from_secs(5))).await;
    assert_eq!(too_old, Some((Tier::Origin, "2".into(), None)));
    clock.advance(HOUR + Duration::from_secs(10));
    let entry = texts.get_entry_with("k", ReadOptions::new().max_stale(Duration::from_mins(1))).await;
    let entry = entry.expect("it answers").expect("it is there");
    assert_eq!((entry.stale, entry.past), (Some(StaleReason::Revalidating), Duration::from_secs(10)));
    let_others_run().await;
    assert_eq!(table.loads(), 3, "a load has begun in the background");
}

#[tokio::test]
async fn a_look_asks_no_origin() {
    let (_, table, texts) = memory();
    table.set(Some("1"));
    assert!(texts.look("k").await.expect("a valid key").is_none());
    assert_eq!(table.loads(), 0);
    read(&texts, ReadOptions::new()).await;
    assert_eq!(*texts.look("k").await.expect("a valid key").expect("it is there").value, "1");
}

#[tokio::test]
async fn who_shares_a_load_is_told_so() {
    let (_, table, texts) = memory();
    table.set(Some("1"));
    let read =
        |texts: Texts| async move { texts.get_entry("k").await.expect("it loads").expect("there").is_shared };
    let (one, two) = (spawn(read(texts.clone())), spawn(read(texts.clone())));
    assert_eq!((ended(one).await, ended(two).await), (false, true));
    assert!(!read(texts).await, "it is in L1 by now");
}
