//! How does a node hear of writers that are not terrace?
//!
//! The server is asked to name every key that changes, whoever changes it: `CLIENT TRACKING ON BCAST`, on the connection that
//! listens. It tells of commands of strangers, of `FLUSHALL`, of what expires and of what is evicted.
//!
//! 1. **One prefix per namespace**, which the server compares with the name of each key that is written. It covers leases, counters and
//!    logs too; those are passed over here. 256 prefixes would cost 256 comparisons.
//! 2. **Tracking begins before anything else of a joining**, at every primary. What a server did before, nobody tells: so the namespace is
//!    told as touched as a whole after it was joined, and what is read from then on was read while the server tracked.
//! 3. **The order.** A server collects names in a turn of its event loop and sends them at the turn's end. Up to Redis 7 it sends the replies of
//!    the turn after them. Redis 8 with `io-threads` may have sent a reply before, so that a beat that was sent upon it is published in the
//!    same turn, ahead of the names. So a beat that is back is not told yet: the server is asked something on the same connection, which it
//!    can read only in a later turn, and the beat is told behind what came before the answer.
//! 4. **Own changes come back as well**, and fills: scripts run on other connections, so `NOLOOP` would not help. They cannot be told from a
//!    stranger's: the server names a key once in a turn, however often and by whomever it was changed, so one name beside a message of
//!    our own may stand for both. Nor is it enough to look whether L2 still has the version of the copy: a stranger may
//!    have changed the rest of the value, or when it ends. So each name is told, and costs its readers one read of L2
//!    after a change or a fill. That is the price of never missing a stranger.
//! 5. No `REDIRECT`: who redirects is not told when the other connection ends. No default mode: it would have to read every key on
//!    this connection, and servers forget what was read when their table is full.

use super::queue::Push;
use crate::call;
use crate::link::Link;
use crate::sending::one;
use crate::topology::Listening;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::RemoteError;

/// Most beats about which the server is asked at a time. Of more nothing is told, as of beats that are lost.
pub(super) const SETTLING_MAX: usize = 256;

/// Begins to hear of all keys whose names begin so. A prefix must not begin with another one of the connection.
pub(super) async fn begin(link: &Link, prefix: &str) -> Result<(), RemoteError> {
    let mut command = redis::cmd("CLIENT");
    command.arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg(prefix);
    let begun = link.ask(&one(command)).await;
    begun.map(drop).map_err(|error| match error {
        RemoteError::Refused { reason } | RemoteError::Protocol { reason } => {
            let address = link.address();
            let reason = format!(
                "{address} does not let us track what others write, so no copy here counts as fresh; an ACL user needs \
                 `+client|tracking` for the setting `tracking`: {reason}"
            );
            RemoteError::Refused { reason }
        }
        other => other,
    })
}

/// Waits until all has come that a primary sent in the turn in which it sent a beat back. `None` if that is not known.
pub(super) async fn settle(
    listening: Arc<Listening>,
    primary: usize,
    beat: u64,
    limit: Duration,
) -> Option<Push> {
    let link = listening.link(primary)?;
    let answered = call::on(link, limit, link.ask(&one(redis::cmd("PING")))).await;
    if let Err(error) = &answered {
        tracing::debug!(address = %link.address(), %error, "what came with a beat is not known");
    }
    answered.is_ok().then_some(Push::Settled { primary, beat })
}
