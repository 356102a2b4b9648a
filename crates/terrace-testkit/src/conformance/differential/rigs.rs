//! The fake as a [`Rig`].

use super::{Change, Rig};
use crate::fake::{FakeRemote, Message};
use terrace_core::bus::Bus;
use terrace_core::remote::{BoxFuture, Remote};
use terrace_core::{Key, Namespace, Partition};

/// A fake remote as a [`Rig`].
#[derive(Debug)]
pub struct FakeRig(pub FakeRemote);

impl Rig for FakeRig {
    fn remote(&self) -> &dyn Remote {
        &self.0
    }

    fn bus(&self) -> &dyn Bus {
        &self.0
    }

    fn renew<'a>(&'a self, namespace: &'a Namespace) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.0.fail_over(0);
            self.0.another_node().join(namespace);
        })
    }

    fn end_value<'a>(&'a self, namespace: &'a Namespace, key: &'a Key) -> BoxFuture<'a, ()> {
        Box::pin(async {
            self.0.evict(namespace, key);
        })
    }

    fn end_lease<'a>(&'a self, namespace: &'a Namespace, key: &'a Key) -> BoxFuture<'a, ()> {
        Box::pin(async {
            self.0.lose_lease(namespace, key);
        })
    }

    fn lose_counter<'a>(&'a self, namespace: &'a Namespace, partition: Partition) -> BoxFuture<'a, ()> {
        Box::pin(async move { self.0.lose_counter(namespace, partition) })
    }

    fn lose_generations<'a>(&'a self, namespace: &'a Namespace, partition: Partition) -> BoxFuture<'a, ()> {
        Box::pin(async move { self.0.lose_generations_of(namespace, partition) })
    }

    fn log<'a>(&'a self, namespace: &'a Namespace, partition: Partition) -> BoxFuture<'a, Vec<Change>> {
        Box::pin(async move { self.0.log(namespace, partition).into_iter().map(Change::from).collect() })
    }
}

impl From<Message> for Change {
    fn from(message: Message) -> Self {
        let what = format!("{} {}", message.operation, message.argument);
        Self { previous: message.previous, sequence: message.sequence, what }
    }
}
