//! What subscribers are told.

use crate::fixture::{LEASE, Node, key, let_others_run};
use std::time::Duration;
use terrace::{Cache, Effect, EntryOptions, EventKind, Events, Glob, Tag, Version};
use terrace_testkit::fake::Fault;

async fn next(events: &mut Events) -> terrace::Event {
    crate::fixture::within("an event", events.next()).await.expect("the cache lives")
}

async fn kind(events: &mut Events) -> EventKind {
    next(events).await.kind
}

fn tag(text: &str) -> Tag {
    Tag::new(text).expect("valid")
}

async fn change_all(node: &Node) {
    node.put("k", "v").await;
    let tagged = EntryOptions::default().tag("t").expect("a tag");
    node.texts.put_with("tagged", "v".to_owned(), tagged).await.expect("stored");
    node.texts.remove("k").await.expect("removed");
    node.texts.invalidate().tag("t").expect("a tag").send().await.expect("invalidated");
    node.texts.invalidate().pattern("a*").expect("a pattern").send().await.expect("invalidated");
    node.texts.clear().await.expect("cleared");
    node.texts.refresh("k").await.expect("asked");
}

fn all() -> Vec<EventKind> {
    vec![
        EventKind::Set(key("k")),
        EventKind::Set(key("tagged")),
        EventKind::Invalidated(key("k")),
        EventKind::TagInvalidated(tag("t")),
        EventKind::Swept(Glob::new("a*").expect("valid")),
        EventKind::Cleared,
        EventKind::Refresh(key("k")),
    ]
}

#[tokio::test]
async fn every_node_is_told_of_every_change_in_one_order() {
    let writer = Node::first_hearing().await;
    let reader = writer.another_hearing().await;
    let (mut own, mut others) = (writer.texts.events(), reader.texts.events());
    change_all(&writer).await;
    let mut last = 0;
    for expected in all() {
        let (own, other) = (next(&mut own).await, next(&mut others).await);
        assert_eq!((&own.kind, &other.kind), (&expected, &expected));
        assert!(own.is_own && !other.is_own);
        assert_eq!((own.number, own.origin), (other.number, other.origin));
        assert!(own.number.get() > last, "numbers of one partition rise");
        last = own.number.get();
    }
}

#[tokio::test]
async fn what_was_invalidated_is_told_once_under_the_numbers_that_were_returned() {
    let writer = Node::first_hearing_of(8).await;
    let reader = writer.another_hearing().await;
    let mut others = reader.texts.events();
    // So that no two partitions are at the same number.
    for number in 0..20 {
        writer.put(&number.to_string(), "v").await;
    }
    let named = writer.texts.invalidate().keys(["k", "l"]).tag("t").unwrap().tag("u").unwrap();
    let told = named.pattern("a*").unwrap().pattern("*b").unwrap().send_numbered().await.unwrap();
    let names = |texts: [&str; 2]| texts.map(|text| Glob::new(text).unwrap());
    assert_eq!(told.keys.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), [key("k"), key("l")]);
    assert_eq!(told.tags.iter().map(|(tag, _)| tag.clone()).collect::<Vec<_>>(), [tag("t"), tag("u")]);
    assert_eq!(told.patterns.iter().map(|(glob, _)| glob.clone()).collect::<Vec<_>>(), names(["a*", "*b"]));
    writer.texts.clear().await.unwrap();
    let keys = told.keys.into_iter().map(|(key, number)| (EventKind::Invalidated(key), number));
    let tags = told.tags.into_iter().map(|(tag, number)| (EventKind::TagInvalidated(tag), number));
    let patterns = told.patterns.into_iter().map(|(glob, number)| (EventKind::Swept(glob), number));
    let mut expected: Vec<_> = keys.chain(tags).chain(patterns).collect();
    let mut events = Vec::new();
    while events.len() < expected.len() {
        let event = next(&mut others).await;
        events.extend((!matches!(event.kind, EventKind::Set(_))).then_some((event.kind, event.number)));
    }
    // A call tells of its changes partition by partition.
    let by_text = |(kind, number): &(EventKind, Version)| (format!("{kind:?}"), *number);
    expected.sort_by_key(by_text);
    events.sort_by_key(by_text);
    assert_eq!(events, expected);
    assert_eq!(kind(&mut others).await, EventKind::Cleared);
    writer.texts.remove("last").await.unwrap();
    assert_eq!(kind(&mut others).await, EventKind::Invalidated(key("last")), "one event tells of a clearing");
}

