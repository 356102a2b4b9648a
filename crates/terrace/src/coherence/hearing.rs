//! What does another node's change do here?
//!
//! 1. What is heard voids tickets and drops copies exactly as this node's own changes do, but for a copy of the very version
//!    that the message tells of, or a later one: it was read after the change, or is the change.
//! 2. A partition of which a message may be missing loses all its copies in L1. L2 still has them.
//! 3. This node's own messages are no exception: another cache in this process may share its name.

use crate::space::View;
use std::collections::HashSet;
use terrace_core::bus::{Change, Message};
use terrace_core::remote::SweepRule;
use terrace_core::{Key, Partition, Version};

impl View {
    /// Applies a change that was made to `partition`.
    pub(crate) fn hear(&self, partition: Partition, count: u16, message: &Message) {
        match &message.change {
            Change::Set(key) | Change::Invalidate(key) => self.drop_older(key, message.number),
            Change::Tag(tag) => {
                self.drop_where(|_, resident| resident.has_any_tag(std::slice::from_ref(tag)));
            }
            Change::Sweep(rule) => {
                self.drop_where(|name, _| match rule {
                    SweepRule::All => true,
                    SweepRule::Matching(glob) => name.with_text(|text| glob.matches(text)),
                });
            }
            Change::Floor => {
                self.drop_where(|_, resident| {
                    resident.tags().any(|tag| self.partition_of(tag.as_str(), count) == partition)
                });
            }
        }
    }

    /// Drops all copies of partitions of which a message may be missing.
    pub(crate) fn drop_suspects(&self, suspects: &HashSet<Partition>, count: u16) {
        if suspects.is_empty() {
            return;
        }
        let is_suspect = |text: &str| suspects.contains(&self.partition_of(text, count));
        self.drop_where(|name, resident| {
            name.with_text(is_suspect) || resident.tags().any(|tag| is_suspect(tag.as_str()))
        });
    }

    fn drop_older(&self, key: &Key, number: Version) {
        let name = self.name_of(key.as_str());
        match self.l1() {
            Some(l1) => l1.drop_older(name, number),
            None => self.shared.tickets.void_heard(name, number),
        }
    }

    fn partition_of(&self, text: &str, count: u16) -> Partition {
        Partition::of(&self.space.namespace, text, count)
    }
}
