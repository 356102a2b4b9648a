//! What the load changes and reads, and what is known of it.
//!
//! 1. Each key has a number that only grows. A change raises it at the origin first, and tells the cache then. Changes
//!    of one key do not overlap; reads overlap with everything.
//! 2. Every operation is recorded when it ends, with when it began and ended by one monotonic clock.
//! 3. A value whose `PUT` was not acknowledged as applied may appear at any time: the server may still be about to
//!    execute it. Such values are `World::is_loose`, and reads that bring exactly them prove nothing.

use crate::fleet::Fleet;
use parking_lot::{Mutex, RwLock};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use terrace_core::{Clock, Moment};

/// A key of the load: an item of the origin, or behind those one of a group.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct KeyId(pub u32);

/// Groups, each with a tag and a pattern of its own.
pub(crate) const GROUPS: u32 = 4;
/// Keys of all groups together.
pub(crate) const GROUPED: u32 = 16;

/// A node in one of its lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeId {
    /// Which.
    pub index: u16,
    /// Which of its lives, from one.
    pub life: u16,
}

impl From<NodeId> for u32 {
    /// One number for each life of each node: 102 is the second life of node 2.
    fn from(node: NodeId) -> Self {
        Self::from(node.life - 1) * 100 + Self::from(node.index)
    }
}

/// How a key was changed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum How {
    /// By its new value.
    Put,
    /// By removing it.
    Delete,
    /// By invalidating it by name.
    Key,
    /// By invalidating its tag.
    Tag,
    /// By invalidating a pattern.
    Pattern,
}

/// What became of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// It holds everywhere.
    Applied,
    /// It holds on its node so far.
    Queued,
    /// Nobody knows.
    Unknown,
}

/// A change of one key.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Of which key.
    pub key: KeyId,
    /// The number since.
    pub number: u64,
    /// Through which node.
    pub node: NodeId,
    /// How.
    pub how: How,
    /// When the cache was told.
    pub began: Moment,
    /// When it was acknowledged.
    pub ended: Moment,
    /// What became of it.
    pub effect: Effect,
}

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Failure {
    /// The node cannot be reached, or is gone.
    Gone,
    /// There was no answer for far longer than any promise.
    Silent,
    /// It is an error of the service.
    Status(u16),
    /// It is not of the key that was asked for, or none at all.
    Wrong,
}

/// Where a value came from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Source {
    /// Memory of the node.
    L1,
    /// The server.
    L2,
    /// The origin.
    Origin,
    /// Memory of the node, and not proven fresh.
    Stale,
}

/// What a read brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// A value.
    Value {
        /// The number that it has.
        number: u64,
        /// The version that the cache gives it; zero for none.
        version: u64,
        /// The mark of the load that brought it; zero for a value that was put.
        mark: i64,
        /// Where it came from.
        source: Source,
    },
    /// That there is none.
    Nothing,
    /// An error.
    Failed(Failure),
}

/// A read of one key.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// Of which key.
    pub key: KeyId,
    /// Through which node.
    pub node: NodeId,
    /// When it was asked.
    pub began: Moment,
    /// When it was answered.
    pub ended: Moment,
    /// With what.
    pub answer: Answer,
}

/// The fleet, and all that is known of its keys.
#[derive(Debug)]
pub struct World {
    /// The fleet.
    pub fleet: Fleet,
    pub(crate) clock: Clock,
    /// The last number of each key, locked by who changes it.
    numbers: Vec<Arc<tokio::sync::Mutex<u64>>>,
    changes: Mutex<Vec<Change>>,
    reads: Mutex<Vec<Read>>,
    loose: RwLock<HashSet<(KeyId, u64)>>,
    is_over: AtomicBool,
}

impl World {
    /// The world of a fleet that has just been started.
    pub fn new(fleet: Fleet) -> Self {
        let rows = fleet.settings.rows;
        let number = |key| Arc::new(tokio::sync::Mutex::new(u64::from(key < rows)));
        Self {
            numbers: (0..rows + GROUPED).map(number).collect(),
            fleet,
            clock: Clock::system(),
            changes: Mutex::default(),
            reads: Mutex::default(),
            loose: RwLock::default(),
            is_over: AtomicBool::new(false),
        }
    }

    pub(crate) fn rows(&self) -> u32 {
        self.fleet.settings.rows
    }

    /// The group of a key that has one.
    pub(crate) fn group(&self, key: KeyId) -> Option<u32> {
        key.0.checked_sub(self.rows()).map(|grouped| grouped % GROUPS)
    }

    /// The keys of a group, in order.
    pub(crate) fn of_group(&self, group: u32) -> Vec<KeyId> {
        (0..GROUPED).filter(|grouped| grouped % GROUPS == group).map(|n| KeyId(self.rows() + n)).collect()
    }

    /// The name of a key in the cache.
    pub fn name(&self, key: KeyId) -> String {
        match self.group(key) {
            Some(group) => format!("group:{group}:{}", key.0),
            None => format!("item:{}", key.0),
        }
    }

    /// The last number of a key.
    pub(crate) fn number(&self, key: KeyId) -> Arc<tokio::sync::Mutex<u64>> {
        Arc::clone(&self.numbers[usize::try_from(key.0).unwrap_or(usize::MAX)])
    }

    pub(crate) fn note_change(&self, change: Change) {
        if change.how == How::Put && change.effect != Effect::Applied {
            self.loose.write().insert((change.key, change.number));
        }
        self.changes.lock().push(change);
    }

    pub(crate) fn note_read(&self, read: Read) {
        self.reads.lock().push(read);
    }

    /// Whether a number of a key may appear at any time.
    pub(crate) fn is_loose(&self, key: KeyId, number: u64) -> bool {
        self.loose.read().contains(&(key, number))
    }

    /// All reads since the last call.
    pub(crate) fn take_reads(&self) -> Vec<Read> {
        std::mem::take(&mut *self.reads.lock())
    }

    /// All changes since the last call.
    pub(crate) fn take_changes(&self) -> Vec<Change> {
        std::mem::take(&mut *self.changes.lock())
    }

    /// Ends the load.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}
