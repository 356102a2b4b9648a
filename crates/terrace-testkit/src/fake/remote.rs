//! The calls: each takes effect on the server as a whole.

use super::server::Server;
use super::{FakeRemote, Operation};
use std::sync::atomic::Ordering;
use std::time::Duration;
use terrace_core::envelope::Sealed;
use terrace_core::remote::{
    BoxFuture, Compared, Delayed, Due, Expected, FillOutcome, Generation, Invalidated, Lease, LeaseOutcome,
    LeaseToken, ListPlace, Listed, Names, Remote, RemoteError, RemoteHealth, RemoteResult, ServerTime,
    SharedSettings, Stored, Sweep, SweepRule, Swept, Validity,
};
use terrace_core::{Bus, Key, Namespace, Tag, Ttl, Version};

/// The deadline of a call that nobody gives up.
const NEVER: ServerTime = ServerTime(u64::MAX);

impl FakeRemote {
    /// [`Remote::set`] that is too late from this time of the server on, as an adapter sends it whose callers give up.
    pub fn set_before<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        (value, ttl): (Sealed, Ttl),
        deadline: ServerTime,
    ) -> RemoteResult<'a, Version> {
        let (namespace, key) = (namespace.clone(), key.clone());
        Box::pin(self.call(Operation::Set, move |server, node| {
            server.set(&namespace, &key, (&value, ttl, deadline), node.caller())
        }))
    }

    /// [`Remote::set_many`] of which each is too late from this time of the server on. If some are, and some are not, it fails
    /// as one that may have taken effect.
    pub fn set_many_before<'a>(
        &'a self,
        namespace: &'a Namespace,
        entries: Vec<(Key, Sealed, Ttl)>,
        deadline: ServerTime,
    ) -> RemoteResult<'a, Vec<Version>> {
        let namespace = namespace.clone();
        Box::pin(self.call(Operation::SetMany, move |server, node| {
            let set = |(key, value, ttl): &(Key, Sealed, Ttl)| {
                server.set(&namespace, key, (value, *ttl, deadline), node.caller())
            };
            let all: Vec<_> = entries.iter().map(set).collect();
            match all.iter().filter(|one| one.is_ok()).count() {
                done if (1..all.len()).contains(&done) => {
                    Err(RemoteError::Broken { reason: "a part was late".to_owned() })
                }
                _ => all.into_iter().collect(),
            }
        }))
    }
}

impl Remote for FakeRemote {
    fn bus(&self) -> Option<&dyn Bus> {
        self.has_bus().then_some(self)
    }

