//! The server's side of the fake: what each call does, all at once, at one moment.
//!
//! Pure: the time comes in as an argument, nothing waits. Its twin is the set of scripts of the real adapter, and the
//! differential test of [`crate::conformance`] keeps the two equal.

use super::partition::{Grant, Message, Partition};
use super::times::{CLAIM_MICROS, lease_end, server_ttl, whole_millis};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::time::Duration;
use terrace_core::envelope::Sealed;
use terrace_core::key::Partition as PartitionId;
use terrace_core::mutants::{self, Mutant};
use terrace_core::remote::{
    Delayed, Due, FillOutcome, Generation, Invalidated, Lease, LeaseOutcome, LeaseToken, RemoteError,
    ServerTime, SettingsRecord, Stored, Sweep,
};
use terrace_core::{Key, Moment, Namespace, Tag, Ttl, Version, bus::Incarnation};

mod compare;
mod losses;

/// The time at which a call takes effect.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) moment: Moment,
    pub(super) micros: u64,
}

/// Who asks, and how many partitions it believes in.
#[derive(Clone, Copy)]
pub(super) struct Caller {
    pub(super) id: u64,
    pub(super) partitions: u16,
    pub(super) now: Now,
}

#[derive(Clone)]
struct Value {
    bytes: bytes::Bytes,
    expires: Moment,
}

#[derive(Clone)]
struct HeldLease {
    lease: Lease,
    grant: Grant,
    expires: Moment,
    /// Whether somebody waits for its end.
    is_awaited: bool,
}

#[derive(Clone, Default)]
struct Space {
    settings: BTreeMap<&'static str, String>,
    partitions: BTreeMap<u16, Partition>,
    values: BTreeMap<Key, Value>,
    leases: HashMap<Key, HeldLease>,
    delayed: Vec<(u64, Delayed)>,
    /// Keys whose loads have ended in the call that is running, for which somebody waits.
    ended: Vec<Key>,
    /// Keys whose values were touched in the call that is running.
    touched: Vec<Key>,
}

/// What was touched in a call.
#[derive(Clone, Default)]
pub(super) struct Touched {
    pub(super) is_all: bool,
    pub(super) some: Vec<(Namespace, Key)>,
}

impl Space {
    /// Drops what has run out of this key, so that the rest of a call sees only what is there.
    fn expire(&mut self, key: &Key, now: Moment) {
        if self.values.get(key).is_some_and(|value| value.expires <= now) {
            self.remove(key);
        }
        if self.leases.get(key).is_some_and(|held| held.expires <= now) {
            self.leases.remove(key);
        }
    }

    /// Removes a value, which is nothing to tell of if there is none.
    fn remove(&mut self, key: &Key) -> bool {
        let existed = self.values.remove(key).is_some();
        self.touched.extend(existed.then(|| key.clone()));
        existed
    }

    fn end_lease(&mut self, key: &Key) {
        if self.leases.remove(key).is_some_and(|held| held.is_awaited) {
            self.ended.push(key.clone());
        }
    }

    fn partition(&mut self, id: PartitionId) -> &mut Partition {
        self.partitions.entry(id.0).or_default()
    }

    fn stored(&self, key: &Key, now: Moment) -> Option<Stored> {
        let value = self.values.get(key)?;
        let remaining =
            (value.expires != Moment::NEVER).then(|| Ttl::After(whole_millis(value.expires.since(now))));
        Some(Stored { bytes: value.bytes.clone(), remaining })
    }

    fn store(&mut self, key: &Key, bytes: bytes::Bytes, ttl: Ttl, now: Moment) {
        let expires = ttl.duration().map_or(Moment::NEVER, |ttl| now.plus(ttl));
        self.values.insert(key.clone(), Value { bytes, expires });
        self.touched.push(key.clone());
    }
}

/// Most delayed invalidations of one namespace.
const DELAYED_MAX: usize = 100_000;
/// Most of them that are taken at once.
const DUE_MAX: usize = 256;

