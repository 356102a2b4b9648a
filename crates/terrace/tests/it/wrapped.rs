//! A [`FakeRemote`] with something around each call.

use std::fmt;
use std::time::Duration;
use terrace::Ttl;
use terrace_core::envelope::Sealed;
use terrace_core::remote::{
    BoxFuture, Delayed, Due, FillOutcome, Generation, Invalidated, Lease, LeaseOutcome, LeaseToken,
    ListPlace, Listed, Names, Remote, RemoteHealth, RemoteResult, SharedSettings, Stored, Sweep, SweepRule,
    Swept, Validity,
};
use terrace_core::{Bus, Key, Namespace, Tag, Version};
use terrace_testkit::fake::FakeRemote;

/// What is done around a call.
pub(crate) trait Around: fmt::Debug + Send + Sync + 'static {
    /// Around a call with one answer.
    fn one<'a, T: Send + 'a>(&'a self, call: RemoteResult<'a, T>) -> RemoteResult<'a, T>;

    /// Around a call with an answer for each of many.
    fn many<'a, T: Send + 'a>(&'a self, call: RemoteResult<'a, Vec<T>>) -> RemoteResult<'a, Vec<T>>;
}

#[derive(Debug)]
pub(crate) struct Wrapped<A> {
    pub(crate) remote: FakeRemote,
    pub(crate) around: A,
}

impl<A: Around> Remote for Wrapped<A> {
    fn bus(&self) -> Option<&dyn Bus> {
        self.remote.bus()
    }

    fn open_with<'a>(
        &'a self,
        namespace: &'a Namespace,
        settings: &'a SharedSettings,
    ) -> RemoteResult<'a, ()> {
        self.around.one(self.remote.open_with(namespace, settings))
    }

    fn forget_settings<'a>(&'a self, namespace: &'a Namespace) -> RemoteResult<'a, ()> {
        self.around.one(self.remote.forget_settings(namespace))
    }

    fn validate<'a>(
        &'a self,
        namespace: &'a Namespace,
        asked: &'a [(Key, Version)],
    ) -> RemoteResult<'a, Vec<Validity>> {
        self.around.many(self.remote.validate(namespace, asked))
    }

    fn settle<'a>(
        &'a self,
        namespace: &'a Namespace,
        asked: &'a [(Key, Version)],
    ) -> RemoteResult<'a, Vec<Validity>> {
        self.around.many(self.remote.settle(namespace, asked))
    }

    fn get<'a>(&'a self, namespace: &'a Namespace, key: &'a Key) -> RemoteResult<'a, Option<Stored>> {
        self.around.one(self.remote.get(namespace, key))
    }

    fn get_many<'a>(
        &'a self,
        namespace: &'a Namespace,
        keys: &'a [Key],
    ) -> RemoteResult<'a, Vec<Option<Stored>>> {
        self.around.many(self.remote.get_many(namespace, keys))
    }

    fn lease<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        token: LeaseToken,
        duration: Duration,
        dead: Option<Version>,
    ) -> RemoteResult<'a, LeaseOutcome> {
        self.around.one(self.remote.lease(namespace, key, token, duration, dead))
    }

    fn renew<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        lease: &'a Lease,
        duration: Duration,
    ) -> RemoteResult<'a, bool> {
        self.around.one(self.remote.renew(namespace, key, lease, duration))
    }

    fn release<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        lease: &'a Lease,
    ) -> RemoteResult<'a, ()> {
        self.around.one(self.remote.release(namespace, key, lease))
    }

    fn fill<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        lease: &'a Lease,
        value: Sealed,
        ttl: Ttl,
    ) -> RemoteResult<'a, FillOutcome> {
        self.around.one(self.remote.fill(namespace, key, lease, value, ttl))
    }

    fn set<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        value: Sealed,
        ttl: Ttl,
    ) -> RemoteResult<'a, Version> {
        self.around.one(self.remote.set(namespace, key, value, ttl))
    }

    fn set_many<'a>(
        &'a self,
        namespace: &'a Namespace,
        entries: Vec<(Key, Sealed, Ttl)>,
    ) -> RemoteResult<'a, Vec<Version>> {
        self.around.many(self.remote.set_many(namespace, entries))
    }

    fn invalidate<'a>(
        &'a self,
        namespace: &'a Namespace,
        keys: &'a [Key],
    ) -> RemoteResult<'a, Vec<Invalidated>> {
        self.around.many(self.remote.invalidate(namespace, keys))
    }

    fn sweep<'a>(&'a self, namespace: &'a Namespace, rule: &'a SweepRule) -> RemoteResult<'a, Swept> {
        self.around.one(self.remote.sweep(namespace, rule))
    }

    fn sweeps<'a>(&'a self, namespace: &'a Namespace) -> RemoteResult<'a, Vec<Sweep>> {
        self.around.one(self.remote.sweeps(namespace))
    }

    fn names<'a>(&'a self, namespace: &'a Namespace, rule: &'a SweepRule) -> Names<'a> {
        self.remote.names(namespace, rule)
    }

    fn list<'a>(
        &'a self,
        namespace: &'a Namespace,
        rule: &'a SweepRule,
        from: Option<ListPlace>,
        count: u32,
    ) -> RemoteResult<'a, Option<Listed>> {
        self.around.one(self.remote.list(namespace, rule, from, count))
    }

    fn reap<'a>(
        &'a self,
        namespace: &'a Namespace,
        sweep: &'a Sweep,
        keys: &'a [Key],
    ) -> RemoteResult<'a, u64> {
        self.around.one(self.remote.reap(namespace, sweep, keys))
    }

    fn retire<'a>(&'a self, namespace: &'a Namespace, sweep: &'a Sweep) -> RemoteResult<'a, ()> {
        self.around.one(self.remote.retire(namespace, sweep))
    }

    fn delay<'a>(
        &'a self,
        namespace: &'a Namespace,
        invalidations: &'a [Delayed],
        after: Duration,
    ) -> RemoteResult<'a, ()> {
        self.around.one(self.remote.delay(namespace, invalidations, after))
    }

    fn due<'a>(&'a self, namespace: &'a Namespace) -> RemoteResult<'a, Due> {
        self.around.one(self.remote.due(namespace))
    }

    fn done<'a>(&'a self, namespace: &'a Namespace, invalidations: &'a [Delayed]) -> RemoteResult<'a, ()> {
        self.around.one(self.remote.done(namespace, invalidations))
    }

    fn bump_tags<'a>(&'a self, namespace: &'a Namespace, tags: &'a [Tag]) -> RemoteResult<'a, Vec<Version>> {
        self.around.many(self.remote.bump_tags(namespace, tags))
    }

    fn generations<'a>(
        &'a self,
        namespace: &'a Namespace,
        tags: &'a [Tag],
    ) -> RemoteResult<'a, Vec<Generation>> {
        self.around.many(self.remote.generations(namespace, tags))
    }

    fn health(&self) -> RemoteResult<'_, RemoteHealth> {
        self.around.one(self.remote.health())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.remote.close()
    }
}
