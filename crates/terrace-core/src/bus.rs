//! What a shared tier tells its nodes of changes, and how they listen.
//!
//! Every change of a partition is published in the step that makes it, under its number and the number of the change
//! before. [`Bus`] is the seam between the library, which decides what a message means, and an adapter, which brings it:
//! an adapter does not judge, order, repair or forget.
//!
//! What an adapter must hold:
//! 1. **One order.** What is published on one server arrives here in the order of publication, beats included. So when
//!    a beat is back, all that was published before it has been handed out, or was lost and leaves a gap.
//! 2. A namespace is [`BusEvent::Joined`] after its channels are subscribed and before its first message is handed out,
//!    and its counters were read in between. So whatever is published after the reading of a counter is handed out.
//! 3. A lost connection is told once, by [`BusEvent::Lost`], before anything of the next one. All namespaces are joined
//!    anew then, without being asked to.
//! 4. A stream that is not polled takes in no more than the server is willing to keep.
//! 5. Before a namespace is told as joined, each of its partitions has been greeted by the server's [`Incarnation`]: where
//!    the partition was last changed under another one, its counter is raised above all numbers that may have been lost,
//!    and every lease from before is void. That is [`Change::Hello`], one step like any other change.
//! 6. Where it *tracks*, it also tells that values were touched, by whomever, in the same one order: whatever change of a value was
//!    acknowledged to anybody before a beat is sent, [`BusEvent::Touched`] of it is handed out before the beat. What happened
//!    while nobody listened is not known to anybody, so a namespace is told as touched as a whole after each
//!    [`BusEvent::Joined`], before anything else. It tells of a touch too often rather than too seldom.
//!
//! A tier that cannot give out numbers in the step that makes a change says so by [`Bus::is_chained`], and is believed less.

use crate::glob::Glob;
use crate::key::{Key, Namespace, Partition, Tag};
use crate::remote::{RemoteResult, SweepRule};
use crate::version::Version;
use bytes::Bytes;
use futures_core::Stream;
use std::fmt;
use std::ops::Range;
use std::pin::Pin;

/// The name of one connection of one node to the shared tier, as it stands in messages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NodeId(pub u64);

/// The life of a server, as far as what it remembers is concerned: another process, or another history of the same one, is
/// another incarnation, and may have forgotten what was acknowledged before.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Incarnation(pub u64);

/// A change that its node asserts again, on a server that may have forgotten it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reassertion {
    /// The key's value was set or invalidated.
    Key {
        /// Which.
        key: Key,
        /// The number of the change: a value of that version or a later one stays. `None` if it was not acknowledged; then
        /// no value stays.
        number: Option<Version>,
    },
    /// The tag was bumped.
    Tag(Tag),
    /// What the rule names was swept.
    Sweep(SweepRule),
}

/// What a change did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// The key has a new value, of the message's number as its version.
    Set(Key),
    /// The key has no value.
    Invalidate(Key),
    /// Every entry that was stored with this tag is dead.
    Tag(Tag),
    /// Every entry that the rule names is dead.
    Sweep(SweepRule),
    /// What the partition knew of tags was lost: every entry that was stored with a tag of this partition is dead.
    Floor,
    /// Somebody asks for the key to be loaded anew. Its value stays until then.
    Refresh(Key),
    /// The server has a new [`Incarnation`]: numbers go on far above those before. No entry is concerned.
    Hello,
}

/// One change of one partition, as it is logged and published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The number of the change before; zero if the partition knows of none.
    pub previous: Version,
    /// The number of this change.
    pub number: Version,
    /// Who asked for it.
    pub origin: NodeId,
    /// What it did.
    pub change: Change,
}

/// The wire version that this code speaks.
const WIRE: &str = "1";

/// Why bytes are not a [`Message`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a message: {what}")]
pub struct MessageError {
    what: &'static str,
}

