//! What calls of [`Remote`](super::Remote) take and bring.

use super::RemoteError;
use crate::entry::Ttl;
use crate::envelope::Sealed;
use crate::glob::Glob;
use crate::key::{Key, Tag};
use crate::version::Version;
use bytes::Bytes;
use futures_core::Stream;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

/// An entry as L2 holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// The envelope, as [`crate::envelope::Envelope::open`] reads it. Bytes of a stranger until it has.
    pub bytes: Bytes,
    /// How much longer L2 keeps the key, measured not later than the value was read: it may still be that of an older
    /// value with a longer TTL, so the TTL in the envelope, counted from when the request was sent, is a bound too.
    /// `None`: it is not known, and that bound stands alone.
    pub remaining: Option<Ttl>,
}

/// Time on the server's clock, in microseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServerTime(pub u64);

/// The random name of one load, never of a client.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseToken(pub u128);

impl Stored {
    /// The version that the bytes claim to have, whether or not they are an envelope; zero if they are too short.
    /// Names a dead value to [`Remote::lease`](super::Remote::lease).
    pub fn claimed_version(&self) -> Version {
        let claimed = self.bytes.get(Sealed::VERSION_AT);
        claimed
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(Version::ZERO, |bytes| u64::from_be_bytes(bytes).into())
    }
}

/// Whether L2 still has the value that a node has a copy of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Validity {
    /// It has this very version.
    Same {
        /// How much longer L2 keeps the key, measured not later than the version was read; see [`Stored::remaining`].
        remaining: Option<Ttl>,
    },
    /// It has another version, or bytes that have none.
    Changed,
    /// It has none, or a dead one.
    Missing,
}

impl Validity {
    /// What it is for who knows the version `known`, if this is what L2 has.
    pub fn of(found: Option<&Stored>, known: Version) -> Self {
        match found {
            None => Self::Missing,
            Some(stored) if known != Version::ZERO && stored.claimed_version() == known => {
                Self::Same { remaining: stored.remaining }
            }
            Some(_) => Self::Changed,
        }
    }
}

impl fmt::Debug for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseToken({:032x})", self.0)
    }
}

/// The right to load one key and to fill it, until it runs out or an invalidation voids it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    /// Which load this is.
    pub token: LeaseToken,
    /// The version that the filled value will have.
    pub version: Version,
    /// The server's time when the lease was granted. A tag that was bumped at or after it was bumped during the load.
    pub granted_at: ServerTime,
}

/// What came of asking for a lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LeaseOutcome {
    /// The value is there by now.
    Hit(Stored),
    /// The caller may load and fill.
    Granted(Lease),
    /// Somebody else is loading.
    Held {
        /// How much longer their lease lasts at most.
        remaining: Duration,
    },
}

/// What came of a fill.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FillOutcome {
    /// Stored, with the lease's version.
    Stored,
    /// Not stored: the lease ran out or was voided. The value may be returned to its leader, and kept nowhere.
    Rejected,
}

/// What came of invalidating one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Invalidated {
    /// The version of the invalidation.
    pub version: Version,
    /// Whether there was a value.
    pub existed: bool,
}

/// What has to be there for a change to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    /// No value.
    Absent,
    /// The value of this very version. Zero: bytes that have none.
    Version(Version),
}

/// What came of a change on a condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compared {
    /// It was made, under this version.
    Changed(Version),
    /// Something else was there, and still is.
    Differs {
        /// Its version; `None` if nothing was.
        there: Option<Version>,
    },
}

/// Which entries of a namespace a sweep kills.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum SweepRule {
    /// All of them.
    All,
    /// Those whose key matches.
    Matching(Glob),
}

impl SweepRule {
    /// Whether it names this key.
    pub fn names(&self, key: &str) -> bool {
        match self {
            Self::All => true,
            Self::Matching(glob) => glob.matches(key),
        }
    }

    /// The pattern as it stands in messages: empty for all.
    pub fn pattern(&self) -> &str {
        match self {
            Self::All => "",
            Self::Matching(glob) => glob.as_str(),
        }
    }
}

/// A sweep that L2 has written down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sweep {
    /// What it kills.
    pub rule: SweepRule,
    /// Which of the sweeps by this rule it is: a random number.
    pub id: u64,
}