/// All that the server holds.
#[derive(Clone, Default)]
pub(super) struct Server {
    spaces: BTreeMap<Namespace, Space>,
    /// Whether everything was touched in the call that is running.
    is_all_touched: bool,
}

impl Server {
    fn space(&mut self, namespace: &Namespace) -> &mut Space {
        if !self.spaces.contains_key(namespace) {
            self.spaces.insert(namespace.clone(), Space::default());
        }
        self.spaces.get_mut(namespace).expect("it was made above if it was missing")
    }

    fn space_of(&mut self, namespace: &Namespace, key: &Key, caller: Caller) -> &mut Space {
        let space = self.space(namespace);
        space.expire(key, caller.now.moment);
        space
    }

    pub(super) fn open(
        &mut self,
        namespace: &Namespace,
        record: &SettingsRecord,
        caller: Caller,
    ) -> Result<(), RemoteError> {
        let space = self.space(namespace);
        let there = record.fields().iter().map(|(name, _)| space.settings.get(name).cloned());
        record.check(namespace, &there.collect::<Vec<_>>())?;
        space.settings.extend(record.fields().iter().cloned());
        for id in 0..caller.partitions {
            space.partition(PartitionId(id)).generation(caller.now, caller.id, None);
        }
        Ok(())
    }

    pub(super) fn forget_settings(&mut self, namespace: &Namespace) {
        self.space(namespace).settings.clear();
    }

    pub(super) fn get(&mut self, namespace: &Namespace, key: &Key, caller: Caller) -> Option<Stored> {
        let id = PartitionId::of(namespace, key.as_str(), caller.partitions);
        let space = self.space_of(namespace, key, caller);
        let stored = space.stored(key, caller.now.moment)?;
        (!space.partition(id).kills(key, stored.claimed_version())).then_some(stored)
    }

    pub(super) fn lease(
        &mut self,
        namespace: &Namespace,
        key: &Key,
        (token, duration, dead): (LeaseToken, Duration, Option<Version>),
        caller: Caller,
    ) -> LeaseOutcome {
        let id = PartitionId::of(namespace, key.as_str(), caller.partitions);
        let space = self.space_of(namespace, key, caller);
        let stored = space.stored(key, caller.now.moment);
        let partition = space.partitions.entry(id.0).or_default();
        let is_alive = |stored: &Stored| {
            let version = stored.claimed_version();
            dead != Some(version) && !partition.kills(key, version)
        };
        if let Some(stored) = stored.filter(is_alive) {
            return LeaseOutcome::Hit(stored);
        }
        if let Some(held) = space.leases.get_mut(key).filter(|held| partition.honours(held.grant)) {
            return if held.lease.token == token {
                LeaseOutcome::Granted(held.lease.clone())
            } else {
                held.is_awaited = true;
                LeaseOutcome::Held { remaining: whole_millis(held.expires.since(caller.now.moment)) }
            };
        }
        let grant = partition.grant(caller.now, caller.id);
        let version = Version::from(grant.version);
        let lease = Lease { token, version, granted_at: ServerTime(caller.now.micros) };
        let expires = lease_end(caller.now.moment, duration);
        let held = HeldLease { lease: lease.clone(), grant, expires, is_awaited: false };
        space.leases.insert(key.clone(), held);
        LeaseOutcome::Granted(lease)
    }

    pub(super) fn renew(
        &mut self,
        namespace: &Namespace,
        key: &Key,
        (lease, duration): (&Lease, Duration),
        caller: Caller,
    ) -> bool {
        let held = self.space_of(namespace, key, caller).leases.get_mut(key);
        let held = held.filter(|held| held.lease.token == lease.token);
        held.map(|held| held.expires = lease_end(caller.now.moment, duration)).is_some()
    }

    pub(super) fn release(&mut self, namespace: &Namespace, key: &Key, lease: &Lease, caller: Caller) {
        let space = self.space_of(namespace, key, caller);
        if space.leases.get(key).is_some_and(|held| held.lease.token == lease.token) {
            space.end_lease(key);
        }
    }

