//! What lies between the nodes and the server: messages on their way, each at a time that chance decides.
//!
//! Each node has some connections for calls, which take turns by chance, and one over which it hears of changes. As TCP does,
//!
//! 1. a connection keeps the order of what is sent over it, in each direction, and loses nothing of it while it lasts;
//! 2. two connections keep no order between them;
//! 3. a connection may stand still and go on later, with all that was sent meanwhile; or it breaks, and what was on its way is
//!    lost: of a call nobody knows then whether it took effect.
//!
//! And, where a run asks for it, single messages are lost from a connection that stays open: as a server or a proxy in between
//! loses them ([`Link::losing`]).
//!
//! Duplicates come where the transport makes them: what is published between the subscription and the reading of the
//! counters is handed out, and counted.
//!
//! A call whose caller has given up may arrive all the same: behind a connection that stood still, and a while after one that
//! broke.

use crate::setting::index;
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::bus::{BusEvent, BusEvents, Change, Incarnation, Message};
use terrace_core::{Bus, Chance, Key, Namespace};
use terrace_testkit::fake::FakeRemote;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

/// Nanoseconds of the simulated world.
pub(crate) type Time = u64;

pub(crate) const MILLI: Time = 1_000_000;

/// What a hop takes more than it takes at least, at most, as a multiple of that.
const SPREAD: u64 = 4;
/// How much later a call arrives whose connection has broken, in milliseconds, at most; often it does so several times.
const ORPHAN_MAX: u64 = 150;
/// Pauses between attempts to connect, as those of the real adapter: from this, doubling to the other, halved at random.
const BACKOFF_MIN: Time = 10 * MILLI;
const BACKOFF_MAX: Time = 500 * MILLI;

/// What the answer does once it has arrived.
pub(crate) type Arrive = Box<dyn FnOnce() + Send>;
/// What a call does to the server.
pub(crate) type Effect = Box<dyn FnOnce() -> Arrive + Send>;

enum Event {
    Request { node: usize, slot: usize, connection: u64, effect: Effect },
    Reply { node: usize, connection: u64, arrive: Arrive },
    Connect { node: usize, stream: u64, backoff: Time },
    Counted { node: usize, stream: u64, namespace: Namespace, incarnations: Vec<Incarnation> },
    Heard { node: usize, stream: u64, event: BusEvent },
}

struct Scheduled {
    at: Time,
    order: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// The connections of one node.
pub(crate) struct Link {
    server: FakeRemote,
    /// Counts the connections for calls.
    connection: u64,
    /// Tells those who call that their connection broke, in the order in which they called.
    broken: Arc<Notify>,
    /// Counts the connections for hearing.
    stream: u64,
    /// Where the node hears, and what the server tells it.
    ear: Option<UnboundedSender<BusEvent>>,
    told: Option<BusEvents>,
    /// Messages that wait for their namespace to be counted.
    uncounted: Option<Vec<BusEvent>>,
    /// When the last of each direction arrives: nothing overtakes it.
    last_request: Vec<Time>,
    last_reply: Vec<Time>,
    last_heard: Time,
    /// Until when each stands still.
    pub(crate) calls_stall_until: Time,
    pub(crate) hearing_stalls_until: Time,
    /// Until when no connection can be made.
    pub(crate) refused_until: Time,
    /// Added to each hop until a time.
    pub(crate) slow_calls: (Time, Time),
    pub(crate) slow_hearing: (Time, Time),
    /// Messages lost of a thousand, and until when. Beats pass.
    pub(crate) losing: (u64, Time),
    /// Something has arrived that the node has not seen.
    pub(crate) is_woken: bool,
    /// Messages that were lost in silence.
    pub(crate) lost: Vec<Lost>,
    /// Lose the next message of this key in silence.
    pub(crate) lose_next: Option<Key>,
}

/// A message that was lost in silence.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    pub(crate) at: Time,
    /// The key that it tells of, if it is one.
    pub(crate) key: Option<Key>,
}

/// What is under way, and the connections.
pub(crate) struct Network {
    pub(crate) links: Vec<Link>,
    events: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
    now: Time,
    hop: Time,
    hearing: Time,
    chance: Chance,
    /// Until when the server does nothing.
    pub(crate) server_stalls_until: Time,
    /// When connections for hearing were made.
    pub(crate) connects: Vec<Time>,
}

impl Network {
    /// `pool` is how many connections for calls a node has.
    pub(crate) fn new(
        servers: Vec<FakeRemote>,
        (hop, hearing): (Duration, Duration),
        pool: usize,
        chance: Chance,
    ) -> Mutex<Self> {
        let links = servers.into_iter().map(|server| Link::new(server, pool)).collect();
        Mutex::new(Self {
            links,
            events: BinaryHeap::new(),
            order: 0,
            now: 0,
            hop: nanos(hop),
            hearing: nanos(hearing),
            chance,
            server_stalls_until: 0,
            connects: Vec::new(),
        })
    }

    fn hop(&self) -> Time {
        self.hop + self.chance.below(self.hop * SPREAD)
    }

