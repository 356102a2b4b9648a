//! L1: the memory engine, holding entries of every namespace under one budget.
//!
//! 1. An L1 copy never outlives the entry it is a copy of: it is an answer until the earlier of the entry's end and the L1 TTL's.
//!    Where entries have a grace it lingers after that, and is no answer by itself ([`crate::stale`]).
//! 2. A copy enters only through [`L1::keep`], [`L1::settle`] or [`L1::replace`], which check the ticket in the same
//!    step (see [`crate::coherence::tickets`]). What was read or loaded never replaces a newer version.
//! 3. A hit looks the key up by reference: no allocation.

mod compare;
mod parts;
mod room;

use crate::coherence::bans::{Bans, Standing};
use crate::coherence::tickets::{Ticket, Tickets};
use crate::coherence::trust::Reading;
use crate::entry::Resident;
use crate::telemetry::EngineGauges;
use equivalent::Equivalent;
use parking_lot::RwLock;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use terrace_core::mutants::{self, Mutant};
use terrace_core::{CacheKey, Clock, Key, KeyName, Moment, Ttl, Version};
use terrace_memory::{Insertion, Memory, Policy, RemovalCause, Text};

/// The name of an entry in L1: its namespace, as a number, and its key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct L1Key {
    space: u32,
    name: Name,
}

/// [`KeyName`], owned. Short text lies within the entry: comparing it costs a hit no cache miss of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Name {
    Number(u64),
    Text(Text),
}

/// [`L1Key`] by reference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct KeyRef<'a> {
    pub(crate) space: u32,
    pub(crate) name: KeyName<'a>,
}

impl L1Key {
    #[inline]
    fn as_ref(&self) -> KeyRef<'_> {
        let name = match &self.name {
            Name::Number(number) => KeyName::Number(*number),
            Name::Text(text) => KeyName::Text(text),
        };
        KeyRef { space: self.space, name }
    }

    /// Calls `use_text` with the key's text.
    pub(crate) fn with_text<R>(&self, use_text: impl FnOnce(&str) -> R) -> R {
        match &self.name {
            Name::Number(number) => number.with_text(use_text),
            Name::Text(text) => use_text(text),
        }
    }
}

impl<'a> KeyRef<'a> {
    pub(crate) fn of(space: u32, text: &'a str) -> Self {
        Self { space, name: KeyName::of(text) }
    }

    fn to_owned(self) -> L1Key {
        let name = match self.name {
            KeyName::Number(number) => Name::Number(number),
            KeyName::Text(text) => Name::Text(text.into()),
        };
        L1Key { space: self.space, name }
    }
}

impl Hash for L1Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_ref().hash(state);
    }
}

impl Hash for KeyRef<'_> {
    /// No mark ends the text: the namespace has always the same length.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.name {
            KeyName::Number(number) => {
                state.write_u64(number);
                state.write_u32(self.space);
            }
            KeyName::Text(text) => {
                state.write(text.as_bytes());
                state.write_u32(self.space);
            }
        }
    }
}

impl Equivalent<L1Key> for KeyRef<'_> {
    #[inline]
    fn equivalent(&self, key: &L1Key) -> bool {
        self.space == key.space
            && match (self.name, &key.name) {
                (KeyName::Number(sought), Name::Number(number)) => sought == *number,
                (KeyName::Text(sought), Name::Text(text)) => sought.equivalent(text),
                _ => false,
            }
    }
}

/// What an entry weighs besides its key and value: the record, the index, the queue.
const OVERHEAD_BYTES: u64 = 128;

/// The first tier.
pub(crate) struct L1 {
    memory: Memory<L1Key, Resident>,
    tickets: Arc<Tickets>,
    clock: Clock,
    /// The longest that a copy stays whose entry L2 has; and one whose entry only this process has.
    ttl_shared: Ttl,
    ttl_alone: Ttl,
    pub(crate) is_bounded_by_bytes: bool,
    bounds: (usize, u64),
    pub(crate) policy: Policy,
    residencies: Arc<Residencies>,
}

/// What is to be kept, with its weight.
pub(crate) struct Copy {
    pub(crate) resident: Resident,
    pub(crate) weight_bytes: u64,
    /// The longest this copy may be an answer, whatever the entry's own deadline.
    pub(crate) ttl: Ttl,
    /// How long before the entry's end it is to be loaded anew, if it is to be.
    pub(crate) ahead: Option<Duration>,
}