    /// Ends a lease, whoever has it.
    pub(super) fn end_lease(&mut self, namespace: &Namespace, key: &Key, caller: Caller) {
        self.space_of(namespace, key, caller).end_lease(key);
    }

    pub(super) fn fill(
        &mut self,
        namespace: &Namespace,
        key: &Key,
        lease: &Lease,
        (value, ttl): (&Sealed, Ttl),
        caller: Caller,
    ) -> FillOutcome {
        let id = PartitionId::of(namespace, key.as_str(), caller.partitions);
        let space = self.space_of(namespace, key, caller);
        let held =
            space.leases.get(key).filter(|held| held.lease.token == lease.token).map(|held| held.grant);
        let forged = || Grant {
            version: lease.version.get(),
            born: space.partitions.get(&id.0).map_or(0, Partition::born),
        };
        let Some(grant) = held.or_else(|| mutants::is(Mutant::FillWithoutLease).then(forged)) else {
            return FillOutcome::Rejected;
        };
        space.end_lease(key);
        if !space.partition(id).honours(grant) {
            return FillOutcome::Rejected;
        }
        let ttl = server_ttl(ttl);
        if !ttl.is_zero() {
            space.store(key, value.stamp(Version::from(grant.version)), ttl, caller.now.moment);
        }
        FillOutcome::Stored
    }

    pub(super) fn set(
        &mut self,
        namespace: &Namespace,
        key: &Key,
        (value, ttl, deadline): (&Sealed, Ttl, ServerTime),
        caller: Caller,
    ) -> Result<Version, RemoteError> {
        let ttl = server_ttl(ttl);
        if ttl.is_zero() {
            return Ok(self.invalidate(namespace, key, caller).version);
        }
        if caller.now.micros >= deadline.0 && !mutants::is(Mutant::NoDeadline) {
            return Err(RemoteError::Late { reason: "LATE".to_owned() });
        }
        let id = PartitionId::of(namespace, key.as_str(), caller.partitions);
        let space = self.space_of(namespace, key, caller);
        let version = Version::from(space.partition(id).change(caller.now, caller.id, "set", key.as_str()));
        space.leases.remove(key);
        space.store(key, value.stamp(version), ttl, caller.now.moment);
        Ok(version)
    }

    pub(super) fn invalidate(&mut self, namespace: &Namespace, key: &Key, caller: Caller) -> Invalidated {
        let id = PartitionId::of(namespace, key.as_str(), caller.partitions);
        let space = self.space_of(namespace, key, caller);
        let version = space.partition(id).change(caller.now, caller.id, "invalidate", key.as_str());
        space.leases.remove(key);
        Invalidated { version: version.into(), existed: space.remove(key) }
    }

    /// Invalidates a key once more, but for a value that is not older than this.
    pub(super) fn reassert(
        &mut self,
        namespace: &Namespace,
        key: &Key,
        number: Option<Version>,
        caller: Caller,
    ) {
        let id = PartitionId::of(namespace, key.as_str(), caller.partitions);
        let space = self.space_of(namespace, key, caller);
        space.leases.remove(key);
        let version = space.stored(key, caller.now.moment).map(|stored| stored.claimed_version());
        if version.is_some_and(|version| number.is_none_or(|number| number.supersedes(version))) {
            space.remove(key);
        }
        space.partition(id).change(caller.now, caller.id, "invalidate", key.as_str());
    }

    /// Asks for a key to be loaded anew.
    pub(super) fn refresh(&mut self, namespace: &Namespace, key: &Key, caller: Caller) -> Version {
        let id = PartitionId::of(namespace, key.as_str(), caller.partitions);
        self.space(namespace).partition(id).change(caller.now, caller.id, "refresh", key.as_str()).into()
    }

    /// Greets the partitions of a namespace.
    pub(super) fn hello(&mut self, namespace: &Namespace, incarnation: Incarnation, caller: Caller) {
        let space = self.space(namespace);
        for id in 0..caller.partitions {
            space.partition(PartitionId(id)).hello(caller.now, caller.id, incarnation);
        }
    }

