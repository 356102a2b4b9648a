//! The fake's way of telling nodes of changes, with losses at will.
//!
//! 1. What a call publishes is handed to every ear in the step of the call, so all ears hear one order.
//! 2. A namespace is joined in one step with the reading of its counters.
//! 3. Losses are switched on per node ([`FakeRemote::set_loss`]), and hold for what is published from then on.

use super::faults::Operation;
use super::{FakeRemote, Message};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use terrace_core::bus::{Bus, BusEvent, BusEvents, NodeId};
use terrace_core::remote::RemoteResult;
use terrace_core::{Namespace, Partition, Version};
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
    is_cut: bool,
    loss: Loss,
    joined: BTreeSet<Namespace>,
    senders: Vec<UnboundedSender<BusEvent>>,
}

impl Ears {
    fn tell(&mut self, event: &BusEvent) {
        self.senders.retain(|sender| sender.send(event.clone()).is_ok());
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

    /// Loses, from now on, what is on its way to this node.
    pub fn set_loss(&self, loss: Loss) {
        self.node.ears.lock().loss = loss;
    }

    /// Cuts the connection over which this node hears of changes.
    pub fn cut_bus(&self) {
        let mut ears = self.node.ears.lock();
        ears.is_cut = true;
        ears.tell(&BusEvent::Lost);
    }

    /// Opens it again, and joins all namespaces anew.
    pub fn mend_bus(&self) {
        let mut server = self.shared.state.lock();
        let mut ears = self.node.ears.lock();
        ears.is_cut = false;
        for namespace in ears.joined.clone() {
            let counters = server.counters(&namespace, 0..self.node.partitions);
            ears.tell(&BusEvent::Joined { namespace, counters });
        }
    }

    pub(super) fn has_bus(&self) -> bool {
        self.node.ears.lock().is_on
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

impl Bus for FakeRemote {
    fn node(&self) -> NodeId {
        NodeId(self.node.id)
    }

    fn partitions(&self) -> u16 {
        self.node.partitions
    }

    fn listen(&self) -> BusEvents {
        let (sender, receiver) = unbounded_channel();
        let mut server = self.shared.state.lock();
        let mut ears = self.node.ears.lock();
        if !ears.is_cut {
            for namespace in ears.joined.clone() {
                let counters = server.counters(&namespace, 0..self.node.partitions);
                drop(sender.send(BusEvent::Joined { namespace, counters }));
            }
        }
        ears.senders.push(sender);
        Box::pin(Listening(receiver))
    }

    fn join(&self, namespace: &Namespace) {
        let mut server = self.shared.state.lock();
        let mut ears = self.node.ears.lock();
        if ears.joined.insert(namespace.clone()) && !ears.is_cut {
            let counters = server.counters(namespace, 0..self.node.partitions);
            ears.tell(&BusEvent::Joined { namespace: namespace.clone(), counters });
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
}
