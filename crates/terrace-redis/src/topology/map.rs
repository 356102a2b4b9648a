//! Which primary has what, at one time.
//!
//! 1. Two maps of the same owners are equal, in whatever order they were told.

use super::slots::{self, Owners, SLOTS};
use crate::config::Address;
use crate::supervisor::Supervisor;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use terrace_core::RemoteError;

/// A primary, and what leads to it.
pub(crate) struct Shard {
    pub(crate) supervisor: Arc<Supervisor>,
    /// A hash tag of one of its slots, in a Cluster.
    pub(crate) tag: Option<u32>,
}

/// Which primary has what.
pub(crate) struct Map {
    /// By their addresses.
    pub(crate) shards: Vec<Shard>,
    /// Whose shard a slot is.
    owners: Vec<Option<u16>>,
    /// How many maps there were before.
    pub(super) generation: u64,
}

impl Map {
    /// One that says nothing yet.
    pub(super) fn empty() -> Self {
        Self { shards: Vec::new(), owners: Vec::new(), generation: 0 }
    }

    /// A map of these owners. Their connections come from `connections`.
    pub(super) fn draw(
        found: &Owners,
        is_cluster: bool,
        generation: u64,
        connections: impl FnMut(&Address) -> Result<Arc<Supervisor>, RemoteError>,
    ) -> Result<Self, RemoteError> {
        let addresses: BTreeSet<&Address> = found.iter().map(|(_, address)| address).collect();
        let addresses: Vec<&Address> = addresses.into_iter().collect();
        let mut owners = vec![None; usize::from(SLOTS)];
        for (range, address) in found {
            let index = addresses.binary_search(&address).ok().and_then(|index| u16::try_from(index).ok());
            owners[usize::from(*range.start())..=usize::from(*range.end())].fill(index);
        }
        let tag = |index: usize| {
            let is_own = |slot: u16| owners[usize::from(slot)].map(usize::from) == Some(index);
            slots::tag_into(is_own).filter(|_| is_cluster)
        };
        let supervisors = addresses.into_iter().map(connections).collect::<Result<Vec<_>, _>>()?;
        let shard = |(index, supervisor)| Shard { supervisor, tag: tag(index) };
        let shards = supervisors.into_iter().enumerate().map(shard).collect();
        Ok(Self { shards, owners, generation })
    }

    /// A number that maps of the same owners share, on all nodes that call them by the same names: FNV-1a over both.
    pub(crate) fn fingerprint(&self) -> u64 {
        let addresses =
            self.shards.iter().flat_map(|shard| shard.supervisor.address().to_string().into_bytes());
        let owners = self.owners.iter().flat_map(|owner| owner.map_or(u16::MAX, |owner| owner).to_be_bytes());
        addresses
            .chain(owners)
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }

    /// The index of the shard that has a name.
    pub(crate) fn of_name(&self, name: &str) -> Option<usize> {
        self.of_slot(slots::of_name(name.as_bytes()))
    }

    pub(super) fn of_slot(&self, slot: u16) -> Option<usize> {
        self.owners.get(usize::from(slot)).copied().flatten().map(usize::from)
    }

    /// The connections to a server.
    pub(super) fn supervisor(&self, address: &Address) -> Option<&Arc<Supervisor>> {
        let found = self.shards.iter().find(|shard| shard.supervisor.address() == address);
        found.map(|shard| &shard.supervisor)
    }

    pub(super) fn addresses(&self) -> Vec<Address> {
        self.shards.iter().map(|shard| shard.supervisor.address().clone()).collect()
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.owners == other.owners && self.addresses() == other.addresses()
    }

    /// Whether these are all slots of a shard, and no others.
    pub(super) fn is_all_of(&self, shard: usize, slots: &[RangeInclusive<u16>]) -> bool {
        let mut slots = slots.iter().flat_map(RangeInclusive::clone).collect::<Vec<_>>();
        slots.sort_unstable();
        let is_own = |slot: &u16| self.of_slot(*slot) == Some(shard);
        (0..SLOTS).filter(is_own).eq(slots)
    }

    /// Whether there is a connection to each shard.
    pub(super) fn is_whole(&self) -> bool {
        !self.shards.is_empty() && self.shards.iter().all(|shard| shard.supervisor.current().is_some())
    }
}
