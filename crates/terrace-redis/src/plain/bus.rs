//! How does a node hear of changes where messages are no chain?
//!
//! Channels, connections, beats and the order of what is told are those of the other mode ([`crate::bus`]).
//!
//! 1. A message follows on nothing. There are no counters and no logs to read, and who joins anew has missed what came between.
//! 2. A namespace is greeted over the connection that listens, after its channels are subscribed to: if another incarnation
//!    of the server was the last to be noted, its epoch ends, so every lease from before is void.
//! 3. A beat removes something that is never there. That is a change, so a server which is not a primary refuses it, and needs
//!    no memory. A server without memory refuses transactions: then it is told of once the change was acknowledged, which proves
//!    as much, for all that was acknowledged before is older than that change.

use super::PlainRedis;
use super::numbers::{asking_last, score, time};
use super::steps::{exactly, is_out_of_memory};
use crate::bus::listener;
use crate::commands::named;
use crate::incarnation;
use crate::keys::Names;
use crate::link::{Link, text};
use crate::sending::one;
use redis::{Pipeline, Value};
use std::ops::Range;
use terrace_core::bus::{Bus, BusEvents, Change, Incarnation, NodeId, Reassertion};
use terrace_core::remote::RemoteResult;
use terrace_core::{Key, Namespace, Partition, RemoteError, Version};

/// Greets a namespace by the server's incarnation. Returns the last number that was given out, for each partition.
pub(crate) async fn greet(
    link: &Link,
    names: &Names,
    namespace: &Namespace,
    partitions: &[Partition],
    on: Incarnation,
) -> Result<Vec<Version>, RemoteError> {
    let mut known = named("HGET", names.state(namespace));
    known.arg("inc");
    let mut asking = Pipeline::with_capacity(3);
    asking.add_command(known).add_command(asking_last(names, namespace)).cmd("TIME");
    let [known, last, now] = exactly(link.ask(&asking).await?)?;
    let on = incarnation::text_of(on);
    if text(&known) != Some(on.as_str()) {
        link.ask(&one(named("DEL", names.epoch(namespace)))).await?;
        let mut note = named("HSET", names.state(namespace));
        note.arg("inc").arg(on);
        match link.ask(&one(note)).await {
            // Without memory for it the next one greets again.
            Ok(_) | Err(RemoteError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let last = if last == Value::Nil { 0 } else { score(&last)? };
    Ok(vec![Version::from(last.max(time(&now)?.0)); partitions.len()])
}

impl Bus for PlainRedis {
    fn node(&self) -> NodeId {
        NodeId(self.settings().node_id)
    }

    fn partitions(&self) -> u16 {
        self.settings().partitions
    }

    fn is_chained(&self) -> bool {
        false
    }

    fn listen(&self) -> BusEvents {
        listener::listen(self.0.topology.aside(), self.0.commands.clone(), self.0.joined.subscribe())
    }

    fn join(&self, namespace: &Namespace) {
        self.0.joined.send_if_modified(|joined| {
            let is_new = !joined.contains(namespace);
            if is_new {
                joined.push(namespace.clone());
            }
            is_new
        });
    }

    fn beat(&self, number: u64) -> RemoteResult<'_, ()> {
        Box::pin(async move {
            let name = self.names().beat(None, &self.0.commands.origin);
            let mut told = named("PUBLISH", &name);
            told.arg(number);
            let change = named("DEL", &name);
            match self.make_one(vec![change.clone(), told.clone()]).await {
                Err(error) if is_out_of_memory(&error) => {}
                made => return made.map(drop),
            }
            self.change(vec![change]).await?;
            self.change(vec![told]).await.map(drop)
        })
    }

    fn counters<'a>(&'a self, _: &'a Namespace, partitions: Range<u16>) -> RemoteResult<'a, Vec<Version>> {
        Box::pin(async move { Ok(partitions.map(|_| Version::ZERO).collect()) })
    }

    fn changes_since<'a>(
        &'a self,
        _: &'a Namespace,
        after: &'a [(Partition, Version)],
    ) -> RemoteResult<'a, Vec<Vec<bytes::Bytes>>> {
        Box::pin(async move { Ok(vec![Vec::new(); after.len()]) })
    }

    fn refresh<'a>(&'a self, namespace: &'a Namespace, key: &'a Key) -> RemoteResult<'a, Version> {
        Box::pin(self.within(self.settings().write_timeout, async move {
            let (numbers, _) = self.numbers(None, namespace, 1, &[]).await?;
            let partition = self.names().partition_of(namespace, key.as_str());
            let change = named("DEL", self.names().beat(None, &self.0.commands.origin));
            let told = self.publish(namespace, partition, numbers.at(0), Change::Refresh(key.clone()));
            self.make_one(vec![change, told]).await?;
            Ok(numbers.at(0))
        }))
    }

    fn reassert<'a>(
        &'a self,
        namespace: &'a Namespace,
        changes: &'a [Reassertion],
        on: &'a [Incarnation],
    ) -> RemoteResult<'a, ()> {
        Box::pin(async move {
            let on = on.first().copied();
            let (mut keys, mut tags, mut rules) = (Vec::new(), Vec::new(), Vec::new());
            for change in changes {
                match change {
                    Reassertion::Key { key, number } => keys.push((key, *number)),
                    Reassertion::Tag(tag) => tags.push(tag.clone()),
                    Reassertion::Sweep(rule) => rules.push(rule),
                }
            }
            self.reassert_keys(on, namespace, &keys).await?;
            self.bump(on, namespace, &tags).await?;
            for rule in rules {
                self.sweep_on(on, namespace, rule).await?;
            }
            Ok(())
        })
    }
}
