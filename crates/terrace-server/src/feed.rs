//! The last events of all keyspaces, numbered, for those who read them over HTTP.
//!
//! 1. Nothing is kept before the first reader comes; from then on the last [`EVENTS_MAX`] are, of at most [`BYTES_MAX`] together,
//!    so that a reader that lost its connection can go on where it was.
//! 2. A reader has a place in this one row, and nothing of its own is kept for it. One that is too slow, or away for too long,
//!    finds that its place is gone, and how many events it has missed.
//! 3. What is of this process alone, such as a breaker that opens, has its number in the same row. So a place says which of all events a reader
//!    has, whatever their types.
//! 4. A number belongs to one life of this process. A place of another life is not known here.

mod breakers;
mod queues;

use crate::keyspaces::{DocumentKeyspace, Keyspaces};
use crate::runtime::{self, Tasks};
use futures_util::stream::select_all;
use futures_util::{Stream, StreamExt};
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use terrace::{Clock, Event, Key, OriginBreaker};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Most events that are kept.
const EVENTS_MAX: usize = 8192;
/// Most bytes of events that are kept, about.
const BYTES_MAX: usize = 4 << 20;
/// Most readers at a time.
const READERS_MAX: usize = 64;
/// How often the keyspaces are seen to hear of other nodes' changes: a keyspace begins to when it first asks L2.
const OPENING: Duration = Duration::from_secs(15);

/// The type of what came of another configuration.
pub(crate) const CONFIG: &str = "config";
/// The type of a breaker that came into another state.
pub(crate) const BREAKER: &str = "breaker";
/// The type of what becomes of what is written behind.
pub(crate) const QUEUE: &str = "queue";

/// Something that readers are told.
#[derive(Debug)]
pub(crate) enum Told {
    /// An event of a keyspace.
    Event { keyspace: Arc<str>, event: Event },
    /// What the service says of itself: a type, and what is said as JSON.
    Service { name: &'static str, data: String },
}

impl Told {
    fn bytes(&self) -> usize {
        let text = match self {
            Self::Event { event, .. } => text_bytes(event),
            Self::Service { data, .. } => data.len(),
        };
        size_of::<Self>() + text
    }
}

fn text_bytes(event: &Event) -> usize {
    use terrace::EventKind as Kind;
    if let Some(key) = event.kind.key() {
        return key.as_str().len();
    }
    match &event.kind {
        Kind::TagInvalidated(tag) => tag.as_str().len(),
        Kind::Swept(glob) => glob.as_str().len(),
        _ => 0,
    }
}

/// The row of events.
pub(crate) struct Feed {
    life: u64,
    row: Mutex<Row>,
    /// The number of the last event.
    last: watch::Sender<u64>,
    /// The keyspaces whose events are kept.
    fed: Mutex<HashSet<String>>,
    /// The breakers of origins that are listened to.
    watched: Mutex<Vec<OriginBreaker>>,
    readers: Arc<Semaphore>,
    tasks: Tasks,
}

#[derive(Default)]
struct Row {
    /// The number of the last event; the first is one.
    last: u64,
    kept: VecDeque<Arc<Told>>,
    bytes: usize,
}

/// Where a reader is: behind the event of this number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    life: u64,
    pub(crate) number: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.life, self.number)
    }
}

/// Events that are gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Missed {
    Nothing,
    /// So many, right behind the place.
    Some(u64),
    /// Nobody knows: it is a place of another life of this service, or of another one.
    Unknown,
}

/// What comes behind a place.
pub(crate) struct Next {
    pub(crate) missed: Missed,
    pub(crate) events: Vec<(Place, Arc<Told>)>,
    /// The place behind all that.
    pub(crate) place: Place,
}

impl Row {
    fn push(&mut self, told: Told) -> u64 {
        self.last += 1;
        self.bytes += told.bytes();
        self.kept.push_back(Arc::new(told));
        while self.kept.len() > EVENTS_MAX || self.bytes > BYTES_MAX {
            let Some(gone) = self.kept.pop_front() else { break };
            self.bytes -= gone.bytes();
        }
        self.last
    }

