//! What an origin says is not true any more because of a change: it is invalidated before the change is acknowledged.

use crate::fixture::{Node, let_others_run};
use crate::strategies::{Builder, Texts, everywhere, held, opened};
use crate::table::{Mood, Table};
use terrace::{Effect, EntryOptions, Tag};
use terrace_testkit::fake::{Fault, Operation};

/// Stores `a` with the tag `t`, and `b` with the tag `other`.
async fn two(texts: &Texts) {
    for (key, tag) in [("a", "t"), ("b", "other")] {
        let options = EntryOptions::new().tag(tag).expect("a tag");
        texts.put_with(key, "v".to_owned(), options).await.expect("it is stored");
    }
}

async fn left(texts: &Texts) -> (bool, bool) {
    (held(texts, "a").await, held(texts, "b").await)
}

#[tokio::test]
async fn what_an_origin_names_is_gone_when_its_change_is_acknowledged() {
    for (texts, table, node) in everywhere(Builder::write_through).await {
        let other = node.as_ref().map(|node| opened_elsewhere(node, "others"));
        if let Some(other) = &other {
            two(other).await;
        }
        two(&texts).await;
        table.makes_untrue(&["t", "t"]);
        let written = texts.put("c", "v".into()).await.unwrap();
        assert_eq!((written.effect, left(&texts).await), (Effect::Applied, (false, true)));
        assert!(held(&texts, "c").await, "what was stored is there");
        if let Some(other) = &other {
            assert_eq!(left(other).await, (true, true), "another keyspace has tags of its own");
        }
    }
}

#[tokio::test]
async fn a_removal_makes_untrue_too() {
    for (texts, table, _) in everywhere(Builder::write_through).await {
        two(&texts).await;
        table.makes_untrue(&["t"]);
        texts.remove("c").await.unwrap();
        assert_eq!(left(&texts).await, (false, true));
    }
}

#[tokio::test]
async fn changes_that_are_made_together_make_untrue_too() {
    for (texts, table, _) in everywhere(Builder::write_through).await {
        two(&texts).await;
        table.makes_untrue(&["t"]);
        texts.put_many([("d".into(), "1".into()), ("e".into(), "2".into())]).await.unwrap();
        assert_eq!(left(&texts).await, (false, true));
    }
}

fn opened_elsewhere(node: &Node, name: &str) -> Texts {
    node.cache.keyspace(name).build().expect("a new keyspace")
}

#[tokio::test]
async fn a_value_that_its_own_store_makes_untrue_is_loaded_anew() {
    for (texts, table, _) in everywhere(Builder::write_through).await {
        table.makes_untrue(&["t"]);
        let options = EntryOptions::new().tag("t").expect("a tag");
        texts.put_with("a", "sent".to_owned(), options).await.unwrap();
        assert!(!held(&texts, "a").await);
        table.set("a", "derived");
        assert_eq!(texts.get("a").await.unwrap().as_deref().map(String::as_str), Some("derived"));
    }
}

#[tokio::test]
async fn a_change_that_may_have_been_made_makes_untrue_all_the_same() {
    for (texts, table, _) in everywhere(Builder::write_through).await {
        two(&texts).await;
        table.makes_untrue(&["t"]);
        table.is(Mood::Unsure, None);
        texts.put("c", "v".into()).await.unwrap_err();
        assert_eq!(left(&texts).await, (false, true));
    }
}

#[tokio::test]
async fn l2_that_cannot_be_told_fails_no_change_and_is_told_later() {
    for fault in [Fault::Unavailable, Fault::TimeoutAfterEffect, Fault::Refused] {
        let (node, table) = (Node::first().await, Table::default());
        let texts = opened(&node.cache, |builder| builder.write_through(table.clone()));
        two(&texts).await;
        let there = node.another_without_l1().await;
        let there = opened(&there.cache, |builder| builder);
        assert_eq!(left(&there).await, (true, true), "{fault:?}");
        table.makes_untrue(&["t"]);
        node.remote.set_fault_on(Operation::BumpTags, Some(fault));
        let written = texts.put("c", "v".into()).await.unwrap();
        assert_eq!((written.effect, table.row("c").as_deref()), (Effect::Queued, Some("v")), "{fault:?}");
        assert!(!held(&texts, "a").await, "{fault:?}: this node does not believe it any more");
        node.remote.set_fault_on(Operation::BumpTags, None);
        node.is_asked_again().await;
        terrace_testkit::wait::until_some("the other node to see it", async || {
            let_others_run().await;
            (!held(&there, "a").await).then_some(())
        })
        .await;
        assert!(held(&there, "b").await, "{fault:?}");
    }
}

#[cfg(feature = "journal")]
mod behind {
    use super::*;
    use crate::behind::{Writer, fleet};

    #[tokio::test]
    async fn what_an_origin_names_of_what_is_written_behind_is_gone_when_it_is_flushed() {
        for remote in [None, Some(fleet())] {
            let writer = Writer::new(remote.clone());
            two(&writer.texts).await;
            writer.flush().await;
            writer.table.makes_untrue(&["t"]);
            writer.put("c", "v").await;
            assert_eq!(left(&writer.texts).await, (true, true), "the origin was not asked yet");
            writer.flush().await;
            assert_eq!(left(&writer.texts).await, (false, true));

            let Some(remote) = remote else { continue };
            writer.table.makes_untrue(&[]);
            two(&writer.texts).await;
            writer.flush().await;
            writer.table.makes_untrue(&["t"]);
            remote.set_fault_on(Operation::BumpTags, Some(Fault::Unavailable));
            writer.put("c", "w").await;
            writer.flush().await;
            assert!(!held(&writer.texts, "a").await, "L2 is told later, and the write is no failure");
        }
    }
}

#[test]
fn an_answer_is_what_was_made_and_what_is_untrue() {
    let mut answer = terrace::OriginAnswer::from(Ok::<(), terrace::WriteFailure<String>>(()));
    answer.invalidates.push(Tag::new("t").expect("a tag"));
    let other = answer.clone().map_failure(|_| terrace::WriteFailure::Failed(1));
    assert_eq!((other.made, other.invalidates), (Ok(()), answer.invalidates));
}