impl Message {
    /// Reads a message: `1 previous number origin operation argument`, numbers in decimal, the origin in hexadecimal.
    ///
    /// # Errors
    /// [`MessageError`] for anything else, in particular for another wire version or an operation that is not known here.
    /// Whoever gets one has missed a change.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let wrong = |what| move || MessageError { what };
        let text = std::str::from_utf8(bytes).map_err(|_| MessageError { what: "it is no text" })?;
        let mut parts = text.splitn(6, ' ');
        let mut part = || parts.next().ok_or_else(wrong("a part is missing"));
        if part()? != WIRE {
            return Err(MessageError { what: "its wire version is not known" });
        }
        let number = |part: &str| part.parse().ok().map(|number: u64| Version::from(number));
        let previous = number(part()?).ok_or_else(wrong("the number before is none"))?;
        let this = number(part()?).ok_or_else(wrong("its number is none"))?;
        let origin =
            u64::from_str_radix(part()?, 16).map_err(|_| MessageError { what: "its origin is none" })?;
        let (operation, argument) = (part()?, part()?);
        let change = match operation {
            "set" => Change::Set(Key::new(argument).map_err(|_| MessageError { what: "its key is none" })?),
            "invalidate" => {
                Change::Invalidate(Key::new(argument).map_err(|_| MessageError { what: "its key is none" })?)
            }
            "tag" => Change::Tag(Tag::new(argument).map_err(|_| MessageError { what: "its tag is none" })?),
            "sweep" if argument.is_empty() => Change::Sweep(SweepRule::All),
            "sweep" => {
                let glob = Glob::new(argument).map_err(|_| MessageError { what: "its pattern is none" })?;
                Change::Sweep(SweepRule::Matching(glob))
            }
            "refresh" => {
                Change::Refresh(Key::new(argument).map_err(|_| MessageError { what: "its key is none" })?)
            }
            "floor" => Change::Floor,
            "hello" => Change::Hello,
            _ => return Err(MessageError { what: "its operation is not known" }),
        };
        Ok(Self { previous, number: this, origin: NodeId(origin), change })
    }
}

impl fmt::Display for Message {
    /// Writes what [`Message::parse`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (operation, argument) = match &self.change {
            Change::Set(key) => ("set", key.as_str()),
            Change::Invalidate(key) => ("invalidate", key.as_str()),
            Change::Tag(tag) => ("tag", tag.as_str()),
            Change::Sweep(SweepRule::All) => ("sweep", ""),
            Change::Sweep(SweepRule::Matching(glob)) => ("sweep", glob.as_str()),
            Change::Refresh(key) => ("refresh", key.as_str()),
            Change::Floor => ("floor", ""),
            Change::Hello => ("hello", ""),
        };
        let Self { previous, number, origin, .. } = self;
        write!(f, "{WIRE} {previous} {number} {:016x} {operation} {argument}", origin.0)
    }
}

/// What is said on a partition's channel beside its changes: somebody's load of a key has ended, for which others wait. It
/// changes nothing, so it has no number and is in no log. Who misses it waits longer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoadEnded(pub Key);

impl LoadEnded {
    /// Reads `ended key`; nothing else is one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let key = std::str::from_utf8(bytes).ok()?.strip_prefix("ended ")?;
        Key::new(key).ok().map(Self)
    }
}

impl fmt::Display for LoadEnded {
    /// Writes what [`LoadEnded::parse`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ended {}", self.0.as_str())
    }
}

/// What a node hears.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BusEvent {
    /// From here on every message of the namespace is handed out. Told once per namespace and connection.
    Joined {
        /// Which.
        namespace: Namespace,
        /// The number of the last change of each partition, in order; zero where none is known.
        counters: Vec<Version>,
        /// The incarnation of the server that each partition is on, in the same order. Where it is not the one that was told
        /// before, the server may have forgotten what this node knows.
        incarnations: Vec<Incarnation>,
    },
    /// A message, as it was published. Whether it is one is for the listener to find out.
    Heard {
        /// Of which namespace.
        namespace: Namespace,
        /// Of which partition.
        partition: Partition,
        /// See [`Message::parse`].
        bytes: Bytes,
    },
    /// The value of a key may not be what it was: somebody has written or removed it, or its time was set or is over. Told of changes
    /// past terrace and of those that it makes itself alike, for the server knows no difference; fills are among them. Only
    /// where the adapter tracks.
    Touched {
        /// Of which namespace.
        namespace: Namespace,
        /// Which; `None` for all of them.
        key: Option<Key>,
    },
    /// A beat of this node is back, sent as [`Bus::beat`] with this number.
    Beat(u64),
    /// The connection is lost. Messages may have been lost with it.
    Lost,
}

/// What a node hears, in order, for as long as it is polled. Dropping it ends the subscription.
pub type BusEvents = Pin<Box<dyn Stream<Item = BusEvent> + Send>>;