    pub(super) fn sweep(
        &mut self,
        namespace: &Namespace,
        sweep: &Sweep,
        caller: Caller,
    ) -> Result<Option<Version>, RemoteError> {
        let (space, mut last) = (self.space(namespace), None);
        for id in 0..caller.partitions {
            let partition = space.partition(PartitionId(id));
            if partition.refuses(&sweep.rule) {
                return Err(RemoteError::Refused { reason: "so many sweeps are active".to_owned() });
            }
            last = Some(partition.sweep(caller.now, caller.id, sweep));
        }
        Ok(last)
    }

    pub(super) fn sweeps(&self, namespace: &Namespace) -> Vec<Sweep> {
        let Some(space) = self.spaces.get(namespace) else { return Vec::new() };
        let mut sweeps = Vec::new();
        for sweep in space.partitions.values().flat_map(Partition::sweeps) {
            if !sweeps.contains(sweep) {
                sweeps.push(sweep.clone());
            }
        }
        sweeps
    }

    pub(super) fn reap(&mut self, namespace: &Namespace, sweep: &Sweep, keys: &[Key], caller: Caller) -> u64 {
        let mut removed = 0;
        for key in keys {
            let id = PartitionId::of(namespace, key.as_str(), caller.partitions);
            let space = self.space_of(namespace, key, caller);
            let stored = space.stored(key, caller.now.moment);
            let version = stored.map_or(Version::ZERO, |stored| stored.claimed_version());
            if space.partition(id).reaps(key, sweep.id, version) {
                removed += u64::from(space.remove(key));
            }
        }
        removed
    }

    pub(super) fn retire(&mut self, namespace: &Namespace, sweep: &Sweep) {
        let space = self.space(namespace);
        space.partitions.values_mut().for_each(|partition| partition.retire(sweep.id));
    }

    pub(super) fn delay(
        &mut self,
        namespace: &Namespace,
        invalidations: Vec<Delayed>,
        after: Duration,
        caller: Caller,
    ) -> Result<(), RemoteError> {
        let space = self.space(namespace);
        if space.delayed.len() + invalidations.len() > DELAYED_MAX {
            return Err(RemoteError::Refused { reason: "so many are noted".to_owned() });
        }
        let due = caller.now.micros.saturating_add(u64::try_from(after.as_micros()).unwrap_or(u64::MAX));
        space.delayed.extend(invalidations.into_iter().map(|invalidation| (due, invalidation)));
        Ok(())
    }

    pub(super) fn due(&mut self, namespace: &Namespace, caller: Caller) -> Due {
        let (space, now) = (self.space(namespace), caller.now.micros);
        // The real server has those of one moment in the order of their texts.
        space.delayed.sort_by_cached_key(|(due, invalidation)| (*due, invalidation.to_string()));
        let taken = space.delayed.iter_mut().take_while(|(due, _)| *due <= now).take(DUE_MAX);
        let taken = taken.map(|(due, invalidation)| {
            *due = now + CLAIM_MICROS;
            invalidation.clone()
        });
        let now_due: Vec<Delayed> = taken.collect();
        let first = space.delayed.first().filter(|_| now_due.is_empty());
        let next = first.map(|(due, _)| Duration::from_micros(due.saturating_sub(now)));
        Due { now: now_due, next }
    }

    pub(super) fn done(&mut self, namespace: &Namespace, invalidations: &[Delayed]) {
        self.space(namespace).delayed.retain(|(_, noted)| !invalidations.contains(noted));
    }

    pub(super) fn bump_tag(&mut self, namespace: &Namespace, tag: &Tag, caller: Caller) -> Version {
        let id = PartitionId::of(namespace, tag.as_str(), caller.partitions);
        self.space(namespace).partition(id).bump(caller.now, caller.id, tag)
    }

