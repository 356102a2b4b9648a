//! The calls of [`Remote`], put together.
//!
//! 1. A read is one round trip: what the namespace remembers, then the values, each after the time it has left.
//! 2. A change is two: a number, then the step that makes it. Changes of one call keep their order.
//! 3. The deadline is that of the whole call, whatever it is made of; of [`Remote::names`] and of reassertions, of each step.

use super::exclusive::{Guarded, Judged};
use super::steps::{Step, exactly};
use super::{Inner, PlainRedis, state};
use crate::commands::named;
use crate::config::Mode;
use crate::error::unexpected;
use crate::listing;
use crate::reading::listed;
use crate::remote::ask_health;
use crate::replies;
use crate::scanning::scan;
use redis::{Cmd, Value};
use std::time::Duration;
use terrace_core::bus::{Bus, Change};
use terrace_core::envelope::Sealed;
use terrace_core::remote::{
    BoxFuture, Delayed, Due, FillOutcome, Generation, Invalidated, Lease, LeaseOutcome, LeaseToken,
    ListPlace, Listed, Names, RemoteHealth, RemoteResult, SettingsRecord, SharedSettings, Stored, Sweep,
    SweepRule, Swept, Validity,
};
use terrace_core::{Key, Namespace, Remote, RemoteError, Tag, Ttl, Version};

/// How often settings are read again that somebody else has just completed.
const AGREEMENTS_MAX: u32 = 4;

/// Asks for so much of a value as tells its version.
fn version(name: &str) -> Cmd {
    let mut command = named("GETRANGE", name);
    command.arg(0).arg(Sealed::VERSION_AT.end - 1);
    command
}

impl PlainRedis {
    fn writing(&self) -> Duration {
        self.settings().write_timeout
    }

    fn reading(&self) -> Duration {
        self.settings().read_timeout
    }

    /// Agrees with the other nodes: compares what is written down and completes it, unless somebody else has meanwhile. A
    /// namespace that has settings and no mode was opened by a node that knew no modes, which was a coherent one.
    async fn agree(&self, namespace: &Namespace, record: &SettingsRecord) -> Result<(), RemoteError> {
        let name = self.names().meta(namespace);
        let mut asking = named("HMGET", &name);
        let mut missing = named("HSET", &name);
        for (field, value) in record.fields() {
            asking.arg(*field);
            missing.arg(*field).arg(value);
        }
        for _ in 0..AGREEMENTS_MAX {
            let judge = |read: Vec<Value>, _| {
                let [there] = exactly(read)?;
                let mut there = replies::settings(there)?;
                let is_written = there.iter().any(Option::is_some);
                if let Some(mode) = there.last_mut().filter(|mode| mode.is_none() && is_written) {
                    *mode = Some(Mode::Coherent.word().to_owned());
                }
                record.check(namespace, &there)?;
                let is_whole = there.iter().all(Option::is_some);
                Ok(if is_whole { Judged::Leave(()) } else { Judged::Change(vec![missing.clone()], ()) })
            };
            let agreed =
                self.guarded(None, std::slice::from_ref(&name), std::slice::from_ref(&asking), judge);
            if !matches!(agreed.await?, Guarded::Overtaken) {
                return Ok(());
            }
        }
        let reason = format!("the settings of namespace `{namespace}` are changed as fast as they are read");
        Err(RemoteError::Broken { reason })
    }

