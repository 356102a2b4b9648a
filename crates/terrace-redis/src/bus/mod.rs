//! How does a node hear of changes that others make?
//!
//! Every script publishes its change on the channel of its partition. A stream of events has one connection of its own,
//! apart from those of the calls, and is driven by whoever polls it.
//!
//! 1. **One order.** All that a stream tells of comes over one connection, beats included, and is told as it came.
//! 2. A namespace is subscribed to, then its counters are read over the same connection, so from the same server, then those
//!    that another incarnation of the server was the last to change are raised, then it is told as joined. What was heard of it meanwhile waits in the queue; if it could not be joined, the connection
//!    is given up, and what was heard of it is thrown away.
//! 3. A lost connection is told once, after all that was read from it, and only if anything of it was told. The next
//!    is opened under the supervisor's rules: to a primary alone, after a pause, and watched by heartbeats.
//! 4. A stream that is not polled keeps at most [`queue::BYTES_MAX`]; then it gives the connection up, as the server
//!    does with a listener that is too slow.
//! 5. Once the handle is closed or its last clone dropped, a stream tells of the loss and of nothing more.
//!
//! Deliberately absent: what a message means, and `max_lifetime`: a new connection cannot go on where another stopped.
//!
//! | module | decides |
//! |---|---|
//! | `listener` | when to connect, to join and to tell what |
//! | `join` | what comes before a namespace is told as joined |
//! | `queue` | how much is kept of what was heard and not told yet |

mod join;
mod listener;
mod queue;

use crate::commands::Commands;
use crate::link::Link;
use crate::remote::{READ_KEYS_MAX, Redis};
use crate::replies;
use bytes::Bytes;
use futures_util::future::try_join_all;
use std::ops::Range;
use terrace_core::bus::{Bus, BusEvents, Incarnation, NodeId, Reassertion};
use terrace_core::remote::RemoteResult;
use terrace_core::{Namespace, Partition, RemoteError, Version};

impl Bus for Redis {
    fn node(&self) -> NodeId {
        NodeId(self.settings().node_id)
    }

    fn partitions(&self) -> u16 {
        self.settings().partitions
    }

    fn listen(&self) -> BusEvents {
        listener::listen(self.supervisor().aside(), self.commands().clone(), self.joined().subscribe())
    }

    fn join(&self, namespace: &Namespace) {
        self.joined().send_if_modified(|joined| {
            let is_new = !joined.contains(namespace);
            if is_new {
                joined.push(namespace.clone());
            }
            is_new
        });
    }

    fn beat(&self, number: u64) -> RemoteResult<'_, ()> {
        Box::pin(async move { self.change(self.commands().beat(number)).await.map(drop) })
    }

    fn counters<'a>(
        &'a self,
        namespace: &'a Namespace,
        partitions: Range<u16>,
    ) -> RemoteResult<'a, Vec<Version>> {
        Box::pin(self.read(move |link| async move {
            read_counters(&link, self.commands(), namespace, partitions).await
        }))
    }

    fn changes_since<'a>(
        &'a self,
        namespace: &'a Namespace,
        after: &'a [(Partition, Version)],
    ) -> RemoteResult<'a, Vec<Vec<Bytes>>> {
        Box::pin(self.read(move |link| async move {
            let pipelines =
                after.chunks(READ_KEYS_MAX).map(|after| self.commands().changes_since(namespace, after));
            let pipelines: Vec<_> = pipelines.collect();
            let parts = try_join_all(pipelines.iter().map(|pipeline| link.ask(pipeline))).await?;
            parts.into_iter().flatten().map(replies::logged).collect()
        }))
    }

    fn reassert<'a>(
        &'a self,
        namespace: &'a Namespace,
        changes: &'a [Reassertion],
        on: &'a [Incarnation],
    ) -> RemoteResult<'a, ()> {
        Box::pin(async move {
            let (mut commands, mut tags, mut rules) = (Vec::new(), Vec::new(), Vec::new());
            for change in changes {
                match change {
                    Reassertion::Key { key, number } => {
                        commands.push(self.commands().reassert(namespace, key, *number));
                    }
                    Reassertion::Tag(tag) => tags.push(tag.clone()),
                    Reassertion::Sweep(rule) => rules.push(rule),
                }
            }
            commands.extend(self.commands().bump_tags(namespace, &tags));
            let fit = Fit::of(on);
            self.write_on(fit, commands).await?;
            for rule in rules {
                self.sweep_on(fit, namespace, rule).await?;
            }
            Ok(())
        })
    }
}

/// Which incarnation of the server a call is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fit {
    /// Any.
    Any,
    /// This one, or one that does not say.
    One(Incarnation),
}

impl Fit {
    /// All partitions are on one server.
    fn of(on: &[Incarnation]) -> Self {
        on.first().map_or(Self::Any, |incarnation| Self::One(*incarnation))
    }

    /// Whether the connection is to such a server.
    pub(crate) fn check(self, link: &Link) -> Result<(), RemoteError> {
        match (self, link.incarnation()) {
            (Self::One(wanted), Some(is)) if wanted != is => {
                let reason = "the connection is to another incarnation of the server".to_owned();
                Err(RemoteError::Unavailable { reason })
            }
            _ => Ok(()),
        }
    }
}

/// The numbers of the last changes of some partitions, in order, in one exchange.
async fn read_counters(
    link: &Link,
    commands: &Commands,
    namespace: &Namespace,
    partitions: Range<u16>,
) -> Result<Vec<Version>, RemoteError> {
    let partitions: Vec<Partition> = partitions.map(Partition).collect();
    let pipelines = partitions.chunks(READ_KEYS_MAX).map(|some| commands.counters(namespace, some));
    let pipelines: Vec<_> = pipelines.collect();
    let parts = try_join_all(pipelines.iter().map(|pipeline| link.ask(pipeline))).await?;
    parts.iter().flatten().map(replies::counter).collect()
}
