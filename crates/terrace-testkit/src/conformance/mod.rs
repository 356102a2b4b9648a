//! Suites that every implementation of a trait has to pass.
//!
//! | module | checks |
//! |---|---|
//! | [`remote`] | the contract of [`terrace_core::Remote`], sentence by sentence |
//! | [`differential`] | two of them against each other, on random lists of operations |
//! | [`samples`] | values to store |

pub mod differential;
pub mod remote;
pub mod samples;

use futures_util::TryStreamExt;
use terrace_core::remote::{Remote, RemoteError, SweepRule};
use terrace_core::{Key, Namespace};

/// The keys that a rule names, of entries dead and alive.
///
/// # Errors
/// As [`Remote::names`].
///
/// # Cancel safety
/// Dropping the future changes nothing.
pub async fn names(
    remote: &dyn Remote,
    namespace: &Namespace,
    rule: &SweepRule,
) -> Result<Vec<Key>, RemoteError> {
    remote.names(namespace, rule).try_concat().await
}

/// Sweeps, and removes at once all that was killed. Returns how many entries it were.
///
/// # Panics
/// If any of it fails.
///
/// # Cancel safety
/// What has begun goes on to hold.
pub async fn swept(remote: &dyn Remote, namespace: &Namespace, rule: &SweepRule) -> u64 {
    let sweep = remote.sweep(namespace, rule).await.expect("a sweep succeeds").sweep;
    let keys = names(remote, namespace, rule).await.expect("names are told");
    let removed = remote.reap(namespace, &sweep, &keys).await.expect("the dead are removed");
    remote.retire(namespace, &sweep).await.expect("a sweep ends");
    removed
}