    /// What `read` reads of each value that is not dead.
    async fn read_alive(
        &self,
        namespace: &Namespace,
        keys: &[&Key],
        read: impl Fn(&str) -> Cmd,
    ) -> Result<Vec<Option<Stored>>, RemoteError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let asking = keys.iter().flat_map(|key| {
            let name = self.names().value(namespace, key);
            [named("PTTL", &name), read(&name)]
        });
        let asking: Vec<Cmd> =
            std::iter::once(state::asking(self.names(), namespace)).chain(asking).collect();
        let mut replies = self.read(asking).await?.into_iter();
        let rules = state::rules(&replies.next().unwrap_or(Value::Nil))?;
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            let (Some(ttl), Some(value)) = (replies.next(), replies.next()) else {
                return Err(unexpected("a reply for each key", &found.len()));
            };
            let stored = replies::stored(&ttl, value)?;
            found.push(stored.filter(|stored| !rules.kill(key.as_str(), stored)));
        }
        Ok(found)
    }

    async fn get_all(&self, namespace: &Namespace, keys: &[Key]) -> Result<Vec<Option<Stored>>, RemoteError> {
        let keys: Vec<&Key> = keys.iter().collect();
        self.read_alive(namespace, &keys, |name| named("GET", name)).await
    }

    async fn validate_all(
        &self,
        namespace: &Namespace,
        asked: &[(Key, Version)],
    ) -> Result<Vec<Validity>, RemoteError> {
        let keys: Vec<&Key> = asked.iter().map(|(key, _)| key).collect();
        let found = self.read_alive(namespace, &keys, version).await?;
        let judge = |(found, (_, known)): (Option<Stored>, &(Key, Version))| {
            // A part of nothing is no bytes.
            Validity::of(found.filter(|stored| !stored.bytes.is_empty()).as_ref(), *known)
        };
        Ok(found.into_iter().zip(asked).map(judge).collect())
    }

    async fn list_page(
        &self,
        namespace: &Namespace,
        rule: &SweepRule,
        from: Option<ListPlace>,
        count: u32,
    ) -> Result<Option<Listed>, RemoteError> {
        let Inner { topology, commands, .. } = &*self.0;
        let Some(page) = listing::page(topology, commands, namespace, rule, from, count).await? else {
            return Ok(None);
        };
        let keys: Vec<&Key> = page.keys.iter().collect();
        let found = self.read_alive(namespace, &keys, version).await?;
        Ok(Some(Listed { entries: listed(page.keys, found), next: page.next }))
    }

    async fn set_all(
        &self,
        namespace: &Namespace,
        entries: &[(&Key, &Sealed, Ttl)],
    ) -> Result<Vec<Version>, RemoteError> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let (numbers, _) = self.numbers(None, namespace, entries.len(), &[]).await?;
        let set = |(index, (key, value, ttl)): (usize, &(&Key, &Sealed, Ttl))| {
            let number = numbers.at(index);
            match self.storing(namespace, key, value, number, *ttl) {
                Some(store) => self.changing(namespace, key, number, store, Change::Set((*key).clone())),
                None => self.removing(namespace, key, number),
            }
        };
        let steps: Vec<Step> = entries.iter().enumerate().map(set).collect();
        self.make(&steps).await?;
        Ok((0..entries.len()).map(|index| numbers.at(index)).collect())
    }

    async fn invalidate_all(
        &self,
        namespace: &Namespace,
        keys: &[Key],
    ) -> Result<Vec<Invalidated>, RemoteError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let numbers = self.numbers_of_removal(namespace, keys.len()).await?;
        let removing = |(index, key): (usize, &Key)| self.removing(namespace, key, numbers.at(index));
        let steps: Vec<Step> = keys.iter().enumerate().map(removing).collect();
        let made = self.make_removal(&steps).await?;
        let invalidated = |(index, made): (usize, &Vec<Value>)| {
            let existed = replies::count(made.get(1).unwrap_or(&Value::Nil))? > 0;
            Ok(Invalidated { version: numbers.at(index), existed })
        };
        made.iter().enumerate().map(invalidated).collect()
    }

    /// A change of a key: the end of its lease, itself, and what is told of it.
    fn changing(&self, namespace: &Namespace, key: &Key, number: Version, change: Cmd, told: Change) -> Step {
        let partition = self.names().partition_of(namespace, key.as_str());
        let void = named("DEL", self.names().lease(namespace, key));
        vec![void, change, self.publish(namespace, partition, number, told)]
    }

    fn removing(&self, namespace: &Namespace, key: &Key, number: Version) -> Step {
        let remove = named("DEL", self.names().value(namespace, key));
        self.changing(namespace, key, number, remove, Change::Invalidate(key.clone()))
    }

    async fn ask_health(&self) -> Result<RemoteHealth, RemoteError> {
        let map = self.0.topology.map(self.reading()).await?;
        let shard = map.shards.first().ok_or_else(|| unexpected("a server", &"none"))?;
        let mut health = ask_health(&shard.supervisor, self.reading()).await?;
        health.warnings.extend(Self::NOT_PROMISED.map(str::to_owned));
        let is_unknown = shard.supervisor.current().is_some_and(|link| link.incarnation().is_none());
        health.warnings.extend(is_unknown.then(|| Self::WITHOUT_INCARNATION.to_owned()));
        health.warnings.extend(shard.supervisor.warning());
        Ok(health)
    }
}

