//! What happens to the entries of a keyspace, for those who want to know.
//!
//! 1. Nobody is waited for: who does not take events keeps [`KEPT_MAX`] of them, loses what comes after, and is told how many
//!    those were ([`EventKind::Missed`]), at the place where they are missing.
//! 2. While nobody listens, an event costs one relaxed load, and is not made.
//! 3. Where L2 tells of changes, this node's own are told when L2 tells of them, in the order of L2 and under its numbers.
//!    Those that L2 could not be told are told at once, with number zero, and once more when L2 has been.
//! 4. A sweep, of which every partition tells, is told once: when the last partition does. One server has swept all others by then, so
//!    whoever is told finds nothing of it any more ([`Swept::version`](terrace_core::remote::Swept)).

use crate::origin::WriteId;
use crate::space::View;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;
use terrace_core::bus::{Bus, Change, Message};
use terrace_core::remote::SweepRule;
use terrace_core::{Clock, Glob, Key, Partition, Tag, Version};

/// Events that are kept for one who does not take them.
const KEPT_MAX: usize = 1024;

/// What has happened.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum EventKind {
    /// A value was stored.
    Set(Key),
    /// A key was removed or invalidated.
    Invalidated(Key),
    /// All entries with the tag were invalidated.
    TagInvalidated(Tag),
    /// All entries that match the pattern were invalidated.
    Swept(Glob),
    /// All entries were invalidated.
    Cleared,
    /// Somebody asked for the key to be loaded anew.
    Refresh(Key),
    /// A write behind of this node that was acknowledged was given up: it is a dead letter.
    GivenUp {
        /// The key.
        key: Key,
        /// The write.
        write: WriteId,
    },
    /// Somebody brought dead letters of a key back: the origin is asked to take them again.
    LettersRetried {
        /// The key.
        key: Key,
        /// How many.
        count: u64,
    },
    /// Somebody dropped the dead letters of a key for good.
    LettersDropped {
        /// The key.
        key: Key,
        /// How many.
        count: u64,
    },
    /// This node hears of other nodes' changes from here on.
    Joined {
        /// L2 has another life than before and may have forgotten changes.
        is_anew: bool,
    },
    /// This node does not hear of other nodes' changes any more.
    Lost,
    /// This node has missed changes of so many partitions for good, and asks about their copies before they count as fresh.
    Suspected(u32),
    /// Whoever reads this was too slow, and has missed so many events.
    Missed(u64),
}

impl EventKind {
    /// The key that it is about, if it is about one.
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Set(key)
            | Self::Invalidated(key)
            | Self::Refresh(key)
            | Self::GivenUp { key, .. }
            | Self::LettersRetried { key, .. }
            | Self::LettersDropped { key, .. } => Some(key),
            _ => None,
        }
    }

    pub(crate) fn swept(rule: &SweepRule) -> Self {
        match rule {
            SweepRule::All => Self::Cleared,
            SweepRule::Matching(glob) => Self::Swept(glob.clone()),
        }
    }
}

/// One thing that has happened in a keyspace.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// The number of the change in L2; zero if it is no change, or L2 does not know of it (yet).
    pub number: Version,
    /// The name of the connection that asked for it: [`Redis::node_id`](crate::Redis::node_id). `None` if it is of this node alone.
    pub origin: Option<u64>,
    /// Whether this node asked for it.
    pub is_own: bool,
    /// When this node learned of it, by the wall clock, for people.
    pub at: SystemTime,
}

impl Event {
    /// One event was missed.
    fn missed(at: SystemTime) -> Self {
        Self { kind: EventKind::Missed(1), number: Version::ZERO, origin: None, is_own: false, at }
    }
}

/// The events of one keyspace, from when it was asked for; see [`Keyspace::events`](crate::Keyspace::events). Dropping it ends the
/// subscription.
#[derive(Debug)]
pub struct Events {
    mailbox: Arc<Mailbox>,
    hub: Arc<Hub>,
}

/// Where the events of a keyspace come from.
#[derive(Default)]
pub(crate) struct Hub {
    listeners: AtomicUsize,
    mailboxes: Mutex<Vec<Arc<Mailbox>>>,
    /// Looked at and set under the lock of the mailboxes.
    is_closed: AtomicBool,
}

#[derive(Default)]
struct Mailbox(Mutex<Mail>);

#[derive(Default)]
struct Mail {
    waiting: VecDeque<Event>,
    waker: Option<Waker>,
    is_over: bool,
}

impl Mailbox {
    fn put(&self, event: &Event) {
        let mut mail = self.0.lock();
        if mail.waiting.len() < KEPT_MAX {
            mail.waiting.push_back(event.clone());
        } else if let Some(Event { kind: EventKind::Missed(count), .. }) = mail.waiting.back_mut() {
            *count += 1;
        } else {
            mail.waiting.push_back(Event::missed(event.at));
        }
        wake(mail.waker.take());
    }