#[tokio::test]
async fn what_l2_was_not_told_yet_has_no_number() {
    let node = Node::first_hearing().await;
    node.remote.set_fault(Some(Fault::Unavailable));
    let named = node.texts.invalidate().keys(["k"]).tag("t").unwrap().pattern("a*").unwrap();
    let told = named.send_numbered().await.unwrap();
    assert_eq!(told.invalidated.effect, Effect::Queued);
    assert_eq!((told.keys, told.tags, told.patterns), (vec![], vec![], vec![]));
    node.remote.set_fault(None);
    let named = node.texts.invalidate().keys(["k"]).tag("t").unwrap().pattern("a*").unwrap();
    let told = named.after(Duration::from_hours(1)).send_numbered().await.unwrap();
    assert_eq!(told.invalidated.effect, Effect::Later);
    assert_eq!((told.keys, told.tags, told.patterns), (vec![], vec![], vec![]));
}

#[tokio::test]
async fn what_nobody_is_told_of_has_no_number() {
    let node = Node::first().await;
    let named = node.texts.invalidate().keys(["k"]).tag("t").unwrap().pattern("a*").unwrap();
    let told = named.send_numbered().await.unwrap();
    assert_eq!(told.invalidated.effect, Effect::Applied);
    assert_eq!((told.keys, told.tags, told.patterns), (vec![], vec![], vec![]), "this L2 tells of nothing");
}

#[tokio::test]
async fn without_l2_a_node_tells_of_its_own_changes() {
    let cache = Cache::memory().unwrap();
    let texts = cache.keyspace::<String, String>("texts").build().unwrap();
    let mut events = texts.events();
    texts.put("k", "v".to_owned()).await.unwrap();
    texts.remove("k").await.unwrap();
    texts.invalidate().tag("t").unwrap().pattern("a*").unwrap().send().await.unwrap();
    texts.clear().await.unwrap();
    texts.refresh("k").await.unwrap();
    let mut expected = all();
    expected.remove(1);
    for expected in expected {
        let event = next(&mut events).await;
        assert_eq!((event.kind, event.is_own, event.origin), (expected, true, None));
    }
}

#[tokio::test]
async fn what_l2_was_not_told_is_told_at_once_and_again_when_it_was() {
    let node = Node::first_hearing().await;
    let mut events = node.texts.events();
    node.remote.set_fault(Some(Fault::Unavailable));
    node.texts.remove("k").await.unwrap();
    let event = next(&mut events).await;
    assert_eq!((event.kind, event.number.get()), (EventKind::Invalidated(key("k")), 0));
    node.remote.set_fault(None);
    let event = next(&mut events).await;
    assert_eq!(event.kind, EventKind::Invalidated(key("k")));
    assert!(event.number.get() > 0);
}

#[tokio::test]
async fn hearing_itself_is_told_of() {
    let writer = Node::first_hearing().await;
    let reader = writer.another_hearing().await;
    let mut events = reader.texts.events();
    reader.remote.cut_bus();
    assert_eq!(kind(&mut events).await, EventKind::Lost);
    writer.put("k", "v").await;
    reader.remote.mend_bus();
    assert_eq!(kind(&mut events).await, EventKind::Set(key("k")), "the log told of it");
    assert_eq!(kind(&mut events).await, EventKind::Joined { is_anew: false });
    reader.remote.fail_over(0);
    reader.remote.mend_bus();
    assert_eq!(kind(&mut events).await, EventKind::Lost);
    assert_eq!(kind(&mut events).await, EventKind::Suspected(1));
    assert_eq!(kind(&mut events).await, EventKind::Joined { is_anew: true });
}

#[tokio::test]
async fn who_is_slow_is_told_how_much_was_missed() {
    let node = Node::first_hearing().await;
    let mut slow = node.texts.events();
    for number in 0..1500 {
        node.put("k", &number.to_string()).await;
    }
    let_others_run().await;
    node.put("last", "v").await;
    let mut count = 0_u64;
    loop {
        match kind(&mut slow).await {
            EventKind::Set(set) if set == key("last") => break,
            EventKind::Set(_) => count += 1,
            EventKind::Missed(missed) => {
                count += missed;
                if count >= 1500 {
                    break;
                }
            }
            other => panic!("nothing else happened: {other:?}"),
        }
    }
    assert!(count >= 1500, "every change is told or counted: {count}");
}

#[tokio::test]
async fn the_end_of_the_cache_is_the_end_of_its_events() {
    let node = Node::first_hearing().await;
    let mut events = node.texts.events();
    node.cache.shutdown(Duration::from_secs(5)).await.unwrap();
    assert_eq!(crate::fixture::within("the end", events.next()).await, None);
}

#[tokio::test]
async fn lag_and_lapses_are_counted() {
    let node = Node::first_hearing().await;
    let metric = |name: &str| {
        let metrics = node.cache.metrics();
        let line =
            metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
        line.expect("the series is there").parse::<f64>().expect("a number")
    };
    let lapses = "terrace_bus_lapses_total{keyspace=\"texts\"}";
    assert!(metric(lapses).abs() < f64::EPSILON);
    node.clock.advance(LEASE * 2);
    terrace_testkit::wait::until("a beat is back", || metric(lapses) > 0.5).await;
    assert!(metric("terrace_bus_lag_seconds") >= 0.0);
}
