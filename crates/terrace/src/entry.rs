//! What a read answers, and what L1 keeps.

use crate::erased::Erased;
use crate::terms::Lasting;
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use terrace_core::envelope::TagStamp;
use terrace_core::mutants::{self, Mutant};
use terrace_core::{Clock, Moment, Tag, Ttl, Version};

/// Where an answer came from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Tier {
    /// The memory of this process.
    L1,
    /// The shared tier: its value, or a copy in memory of which it has just said that it has the very same.
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
    /// For how long it has been past its TTL; zero if it is not.
    pub past: Duration,
    /// How much longer the entry is fresh. An L1 copy may leave earlier, and is then read from L2 again.
    pub ttl: Ttl,
    /// Its place in the order of changes; zero while the shared tier, which gives versions, is unreachable.
    pub version: Version,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// Whether it is stale: past its TTL, or not proven fresh.
    pub is_stale: bool,
    /// Why it was returned although it is stale.
    pub stale: Option<StaleReason>,
    /// Whether it came by what another caller on this node had begun to ask for.
    pub is_shared: bool,
}

/// What a lookup came to.
#[derive(Debug)]
#[non_exhaustive]
pub enum Lookup<V> {
    /// An entry.
    Entry(Entry<V>),
    /// It is known that the origin has no such entry.
    Absent {
        /// The tier that knew, or the origin, which has just said so.
        tier: Tier,
        /// For how much longer that is known.
        ttl: Ttl,
    },
    /// No tier has anything, and nobody said that there is nothing.
    Nothing,
}

/// Why a stale value was returned.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum StaleReason {
    /// It could not be proven fresh: this node may not have heard of a change, and L2 cannot be asked.
    Unproven,
    /// It is past its TTL, and is loaded in the background (stale-while-revalidate).
    Revalidating,
    /// It is past its TTL, and the load takes longer than the soft timeout. The load goes on.
    LoadSlow,
    /// It is past its TTL, and could not be loaded (stale-if-error), now or a little while ago.
    LoadFailed,
}

impl StaleReason {
    /// One word for metrics and replies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unproven => "unproven",
            Self::Revalidating => "revalidating",
            Self::LoadSlow => "load_slow",
            Self::LoadFailed => "load_failed",
        }
    }
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
    /// Until when a copy in L1 is a value to be returned without a further thought, where copies linger ([`crate::stale`]).
    pub(crate) plain_until: Moment,
    /// Until when a copy in L1 is an answer.
    pub(crate) copy_until: Moment,
    pub(crate) version: Version,
    pub(crate) created_ms: u64,
    /// When the entry, not just the L1 copy of it, stops being fresh.
    pub(crate) fresh_until: Moment,
    /// When the entry is gone.
    pub(crate) stale_until: Moment,
    /// How long its load took, in microseconds; zero if none brought it.
    pub(crate) load_micros: u32,
    pub(crate) tags: Option<Arc<Tagged>>,
    /// How many bans there were when it was asked for ([`crate::coherence::bans`]).
    pub(crate) born: u64,
    /// What L1 counts it as; zero while it is not there.
    pub(crate) weight_bytes: u64,
}

impl Resident {
    /// An entry that lasts so long from `now` on.
    pub(crate) fn new(value: Erased, version: Version, now: Moment, lasting: Lasting) -> Self {
        let fresh_until = lasting.ttl.duration().map_or(Moment::NEVER, |ttl| now.plus(ttl));
        Self {
            value,
            plain_until: Moment::NEVER,
            copy_until: Moment::NEVER,
            version,
            created_ms: 0,
            fresh_until,
            stale_until: fresh_until.plus(lasting.grace),
            load_micros: 0,
            tags: None,
            born: 0,
            weight_bytes: 0,
        }
    }

    pub(crate) fn tags(&self) -> &[Tag] {
        self.tags.as_ref().map_or(&[], |tagged| &tagged.tags)
    }

    /// The same, of which it is known which generations its tags had when it was stored.
    pub(crate) fn stamped(self, generations: Vec<Version>) -> Self {
        let tags = Tagged::of(self.tags().to_vec(), generations);
        Self { tags, ..self }
    }

