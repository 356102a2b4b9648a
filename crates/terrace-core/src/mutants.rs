//! Faults to be put into the code on purpose, one at a time, to see that the tests find them.
//!
//! Each rule of the protocol asks here, at its own place, whether it is to be broken. Built as usual, [`is`] is a constant
//! `false` and costs nothing; built with `--cfg terrace_mutants`, `choose` switches one on for the whole process.
//! `cargo xtask sim --mutants` does so with each, and tells which promise was seen to break.

/// A rule, left out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mutant {
    /// Whoever has loaded stores, whether or not the lease holds.
    FillWithoutLease,
    /// A sweep leaves the leases that were granted before it.
    NoBarrier,
    /// A value is stored although one of its tags was bumped while it was loaded.
    NoTagFence,
    /// What was read or loaded enters L1, whatever was invalidated meanwhile.
    NoTicket,
    /// Removing a key drops the copy before L2 is told, and not again after.
    SingleDrop,
    /// A value that was returned and not kept leaves an older copy in L1.
    OlderCopyStays,
    /// Gaps in the chain of messages are not looked at.
    NoChain,
    /// The log fills a gap although it does not reach back to it.
    RepairWithoutOrder,
    /// After a connection was lost, what was missed is not looked for.
    JoinWithoutRepair,
    /// Counters are not compared with what was heard.
    NoCounters,
    /// Copies whose change may have been missed go on to count as fresh.
    SuspectsStay,
    /// A copy that may be old counts as fresh again without L2 having been asked.
    RearmUnasked,
    /// What was once known to be fresh is trusted for ever.
    NoBeat,
    /// Trust counts from when a beat came back, not from when it was sent.
    TrustFromReturn,
    /// L2 is believed about keys before it was told of their invalidation.
    PendingIsTrusted,
    /// A copy in L1 lives for a whole TTL from when it was read.
    TtlBeginsAnew,
    /// A lost table of generations counts as if no tag had ever been bumped.
    NoFloor,
    /// Storing a value is logged, and not published.
    ForgottenPublish,
    /// The server stores a value that comes too late.
    NoDeadline,
    /// Storing a value fails as soon as its connection is lost, when it may still arrive.
    FailsBeforeDeadline,
    /// What is past its TTL is returned as if it were fresh.
    OldCountsAsFresh,
    /// A copy in L1 whose load has failed is kept anew.
    FailedLoadKeepsAnew,
    /// When a load has failed, it is not looked at whether the old value was invalidated meanwhile.
    FailedLoadForgives,
    /// A copy that a tag, a pattern or a clearing has killed is good enough to be returned as stale.
    OldIgnoresBans,
    /// Callers wait for as long as a load takes.
    NoHardTimeout,
    /// A load may take as long as it likes.
    NoLoadTimeout,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 26] = [
        Self::FillWithoutLease,
        Self::NoBarrier,
        Self::NoTagFence,
        Self::NoTicket,
        Self::SingleDrop,
        Self::OlderCopyStays,
        Self::NoChain,
        Self::RepairWithoutOrder,
        Self::JoinWithoutRepair,
        Self::NoCounters,
        Self::SuspectsStay,
        Self::RearmUnasked,
        Self::NoBeat,
        Self::TrustFromReturn,
        Self::PendingIsTrusted,
        Self::TtlBeginsAnew,
        Self::NoFloor,
        Self::ForgottenPublish,
        Self::NoDeadline,
        Self::FailsBeforeDeadline,
        Self::OldCountsAsFresh,
        Self::FailedLoadKeepsAnew,
        Self::FailedLoadForgives,
        Self::OldIgnoresBans,
        Self::NoHardTimeout,
        Self::NoLoadTimeout,
    ];
}

#[cfg(not(terrace_mutants))]
mod switch {
    use super::Mutant;

    /// Whether the rule is to be left out: never.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "it has to cost nothing, in every build")]
    pub const fn is(_mutant: Mutant) -> bool {
        false
    }
}

#[cfg(terrace_mutants)]
mod switch {
    use super::Mutant;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const NONE: usize = usize::MAX;

    static CHOSEN: AtomicUsize = AtomicUsize::new(NONE);

    /// Whether the rule is to be left out.
    pub fn is(mutant: Mutant) -> bool {
        CHOSEN.load(Ordering::Relaxed) == mutant as usize
    }

    /// Leaves out this rule from now on, or none.
    pub fn choose(mutant: Option<Mutant>) {
        CHOSEN.store(mutant.map_or(NONE, |mutant| mutant as usize), Ordering::Relaxed);
    }
}

pub use switch::*;
