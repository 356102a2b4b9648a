//! The fake's way of telling nodes of changes, with losses at will.
//!
//! 1. What a call publishes is handed to every ear in the step of the call, so all ears hear one order.
//! 2. A namespace is joined in one step with the greeting of its partitions and the reading of its counters.
//! 3. Losses are switched on per node ([`FakeRemote::set_loss`]), and hold for what is published from then on.
//! 4. What is told a node can be held back ([`FakeRemote::hold_back`]): it is late then, in its order, and nothing is lost.
//! 5. A node that tracks ([`FakeRemote::tracking`]) is told of touched values behind what was published in the same step, as a
//!    real server does.

use super::faults::Operation;
use super::server::{Server, Touched};
use super::{FakeRemote, Message};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use terrace_core::bus::{Bus, BusEvent, BusEvents, Incarnation, LoadEnded, NodeId, Reassertion};
use terrace_core::remote::{RemoteError, RemoteResult};
use terrace_core::{Key, Namespace, Partition, Version};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What is lost on the way to one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Loss {
    /// Nothing.
    #[default]
    Nothing,
    /// Messages; beats come back all the same.
    Messages,
    /// Messages and beats, with the connection open.
    Everything,
}

/// What one node has of the bus.
#[derive(Default)]
pub(super) struct Ears {
    is_on: bool,
    is_tracking: bool,
    is_cut: bool,
    loss: Loss,
    joined: BTreeSet<Namespace>,
    /// What is on its way to this node and does not arrive yet.
    held_back: Option<Vec<BusEvent>>,
    senders: Vec<UnboundedSender<BusEvent>>,
}

impl Ears {
    fn tell(&mut self, event: &BusEvent) {
        match &mut self.held_back {
            Some(held_back) => held_back.push(event.clone()),
            None => self.senders.retain(|sender| sender.send(event.clone()).is_ok()),
        }
    }

    pub(super) fn cut(&mut self) {
        self.is_cut = true;
        self.held_back = None;
        self.tell(&BusEvent::Lost);
    }

    fn hears(&self, namespace: &Namespace) -> bool {
        !self.is_cut && self.loss == Loss::Nothing && self.joined.contains(namespace)
    }
}

struct Listening(UnboundedReceiver<BusEvent>);

impl futures_core::Stream for Listening {
    type Item = BusEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<BusEvent>> {
        self.0.poll_recv(context)
    }
}

impl FakeRemote {
    /// Turns telling of changes on, for this node.
    #[must_use]
    pub fn hearing(self) -> Self {
        self.node.ears.lock().is_on = true;
        self
    }

    /// Turns telling of touched values on, too.
    #[must_use]
    pub fn tracking(self) -> Self {
        self.node.ears.lock().is_tracking = true;
        self
    }

    /// Loses, from now on, what is on its way to this node.
    pub fn set_loss(&self, loss: Loss) {
        self.node.ears.lock().loss = loss;
    }

    /// Holds back, from now on, what this node is told, beats too.
    pub fn hold_back(&self) {
        self.node.ears.lock().held_back.get_or_insert_default();
    }

    /// Lets all arrive that was held back, and what comes after it.
    pub fn let_arrive(&self) {
        let mut ears = self.node.ears.lock();
        for event in ears.held_back.take().unwrap_or_default() {
            ears.tell(&event);
        }
    }

    /// Cuts the connection over which this node hears of changes.
    pub fn cut_bus(&self) {
        self.node.ears.lock().cut();
    }

    /// Opens it again, and joins all namespaces anew.
    pub fn mend_bus(&self) {
        let mut server = self.shared.state.lock();
        let joined = self.node.ears.lock().joined.clone();
        let events: Vec<_> =
            joined.into_iter().flat_map(|joined| self.joining(&mut server, joined)).collect();
        let mut ears = self.node.ears.lock();
        ears.is_cut = false;
        for event in &events {
            ears.tell(event);
        }
    }

    /// Greets the partitions of a namespace, and reads their counters. What is told of that.
    fn joining(&self, server: &mut Server, namespace: Namespace) -> Vec<BusEvent> {
        let incarnation = self.shared.incarnation();
        server.hello(&namespace, incarnation, self.caller());
        self.publish(&server.take_published());
        let counters = server.counters(&namespace, 0..self.node.partitions);
        let incarnations = vec![incarnation; counters.len()];
        let touched = BusEvent::Touched { namespace: namespace.clone(), key: None };
        let mut events = vec![BusEvent::Joined { namespace, incarnations, counters }];
        events.extend(self.node.ears.lock().is_tracking.then_some(touched));
        events
    }

    pub(super) fn has_bus(&self) -> bool {
        self.node.ears.lock().is_on
    }

    /// Tells every node of loads that have ended.
    pub(super) fn publish_ended(&self, ended: &[(Namespace, Key)]) {
        for (namespace, key) in ended {
            let bytes = Bytes::from(LoadEnded(key.clone()).to_string());
            for node in self.shared.all_nodes.lock().iter() {
                let partition = Partition::of(namespace, key.as_str(), node.partitions);
                let mut ears = node.ears.lock();
                if ears.hears(namespace) {
                    let bytes = bytes.clone();
                    ears.tell(&BusEvent::Heard { namespace: namespace.clone(), partition, bytes });
                }
            }
        }
    }

