//! What an L2 has to be able to do.
//!
//! [`Remote`] is the seam between the library, which decides, and an adapter, which does: **one attempt per call, no
//! policy**. Retry, fallback and the order of tiers live above; physical names and wire formats live below.
//!
//! What an adapter must hold, and the conformance suite in the testkit checks:
//! 1. Every change of a key gets the next [`Version`] of the key's partition, atomically with the change, and is
//!    appended to the partition's log and published in the same step.
//! 2. A [`Remote::fill`] stores only while its lease is held and nothing in the namespace was swept since it was
//!    granted. [`Remote::set`] and [`Remote::invalidate`] void the lease. So the result of a load that began before
//!    an invalidation is never stored after it.
//! 3. Losing any metadata (lease, version counter, rule of a sweep, tag generation) makes misses, never hits on old values.
//! 4. Every call ends within the adapter's own deadline.
//! 5. A [`Remote::set`] that has failed takes no effect any more. Else it could arrive behind a change of another node that
//!    was acknowledged meanwhile, and put the older value back. [`ServerClock`] tells how an adapter can hold that. Every
//!    other call may arrive however late: it makes misses, or finds its lease gone.
//!
//! The trait is used as `Arc<dyn Remote>`; each call boxes its future, which a network round trip dwarfs.

mod records;
mod server_clock;
mod settings;

pub use records::*;
pub use server_clock::ServerClock;
pub use settings::*;

use crate::bus::Bus;
use crate::entry::Ttl;
use crate::envelope::Sealed;
use crate::key::{Key, Namespace, Tag};
use crate::version::Version;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// The future of one call.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What one attempt came to.
pub type RemoteResult<'a, T> = BoxFuture<'a, Result<T, RemoteError>>;

/// Why a call to L2 failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// There is no connection. The call was not sent.
    #[error("L2 is unreachable: {reason}")]
    Unavailable {
        /// What the connection attempt said.
        reason: String,
    },
    /// The deadline passed. The call may or may not have taken effect.
    #[error("L2 did not answer within {after:?}")]
    Timeout {
        /// The deadline that passed.
        after: Duration,
    },
    /// The connection broke after the call was sent. It may or may not have taken effect.
    #[error("the connection to L2 broke: {reason}")]
    Broken {
        /// What was seen.
        reason: String,
    },
    /// The call reached the server when its caller had given it up, or was about to. The server did nothing.
    #[error("L2 got the call too late: {reason}")]
    Late {
        /// The server's words.
        reason: String,
    },
    /// The server refused: rights, memory, a read-only replica.
    #[error("L2 refused: {reason}")]
    Refused {
        /// The server's words.
        reason: String,
    },
    /// The server takes no changes, because it cannot be sure to be the primary any more: it has lost its replicas, or was told
    /// to follow another. The call had no effect. What it still answers to reads may have been changed elsewhere.
    #[error("L2 takes no changes, it may not be the primary any more: {reason}")]
    CutOff {
        /// The server's words.
        reason: String,
    },
    /// The server answered something that this adapter does not understand.
    #[error("L2 answered in an unexpected way: {reason}")]
    Protocol {
        /// What was expected and what came.
        reason: String,
    },
    /// This node and the namespace in L2 disagree about settings that must be equal.
    #[error("settings of this node and of L2 disagree: {reason}")]
    Mismatch {
        /// Which setting, with both values.
        reason: String,
    },
}

impl RemoteError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. }
                | Self::Timeout { .. }
                | Self::Broken { .. }
                | Self::Late { .. }
                | Self::CutOff { .. }
        )
    }

    /// Whether the call certainly had no effect.
    pub fn is_unsent(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. }
                | Self::Late { .. }
                | Self::Refused { .. }
                | Self::CutOff { .. }
                | Self::Mismatch { .. }
        )
    }

    /// One word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "unavailable",
            Self::Timeout { .. } => "timeout",
            Self::Broken { .. } => "broken",
            Self::Late { .. } => "late",
            Self::Refused { .. } | Self::CutOff { .. } => "refused",
            Self::Protocol { .. } => "protocol",
            Self::Mismatch { .. } => "mismatch",
        }
    }
}

