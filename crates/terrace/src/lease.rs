//! The right to load a key and to fill L2 with it, fleet-wide.
//!
//! 1. A fill happens only under a lease that L2 granted before the load began, and that no invalidation has voided.
//!    So the result of a late loader is never stored over an invalidation.
//! 2. A token is the name of one load, never of a node.
//! 3. Somebody else's lease is waited for, by looking for the value, for at most [`WAIT_MAX`]. After that the value is
//!    loaded and returned, and kept nowhere: this node has no right to fill. Such a load is shared by those who came
//!    while it ran, although only this node's invalidations can end it early.
//! 4. A lease whose load brought nothing is given back.

use crate::entry::{Found, Resident};
use crate::read::Look;
use crate::space::View;
use crate::telemetry::Event;
use std::time::Duration;
use terrace_core::remote::{FillOutcome, Lease, LeaseOutcome, LeaseToken};
use terrace_core::{Key, Tag, Ttl, Version};

/// Longest wait for somebody else's load.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// First pause between two looks for somebody else's value; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(2);
/// Longest pause between two looks.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// What a load may do with its result.
pub(crate) enum Right {
    /// Fill L2 and L1.
    Leased(Lease),
    /// Keep it in L1: there is no L2. The version was given out on this node before the load.
    Alone(Version),
    /// Keep it in L1 for a short while: L2 cannot be asked.
    Unanchored,
    /// Return it, and keep it nowhere: somebody else has the lease.
    None,
}

impl Right {
    /// The version that the result will have.
    pub(crate) fn version(&self) -> Version {
        match self {
            Self::Leased(lease) => lease.version,
            Self::Alone(version) => *version,
            Self::Unanchored | Self::None => Version::ZERO,
        }
    }
}

/// What came of filling L2.
pub(crate) enum Filled {
    /// It holds the value, in this many bytes before compression.
    Yes {
        /// The length of the encoding.
        encoded: usize,
    },
    /// There is none, or it cannot be reached.
    WithoutL2 {
        /// Whether the version was given out by the one who gives versions here.
        is_anchored: bool,
    },
    /// It is kept nowhere: somebody else has the lease, or the value cannot be stored.
    Nowhere,
    /// The key or one of its tags was invalidated while it was loaded.
    Overtaken,
}

impl View {
    /// The right of a load that cannot ask L2.
    #[expect(clippy::unnecessary_wraps, reason = "the other way to a right can find a value instead")]
    pub(crate) fn right_without_l2(&self) -> Result<Right, Box<Found>> {
        Ok(match self.l2() {
            None => Right::Alone(self.shared.versions.next()),
            Some(_) => Right::Unanchored,
        })
    }

    /// Asks for a lease, waiting for another holder within bounds; or finds the value that it brought meanwhile.
    pub(crate) async fn obtain_right(
        &self,
        key: &Key,
        mut dead: Option<Version>,
    ) -> Result<Right, Box<Found>> {
        let Some(l2) = self.l2() else { return self.right_without_l2() };
        let token = LeaseToken(random());
        let start = self.shared.clock.precise();
        let mut pause = PAUSE_MIN;
        loop {
            let sent = self.shared.clock.now();
            let duration = self.space.rules.load_timeout;
            let asked = l2
                .call(&self.space, |remote| remote.lease(&self.space.namespace, key, token, duration, dead));
            match asked.await {
                Ok(LeaseOutcome::Granted(lease)) => return Ok(Right::Leased(lease)),
                Ok(LeaseOutcome::Hit(stored)) => match self.examine(key, &stored, sent).await {
                    Look::Hit(found) => return Err(Box::new(found)),
                    Look::Miss { dead: seen } => dead = seen,
                    Look::Unknown => return Ok(Right::Unanchored),
                },
                Ok(LeaseOutcome::Held { .. }) => {
                    if self.shared.clock.precise().since(start) >= WAIT_MAX {
                        return Ok(Right::None);
                    }
                    crate::runtime::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                Err(_) => return Ok(Right::Unanchored),
            }
            if self.space.pending.distrusts(key) {
                return Ok(Right::Unanchored);
            }
        }
    }

    /// Gives a lease back whose load brought nothing. That it cannot be given back costs others a wait, no more.
    pub(crate) async fn give_back(&self, key: &Key, right: &Right) {
        if let (Some(l2), Right::Leased(lease)) = (self.l2(), right) {
            let call = l2.call(&self.space, |remote| remote.release(&self.space.namespace, key, lease));
            if call.await.is_err() {
                tracing::debug!(namespace = %self.space.namespace, "a lease could not be given back");
            }
        }
    }

    /// Stores what was loaded in L2, if there is the right to.
    pub(crate) async fn fill(
        &self,
        key: &Key,
        right: &Right,
        resident: &Resident,
        ttl: Ttl,
        tags: &[Tag],
    ) -> Filled {
        let lease = match right {
            Right::Leased(lease) => lease,
            Right::Alone(_) => return Filled::WithoutL2 { is_anchored: true },
            Right::Unanchored => return Filled::WithoutL2 { is_anchored: false },
            Right::None => return Filled::Nowhere,
        };
        let Ok(payload) = self.encode(&resident.value) else {
            tracing::warn!(namespace = %self.space.namespace, "a loaded value cannot be stored: too large, or its codec refused it");
            self.give_back(key, right).await;
            return Filled::Nowhere;
        };
        let encoded = payload.len();
        let stamps = match self.stamps_since(tags, lease).await {
            Ok(Some(stamps)) => stamps,
            Ok(None) => return Filled::Overtaken,
            Err(_) => return Filled::WithoutL2 { is_anchored: false },
        };
        let Ok(sealed) = self.seal(key, payload, ttl, stamps) else { return Filled::Nowhere };
        let Some(l2) = self.l2() else { return Filled::WithoutL2 { is_anchored: true } };
        self.space.counters.add(Event::L2BytesWritten, sealed.as_bytes().len() as u64);
        let call = l2.call(&self.space, |remote| remote.fill(&self.space.namespace, key, lease, sealed, ttl));
        match call.await {
            Ok(FillOutcome::Stored) => {
                self.space.counters.count(Event::FillStored);
                Filled::Yes { encoded }
            }
            Ok(FillOutcome::Rejected) => {
                self.space.counters.count(Event::FillRejected);
                Filled::Overtaken
            }
            Err(_) => Filled::WithoutL2 { is_anchored: false },
        }
    }
}

/// 128 random bits: the operating system's, because two loads of two nodes must never share a token.
fn random() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    u128::from_ne_bytes(bytes)
}
