//! Generations of tags.

use super::Bench;
use terrace_core::remote::Generation;
use terrace_core::{Namespace, Tag, Version};

fn tag(text: &str) -> Tag {
    Tag::new(text).expect("a valid tag")
}

impl Bench<'_> {
    async fn generations(&self, tags: &[Tag]) -> Vec<Generation> {
        self.remote.generations(&self.namespace, tags).await.expect("asking succeeds")
    }

    async fn bump(&self, tags: &[Tag]) -> Vec<Version> {
        self.remote.bump_tags(&self.namespace, tags).await.expect("a bump succeeds")
    }
}

pub(super) async fn a_generation_changes_when_its_tag_is_bumped_and_only_then(bench: Bench<'_>) {
    let tags = ["a", "b", "c"].map(tag);
    let start = bench.generations(&tags).await;
    assert_eq!(bench.generations(&tags).await, start);
    bench.set(&Bench::key("key"), "v", super::LONG).await;
    assert_eq!(bench.generations(&tags).await, start);
    bench.bump(&[tags[1].clone()]).await;
    let bumped = bench.generations(&tags).await;
    assert_eq!((bumped[0], bumped[2]), (start[0], start[2]));
    assert!(bumped[1].version.supersedes(start[1].version) && bumped[1].bumped_at > start[1].bumped_at);
    bench.bump(&tags).await;
    let again = bench.generations(&tags).await;
    assert!(again.iter().zip(&bumped).all(|(again, bumped)| again.version.supersedes(bumped.version)));

    let other = Namespace::new(&format!("{}-x", bench.namespace)).expect("valid");
    bench.remote.open(&other).await.expect("it opens");
    bench.remote.bump_tags(&other, &tags).await.expect("a bump succeeds");
    assert_eq!(bench.generations(&tags).await, again, "tags of one name in two namespaces are two tags");
}

pub(super) async fn a_bump_tells_of_the_generation_that_it_gives_its_tag(bench: Bench<'_>) {
    let tags = ["c", "a", "b", "a"].map(tag);
    let mut before = [Version::ZERO; 4].to_vec();
    for _ in 0..3 {
        let told = bench.bump(&tags).await;
        assert_eq!(told.len(), tags.len());
        let is_later = |(told, before): (&Version, &Version)| told.supersedes(*before);
        assert!(told.iter().zip(&before).all(is_later), "{told:?} after {before:?}");
        assert!(told[3].supersedes(told[1]), "one that is named twice is bumped twice: {told:?}");
        let known: Vec<Version> =
            bench.generations(&tags).await.iter().map(|generation| generation.version).collect();
        assert_eq!(known, [told[0], told[3], told[2], told[3]], "in the order in which they were named");
        before = told;
    }
}

pub(super) async fn a_bump_is_seen_to_be_before_or_after_a_lease(bench: Bench<'_>) {
    let tags = ["bumped", "other"].map(tag);
    let key = Bench::key("key");
    bench.bump(&tags[..1]).await;
    let lease = bench.lease(&key, 1).await;
    let before = bench.generations(&tags).await;
    assert!(
        before.iter().all(|generation| generation.bumped_at < lease.granted_at),
        "all that was before the lease"
    );
    bench.bump(&tags[..1]).await;
    let after = bench.generations(&tags).await;
    assert!(after[0].bumped_at >= lease.granted_at, "what was bumped during the load");
    assert!(after[1].bumped_at < lease.granted_at);
}

pub(super) async fn tags_with_odd_names_are_tags(bench: Bench<'_>) {
    let tags = ["floor", "_floor", "t:floor", "*", "{x}", " ", "é:7"].map(tag);
    let start = bench.generations(&tags).await;
    for index in 0..tags.len() {
        bench.bump(&tags[index..=index]).await;
        let now = bench.generations(&tags).await;
        for (other, generation) in now.iter().enumerate() {
            assert_eq!(
                *generation != start[other],
                other <= index,
                "{:?} after {:?}",
                tags[other],
                tags[index]
            );
        }
    }
}
