//! Which generations of tags does this node know, without asking?
//!
//! What L2 has told once is kept, and follows what is heard: so a hit in L2 is one round trip, whatever its tags.
//!
//! 1. What is known holds while copies are trusted ([`super::trust`]): as old as a copy may be, and no older.
//! 2. An answer of L2 is kept only if no ban came since it was asked for: a bump is a ban first, then it is noted here.
//! 3. This node's own bumps are forgotten, not noted: nobody has told their number yet.
//! 4. `heads` are numbers of changes that were heard or counted: whatever has such a number, or a lower one, was done before.

use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use terrace_core::{Namespace, Partition, Tag, Version};

/// Tags whose generations are known. Of more, all are forgotten.
const TAGS_MAX: usize = 16_384;

/// What is known of one namespace.
#[derive(Debug, Default)]
pub(crate) struct Generations {
    known: Mutex<HashMap<Tag, Version>>,
    heads: OnceLock<Box<[AtomicU64]>>,
}

/// The numbers up to which the changes of each partition were done when these were taken.
#[derive(Debug)]
pub(crate) struct Heads(Box<[u64]>);

impl Generations {
    /// The generations that are known, in the order of `tags`.
    pub(crate) fn known(&self, tags: &[Tag]) -> Vec<Option<Version>> {
        let known = self.known.lock();
        tags.iter().map(|tag| known.get(tag).copied()).collect()
    }

    /// Keeps what L2 has told, if `is_current` still holds.
    pub(crate) fn told(
        &self,
        told: impl IntoIterator<Item = (Tag, Version)>,
        is_current: impl FnOnce() -> bool,
    ) {
        let mut known = self.known.lock();
        if !is_current() {
            return;
        }
        known.extend(told);
        if known.len() > TAGS_MAX {
            known.clear();
        }
    }

    /// A tag was bumped, under this number. Whoever calls has banned it before. What is heard only now may be older than what
    /// L2 has told since, so of a number that is not greater nothing is known any more.
    pub(crate) fn bumped(&self, tag: &Tag, number: Version) {
        let mut all = self.known.lock();
        match all.get_mut(tag) {
            Some(known) if number.supersedes(*known) => *known = number,
            Some(known) if number != *known => drop(all.remove(tag)),
            _ => {}
        }
    }

    /// These tags are bumped, under numbers that nobody has told.
    pub(crate) fn forget(&self, tags: &[Tag]) {
        let mut known = self.known.lock();
        for tag in tags {
            known.remove(tag);
        }
    }

    /// Nothing is known any more of the tags of these partitions, of so many.
    pub(crate) fn forget_of(&self, partitions: &HashSet<Partition>, namespace: &Namespace, count: u16) {
        let of = |tag: &Tag| Partition::of(namespace, tag.as_str(), count);
        self.known.lock().retain(|tag, _| !partitions.contains(&of(tag)));
    }

    /// The counters of all partitions were read.
    pub(crate) fn counted(&self, counters: &[Version]) {
        let heads = self.heads.get_or_init(|| counters.iter().map(|_| AtomicU64::new(0)).collect());
        for (head, counter) in heads.iter().zip(counters) {
            head.fetch_max(counter.get(), Ordering::AcqRel);
        }
    }

    /// A change of a partition was heard.
    pub(crate) fn heard(&self, partition: Partition, number: Version) {
        if let Some(head) = self.heads.get().and_then(|heads| heads.get(usize::from(partition.0))) {
            head.fetch_max(number.get(), Ordering::AcqRel);
        }
    }

    /// What was done by now; `None` if nothing is heard.
    pub(crate) fn heads(&self) -> Option<Heads> {
        let heads = self.heads.get()?;
        Some(Heads(heads.iter().map(|head| head.load(Ordering::Acquire)).collect()))
    }
}

impl Heads {
    /// Whether a tag's generation is from before these were taken.
    pub(crate) fn include(&self, namespace: &Namespace, tag: &Tag, generation: Version) -> bool {
        let count = u16::try_from(self.0.len()).unwrap_or(u16::MAX);
        let partition = Partition::of(namespace, tag.as_str(), count);
        self.0.get(usize::from(partition.0)).is_some_and(|head| generation.get() <= *head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> Tag {
        Tag::new(text).expect("valid")
    }

    #[test]
    fn what_is_known_follows_what_is_heard() {
        let generations = Generations::default();
        let both = [tag("a"), tag("b")];
        generations.told([(tag("a"), 1.into())], || true);
        generations.told([(tag("b"), 1.into())], || false);
        generations.bumped(&tag("b"), 5.into());
        assert_eq!(generations.known(&both), [Some(1.into()), None]);
        generations.bumped(&tag("a"), 7.into());
        assert_eq!(generations.known(&both), [Some(7.into()), None]);
        generations.forget(&both);
        assert_eq!(generations.known(&both), [None, None]);
    }

    #[test]
    fn what_was_told_is_not_taken_back_by_what_is_heard_late() {
        let generations = Generations::default();
        let tags = [tag("a")];
        generations.told([(tag("a"), 7.into())], || true);
        generations.bumped(&tag("a"), 7.into());
        assert_eq!(generations.known(&tags), [Some(7.into())]);
        generations.bumped(&tag("a"), 5.into());
        assert_eq!(generations.known(&tags), [None]);
    }

    #[test]
    fn tags_of_a_partition_are_forgotten_together() {
        let (generations, namespace) = (Generations::default(), Namespace::new("n").expect("valid"));
        let tags: Vec<Tag> = (0..100).map(|n| tag(&n.to_string())).collect();
        generations.told(tags.iter().map(|tag| (tag.clone(), 1.into())), || true);
        let third = Partition(3);
        generations.forget_of(&HashSet::from([third]), &namespace, 4);
        for (tag, known) in tags.iter().zip(generations.known(&tags)) {
            assert_eq!(known.is_none(), Partition::of(&namespace, tag.as_str(), 4) == third, "{tag}");
        }
    }

    #[test]
    fn too_many_are_forgotten() {
        let generations = Generations::default();
        for n in 0..=TAGS_MAX {
            generations.told([(tag(&n.to_string()), 1.into())], || true);
        }
        assert_eq!(generations.known.lock().len(), 0);
    }

    #[test]
    fn heads_only_ever_rise() {
        let (generations, namespace) = (Generations::default(), Namespace::new("n").expect("valid"));
        assert!(generations.heads().is_none());
        generations.counted(&[5.into()]);
        generations.heard(Partition(0), 9.into());
        generations.counted(&[7.into()]);
        let heads = generations.heads().expect("counted");
        assert!(heads.include(&namespace, &tag("t"), 9.into()));
        assert!(!heads.include(&namespace, &tag("t"), 10.into()));
    }
}
