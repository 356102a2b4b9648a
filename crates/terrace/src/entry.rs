//! What a read answers, and what L1 keeps.

use crate::erased::Erased;
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use terrace_core::{Clock, Moment, Tag, Ttl, Version};

/// Where an answer came from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Tier {
    /// The memory of this process.
    L1,
    /// The shared tier.
    L2,
    /// The origin: a loader ran for this answer, perhaps on behalf of somebody else.
    Origin,
}

impl Tier {
    /// `l1`, `l2` or `origin`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::L1 => "l1",
            Self::L2 => "l2",
            Self::Origin => "origin",
        }
    }
}

/// A value and what is known about it.
pub struct Entry<V> {
    /// The value.
    pub value: Arc<V>,
    /// Where this answer came from.
    pub tier: Tier,
    /// When the value was written, by the clock of the node that wrote it. For people: no decision depends on it.
    pub created: SystemTime,
    /// How long ago that was, by this node's clock.
    pub age: Duration,
    /// How much longer the entry is fresh. An L1 copy may leave earlier, and is then read from L2 again.
    pub ttl: Ttl,
    /// Its place in the order of changes; zero while the shared tier, which gives versions, is unreachable.
    pub version: Version,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// Whether it could not be proven fresh: this node may not have heard of a change, and L2 cannot be asked.
    pub is_stale: bool,
}

impl<V> fmt::Debug for Entry<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("tier", &self.tier)
            .field("created", &self.created)
            .field("ttl", &self.ttl)
            .field("version", &self.version)
            .field("tags", &self.tags)
            .field("is_stale", &self.is_stale)
            .finish_non_exhaustive()
    }
}

/// An entry with its type erased: what L1 keeps, and what the read path hands around. The value comes first: a hit reads
/// nothing else of it, and finds it beside the key.
#[repr(C)]
#[derive(Clone)]
pub(crate) struct Resident {
    pub(crate) value: Erased,
    pub(crate) version: Version,
    pub(crate) created_ms: u64,
    /// When the entry, not just the L1 copy of it, stops being fresh.
    pub(crate) fresh_until: Moment,
    pub(crate) tags: Option<Arc<Vec<Tag>>>,
    /// How many bans there were when it was asked for ([`crate::coherence::bans`]).
    pub(crate) born: u64,
    /// What L1 counts it as; zero while it is not there.
    pub(crate) weight_bytes: u64,
}

impl Resident {
    pub(crate) fn tags(&self) -> &[Tag] {
        self.tags.as_ref().map_or(&[], |tags| tags)
    }
}

/// An erased entry, and where it came from.
#[derive(Clone)]
pub(crate) struct Found {
    pub(crate) resident: Resident,
    pub(crate) tier: Tier,
    /// The length of its encoding, if that was seen.
    pub(crate) encoded: Option<usize>,
    /// Whether it could not be proven fresh.
    pub(crate) is_stale: bool,
}

impl Found {
    /// A copy in L1.
    pub(crate) fn in_l1(resident: Resident, is_stale: bool) -> Self {
        Self { resident, tier: Tier::L1, encoded: None, is_stale }
    }

    pub(crate) fn into_value<V: Any + Send + Sync>(self) -> Arc<V> {
        crate::erased::typed(self.resident.value)
    }

    pub(crate) fn into_entry<V: Any + Send + Sync>(self, clock: &Clock) -> Entry<V> {
        let Resident { value, version, created_ms, fresh_until, tags, born: _, weight_bytes: _ } =
            self.resident;
        let created = SystemTime::UNIX_EPOCH + Duration::from_millis(created_ms);
        Entry {
            value: crate::erased::typed(value),
            tier: self.tier,
            created,
            age: clock.wall().duration_since(created).unwrap_or_default(),
            ttl: remaining(fresh_until, clock),
            version,
            tags: tags.map(|tags| tags.to_vec()).unwrap_or_default(),
            is_stale: self.is_stale,
        }
    }
}

/// How much longer an entry with this deadline is fresh.
pub(crate) fn remaining(fresh_until: Moment, clock: &Clock) -> Ttl {
    terrace_core::Lifetime { fresh_until, stale_until: fresh_until }.remaining(clock)
}