impl Copy {
    /// Notes until when the copy is what. Returns when it leaves.
    fn begin(&mut self, clock: &Clock) -> Moment {
        let (now, resident) = (clock.now(), &mut self.resident);
        let limit = self.ttl.duration().map_or(Moment::NEVER, |ttl| now.plus(ttl));
        resident.copy_until = resident.fresh_until.min(limit);
        let (grace, ahead) = (resident.stale_until > resident.fresh_until, self.ahead);
        let refresh_at = ahead.map_or(Moment::NEVER, |ahead| resident.fresh_until.minus(ahead));
        resident.plain_until = if resident.is_absent() {
            Moment::from_nanos(0)
        } else {
            resident.copy_until.min(refresh_at).minus(clock.resolution())
        };
        if grace { resident.stale_until.max(resident.copy_until) } else { resident.copy_until }
    }
}

impl L1 {
    pub(crate) fn new(
        entries_max: usize,
        bytes_max: u64,
        policy: Policy,
        ttl: Option<Ttl>,
        tickets: &Arc<Tickets>,
        clock: &Clock,
    ) -> Result<Self, terrace_memory::ConfigError> {
        let residencies = Arc::new(Residencies::default());
        let leaving = Arc::clone(&residencies);
        let memory = Memory::builder()
            .entries_max(entries_max)
            .bytes_max(bytes_max)
            .policy(policy)
            .clock(clock.clone())
            .on_removal(move |name: &L1Key, resident: &Resident, cause| {
                leaving.of(name.space, |residency| residency.leave(resident.weight_bytes, cause));
            })
            .build()?;
        let is_bounded_by_bytes = bytes_max > 0;
        Ok(Self {
            memory,
            tickets: Arc::clone(tickets),
            clock: clock.clone(),
            ttl_shared: ttl.unwrap_or(Ttl::After(crate::builder::L1::TTL_DEFAULT)),
            ttl_alone: ttl.unwrap_or(Ttl::Never),
            is_bounded_by_bytes,
            bounds: (entries_max, bytes_max),
            policy,
            residencies,
        })
    }

    /// The longest that a copy stays here.
    pub(crate) fn ttl_max(&self, is_in_l2: bool) -> Ttl {
        if is_in_l2 { self.ttl_shared } else { self.ttl_alone }
    }

    /// Reads a fresh copy through `read`, counting the access for the eviction policy.
    #[inline]
    pub(crate) fn get_with<R>(
        &self,
        key: KeyRef<'_>,
        bans: &Bans,
        reading: Reading,
        read: impl FnOnce(&Resident) -> R,
    ) -> Option<R> {
        if bans.are_none() {
            return match reading.if_read() {
                Some(now) => self.memory.get_with_at(&key, now, read),
                None => self.memory.get_with(&key, read),
            };
        }
        self.get_unless_banned(key, bans, read)
    }

    #[cold]
    fn get_unless_banned<R>(
        &self,
        key: KeyRef<'_>,
        bans: &Bans,
        read: impl FnOnce(&Resident) -> R,
    ) -> Option<R> {
        let newest = bans.newest();
        if self.memory.peek_with(&key, |copy| copy.born < newest) == Some(true) {
            let bans = bans.active();
            let read = |copy: &Resident| (!bans.name_copy(key.name, copy)).then(|| read(copy));
            return self.memory.get_with(&key, read).flatten();
        }
        self.memory.get_with(&key, |copy| (copy.born >= newest).then(|| read(copy))).flatten()
    }

    /// A copy that was not invalidated, and whether a change of it may have been missed. Counts the access.
    pub(crate) fn get_undead(&self, key: KeyRef<'_>, bans: &Bans) -> Option<(Resident, bool)> {
        let bans = bans.active();
        let judge = |copy: &Resident| match bans.standing_of(key.name, copy) {
            Standing::Dead => None,
            standing => Some((copy.clone(), standing == Standing::Suspect)),
        };
        self.memory.get_with(&key, judge).flatten()
    }

    /// Reads a fresh copy, after every change of the key that has voided tickets. Who took a ticket looks once more in this way:
    /// a change voids tickets and then replaces the copy, in one step under the engine's lock, and a look without the
    /// lock might fall in between, find the old state, and load under a valid ticket.
    pub(crate) fn peek_in_order(&self, key: KeyRef<'_>, bans: &Bans) -> Option<Resident> {
        let bans = bans.active();
        self.memory.peek_in_order(&key).filter(|copy| !bans.name_copy(key.name, copy))
    }

    /// Reads a fresh copy through `read`, without counting the access.
    #[inline]
    pub(crate) fn peek_with<R>(
        &self,
        key: KeyRef<'_>,
        bans: &Bans,
        read: impl FnOnce(&Resident) -> R,
    ) -> Option<R> {
        if bans.are_none() {
            return self.memory.peek_with(&key, read);
        }
        let bans = bans.active();
        self.memory.peek_with(&key, |copy| (!bans.name_copy(key.name, copy)).then(|| read(copy))).flatten()
    }