    /// Its tags with their generations; `None` if those are not known.
    pub(crate) fn stamps(&self) -> Option<Vec<TagStamp>> {
        let Some(Tagged { tags, generations }) = self.tags.as_deref() else { return Some(Vec::new()) };
        let stamps = tags.iter().zip(generations);
        (tags.len() == generations.len())
            .then(|| stamps.map(|(tag, &generation)| TagStamp { tag: tag.clone(), generation }).collect())
    }

    /// Whether it says that the origin has no such entry.
    pub(crate) fn is_absent(&self) -> bool {
        self.value.is::<Absent>()
    }
}

/// Tags of an entry, with the generation that each had when it was stored; without any, where those are not known here.
#[derive(Debug)]
pub(crate) struct Tagged {
    tags: Vec<Tag>,
    generations: Vec<Version>,
}

impl Tagged {
    /// `None` if there are no tags.
    pub(crate) fn of(tags: Vec<Tag>, generations: Vec<Version>) -> Option<Arc<Self>> {
        (!tags.is_empty()).then(|| Arc::new(Self { tags, generations }))
    }
}

/// The value of an entry that the origin does not have.
#[derive(Debug)]
pub(crate) struct Absent;

/// [`Absent`], as a value.
pub(crate) fn absent() -> Erased {
    Arc::new(Absent)
}

/// An erased entry, and where it came from.
#[derive(Clone)]
pub(crate) struct Found {
    pub(crate) resident: Resident,
    pub(crate) tier: Tier,
    /// The length of its encoding, if that was seen.
    pub(crate) encoded: Option<usize>,
    /// Why it is returned although it is stale.
    pub(crate) stale: Option<StaleReason>,
    /// Whether somebody else's flight brought it.
    pub(crate) is_shared: bool,
}

impl Found {
    /// A copy in L1.
    pub(crate) fn in_l1(resident: Resident) -> Self {
        Self { resident, tier: Tier::L1, encoded: None, stale: None, is_shared: false }
    }

    /// The same as a stale answer.
    #[must_use]
    pub(crate) fn stale(self, reason: StaleReason) -> Self {
        let is_marked = reason == StaleReason::Unproven || !mutants::is(Mutant::OldCountsAsFresh);
        Self { stale: is_marked.then_some(reason), ..self }
    }

    /// The value; `None` if it is known that there is none.
    pub(crate) fn into_value<V: Any + Send + Sync>(self) -> Option<Arc<V>> {
        (!self.resident.is_absent()).then(|| crate::erased::typed(self.resident.value))
    }

    /// The entry, or for how long it is known that there is none.
    pub(crate) fn into_lookup<V: Any + Send + Sync>(self, clock: &Clock) -> Lookup<V> {
        let (tier, ttl) = (self.tier, remaining(self.resident.fresh_until, clock));
        self.into_entry(clock).map_or(Lookup::Absent { tier, ttl }, Lookup::Entry)
    }

    /// The entry; `None` if it is known that there is none.
    pub(crate) fn into_entry<V: Any + Send + Sync>(self, clock: &Clock) -> Option<Entry<V>> {
        if self.resident.is_absent() {
            return None;
        }
        let tags = self.resident.tags().to_vec();
        let Resident { value, version, created_ms, fresh_until, .. } = self.resident;
        let created = SystemTime::UNIX_EPOCH + Duration::from_millis(created_ms);
        Some(Entry {
            value: crate::erased::typed(value),
            tier: self.tier,
            created,
            age: clock.wall().duration_since(created).unwrap_or_default(),
            past: clock.now().since(fresh_until),
            ttl: remaining(fresh_until, clock),
            version,
            tags,
            is_stale: self.stale.is_some(),
            stale: self.stale,
            is_shared: self.is_shared,
        })
    }
}

/// How much longer an entry with this deadline is fresh.
pub(crate) fn remaining(fresh_until: Moment, clock: &Clock) -> Ttl {
    terrace_core::Lifetime { fresh_until, stale_until: fresh_until }.remaining(clock)
}
