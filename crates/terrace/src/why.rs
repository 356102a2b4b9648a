//! Why does a read of a key answer as it does?
//!
//! Everything that decides it, at one time: both tiers, the tags, what this node has heard, and what changed the key last.
//! Nothing is changed by asking, and nothing is counted as a lookup.

use crate::coherence::bans::Standing;
use crate::entry::{Resident, Tier, remaining};
use crate::error::Error;
use crate::space::View;
use std::time::{Duration, SystemTime};
use terrace_core::bus::{Change, Message, NodeId};
use terrace_core::envelope::Envelope;
use terrace_core::{Key, Partition, RemoteError, Tag, Ttl, Version};

/// The end of the year 9999: what bytes in L2 claim to be later cannot be written as a date.
const CREATED_MAX_MS: u64 = 253_402_300_799_000;
/// Tags whose bumps are looked for.
const TAGS_MAX: usize = 4;
/// Most changes that are told.
const CHANGES_MAX: usize = 5;

/// What decides how a key is read; see [`Keyspace::why`](crate::Keyspace::why).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Why {
    /// The keyspace's name.
    pub keyspace: String,
    /// The key's text.
    pub key: String,
    /// Which tier would answer now, as fresh; `None` for a miss.
    pub answer: Option<Tier>,
    /// The copy in this process' memory.
    pub l1: Option<Held>,
    /// The entry in L2, dead or alive.
    pub l2: Option<Held>,
    /// Why L2 could not be asked.
    pub l2_error: Option<RemoteError>,
    /// Until when copies count as fresh here.
    pub trust: Trusted,
    /// Whether an invalidation of the key waits to be told to L2, which is not believed meanwhile.
    pub is_pending: bool,
    /// Whether a load of the key runs on this node.
    pub is_loading: bool,
    /// The key's partition in L2, if L2 tells of changes.
    pub partition: Option<u16>,
    /// The last changes that concern the key, as L2's log has them, newest first.
    pub changes: Vec<Changed>,
}

/// An entry as a tier holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Held {
    /// Its place in the order of changes.
    pub version: Version,
    /// When it was written, by the clock of the node that wrote it.
    pub created: SystemTime,
    /// How much longer the tier keeps it.
    pub ttl: Ttl,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// The first reason for which it is not returned as fresh.
    pub dead_by: Option<DeadBy>,
}

/// Why an entry that a tier holds is not returned as fresh.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DeadBy {
    /// This node may not have heard of a change.
    Trust,
    /// A tag, a pattern or a clearing that this node knows of.
    Ban,
    /// An invalidation that L2 has not been told yet.
    Pending,
    /// This tag was bumped since the entry was stored.
    Tag(Tag),
    /// The bytes are no envelope of this key.
    Envelope,
    /// The generations of its tags could not be asked for.
    Unknown,
    /// It is past its TTL, and kept for its grace.
    Age,
}

/// Until when copies in L1 count as fresh.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trusted {
    /// Nobody else can change entries, or nobody tells of it: their TTL alone bounds them.
    Always,
    /// For so much longer, unless a beat comes back.
    For(Duration),
    /// Not now.
    Lapsed,
}

/// A change that L2's log remembers.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Changed {
    /// Its number.
    pub number: Version,
    /// Who made it.
    pub by: NodeId,
    /// What it did.
    pub change: Change,
}

impl View {
    pub(crate) async fn why(&self, key: &Key) -> Result<Why, Error> {
        let l1 = self.held_in_l1(key);
        let (l2, l2_error) = match self.held_in_l2(key).await {
            Ok(held) => (held, None),
            Err(error) => (None, Some(error)),
        };
        let is_alive = |held: &Option<Held>| held.as_ref().is_some_and(|held| held.dead_by.is_none());
        let answer = if is_alive(&l1) { Some(Tier::L1) } else { is_alive(&l2).then_some(Tier::L2) };
        let tags = l1.iter().chain(&l2).flat_map(|held| held.tags.clone()).collect::<Vec<_>>();
        Ok(Why {
            keyspace: self.space.namespace.to_string(),
            key: key.as_str().to_owned(),
            answer,
            l1,
            l2,
            l2_error,
            trust: self.space.trust.left(&self.shared.clock),
            is_pending: self.space.pending.distrusts(key),
            is_loading: self.space.flights.is_any_of(key),
            partition: self.partition_of(key.as_str()).map(|partition| partition.0),
            changes: self.last_changes(key, &tags).await,
        })
    }

