//! Was what a fleet answered as it is promised? Histories of calls, and the rules K1–K8 over them.
//!
//! Whoever watches a fleet, in one process or over HTTP, notes each call as an [`Operation`] and hands all of them to
//! [`check`]. What it takes for granted:
//!
//! 1. All times are of one monotonic clock, in nanoseconds: the time of a simulation, or `CLOCK_MONOTONIC` of one machine. A
//!    call is noted as begun before it is made, and as ended after it returned. One came after another if it began
//!    *later* than the other ended; at the same nanosecond they overlap.
//! 2. The origin gives each change of a key the next number, its *version* here. A change is made at the origin first and
//!    told to the cache then, both between its beginning and its end; a key that was never changed has a version below all of
//!    them. A change that stores a value does not overlap with other changes of its key: which of two such came last
//!    is for the caller to say, not for a cache.
//! 3. Values name the key that they are of, so that one that was mixed up shows.
//! 4. A call about many keys is an operation for each.
//!
//! | rule | says |
//! |---|---|
//! | [`Rule::Node`] (K1) | no read, fresh or stale, brings what is older than a change that returned before on the same node; and none goes on for longer than [`Promises::homeward`] to bring what it had found |
//! | [`Rule::Fleet`] (K2) | nor one that was applied anywhere, as long before as [`Promises::staleness_max`] |
//! | [`Rule::Monotonic`] (K3) | fresh reads of one key on one node never go back |
//! | [`Rule::Quiet`] (K4) | after [`Promises::calm_from`], fresh reads bring the newest |
//! | [`Rule::Lifetime`] (K4) | nor is it older than [`Promises::ttl_max`], of which a change of the origin is proof that nobody told |
//! | [`Rule::Linearizable`] (K5) | fresh reads that asked L2 themselves, and applied changes, could have been made one after the other |
//! | [`SinkHistory`] (K6) | an origin is brought every write that was acknowledged, of each key in order, repeated ones unchanged |
//! | [`Rule::Bounded`] (K7) | every call ends within [`Promises::call_max`], a read within [`Promises::reads_max`] |
//! | [`Rule::Genuine`] (K8) | a value is one of the key that was asked for, and one that the origin had by then |
//!
//! K6 is checked by itself, over what a writer and its origin say ([`sink`]). A read without a value breaks no rule: misses are no harm. K3 and K5
//! count on the order that L2 gives: a value that was loaded without a lease is in none ([`Read::is_anchored`]), so it
//! must not be older than what was read before, but may be newer than what is read next. So may one from the origin whose
//! key was changed while it was loaded: it is returned, and kept nowhere.
//!
//! # Cost
//! O(n log n) in the number of operations.

mod rules;
pub mod sink;
mod words;

pub use sink::{SinkFigures, SinkHistory};

#[cfg(test)]
mod tests;

use std::time::Duration;

/// What a change came to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// It holds for all nodes.
    Applied,
    /// It holds on its node, and L2 is told of it later.
    Queued,
    /// L2 refused it. It holds on its node all the same.
    Refused,
    /// The cache was not told. It holds for all nodes when the TTL of what was stored before is over.
    Untold,
    /// Nobody knows: the call failed on its way to the node, or back. It may hold, or come to hold later.
    Unknown,
}

/// Which tier an answer came from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Source {
    /// The memory of the node.
    L1,
    /// The shared tier.
    L2,
    /// The origin.
    Origin,
}

/// What a read brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// A value that counts as fresh.
    Fresh(Read),
    /// A value that is flagged as stale.
    Stale(Read),
    /// That there is no value.
    Nothing,
    /// An error.
    Failed,
}

/// A value that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Read {
    /// The key that the value says it is of.
    pub key: u64,
    /// The version that the value says it has.
    pub version: u64,
    /// Where it came from, if that is known.
    pub source: Option<Source>,
    /// Whether L2 put it in order: it was stored there, or loaded under a lease. `false` where that is not known.
    pub is_anchored: bool,
    /// Whether L2 was asked for it by this very call: the source is L2, and it cannot have joined a flight, as a read of a
    /// keyspace without an origin; and the entry has no tags, because what a node knows of tags may be as old as a copy.
    /// K5 is checked for these.
    pub has_asked: bool,
}

/// What was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// A read, with or without a load.
    Read(Answer),
    /// A change, by whatever way: storing a value, or invalidating by key, tag, pattern or all at once.
    Change {
        /// The number that the origin gave it.
        version: u64,
        /// What the cache said.
        outcome: Outcome,
    },
    /// A load at the origin, on behalf of whichever calls. Counted, and held to no time.
    Load {
        /// What it brought.
        version: u64,
    },
}

/// One call, about one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operation {
    /// The node that was asked.
    pub node: u32,
    /// The key that it was asked about, as a number that no key of another namespace has.
    pub key: u64,
    /// Before it was made, in nanoseconds.
    pub begun: u64,
    /// After it returned, in nanoseconds; [`Operation::NEVER`] if it did not.
    pub ended: u64,
    /// What it was, and what it came to.
    pub what: What,
}

