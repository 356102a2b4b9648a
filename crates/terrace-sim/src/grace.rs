//! Runs in which entries outlive their TTL, and the origin fails.
//!
//! They are every seventh seed. What else happens in such a run follows from its seed as it does in the others, so that no history
//! of theirs has changed because of these.

use crate::setting::Setting;
use std::time::Duration;
use terrace::{EntryOptions, RefreshAhead};
use terrace_core::Chance;

/// What calls on the way to L2 and back add to what a caller waits for a load at most.
const L2_TAKES: Duration = Duration::from_millis(600);
/// What it takes to bring home what was found before a change: an answer of L2, on a slow connection, and a node's turn.
const HOMEWARD: Duration = Duration::from_millis(400);

/// A hard timeout that is longer than a load may take.
const HARD_LONG: Duration = Duration::from_millis(2300);

/// How old values are used.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Grace {
    /// How long an entry is fresh, where the run is not about what nobody was told of.
    pub ttl: Duration,
    /// How long it is kept after that.
    pub grace: Duration,
    /// For how much of that it is returned at once.
    pub revalidate: Duration,
    /// How long a load is waited for if there is an old value.
    pub soft: Option<Duration>,
    /// How long it is waited for at all.
    pub hard: Option<Duration>,
    /// When an entry is loaded before its TTL is over.
    pub ahead: Option<RefreshAhead>,
    /// For how long no load is begun after one has failed.
    pub pause: Duration,
}

impl Grace {
    /// Every so many seeds are such a run, from this one on.
    const EVERY: u64 = 7;
    const FIRST: u64 = 2;

    /// Whether this seed is such a run, and how old values are used in it.
    pub(crate) fn of(seed: u64) -> Option<Self> {
        (seed % Self::EVERY == Self::FIRST).then(|| Self::drawn(&Chance::seeded(seed ^ 0x0061_7261_6365)))
    }

    fn drawn(chance: &Chance) -> Self {
        let is = |of: u64| chance.below(of) == 0;
        let millis = |least: u64, more: u64| Duration::from_millis(least + chance.below(more));
        let grace = millis(1000, 9000);
        let soft = is(2).then(|| millis(20, 200));
        let hard = match chance.below(3) {
            0 => None,
            1 => Some(millis(300, 700)),
            _ => Some(HARD_LONG),
        };
        Self {
            ttl: if is(3) { Duration::from_secs(20) } else { millis(200, 1300) },
            grace,
            revalidate: if is(2) { grace.mul_f64(0.5) } else { Duration::ZERO },
            soft,
            hard,
            ahead: match chance.below(3) {
                0 => None,
                1 => Some(RefreshAhead::After(0.5)),
                _ => Some(RefreshAhead::Likely(4.0)),
            },
            pause: millis(50, 500),
        }
    }

    /// The same as options of a keyspace.
    pub(crate) fn options(&self) -> EntryOptions {
        let mut options = EntryOptions::new()
            .ttl(self.ttl)
            .grace(self.grace)
            .stale_while_revalidate(self.revalidate)
            .failure_pause(self.pause)
            .negative_ttl(self.pause)
            .refresh_ahead(self.ahead);
        if let Some(soft) = self.soft {
            options = options.soft_timeout(soft);
        }
        if let Some(hard) = self.hard {
            options = options.hard_timeout(hard);
        }
        options
    }
}

impl Setting {
    /// The same run, where old values are used, if this seed is one of those.
    pub(crate) fn with_grace(mut self) -> Self {
        let Some(mut grace) = Grace::of(self.seed) else { return self };
        let chance = Chance::seeded(self.seed ^ 0x0077_6974_6820);
        self.trouble.pauses &= chance.below(3) == 0;
        self.lasts = Duration::from_millis(5000 + chance.below(4000));
        // What is changed all the time is never old.
        self.reads = 88 + chance.below(11);
        match chance.below(3) {
            // Copies whose time in L1 is over are old, too, and where nobody hears of changes nothing else drops them.
            0 if self.trouble.silent_losses == 0 && !self.trouble.failovers => {
                self.hears = false;
                // Longer than it takes to read all keys, with an origin that fails: so that one kept anew is found once more.
                self.l1_ttl = Duration::from_secs(4);
                (self.clients, self.keys) = (1, 3);
                grace.grace = Duration::from_secs(20);
                grace.ttl = Duration::from_secs(20);
            }
            // Callers who wait until a load has failed see what has become of the old value meanwhile.
            1 => {
                self.trouble.pauses = false;
                (self.nodes, self.clients, self.reads) = (2, 4, 85);
                self.think_max = Duration::from_millis(300);
                grace.ttl = Duration::from_millis(200);
                grace = Grace {
                    revalidate: Duration::ZERO,
                    soft: None,
                    hard: grace.hard.map(|_| HARD_LONG),
                    ..grace
                };
            }
            _ => {}
        }
        self.grace = Some(grace);
        self
    }

    /// Whether the server's clock is set now and then. Not where calls may arrive long after they were given up: what they may do then
    /// is [documented](../../../docs/guarantees.md#values-that-come-too-late).
    pub(crate) fn sets_clock(&self) -> bool {
        self.grace.is_some() && !self.trouble.connections && !self.trouble.pauses
    }

    /// The longest that a read takes, where that is promised and nodes do not stand still.
    pub(crate) fn reads_max(&self) -> Option<Duration> {
        let hard = self.grace?.hard?;
        (!self.trouble.pauses).then(|| hard + L2_TAKES)
    }

    /// For how long a read may still bring what was changed on its node meanwhile, where that is promised.
    pub(crate) fn homeward(&self) -> Option<Duration> {
        (self.grace.is_some() && !self.trouble.pauses).then_some(HOMEWARD)
    }
}
