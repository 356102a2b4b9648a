//! Keyspaces that are written behind, while the origin takes a write: what was asked, read or begun before it has the write is no
//! answer after.

use crate::behind::{Texts, Writer, another, fleet, forget_in_l2, get, loaded_meanwhile, patient};
use crate::fixture::{ended, spawn};
use std::time::Duration;
use terrace::behind::{Journal, JournalOptions};
use terrace::{Cache, EntryOptions, Origin, ReadOptions};
use terrace_testkit::fake::{Operation, Point};
use terrace_testkit::wait::until;

#[tokio::test]
async fn what_l2_said_before_the_origin_had_a_write_is_no_answer_after_it() {
    for (operation, is_batch) in [(Operation::Get, false), (Operation::GetMany, true)] {
        let (remote, writer, _another) = loaded_meanwhile().await;
        let gate = remote.hold(operation, Point::AfterEffect);
        let texts = writer.texts.clone();
        let reading = spawn(async move {
            let keys = ["k".to_owned()];
            let many = async || texts.get_many(&keys).await.unwrap().remove(0).map(|value| (*value).clone());
            if is_batch { many().await } else { get(&texts, "k").await }
        });
        gate.wait_until_held(1).await;
        writer.flush().await;
        gate.open();
        assert_eq!(ended(reading).await.as_deref(), Some("new"), "{operation:?}");
    }
}

/// What makes another node load past what L2 has of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Past {
    Anew,
    DeadTag,
    Expired,
}

#[tokio::test]
async fn a_load_past_what_l2_has_of_a_write_does_not_outlive_it() {
    for past in [Past::Anew, Past::DeadTag, Past::Expired] {
        let remote = fleet();
        let writer = Writer::new(Some(remote.clone()));
        let (_cache, reader) = another(&remote, &writer.table);
        writer.table.set("k", "old");
        let ttl = if past == Past::Expired { Duration::from_millis(1) } else { Duration::from_hours(1) };
        let options = EntryOptions::new().tag("t").unwrap().ttl(ttl).grace(Duration::from_hours(1));
        writer.texts.put_with("k", "new".to_owned(), options).await.unwrap();
        match past {
            Past::Anew => {}
            Past::DeadTag => drop(writer.texts.invalidate().tag("t").unwrap().send().await.unwrap()),
            Past::Expired => until("its end", || writer.texts.peek("k").is_none()).await,
        }
        writer.table.hold();
        let texts = reader.clone();
        let loading = spawn(async move {
            let options = ReadOptions::new();
            let options = if past == Past::Anew { options.anew() } else { options };
            texts.get_entry_with("k", options).await.unwrap().map(|entry| (*entry.value).clone())
        });
        writer.table.wait_until_held(1).await;
        let texts = writer.texts.clone();
        let flushing = spawn(async move { texts.behind().unwrap().flush().await.left() });
        writer.table.wait_until_held(2).await;
        writer.table.let_one_go(2);
        assert_eq!(ended(flushing).await, 0);
        writer.table.let_go();
        assert_eq!(ended(loading).await.as_deref(), Some("old"), "{past:?}: it knows of nothing better");
        for texts in [&reader, &writer.texts, &another(&remote, &writer.table).1] {
            assert_eq!(get(texts, "k").await.as_deref(), Some("new"), "{past:?}");
        }
    }
}

#[tokio::test]
async fn rows_that_were_read_before_the_origin_had_a_write_are_not_kept_after_it() {
    for remote in [None, Some(fleet())] {
        let writer = Writer::new(remote);
        writer.table.set("k", "old");
        let options = EntryOptions::new().ttl(Duration::from_millis(1));
        writer.texts.put_with("k", "new".to_owned(), options).await.unwrap();
        let query = async || {
            let row = writer.table.row("k").expect("it is there");
            writer.flush().await;
            until("the end of what was stored", || writer.texts.peek("k").is_none()).await;
            Ok::<_, std::io::Error>(vec![("k".to_owned(), row)])
        };
        writer.texts.warm().rows(query).await.unwrap();
        assert_eq!(writer.get("k").await.as_deref(), Some("new"));
    }
}

/// An origin that only takes.
struct TakesAll;

impl Origin<String, String> for TakesAll {
    type Error = &'static str;

    async fn load(&self, _: &String) -> Result<Option<String>, &'static str> {
        Err("it cannot be loaded from")
    }

    fn can_load(&self) -> bool {
        false
    }

    async fn store(&self, _: &String, _: &String) -> Result<(), terrace::WriteFailure<&'static str>> {
        Ok(())
    }
}

#[tokio::test]
async fn what_is_read_past_l1_sees_a_write_that_waits() {
    let remote = fleet();
    let path = tempfile::NamedTempFile::new().expect("a file").into_temp_path();
    std::fs::remove_file(&path).expect("its name alone is needed");
    let journal = Journal::open(&path, JournalOptions::default()).expect("a journal");
    let cache = Cache::builder().journal(journal).l2(remote.clone()).build().unwrap();
    let texts: Texts =
        cache.keyspace("rows").write_behind(TakesAll, patient()).build().expect("a new keyspace");
    texts.put("k", "new".to_owned()).await.unwrap();
    forget_in_l2(&remote, "k");
    for options in [ReadOptions::new(), ReadOptions::new().anew()] {
        let found = texts.get_entry_with("k", options).await.unwrap();
        assert_eq!(found.map(|entry| (*entry.value).clone()).as_deref(), Some("new"), "{options:?}");
    }
}
