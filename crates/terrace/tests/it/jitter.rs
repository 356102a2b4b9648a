//! An L2 whose calls give the other tasks their turn, as a network does: where, a seed decides.

use crate::wrapped::{Around, Wrapped};
use std::sync::atomic::{AtomicU64, Ordering};
use terrace_core::remote::RemoteResult;

/// Most turns that others get on each way of a call.
const TURNS_MAX: u64 = 6;

/// An L2 with calls that take a while.
pub(crate) type Jittery = Wrapped<Dice>;

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

impl Around for Dice {
    fn one<'a, T: Send + 'a>(&'a self, call: RemoteResult<'a, T>) -> RemoteResult<'a, T> {
        Box::pin(async move {
            self.wait(TURNS_MAX).await;
            let result = call.await;
            self.wait(TURNS_MAX).await;
            result
        })
    }

    fn many<'a, T: Send + 'a>(&'a self, call: RemoteResult<'a, Vec<T>>) -> RemoteResult<'a, Vec<T>> {
        self.one(call)
    }
}