    /// The number before that of the first event that is kept.
    fn before_first(&self) -> u64 {
        self.last - self.kept.len() as u64
    }
}

impl Feed {
    /// `life` is a number that no other life of the service has.
    pub(crate) fn new(life: u64, tasks: Tasks) -> Self {
        Self {
            life,
            row: Mutex::default(),
            last: watch::Sender::default(),
            fed: Mutex::default(),
            watched: Mutex::default(),
            readers: Arc::new(Semaphore::new(READERS_MAX)),
            tasks,
        }
    }

    /// A place among the readers, if there is one.
    pub(crate) fn enter(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.readers).try_acquire_owned().ok()
    }

    /// Begins to keep events of these keyspaces, unless that has begun.
    pub(crate) fn begin(self: &Arc<Self>, keyspaces: &Keyspaces, clock: &Clock) {
        let mut fed = self.fed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = |keyspace: &&DocumentKeyspace| fed.insert(keyspace.name().to_owned());
        let keyspaces: Vec<DocumentKeyspace> = keyspaces.iter().filter(is_new).cloned().collect();
        drop(fed);
        if keyspaces.is_empty() {
            return;
        }
        let named = |keyspace: &DocumentKeyspace| {
            let name: Arc<str> = keyspace.name().into();
            keyspace.events().map(move |event| Told::Event { keyspace: Arc::clone(&name), event })
        };
        self.follow(select_all(keyspaces.iter().map(named)));
        self.survey(&keyspaces, clock);
        self.tasks.spawn(open_all(keyspaces, self.tasks.clone()));
    }

    /// Keeps what comes, until the service stops.
    fn follow(self: &Arc<Self>, mut told: impl Stream<Item = Told> + Unpin + Send + 'static) {
        let (feed, tasks) = (Arc::clone(self), self.tasks.clone());
        self.tasks.spawn(async move {
            let feeding = async {
                while let Some(told) = told.next().await {
                    feed.tell(told);
                }
            };
            futures_util::future::select(pin!(feeding), pin!(tasks.stopped())).await;
        });
    }

    /// Whether events are kept.
    fn has_begun(&self) -> bool {
        !self.fed.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Gives it the next number, if any are kept.
    fn tell(&self, told: Told) {
        if !self.has_begun() {
            return;
        }
        let last = self.row().push(told);
        self.last.send_replace(last);
    }

    /// Begins to keep events of keyspaces that have come since, if any are kept.
    pub(crate) fn grow(self: &Arc<Self>, keyspaces: &Keyspaces, clock: &Clock) {
        if self.has_begun() {
            self.begin(keyspaces, clock);
        }
    }

    /// Tells what came of another configuration: which settings changed, or which cannot be changed. Not more: the words about a file
    /// are for those who may read it.
    pub(crate) fn tell_config(&self, at: SystemTime, result: Result<&[String], &[String]>) {
        let at = humantime::format_rfc3339_millis(at).to_string();
        let text = match result {
            Ok(changed) => serde_json::json!({ "state": "taken", "settings": changed, "at": at }),
            Err(fixed) => serde_json::json!({ "state": "refused", "settings": fixed, "at": at }),
        };
        self.tell(Told::Service { name: CONFIG, data: text.to_string() });
    }

    fn row(&self) -> MutexGuard<'_, Row> {
        self.row.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place behind the last event.
    pub(crate) fn end(&self) -> Place {
        Place { life: self.life, number: self.row().last }
    }

    /// The place that a reader was at.
    pub(crate) fn place(text: &str) -> Option<Place> {
        let (life, number) = text.trim().split_once('-')?;
        Some(Place { life: u64::from_str_radix(life, 16).ok()?, number: number.parse().ok()? })
    }

    /// What comes behind a place, at most `count` events.
    pub(crate) fn after(&self, place: Place, count: usize) -> Next {
        let row = self.row();
        let own = |number| Place { life: self.life, number };
        if place.life != self.life || place.number > row.last {
            return Next { missed: Missed::Unknown, events: Vec::new(), place: own(row.last) };
        }
        let from = place.number.max(row.before_first());
        let skipped = usize::try_from(from - row.before_first()).unwrap_or(usize::MAX);
        let events: Vec<_> = (from + 1..)
            .zip(row.kept.iter().skip(skipped).take(count))
            .map(|(number, told)| (own(number), Arc::clone(told)))
            .collect();
        let missed = if from > place.number { Missed::Some(from - place.number) } else { Missed::Nothing };
        let place = events.last().map_or(own(from), |(place, _)| *place);
        Next { missed, events, place }
    }

    /// Waits until there is something behind a place, or the service is about to stop.
    pub(crate) async fn wait(&self, place: Place) -> Waited {
        let mut last = self.last.subscribe();
        let grown = pin!(last.wait_for(|last| *last > place.number));
        match futures_util::future::select(grown, pin!(self.tasks.stopped())).await {
            futures_util::future::Either::Left(_) => Waited::Grown,
            futures_util::future::Either::Right(_) => Waited::Stopped,
        }
    }
}

