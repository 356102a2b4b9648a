//! What happens in a history, and how likely it is.

use super::OFF;
use crate::behind::options::Ack;
use proptest::prelude::*;

/// One step of a history.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Write {
        key: u8,
        is_delete: bool,
        ack: Ack,
        is_held: bool,
    },
    /// L2 gives the oldest held write a version, by a clock that is so many seconds off; or does not answer.
    Release(Option<i64>),
    /// One of the requests so far comes again.
    Repeat(u16),
    Commit,
    Send,
    /// Settles what is under way; three bits of the number for each write say how.
    Settle(u64),
    /// The batch fails as a whole.
    Fail,
    /// The dead letters of a key are brought back.
    Retry(u8),
    Advance(u64),
    Kill,
    /// The power goes, after so many more changes of the disk by a commit.
    Power {
        changes: usize,
        seed: u64,
    },
    DiskFull(usize),
    Room,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let ack = prop_oneof![3 => Just(Ack::Fsync), 1 => Just(Ack::Os), 1 => Just(Ack::Memory)];
    prop_oneof![
        8 => (0..4_u8, prop::bool::weighted(0.25), ack, any::<bool>())
            .prop_map(|(key, is_delete, ack, is_held)| Step::Write { key, is_delete, ack, is_held }),
        5 => prop::option::weighted(0.8, -OFF..OFF).prop_map(Step::Release),
        4 => any::<u16>().prop_map(Step::Repeat),
        5 => Just(Step::Commit),
        4 => Just(Step::Send),
        4 => any::<u64>().prop_map(Step::Settle),
        1 => Just(Step::Fail),
        3 => (0..4_u8).prop_map(Step::Retry),
        2 => (1..60_u64).prop_map(Step::Advance),
        1 => Just(Step::Kill),
        1 => (0..12_usize, any::<u64>()).prop_map(|(changes, seed)| Step::Power { changes, seed }),
        1 => (0..6_usize).prop_map(Step::DiskFull),
        1 => Just(Step::Room),
    ]
}