    /// A copy that has not expired, without counting the access, whatever is banned.
    pub(crate) fn peek_banned(&self, key: KeyRef<'_>) -> Option<Resident> {
        self.memory.peek_with(&key, Resident::clone)
    }

    #[cfg(test)]
    pub(crate) fn peek(&self, key: KeyRef<'_>) -> Option<Resident> {
        self.peek_banned(key)
    }

    /// Keeps a copy of what was read or loaded under `ticket`, unless the key was invalidated since, or a newer
    /// version is there. Returns whether it was not.
    pub(crate) fn keep(&self, space: u32, key: &Key, ticket: Ticket, copy: Copy) -> bool {
        let version = copy.resident.version;
        self.insert_if(space, key, ticket.born, copy, |there| {
            self.tickets.is_valid(ticket) && there.is_none_or(|there| gives_way(there, version))
        })
    }

    /// Drops the key's copy and voids reads that began before. Returns whether there was a fresh copy.
    pub(crate) fn drop_copy(&self, key: KeyRef<'_>) -> bool {
        self.tickets.void(key);
        self.memory.remove(&key).is_some()
    }

    /// Voids reads of a key that began before a change that was heard, and drops its copy unless that is of this version or a
    /// later one.
    pub(crate) fn drop_older(&self, key: KeyRef<'_>, version: Version) {
        self.tickets.void_heard(key, version);
        self.memory.remove_if(&key, |there| version.supersedes(there.version));
    }

    /// [`L1::drop_older`] where numbers are in no order: spares a copy of this very version alone.
    pub(crate) fn drop_others(&self, key: KeyRef<'_>, version: Version) {
        self.tickets.void_heard(key, version);
        self.memory.remove_if(&key, |there| there.version != version);
    }

    /// Drops the key's copy if it has this version.
    pub(crate) fn forget(&self, key: KeyRef<'_>, version: Version) {
        self.memory.remove_if(&key, |there| there.version == version);
    }

    /// Drops the key's copy if it is older than this version: one that was returned, and is not kept. Voids reads that began
    /// before, which may bring such a copy. Else a later read that finds it would go back.
    pub(crate) fn forget_older(&self, key: KeyRef<'_>, version: Version) {
        if version == Version::ZERO || mutants::is(Mutant::OlderCopyStays) {
            return;
        }
        self.tickets.void(key);
        self.memory.remove_if(&key, |there| version.supersedes(there.version));
    }

    /// Drops the key's copy if it is older than this version, and voids nothing: nobody who began before can bring such a copy.
    pub(crate) fn leave_older(&self, key: KeyRef<'_>, version: Version) {
        self.memory.remove_if(&key, |there| version.supersedes(there.version));
    }

    /// Replaces the key's copy, or drops it, in one step. For a write that no other tier orders. Returns `false`, and
    /// replaces nothing, if a greater version is there: the write is the later one and needs a version to match.
    pub(crate) fn replace(&self, space: u32, key: &Key, copy: Option<Copy>) -> bool {
        let name = KeyRef::of(space, key.as_str());
        let Some(copy) = copy else {
            self.drop_copy(name);
            return true;
        };
        let (version, born) = (copy.resident.version, self.tickets.born());
        self.insert_if(space, key, born, copy, |there| {
            self.tickets.void(name);
            there.is_none_or(|there| gives_way(there, version))
        })
    }

    /// Ends a write whose ticket was `renewed`: keeps the new value if nobody else has changed the key since the write
    /// began, else drops the copy once more. A value without a version replaces what a read has brought meanwhile.
    pub(crate) fn settle(&self, space: u32, key: &Key, renewed: Option<Ticket>, copy: Option<Copy>) {
        let is_kept = renewed.zip(copy).is_some_and(|(renewed, copy)| {
            let version = copy.resident.version;
            self.insert_if(space, key, renewed.born, copy, |there| {
                let is_newest =
                    version == Version::ZERO || there.is_none_or(|there| gives_way(there, version));
                is_newest && self.tickets.is_valid_after(renewed, version)
            })
        });
        if !is_kept {
            self.drop_copy(KeyRef::of(space, key.as_str()));
        }
    }

