//! What the world of the model consists of.

use crate::rules::{Bounds, Kind};
use terrace_core::coherence::Chain;

/// How many messages a log holds.
pub(crate) const LOG_MAX: usize = 2;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct State {
    /// The value that the origin has, which is the number of the write that made it.
    pub(crate) origin: u8,
    /// The last number that was ever given out, by whichever server.
    pub(crate) highest: u8,
    /// Which life of the server this is.
    pub(crate) life: u8,
    /// What was acknowledged on a server that has forgotten it.
    pub(crate) forgotten: u8,
    pub(crate) server: Server,
    /// What a failover brings back: the server before its last change.
    pub(crate) replica: Server,
    pub(crate) nodes: [Node; 2],
    /// No value older than this is in L2: an invalidation was acknowledged that began when the origin had it.
    pub(crate) acked: u8,
    /// What `acked` was when this period began.
    pub(crate) due: u8,
    pub(crate) left: Bounds,
    pub(crate) broken: Option<Guarantee>,
}

/// See the top of this test.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Guarantee {
    Node,
    Fleet,
    Back,
    Lost,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Server {
    pub(crate) value: Option<Stored>,
    pub(crate) lease: Option<Lease>,
    pub(crate) counter: Option<Counter>,
    pub(crate) generations: Option<Generations>,
    pub(crate) log: Vec<Published>,
    /// The last number that it has given out.
    pub(crate) clock: u8,
    /// By which of its lives the partition was greeted.
    pub(crate) greeted: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Stored {
    pub(crate) value: u8,
    pub(crate) version: u8,
    /// The generation that its tag had.
    pub(crate) stamp: u8,
}

/// The version is its token: no two loads share one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Lease {
    pub(crate) version: u8,
    pub(crate) born: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Counter {
    pub(crate) seq: u8,
    pub(crate) born: u8,
    pub(crate) barrier: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Generations {
    pub(crate) floor: u8,
    pub(crate) tag: Option<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Published {
    pub(crate) previous: u8,
    pub(crate) number: u8,
    pub(crate) by: usize,
    pub(crate) what: What,
}

/// What a message says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum What {
    /// The key, its tag or all keys were invalidated.
    This,
    /// Another key was.
    Other,
    /// A table was made anew, which concerns the node that asked for it as well.
    Floor,
    /// The server has begun another life.
    Hello,
    /// The key was invalidated once more, which concerns the node that asked for it as well.
    Again,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Node {
    pub(crate) copy: Option<Stored>,
    pub(crate) load: Option<Load>,
    pub(crate) change: Option<Invalidation>,
    pub(crate) link: Link,
    pub(crate) channel: Vec<InFlight>,
    pub(crate) chain: Chain,
    /// A beat is back that was sent in this period.
    pub(crate) is_trusted: bool,
    /// A read that begins now must not get less: the node's own invalidation was acknowledged.
    pub(crate) own: u8,
    /// The greatest version that was read here.
    pub(crate) seen: u8,
    /// The life of the server that it joined last.
    pub(crate) life: u8,
    /// What it invalidated lately: the number, zero until it is known.
    pub(crate) recent: Option<u8>,
    /// Its changes are still to be asserted again.
    pub(crate) owes: bool,
    /// What of its own was acknowledged and forgotten: it is promised again when the node trusts its copies.
    pub(crate) forgotten: u8,
}

/// The bus connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Link {
    Down,
    /// Messages arrive, and wait for the counter to be read.
    Subscribed,
    Joined,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum InFlight {
    Message(Published),
    Beat {
        is_of_this_period: bool,
        /// Nothing was read for the chain since it was sent.
        settles: bool,
        began: u8,
        counter: u8,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Invalidation {
    pub(crate) kind: Kind,
    /// What the origin had when it began.
    pub(crate) goal: u8,
    pub(crate) at: Progress,
    /// The number that it got; zero if none yet.
    pub(crate) number: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Progress {
    Begun,
    /// A sweep has raised its barrier; the values are still to be removed.
    Raised,
    /// A sweep has removed them, and is still to be told once more.
    Removed,
    Done,
    /// It was done on a server that is no more: it promises nothing.
    Forgotten,
}

/// What a read that begins now is promised.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Promise {
    pub(crate) own: u8,
    pub(crate) fleet: u8,
    pub(crate) seen: u8,
}

/// A read that L1 could not answer, with those who share its result.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Load {
    /// It began on the server that is there now.
    pub(crate) is_of_this_life: bool,
    pub(crate) leader: Promise,
    pub(crate) joiner: Option<Promise>,
    /// Something was invalidated here since it began.
    pub(crate) is_void: bool,
    pub(crate) stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Stage {
    /// L2 is to be asked, by one who knows that the value of this version is dead.
    Asking {
        dead: u8,
    },
    /// L2 had a value; its tag is to be looked at.
    Hit(Stored),
    Leased(Lease),
    /// The origin has answered.
    Loaded(Lease, u8),
    /// The tag was looked at; L2 is to be filled.
    Stamped(Lease, Stored),
    /// The reply of L2 is on its way.
    Answered {
        result: Stored,
        is_accepted: bool,
    },
}

impl State {
    pub(crate) fn first(left: Bounds) -> Self {
        let server = Server {
            value: None,
            lease: None,
            counter: Some(Counter { seq: 1, born: 1, barrier: 0 }),
            generations: Some(Generations { floor: 1, tag: None }),
            log: Vec::new(),
            clock: 1,
            greeted: 1,
        };
        let mut chain = Chain::default();
        chain.joined(1.into());
        chain.settle();
        let node = |me: usize| Node {
            copy: None,
            load: None,
            change: None,
            link: if left.beats[me] > 0 { Link::Joined } else { Link::Down },
            channel: Vec::new(),
            chain: chain.clone(),
            is_trusted: true,
            own: 0,
            seen: 0,
            life: 1,
            recent: None,
            owes: false,
            forgotten: 0,
        };
        Self {
            origin: 0,
            highest: 1,
            life: 1,
            forgotten: 0,
            replica: server.clone(),
            server,
            nodes: [node(0), node(1)],
            acked: 0,
            due: 0,
            left,
            broken: None,
        }
    }

    /// What a read that begins now on this node is promised.
    pub(crate) fn promise(&self, node: usize) -> Promise {
        let Node { own, seen, .. } = self.nodes[node];
        Promise { own, fleet: self.due, seen }
    }
}
