//! Clocks that are wrong, or set while all is under way: nothing expires early or late by that, and no older value wins.

use crate::fixture::{HOUR, Texts, within};
use std::time::Duration;
use terrace::{Cache, CacheBuilder, Clock, Effect, EntryOptions, Tier, Trusted};
use terrace_testkit::fake::FakeRemote;
use terrace_testkit::wait::pause;

const TTL: Duration = Duration::from_mins(10);
const SECOND: Duration = Duration::from_secs(1);
/// A second less.
const NEARLY: Duration = Duration::from_secs(599);

struct Node {
    texts: Texts,
    clock: Clock,
}

impl Node {
    /// A node with a clock of its own, which is ahead of the server's.
    fn ahead(remote: FakeRemote, by: Duration, set: impl FnOnce(CacheBuilder) -> CacheBuilder) -> Self {
        let clock = Clock::manual();
        clock.advance(by);
        let builder = Cache::builder().clock(clock.clone()).default_ttl(TTL).l2(remote);
        let cache = set(builder).build().expect("valid settings");
        Self { texts: cache.keyspace("texts").build().expect("a new keyspace"), clock }
    }

    async fn put(&self, value: &str) {
        let written = self.texts.put("k", value.to_owned()).await.expect("stored");
        assert_eq!(written.effect, Effect::Applied);
    }

    async fn source(&self) -> Option<(Tier, String)> {
        let entry = self.texts.get_entry("k").await.expect("a valid key")?;
        Some((entry.tier, (*entry.value).clone()))
    }
}

#[tokio::test]
async fn nodes_whose_clocks_are_an_hour_apart_agree_on_what_lives() {
    let server = Clock::manual();
    server.advance(HOUR);
    let remote = FakeRemote::new(server.clone());
    let early = Node::ahead(remote.another_node(), Duration::ZERO, |builder| builder);
    let late = Node::ahead(remote.another_node(), HOUR * 2, |builder| builder);
    for (writer, reader) in [(&early, &late), (&late, &early)] {
        writer.put("v").await;
        for clock in [&server, &early.clock, &late.clock] {
            clock.advance(NEARLY);
        }
        let entry = reader.texts.get_entry("k").await.unwrap().expect("it is not over");
        assert_eq!((entry.tier, entry.is_stale), (Tier::L2, false));
        assert!(entry.ttl.duration().is_some_and(|ttl| ttl > Duration::ZERO && ttl <= SECOND), "{entry:?}");
        assert!(entry.age <= HOUR * 3, "an age is shown, whatever the other's clock says: {entry:?}");
        assert_eq!(reader.source().await, Some((Tier::L1, "v".to_owned())));
        for clock in [&server, &early.clock, &late.clock] {
            clock.advance(SECOND);
        }
        assert_eq!((reader.source().await, writer.source().await), (None, None), "it is over for both");
    }
}

#[tokio::test]
async fn a_servers_clock_that_is_set_by_an_hour_ends_nothing_early_or_late_and_brings_nothing_back() {
    let clock = Clock::manual();
    for is_back_first in [false, true] {
        let remote = FakeRemote::new(clock.clone());
        // So that there is room below.
        remote.advance_server_time(HOUR * 4);
        let on = |set: fn(CacheBuilder) -> CacheBuilder| {
            let builder = Cache::builder().clock(clock.clone()).default_ttl(TTL).l2(remote.another_node());
            let cache = set(builder).build().expect("valid settings");
            Node { texts: cache.keyspace("texts").build().expect("new"), clock: clock.clone() }
        };
        let (node, other) = (on(|builder| builder), on(CacheBuilder::no_l1));
        let set = |is_back: bool| {
            if is_back { remote.set_back_server_time(HOUR) } else { remote.advance_server_time(HOUR) }
        };
        for is_back in [is_back_first, !is_back_first, is_back_first] {
            node.put("old").await;
            let before = node.texts.get_entry("k").await.unwrap().unwrap().version;
            set(is_back);
            node.clock.advance(TTL / 2);
            assert_eq!(other.source().await, Some((Tier::L2, "old".to_owned())), "not early");
            let written = node.texts.put("k", "new".to_owned()).await.unwrap();
            assert!(written.version.supersedes(before), "numbers go on, whatever the clock says");
            assert_eq!(other.source().await, Some((Tier::L2, "new".to_owned())));
            node.clock.advance(NEARLY);
            assert_eq!(other.source().await, Some((Tier::L2, "new".to_owned())), "not early");
            node.clock.advance(SECOND);
            assert_eq!((node.source().await, other.source().await), (None, None), "not late");
            node.put("last").await;
            set(!is_back);
            node.texts.remove("k").await.unwrap();
            assert_eq!(
                (node.source().await, other.source().await),
                (None, None),
                "what was removed stays away"
            );
            set(is_back);
        }
    }
}

#[tokio::test]
async fn a_load_that_is_overtaken_while_the_servers_clock_is_set_back_is_kept_nowhere() {
    // Of a tag only a node that hears can tell: the other has nothing but the time, as the page of the promises says.
    for (change, hears) in
        [("remove", true), ("remove", false), ("pattern", true), ("pattern", false), ("tag", true)]
    {
        let clock = Clock::manual();
        let remote = FakeRemote::new(clock.clone());
        remote.advance_server_time(HOUR * 2);
        let own = if hears { remote.another_node().hearing() } else { remote.another_node() };
        let node = Node::ahead(own, Duration::ZERO, |builder| builder);
        let other = Node::ahead(remote.another_node(), Duration::ZERO, CacheBuilder::no_l1);
        within("a beat", async {
            while hears && !matches!(node.texts.why("k").await.unwrap().trust, Trusted::For(_)) {
                node.source().await;
                pause(Duration::from_millis(5)).await;
            }
        })
        .await;
        let (overtaking, back) = (other.texts.clone(), remote.clone());
        let loader = move || async move {
            back.set_back_server_time(HOUR);
            let invalidation = overtaking.invalidate();
            match change {
                "remove" => overtaking.remove("k").await.map(drop),
                "pattern" => invalidation.pattern("*").expect("valid").send().await.map(drop),
                _ => invalidation.tag("t").expect("valid").send().await.map(drop),
            }?;
            Ok::<_, terrace::Error>("old".to_owned())
        };
        let options = EntryOptions::new().tag("t").unwrap();
        let loaded = node.texts.get_or_load_with("k", options, loader).await.unwrap();
        assert_eq!(*loaded, "old", "its caller came before");
        assert_eq!(other.source().await, None, "{change}, {hears}");
    }
}