    fn schedule(&mut self, at: Time, event: Event) {
        self.order += 1;
        self.events.push(Reverse(Scheduled { at, order: self.order, event }));
    }

    /// When the next thing happens.
    pub(crate) fn next(&self) -> Option<Time> {
        self.events.peek().map(|Reverse(next)| next.at)
    }

    /// Sends a call. Returns what ends when its connection is lost; `None` if there is none.
    pub(crate) fn request(
        &mut self,
        node: usize,
        effect: Effect,
    ) -> Option<impl Future<Output = ()> + use<>> {
        let hop = self.hop();
        let link = &mut self.links[node];
        if self.now < link.refused_until {
            return None;
        }
        let slot = index(self.chance.below(link.last_request.len() as u64));
        let at = (self.now + hop + link.slow_calls(self.now)).max(link.last_request[slot] + 1);
        link.last_request[slot] = at;
        let (connection, broken) = (link.connection, Arc::clone(&link.broken).notified_owned());
        self.schedule(at, Event::Request { node, slot, connection, effect });
        Some(broken)
    }

    /// Begins to listen anew.
    pub(crate) fn listen(&mut self, node: usize, ear: UnboundedSender<BusEvent>) {
        let hop = self.hop();
        let link = &mut self.links[node];
        link.hang_up();
        link.ear = Some(ear);
        let stream = link.stream;
        self.schedule(self.now + hop, Event::Connect { node, stream, backoff: BACKOFF_MIN });
    }

    /// Remembers a namespace for good, and joins it if there is a connection.
    pub(crate) fn join(&mut self, node: usize, namespace: &Namespace) {
        self.links[node].server.join(namespace);
        self.pump(node);
    }

    /// Breaks the connection for calls. Of what is on its way some arrives all the same, and no answer does.
    pub(crate) fn break_calls(&mut self, node: usize) {
        let link = &mut self.links[node];
        link.connection += 1;
        link.broken.notify_waiters();
        link.is_woken = true;
    }

    /// Breaks the connection for hearing. The node may notice only later.
    pub(crate) fn break_hearing(&mut self, node: usize) {
        let hop = self.hop();
        let link = &mut self.links[node];
        link.hang_up();
        let (stream, at) = (link.stream, link.last_heard.max(self.now + hop));
        link.last_heard = at;
        self.schedule(at, Event::Heard { node, stream, event: BusEvent::Lost });
        self.schedule(at + 1, Event::Connect { node, stream, backoff: BACKOFF_MIN });
    }

    /// Lets everything happen that is due at `now`.
    pub(crate) fn advance(&mut self, now: Time) {
        self.now = now;
        while self.next().is_some_and(|at| at <= now) {
            let Some(Reverse(Scheduled { event, .. })) = self.events.pop() else { return };
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Request { node, slot, connection, effect } => {
                self.arrive(node, slot, connection, effect);
            }
            Event::Reply { node, connection, arrive } => {
                let link = &mut self.links[node];
                link.is_woken = true;
                if self.now < link.calls_stall_until {
                    let at = link.calls_stall_until;
                    self.schedule(at, Event::Reply { node, connection, arrive });
                } else if connection == link.connection {
                    arrive();
                }
            }
            Event::Connect { node, stream, backoff } => self.connect(node, stream, backoff),
            Event::Counted { node, stream, namespace, incarnations } => {
                self.counted(node, stream, namespace, incarnations);
            }
            Event::Heard { node, stream, event } => {
                let link = &mut self.links[node];
                if self.now < link.hearing_stalls_until {
                    let at = link.hearing_stalls_until;
                    self.schedule(at, Event::Heard { node, stream, event });
                } else if stream == link.stream {
                    link.is_woken = true;
                    link.hear(event);
                }
            }
        }
    }

    fn arrive(&mut self, node: usize, slot: usize, connection: u64, effect: Effect) {
        let stalled = self.links[node].calls_stall_until.max(self.server_stalls_until);
        if self.now < stalled {
            return self.schedule(stalled, Event::Request { node, slot, connection, effect });
        }
        let is_orphan = connection != self.links[node].connection;
        // What a kernel still sends, or a halted server still has to read, comes whenever it comes.
        if is_orphan && self.chance.below(4) != 0 {
            let later = self.now + (1 + self.chance.below(ORPHAN_MAX)) * MILLI;
            return self.schedule(later, Event::Request { node, slot, connection, effect });
        }
        // Half of what was on its way when a connection broke is lost.
        if is_orphan && self.chance.below(2) == 0 {
            return;
        }
        let arrive = effect();
        for node in 0..self.links.len() {
            self.pump(node);
        }
        let hop = self.hop();
        let link = &mut self.links[node];
        let at = (self.now + hop + link.slow_calls(self.now)).max(link.last_reply[slot] + 1);
        link.last_reply[slot] = at;
        self.schedule(at, Event::Reply { node, connection, arrive });
    }

