//! An L2 whose calls give the other tasks their turn, as a network does: where, a seed decides.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use terrace::Ttl;
use terrace_core::envelope::Sealed;
use terrace_core::remote::{
    BoxFuture, FillOutcome, Generation, Invalidated, Lease, LeaseOutcome, LeaseToken, Remote, RemoteHealth,
    RemoteResult, Stored, SweepRule,
};
use terrace_core::{Key, Namespace, Tag, Version};
use terrace_testkit::fake::FakeRemote;

/// Numbers that look random and are the same for the same seed.
#[derive(Debug)]
pub(crate) struct Dice(AtomicU64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// A number below `bound`.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// One of these.
    pub(crate) fn one_of<T: Copy>(&self, all: &[T]) -> T {
        let at = usize::try_from(self.below(all.len() as u64)).expect("an index");
        all[at]
    }

    /// Gives other tasks up to `turns_max` turns.
    pub(crate) async fn wait(&self, turns_max: u64) {
        for _ in 0..self.below(turns_max + 1) {
            tokio::task::yield_now().await;
        }
    }
}

/// [`FakeRemote`], with calls that take a while.
#[derive(Debug)]
pub(crate) struct Jittery {
    pub(crate) remote: FakeRemote,
    pub(crate) dice: Dice,
}

impl Jittery {
    /// Most turns that others get on each way of a call.
    const TURNS_MAX: u64 = 6;

    fn slow<'a, T: Send + 'a>(&'a self, call: RemoteResult<'a, T>) -> RemoteResult<'a, T> {
        Box::pin(async move {
            self.dice.wait(Self::TURNS_MAX).await;
            let result = call.await;
            self.dice.wait(Self::TURNS_MAX).await;
            result
        })
    }
}

#[rustfmt::skip]
impl Remote for Jittery {
    fn open<'a>(&'a self, n: &'a Namespace) -> RemoteResult<'a, ()> { self.slow(self.remote.open(n)) }
    fn get<'a>(&'a self, n: &'a Namespace, k: &'a Key) -> RemoteResult<'a, Option<Stored>> { self.slow(self.remote.get(n, k)) }
    fn get_many<'a>(&'a self, n: &'a Namespace, k: &'a [Key]) -> RemoteResult<'a, Vec<Option<Stored>>> {
        self.slow(self.remote.get_many(n, k))
    }
    fn lease<'a>(&'a self, n: &'a Namespace, k: &'a Key, t: LeaseToken, d: Duration, dead: Option<Version>) -> RemoteResult<'a, LeaseOutcome> {
        self.slow(self.remote.lease(n, k, t, d, dead))
    }
    fn release<'a>(&'a self, n: &'a Namespace, k: &'a Key, l: &'a Lease) -> RemoteResult<'a, ()> { self.slow(self.remote.release(n, k, l)) }
    fn fill<'a>(&'a self, n: &'a Namespace, k: &'a Key, l: &'a Lease, v: Sealed, t: Ttl) -> RemoteResult<'a, FillOutcome> {
        self.slow(self.remote.fill(n, k, l, v, t))
    }
    fn set<'a>(&'a self, n: &'a Namespace, k: &'a Key, v: Sealed, t: Ttl) -> RemoteResult<'a, Version> { self.slow(self.remote.set(n, k, v, t)) }
    fn set_many<'a>(&'a self, n: &'a Namespace, e: Vec<(Key, Sealed, Ttl)>) -> RemoteResult<'a, Vec<Version>> {
        self.slow(self.remote.set_many(n, e))
    }
    fn invalidate<'a>(&'a self, n: &'a Namespace, k: &'a [Key]) -> RemoteResult<'a, Vec<Invalidated>> {
        self.slow(self.remote.invalidate(n, k))
    }
    fn sweep<'a>(&'a self, n: &'a Namespace, r: &'a SweepRule) -> RemoteResult<'a, u64> { self.slow(self.remote.sweep(n, r)) }
    fn bump_tags<'a>(&'a self, n: &'a Namespace, t: &'a [Tag]) -> RemoteResult<'a, ()> { self.slow(self.remote.bump_tags(n, t)) }
    fn generations<'a>(&'a self, n: &'a Namespace, t: &'a [Tag]) -> RemoteResult<'a, Vec<Generation>> {
        self.slow(self.remote.generations(n, t))
    }
    fn health(&self) -> RemoteResult<'_, RemoteHealth> { self.remote.health() }
    fn close(&self) -> BoxFuture<'_, ()> { self.remote.close() }
}