    /// Tells every node that tracks of values that were touched.
    pub(super) fn publish_touched(&self, touched: &Touched) {
        for node in self.shared.all_nodes.lock().iter() {
            let mut ears = node.ears.lock();
            if !ears.is_tracking {
                continue;
            }
            let all =
                ears.joined.iter().filter(|_| touched.is_all).map(|namespace| (namespace.clone(), None));
            let some = touched.some.iter().map(|(namespace, key)| (namespace.clone(), Some(key.clone())));
            for (namespace, key) in all.chain(some).collect::<Vec<_>>() {
                if ears.hears(&namespace) {
                    ears.tell(&BusEvent::Touched { namespace, key });
                }
            }
        }
    }

    /// Hands what was published to every node that hears it.
    pub(super) fn publish(&self, published: &[(Namespace, Partition, Message)]) {
        let nodes = self.shared.all_nodes.lock();
        for (namespace, partition, message) in published {
            let bytes = Bytes::from(message.to_string());
            for node in nodes.iter() {
                let mut ears = node.ears.lock();
                if ears.hears(namespace) {
                    ears.tell(&BusEvent::Heard {
                        namespace: namespace.clone(),
                        partition: *partition,
                        bytes: bytes.clone(),
                    });
                }
            }
        }
    }
}

impl FakeRemote {
    /// Says from now on that messages are no chain, though they are.
    pub fn disown_chain(&self) {
        self.node.is_unchained.store(true, Ordering::Relaxed);
    }
}

impl Bus for FakeRemote {
    fn node(&self) -> NodeId {
        NodeId(self.node.id)
    }

    fn partitions(&self) -> u16 {
        self.node.partitions
    }

    fn is_chained(&self) -> bool {
        !self.node.is_unchained.load(Ordering::Relaxed)
    }

    fn listen(&self) -> BusEvents {
        let (sender, receiver) = unbounded_channel();
        let mut server = self.shared.state.lock();
        let (is_cut, joined) = {
            let ears = self.node.ears.lock();
            (ears.is_cut, ears.joined.clone())
        };
        for namespace in joined.into_iter().filter(|_| !is_cut) {
            for event in self.joining(&mut server, namespace) {
                drop(sender.send(event));
            }
        }
        self.node.ears.lock().senders.push(sender);
        Box::pin(Listening(receiver))
    }

    fn join(&self, namespace: &Namespace) {
        let mut server = self.shared.state.lock();
        let is_new = {
            let ears = self.node.ears.lock();
            !ears.joined.contains(namespace) && !ears.is_cut
        };
        let events = is_new.then(|| self.joining(&mut server, namespace.clone()));
        let mut ears = self.node.ears.lock();
        ears.joined.insert(namespace.clone());
        for event in events.iter().flatten() {
            ears.tell(event);
        }
    }

    fn beat(&self, number: u64) -> RemoteResult<'_, ()> {
        Box::pin(self.call(Operation::Beat, move |_, node| {
            let mut ears = node.node.ears.lock();
            if !ears.is_cut && ears.loss != Loss::Everything {
                ears.tell(&BusEvent::Beat(number));
            }
            Ok(())
        }))
    }

    fn counters<'a>(
        &'a self,
        namespace: &'a Namespace,
        partitions: Range<u16>,
    ) -> RemoteResult<'a, Vec<Version>> {
        let namespace = namespace.clone();
        Box::pin(self.call(Operation::Counters, move |server, _| Ok(server.counters(&namespace, partitions))))
    }

    fn changes_since<'a>(
        &'a self,
        namespace: &'a Namespace,
        after: &'a [(Partition, Version)],
    ) -> RemoteResult<'a, Vec<Vec<Bytes>>> {
        let (namespace, after) = (namespace.clone(), after.to_vec());
        Box::pin(self.call(Operation::ChangesSince, move |server, _| {
            let since = |(partition, after): &(Partition, Version)| {
                let log = server.log(&namespace, *partition).into_iter();
                log.filter(|message| message.sequence > after.get())
                    .map(|message| Bytes::from(message.to_string()))
                    .collect()
            };
            Ok(after.iter().map(since).collect())
        }))
    }

    fn refresh<'a>(&'a self, namespace: &'a Namespace, key: &'a Key) -> RemoteResult<'a, Version> {
        let (namespace, key) = (namespace.clone(), key.clone());
        Box::pin(self.call(Operation::Refresh, move |server, node| {
            Ok(server.refresh(&namespace, &key, node.caller()))
        }))
    }

    fn reassert<'a>(
        &'a self,
        namespace: &'a Namespace,
        changes: &'a [Reassertion],
        on: &'a [Incarnation],
    ) -> RemoteResult<'a, ()> {
        let (namespace, changes, on) = (namespace.clone(), changes.to_vec(), on.to_vec());
        Box::pin(self.call(Operation::Reassert, move |server, node| {
            if on.iter().any(|wanted| *wanted != node.shared.incarnation()) {
                let reason = "it is another incarnation of the server".to_owned();
                return Err(RemoteError::Unavailable { reason });
            }
            for change in &changes {
                match change {
                    Reassertion::Key { key, number } => {
                        server.reassert(&namespace, key, *number, node.caller());
                    }
                    Reassertion::Tag(tag) => {
                        server.bump_tag(&namespace, tag, node.caller());
                    }
                    Reassertion::Sweep(rule) => {
                        server.sweep(&namespace, &node.new_sweep(rule.clone()), node.caller())?;
                    }
                }
            }
            Ok(())
        }))
    }
}
