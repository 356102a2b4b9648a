//! The envelope, the codecs and the compression from outside: a format that stays, round trips, hostile bytes.

mod allocation;
mod bombs;
mod chain;
mod codecs;
#[cfg(feature = "zstd")]
mod dictionary;
mod fixture;
mod golden;
mod hostile;
#[cfg(feature = "zstd")]
mod levels;
mod roundtrip;
