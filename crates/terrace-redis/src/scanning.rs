//! How are the names of all keys looked at?
//!
//! Primary by primary, step by step, each within the deadline of a read.
//!
//! 1. All steps at a primary take the same connection: on another one it might be another server, to which a cursor means
//!    nothing, and keys would be passed over.
//! 2. If slots have moved meanwhile, or another server serves, it ends with an error: names may have been passed over.

use crate::call;
use crate::commands::{Commands, SCAN_COUNT};
use crate::error;
use crate::link::Link;
use crate::replies;
use crate::sending::one;
use crate::topology::{Map, Topology};
use futures_util::stream;
use std::sync::Arc;
use terrace_core::Namespace;
use terrace_core::remote::{Names, SweepRule};

/// Where looking at names has come to.
struct Scan {
    map: Option<Arc<Map>>,
    /// Which shard of the map it is at.
    shard: usize,
    link: Option<Arc<Link>>,
    cursor: u64,
}

/// The keys that the rule names, of all values that there are.
pub(crate) fn scan<'a>(
    topology: &'a Topology,
    commands: &'a Commands,
    namespace: &'a Namespace,
    rule: &'a SweepRule,
) -> Names<'a> {
    let begin = Scan { map: None, shard: 0, link: None, cursor: 0 };
    Box::pin(stream::try_unfold(begin, move |mut scan| async move {
        let limit = topology.settings().read_timeout;
        let map = match &scan.map {
            Some(map) => Arc::clone(map),
            None => topology.map(limit).await?,
        };
        let Some(shard) = map.shards.get(scan.shard) else {
            topology.check_settled(&map, limit).await?;
            return Ok(None);
        };
        let (link, limit) = match scan.link.take() {
            Some(link) => (link, limit),
            None => call::connection(&shard.supervisor, limit).await?,
        };
        let step = one(commands.scan(namespace, rule, scan.cursor, SCAN_COUNT));
        let reply = call::on(&link, limit, link.ask(&step)).await?.pop();
        let (next, names) = replies::scanned(reply.ok_or_else(|| error::unexpected("a reply", &"none"))?)?;
        let key = |name: &Vec<u8>| commands.names.named_by(namespace, rule, name);
        let keys = names.iter().filter_map(key).collect();
        let next = match next {
            0 => Scan { map: Some(map), shard: scan.shard + 1, link: None, cursor: 0 },
            cursor => Scan { map: Some(map), link: Some(link), cursor, ..scan },
        };
        Ok(Some((keys, next)))
    }))
}
