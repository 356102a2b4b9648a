//! What an origin says of a value that it loads: under which tags it is kept, and so by what it is invalidated.

use crate::fixture::{let_others_run, spawn};
use crate::strategies::{Builder, Texts, everywhere, held};
use crate::table::Table;
use std::convert::Infallible;
use terrace::{ErrorKind, Fetched, Origin, Tag};

/// An origin that says of each value under which tags it is, and asks for each by itself.
struct Apart;

impl Origin<String, String> for Apart {
    type Error = Infallible;

    async fn load(&self, key: &String) -> Result<Option<String>, Infallible> {
        Ok(self.fetch(key).await?.into_value())
    }

    async fn fetch(&self, key: &String) -> Result<Fetched<String>, Infallible> {
        if key.ends_with('7') {
            let_others_run().await;
        }
        Ok(Fetched::value(key.clone()).tags(Tag::new("t")).tags(Tag::new(key)))
    }

    fn loads_together(&self) -> bool {
        false
    }
}

fn through(builder: Builder, table: Table) -> Builder {
    for key in ["a", "b", "c", "d"] {
        table.set(key, "row");
    }
    table.is_of(&["t", "other"]);
    builder.read_through(table)
}

async fn tags(texts: &Texts, key: &str) -> Vec<String> {
    let entry = texts.look(key).await.expect("a valid key").expect("it is there");
    entry.tags.iter().map(|tag| tag.as_str().to_owned()).collect()
}

async fn forget(texts: &Texts, tag: &str) {
    texts.invalidate().tag(tag).expect("a tag").send().await.expect("it is told");
}

#[tokio::test]
async fn however_a_value_is_loaded_it_goes_with_its_tags() {
    for (texts, table, _) in everywhere(through).await {
        texts.get("a").await.unwrap();
        texts.get_many(&["b".to_owned(), "c".to_owned()]).await.unwrap();
        texts.warm().keys(["d".to_owned()]).await.unwrap();
        for key in ["a", "b", "c", "d"] {
            let mut tags = tags(&texts, key).await;
            tags.sort();
            assert_eq!(tags, ["other", "t"], "{key}");
        }
        forget(&texts, "nothing").await;
        assert!(held(&texts, "a").await && held(&texts, "b").await);
        forget(&texts, "t").await;
        for key in ["a", "b", "c", "d"] {
            assert!(!held(&texts, key).await, "{key}");
        }
        table.is_of(&[]);
        texts.get("a").await.unwrap();
        forget(&texts, "t").await;
        assert!(held(&texts, "a").await, "it is as the last load said");
    }
}

#[tokio::test]
async fn what_is_loaded_anew_has_the_tags_that_the_new_load_says() {
    for (texts, table, _) in everywhere(through).await {
        let texts = texts.with_refresh(|text| Some(text.to_owned()));
        texts.get("a").await.unwrap();
        table.is_of(&["next"]);
        texts.refresh("a").await.unwrap();
        terrace_testkit::wait::until_some("the new value", async || {
            let_others_run().await;
            (tags(&texts, "a").await == ["next"]).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_tag_that_is_invalidated_while_its_value_is_loaded_counts() {
    for (texts, table, _) in everywhere(through).await {
        for many in [false, true] {
            table.hold();
            let loading = spawn({
                let texts = texts.clone();
                async move {
                    if many {
                        texts.get_many(&["a".to_owned()]).await.map(|mut found| found.remove(0))
                    } else {
                        texts.get("a").await
                    }
                }
            });
            table.wait_until_held(1).await;
            forget(&texts, "t").await;
            table.let_go();
            let value = loading.await.expect("it does not panic").unwrap();
            assert_eq!(value.as_deref().map(String::as_str), Some("row"), "who asked before gets it");
            assert!(!held(&texts, "a").await, "many: {many}");
        }
    }
}

#[tokio::test]
async fn more_tags_than_an_entry_can_have_are_an_error() {
    for (texts, table, _) in everywhere(through).await {
        let many: Vec<String> = (0..=Tag::PER_ENTRY_MAX).map(|number| number.to_string()).collect();
        table.is_of(&many.iter().map(String::as_str).collect::<Vec<_>>());
        let error = texts.get("a").await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TooManyTags { count: 33, .. }), "{error}");
        assert!(!held(&texts, "a").await);
    }
}

#[tokio::test]
async fn an_origin_that_asks_for_each_key_by_itself_says_it_all_by_one_function() {
    let names = |numbers: std::ops::Range<u16>| numbers.map(|number| number.to_string()).collect::<Vec<_>>();
    for (texts, ..) in everywhere(|builder, _| builder.read_through(Apart)).await {
        let found = texts.get_many(&names(0..5)).await.unwrap();
        assert_eq!(
            found.into_iter().flatten().map(|value| (*value).clone()).collect::<Vec<_>>(),
            names(0..5)
        );
        assert_eq!(texts.warm().keys(names(5..305)).await.unwrap().failed, 0);
        for key in names(0..305) {
            let mut tags = tags(&texts, &key).await;
            tags.sort();
            assert_eq!(tags, [key.as_str(), "t"]);
        }
        forget(&texts, "t").await;
        assert!(!held(&texts, "0").await && !held(&texts, "304").await);
    }
}

#[tokio::test]
async fn answers_for_each_key_come_in_the_order_of_the_keys() {
    let keys: Vec<String> = (0..600).map(|number| number.to_string()).collect();
    let answers = Apart.fetch_many(&keys).await;
    let values = answers.into_iter().map(|answer| answer.unwrap().into_value().expect("it has all"));
    assert_eq!(values.collect::<Vec<_>>(), keys);
}
