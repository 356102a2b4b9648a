//! Two remotes against each other, on random lists of operations: same operations, same results.
//!
//! Numbers differ between servers, so they are compared by their order: every version by its rank among those of its
//! partition, every bump by how many leases were granted before it.
//!
//! 1. Keys, tags and tokens come from small sets, so that operations meet.
//! 2. What a server does by itself (expiry, eviction, loss) is an operation here, done to both at the same place.

use super::samples;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;
use terrace_core::bus::{Bus, Reassertion};
use terrace_core::envelope::Sealed;
use terrace_core::remote::{
    BoxFuture, Lease, LeaseOutcome, LeaseToken, Remote, RemoteError, RemoteResult, Stored, Sweep, SweepRule,
    Validity,
};
use terrace_core::{Glob, Key, Namespace, Partition, Tag, Ttl, Version};

mod comparing;
mod operations;
mod rigs;
mod touches;

pub use operations::{Operation, operations};
pub use rigs::FakeRig;
pub use touches::Touches;

/// A remote, with the means to do to its server what time and memory do.
pub trait Rig: Sync {
    /// The remote.
    fn remote(&self) -> &dyn Remote;
    /// The remote, as one that tells of changes.
    fn bus(&self) -> &dyn Bus;
    /// Gives the server another incarnation, and joins the namespace on that.
    fn renew<'a>(&'a self, namespace: &'a Namespace) -> BoxFuture<'a, ()>;
    /// Ends a value before its time.
    fn end_value<'a>(&'a self, namespace: &'a Namespace, key: &'a Key) -> BoxFuture<'a, ()>;
    /// Ends a lease before its time.
    fn end_lease<'a>(&'a self, namespace: &'a Namespace, key: &'a Key) -> BoxFuture<'a, ()>;
    /// A set that reaches the server when it is too late.
    fn set_late<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        value: Sealed,
        ttl: Ttl,
    ) -> RemoteResult<'a, Version>;
    /// Loses the counter of a partition.
    fn lose_counter<'a>(&'a self, namespace: &'a Namespace, partition: Partition) -> BoxFuture<'a, ()>;
    /// Loses the tag generations of a partition.
    fn lose_generations<'a>(&'a self, namespace: &'a Namespace, partition: Partition) -> BoxFuture<'a, ()>;
    /// The log of a partition, oldest change first.
    fn log<'a>(&'a self, namespace: &'a Namespace, partition: Partition) -> BoxFuture<'a, Vec<Change>>;
    /// What a node is told of values that were touched.
    fn touches(&self) -> &Touches;
}

/// What one entry of a log says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The number of the change before.
    pub previous: u64,
    /// Its own number.
    pub sequence: u64,
    /// What was done, and to what.
    pub what: String,
}

const KEYS: [&str; 5] = ["user:1", "user:2", "user:10", "org:1", "*"];
const TAGS: [&str; 3] = ["a", "b", "floor"];
const PATTERNS: [&str; 5] = ["user:*", "user:?", "*1", "org:1", "[a-t]*"];

/// Runs the same operations on both, in a namespace that is new to both, and compares all that they answered, and in
/// the end all that is left: values, generations and logs.
///
/// # Errors
/// [`TestCaseError`] with the first difference.
///
/// # Cancel safety
/// Dropping the future leaves both where they are.
pub async fn compare(
    left: &dyn Rig,
    right: &dyn Rig,
    namespace: &Namespace,
    partitions: u16,
    operations: &[Operation],
) -> Result<(), TestCaseError> {
    let left = run(left, namespace, partitions, operations).await;
    let right = run(right, namespace, partitions, operations).await;
    for (index, (left, right)) in left.iter().zip(&right).enumerate() {
        prop_assert_eq!(left, right, "step {} ({:?}) differs", index, operations.get(index));
    }
    prop_assert_eq!(left.len(), right.len());
    Ok(())
}

async fn run(rig: &dyn Rig, namespace: &Namespace, partitions: u16, operations: &[Operation]) -> Vec<String> {
    let mut player = Player {
        rig,
        namespace,
        partitions,
        leases: HashMap::new(),
        seen: HashMap::new(),
        sweeps: Vec::new(),
        steps: Vec::new(),
    };
    let opened = rig.remote().open(namespace).await;
    opened.expect("a namespace opens");
    rig.touches().take(namespace).await;
    for (step, operation) in operations.iter().enumerate() {
        player.steps.push(Vec::new());
        if let Err(error) = player.play(step, operation).await {
            player.text(format!("failed: {}", error.kind()));
        }
        let touched = rig.touches().take(namespace).await;
        player.text(format!("touched: {touched:?}"));
    }
    player.finish().await;
    player.ranked()
}

