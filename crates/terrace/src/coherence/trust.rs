//! May a copy in L1 count as fresh, without asking anybody?
//!
//! Where other nodes can change an entry, a copy is fresh only while this node is known to hear of changes. The proof is a
//! beat: this node publishes one, and it comes back behind all that was published before it. So when the beat that was
//! *sent* at `s` has come back, every change that was acknowledged before `s` has been applied here.
//!
//! 1. [`Trust::holds`] is asked before the copy is looked up. If it answers yes at `t`, what is found then is as fresh as
//!    of `t` minus the lease, whatever is paused, lost or delayed meanwhile: the answer depends on the clock, not on
//!    somebody noticing.
//! 2. The lease is extended only after every message before the beat was applied, and with the order that makes it seen.
//! 3. A namespace that nobody else can change is trusted for ever, and its clock is not read.

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::why::Trusted;
use std::time::Duration;
use terrace_core::mutants::{self, Mutant};
use terrace_core::{Clock, Moment};
use tokio::sync::Notify;

/// What the clock showed just now, if it was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading(Option<Moment>);

impl Reading {
    /// What it showed; it is read now, if it was not.
    #[inline]
    pub(crate) fn now(self, clock: &Clock) -> Moment {
        self.0.unwrap_or_else(|| clock.now())
    }

    /// What it showed, if it was read.
    #[inline]
    pub(crate) fn if_read(self) -> Option<Moment> {
        self.0
    }
}

/// Trusted for ever.
const ALWAYS: u64 = u64::MAX;

/// Until when copies of one namespace count as fresh.
#[derive(Debug)]
pub(crate) struct Trust {
    until: AtomicU64,
    /// Woken when it is extended.
    extended: Notify,
}

impl Trust {
    /// For a namespace that only this process changes, or whose L2 tells of no changes.
    pub(crate) fn always() -> Self {
        Self { until: AtomicU64::new(ALWAYS), extended: Notify::new() }
    }

    /// For a namespace that others can change, before anything is known.
    pub(crate) fn not_yet() -> Self {
        Self { until: AtomicU64::new(0), extended: Notify::new() }
    }

    /// Whether copies count as fresh. To be asked before a copy is looked up.
    #[inline]
    pub(crate) fn holds(&self, clock: &Clock) -> bool {
        self.holding(clock).is_some()
    }

    /// [`Trust::holds`], with the reading of the clock that says so: whoever looks a copy up then need not read it again.
    #[inline]
    pub(crate) fn holding(&self, clock: &Clock) -> Option<Reading> {
        let until = self.until.load(Ordering::Acquire);
        if until == ALWAYS {
            return Some(Reading(None));
        }
        let now = clock.now();
        let holds = now.as_nanos() < until || (until > 0 && mutants::is(Mutant::NoBeat));
        holds.then_some(Reading(Some(now)))
    }

    /// Whether copies counted as fresh once, and do not any more.
    pub(crate) fn has_lapsed(&self, clock: &Clock) -> bool {
        self.until.load(Ordering::Acquire) != 0 && !self.holds(clock)
    }

    /// For how much longer copies count as fresh.
    pub(crate) fn left(&self, clock: &Clock) -> Trusted {
        let (until, now) = (self.until.load(Ordering::Acquire), clock.now().as_nanos());
        match until {
            ALWAYS => Trusted::Always,
            until if now < until => Trusted::For(Duration::from_nanos(until - now)),
            _ => Trusted::Lapsed,
        }
    }

    /// A beat that was sent at `sent` has come back, and all that came before it was applied.
    pub(crate) fn extend(&self, sent: Moment, lease: Duration, clock: &Clock) {
        let until = sent.plus(lease.saturating_sub(clock.resolution())).as_nanos().min(ALWAYS - 1);
        self.until.fetch_max(until, Ordering::AcqRel);
        self.extended.notify_waiters();
    }

    /// Waits until it holds, at most for `limit`.
    pub(crate) async fn wait(&self, clock: &Clock, limit: Duration) {
        let held = async {
            loop {
                let extended = self.extended.notified();
                if self.holds(clock) {
                    return;
                }
                extended.await;
            }
        };
        let _held_or_not = crate::runtime::within(limit, held).await;
    }

    /// Waits until all is heard that was published up to `moment`, at most for `limit`. Whether it is.
    pub(crate) async fn has_heard(
        &self,
        moment: Moment,
        lease: Duration,
        clock: &Clock,
        limit: Duration,
    ) -> bool {
        // What a beat extends it to that was sent at that moment: one that was sent later has heard all.
        let until = moment.plus(lease.saturating_sub(clock.resolution())).as_nanos().min(ALWAYS - 1);
        let heard = async {
            loop {
                let extended = self.extended.notified();
                if self.until.load(Ordering::Acquire) > until {
                    return;
                }
                extended.await;
            }
        };
        crate::runtime::within(limit, heard).await.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(1);

    #[test]
    fn trust_ends_with_the_lease_counted_from_when_the_beat_was_sent() {
        let clock = Clock::manual();
        let trust = Trust::not_yet();
        assert!(!trust.holds(&clock));
        let sent = clock.now();
        clock.advance(LEASE / 2);
        trust.extend(sent, LEASE, &clock);
        assert!(trust.holds(&clock));
        clock.advance(LEASE / 2);
        assert!(!trust.holds(&clock));
    }

    #[test]
    fn an_older_beat_does_not_shorten_it() {
        let clock = Clock::manual();
        let trust = Trust::not_yet();
        let older = clock.now();
        clock.advance(LEASE / 2);
        trust.extend(clock.now(), LEASE, &clock);
        trust.extend(older, LEASE, &clock);
        clock.advance(LEASE * 3 / 4);
        assert!(trust.holds(&clock));
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_beat_that_was_sent_later_has_heard_all() {
        let clock = Clock::manual();
        let trust = Trust::not_yet();
        let moment = clock.now();
        trust.extend(moment, LEASE, &clock);
        assert!(!trust.has_heard(moment, LEASE, &clock, LEASE).await);
        clock.advance(Duration::from_nanos(1));
        trust.extend(clock.now(), LEASE, &clock);
        assert!(trust.has_heard(moment, LEASE, &clock, LEASE).await);
        assert!(Trust::always().has_heard(moment, LEASE, &clock, LEASE).await);
    }

    #[test]
    fn what_nobody_else_changes_is_trusted_for_ever() {
        let clock = Clock::manual();
        let trust = Trust::always();
        clock.advance(Duration::from_hours(1_000_000));
        assert!(trust.holds(&clock));
    }
}