/// What came of a sweep.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Swept {
    /// It is active from now on.
    pub sweep: Sweep,
    /// The number of that message of it which is published last. Partitions tell of a sweep one by one, in their order: so this is
    /// the number of the last partition, and whoever has heard that one reads nothing in L2 any more that the sweep has killed. `None` where several servers tell of it, of
    /// which none is known to be the last.
    pub version: Option<Version>,
}

/// What an invalidation names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Named {
    /// An entry.
    Key(Key),
    /// The entries that have a tag.
    Tag(Tag),
    /// The entries that a rule names.
    Rule(SweepRule),
}

/// An invalidation that is to come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delayed {
    /// A random number, which tells it from others that name the same.
    pub id: u64,
    /// What it names.
    pub named: Named,
}

/// Invalidations that are due, as far as they were asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Due {
    /// Some of them. If there are any, there may be more.
    pub now: Vec<Delayed>,
    /// In how long the next one is due, if one is noted and none is due now.
    pub next: Option<Duration>,
}

impl Delayed {
    /// Reads what [`Display`](fmt::Display) writes: `id kind argument`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ' ');
        let id = u64::from_str_radix(parts.next()?, 16).ok()?;
        let (kind, argument) = (parts.next()?, parts.next()?);
        let named = match kind {
            "key" => Named::Key(Key::new(argument).ok()?),
            "tag" => Named::Tag(Tag::new(argument).ok()?),
            "sweep" if argument.is_empty() => Named::Rule(SweepRule::All),
            "sweep" => Named::Rule(SweepRule::Matching(Glob::new(argument).ok()?)),
            _ => return None,
        };
        Some(Self { id, named })
    }
}

impl fmt::Display for Delayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, argument) = match &self.named {
            Named::Key(key) => ("key", key.as_str()),
            Named::Tag(tag) => ("tag", tag.as_str()),
            Named::Rule(rule) => ("sweep", rule.pattern()),
        };
        write!(f, "{:016x} {kind} {argument}", self.id)
    }
}

/// Where looking through entries has come to. Only the adapter that made it knows what it means.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ListPlace(pub [u64; 4]);

/// Some of the entries that L2 has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Their keys, with how much longer L2 keeps each, if that is known.
    pub entries: Vec<(Key, Option<Ttl>)>,
    /// Where it goes on; `None` at the end.
    pub next: Option<ListPlace>,
}

/// Keys, some at a time, until there are no more or it fails.
pub type Names<'a> = Pin<Box<dyn Stream<Item = Result<Vec<Key>, RemoteError>> + Send + 'a>>;

/// How often a tag was bumped, as a number that only ever changes when it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Generation {
    /// The version of the last bump, or of the floor if there was none since the partition's table was made.
    pub version: Version,
    /// The server's time of that bump or floor.
    pub bumped_at: ServerTime,
}

/// What a tier says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemoteHealth {
    /// How long the server took to answer.
    pub round_trip: Duration,
    /// Its name and version, e.g. `redis 7.0.15`.
    pub server: String,
    /// What its own settings leave open, and what the adapter's mode does not promise, in words for whoever runs it.
    pub warnings: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_version_is_the_same() {
        let bytes = [&[1][..], &7_u64.to_be_bytes()].concat();
        let stored = Stored { bytes: bytes.into(), remaining: Some(Ttl::Never) };
        assert_eq!(Validity::of(Some(&stored), 7.into()), Validity::Same { remaining: Some(Ttl::Never) });
        assert_eq!(Validity::of(Some(&stored), 6.into()), Validity::Changed);
        assert_eq!(Validity::of(None, 7.into()), Validity::Missing);
        let short = Stored { bytes: "x".into(), remaining: None };
        assert_eq!(Validity::of(Some(&short), Version::ZERO), Validity::Changed, "no version is in no order");
    }

    #[test]
    fn a_delayed_invalidation_is_read_as_it_was_written() {
        let glob = Glob::new("user:* x").expect("valid");
        for named in [
            Named::Key(Key::new(" a  key ").expect("valid")),
            Named::Tag(Tag::new("t 1").expect("valid")),
            Named::Rule(SweepRule::All),
            Named::Rule(SweepRule::Matching(glob)),
        ] {
            let delayed = Delayed { id: 0xab, named };
            assert_eq!(Delayed::parse(&delayed.to_string()), Some(delayed));
        }
        for text in ["", "ab", "ab key", "ab key ", "x key k", "ab other k", "ab tag \n"] {
            assert_eq!(Delayed::parse(text), None, "{text}");
        }
    }
}
