//! Listing keys, page by page.

use super::{Bench, LONG};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use terrace_core::remote::{ListPlace, RemoteError, SweepRule};
use terrace_core::{Glob, Ttl};

/// More names than a listing may have to look at.
const STEPS_MAX: usize = 100_000;

impl Bench<'_> {
    /// All keys that a rule names, with the time that is left to them. `between` is called before each page but the first. `None` if the
    /// server does not say which life it is in, so that no place can be believed.
    async fn listed(
        &self,
        rule: &SweepRule,
        count: u32,
        mut between: impl AsyncFnMut(usize),
    ) -> Option<BTreeMap<String, Option<Ttl>>> {
        let (mut found, mut from) = (BTreeMap::new(), None);
        for step in 0..STEPS_MAX {
            let page = match self.remote.list(&self.namespace, rule, from, count).await {
                Err(RemoteError::Refused { reason }) if from.is_some() && reason.contains("INFO") => {
                    return None;
                }
                page => page.expect("it is listed"),
            };
            let page = page.expect("no server has changed");
            found.extend(page.entries.into_iter().map(|(key, ttl)| (key.as_str().to_owned(), ttl)));
            let Some(next) = page.next else { return Some(found) };
            from = Some(next);
            between(step).await;
        }
        panic!("it does not end");
    }
}

pub(super) async fn keys_that_stay_are_listed_whoever_comes_and_goes(bench: Bench<'_>) {
    let stay: BTreeSet<String> = (0..150).map(|index| format!("stay:{index}")).collect();
    for key in &stay {
        bench.set(&Bench::key(key), "v", LONG).await;
    }
    for index in 0..150 {
        bench.set(&Bench::key(&format!("go:{index}")), "v", LONG).await;
    }
    let listed = bench
        .listed(&SweepRule::All, 20, async |step| {
            if step < 150 {
                bench.invalidate(&Bench::key(&format!("go:{step}"))).await;
                bench.set(&Bench::key(&format!("come:{step}")), "v", LONG).await;
                bench.set(&Bench::key(&format!("stay:{step}")), "w", LONG).await;
            }
        })
        .await;
    let Some(listed) = listed else { return };
    let missed: Vec<&String> = stay.iter().filter(|key| !listed.contains_key(*key)).collect();
    assert!(missed.is_empty(), "{missed:?}");
    assert!(listed.keys().all(|key| ["stay:", "go:", "come:"].iter().any(|kind| key.starts_with(kind))));
}

pub(super) async fn a_listing_has_what_the_rule_names_and_is_alive(bench: Bench<'_>) {
    for key in ["user:1", "user:2", "users:1", "org:7", "[a]"] {
        bench.set(&Bench::key(key), "v", LONG).await;
    }
    bench.set(&Bench::key("user:ever"), "v", Ttl::Never).await;
    let matching = |pattern: &str| SweepRule::Matching(Glob::new(pattern).expect("a valid pattern"));
    let listed = async |rule: &SweepRule| bench.listed(rule, 50, async |_| ()).await.unwrap_or_default();
    if bench.listed(&SweepRule::All, 50, async |_| ()).await.is_none() {
        return;
    }
    let users = listed(&matching("user:*")).await;
    assert_eq!(users.keys().collect::<Vec<_>>(), ["user:1", "user:2", "user:ever"]);
    assert!(
        matches!(users["user:1"], Some(Ttl::After(left)) if left > Duration::ZERO && Ttl::After(left).min(LONG) == Ttl::After(left)),
        "{users:?}"
    );
    assert!(matches!(users["user:ever"], None | Some(Ttl::Never)), "{users:?}");
    assert_eq!(listed(&matching(r"\[a\]")).await.len(), 1);
    assert_eq!(listed(&matching("nobody")).await.len(), 0);
    bench.remote.sweep(&bench.namespace, &matching("user:?")).await.expect("it sweeps");
    let users = listed(&matching("user:*")).await;
    assert_eq!(users.keys().collect::<Vec<_>>(), ["user:ever"], "what is dead is not listed");
    bench.invalidate(&Bench::key("user:ever")).await;
    assert_eq!(listed(&SweepRule::All).await.keys().collect::<Vec<_>>(), ["[a]", "org:7", "users:1"]);
}

pub(super) async fn a_place_of_nobody_is_lost(bench: Bench<'_>) {
    let place = Some(ListPlace([u64::MAX; 4]));
    let page = bench.remote.list(&bench.namespace, &SweepRule::All, place, 10).await.expect("it answers");
    assert_eq!(page, None);
}
