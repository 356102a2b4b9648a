//! Who is asked for the map, and when?
//!
//! 1. Sentinels are all asked, and the one that has seen the latest election is believed. Whoever it names is spoken to only
//!    if it says itself that it is the primary. The primary of an earlier election than one that was heard of is not gone back to,
//!    although it may answer sooner, unless all sentinels agree that there was no later one: they were set up anew.
//!    The sentinel that leads a failover counts the election before it puts the winner's address beside the number, and goes on so until
//!    all replicas have followed. While it does it is asked whom it would name, too.
//! 2. Of a Cluster a few members are asked. One that finds the Cluster down is believed only if there is no map yet: it may
//!    be cut off from the others.
//! 3. It is asked at intervals; at once when a connection is lost or a server sends us elsewhere; and again and again, after
//!    pauses that grow, while there is a shard without a connection.

use super::slots::{self, Owners, SLOTS};
use super::{Map, State};
use crate::config::{Address, Servers, Settings};
use crate::error::{self, unexpected};
use crate::link::{Link, text};
use crate::sending::one;
use crate::supervisor::{Backoff, in_time, pause};
use crate::tls;
use futures_util::StreamExt;
use futures_util::future::{FutureExt, select_ok};
use futures_util::stream::FuturesUnordered;
use redis::{Client, RedisResult, Value};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::RemoteError;

/// How often sentinels are asked while all is well: so soon a primary is left that they have replaced, and we have not
/// lost.
const SENTINEL_INTERVAL: Duration = Duration::from_secs(1);
/// How often a Cluster is asked while all is well. What changes is also told by redirections.
const CLUSTER_INTERVAL: Duration = Duration::from_secs(5);
/// The least time between two questions.
const AGAIN: Duration = Duration::from_millis(20);
/// How long one of several that are asked may take to answer, once it is connected.
const PATIENCE: Duration = Duration::from_millis(500);
/// How many members of a Cluster are asked at a time.
const ASKED: usize = 3;

/// What is known of the sentinels.
#[derive(Default)]
struct Sentinels {
    /// The connections to those that have answered.
    kept: HashMap<Address, Arc<Link>>,
    /// The number of the latest election that was heard of.
    epoch: u64,
}

/// Draws the map, until it is aborted.
pub(super) async fn discover(state: Arc<State>) {
    let mut known = Sentinels::default();
    let mut backoff = Backoff::default();
    let interval = if state.settings.servers.is_cluster() { CLUSTER_INTERVAL } else { SENTINEL_INTERVAL };
    loop {
        let found = match &state.settings.servers {
            Servers::One(_) => return,
            Servers::Sentinel { primary, sentinels } => {
                of_sentinels(&state.settings, primary, sentinels, &mut known).await
            }
            Servers::Cluster(members) => of_cluster(&state, members).await,
        };
        if let Err(error) = found.and_then(|found| state.adopt(&found)) {
            tracing::debug!(%error, "the map of L2 could not be drawn");
            state.failed(error);
        }
        for shard in &state.map.load().shards {
            shard.supervisor.start().ok();
        }
        let rest = if state.map.load().is_whole() {
            backoff = Backoff::default();
            interval
        } else {
            backoff.next()
        };
        tokio::select! {
            () = state.doubt.notified() => pause(AGAIN).await,
            () = pause(rest) => {}
        }
    }
}

/// What `client` makes for an address, connected.
async fn connect(
    settings: &Settings,
    address: &Address,
    client: fn(&Settings, &Address) -> RedisResult<Client>,
) -> Result<Arc<Link>, RemoteError> {
    let client =
        client(settings, address).map_err(|error| error::of_opening(address, &error, settings.mode))?;
    in_time(settings, address, Link::asking(&client, address, settings)).await.map(Arc::new)
}

/// Waits for an answer for a while.
async fn patiently<T>(
    address: &Address,
    asking: impl Future<Output = Result<T, RemoteError>>,
) -> Result<T, RemoteError> {
    let answer = tokio::time::timeout(PATIENCE, asking).await;
    answer.unwrap_or_else(|_| Err(RemoteError::Unavailable { reason: format!("{address} does not answer") }))
}

/// The primary of this name, as the sentinel sees it that has seen the latest election.
async fn of_sentinels(
    settings: &Settings,
    primary: &str,
    sentinels: &[Address],
    known: &mut Sentinels,
) -> Result<Owners, RemoteError> {
    let Sentinels { kept, epoch: latest } = known;
    kept.retain(|_, link| !link.is_lost());
    let asked = sentinels.iter().map(|address| {
        let kept = kept.get(address).map(Arc::clone);
        async move { (address, ask_sentinel(settings, primary, address, kept).await) }
    });
    let mut asked: FuturesUnordered<_> = asked.collect();
    let (mut newest, mut answered): (Option<(u64, Address)>, usize) = (None, 0);
    let mut failure = RemoteError::Unavailable { reason: "there is no sentinel".to_owned() };
    loop {
        let (address, answer) = tokio::select! {
            biased;
            answer = asked.next() => match answer {
                Some(answer) => answer,
                None => break,
            },
            // Whoever has not answered by now is not waited for: one answer is there.
            () = pause(PATIENCE), if newest.is_some() => break,
        };
        match answer {
            Ok((link, epoch, found)) => {
                kept.insert(address.clone(), link);
                answered += 1;
                if newest.as_ref().is_none_or(|(newest, _)| epoch > *newest) {
                    newest = Some((epoch, found));
                }
            }
            Err(error) => {
                kept.remove(address);
                failure = error;
            }
        }
    }
    let (epoch, found) = newest.ok_or(failure)?;
    if epoch < *latest && answered < sentinels.len() {
        let reason = format!(
            "the sentinels that answer have not heard of election {latest}, which made another the primary"
        );
        return Err(RemoteError::Unavailable { reason });
    }
    *latest = epoch;
    Ok(vec![(0..=SLOTS - 1, found)])
}