/// What ended a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waited {
    Grown,
    Stopped,
}

/// Lets all keyspaces hear of other nodes' changes, now or when L2 can be reached.
async fn open_all(keyspaces: Vec<DocumentKeyspace>, tasks: Tasks) {
    let Ok(key) = Key::new("terrace events") else { return };
    loop {
        for keyspace in &keyspaces {
            let _whether_it_is_there = keyspace.contains(&key).await;
        }
        if runtime::within(OPENING, tasks.stopped()).await.is_some() {
            return;
        }
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Feed({} events)", self.row().last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use terrace::{Cache, Keyspace};

    async fn told(count: u64) -> Vec<Event> {
        let cache = Cache::memory().expect("a cache");
        let texts: Keyspace<u64, u64> = cache.keyspace("texts").build().expect("a new keyspace");
        let mut events = texts.events();
        let mut told = Vec::new();
        for key in 0..count {
            texts.put(&key, key).await.expect("stored");
            told.push(events.next().await.expect("the cache lives"));
        }
        told
    }

    fn push(feed: &Feed, event: &Event) {
        feed.row().push(Told::Event { keyspace: "texts".into(), event: event.clone() });
    }

    #[tokio::test]
    async fn a_place_is_gone_on_from_and_what_is_gone_is_counted() {
        let (feed, events) = (Feed::new(7, Tasks::default()), told(3).await);
        let start = feed.end();
        assert_eq!(start.to_string(), "0000000000000007-0");
        for event in &events {
            push(&feed, event);
        }
        let next = feed.after(start, 2);
        assert_eq!((next.missed, next.events.len(), next.place.number), (Missed::Nothing, 2, 2));
        let place = Feed::place(&next.place.to_string()).expect("a place");
        assert_eq!(feed.after(place, 10).place, feed.end());
        for _ in 0..EVENTS_MAX {
            push(&feed, &events[0]);
        }
        let next = feed.after(place, 1);
        assert_eq!((next.missed, next.place.number), (Missed::Some(1), 4));
        assert_eq!(feed.row().kept.len(), EVENTS_MAX);
    }

    #[tokio::test]
    async fn a_place_of_another_life_is_unknown() {
        let (feed, events) = (Feed::new(7, Tasks::default()), told(1).await);
        push(&feed, &events[0]);
        for place in ["0000000000000008-0", "0000000000000007-2"] {
            let next = feed.after(Feed::place(place).expect("a place"), 10);
            assert_eq!((next.missed, next.events.len(), next.place), (Missed::Unknown, 0, feed.end()));
        }
        for text in ["", "7", "x-1", "7-x", "7-1-1"] {
            assert_eq!(Feed::place(text), None, "{text}");
        }
    }
}