/// A way to hear of changes as they are made.
pub trait Bus: fmt::Debug + Send + Sync + 'static {
    /// This node's name in messages.
    fn node(&self) -> NodeId;

    /// How many partitions each namespace has.
    fn partitions(&self) -> u16;

    /// Whether each message names the number of the change before, so that a gap shows what was missed, and of two changes of
    /// a key the later has the greater number. Where not, [`Message::previous`] says nothing, a message concerns copies of
    /// whatever version but its own, counters and logs are empty, and whoever joins anew knows nothing of what came between.
    fn is_chained(&self) -> bool {
        true
    }

    /// Begins to listen. The stream connects by itself, again and again, and never ends. A second stream of the same node
    /// hears the same as the first.
    fn listen(&self) -> BusEvents;

    /// Adds a namespace to what this node's streams hear, for good. The namespace must have been opened.
    fn join(&self, namespace: &Namespace);

    /// Publishes a beat that comes back to this node alone, in the order of all that is published. It writes, so a
    /// server that is not a primary refuses it.
    ///
    /// # Cost
    /// One round trip.
    fn beat(&self, number: u64) -> RemoteResult<'_, ()>;

    /// The numbers of the last changes of some partitions, in order; zero where none is known.
    ///
    /// # Cost
    /// One round trip.
    fn counters<'a>(
        &'a self,
        namespace: &'a Namespace,
        partitions: Range<u16>,
    ) -> RemoteResult<'a, Vec<Version>>;

    /// What the logs of some partitions hold that came after these numbers, oldest first, in the order of `after`. A log
    /// holds only so much: whether the first message follows on is for the caller to see.
    ///
    /// # Cost
    /// One round trip.
    fn changes_since<'a>(
        &'a self,
        namespace: &'a Namespace,
        after: &'a [(Partition, Version)],
    ) -> RemoteResult<'a, Vec<Vec<Bytes>>>;

    /// Asks all nodes to load a key anew. Returns the number of that: a value of a greater version was loaded after it. It
    /// writes, so a server that is not a primary refuses it.
    ///
    /// # Cost
    /// One round trip.
    fn refresh<'a>(&'a self, namespace: &'a Namespace, key: &'a Key) -> RemoteResult<'a, Version>;

    /// Does changes again that the servers may have forgotten: removes a key's value unless it is newer than the change, voids
    /// its lease and publishes an invalidation; bumps tags; sweeps. Whatever is done twice costs misses alone.
    ///
    /// `on` has the incarnation of each partition's server, as it was told. A server that has another one is not asked: that is
    /// [`RemoteError::Unavailable`](crate::RemoteError::Unavailable), and a part may have been done.
    ///
    /// # Cost
    /// One round trip for keys and tags, and as much as [`Remote::sweep`](crate::Remote::sweep) for each rule.
    fn reassert<'a>(
        &'a self,
        namespace: &'a Namespace,
        changes: &'a [Reassertion],
        on: &'a [Incarnation],
    ) -> RemoteResult<'a, ()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(change: Change) -> Message {
        Message { previous: 7.into(), number: 9.into(), origin: NodeId(0xab), change }
    }

    #[test]
    fn a_message_has_one_text() {
        let key = Key::new("a b c").expect("valid");
        let text = message(Change::Set(key)).to_string();
        assert_eq!(text, "1 7 9 00000000000000ab set a b c");
        assert_eq!(message(Change::Floor).to_string(), "1 7 9 00000000000000ab floor ");
    }

    #[test]
    fn what_was_written_is_read() {
        let glob = Glob::new("user:* x").expect("valid");
        for change in [
            Change::Set(Key::new("k").expect("valid")),
            Change::Invalidate(Key::new(" a  key ").expect("valid")),
            Change::Refresh(Key::new("k").expect("valid")),
            Change::Tag(Tag::new("t 1").expect("valid")),
            Change::Sweep(SweepRule::All),
            Change::Sweep(SweepRule::Matching(glob)),
            Change::Floor,
            Change::Hello,
        ] {
            let message = message(change);
            assert_eq!(Message::parse(message.to_string().as_bytes()), Ok(message));
        }
    }

    #[test]
    fn the_end_of_a_load_is_no_message_and_no_message_is_one() {
        let ended = LoadEnded(Key::new("a key").expect("valid"));
        let text = ended.to_string();
        assert_eq!(text, "ended a key");
        assert_eq!(LoadEnded::parse(text.as_bytes()), Some(ended));
        assert!(Message::parse(text.as_bytes()).is_err());
        for bytes in [&b"ended "[..], b"ended", b"ended \n", b"end k", b"1 7 9 ab set k", b"\xff"] {
            assert_eq!(LoadEnded::parse(bytes), None);
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        for bytes in [
            &b""[..],
            b"1",
            b"2 7 9 ab set k",
            b"1 x 9 ab set k",
            b"1 7 9 zz set k",
            b"1 7 9 ab jump k",
            b"1 7 9 ab set ",
            b"1 7 9 ab tag \n",
            b"1 7 9 ab floor",
            b"1 7 18446744073709551616 ab set k",
            b"\xff 7 9 ab set k",
        ] {
            assert!(Message::parse(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
