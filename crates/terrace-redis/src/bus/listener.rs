//! When does a stream connect and join, and what does it tell?
//!
//! 1. At any time a listener is apart, with no connection, or has one. It goes from one to the other only here.
//! 2. Joining comes before telling, and noticing a loss before both, so neither waits for a queue that never empties.
//! 3. Nothing is told of a namespace before it is told as joined. If changes are tracked, that it was touched as a whole is
//!    told right after that.

use super::beats::Beats;
use super::join::join;
use super::queue::{BYTES_MAX, Push, Queue};
use super::tracking::{self, SETTLING_MAX};
use crate::commands::Commands;
use crate::topology::{Aside, Listening};
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, FuturesOrdered, StreamExt};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::Namespace;
use terrace_core::bus::{BusEvent, BusEvents};
use tokio::sync::watch;

/// The namespaces that were joined.
type Joined = watch::Receiver<Vec<Namespace>>;

pub(crate) fn listen(aside: Aside, commands: Commands, joined: Joined) -> BusEvents {
    let listener = Listener { commands, joined, state: State::Apart(aside) };
    Box::pin(stream::unfold(listener, |listener| listener.next().map(Some)))
}

struct Listener {
    commands: Commands,
    joined: Joined,
    state: State,
}

enum State {
    Apart(Aside),
    Connected(Box<Connection>),
}

impl Listener {
    async fn next(mut self) -> (BusEvent, Self) {
        loop {
            self.state = match self.state {
                State::Apart(mut aside) => {
                    let names = self.commands.names.clone();
                    let (queue, take) = Queue::new(BYTES_MAX, move |name| names.is_value(name));
                    match aside.open(&self.commands, take).await {
                        Some(listening) => {
                            State::Connected(Box::new(Connection::new(aside, listening, queue)))
                        }
                        None => State::Apart(aside),
                    }
                }
                State::Connected(mut connection) => {
                    let heard = connection.next(&self.commands, &mut self.joined).await;
                    let (event, state) = match heard {
                        Heard::Event(event) => {
                            connection.is_told = true;
                            (Some(event), State::Connected(connection))
                        }
                        Heard::End(aside) => {
                            (connection.is_told.then_some(BusEvent::Lost), State::Apart(aside))
                        }
                    };
                    if let Some(event) = event {
                        return (event, Self { state, ..self });
                    }
                    state
                }
            };
        }
    }
}

/// What comes of a connection.
enum Heard {
    Event(BusEvent),
    /// It is lost, and this opens the next.
    End(Aside),
}

struct Connection {
    listening: Arc<Listening>,
    queue: Queue,
    /// What was taken from the queue, or has to be told before what is in it.
    due: VecDeque<BusEvent>,
    beats: Beats,
    /// Beats that are back, and behind which the names may follow of values that were touched before them.
    settling: FuturesOrdered<BoxFuture<'static, Option<Push>>>,
    limit: Duration,
    /// The namespaces that were told as joined.
    told: Vec<Namespace>,
    /// Whether anything was told at all.
    is_told: bool,
    watching: BoxFuture<'static, Aside>,
    /// What came of watching: once it is there, the connections are lost.
    ended: Option<Aside>,
}

impl Connection {
    fn new(aside: Aside, listening: Arc<Listening>, queue: Queue) -> Self {
        let limit = aside.limit();
        let beats = Beats::of(listening.beats.clone());
        let watching = aside.watch(Arc::clone(&listening)).boxed();
        Self {
            listening,
            queue,
            due: VecDeque::new(),
            beats,
            settling: FuturesOrdered::new(),
            limit,
            told: Vec::new(),
            is_told: false,
            watching,
            ended: None,
        }
    }

    async fn next(&mut self, commands: &Commands, joined: &mut Joined) -> Heard {
        loop {
            if let Some(event) = self.due.pop_front() {
                return Heard::Event(event);
            }
            tokio::select! {
                biased;
                aside = &mut self.watching, if self.ended.is_none() => {
                    self.queue.close();
                    self.ended = Some(aside);
                }
                namespace = namespace_after(joined, self.told.len()), if !self.listening.is_lost() => {
                    let told = namespace.clone();
                    match join(&self.listening, self.limit, commands, namespace).await {
                        Ok(joined) => {
                            let touched = BusEvent::Touched { namespace: told.clone(), key: None };
                            self.due.extend(self.listening.is_tracking().then_some(touched));
                            self.told.push(told);
                            return Heard::Event(joined);
                        }
                        Err(error) => self.listening.give_up(&error.to_string()),
                    }
                }
                Some(settled) = self.settling.next(), if !self.settling.is_empty() => {
                    if let Some(settled) = settled {
                        self.queue.put(settled);
                    }
                }
                push = self.queue.next() => match push {
                    Some(push) => self.take(commands, push),
                    None => return Heard::End(self.end().await),
                }
            }
        }
    }

    /// What the server has sent is to be told, as far as it is of namespaces that were told as joined.
    fn take(&mut self, commands: &Commands, push: Push) {
        match push {
            Push::Published { channel, message } => match self.beats.primary_of(&channel) {
                Some(primary) => self.beat(primary, &message),
                None => self.due.extend(self.message(commands, &channel, message)),
            },
            Push::Settled { primary, beat } => self.settled(primary, beat),
            Push::Touched(names) => {
                let found = names.iter().filter_map(|name| commands.names.of_value(&self.told, name));
                self.due
                    .extend(found.map(|(namespace, key)| BusEvent::Touched { namespace, key: Some(key) }));
            }
            Push::AllTouched => {
                let told = self.told.iter().cloned();
                self.due.extend(told.map(|namespace| BusEvent::Touched { namespace, key: None }));
            }
        }
    }

    /// A primary has sent a beat back. One that is no number is not ours.
    fn beat(&mut self, primary: usize, message: &[u8]) {
        let number = std::str::from_utf8(message).ok().and_then(|text| text.parse().ok());
        let Some(beat) = number else { return };
        if !self.listening.is_tracking() {
            return self.settled(primary, beat);
        }
        if self.settling.len() < SETTLING_MAX {
            let listening = Arc::clone(&self.listening);
            self.settling.push_back(tracking::settle(listening, primary, beat, self.limit).boxed());
        }
    }

    /// All that a primary did before a beat was heard. It is told unless other primaries owe it.
    fn settled(&mut self, primary: usize, beat: u64) {
        self.due.extend(self.beats.back(primary, beat).then_some(BusEvent::Beat(beat)));
    }

    /// A message, as it is to be told.
    fn message(&self, commands: &Commands, channel: &[u8], message: Vec<u8>) -> Option<BusEvent> {
        let (namespace, partition) = commands.names.of_channel(&self.told, channel)?;
        Some(BusEvent::Heard { namespace, partition, bytes: Bytes::from(message) })
    }

    /// What opens the next connections. The library ends its side without a word if its runtime has ended.
    async fn end(&mut self) -> Aside {
        self.listening.give_up("the connection was closed");
        match self.ended.take() {
            Some(aside) => aside,
            None => (&mut self.watching).await,
        }
    }
}

/// The namespace that was joined after so many others, as soon as there is one.
async fn namespace_after(joined: &mut Joined, count: usize) -> Namespace {
    let found = joined.wait_for(|namespaces| namespaces.len() > count).await;
    let found = found.ok().and_then(|namespaces| namespaces.get(count).cloned());
    match found {
        Some(namespace) => namespace,
        // The handle was dropped, and nobody joins any more.
        None => std::future::pending().await,
    }
}
