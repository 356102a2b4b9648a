//! Under which numbers L2 tells everybody of an invalidation.
//!
//! 1. A number is that of the [event](crate::Event::number) by which every node tells of it, and it is there only once L2 has made the change:
//!    what waits to be told to L2, or is due later, has none.
//! 2. A node that has told of the event has forgotten what the change names: of a pattern, the event is that of the partition which L2
//!    was told last.

use super::Invalidated;
use crate::write::{Effect, Removed};
use terrace_core::remote::SweepRule;
use terrace_core::{Glob, Key, Tag, Version};

/// What came of an invalidation, and under which numbers L2 tells everybody of it.
///
/// None of them is there for what waits to be told to L2, nor where no L2 tells of changes. Whether all that was named has one is seen by
/// counting.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Numbered {
    /// What came of it.
    pub invalidated: Invalidated,
    /// The keys that were named, in their order, with the [number](crate::Event::number) that the event of each has on every node.
    pub keys: Vec<(Key, Version)>,
    /// The tags that were named, in their order, with the number that the event of each has on every node.
    pub tags: Vec<(Tag, Version)>,
    /// The patterns that were named, in their order, with the number that the event of each has on every node. There is none in a Redis
    /// Cluster, whose primaries are told of a pattern side by side: no one event says that a node has heard of it from all of them.
    pub patterns: Vec<(Glob, Version)>,
}

impl Numbered {
    /// Nothing was named yet.
    pub(super) fn nothing() -> Self {
        Invalidated { count: 0, is_exact: true, effect: Effect::Applied }.into()
    }

    pub(super) fn add_keys(&mut self, keys: &[Key], removed: &[Removed]) {
        let versions = removed.iter().map(|removed| removed.version);
        self.keys.extend(numbered(keys, versions));
    }

    pub(super) fn add_tags(&mut self, tags: &[Tag], versions: &[Version]) {
        self.tags.extend(numbered(tags, versions.iter().copied()));
    }

    pub(super) fn add_rule(&mut self, rule: &SweepRule, version: Option<Version>) {
        if let SweepRule::Matching(glob) = rule {
            self.patterns.extend(numbered(std::slice::from_ref(glob), version.into_iter()));
        }
    }
}

fn numbered<T: Clone>(
    named: &[T],
    versions: impl Iterator<Item = Version>,
) -> impl Iterator<Item = (T, Version)> {
    named.iter().cloned().zip(versions).filter(|(_, version)| *version != Version::ZERO)
}

impl From<Invalidated> for Numbered {
    fn from(invalidated: Invalidated) -> Self {
        Self { invalidated, keys: Vec::new(), tags: Vec::new(), patterns: Vec::new() }
    }
}