/// A shared tier: Redis, Valkey, or whatever else keeps the four rules above.
///
/// # Cancel safety
/// Dropping the future of any call never corrupts the connection; a call that was sent is still executed.
pub trait Remote: fmt::Debug + Send + Sync + 'static {
    /// Checks that this node and L2 agree on the namespace's settings, which the first node decides, and makes what tags need.
    /// The first call for a namespace must be this one or [`Remote::open`]; calling it again is harmless.
    ///
    /// # Errors
    /// [`RemoteError::Mismatch`] if another node uses the namespace with other settings. Nothing was changed then.
    fn open_with<'a>(
        &'a self,
        namespace: &'a Namespace,
        settings: &'a SharedSettings,
    ) -> RemoteResult<'a, ()>;

    /// [`Remote::open_with`] for who neither reads nor writes values, as tools do.
    ///
    /// # Errors
    /// As [`Remote::open_with`].
    fn open<'a>(&'a self, namespace: &'a Namespace) -> RemoteResult<'a, ()> {
        Box::pin(async move { self.open_with(namespace, &SharedSettings::default()).await })
    }

    /// Forgets the settings that the nodes of a namespace share, so that the next one to open it decides anew. Values and all
    /// else stay. Only for a namespace that no node uses: one that has it open goes on with the settings that it has.
    ///
    /// # Cost
    /// One round trip.
    fn forget_settings<'a>(&'a self, namespace: &'a Namespace) -> RemoteResult<'a, ()>;

    /// Reads one entry.
    ///
    /// # Cost
    /// One round trip.
    fn get<'a>(&'a self, namespace: &'a Namespace, key: &'a Key) -> RemoteResult<'a, Option<Stored>>;

    /// Reads many entries, in the order of `keys`.
    ///
    /// # Cost
    /// One round trip per shard.
    fn get_many<'a>(
        &'a self,
        namespace: &'a Namespace,
        keys: &'a [Key],
    ) -> RemoteResult<'a, Vec<Option<Stored>>>;

    /// Whether each key still has the value of the version that the caller knows, in the order of `asked`. What
    /// [`Remote::get`] would not return counts as missing.
    ///
    /// The provided method reads the values. An adapter that can ask for versions alone does.
    ///
    /// # Cost
    /// One round trip per shard, without the values.
    fn validate<'a>(
        &'a self,
        namespace: &'a Namespace,
        asked: &'a [(Key, Version)],
    ) -> RemoteResult<'a, Vec<Validity>> {
        Box::pin(async move {
            let keys: Vec<Key> = asked.iter().map(|(key, _)| key.clone()).collect();
            let found = self.get_many(namespace, &keys).await?;
            Ok(found
                .iter()
                .zip(asked)
                .map(|(found, (_, known))| Validity::of(found.as_ref(), *known))
                .collect())
        })
    }

    /// Ends the leases of these keys, whoever has them, and then says what [`Remote::validate`] says. So where a key still has the value that
    /// the caller knows, nothing takes its place that was being loaded before this.
    ///
    /// The provided method says of all that they are missing, which is never wrong: the caller drops them then.
    ///
    /// # Cost
    /// Two round trips per shard, without the values.
    fn settle<'a>(
        &'a self,
        _namespace: &'a Namespace,
        asked: &'a [(Key, Version)],
    ) -> RemoteResult<'a, Vec<Validity>> {
        Box::pin(async move { Ok(vec![Validity::Missing; asked.len()]) })
    }

    /// A number that keys share which are on one server now. Calls for keys of different numbers need not fail, or be
    /// late, together. A hint: it may be old.
    ///
    /// # Cost
    /// No round trip.
    fn shard_of(&self, _namespace: &Namespace, _key: &Key) -> u16 {
        0
    }

    /// Asks for the right to load `key`, for at most `duration`. A value that is there is returned instead, unless
    /// it is the one that the caller has seen and found `dead` (a tag of it was bumped, or it is no envelope): then
    /// it counts as absent. It stays where it is until the fill replaces it.
    ///
    /// # Cost
    /// One round trip.
    fn lease<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        token: LeaseToken,
        duration: Duration,
        dead: Option<Version>,
    ) -> RemoteResult<'a, LeaseOutcome>;

    /// Makes a lease that is still held last for `duration` from now on. Returns whether it is.
    ///
    /// # Cost
    /// One round trip.
    fn renew<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        lease: &'a Lease,
        duration: Duration,
    ) -> RemoteResult<'a, bool>;

    /// Gives a lease back without a value, so that the next caller need not wait for it to run out. A lease that is
    /// no longer held is left alone.
    ///
    /// # Cost
    /// One round trip.
    fn release<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        lease: &'a Lease,
    ) -> RemoteResult<'a, ()>;

    /// Stores what was loaded under a lease, with the lease's version, and ends the lease. Never published: it
    /// changes no logical state.
    ///
    /// # Cost
    /// One round trip.
    fn fill<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        lease: &'a Lease,
        value: Sealed,
        ttl: Ttl,
    ) -> RemoteResult<'a, FillOutcome>;

    /// Stores a value that the caller knows to be true now, voids any lease, and publishes the change. A TTL of
    /// zero removes instead.
    ///
    /// # Errors
    /// When it has failed, it takes no effect any more. It may have had one, unless the error is [unsent](RemoteError::is_unsent):
    /// one that came too late is [`RemoteError::Late`].
    ///
    /// # Cost
    /// One round trip. Where the connection is lost on the way, it ends at its deadline and not before: what was sent may
    /// arrive until then.
    ///
    /// # Cancel safety
    /// A call that is dropped may still be executed, until its deadline.
    fn set<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        value: Sealed,
        ttl: Ttl,
    ) -> RemoteResult<'a, Version>;

    /// [`Remote::set`] for many entries, in order; each is atomic, all of them together are not.
    ///
    /// # Errors
    /// Those of [`Remote::set`]. [`RemoteError::Late`] only if all came too late; what did not come in time was not done,
    /// and is not done any more.
    ///
    /// # Cost
    /// One round trip per shard.
    fn set_many<'a>(
        &'a self,
        namespace: &'a Namespace,
        entries: Vec<(Key, Sealed, Ttl)>,
    ) -> RemoteResult<'a, Vec<Version>>;

    /// Whether [`Remote::set_if`] can be asked for: it needs a server that looks and changes in one step.
    fn can_compare(&self) -> bool {
        false
    }

    /// [`Remote::set`] if, at that very moment, what is there is as the caller expects, and else nothing. Without a value it
    /// removes. What [`Remote::get`] would not return counts as absent.
    ///
    /// # Errors
    /// Those of [`Remote::set`]; [`RemoteError::Refused`] where it [cannot be asked for](Remote::can_compare).
    ///
    /// # Cost
    /// One round trip; one more for each sweep that began a moment ago.
    ///
    /// # Cancel safety
    /// As [`Remote::set`].
    fn set_if<'a>(
        &'a self,
        _namespace: &'a Namespace,
        _key: &'a Key,
        _expected: Expected,
        _value: Option<(Sealed, Ttl)>,
    ) -> RemoteResult<'a, Compared> {
        let reason = "this tier cannot compare and set in one step".to_owned();
        Box::pin(async move { Err(RemoteError::Refused { reason }) })
    }

    /// Removes entries, voids their leases and publishes, in the order of `keys`.
    ///
    /// # Cost
    /// One round trip per shard.
    fn invalidate<'a>(
        &'a self,
        namespace: &'a Namespace,
        keys: &'a [Key],
    ) -> RemoteResult<'a, Vec<Invalidated>>;

    /// Kills every entry of the namespace that the rule names: voids every lease, writes the rule down and publishes. When it
    /// has returned, no call that begins later returns a value that was stored before. What is dead still takes room: it
    /// is found by [`Remote::names`] and removed by [`Remote::reap`]. A sweep of all takes the place of those before it.
    ///
    /// # Errors
    /// [`RemoteError::Refused`] while too many sweeps are active.
    ///
    /// # Cost
    /// One round trip per shard, and one short script per partition, whatever the number of entries.
    fn sweep<'a>(&'a self, namespace: &'a Namespace, rule: &'a SweepRule) -> RemoteResult<'a, Swept>;

    /// The sweeps that are active: what they killed may still take room.
    ///
    /// # Cost
    /// One round trip per shard.
    fn sweeps<'a>(&'a self, namespace: &'a Namespace) -> RemoteResult<'a, Vec<Sweep>>;

    /// The keys that the rule names, some at a time, of entries alive and dead. A key that was there all the time, from the
    /// first poll to the end, is told of at least once, or the stream ends with an error.
    ///
    /// # Cost
    /// One pass over the names of all keys of the whole server. Each item is one round trip.
    fn names<'a>(&'a self, namespace: &'a Namespace, rule: &'a SweepRule) -> Names<'a>;

    /// Some of the entries that the rule names, without those that are known to be dead: from a place on that an earlier call came to, on
    /// whatever node, or from the beginning. About `count` names are looked at, so there may be none of the rule among them, and may be
    /// some more. `None` if the place means nothing any more, because servers have changed: then only a new beginning helps.
    ///
    /// A key that had a value all the time, from the first call to the last, is told of at least once.
    ///
    /// The provided method refuses.
    ///
    /// # Errors
    /// [`RemoteError::Refused`] if this tier cannot list what it has.
    ///
    /// # Cost
    /// Two round trips, without the values, and a little more at the end.
    fn list<'a>(
        &'a self,
        _namespace: &'a Namespace,
        _rule: &'a SweepRule,
        _from: Option<ListPlace>,
        _count: u32,
    ) -> RemoteResult<'a, Option<Listed>> {
        let reason = "this tier does not list its keys".to_owned();
        Box::pin(std::future::ready(Err(RemoteError::Refused { reason })))
    }

    /// Removes those of the entries that the sweep has killed. Returns how many it were.
    ///
    /// # Cost
    /// One round trip per shard.
    fn reap<'a>(
        &'a self,
        namespace: &'a Namespace,
        sweep: &'a Sweep,
        keys: &'a [Key],
    ) -> RemoteResult<'a, u64>;

    /// Ends a sweep: all that it killed was removed. One that another has taken the place of is left alone.
    ///
    /// # Cost
    /// One round trip per shard.
    fn retire<'a>(&'a self, namespace: &'a Namespace, sweep: &'a Sweep) -> RemoteResult<'a, ()>;

    /// Notes invalidations that are due after so long, by the server's clock. They stay noted until they are
    /// [`done`](Remote::done), whoever dies meanwhile.
    ///
    /// # Errors
    /// [`RemoteError::Refused`] if too many are noted.
    ///
    /// # Cost
    /// One round trip.
    fn delay<'a>(
        &'a self,
        namespace: &'a Namespace,
        invalidations: &'a [Delayed],
        after: Duration,
    ) -> RemoteResult<'a, ()>;

    /// Takes some of the invalidations that are due. For half a minute nobody else is told of them; who does not say
    /// [`done`](Remote::done) within that time has died.
    ///
    /// # Cost
    /// One round trip.
    fn due<'a>(&'a self, namespace: &'a Namespace) -> RemoteResult<'a, Due>;

    /// Forgets invalidations that were made.
    ///
    /// # Cost
    /// One round trip.
    fn done<'a>(&'a self, namespace: &'a Namespace, invalidations: &'a [Delayed]) -> RemoteResult<'a, ()>;

    /// Bumps tags: every entry that was stored with one of them is dead from now on. Returns the version of each bump, which is the
    /// tag's generation and the number of the message, in the order of `tags`.
    ///
    /// # Cost
    /// One round trip per shard, whatever the number of entries.
    fn bump_tags<'a>(&'a self, namespace: &'a Namespace, tags: &'a [Tag]) -> RemoteResult<'a, Vec<Version>>;

    /// The generations of tags, in the order of `tags`.
    ///
    /// # Cost
    /// One round trip per shard.
    fn generations<'a>(
        &'a self,
        namespace: &'a Namespace,
        tags: &'a [Tag],
    ) -> RemoteResult<'a, Vec<Generation>>;

    /// How to hear of changes that others make; `None` if this tier does not tell.
    fn bus(&self) -> Option<&dyn Bus> {
        None
    }

    /// Asks the server how it is.
    ///
    /// # Cost
    /// One round trip.
    fn health(&self) -> RemoteResult<'_, RemoteHealth>;

    /// Ends the connections. Calls after it fail as [`RemoteError::Unavailable`].
    fn close(&self) -> BoxFuture<'_, ()>;
}
