//! Does this node hold anything old that counts as fresh?
//!
//! What the rest of this module argues is held against what L2 says itself, on a sample, while the cache runs.
//!
//! 1. Now and then the log of a partition is read that chance has chosen, as it grew in a while. Nothing of that depends on what
//!    was heard.
//! 2. Of the keys that were changed there, copies are looked for one lease after the reading, and five. One that counts as
//!    fresh then, and is older than the change, is a broken promise: it is counted and logged.
//! 3. Trust is asked for before the copy is looked up, as by every read.

use crate::runtime::sleep;
use crate::space::View;
use crate::telemetry::Event;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::bus::{Bus, Change, Message};
use terrace_core::{Key, Partition, Version};

/// How long a log grows between two readings.
const INTERVAL: Duration = Duration::from_secs(5);
/// Most changes of one reading whose keys are looked up.
const SAMPLE_MAX: usize = 64;
/// When copies are looked for, in leases.
const LOOKS: [u32; 2] = [1, 4];

impl View {
    /// Sees to it that this node is audited in this namespace, until the cache is gone.
    pub(crate) fn see_to_audits(&self) {
        let is_heard = self.l1().is_some() && self.l2().is_some_and(crate::resilience::L2::tells_changes);
        if self.space.audits.are_taken() || !is_heard || !self.shared.runtime.is_available() {
            return;
        }
        let Some(turn) = self.space.audits.take() else { return };
        let (shared, space) = (Arc::downgrade(&self.shared), Arc::downgrade(&self.space));
        self.shared.runtime.spawn_until_closed(async move {
            let _turn = turn;
            let mut begun = None;
            loop {
                sleep(INTERVAL).await;
                let (Some(shared), Some(space)) = (shared.upgrade(), space.upgrade()) else { return };
                begun = Self { shared, space }.audit(begun).await;
            }
        });
    }

    /// Looks for old copies of what was changed since `begun`, and begins with another partition.
    async fn audit(&self, begun: Option<(Partition, Version)>) -> Option<(Partition, Version)> {
        let l2 = self.l2()?;
        let bus = l2.remote().bus()?;
        if let Some(begun) = begun {
            let changed = self.changed_since(bus, begun).await;
            for leases in LOOKS {
                if changed.is_empty() {
                    break;
                }
                sleep(l2.lease() * leases).await;
                for (key, number) in &changed {
                    self.look_for_older(key, *number);
                }
            }
        }
        let partition = self.shared.chance.below(u64::from(bus.partitions()));
        let partition = u16::try_from(partition).ok()?;
        let counters =
            bus.counters(&self.space.namespace, partition..partition.checked_add(1)?).await.ok()?;
        Some((Partition(partition), *counters.first()?))
    }

    /// Keys that were changed in a partition after a number, each with the last number of its changes.
    async fn changed_since(&self, bus: &dyn Bus, begun: (Partition, Version)) -> Vec<(Key, Version)> {
        let Ok(logs) = bus.changes_since(&self.space.namespace, &[begun]).await else { return Vec::new() };
        let messages = logs.iter().flatten().filter_map(|bytes| Message::parse(bytes).ok());
        let of_key = |message: Message| match message.change {
            Change::Set(key) | Change::Invalidate(key) => Some((key, message.number)),
            _ => None,
        };
        messages.filter_map(of_key).take(SAMPLE_MAX).collect()
    }

    fn look_for_older(&self, key: &Key, number: Version) {
        let Some((l1, _)) = self.l1_trusted() else { return };
        let latest = self.latest();
        let version = |copy: &crate::entry::Resident| copy.is_answer(latest).then_some(copy.version);
        let copy = l1.peek_with(self.name_of(key.as_str()), &self.space.bans, version).flatten();
        let is_older = copy.is_some_and(|copy| copy != Version::ZERO && number.supersedes(copy));
        self.space.counters.count(if is_older { Event::AuditFailed } else { Event::AuditPassed });
        if is_older {
            tracing::error!(namespace = %self.space.namespace, number = number.get(), "a copy counts as fresh that is older than a change");
        }
    }
}
