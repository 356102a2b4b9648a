//! A cache in this process, reading through to the rows.

use super::asker::{Answer, Asker};
use super::rows::Rows;
use crate::failure::{Exit, Failure};
use anyhow::Context as _;
use std::sync::Arc;
use std::time::Duration;
use terrace::codec::{JsonText, RawJson};
use terrace::{Cache, Figures, Keyspace, L1, Origin, Policy, Redis, Ttl};

/// The namespace of a replay in L2: not that of a service, which may use the same Redis.
const NAMESPACE: &str = "replay-local";
/// How long the end of a cache may take.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(10);

/// What the cache is made of.
#[derive(Clone, Debug)]
pub(crate) struct LocalSettings {
    /// Entries that L1 holds.
    pub(crate) l1_entries: usize,
    /// Who is evicted from it.
    pub(crate) policy: Policy,
    /// How long a value is fresh, in every tier: this is the only node.
    pub(crate) ttl: Ttl,
    /// The second tier.
    pub(crate) redis: Option<String>,
}

/// A cache in front of the rows.
#[derive(Debug)]
pub(crate) struct LocalCache {
    cache: Cache,
    keyspace: Keyspace<String, JsonText>,
}

struct FromRows(Arc<Rows>);

impl Origin<String, JsonText> for FromRows {
    type Error = anyhow::Error;

    async fn load(&self, id: &String) -> anyhow::Result<Option<JsonText>> {
        self.0.load(id).await?.map(JsonText::new).transpose().context("the row is not JSON")
    }
}

impl LocalCache {
    /// Makes the cache. With an L2, that must answer: a replay without it would not measure what was asked for.
    pub(crate) async fn new(settings: &LocalSettings, rows: Arc<Rows>) -> anyhow::Result<Self> {
        let l1 = L1::entries(settings.l1_entries).policy(settings.policy).ttl(settings.ttl);
        let mut builder = Cache::builder().l1(l1);
        if let Some(url) = &settings.redis {
            let redis = Redis::url(url).and_then(terrace::RedisBuilder::build);
            builder = builder.l2(redis.map_err(|error| Failure::usage("--redis makes no sense").why(error))?);
        }
        let cache = builder.build()?;
        if let Some(Err(error)) = cache.health().await.l2 {
            return Err(Failure::new(Exit::Unavailable, "the Redis of --redis does not answer")
                .why(error)
                .next("start it, or leave --redis out")
                .into());
        }
        let keyspace = cache.keyspace(NAMESPACE).ttl(settings.ttl).codec(RawJson).build()?;
        Ok(Self { cache, keyspace: keyspace.with_origin(FromRows(rows)) })
    }

    /// Empties it, L2 included.
    pub(crate) async fn clear(&self) -> anyhow::Result<()> {
        self.keyspace.clear().await?;
        Ok(())
    }

    /// One worker.
    pub(crate) fn asker(&self) -> LocalAsker {
        LocalAsker(self.keyspace.clone())
    }

    /// What it counted.
    pub(crate) fn figures(&self) -> Figures {
        self.cache.stats().total
    }

    /// Ends it.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        Ok(self.cache.shutdown(SHUTDOWN_PATIENCE).await?)
    }
}

/// One worker of a replay in this process.
#[derive(Debug)]
pub(crate) struct LocalAsker(Keyspace<String, JsonText>);

impl Asker for LocalAsker {
    async fn ask(&mut self, id: &str) -> anyhow::Result<Option<Answer>> {
        let entry = self.0.get_entry(id).await?;
        Ok(entry.map(|entry| Answer { tier: entry.tier, value: entry.value.as_bytes().clone() }))
    }
}