    fn open_with<'a>(
        &'a self,
        namespace: &'a Namespace,
        settings: &'a SharedSettings,
    ) -> RemoteResult<'a, ()> {
        let (namespace, record) = (namespace.clone(), settings.record(self.node.partitions));
        let open = move |server: &mut Server, node: &Self| server.open(&namespace, &record, node.caller());
        Box::pin(self.call(Operation::Open, open))
    }

    fn forget_settings<'a>(&'a self, namespace: &'a Namespace) -> RemoteResult<'a, ()> {
        let namespace = namespace.clone();
        Box::pin(self.call(Operation::ForgetSettings, move |server, _| {
            server.forget_settings(&namespace);
            Ok(())
        }))
    }

    fn get<'a>(&'a self, namespace: &'a Namespace, key: &'a Key) -> RemoteResult<'a, Option<Stored>> {
        let (namespace, key) = (namespace.clone(), key.clone());
        Box::pin(
            self.call(Operation::Get, move |server, node| Ok(server.get(&namespace, &key, node.caller()))),
        )
    }

    fn get_many<'a>(
        &'a self,
        namespace: &'a Namespace,
        keys: &'a [Key],
    ) -> RemoteResult<'a, Vec<Option<Stored>>> {
        let (namespace, keys) = (namespace.clone(), keys.to_vec());
        Box::pin(self.call(Operation::GetMany, move |server, node| {
            Ok(keys.iter().map(|key| server.get(&namespace, key, node.caller())).collect())
        }))
    }

    fn validate<'a>(
        &'a self,
        namespace: &'a Namespace,
        asked: &'a [(Key, Version)],
    ) -> RemoteResult<'a, Vec<Validity>> {
        let (namespace, asked) = (namespace.clone(), asked.to_vec());
        Box::pin(self.call(Operation::Validate, move |server, node| {
            let judge = |(key, known): &(Key, Version)| {
                Validity::of(server.get(&namespace, key, node.caller()).as_ref(), *known)
            };
            Ok(asked.iter().map(judge).collect())
        }))
    }

    fn settle<'a>(
        &'a self,
        namespace: &'a Namespace,
        asked: &'a [(Key, Version)],
    ) -> RemoteResult<'a, Vec<Validity>> {
        let (namespace, asked) = (namespace.clone(), asked.to_vec());
        Box::pin(self.call(Operation::Settle, move |server, node| {
            let judge = |(key, known): &(Key, Version)| {
                server.end_lease(&namespace, key, node.caller());
                Validity::of(server.get(&namespace, key, node.caller()).as_ref(), *known)
            };
            Ok(asked.iter().map(judge).collect())
        }))
    }

    fn lease<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        token: LeaseToken,
        duration: Duration,
        dead: Option<Version>,
    ) -> RemoteResult<'a, LeaseOutcome> {
        let (namespace, key) = (namespace.clone(), key.clone());
        Box::pin(self.call(Operation::Lease, move |server, node| {
            Ok(server.lease(&namespace, &key, (token, duration, dead), node.caller()))
        }))
    }

    fn renew<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        lease: &'a Lease,
        duration: Duration,
    ) -> RemoteResult<'a, bool> {
        let (namespace, key, lease) = (namespace.clone(), key.clone(), lease.clone());
        Box::pin(self.call(Operation::Renew, move |server, node| {
            Ok(server.renew(&namespace, &key, (&lease, duration), node.caller()))
        }))
    }

    fn release<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        lease: &'a Lease,
    ) -> RemoteResult<'a, ()> {
        let (namespace, key, lease) = (namespace.clone(), key.clone(), lease.clone());
        Box::pin(self.call(Operation::Release, move |server, node| {
            server.release(&namespace, &key, &lease, node.caller());
            Ok(())
        }))
    }

    fn fill<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        lease: &'a Lease,
        value: Sealed,
        ttl: Ttl,
    ) -> RemoteResult<'a, FillOutcome> {
        let (namespace, key, lease) = (namespace.clone(), key.clone(), lease.clone());
        Box::pin(self.call(Operation::Fill, move |server, node| {
            Ok(server.fill(&namespace, &key, &lease, (&value, ttl), node.caller()))
        }))
    }

    fn set<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        value: Sealed,
        ttl: Ttl,
    ) -> RemoteResult<'a, Version> {
        self.set_before(namespace, key, (value, ttl), NEVER)
    }

    fn set_many<'a>(
        &'a self,
        namespace: &'a Namespace,
        entries: Vec<(Key, Sealed, Ttl)>,
    ) -> RemoteResult<'a, Vec<Version>> {
        self.set_many_before(namespace, entries, NEVER)
    }

    fn can_compare(&self) -> bool {
        true
    }

    fn set_if<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        expected: Expected,
        value: Option<(Sealed, Ttl)>,
    ) -> RemoteResult<'a, Compared> {
        let (namespace, key) = (namespace.clone(), key.clone());
        Box::pin(self.call(Operation::SetIf, move |server, node| {
            server.set_if(&namespace, &key, expected, (value.as_ref(), NEVER), node.caller())
        }))
    }

    fn invalidate<'a>(
        &'a self,
        namespace: &'a Namespace,
        keys: &'a [Key],
    ) -> RemoteResult<'a, Vec<Invalidated>> {
        let (namespace, keys) = (namespace.clone(), keys.to_vec());
        Box::pin(self.call(Operation::Invalidate, move |server, node| {
            Ok(keys.iter().map(|key| server.invalidate(&namespace, key, node.caller())).collect())
        }))
    }

    fn sweep<'a>(&'a self, namespace: &'a Namespace, rule: &'a SweepRule) -> RemoteResult<'a, Swept> {
        let (namespace, rule) = (namespace.clone(), rule.clone());
        Box::pin(self.call(Operation::Sweep, move |server, node| {
            let sweep = node.new_sweep(rule);
            let version = server.sweep(&namespace, &sweep, node.caller())?;
            Ok(Swept { sweep, version })
        }))
    }

    fn sweeps<'a>(&'a self, namespace: &'a Namespace) -> RemoteResult<'a, Vec<Sweep>> {
        let namespace = namespace.clone();
        Box::pin(self.call(Operation::Sweeps, move |server, _| Ok(server.sweeps(&namespace))))
    }

    fn names<'a>(&'a self, namespace: &'a Namespace, rule: &'a SweepRule) -> Names<'a> {
        let (from, to) = (namespace.clone(), rule.clone());
        let named = self.call(Operation::Names, move |server, node| {
            let keys = server.keys(&from, node.shared.clock.precise());
            Ok(keys.into_iter().filter(|key| to.names(key.as_str())).collect())
        });
        Box::pin(futures_util::stream::once(named))
    }

    fn list<'a>(
        &'a self,
        namespace: &'a Namespace,
        rule: &'a SweepRule,
        from: Option<ListPlace>,
        count: u32,
    ) -> RemoteResult<'a, Option<Listed>> {
        let (namespace, rule) = (namespace.clone(), rule.clone());
        Box::pin(self.call(Operation::List, move |server, node| {
            Ok(server.list(&namespace, &rule, from, count, node.shared.incarnation().0, node.caller()))
        }))
    }

    fn reap<'a>(
        &'a self,
        namespace: &'a Namespace,
        sweep: &'a Sweep,
        keys: &'a [Key],
    ) -> RemoteResult<'a, u64> {
        let (namespace, sweep, keys) = (namespace.clone(), sweep.clone(), keys.to_vec());
        Box::pin(self.call(Operation::Reap, move |server, node| {
            Ok(server.reap(&namespace, &sweep, &keys, node.caller()))
        }))
    }

    fn retire<'a>(&'a self, namespace: &'a Namespace, sweep: &'a Sweep) -> RemoteResult<'a, ()> {
        let (namespace, sweep) = (namespace.clone(), sweep.clone());
        Box::pin(self.call(Operation::Retire, move |server, _| {
            server.retire(&namespace, &sweep);
            Ok(())
        }))
    }

    fn delay<'a>(
        &'a self,
        namespace: &'a Namespace,
        invalidations: &'a [Delayed],
        after: Duration,
    ) -> RemoteResult<'a, ()> {
        let (namespace, invalidations) = (namespace.clone(), invalidations.to_vec());
        Box::pin(self.call(Operation::Delay, move |server, node| {
            server.delay(&namespace, invalidations, after, node.caller())
        }))
    }

    fn due<'a>(&'a self, namespace: &'a Namespace) -> RemoteResult<'a, Due> {
        let namespace = namespace.clone();
        Box::pin(self.call(Operation::Due, move |server, node| Ok(server.due(&namespace, node.caller()))))
    }

    fn done<'a>(&'a self, namespace: &'a Namespace, invalidations: &'a [Delayed]) -> RemoteResult<'a, ()> {
        let (namespace, invalidations) = (namespace.clone(), invalidations.to_vec());
        Box::pin(self.call(Operation::Done, move |server, _| {
            server.done(&namespace, &invalidations);
            Ok(())
        }))
    }

    fn bump_tags<'a>(&'a self, namespace: &'a Namespace, tags: &'a [Tag]) -> RemoteResult<'a, Vec<Version>> {
        let (namespace, tags) = (namespace.clone(), tags.to_vec());
        Box::pin(self.call(Operation::BumpTags, move |server, node| {
            Ok(tags.iter().map(|tag| server.bump_tag(&namespace, tag, node.caller())).collect())
        }))
    }

    fn generations<'a>(
        &'a self,
        namespace: &'a Namespace,
        tags: &'a [Tag],
    ) -> RemoteResult<'a, Vec<Generation>> {
        let (namespace, tags) = (namespace.clone(), tags.to_vec());
        Box::pin(self.call(Operation::Generations, move |server, node| {
            Ok(tags.iter().map(|tag| server.generation(&namespace, tag, node.caller())).collect())
        }))
    }

    fn health(&self) -> RemoteResult<'_, RemoteHealth> {
        Box::pin(self.call(Operation::Health, |_, _| {
            Ok(RemoteHealth { round_trip: Duration::ZERO, server: "fake 1".to_owned(), warnings: Vec::new() })
        }))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.node.is_closed.store(true, Ordering::SeqCst) })
    }
}