impl Remote for PlainRedis {
    fn open_with<'a>(
        &'a self,
        namespace: &'a Namespace,
        settings: &'a SharedSettings,
    ) -> RemoteResult<'a, ()> {
        Box::pin(self.within(self.writing(), async move {
            let record = settings.record(self.settings().partitions).with("mode", Mode::Plain.word());
            self.agree(namespace, &record).await?;
            self.make_floors(namespace).await
        }))
    }

    fn forget_settings<'a>(&'a self, namespace: &'a Namespace) -> RemoteResult<'a, ()> {
        let forget = named("DEL", self.names().meta(namespace));
        Box::pin(async move { self.change(vec![forget]).await.map(drop) })
    }

    fn validate<'a>(
        &'a self,
        namespace: &'a Namespace,
        asked: &'a [(Key, Version)],
    ) -> RemoteResult<'a, Vec<Validity>> {
        Box::pin(self.validate_all(namespace, asked))
    }

    fn settle<'a>(
        &'a self,
        namespace: &'a Namespace,
        asked: &'a [(Key, Version)],
    ) -> RemoteResult<'a, Vec<Validity>> {
        Box::pin(self.within(self.writing(), async move {
            self.end_leases(namespace, asked.iter().map(|(key, _)| key)).await?;
            self.validate_all(namespace, asked).await
        }))
    }

    fn get<'a>(&'a self, namespace: &'a Namespace, key: &'a Key) -> RemoteResult<'a, Option<Stored>> {
        Box::pin(async move {
            Ok(self.get_all(namespace, std::slice::from_ref(key)).await?.into_iter().next().flatten())
        })
    }

    fn get_many<'a>(
        &'a self,
        namespace: &'a Namespace,
        keys: &'a [Key],
    ) -> RemoteResult<'a, Vec<Option<Stored>>> {
        Box::pin(self.get_all(namespace, keys))
    }

    fn lease<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        token: LeaseToken,
        duration: Duration,
        dead: Option<Version>,
    ) -> RemoteResult<'a, LeaseOutcome> {
        Box::pin(self.within(self.writing(), self.ask_lease(namespace, key, token, duration, dead)))
    }

    fn renew<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        lease: &'a Lease,
        duration: Duration,
    ) -> RemoteResult<'a, bool> {
        Box::pin(self.within(self.writing(), self.renew_lease(namespace, key, lease, duration)))
    }

    fn release<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        lease: &'a Lease,
    ) -> RemoteResult<'a, ()> {
        Box::pin(self.within(self.writing(), self.release_lease(namespace, key, lease)))
    }

    fn fill<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        lease: &'a Lease,
        value: Sealed,
        ttl: Ttl,
    ) -> RemoteResult<'a, FillOutcome> {
        Box::pin(async move {
            self.within(self.writing(), self.fill_under(namespace, key, lease, &value, ttl)).await
        })
    }

    fn set<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        value: Sealed,
        ttl: Ttl,
    ) -> RemoteResult<'a, Version> {
        Box::pin(async move {
            let versions =
                self.within(self.writing(), self.set_all(namespace, &[(key, &value, ttl)])).await?;
            versions.first().copied().ok_or_else(|| unexpected("a version", &"none"))
        })
    }

    fn set_many<'a>(
        &'a self,
        namespace: &'a Namespace,
        entries: Vec<(Key, Sealed, Ttl)>,
    ) -> RemoteResult<'a, Vec<Version>> {
        Box::pin(async move {
            let entries: Vec<_> = entries.iter().map(|(key, value, ttl)| (key, value, *ttl)).collect();
            self.within(self.writing(), self.set_all(namespace, &entries)).await
        })
    }

    fn invalidate<'a>(
        &'a self,
        namespace: &'a Namespace,
        keys: &'a [Key],
    ) -> RemoteResult<'a, Vec<Invalidated>> {
        Box::pin(self.within(self.writing(), self.invalidate_all(namespace, keys)))
    }

    fn sweep<'a>(&'a self, namespace: &'a Namespace, rule: &'a SweepRule) -> RemoteResult<'a, Swept> {
        Box::pin(self.within(self.writing(), self.sweep_on(None, namespace, rule)))
    }

    fn sweeps<'a>(&'a self, namespace: &'a Namespace) -> RemoteResult<'a, Vec<Sweep>> {
        Box::pin(async move {
            let rules = self.ask_rules(namespace).await?;
            Ok(rules.all().iter().map(|(_, sweep)| sweep.clone()).collect())
        })
    }

    fn names<'a>(&'a self, namespace: &'a Namespace, rule: &'a SweepRule) -> Names<'a> {
        scan(&self.0.topology, &self.0.commands, namespace, rule)
    }

    fn list<'a>(
        &'a self,
        namespace: &'a Namespace,
        rule: &'a SweepRule,
        from: Option<ListPlace>,
        count: u32,
    ) -> RemoteResult<'a, Option<Listed>> {
        Box::pin(self.list_page(namespace, rule, from, count))
    }

    fn reap<'a>(
        &'a self,
        namespace: &'a Namespace,
        sweep: &'a Sweep,
        keys: &'a [Key],
    ) -> RemoteResult<'a, u64> {
        Box::pin(self.within(self.writing(), self.reap_keys(namespace, sweep, keys)))
    }

    fn retire<'a>(&'a self, namespace: &'a Namespace, sweep: &'a Sweep) -> RemoteResult<'a, ()> {
        Box::pin(async move {
            let mut forget = named("HDEL", self.names().state(namespace));
            forget.arg(state::field_of(sweep));
            self.make_one(vec![forget]).await.map(drop)
        })
    }

    fn delay<'a>(
        &'a self,
        namespace: &'a Namespace,
        invalidations: &'a [Delayed],
        after: Duration,
    ) -> RemoteResult<'a, ()> {
        Box::pin(self.within(self.writing(), self.note(namespace, invalidations, after)))
    }

    fn due<'a>(&'a self, namespace: &'a Namespace) -> RemoteResult<'a, Due> {
        Box::pin(self.within(self.writing(), self.take_due(namespace)))
    }

    fn done<'a>(&'a self, namespace: &'a Namespace, invalidations: &'a [Delayed]) -> RemoteResult<'a, ()> {
        Box::pin(self.within(self.writing(), self.forget(namespace, invalidations)))
    }

    fn bump_tags<'a>(&'a self, namespace: &'a Namespace, tags: &'a [Tag]) -> RemoteResult<'a, Vec<Version>> {
        Box::pin(self.within(self.writing(), self.bump(None, namespace, tags)))
    }

    fn generations<'a>(
        &'a self,
        namespace: &'a Namespace,
        tags: &'a [Tag],
    ) -> RemoteResult<'a, Vec<Generation>> {
        Box::pin(self.within(self.reading(), self.ask_generations(namespace, tags)))
    }

    fn bus(&self) -> Option<&dyn Bus> {
        Some(self)
    }

    fn health(&self) -> RemoteResult<'_, RemoteHealth> {
        Box::pin(self.ask_health())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.0.exclusive.close();
            self.0.topology.close().await;
        })
    }
}
