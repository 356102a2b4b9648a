//! What a run is made of: all of it follows from a seed, unless a test asks for something.

use crate::grace::Grace;
use crate::network::{MILLI, Time};
use std::time::Duration;
use terrace::SuspectPolicy;
use terrace_core::Chance;

/// What goes wrong in a run, besides what always does: calls and messages take their time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a kind of trouble, and they go together in any way"
)]
pub struct Trouble {
    /// Connections stand still, break, are slow, and cannot be made.
    pub connections: bool,
    /// Nodes and the server stand still, as under `SIGSTOP`.
    pub pauses: bool,
    /// The server loses leases, counters, generations, logs, values, and everything.
    pub losses: bool,
    /// The server's replica takes its place, which has not heard of the last changes.
    pub failovers: bool,
    /// The server refuses calls, or answers what makes no sense.
    pub refusals: bool,
    /// So many messages of a thousand are lost now and then from a connection that stays open, while beats pass.
    pub silent_losses: u64,
}

impl Trouble {
    /// None.
    pub const NONE: Self = Self {
        connections: false,
        pauses: false,
        losses: false,
        failovers: false,
        refusals: false,
        silent_losses: 0,
    };
}

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Setting {
    /// From which everything follows that chance decides.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// How many callers on each node.
    pub clients: usize,
    /// Keys that are changed and told of.
    pub keys: u64,
    /// Partitions of each namespace.
    pub partitions: u16,
    /// Whether nodes hear of each other's changes.
    pub hears: bool,
    /// How long callers call, before all trouble ends.
    pub lasts: Duration,
    /// The longest pause of a caller between two calls.
    pub think_max: Duration,
    /// How many connections for calls each node has.
    pub pool: usize,
    /// How long a copy stays in L1.
    pub l1_ttl: Duration,
    /// What a message takes on its way, at least, in a network at rest; at most it is five times as much.
    pub hop: Duration,
    /// What a message about a change or a beat takes on top of that.
    pub hearing: Duration,
    /// Of a hundred calls, how many read.
    pub reads: u64,
    /// What goes wrong.
    pub trouble: Trouble,
    /// Time between two troubles, at most.
    pub trouble_every: Duration,
    /// What nodes do with copies that cannot be proven fresh, in turn.
    pub policies: Vec<SuspectPolicy>,
    /// Δ.
    pub staleness_max: Duration,
    /// How old values are used, if entries outlive their TTL; the origin fails then.
    pub grace: Option<Grace>,
    /// Whether single values are written through the origin, which is asked within the call. So it is with every thirteenth seed: the
    /// histories of the others are as they were.
    pub writes_through: bool,
}

/// The longest that a pause of a node or the server lasts.
pub(crate) const PAUSE_MAX: Time = 2500 * MILLI;

impl Setting {
    const THROUGH_EVERY: u64 = 13;
    const THROUGH_FIRST: u64 = 5;

    /// The ordinary run of a seed: two to eight nodes, some seconds, and as much trouble as the seed says.
    pub fn of(seed: u64) -> Self {
        let chance = Chance::seeded(seed ^ 0x5e77_1175);
        let is = |of: u64| chance.below(of) == 0;
        let calm = is(8);
        let trouble = Trouble {
            connections: !calm && !is(3),
            pauses: !calm && !is(3),
            losses: !calm && !is(3),
            failovers: false,
            refusals: !calm && is(3),
            silent_losses: if is(4) { 20 + chance.below(400) } else { 0 },
        };
        let policies = [SuspectPolicy::Validate, SuspectPolicy::Error, SuspectPolicy::Stale];
        let first = chance.below(3);
        let nodes = 2 + chance.below(3) + if is(4) { chance.below(5) } else { 0 };
        let is_hot = is(2);
        let hears = trouble.silent_losses > 0 || !is(5);
        let failovers = hears && !calm && trouble.silent_losses == 0 && is(4);
        let trouble = Trouble { failovers, losses: trouble.losses && !failovers, ..trouble };
        // Copies that stay long show what was missed, and short leases when it should have been found.
        let stays = trouble.silent_losses > 0 || (hears && is(2));
        // A gap in the chain is the only sign of a loss if others of the partition are changed soon after, and it shows in
        // copies that nothing else drops.
        let is_quiet = trouble.silent_losses > 0 && is(2);
        let trouble = if is_quiet {
            Trouble { silent_losses: trouble.silent_losses, ..Trouble::NONE }
        } else {
            trouble
        };
        let (keys, think_max, lasts) = if is_quiet {
            (9 + chance.below(8), 20 + chance.below(200), 2500 + chance.below(2000))
        } else if is_hot {
            (3, 1 + chance.below(20), 1000 + chance.below(1500))
        } else {
            (3 + chance.below(8), 20 + chance.below(400), 6000 + chance.below(4000))
        };
        let setting = Self {
            seed,
            nodes: index(nodes.min(8)),
            clients: index(1 + chance.below(3)),
            keys,
            partitions: u16::try_from(1 + chance.below(if is_quiet { 2 } else { 8 })).unwrap_or(1),
            hears,
            pool: index(1 + chance.below(3)),
            l1_ttl: Duration::from_secs(if stays { 60 } else { 3 }),
            lasts: Duration::from_millis(lasts),
            think_max: Duration::from_millis(think_max),
            hop: Duration::from_micros(100 + if is(2) { chance.below(6000) } else { 0 }),
            hearing: Duration::from_millis(if is(2) { chance.below(200) } else { 0 }),
            reads: if is_quiet { 80 } else { 50 } + chance.below(if is_quiet { 15 } else { 40 }),
            trouble,
            trouble_every: Duration::from_millis(20 + chance.below(if is_hot { 200 } else { 800 })),
            policies: (0..3).map(|n| policies[index((first + n) % 3)]).collect(),
            staleness_max: Duration::from_millis(match trouble.silent_losses {
                0 if is(2) => 1000,
                0 => 400,
                _ => 300,
            }),
            grace: None,
            writes_through: seed % Self::THROUGH_EVERY == Self::THROUGH_FIRST,
        };
        setting.with_grace()
    }
}

impl Setting {
    /// Beats after which every counter was read, with two namespaces that take turns.
    const BEATS_PER_ROUND: u32 = 2 * 20;
    const BEATS_PER_LEASE: u32 = 4;
    /// Hops of a beat and of what is read before it, there and back, and of what is read when something is missing.
    const HOPS: u32 = 5 * 8;

    /// How long after a message was lost in silence, with nothing after it, that is found out: when its counter was read, and
    /// the beat after that is back.
    pub(crate) fn found_within(&self) -> Duration {
        self.staleness_max
            + self.staleness_max / Self::BEATS_PER_LEASE * (Self::BEATS_PER_ROUND + 2)
            + self.hop * Self::HOPS
            + self.hearing * 3
    }
}

/// A small number as an index.
pub(crate) fn index(number: u64) -> usize {
    usize::try_from(number).expect("a small number")
}
