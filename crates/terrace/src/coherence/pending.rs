//! Invalidations that L2 has not seen yet.
//!
//! When L2 cannot be reached, an invalidation still applies on this node at once, and waits here until it can be
//! delivered. Until then L2 may hold the old value, so:
//!
//! 1. A read of a key that an undelivered invalidation names does not believe L2.
//! 2. Per key the newest invalidation is kept, so the queue is bounded by keys. When even that is too many
//!    ([`KEYS_MAX`], [`RULES_MAX`]), the whole namespace is invalidated instead: less is cached, nothing is stale.
//! 3. What was added while a delivery was on its way stays for the next one.
//!
//! Deliberately absent: survival of this process. Undelivered invalidations die with it, and L2 then keeps the old
//! values until their TTL; `Effect::Queued` tells the caller.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use terrace_core::envelope::TagStamp;
use terrace_core::mutants::{self, Mutant};
use terrace_core::remote::SweepRule;
use terrace_core::{Key, Tag};

/// Keys and tags that may wait, each.
const KEYS_MAX: usize = 65_536;
/// Patterns that may wait.
const RULES_MAX: usize = 64;

/// The undelivered invalidations of one namespace.
#[derive(Default)]
pub(crate) struct Pending {
    is_any: AtomicBool,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    keys: BTreeMap<Key, u64>,
    tags: BTreeMap<Tag, u64>,
    rules: Vec<(SweepRule, u64)>,
    /// Numbers the additions, so that a delivery removes only what it delivered.
    added: u64,
}

/// What is to be delivered, and how far it goes.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) keys: Vec<Key>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) rules: Vec<SweepRule>,
    /// The number of the last addition in it.
    pub(crate) until: u64,
}

impl Pending {
    /// Queues keys.
    pub(crate) fn add_keys<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) {
        self.change(|queue| {
            for key in keys {
                queue.added += 1;
                queue.keys.insert(key.clone(), queue.added);
            }
            if queue.keys.len() > KEYS_MAX {
                queue.collapse();
            }
        });
    }

    /// Queues tags.
    pub(crate) fn add_tags(&self, tags: &[Tag]) {
        self.change(|queue| {
            for tag in tags {
                queue.added += 1;
                queue.tags.insert(tag.clone(), queue.added);
            }
            if queue.tags.len() > KEYS_MAX {
                queue.collapse();
            }
        });
    }

    /// Queues a rule.
    pub(crate) fn add_rule(&self, rule: &SweepRule) {
        self.change(|queue| {
            queue.added += 1;
            let added = queue.added;
            queue.rules.retain(|(waiting, _)| waiting != rule);
            queue.rules.push((rule.clone(), added));
            if *rule == SweepRule::All || queue.rules.len() > RULES_MAX {
                queue.collapse();
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Queue)) {
        let mut queue = self.queue.lock();
        change(&mut queue);
        self.is_any.store(queue.len() > 0, Ordering::Release);
    }

    /// Whether nothing waits.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_any.load(Ordering::Acquire)
    }

    /// How many invalidations wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.lock().len()
    }

    /// Whether what L2 holds under `key` may be older than an invalidation.
    pub(crate) fn distrusts(&self, key: &Key) -> bool {
        if self.is_empty() || mutants::is(Mutant::PendingIsTrusted) {
            return false;
        }
        let queue = self.queue.lock();
        queue.keys.contains_key(key)
            || queue.rules.iter().any(|(rule, _)| match rule {
                SweepRule::All => true,
                SweepRule::Matching(glob) => glob.matches(key.as_str()),
            })
    }

    /// Whether one of these tags of an entry in L2 was invalidated.
    pub(crate) fn distrusts_tags(&self, tags: &[TagStamp]) -> bool {
        if tags.is_empty() || self.is_empty() {
            return false;
        }
        let queue = self.queue.lock();
        tags.iter().any(|stamp| queue.tags.contains_key(&stamp.tag))
    }

    /// All that waits now.
    pub(crate) fn delivery(&self) -> Delivery {
        let queue = self.queue.lock();
        Delivery {
            keys: queue.keys.keys().cloned().collect(),
            tags: queue.tags.keys().cloned().collect(),
            rules: queue.rules.iter().map(|(rule, _)| rule.clone()).collect(),
            until: queue.added,
        }
    }

    /// Forgets keys that a delivery brought to L2, but not those that were added again since.
    pub(crate) fn delivered_keys(&self, keys: &[Key], until: u64) {
        self.change(|queue| forget(&mut queue.keys, keys, until));
    }

    /// Forgets tags that a delivery brought to L2, but not those that were added again since.
    pub(crate) fn delivered_tags(&self, tags: &[Tag], until: u64) {
        self.change(|queue| forget(&mut queue.tags, tags, until));
    }

    /// Forgets a rule that a delivery brought to L2, unless it was added again since.
    pub(crate) fn delivered_rule(&self, rule: &SweepRule, until: u64) {
        self.change(|queue| queue.rules.retain(|(waiting, added)| waiting != rule || *added > until));
    }
}

fn forget<T: Ord>(waiting: &mut BTreeMap<T, u64>, delivered: &[T], until: u64) {
    for item in delivered {
        if waiting.get(item).is_some_and(|added| *added <= until) {
            waiting.remove(item);
        }
    }
}

impl Queue {
    fn len(&self) -> usize {
        self.keys.len() + self.tags.len() + self.rules.len()
    }

    /// Puts "everything" in place of all that waits.
    fn collapse(&mut self) {
        self.keys.clear();
        self.tags.clear();
        self.rules = vec![(SweepRule::All, self.added)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use terrace_core::Glob;

    fn key(text: &str) -> Key {
        Key::new(text).expect("valid")
    }

    #[test]
    fn a_waiting_key_is_distrusted_until_it_is_delivered() {
        let pending = Pending::default();
        pending.add_keys([&key("a")]);
        assert!(pending.distrusts(&key("a")));
        assert!(!pending.distrusts(&key("b")));
        pending.delivered_keys(&[key("a")], pending.delivery().until);
        assert!(!pending.distrusts(&key("a")));
        assert!(pending.is_empty());
    }

    #[test]
    fn what_is_added_during_a_delivery_waits_for_the_next() {
        let pending = Pending::default();
        pending.add_keys([&key("a"), &key("b")]);
        let delivery = pending.delivery();
        pending.add_keys([&key("a")]);
        pending.delivered_keys(&delivery.keys, delivery.until);
        assert!(pending.distrusts(&key("a")));
        assert!(!pending.distrusts(&key("b")));
    }

    #[test]
    fn rules_distrust_what_they_match() {
        let pending = Pending::default();
        pending.add_rule(&SweepRule::Matching(Glob::new("user:*").expect("valid")));
        assert!(pending.distrusts(&key("user:1")));
        assert!(!pending.distrusts(&key("org:1")));
    }

    #[test]
    fn too_many_become_everything() {
        let pending = Pending::default();
        let keys: Vec<Key> = (0..=KEYS_MAX).map(|n| key(&n.to_string())).collect();
        pending.add_keys(&keys);
        assert_eq!(pending.len(), 1);
        assert!(pending.distrusts(&key("never added")));
    }
}