    pub(super) fn generation(&mut self, namespace: &Namespace, tag: &Tag, caller: Caller) -> Generation {
        let id = PartitionId::of(namespace, tag.as_str(), caller.partitions);
        self.space(namespace).partition(id).generation(caller.now, caller.id, Some(tag))
    }

    pub(super) fn flush(&mut self) {
        self.spaces.clear();
        self.is_all_touched = true;
    }

    pub(super) fn evict(&mut self, namespace: &Namespace, key: &Key) -> bool {
        self.spaces.get_mut(namespace).is_some_and(|space| space.remove(key))
    }

    /// Gives a value another end, as a stranger could. Returns whether there is one.
    pub(super) fn expire(&mut self, namespace: &Namespace, key: &Key, expires: Moment) -> bool {
        let Some(space) = self.spaces.get_mut(namespace) else { return false };
        let Some(value) = space.values.get_mut(key) else { return false };
        value.expires = expires;
        space.touched.push(key.clone());
        true
    }

    pub(super) fn for_each_partition(&mut self, change: impl FnMut(&mut Partition)) {
        self.spaces.values_mut().flat_map(|space| space.partitions.values_mut()).for_each(change);
    }

    pub(super) fn with_partition(
        &mut self,
        namespace: &Namespace,
        id: PartitionId,
        change: impl FnOnce(&mut Partition),
    ) {
        change(self.space(namespace).partition(id));
    }

    /// The keys whose loads have ended since this was asked last, for which somebody waits.
    pub(super) fn take_ended(&mut self) -> Vec<(Namespace, Key)> {
        let of = |(namespace, space): (&Namespace, &mut Space)| {
            std::mem::take(&mut space.ended)
                .into_iter()
                .map(|key| (namespace.clone(), key))
                .collect::<Vec<_>>()
        };
        self.spaces.iter_mut().flat_map(of).collect()
    }

    /// What was touched since this was asked last.
    pub(super) fn take_touched(&mut self) -> Touched {
        let of = |(namespace, space): (&Namespace, &mut Space)| {
            let touched = std::mem::take(&mut space.touched).into_iter();
            touched.map(|key| (namespace.clone(), key)).collect::<Vec<_>>()
        };
        let some = self.spaces.iter_mut().flat_map(of).collect();
        Touched { is_all: std::mem::take(&mut self.is_all_touched), some }
    }

    /// What was published since this was asked last.
    pub(super) fn take_published(&mut self) -> Vec<(Namespace, PartitionId, Message)> {
        let mut published = Vec::new();
        for (namespace, space) in &mut self.spaces {
            for (&id, partition) in &mut space.partitions {
                let messages = partition.take_published().into_iter();
                published.extend(messages.map(|message| (namespace.clone(), PartitionId(id), message)));
            }
        }
        published
    }

    /// The numbers of the last changes of some partitions.
    pub(super) fn counters(&mut self, namespace: &Namespace, partitions: Range<u16>) -> Vec<Version> {
        let space = self.space(namespace);
        partitions.map(|id| space.partitions.get(&id).map_or(Version::ZERO, Partition::sequence)).collect()
    }

    pub(super) fn log(&self, namespace: &Namespace, id: PartitionId) -> Vec<Message> {
        let partition = self.spaces.get(namespace).and_then(|space| space.partitions.get(&id.0));
        partition.map(Partition::log).unwrap_or_default()
    }

    pub(super) fn keys(&self, namespace: &Namespace, now: Moment) -> Vec<Key> {
        let Some(space) = self.spaces.get(namespace) else { return Vec::new() };
        space.values.iter().filter(|(_, value)| value.expires > now).map(|(key, _)| key.clone()).collect()
    }

    /// Replaces a value by other bytes, as a stranger on a shared server could.
    pub(super) fn tamper(&mut self, namespace: &Namespace, key: &Key, bytes: bytes::Bytes) {
        let space = self.spaces.entry(namespace.clone()).or_default();
        space.values.insert(key.clone(), Value { bytes, expires: Moment::NEVER });
        space.touched.push(key.clone());
    }
}