    fn close(&self) {
        let mut mail = self.0.lock();
        mail.is_over = true;
        wake(mail.waker.take());
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Hub {
    pub(crate) fn subscribe(self: &Arc<Self>) -> Events {
        let mailbox = Arc::<Mailbox>::default();
        let mut mailboxes = self.mailboxes.lock();
        if self.is_closed.load(Ordering::Relaxed) {
            mailbox.close();
            return Events { mailbox, hub: Arc::clone(self) };
        }
        mailboxes.push(Arc::clone(&mailbox));
        self.listeners.store(mailboxes.len(), Ordering::Relaxed);
        Events { mailbox, hub: Arc::clone(self) }
    }

    /// Whether anybody listens.
    #[inline]
    pub(crate) fn is_heard(&self) -> bool {
        self.listeners.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn tell(&self, clock: &Clock, kind: impl FnOnce() -> EventKind) {
        if self.is_heard() {
            self.put(kind(), Version::ZERO, None, true, clock);
        }
    }

    /// A change of a partition that L2 told of.
    pub(crate) fn tell_heard(&self, clock: &Clock, bus: &dyn Bus, partition: Partition, message: &Message) {
        if !self.is_heard() || !is_told(bus, partition, &message.change) {
            return;
        }
        if let Some(kind) = kind_of(&message.change) {
            let Message { number, origin, .. } = message;
            self.put(kind, *number, Some(origin.0), *origin == bus.node(), clock);
        }
    }

    /// What has become of hearing itself.
    pub(crate) fn tell_state(&self, clock: &Clock, kind: EventKind) {
        if self.is_heard() {
            self.put(kind, Version::ZERO, None, false, clock);
        }
    }

    #[cold]
    fn put(&self, kind: EventKind, number: Version, origin: Option<u64>, is_own: bool, clock: &Clock) {
        let event = Event { kind, number, origin, is_own, at: clock.wall() };
        for mailbox in self.mailboxes.lock().iter() {
            mailbox.put(&event);
        }
    }

    /// No more events will come.
    pub(crate) fn close(&self) {
        let mut mailboxes = self.mailboxes.lock();
        self.is_closed.store(true, Ordering::Relaxed);
        for mailbox in mailboxes.drain(..) {
            mailbox.close();
        }
        self.listeners.store(0, Ordering::Relaxed);
    }
}

impl View {
    /// Tells of a change of this node's own that L2 will not tell of: there is none, it tells of nothing, or was not told.
    pub(crate) fn tell_own(&self, is_applied: bool, kinds: impl IntoIterator<Item = EventKind>) {
        let events = &self.space.events;
        if events.is_heard() && !(is_applied && self.tells()) {
            for kind in kinds {
                events.tell(&self.shared.clock, || kind);
            }
        }
    }
}

/// Whether a change is told of when this partition tells of it. Where there are no chains, one message tells of a sweep.
fn is_told(bus: &dyn Bus, partition: Partition, change: &Change) -> bool {
    let is_in_each = matches!(change, Change::Sweep(_)) && bus.is_chained();
    !is_in_each || partition.0 + 1 == bus.partitions()
}

fn kind_of(change: &Change) -> Option<EventKind> {
    Some(match change {
        Change::Set(key) => EventKind::Set(key.clone()),
        Change::Invalidate(key) => EventKind::Invalidated(key.clone()),
        Change::Refresh(key) => EventKind::Refresh(key.clone()),
        Change::Tag(tag) => EventKind::TagInvalidated(tag.clone()),
        Change::Sweep(rule) => EventKind::swept(rule),
        Change::Floor | Change::Hello => return None,
    })
}

impl Events {
    /// The next event, in order; `None` once the cache was shut down or dropped, and all events were taken.
    ///
    /// # Cancel safety
    /// Safe: no event is lost.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| self.poll_event(context)).await
    }

    fn poll_event(&self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut mail = self.mailbox.0.lock();
        match mail.waiting.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None if mail.is_over => Poll::Ready(None),
            None => {
                mail.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl futures_util::Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_event(context)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let mut mailboxes = self.hub.mailboxes.lock();
        mailboxes.retain(|mailbox| !Arc::ptr_eq(mailbox, &self.mailbox));
        self.hub.listeners.store(mailboxes.len(), Ordering::Relaxed);
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hub({} listeners)", self.listeners.load(Ordering::Relaxed))
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mailbox({} waiting)", self.0.lock().waiting.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        Key::new(&number.to_string()).expect("valid")
    }

    #[tokio::test]
    async fn who_is_slow_is_told_what_was_missed_and_where_and_holds_up_nobody() {
        let (hub, clock) = (Arc::<Hub>::default(), Clock::manual());
        let (mut slow, mut quick) = (hub.subscribe(), hub.subscribe());
        for number in 0..KEPT_MAX + 10 {
            hub.tell(&clock, || EventKind::Set(key(number)));
            assert_eq!(quick.next().await.map(|event| event.kind), Some(EventKind::Set(key(number))));
        }
        for number in 0..KEPT_MAX {
            assert_eq!(slow.next().await.map(|event| event.kind), Some(EventKind::Set(key(number))));
        }
        hub.tell(&clock, || EventKind::Cleared);
        assert_eq!(slow.next().await.map(|event| event.kind), Some(EventKind::Missed(10)));
        assert_eq!(slow.next().await.map(|event| event.kind), Some(EventKind::Cleared));
    }

    #[tokio::test]
    async fn nothing_is_made_for_nobody_and_the_end_is_told() {
        let (hub, clock) = (Arc::<Hub>::default(), Clock::manual());
        hub.tell(&clock, || panic!("nobody listens"));
        let mut events = hub.subscribe();
        drop(hub.subscribe());
        hub.tell(&clock, || EventKind::Cleared);
        hub.close();
        assert_eq!(events.next().await.map(|event| event.kind), Some(EventKind::Cleared));
        assert_eq!(events.next().await, None);
        hub.tell(&clock, || panic!("it is closed"));
    }
}