/// A part of an answer.
enum Item {
    Text(String),
    Version(Partition, Version),
    Granted(u64),
    Bumped(u64),
}

struct Player<'a> {
    rig: &'a dyn Rig,
    namespace: &'a Namespace,
    partitions: u16,
    leases: HashMap<(Key, u8), Lease>,
    seen: HashMap<Key, Version>,
    sweeps: Vec<Sweep>,
    steps: Vec<Vec<Item>>,
}

fn key(index: u8) -> Key {
    Key::new(KEYS[usize::from(index) % KEYS.len()]).expect("a valid key")
}

fn keys(indices: &[u8]) -> Vec<Key> {
    indices.iter().map(|index| key(*index)).collect()
}

fn tags(indices: &[u8]) -> Vec<Tag> {
    indices
        .iter()
        .map(|index| Tag::new(TAGS[usize::from(*index) % TAGS.len()]).expect("a valid tag"))
        .collect()
}

fn ttl(index: u8) -> Ttl {
    match index % 5 {
        0 => Ttl::Never,
        1 => Ttl::After(Duration::ZERO),
        2 => Ttl::After(Duration::from_micros(10)),
        _ => Ttl::After(Duration::from_hours(1)),
    }
}

const LEASE: Duration = Duration::from_mins(10);

impl Player<'_> {
    fn text(&mut self, text: impl Into<String>) {
        self.push(Item::Text(text.into()));
    }

    fn push(&mut self, item: Item) {
        self.steps.last_mut().expect("a step has begun").push(item);
    }

    fn version(&mut self, name: &str, version: Version) {
        let partition = Partition::of(self.namespace, name, self.partitions);
        self.push(Item::Version(partition, version));
    }

    fn stored(&mut self, key: &Key, stored: Option<&Stored>) {
        let Some(stored) = stored else { return self.text("none") };
        let (version, text) = samples::opened(self.namespace, key, &stored.bytes);
        self.seen.insert(key.clone(), version);
        self.text(format!("{text}, ends: {}", stored.remaining.is_some()));
        self.version(key.as_str(), version);
    }

    async fn play(&mut self, step: usize, operation: &Operation) -> Result<(), RemoteError> {
        match operation {
            Operation::Get(_) | Operation::GetMany(_) => self.read(operation).await,
            Operation::Lease { .. } | Operation::Release { .. } | Operation::Fill { .. } => {
                self.load(step, operation).await
            }
            Operation::Set { .. } | Operation::SetMany(_) | Operation::SetLate { .. } => {
                self.write(step, operation).await
            }
            Operation::SetIf { key, expected, ttl } => self.set_if(step, *key, *expected, *ttl).await,
            Operation::Invalidate(_) | Operation::SweepAll | Operation::Sweep(_) => {
                self.remove(operation).await
            }
            Operation::Sweeps | Operation::Reap(_) | Operation::Retire(_) => self.reap(operation).await,
            Operation::BumpTags(_) | Operation::Generations(_) => self.tag(operation).await,
            Operation::Reassert { key, knows, more } => self.reassert(*key, *knows, *more).await,
            Operation::Refresh(index) => {
                let key = key(*index);
                let number = self.rig.bus().refresh(self.namespace, &key).await?;
                self.version(key.as_str(), number);
                Ok(())
            }
            _ => {
                self.lose(operation).await;
                Ok(())
            }
        }
    }

    async fn read(&mut self, operation: &Operation) -> Result<(), RemoteError> {
        let remote = self.rig.remote();
        let (keys, found) = match operation {
            Operation::Get(index) => {
                let key = key(*index);
                let found = remote.get(self.namespace, &key).await?;
                (vec![key], vec![found])
            }
            Operation::GetMany(indices) => {
                let keys = keys(indices);
                let found = remote.get_many(self.namespace, &keys).await?;
                (keys, found)
            }
            other => unreachable!("not a read: {other:?}"),
        };
        let known = |key: &Key| (key.clone(), self.seen.get(key).copied().unwrap_or_default());
        let asked: Vec<_> = keys.iter().map(known).collect();
        for told in remote.validate(self.namespace, &asked).await? {
            self.text(match told {
                Validity::Same { remaining } => format!("same, ends: {}", remaining.is_some()),
                other => format!("{other:?}"),
            });
        }
        for (key, stored) in keys.iter().zip(&found) {
            self.stored(key, stored.as_ref());
        }
        Ok(())
    }

    async fn load(&mut self, step: usize, operation: &Operation) -> Result<(), RemoteError> {
        let remote = self.rig.remote();
        match operation {
            Operation::Lease { key: index, token, says_dead } => {
                let key = key(*index);
                let dead = self.seen.get(&key).copied().filter(|_| *says_dead);
                let name = LeaseToken(u128::from(*token) + 1);
                match remote.lease(self.namespace, &key, name, LEASE, dead).await? {
                    LeaseOutcome::Hit(stored) => self.stored(&key, Some(&stored)),
                    LeaseOutcome::Held { .. } => self.text("held"),
                    LeaseOutcome::Granted(lease) => {
                        self.version(key.as_str(), lease.version);
                        self.push(Item::Granted(lease.granted_at.0));
                        self.leases.insert((key, *token), lease);
                    }
                }
            }
            Operation::Release { key: index, token } => {
                if let Some(lease) = self.leases.get(&(key(*index), *token)) {
                    remote.release(self.namespace, &key(*index), lease).await?;
                }
            }
            Operation::Fill { key: index, token, ttl: kept } => {
                let (key, ttl) = (key(*index), ttl(*kept));
                if let Some(lease) = self.leases.get(&(key.clone(), *token)) {
                    let value = samples::sealed(self.namespace, &key, &format!("loaded {step}"), ttl);
                    let filled = remote.fill(self.namespace, &key, lease, value, ttl).await?;
                    self.text(format!("{filled:?}"));
                }
            }
            other => unreachable!("not part of a load: {other:?}"),
        }
        Ok(())
    }

    async fn write(&mut self, step: usize, operation: &Operation) -> Result<(), RemoteError> {
        let remote = self.rig.remote();
        let entries: Vec<(u8, u8)> = match operation {
            Operation::Set { key, ttl } | Operation::SetLate { key, ttl } => vec![(*key, *ttl)],
            Operation::SetMany(entries) => entries.clone(),
            other => unreachable!("not a write: {other:?}"),
        };
        let entry = |(place, (index, kept)): (usize, &(u8, u8))| {
            let (key, ttl) = (key(*index), ttl(*kept));
            let value = samples::sealed(self.namespace, &key, &format!("written {step}.{place}"), ttl);
            (key, value, ttl)
        };
        let mut entries: Vec<_> = entries.iter().enumerate().map(entry).collect();
        let keys: Vec<Key> = entries.iter().map(|(key, ..)| key.clone()).collect();
        let versions = if let Operation::SetMany(_) = operation {
            remote.set_many(self.namespace, entries).await?
        } else {
            let (key, value, ttl) = entries.remove(0);
            vec![match operation {
                Operation::SetLate { .. } => self.rig.set_late(self.namespace, &key, value, ttl).await?,
                _ => remote.set(self.namespace, &key, value, ttl).await?,
            }]
        };
        for (key, version) in keys.iter().zip(versions) {
            self.version(key.as_str(), version);
        }
        Ok(())
    }

    async fn remove(&mut self, operation: &Operation) -> Result<(), RemoteError> {
        let remote = self.rig.remote();
        let rule = match operation {
            Operation::Invalidate(indices) => {
                let keys = keys(indices);
                for (key, done) in keys.iter().zip(remote.invalidate(self.namespace, &keys).await?) {
                    self.text(format!("existed: {}", done.existed));
                    self.version(key.as_str(), done.version);
                }
                return Ok(());
            }
            Operation::Sweep(index) => {
                let pattern = PATTERNS[usize::from(*index) % PATTERNS.len()];
                SweepRule::Matching(Glob::new(pattern).expect("a valid pattern"))
            }
            _ => SweepRule::All,
        };
        let swept = remote.sweep(self.namespace, &rule).await?;
        self.sweeps.push(swept.sweep);
        match swept.version {
            Some(version) => self.push(Item::Version(Partition(self.partitions - 1), version)),
            None => self.text("no number".to_owned()),
        }
        Ok(())
    }

    async fn reap(&mut self, operation: &Operation) -> Result<(), RemoteError> {
        let remote = self.rig.remote();
        let (Operation::Reap(index) | Operation::Retire(index)) = operation else {
            let sweeps = remote.sweeps(self.namespace).await?;
            let mut rules: Vec<_> = sweeps.iter().map(|sweep| sweep.rule.pattern().to_owned()).collect();
            rules.sort();
            self.text(format!("{rules:?}"));
            return Ok(());
        };
        let count = self.sweeps.len().max(1);
        let Some(sweep) = self.sweeps.get(usize::from(*index) % count).cloned() else { return Ok(()) };
        if matches!(operation, Operation::Retire(_)) {
            return remote.retire(self.namespace, &sweep).await;
        }
        let mut keys = super::names(remote, self.namespace, &sweep.rule).await?;
        keys.sort();
        keys.dedup();
        self.text(format!("{keys:?}"));
        let removed = remote.reap(self.namespace, &sweep, &keys).await?;
        self.text(format!("removed {removed}"));
        Ok(())
    }

    async fn tag(&mut self, operation: &Operation) -> Result<(), RemoteError> {
        let remote = self.rig.remote();
        match operation {
            Operation::BumpTags(indices) => {
                let tags = tags(indices);
                for (tag, version) in tags.iter().zip(remote.bump_tags(self.namespace, &tags).await?) {
                    self.version(tag.as_str(), version);
                }
            }
            Operation::Generations(indices) => {
                let tags = tags(indices);
                for (tag, generation) in tags.iter().zip(remote.generations(self.namespace, &tags).await?) {
                    self.version(tag.as_str(), generation.version);
                    self.push(Item::Bumped(generation.bumped_at.0));
                }
            }
            other => unreachable!("nothing about tags: {other:?}"),
        }
        Ok(())
    }

    /// Asserts a change of the version that was seen last, or of none, and one of a tag or a pattern at times.
    async fn reassert(&mut self, index: u8, knows: bool, more: u8) -> Result<(), RemoteError> {
        let key = key(index);
        let number = self.seen.get(&key).copied().filter(|_| knows);
        let number = number.map(|seen| Version::from(seen.get() + u64::from(more % 2)));
        let mut changes = vec![Reassertion::Key { key, number }];
        match more % 5 {
            0 => changes.extend(tags(&[more]).into_iter().map(Reassertion::Tag)),
            1 => changes.push(Reassertion::Sweep(SweepRule::All)),
            _ => {}
        }
        self.rig.bus().reassert(self.namespace, &changes, &[]).await
    }

    async fn lose(&mut self, operation: &Operation) {
        let partition = |index: &u8| Partition(u16::from(*index) % self.partitions);
        match operation {
            Operation::Renew => self.rig.renew(self.namespace).await,
            Operation::EndValue(index) => self.rig.end_value(self.namespace, &key(*index)).await,
            Operation::EndLease(index) => self.rig.end_lease(self.namespace, &key(*index)).await,
            Operation::LoseCounter(index) => self.rig.lose_counter(self.namespace, partition(index)).await,
            Operation::LoseGenerations(index) => {
                self.rig.lose_generations(self.namespace, partition(index)).await;
            }
            other => unreachable!("nothing is lost: {other:?}"),
        }
    }

    /// Records what is left.
    async fn finish(&mut self) {
        self.steps.push(Vec::new());
        let all: Vec<u8> = (0..8).collect();
        self.read(&Operation::GetMany(all[..KEYS.len()].to_vec())).await.expect("a read succeeds");
        self.tag(&Operation::Generations(all[..TAGS.len()].to_vec())).await.expect("asking succeeds");
        for partition in (0..self.partitions).map(Partition) {
            self.steps.push(Vec::new());
            for change in self.rig.log(self.namespace, partition).await {
                self.push(Item::Version(partition, change.previous.into()));
                self.push(Item::Version(partition, change.sequence.into()));
                self.text(change.what);
            }
        }
    }

    /// The answers, with numbers replaced by their order.
    fn ranked(&self) -> Vec<String> {
        let mut versions: HashMap<Partition, BTreeSet<Version>> = HashMap::new();
        let mut grants = Vec::new();
        for item in self.steps.iter().flatten() {
            match item {
                Item::Version(partition, version) => {
                    versions.entry(*partition).or_default().insert(*version);
                }
                Item::Granted(time) => grants.push(*time),
                Item::Text(_) | Item::Bumped(_) => {}
            }
        }
        let show = |item: &Item| match item {
            Item::Text(text) => text.clone(),
            Item::Version(partition, version) => format!("v{}", versions[partition].range(..version).count()),
            Item::Granted(_) => "granted".to_owned(),
            Item::Bumped(time) => {
                format!("after {} leases", grants.iter().filter(|grant| *grant <= time).count())
            }
        };
        self.steps.iter().map(|step| step.iter().map(show).collect::<Vec<_>>().join(" | ")).collect()
    }
}