    /// Inserts if `condition` holds for what is there, in one step. Returns whether the key has the new copy, or none.
    fn insert_if(
        &self,
        space: u32,
        key: &Key,
        born: u64,
        copy: Copy,
        condition: impl FnOnce(Option<&Resident>) -> bool,
    ) -> bool {
        let mut copy = copy;
        let deadline = copy.begin(&self.clock);
        let Copy { mut resident, weight_bytes, .. } = copy;
        let weight = weight_bytes.saturating_add(key.as_str().len() as u64 + OVERHEAD_BYTES);
        resident.weight_bytes = weight;
        resident.born = born;
        let name = KeyRef::of(space, key.as_str()).to_owned();
        let insertion = self.memory.insert_if(name, resident, weight, deadline, condition);
        if insertion == Insertion::Stored {
            self.residencies.of(space, |residency| residency.enter(weight));
        }
        insertion != Insertion::Declined
    }

    /// Removes every copy of a namespace that `is_dead` names. Returns how many.
    pub(crate) fn remove_where(&self, space: u32, is_dead: impl Fn(&L1Key, &Resident) -> bool) -> u64 {
        let mut dropped = 0;
        self.memory.retain(|name, resident| {
            let dead = name.space == space && is_dead(name, resident);
            dropped += u64::from(dead);
            !dead
        });
        dropped
    }

    /// Looks at every copy of a namespace that is alive, with its key's text.
    pub(crate) fn for_each(&self, space: u32, bans: &Bans, mut look: impl FnMut(&str, &Resident)) {
        self.memory.retain(|name, copy| {
            let look = |text: &str| {
                if !bans.name(copy.born, text, copy.tags()) {
                    look(text, copy);
                }
            };
            if name.space == space {
                name.with_text(look);
            }
            true
        });
    }

    /// Removes expired copies, at most `budget` of them. Returns whether there may be more.
    pub(crate) fn expire(&self, budget: usize) -> bool {
        self.memory.expire(budget).more
    }

    /// How many copies there are now.
    pub(crate) fn len(&self) -> usize {
        self.memory.len()
    }

    /// What this tier holds of one namespace, and what it has lost of it.
    pub(crate) fn residency(&self, space: u32) -> EngineGauges {
        let mut gauges = EngineGauges::default();
        self.residencies.of(space, |residency| gauges = residency.gauges());
        gauges
    }
}

/// Whether a copy gives way to one of this version: an unanchored one to any, another to one that is not older.
fn gives_way(there: &Resident, version: Version) -> bool {
    there.version == Version::ZERO || !there.version.supersedes(version)
}

/// What a copy of this key in L1 weighs besides its key and record.
pub(crate) fn weight_of_value(copy: &Resident, key: &Key) -> u64 {
    copy.weight_bytes.saturating_sub(key.as_str().len() as u64 + OVERHEAD_BYTES)
}

/// What L1 holds of each namespace, by the namespace's number.
#[derive(Default)]
struct Residencies(RwLock<Vec<Residency>>);

/// What L1 holds of one namespace.
#[derive(Default)]
struct Residency {
    entries: AtomicU64,
    bytes: AtomicU64,
    evictions: AtomicU64,
    expirations: AtomicU64,
    removals: AtomicU64,
}

impl Residencies {
    fn of(&self, space: u32, act: impl FnOnce(&Residency)) {
        let at = space as usize;
        let held = self.0.read();
        if let Some(residency) = held.get(at) {
            return act(residency);
        }
        drop(held);
        let mut held = self.0.write();
        let count = held.len().max(at + 1);
        held.resize_with(count, Residency::default);
        act(&held[at]);
    }
}

impl Residency {
    fn enter(&self, bytes: u64) {
        self.entries.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    /// Both counts may pass below zero for a moment: an entry can leave before its insert has returned.
    fn leave(&self, bytes: u64, cause: RemovalCause) {
        self.entries.fetch_sub(1, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
        match cause {
            RemovalCause::Capacity => self.evictions.fetch_add(1, Relaxed),
            RemovalCause::Expired => self.expirations.fetch_add(1, Relaxed),
            RemovalCause::Explicit => self.removals.fetch_add(1, Relaxed),
            _ => 0,
        };
    }

    fn gauges(&self) -> EngineGauges {
        let now = |gauge: &AtomicU64| gauge.load(Relaxed).cast_signed().max(0).cast_unsigned();
        EngineGauges {
            entries: now(&self.entries),
            bytes: now(&self.bytes),
            evictions: self.evictions.load(Relaxed),
            expirations: self.expirations.load(Relaxed),
            invalidated: self.removals.load(Relaxed),
        }
    }
}

/// The longest that an L1 copy lives whose entry L2 does not have: no other node can correct it.
pub(crate) const UNANCHORED_TTL_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
