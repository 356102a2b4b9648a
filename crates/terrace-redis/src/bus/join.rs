//! What comes before a namespace is told as joined?
//!
//! 1. All its channels are subscribed to, then its counters are read over the same connection: whatever is published after
//!    the reading is heard.
//! 2. Counters that were last greeted by another incarnation of the server are raised, over the same connection too. What is
//!    told of them is what they were raised to, in one step with the reading.
//! 3. A partition without a counter is told as zero and left alone: there is nothing in it to be raised above, and a counter
//!    that is made later begins high enough.

use crate::call;
use crate::commands::Commands;
use crate::incarnation;
use crate::link::{Again, Link};
use crate::remote::READ_KEYS_MAX;
use crate::replies;
use futures_util::future::try_join_all;
use std::time::Duration;
use terrace_core::bus::{BusEvent, Incarnation};
use terrace_core::{Namespace, Partition, RemoteError, Version};

/// Most channels that are subscribed to in one command.
const CHANNELS_MAX: usize = 512;

/// Joins a namespace, within `limit`, over a connection to this incarnation of the server.
pub(super) async fn join(
    link: &Link,
    limit: Duration,
    commands: &Commands,
    namespace: Namespace,
    incarnation: Incarnation,
) -> Result<BusEvent, RemoteError> {
    let names = &commands.names;
    let channels = names.partitions().map(|partition| names.channel(&namespace, partition));
    let channels: Vec<String> = channels.collect();
    let joining = async {
        for channels in channels.chunks(CHANNELS_MAX) {
            link.subscribe(channels).await?;
        }
        greet(link, commands, &namespace, incarnation).await
    };
    let counters = call::on(link, limit, joining).await?;
    let incarnations = vec![incarnation; counters.len()];
    Ok(BusEvent::Joined { namespace, counters, incarnations })
}

/// Reads the numbers of the last changes, and raises those that another incarnation gave out.
async fn greet(
    link: &Link,
    commands: &Commands,
    namespace: &Namespace,
    incarnation: Incarnation,
) -> Result<Vec<Version>, RemoteError> {
    let text = incarnation::text_of(incarnation);
    let partitions: Vec<Partition> = commands.names.partitions().collect();
    let pipelines = partitions.chunks(READ_KEYS_MAX).map(|some| commands.greeted(namespace, some));
    let pipelines: Vec<_> = pipelines.collect();
    let parts = try_join_all(pipelines.iter().map(|pipeline| link.ask(pipeline))).await?;
    let read = parts.into_iter().flatten().map(|reply| replies::greeted(reply, &text));
    let read = read.collect::<Result<Vec<_>, _>>()?;
    let is_strange = |(number, is_greeted): &(Version, bool)| *number != Version::ZERO && !is_greeted;
    let strangers: Vec<Partition> =
        partitions.iter().zip(&read).filter(|(_, read)| is_strange(read)).map(|(one, _)| *one).collect();
    let mut counters: Vec<Version> = read.into_iter().map(|(number, _)| number).collect();
    if strangers.is_empty() {
        return Ok(counters);
    }
    link.load_scripts().await?;
    for some in strangers.chunks(READ_KEYS_MAX) {
        let replies = link.run(&commands.hello(namespace, some, &text), Again::Undone).await?;
        for (partition, reply) in some.iter().zip(&replies) {
            counters[usize::from(partition.0)] = replies::hello(reply)?;
        }
    }
    Ok(counters)
}