    fn held_in_l1(&self, key: &Key) -> Option<Held> {
        let bans = self.space.bans.active();
        let name = self.name_of(key.as_str());
        let copy = self.l1()?.peek_banned(name)?;
        let dead_by = if self.space.trust.holds(&self.shared.clock) {
            match bans.standing_of(name.name, &copy) {
                Standing::Alive => None,
                Standing::Suspect => Some(DeadBy::Trust),
                Standing::Dead => Some(DeadBy::Ban),
            }
        } else {
            Some(DeadBy::Trust)
        };
        let dead_by = dead_by.or_else(|| (!copy.is_answer(self.latest())).then_some(DeadBy::Age));
        let Resident { version, created_ms, fresh_until, .. } = copy;
        let ttl = remaining(fresh_until, &self.shared.clock);
        let tags = copy.tags().to_vec();
        Some(Held { version, created: created(created_ms), ttl, tags, dead_by })
    }

    async fn held_in_l2(&self, key: &Key) -> Result<Option<Held>, RemoteError> {
        let Some(l2) = self.l2() else { return Ok(None) };
        let stored = l2.ask(&self.space, "get", |remote| remote.get(&self.space.namespace, key)).await?;
        let Some(stored) = stored else { return Ok(None) };
        let Ok(envelope) = self.unseal(key, &stored.bytes) else {
            return Ok(Some(Held {
                version: stored.claimed_version(),
                created: SystemTime::UNIX_EPOCH,
                ttl: stored.remaining.unwrap_or(Ttl::Never),
                tags: Vec::new(),
                dead_by: Some(DeadBy::Envelope),
            }));
        };
        let ttl =
            stored.remaining.map_or(envelope.ttl, |left| left.without(envelope.grace).min(envelope.ttl));
        let dead_by =
            if self.space.pending.distrusts(key) || self.space.pending.distrusts_tags(&envelope.tags) {
                Some(DeadBy::Pending)
            } else {
                self.bumped_tag(&envelope).await.or_else(|| ttl.is_zero().then_some(DeadBy::Age))
            };
        Ok(Some(Held {
            version: envelope.version,
            created: created(envelope.created_ms),
            ttl,
            tags: envelope.tags.into_iter().map(|stamp| stamp.tag).collect(),
            dead_by,
        }))
    }

    async fn bumped_tag(&self, envelope: &Envelope) -> Option<DeadBy> {
        if envelope.tags.is_empty() {
            return None;
        }
        let Some(alive) = self.alive(&envelope.tags).await else { return Some(DeadBy::Unknown) };
        let bumped = envelope.tags.iter().find(|stamp| !alive.contains(stamp));
        bumped.map(|stamp| DeadBy::Tag(stamp.tag.clone()))
    }

    fn partition_of(&self, text: &str) -> Option<Partition> {
        let bus = self.l2()?.remote().bus()?;
        Some(Partition::of(&self.space.namespace, text, bus.partitions()))
    }

    /// What the logs of the key's partition and of its tags' say of it.
    async fn last_changes(&self, key: &Key, tags: &[Tag]) -> Vec<Changed> {
        let texts = std::iter::once(key.as_str()).chain(tags.iter().map(Tag::as_str).take(TAGS_MAX));
        let mut logs: Vec<_> =
            texts.filter_map(|text| Some((self.partition_of(text)?, Version::ZERO))).collect();
        logs.sort_unstable();
        logs.dedup();
        let Some(bus) = self.l2().and_then(|l2| l2.remote().bus()) else { return Vec::new() };
        let Ok(logs) = bus.changes_since(&self.space.namespace, &logs).await else { return Vec::new() };
        let concerns = |change: &Change| match change {
            Change::Set(changed) | Change::Invalidate(changed) => changed == key,
            Change::Tag(tag) => tags.contains(tag),
            Change::Sweep(rule) => rule.names(key.as_str()),
            _ => false,
        };
        let messages = logs.iter().flatten().filter_map(|bytes| Message::parse(bytes).ok());
        let mut changes: Vec<Changed> = messages
            .filter(|message| concerns(&message.change))
            .map(|Message { number, origin, change, .. }| Changed { number, by: origin, change })
            .collect();
        changes.sort_by_key(|changed| std::cmp::Reverse(changed.number.get()));
        changes.truncate(CHANGES_MAX);
        changes
    }
}

fn created(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis.min(CREATED_MAX_MS))
}
