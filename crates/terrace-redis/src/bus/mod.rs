//! How does a node hear of changes that others make?
//!
//! Every script publishes its change on the channel of its partition. A stream of events has connections of its own, one to
//! each primary, apart from those of the calls, and is driven by whoever polls it.
//!
//! 1. **One order.** All that a stream tells of a partition comes over one connection, beats included, and is told as it
//!    came. A beat is sent to every primary, and told when it has come back from all of them, so after all that was
//!    published before it anywhere.
//! 2. A namespace is subscribed to, then its counters are read over the same connections, so from the same servers, then
//!    those that another incarnation of its server was the last to change are raised, then it is told as joined. What was heard of it meanwhile waits in the queue; if it could not be joined, the connections
//!    are given up, and what was heard of it is thrown away.
//! 3. The connections end together: if one is lost, a slot moves or another server becomes a primary, all are given up. That
//!    is told once, after all that was read from them, and only if anything of them was told. The next are opened under
//!    the supervisor's rules: to primaries alone, after a pause, and watched by heartbeats.
//!    With [`tracking`], every value that is touched by anybody is told over the same connection, too.
//! 4. A stream that is not polled keeps at most [`queue::BYTES_MAX`]; then it gives the connection up, as the server
//!    does with a listener that is too slow.
//! 5. Once the handle is closed or its last clone dropped, a stream tells of the loss and of nothing more.
//!
//! Deliberately absent: what a message means, and `max_lifetime`: a new connection cannot go on where another stopped.
//!
//! | module | decides |
//! |---|---|
//! | `listener` | when to connect, to join and to tell what |
//! | `beats` | when a beat has come back from all primaries |
//! | `join` | what comes before a namespace is told as joined |
//! | `tracking` | what it takes to hear of writers that are not terrace |
//! | `queue` | how much is kept of what was heard and not told yet |

mod beats;
mod join;
pub(crate) mod listener;
mod queue;
mod tracking;

use crate::remote::Redis;
use crate::replies;
use crate::topology::Fit;
use bytes::Bytes;
use futures_util::FutureExt;
use std::ops::Range;
use terrace_core::bus::{Bus, BusEvents, Incarnation, NodeId, Reassertion};
use terrace_core::remote::RemoteResult;
use terrace_core::{Key, Namespace, Partition, Version};

impl Bus for Redis {
    fn node(&self) -> NodeId {
        NodeId(self.settings().node_id)
    }

    fn partitions(&self) -> u16 {
        self.settings().partitions
    }

    fn listen(&self) -> BusEvents {
        listener::listen(self.topology().aside(), self.commands().clone(), self.joined().subscribe())
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
        Box::pin(async move {
            let map = self.topology().map(self.settings().write_timeout).await?;
            let beats = map.shards.iter().map(|shard| self.commands().beat(shard.tag, number)).collect();
            self.change_many(beats).await.map(drop)
        })
    }

    fn counters<'a>(
        &'a self,
        namespace: &'a Namespace,
        partitions: Range<u16>,
    ) -> RemoteResult<'a, Vec<Version>> {
        let partitions: Vec<Partition> = partitions.map(Partition).collect();
        let read = self.read(self.commands().counters(namespace, &partitions));
        read.map(|replies| replies?.iter().map(replies::counter).collect()).boxed()
    }

    fn changes_since<'a>(
        &'a self,
        namespace: &'a Namespace,
        after: &'a [(Partition, Version)],
    ) -> RemoteResult<'a, Vec<Vec<Bytes>>> {
        let read = self.read(self.commands().changes_since(namespace, after));
        read.map(|replies| replies?.into_iter().map(replies::logged).collect()).boxed()
    }

    fn refresh<'a>(&'a self, namespace: &'a Namespace, key: &'a Key) -> RemoteResult<'a, Version> {
        let command = self.commands().refresh(namespace, key);
        Box::pin(async move { replies::version(&self.change(command).await?) })
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
            let fit = Fit::of(&self.commands().names, namespace, on);
            self.change_on(&fit, commands).await?;
            for rule in rules {
                self.sweep_on(&fit, namespace, rule).await?;
            }
            Ok(())
        })
    }
}
