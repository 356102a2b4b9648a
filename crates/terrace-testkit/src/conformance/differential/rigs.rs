//! The fake as a [`Rig`].

use super::{Change, Rig, Touches};
use crate::fake::{FakeRemote, Message};
use terrace_core::bus::Bus;
use terrace_core::envelope::Sealed;
use terrace_core::remote::{BoxFuture, Remote, RemoteResult};
use terrace_core::{Key, Namespace, Partition, Ttl, Version};

/// A fake remote as a [`Rig`].
#[derive(Debug)]
pub struct FakeRig {
    remote: FakeRemote,
    tracker: FakeRemote,
    touches: Touches,
}

impl FakeRig {
    /// This node, and another one that tracks.
    pub fn new(remote: FakeRemote) -> Self {
        let tracker = remote.another_node().hearing().tracking();
        let touches = Touches::of(tracker.clone());
        Self { remote, tracker, touches }
    }
}

impl Rig for FakeRig {
    fn remote(&self) -> &dyn Remote {
        &self.remote
    }

    fn bus(&self) -> &dyn Bus {
        &self.remote
    }

    fn touches(&self) -> &Touches {
        &self.touches
    }

    fn renew<'a>(&'a self, namespace: &'a Namespace) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.remote.fail_over(0);
            self.remote.another_node().join(namespace);
            self.tracker.mend_bus();
        })
    }

    fn end_value<'a>(&'a self, namespace: &'a Namespace, key: &'a Key) -> BoxFuture<'a, ()> {
        Box::pin(async {
            self.remote.evict(namespace, key);
        })
    }

    fn end_lease<'a>(&'a self, namespace: &'a Namespace, key: &'a Key) -> BoxFuture<'a, ()> {
        Box::pin(async {
            self.remote.lose_lease(namespace, key);
        })
    }

    fn set_late<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        value: Sealed,
        ttl: Ttl,
    ) -> RemoteResult<'a, Version> {
        self.remote.set_before(namespace, key, (value, ttl), self.remote.server_time())
    }

    fn lose_counter<'a>(&'a self, namespace: &'a Namespace, partition: Partition) -> BoxFuture<'a, ()> {
        Box::pin(async move { self.remote.lose_counter(namespace, partition) })
    }

    fn lose_generations<'a>(&'a self, namespace: &'a Namespace, partition: Partition) -> BoxFuture<'a, ()> {
        Box::pin(async move { self.remote.lose_generations_of(namespace, partition) })
    }

    fn log<'a>(&'a self, namespace: &'a Namespace, partition: Partition) -> BoxFuture<'a, Vec<Change>> {
        Box::pin(async move { self.remote.log(namespace, partition).into_iter().map(Change::from).collect() })
    }
}

impl From<Message> for Change {
    fn from(message: Message) -> Self {
        let what = format!("{} {}", message.operation, message.argument);
        Self { previous: message.previous, sequence: message.sequence, what }
    }
}