    fn connect(&mut self, node: usize, stream: u64, backoff: Time) {
        let (pause, stalled) = (backoff / 2 + self.chance.below(backoff / 2), self.server_stalls_until);
        let link = &mut self.links[node];
        if stream != link.stream || link.ear.as_ref().is_none_or(UnboundedSender::is_closed) {
            return;
        }
        let stalled = stalled.max(link.hearing_stalls_until);
        if self.now < stalled.max(link.refused_until) {
            let backoff = (backoff * 2).min(BACKOFF_MAX);
            return self.schedule(self.now + pause, Event::Connect { node, stream, backoff });
        }
        link.told = Some(link.server.listen());
        self.connects.push(self.now);
        self.pump(node);
    }

    /// Sends on what the server has told.
    fn pump(&mut self, node: usize) {
        loop {
            let link = &mut self.links[node];
            let Some(Some(Some(event))) = link.told.as_mut().map(|told| told.next().now_or_never()) else {
                return;
            };
            if let BusEvent::Heard { bytes, .. } = &event {
                let key = key_of(bytes);
                let is_chosen = key.is_some() && link.lose_next == key;
                if is_chosen || (self.now < link.losing.1 && self.chance.below(1000) < link.losing.0) {
                    link.lose_next = if is_chosen { None } else { link.lose_next.take() };
                    link.lost.push(Lost { at: self.now, key });
                    continue;
                }
            }
            match (event, &mut link.uncounted) {
                (BusEvent::Joined { namespace, incarnations, .. }, None) if self.chance.below(2) == 0 => {
                    link.uncounted = Some(Vec::new());
                    let (stream, later) = (link.stream, self.now + self.chance.below(3 * MILLI));
                    self.schedule(later, Event::Counted { node, stream, namespace, incarnations });
                }
                (event, Some(waiting)) => waiting.push(event),
                (event, None) => self.tell(node, event),
            }
        }
    }

    /// The counters of a namespace are read, after messages of it may have come.
    fn counted(&mut self, node: usize, stream: u64, namespace: Namespace, incarnations: Vec<Incarnation>) {
        if stream != self.links[node].stream {
            return;
        }
        let link = &mut self.links[node];
        let counters = link.server.counters(&namespace, 0..link.server.partitions()).now_or_never();
        let waiting = link.uncounted.take().unwrap_or_default();
        match counters {
            Some(Ok(counters)) => self.tell(node, BusEvent::Joined { namespace, counters, incarnations }),
            _ => return self.break_hearing(node),
        }
        for event in waiting {
            self.tell(node, event);
        }
    }

    fn tell(&mut self, node: usize, event: BusEvent) {
        let hop = self.hop() + self.hearing;
        let link = &mut self.links[node];
        link.last_heard = (self.now + hop + link.slow_hearing(self.now)).max(link.last_heard + 1);
        let (at, stream) = (link.last_heard, link.stream);
        self.schedule(at, Event::Heard { node, stream, event });
    }
}

impl Link {
    fn new(server: FakeRemote, pool: usize) -> Self {
        Self {
            server,
            connection: 0,
            broken: Arc::default(),
            stream: 0,
            ear: None,
            told: None,
            uncounted: None,
            last_request: vec![0; pool],
            last_reply: vec![0; pool],
            last_heard: 0,
            calls_stall_until: 0,
            hearing_stalls_until: 0,
            refused_until: 0,
            slow_calls: (0, 0),
            slow_hearing: (0, 0),
            losing: (0, 0),
            is_woken: false,
            lost: Vec::new(),
            lose_next: None,
        }
    }

    fn slow_calls(&self, now: Time) -> Time {
        if now < self.slow_calls.1 { self.slow_calls.0 } else { 0 }
    }

    fn slow_hearing(&self, now: Time) -> Time {
        if now < self.slow_hearing.1 { self.slow_hearing.0 } else { 0 }
    }

    fn hang_up(&mut self) {
        self.stream += 1;
        self.told = None;
        self.uncounted = None;
    }

    fn hear(&mut self, event: BusEvent) {
        if self.ear.as_ref().is_some_and(|ear| ear.send(event).is_err()) {
            self.hang_up();
        }
    }

    /// Ends all trouble of this link.
    pub(crate) fn mend(&mut self) {
        self.calls_stall_until = 0;
        self.hearing_stalls_until = 0;
        self.refused_until = 0;
        self.slow_calls = (0, 0);
        self.slow_hearing = (0, 0);
        self.losing = (0, 0);
    }
}

/// The key that a message tells of.
fn key_of(message: &[u8]) -> Option<Key> {
    match Message::parse(message).ok()?.change {
        Change::Set(key) | Change::Invalidate(key) | Change::Refresh(key) => Some(key),
        Change::Tag(_) | Change::Sweep(_) | Change::Floor | Change::Hello => None,
    }
}

/// A time of the world as a span.
pub(crate) fn span(time: Time) -> Duration {
    Duration::from_nanos(time)
}

/// A span as a time of the world.
pub(crate) fn nanos(span: Duration) -> Time {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
