//! What can go wrong in more than one operation.

use crate::api::error::Code;

/// What can be wrong with a key.
pub(super) const OF_KEYS: [Code; 4] =
    [Code::KeyEmpty, Code::KeyTooLong, Code::KeyCharacter, Code::KeyEncoding];

/// What can go wrong at an origin that is asked.
pub(super) const OF_LOADS: [Code; 8] = [
    Code::KeyRefused,
    Code::OriginUnavailable,
    Code::OriginBusy,
    Code::OriginTimeout,
    Code::OriginNotUnique,
    Code::OriginFailed,
    Code::OriginOverloaded,
    Code::L2Unavailable,
];

/// What can go wrong where a change is made.
pub(super) const OF_CHANGES: [Code; 10] = [
    Code::KeyRefused,
    Code::OriginUnavailable,
    Code::OriginBusy,
    Code::OriginTimeout,
    Code::OriginFailed,
    Code::OriginRefused,
    Code::WriteUnknown,
    Code::JournalFull,
    Code::JournalFailed,
    Code::L2Refused,
];
