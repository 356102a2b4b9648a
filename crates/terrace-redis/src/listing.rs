//! How are keys looked at page by page, by callers that nothing is kept for?
//!
//! A place is four numbers: which map of the servers it belongs to, which of them, which life of that one, and its cursor.
//!
//! 1. A cursor means something to one life of one server. Where another map, another server or another life answers, the place is
//!    lost: keys might be passed over.
//! 2. A server that does not say which life it is in gives a first page, and its places are refused: nobody could tell.
//! 3. At the end the servers are asked whether slots have moved meanwhile, as [`crate::scanning`] does.

use crate::call;
use crate::commands::Commands;
use crate::error;
use crate::replies;
use crate::sending::one;
use crate::topology::{Map, Topology};
use redis::Value;
use terrace_core::remote::{ListPlace, SweepRule};
use terrace_core::{Key, Namespace, RemoteError};

/// Keys that a rule names, and where it goes on.
pub(crate) struct Page {
    pub(crate) keys: Vec<Key>,
    pub(crate) next: Option<ListPlace>,
}

/// Looks at about `count` names from a place on; `None` if the place is lost.
pub(crate) async fn page(
    topology: &Topology,
    commands: &Commands,
    namespace: &Namespace,
    rule: &SweepRule,
    from: Option<ListPlace>,
    count: u32,
) -> Result<Option<Page>, RemoteError> {
    let limit = topology.settings().read_timeout;
    let map = topology.map(limit).await?;
    let drawn = map.fingerprint();
    let ListPlace([of_map, of_shard, life, cursor]) = from.unwrap_or(ListPlace([drawn, 0, 0, 0]));
    let shard = usize::try_from(of_shard).ok().and_then(|index| map.shards.get(index));
    let Some(shard) = shard.filter(|_| of_map == drawn) else { return Ok(None) };
    let (link, limit) = call::connection(&shard.supervisor, limit).await?;
    if cursor != 0 {
        let reason =
            || "the server does not say which life it is in (`INFO`), so its cursors cannot be believed";
        let own = link.incarnation().ok_or_else(|| RemoteError::Refused { reason: reason().to_owned() })?;
        if own.0 != life {
            return Ok(None);
        }
    }
    let step = one(commands.scan(namespace, rule, cursor, count));
    let reply: Option<Value> = call::on(&link, limit, link.ask(&step)).await?.pop();
    let (next, names) = replies::scanned(reply.ok_or_else(|| error::unexpected("a reply", &"none"))?)?;
    let mut keys: Vec<Key> =
        names.iter().filter_map(|name| commands.names.named_by(namespace, rule, name)).collect();
    keys.sort_unstable();
    keys.dedup();
    let next = if next != 0 {
        Some(ListPlace([drawn, of_shard, link.incarnation().map_or(0, |own| own.0), next]))
    } else if of_shard + 1 < map.shards.len() as u64 {
        Some(ListPlace([drawn, of_shard + 1, 0, 0]))
    } else {
        return Ok(is_settled(topology, &map).await?.then_some(Page { keys, next: None }));
    };
    Ok(Some(Page { keys, next }))
}

/// Whether all slots are where the map says.
async fn is_settled(topology: &Topology, map: &Map) -> Result<bool, RemoteError> {
    match topology.check_settled(map, topology.settings().read_timeout).await {
        Ok(()) => Ok(true),
        Err(RemoteError::Broken { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
