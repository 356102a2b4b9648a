//! What is done to two remotes.

use proptest::prelude::*;

/// One operation. Numbers index small sets, modulo their sizes.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each is the call, or the loss, of the same name")]
pub enum Operation {
    Get(u8),
    GetMany(Vec<u8>),
    Lease { key: u8, token: u8, says_dead: bool },
    Release { key: u8, token: u8 },
    Fill { key: u8, token: u8, ttl: u8 },
    Set { key: u8, ttl: u8 },
    SetMany(Vec<(u8, u8)>),
    SetLate { key: u8, ttl: u8 },
    SetIf { key: u8, expected: u8, ttl: Option<u8> },
    Invalidate(Vec<u8>),
    SweepAll,
    Sweep(u8),
    Sweeps,
    Reap(u8),
    Retire(u8),
    BumpTags(Vec<u8>),
    Generations(Vec<u8>),
    Reassert { key: u8, knows: bool, more: u8 },
    Refresh(u8),
    Renew,
    EndValue(u8),
    EndLease(u8),
    LoseCounter(u8),
    LoseGenerations(u8),
}

/// Random lists of operations.
pub fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let some = || prop::collection::vec(any::<u8>(), 0..4);
    let operation = prop_oneof![
        3 => any::<u8>().prop_map(Operation::Get),
        1 => some().prop_map(Operation::GetMany),
        6 => (any::<u8>(), 0..3_u8, any::<bool>())
            .prop_map(|(key, token, says_dead)| Operation::Lease { key, token, says_dead }),
        1 => (any::<u8>(), 0..3_u8).prop_map(|(key, token)| Operation::Release { key, token }),
        6 => (any::<u8>(), 0..3_u8, any::<u8>())
            .prop_map(|(key, token, ttl)| Operation::Fill { key, token, ttl }),
        3 => (any::<u8>(), any::<u8>()).prop_map(|(key, ttl)| Operation::Set { key, ttl }),
        1 => prop::collection::vec((any::<u8>(), any::<u8>()), 0..4).prop_map(Operation::SetMany),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(key, ttl)| Operation::SetLate { key, ttl }),
        4 => (any::<u8>(), any::<u8>(), any::<Option<u8>>())
            .prop_map(|(key, expected, ttl)| Operation::SetIf { key, expected, ttl }),
        2 => some().prop_map(Operation::Invalidate),
        1 => Just(Operation::SweepAll),
        2 => any::<u8>().prop_map(Operation::Sweep),
        1 => Just(Operation::Sweeps),
        2 => any::<u8>().prop_map(Operation::Reap),
        1 => any::<u8>().prop_map(Operation::Retire),
        2 => some().prop_map(Operation::BumpTags),
        2 => some().prop_map(Operation::Generations),
        3 => (any::<u8>(), any::<bool>(), any::<u8>())
            .prop_map(|(key, knows, more)| Operation::Reassert { key, knows, more }),
        1 => any::<u8>().prop_map(Operation::Refresh),
        1 => Just(Operation::Renew),
        2 => any::<u8>().prop_map(Operation::EndValue),
        1 => any::<u8>().prop_map(Operation::EndLease),
        1 => any::<u8>().prop_map(Operation::LoseCounter),
        1 => any::<u8>().prop_map(Operation::LoseGenerations),
    ];
    prop::collection::vec(operation, 1..40)
}
