//! When does a stream connect and join, and what does it tell?
//!
//! 1. At any time a listener is apart, with no connection, or has one. It goes from one to the other only here.
//! 2. Joining comes before telling, and noticing a loss before both, so neither waits for a queue that never empties.
//! 3. Nothing is told of a namespace before it is told as joined.

use super::beats::Beats;
use super::join::join;
use super::queue::{BYTES_MAX, Published, Queue};
use crate::commands::Commands;
use crate::topology::{Aside, Listening};
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::Namespace;
use terrace_core::bus::{BusEvent, BusEvents};
use tokio::sync::watch;

/// The namespaces that were joined.
type Joined = watch::Receiver<Vec<Namespace>>;

pub(super) fn listen(aside: Aside, commands: Commands, joined: Joined) -> BusEvents {
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
    Connected(Connection),
}

impl Listener {
    async fn next(mut self) -> (BusEvent, Self) {
        loop {
            self.state = match self.state {
                State::Apart(mut aside) => {
                    let (queue, take) = Queue::new(BYTES_MAX);
                    match aside.open(&self.commands, take).await {
                        Some(listening) => State::Connected(Connection::new(aside, listening, queue)),
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
    beats: Beats,
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
        Self { listening, queue, beats, limit, told: Vec::new(), is_told: false, watching, ended: None }
    }

    async fn next(&mut self, commands: &Commands, joined: &mut Joined) -> Heard {
        loop {
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
                            self.told.push(told);
                            return Heard::Event(joined);
                        }
                        Err(error) => self.listening.give_up(&error.to_string()),
                    }
                }
                published = self.queue.next() => match published {
                    Some(published) => {
                        if let Some(event) = self.event(commands, published) {
                            return Heard::Event(event);
                        }
                    }
                    None => return Heard::End(self.end().await),
                }
            }
        }
    }

    /// What is to be told of something that was published; nothing if it is of no namespace that was told as joined, or a
    /// beat that other primaries still owe.
    fn event(&mut self, commands: &Commands, published: Published) -> Option<BusEvent> {
        let Published { channel, message } = published;
        if let Some(primary) = self.beats.primary_of(&channel) {
            let number = std::str::from_utf8(&message).ok()?.parse().ok()?;
            return self.beats.back(primary, number).then_some(BusEvent::Beat(number));
        }
        let (namespace, partition) = commands.names.of_channel(&self.told, &channel)?;
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
