//! What does a change that was heard do here?
//!
//! 1. What is heard voids tickets and drops copies exactly as this node's own changes do, but for a copy of the very version
//!    that the message tells of, or a later one: it was read after the change, or is the change.
//! 2. What concerns more than one key costs a pass over L1. A sweep is told by each partition, so such changes are collected
//!    ([`Drops`]), and one pass is made for all of them: before anything that was heard later proves anything.
//! 3. A partition of which a message may be missing loses all its copies in L1. L2 still has them.
//! 4. This node's own messages are no exception: another cache in this process may share its name.

use crate::entry::Resident;
use crate::l1::L1Key;
use crate::space::View;
use std::collections::HashSet;
use terrace_core::bus::{Change, Message};
use terrace_core::remote::SweepRule;
use terrace_core::{Key, Partition, Tag, Version};

/// Changes of many entries that were heard, and not applied yet.
#[derive(Default)]
pub(crate) struct Drops {
    rules: Vec<SweepRule>,
    tags: HashSet<Tag>,
    /// Partitions whose tags are all dead.
    floors: HashSet<Partition>,
    /// Partitions of which a message may be missing.
    suspects: HashSet<Partition>,
}

impl Drops {
    /// All copies of these partitions.
    pub(crate) fn of_suspects(suspects: HashSet<Partition>) -> Self {
        Self { suspects, ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        let Self { rules, tags, floors, suspects } = self;
        rules.is_empty() && tags.is_empty() && floors.is_empty() && suspects.is_empty()
    }

    fn note(&mut self, partition: Partition, change: &Change) {
        match change {
            Change::Tag(tag) => {
                self.tags.insert(tag.clone());
            }
            Change::Sweep(rule) if !self.rules.contains(rule) => self.rules.push(rule.clone()),
            Change::Floor => {
                self.floors.insert(partition);
            }
            Change::Sweep(_) | Change::Set(_) | Change::Invalidate(_) => {}
        }
    }
}

impl View {
    /// Applies a change that was made to one key of `partition`, or notes it in `drops`.
    pub(crate) fn hear(&self, partition: Partition, message: &Message, drops: &mut Drops) {
        match &message.change {
            Change::Set(key) | Change::Invalidate(key) => self.drop_older(key, message.number),
            change => drops.note(partition, change),
        }
    }

    /// Applies what was noted. Namespaces have `count` partitions.
    pub(crate) fn drop_all(&self, drops: &Drops, count: u16) {
        let Drops { rules, tags, floors, suspects } = drops;
        let of = |text: &str| Partition::of(&self.space.namespace, text, count);
        let by_rule = |text: &str| {
            rules.iter().any(|rule| match rule {
                SweepRule::All => true,
                SweepRule::Matching(glob) => glob.matches(text),
            })
        };
        let is_dead = |tag: &Tag| {
            let by_partition =
                |dead: &HashSet<Partition>| !dead.is_empty() && dead.contains(&of(tag.as_str()));
            tags.contains(tag) || by_partition(floors) || by_partition(suspects)
        };
        self.drop_where(|name: &L1Key, resident: &Resident| {
            let by_name =
                |text: &str| by_rule(text) || (!suspects.is_empty() && suspects.contains(&of(text)));
            name.with_text(by_name) || resident.tags().any(is_dead)
        });
    }

    fn drop_older(&self, key: &Key, number: Version) {
        let name = self.name_of(key.as_str());
        match self.l1() {
            Some(l1) => l1.drop_older(name, number),
            None => self.shared.tickets.void_heard(name, number),
        }
    }
}
