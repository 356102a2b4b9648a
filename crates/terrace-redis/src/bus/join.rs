//! What comes before a namespace is told as joined?
//!
//! 1. All its channels are subscribed to, each over the connection to its server, then its counters are read over the
//!    same connections: whatever is published after the reading is heard. If values are tracked, that begins before it all, at
//!    every primary, also at one that has no partition yet ([`super::tracking`]).
//! 2. Counters that were last greeted by another incarnation of the server are raised, over the same connections too. What is
//!    told of them is what they were raised to, in one step with the reading.
//! 3. A partition without a counter is told as zero and left alone: there is nothing in it to be raised above, and a counter
//!    that is made later begins high enough.

use super::tracking;
use crate::call;
use crate::commands::Commands;
use crate::config::Mode;
use crate::incarnation;
use crate::link::{Link, accept};
use crate::plain;
use crate::replies;
use crate::sending::{Sending, batches};
use crate::topology::Listening;
use futures_util::future::try_join_all;
use redis::{Cmd, Value};
use std::time::Duration;
use terrace_core::bus::{BusEvent, Incarnation};
use terrace_core::{Namespace, Partition, RemoteError, Version};

/// Most channels that are subscribed to in one command.
const CHANNELS_MAX: usize = 512;

/// Joins a namespace, within `limit`.
pub(super) async fn join(
    listening: &Listening,
    limit: Duration,
    commands: &Commands,
    namespace: Namespace,
) -> Result<BusEvent, RemoteError> {
    let count = usize::from(commands.names.partition_count());
    let (mut counters, mut incarnations) = (vec![Version::ZERO; count], vec![Incarnation(0); count]);
    let parts = listening.parts(commands, &namespace)?;
    let joining = parts.iter().map(|part| {
        let joined = async {
            if listening.is_tracking() {
                let tracked = tracking::begin(part.link, &commands.names.tracked(&namespace)).await;
                listening.note_tracking(tracked.as_ref().err());
                tracked?;
            }
            join_part(part.link, commands, &namespace, &part.partitions, part.incarnation).await
        };
        call::on(part.link, limit, joined)
    });
    for (part, found) in parts.iter().zip(try_join_all(joining).await?) {
        for (partition, counter) in part.partitions.iter().zip(found) {
            counters[usize::from(partition.0)] = counter;
            incarnations[usize::from(partition.0)] = part.incarnation;
        }
    }
    Ok(BusEvent::Joined { namespace, counters, incarnations })
}

/// Joins the partitions that one server has.
async fn join_part(
    link: &Link,
    commands: &Commands,
    namespace: &Namespace,
    partitions: &[Partition],
    incarnation: Incarnation,
) -> Result<Vec<Version>, RemoteError> {
    let channels = partitions.iter().map(|partition| commands.names.channel(namespace, *partition));
    let channels: Vec<String> = channels.collect();
    for channels in channels.chunks(CHANNELS_MAX) {
        link.subscribe(channels).await?;
    }
    match commands.mode {
        Mode::Coherent => greet(link, commands, namespace, partitions, incarnation).await,
        Mode::Plain => plain::greet(link, &commands.names, namespace, partitions, incarnation).await,
    }
}

/// Reads the numbers of the last changes, and raises those that another incarnation gave out.
async fn greet(
    link: &Link,
    commands: &Commands,
    namespace: &Namespace,
    partitions: &[Partition],
    incarnation: Incarnation,
) -> Result<Vec<Version>, RemoteError> {
    let text = incarnation::text_of(incarnation);
    let replies = exchange(link, commands.greeted(namespace, partitions), Sending::Reads).await?;
    let read = replies.into_iter().map(|reply| replies::greeted(reply, &text));
    let read = read.collect::<Result<Vec<_>, _>>()?;
    let is_strange = |(number, is_greeted): &(Version, bool)| *number != Version::ZERO && !is_greeted;
    let strangers: Vec<usize> = (0..read.len()).filter(|index| is_strange(&read[*index])).collect();
    let mut counters: Vec<Version> = read.into_iter().map(|(number, _)| number).collect();
    if strangers.is_empty() {
        return Ok(counters);
    }
    link.load_scripts().await?;
    let greeted: Vec<Partition> = strangers.iter().map(|&index| partitions[index]).collect();
    let replies = exchange(link, commands.hello(namespace, &greeted, &text), Sending::Changes).await?;
    for (index, reply) in strangers.into_iter().zip(&replies) {
        counters[index] = replies::hello(reply)?;
    }
    Ok(counters)
}

async fn exchange(link: &Link, commands: Vec<Cmd>, sending: Sending) -> Result<Vec<Value>, RemoteError> {
    accept(link.exchange(&batches(commands, sending), sending).await?)
}