impl Operation {
    /// The end of a call that did not return.
    pub const NEVER: u64 = u64::MAX;

    fn precedes(&self, other: &Self) -> bool {
        self.ended < other.begun
    }

    /// The value that it brought, flagged as stale or not.
    fn brought(&self) -> Option<Read> {
        match self.what {
            What::Read(Answer::Fresh(read) | Answer::Stale(read)) => Some(read),
            _ => None,
        }
    }

    fn overlaps(&self, from: u64, to: u64) -> bool {
        self.begun <= to && self.ended >= from
    }

    /// The value that it brought as fresh.
    fn fresh(&self) -> Option<Read> {
        match self.what {
            What::Read(Answer::Fresh(read)) => Some(read),
            _ => None,
        }
    }
}

/// A while after which L2 had forgotten some of what it had acknowledged, and had not been told anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Forgetting {
    /// Changes that were acknowledged from then on, and begun up to [`Forgetting::at`], may be forgotten: one that ended after that may
    /// have been made before, and its node have been halted since. In nanoseconds.
    pub from: u64,
    /// When it forgot: a primary failed over, say.
    pub at: u64,
    /// When it knew all of them again; [`Operation::NEVER`] if it was never told.
    pub until: u64,
}

/// What is promised of a history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Promises {
    /// Δ, by which an applied change holds on all nodes; `None` if nodes do not hear of each other.
    pub staleness_max: Option<Duration>,
    /// Allowed on top of Δ, for what the watching itself takes.
    pub slack: Duration,
    /// The longest that any call may take.
    pub call_max: Duration,
    /// The longest that a read may take, if that is less.
    pub reads_max: Option<Duration>,
    /// For how long after a change has returned on a node a read that began before may still bring there, as stale, what a tier had
    /// of before; not checked if there is none.
    pub homeward: Option<Duration>,
    /// The longest that a value lives after it was true, the time to load and store it included; `None` if entries live for
    /// ever.
    pub ttl_max: Option<Duration>,
    /// From when on all changes have been delivered everywhere, and copies of before are gone. In nanoseconds.
    pub calm_from: Option<u64>,
    /// Nodes for which K3 is not promised: one without L1 has no copy of what it has answered from L2, and may join a load
    /// that began before.
    pub unordered: Vec<u32>,
    /// What L2 forgot. A read during such a while need not know of changes that may have been forgotten, and what it
    /// brings is in no order with what was read before.
    pub forgettings: Vec<Forgetting>,
}

impl Promises {
    /// Promises of nodes that hear of each other, with nothing forgotten and no calm.
    pub const fn within(staleness_max: Duration, call_max: Duration) -> Self {
        Self {
            staleness_max: Some(staleness_max),
            slack: Duration::ZERO,
            call_max,
            reads_max: None,
            homeward: None,
            ttl_max: None,
            calm_from: None,
            unordered: Vec::new(),
            forgettings: Vec::new(),
        }
    }
}

/// A promise, by the name it has in the documentation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Rule {
    /// K1.
    Node,
    /// K2.
    Fleet,
    /// K3.
    Monotonic,
    /// K4, without the calm.
    Lifetime,
    /// K4.
    Quiet,
    /// K5.
    Linearizable,
    /// K7.
    Bounded,
    /// K8.
    Genuine,
}

/// A promise that was broken, with what shows it. Displayed, it tells the story.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// The call that should have come to something else.
    pub operation: Operation,
    /// The call because of which.
    pub because: Option<Operation>,
    /// What was promised.
    promises: Promises,
}

/// What a history holds, in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// All calls, loads not counted.
    pub operations: u64,
    /// Reads with a fresh value.
    pub fresh: u64,
    /// Those of them that brought less than the newest version applied by then, anywhere.
    pub fresh_but_old: u64,
    /// The longest that a change had been applied already that a fresh read knew nothing of.
    pub oldest_fresh: Duration,
    /// Reads with a value that was flagged as stale.
    pub stale: u64,
    /// Reads without a value.
    pub nothing: u64,
    /// Reads that failed.
    pub failed: u64,
    /// Changes that were applied.
    pub applied: u64,
    /// Changes that were queued.
    pub queued: u64,
    /// Changes that L2 refused, that the cache was not told of, or of which nobody knows.
    pub unsure: u64,
    /// Loads at the origin.
    pub loads: u64,
    /// Fresh reads that K5 was checked for.
    pub linearized: u64,
    /// Fresh reads in the calm.
    pub calm: u64,
    /// The longest call.
    pub longest_call: Duration,
}

/// What a check came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// What the history holds.
    pub figures: Figures,
    /// Which promises were broken, by rule and then by time.
    pub violations: Vec<Violation>,
}

/// Checks a history, in any order, against what is promised.
pub fn check(operations: &[Operation], promises: &Promises) -> Report {
    let mut report = Report { figures: Figures::default(), violations: Vec::new() };
    rules::count(operations, &mut report.figures);
    rules::Checking { promises, report: &mut report }.all(operations);
    report.violations.sort_by_key(|violation| (violation.rule, violation.operation.begun));
    report
}
