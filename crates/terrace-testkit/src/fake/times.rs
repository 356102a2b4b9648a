//! How long is a time that a server keeps? It has whole milliseconds.

use std::time::Duration;
use terrace_core::{Moment, Ttl};

/// How long those who took a delayed invalidation have to make it.
pub(super) const CLAIM_MICROS: u64 = 30_000_000;

/// When a lease ends that is granted now.
pub(super) fn lease_end(now: Moment, duration: Duration) -> Moment {
    now.plus(whole_millis(duration).max(Duration::from_millis(1)))
}

/// A TTL as the server keeps it: in whole milliseconds, rounded down, so that it never ends late.
pub(super) fn server_ttl(ttl: Ttl) -> Ttl {
    match ttl {
        Ttl::After(duration) => match Ttl::from(duration) {
            Ttl::After(duration) => Ttl::After(whole_millis(duration)),
            Ttl::Never => Ttl::Never,
        },
        Ttl::Never => Ttl::Never,
    }
}

pub(super) fn whole_millis(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
