//! What does a change that was heard do here?
//!
//! 1. What is heard voids tickets and drops copies exactly as this node's own changes do, but for a copy of the very version
//!    that the message tells of, or a later one: it was read after the change, or is the change.
//!    Where numbers are in no order ([`Bus::is_chained`]), for a copy of that very version alone.
//! 2. What concerns more than one key is a ban ([`super::bans`]).
//! 3. All copies of a partition of which a message may be missing are suspect: L2 is asked before one counts as fresh again.
//! 4. Where values are told as touched, by whomever, there is no version to compare with: tickets are voided and the copy is
//!    dropped, also one that this node has just stored or filled itself. A stranger's change may be behind it.
//! 5. This node's own messages are no exception: another cache in this process may share its name. But for a change whose very number
//!    this cache knows and waits for ([`crate::write::watch`]): it has voided what it had to when it was acknowledged.

use super::bans::Ban;
use crate::space::View;
use std::collections::HashSet;
use terrace_core::bus::{Bus, Change, Message};
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

    /// Somebody has touched the value of a key; of any key, if none is named. There are so many partitions. A stranger gives no
    /// versions, so what may have been touched is dead, and not just suspect.
    pub(crate) fn hear_touch(&self, key: Option<&Key>, count: u16) {
        match key {
            Some(key) => {
                self.drop_l1(key);
                self.space.watching.contest(key);
                self.see_to_watches();
            }
            None => self.forget_all(count),
        }
    }

    /// Makes the copies of partitions suspect, of so many, of which a change may have been missed.
    pub(crate) fn suspect(&self, suspects: &HashSet<Partition>, count: u16) {
        self.ban(&Ban::Suspects(suspects, count));
        self.space.generations.forget_of(suspects, &self.space.namespace, count);
    }

    /// Forgets all copies of the namespace, which has so many partitions.
    pub(crate) fn forget_all(&self, count: u16) {
        let all = (0..count).map(Partition).collect();
        self.ban(&Ban::Sweep(&SweepRule::All));
        self.space.generations.forget_of(&all, &self.space.namespace, count);
    }

    fn drop_older(&self, key: &Key, number: Version) {
        let name = self.name_of(key.as_str());
        let is_chained = self.is_chained();
        let apply = || match self.l1() {
            Some(l1) if is_chained => l1.drop_older(name, number),
            Some(l1) => l1.drop_others(name, number),
            None => self.shared.tickets.void_heard(name, number),
        };
        let is_own = self.space.watching.hear(key, number, |stored| self.is_dead(key, stored), apply);
        if let Some(l1) = self.l1().filter(|_| is_own) {
            l1.leave_older(name, number);
        }
        self.see_to_watches();
    }

    /// Whether numbers are the order of changes.
    pub(crate) fn is_chained(&self) -> bool {
        self.l2().and_then(|l2| l2.remote().bus()).is_none_or(Bus::is_chained)
    }
}
