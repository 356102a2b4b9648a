//! What does a change that was heard do here?
//!
//! 1. What is heard voids tickets and drops copies exactly as this node's own changes do, but for a copy of the very version
//!    that the message tells of, or a later one: it was read after the change, or is the change.
//! 2. What concerns more than one key is a ban ([`super::bans`]).
//! 3. All copies of a partition of which a message may be missing are suspect: L2 is asked before one counts as fresh again.
//! 4. This node's own messages are no exception: another cache in this process may share its name.

use super::bans::Ban;
use crate::space::View;
use std::collections::HashSet;
use terrace_core::bus::{Change, Message};
use terrace_core::remote::SweepRule;
use terrace_core::{Key, Partition, Version};

impl View {
    /// Applies a change that was made to `partition`, of so many.
    pub(crate) fn hear(&self, partition: Partition, message: &Message, count: u16) {
        let generations = &self.space.generations;
        match &message.change {
            Change::Set(key) | Change::Invalidate(key) => {
                self.drop_older(key, message.number);
                self.space.waiting.wake(key);
            }
            Change::Tag(tag) => {
                self.ban(&Ban::Tags(std::slice::from_ref(tag)));
                generations.bumped(tag, message.number);
            }
            Change::Sweep(rule) => self.ban(&Ban::Sweep(rule)),
            Change::Floor => {
                self.ban(&Ban::Floor(partition, count));
                generations.forget_of(&HashSet::from([partition]), &self.space.namespace, count);
            }
            Change::Refresh(key) => self.hear_refresh(key, message.number),
            Change::Hello => {}
        }
        generations.heard(partition, message.number);
    }

    /// Makes the copies of partitions suspect, of so many, of which a change may have been missed.
    pub(crate) fn suspect(&self, suspects: &HashSet<Partition>, count: u16) {
        self.ban(&Ban::Suspects(suspects, count));
        self.space.generations.forget_of(suspects, &self.space.namespace, count);
    }

    /// Forgets all copies: nothing was heard of the namespace, of so many partitions, before.
    pub(crate) fn begin_hearing(&self, count: u16) {
        let all = (0..count).map(Partition).collect();
        self.ban(&Ban::Sweep(&SweepRule::All));
        self.space.generations.forget_of(&all, &self.space.namespace, count);
    }

    fn drop_older(&self, key: &Key, number: Version) {
        let name = self.name_of(key.as_str());
        match self.l1() {
            Some(l1) => l1.drop_older(name, number),
            None => self.shared.tickets.void_heard(name, number),
        }
    }
}