/// Whom a sentinel names, the number of the election that made it the primary, and the connection to ask again.
async fn ask_sentinel(
    settings: &Settings,
    primary: &str,
    address: &Address,
    kept: Option<Arc<Link>>,
) -> Result<(Arc<Link>, u64, Address), RemoteError> {
    let link = match kept {
        Some(link) => link,
        None => connect(settings, address, tls::sentinel).await?,
    };
    let mut command = redis::cmd("SENTINEL");
    command.arg("MASTER").arg(primary);
    let command = one(command);
    let answer = patiently(address, link.ask(&command)).await.map_err(|error| naming(address, error))?;
    let (mut epoch, mut found) = elected(answer.first())?;
    if is_failing_over(answer.first()) {
        let mut both = redis::pipe();
        both.cmd("SENTINEL").arg("MASTER").arg(primary);
        both.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(primary);
        let answers = patiently(address, link.ask(&both)).await.map_err(|error| naming(address, error))?;
        epoch = elected(answers.first())?.0;
        found = named(answers.get(1))?;
    }
    Ok((link, epoch, found))
}

fn naming(address: &Address, error: RemoteError) -> RemoteError {
    match error {
        RemoteError::Protocol { reason } => {
            RemoteError::Refused { reason: format!("the sentinel at {address} says: {reason}") }
        }
        other => other,
    }
}

/// The number of the election that made it one, and the primary itself.
fn elected(answer: Option<&Value>) -> Result<(u64, Address), RemoteError> {
    let Some(Value::Map(fields)) = answer else { return Err(unexpected("what a sentinel knows", &answer)) };
    let field = |name: &str| {
        fields.iter().find_map(|(key, value)| (text(key) == Some(name)).then(|| text(value)).flatten())
    };
    let found = (|| {
        let port = field("port")?.parse().ok().filter(|port| *port > 0)?;
        let epoch = field("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
        Some((epoch, Address { host: field("ip")?.to_owned(), port }))
    })();
    found.ok_or_else(|| unexpected("the address of a primary", &fields))
}

/// Whether the sentinel that says this leads a failover.
fn is_failing_over(answer: Option<&Value>) -> bool {
    let Some(Value::Map(fields)) = answer else { return false };
    let flags = fields.iter().find(|(key, _)| text(key) == Some("flags"));
    let flags = flags.and_then(|(_, flags)| text(flags)).unwrap_or_default();
    flags.split(',').any(|flag| flag == "failover_in_progress")
}

/// The primary that is named to whoever asks for it.
fn named(answer: Option<&Value>) -> Result<Address, RemoteError> {
    let found = match answer {
        Some(Value::Array(parts)) => match parts.as_slice() {
            [host, port] => text(host).zip(text(port).and_then(|port| port.parse().ok())),
            _ => None,
        },
        _ => None,
    };
    let found = found.filter(|(_, port)| *port > 0);
    let found = found.map(|(host, port)| Address { host: host.to_owned(), port });
    found.ok_or_else(|| unexpected("the address of a primary", &answer))
}

/// Who owns which slots, as some member of the Cluster sees it.
async fn of_cluster(state: &State, seeds: &[Address]) -> Result<Owners, RemoteError> {
    let map = state.map.load_full();
    let links = map.shards.iter().filter_map(|shard| shard.supervisor.current());
    let known = links.map(|link| (link.address().clone(), Some(link)));
    let mut members: Vec<(Address, Option<Arc<Link>>)> = known.collect();
    let turn = getrandom::u32().unwrap_or_default() as usize % members.len().max(1);
    members.rotate_left(turn);
    for address in map.addresses().iter().chain(seeds) {
        if !members.iter().any(|(known, _)| known == address) {
            members.push((address.clone(), None));
        }
    }
    let mut failure = RemoteError::Unavailable { reason: "the Cluster has no members".to_owned() };
    for members in members.chunks(ASKED) {
        let asked =
            members.iter().map(|(address, link)| of_member(state, &map, address, link.clone()).boxed());
        match select_ok(asked).await {
            Ok((found, _)) => return Ok(found),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn of_member(
    state: &State,
    map: &Map,
    address: &Address,
    link: Option<Arc<Link>>,
) -> Result<Owners, RemoteError> {
    let link = match link {
        Some(link) => link,
        None => connect(&state.settings, address, tls::client).await?,
    };
    let mut pipeline = redis::pipe();
    pipeline.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("SLOTS");
    let answers = patiently(address, link.ask(&pipeline)).await?;
    let [info, owners] = answers.as_slice() else { return Err(unexpected("two answers", &answers)) };
    if !map.shards.is_empty() && !is_up(info) {
        return Err(RemoteError::Unavailable { reason: format!("{address} finds the Cluster down") });
    }
    let found = slots::owners(owners, address)?;
    if found.is_empty() {
        return Err(RemoteError::Unavailable { reason: format!("{address} knows of no slots") });
    }
    Ok(found)
}

fn is_up(info: &Value) -> bool {
    text(info).is_some_and(|info| info.lines().any(|line| line.trim() == "cluster_state:ok"))
}
