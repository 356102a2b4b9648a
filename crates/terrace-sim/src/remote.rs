//! A node's adapter to L2 in the simulated world: every call is a message to the server, and one back.
//!
//! A call may reach the server however late, when its caller has long given up. Only a value that is stored is told when that
//! is, by what this node knows of the server's clock, as the real adapter does; each answer tells the time.

use crate::network::{Effect, Network};
use bytes::Bytes;
use futures_core::Stream;
use futures_util::{FutureExt, StreamExt, stream};
use parking_lot::Mutex;
use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use terrace_core::bus::{Bus, BusEvent, BusEvents, Incarnation, NodeId, Reassertion};
use terrace_core::envelope::Sealed;
use terrace_core::mutants::{self, Mutant};
use terrace_core::remote::{
    BoxFuture, Delayed, Due, FillOutcome, Generation, Invalidated, Lease, LeaseOutcome, LeaseToken, Names,
    Remote, RemoteError, RemoteHealth, RemoteResult, ServerClock, ServerTime, SharedSettings, Stored, Sweep,
    SweepRule, Swept, Validity,
};
use terrace_core::{Clock, Key, Moment, Namespace, Partition, Tag, Ttl, Version};
use terrace_testkit::fake::FakeRemote;
use terrace_testkit::wait::pause;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;

/// How long a call may take.
pub(crate) const DEADLINE: Duration = Duration::from_millis(300);

pub(crate) struct Adapter {
    pub(crate) node: usize,
    pub(crate) server: FakeRemote,
    pub(crate) network: Arc<Mutex<Network>>,
    pub(crate) hears: bool,
    pub(crate) clock: Clock,
    pub(crate) server_clock: Mutex<ServerClock>,
}

impl fmt::Debug for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Adapter({})", self.node)
    }
}

impl Adapter {
    fn call<T: Send + 'static>(
        &self,
        effect: impl FnOnce(&FakeRemote) -> Result<T, RemoteError> + Send + 'static,
    ) -> RemoteResult<'_, T> {
        Box::pin(async move {
            let (sender, receiver) = oneshot::channel();
            let server = self.server.clone();
            let effect: Effect = Box::new(move || {
                let (told, result) = (server.server_time(), effect(&server));
                Box::new(move || drop(sender.send((told, result))))
            });
            let sent = self.clock.precise();
            let Some(lost) = self.network.lock().request(self.node, effect) else {
                return Err(RemoteError::Unavailable { reason: "no connection".to_owned() });
            };
            let answered = async {
                tokio::select! {
                    biased;
                    answer = receiver => answer.ok(),
                    () = lost => None,
                }
            };
            match tokio::time::timeout(DEADLINE, answered).await {
                Ok(Some((told, result))) => {
                    self.server_clock.lock().note(sent, told, self.clock.precise());
                    result
                }
                Ok(None) => Err(RemoteError::Broken { reason: "the connection broke".to_owned() }),
                Err(_) => Err(RemoteError::Timeout { after: DEADLINE }),
            }
        })
    }

    /// A call that takes no effect any more when it has failed.
    fn set_call<T: Send + 'static>(
        &self,
        effect: impl FnOnce(&FakeRemote, ServerTime) -> Result<T, RemoteError> + Send + 'static,
    ) -> RemoteResult<'_, T> {
        Box::pin(async move {
            let by = self.clock.precise().plus(DEADLINE);
            let Some(deadline) = self.server_clock.lock().earliest(by) else {
                return Err(RemoteError::Unavailable {
                    reason: "the server has not told its time".to_owned(),
                });
            };
            let result = self.call(move |server| effect(server, deadline)).await;
            if let Err(RemoteError::Timeout { .. } | RemoteError::Broken { .. }) = &result
                && !mutants::is(Mutant::FailsBeforeDeadline)
            {
                self.until(by).await;
            }
            result
        })
    }

    async fn until(&self, moment: Moment) {
        while self.clock.precise() < moment {
            pause(moment.since(self.clock.precise())).await;
        }
    }
}

/// What a call of the fake answers, which never waits.
fn now<T>(mut call: RemoteResult<'_, T>) -> Result<T, RemoteError> {
    (&mut call).now_or_never().expect("a fake without gates answers at once")
}

impl Remote for Adapter {
    fn bus(&self) -> Option<&dyn Bus> {
        self.hears.then_some(self)
    }

    fn open_with<'a>(
        &'a self,
        namespace: &'a Namespace,
        settings: &'a SharedSettings,
    ) -> RemoteResult<'a, ()> {
        let (namespace, settings) = (namespace.clone(), settings.clone());
        self.call(move |server| now(server.open_with(&namespace, &settings)))
    }

    fn forget_settings<'a>(&'a self, namespace: &'a Namespace) -> RemoteResult<'a, ()> {
        let namespace = namespace.clone();
        self.call(move |server| now(server.forget_settings(&namespace)))
    }

    fn get<'a>(&'a self, namespace: &'a Namespace, key: &'a Key) -> RemoteResult<'a, Option<Stored>> {
        let (namespace, key) = (namespace.clone(), key.clone());
        self.call(move |server| now(server.get(&namespace, &key)))
    }

    fn get_many<'a>(
        &'a self,
        namespace: &'a Namespace,
        keys: &'a [Key],
    ) -> RemoteResult<'a, Vec<Option<Stored>>> {
        let (namespace, keys) = (namespace.clone(), keys.to_vec());
        self.call(move |server| now(server.get_many(&namespace, &keys)))
    }

    fn validate<'a>(
        &'a self,
        namespace: &'a Namespace,
        asked: &'a [(Key, Version)],
    ) -> RemoteResult<'a, Vec<Validity>> {
        let (namespace, asked) = (namespace.clone(), asked.to_vec());
        self.call(move |server| now(server.validate(&namespace, &asked)))
    }

    fn settle<'a>(
        &'a self,
        namespace: &'a Namespace,
        asked: &'a [(Key, Version)],
    ) -> RemoteResult<'a, Vec<Validity>> {
        let (namespace, asked) = (namespace.clone(), asked.to_vec());
        self.call(move |server| now(server.settle(&namespace, &asked)))
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
        self.call(move |server| now(server.lease(&namespace, &key, token, duration, dead)))
    }

    fn renew<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        lease: &'a Lease,
        duration: Duration,
    ) -> RemoteResult<'a, bool> {
        let (namespace, key, lease) = (namespace.clone(), key.clone(), lease.clone());
        self.call(move |server| now(server.renew(&namespace, &key, &lease, duration)))
    }

    fn release<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        lease: &'a Lease,
    ) -> RemoteResult<'a, ()> {
        let (namespace, key, lease) = (namespace.clone(), key.clone(), lease.clone());
        self.call(move |server| now(server.release(&namespace, &key, &lease)))
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
        self.call(move |server| now(server.fill(&namespace, &key, &lease, value, ttl)))
    }

    fn set<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        value: Sealed,
        ttl: Ttl,
    ) -> RemoteResult<'a, Version> {
        let (namespace, key) = (namespace.clone(), key.clone());
        let set = move |server: &FakeRemote, deadline| {
            now(server.set_before(&namespace, &key, (value, ttl), deadline))
        };
        self.set_call(set)
    }

    fn set_many<'a>(
        &'a self,
        namespace: &'a Namespace,
        entries: Vec<(Key, Sealed, Ttl)>,
    ) -> RemoteResult<'a, Vec<Version>> {
        let namespace = namespace.clone();
        self.set_call(move |server, deadline| now(server.set_many_before(&namespace, entries, deadline)))
    }

    fn invalidate<'a>(
        &'a self,
        namespace: &'a Namespace,
        keys: &'a [Key],
    ) -> RemoteResult<'a, Vec<Invalidated>> {
        let (namespace, keys) = (namespace.clone(), keys.to_vec());
        self.call(move |server| now(server.invalidate(&namespace, &keys)))
    }

    fn sweep<'a>(&'a self, namespace: &'a Namespace, rule: &'a SweepRule) -> RemoteResult<'a, Swept> {
        let (namespace, rule) = (namespace.clone(), rule.clone());
        self.call(move |server| now(server.sweep(&namespace, &rule)))
    }

    fn sweeps<'a>(&'a self, namespace: &'a Namespace) -> RemoteResult<'a, Vec<Sweep>> {
        let namespace = namespace.clone();
        self.call(move |server| now(server.sweeps(&namespace)))
    }

    fn names<'a>(&'a self, namespace: &'a Namespace, rule: &'a SweepRule) -> Names<'a> {
        let (namespace, rule) = (namespace.clone(), rule.clone());
        let named = move |server: &FakeRemote| {
            let mut names = server.names(&namespace, &rule);
            let mut all = Vec::new();
            while let Some(Some(some)) = names.next().now_or_never() {
                all.extend(some?);
            }
            Ok(all)
        };
        Box::pin(stream::once(self.call(named)))
    }

    fn reap<'a>(
        &'a self,
        namespace: &'a Namespace,
        sweep: &'a Sweep,
        keys: &'a [Key],
    ) -> RemoteResult<'a, u64> {
        let (namespace, sweep, keys) = (namespace.clone(), sweep.clone(), keys.to_vec());
        self.call(move |server| now(server.reap(&namespace, &sweep, &keys)))
    }

    fn retire<'a>(&'a self, namespace: &'a Namespace, sweep: &'a Sweep) -> RemoteResult<'a, ()> {
        let (namespace, sweep) = (namespace.clone(), sweep.clone());
        self.call(move |server| now(server.retire(&namespace, &sweep)))
    }

    fn delay<'a>(
        &'a self,
        namespace: &'a Namespace,
        invalidations: &'a [Delayed],
        after: Duration,
    ) -> RemoteResult<'a, ()> {
        let (namespace, invalidations) = (namespace.clone(), invalidations.to_vec());
        self.call(move |server| now(server.delay(&namespace, &invalidations, after)))
    }

    fn due<'a>(&'a self, namespace: &'a Namespace) -> RemoteResult<'a, Due> {
        let namespace = namespace.clone();
        self.call(move |server| now(server.due(&namespace)))
    }

    fn done<'a>(&'a self, namespace: &'a Namespace, invalidations: &'a [Delayed]) -> RemoteResult<'a, ()> {
        let (namespace, invalidations) = (namespace.clone(), invalidations.to_vec());
        self.call(move |server| now(server.done(&namespace, &invalidations)))
    }

    fn bump_tags<'a>(&'a self, namespace: &'a Namespace, tags: &'a [Tag]) -> RemoteResult<'a, Vec<Version>> {
        let (namespace, tags) = (namespace.clone(), tags.to_vec());
        self.call(move |server| now(server.bump_tags(&namespace, &tags)))
    }

    fn generations<'a>(
        &'a self,
        namespace: &'a Namespace,
        tags: &'a [Tag],
    ) -> RemoteResult<'a, Vec<Generation>> {
        let (namespace, tags) = (namespace.clone(), tags.to_vec());
        self.call(move |server| now(server.generations(&namespace, &tags)))
    }

    fn health(&self) -> RemoteResult<'_, RemoteHealth> {
        self.call(|server| now(server.health()))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.server.close()
    }
}

struct Ear(UnboundedReceiver<BusEvent>);

impl Stream for Ear {
    type Item = BusEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<BusEvent>> {
        self.0.poll_recv(context)
    }
}

impl Bus for Adapter {
    fn node(&self) -> NodeId {
        self.server.node()
    }

    fn partitions(&self) -> u16 {
        self.server.partitions()
    }

    fn listen(&self) -> BusEvents {
        let (sender, receiver) = unbounded_channel();
        self.network.lock().listen(self.node, sender);
        Box::pin(Ear(receiver))
    }

    fn join(&self, namespace: &Namespace) {
        self.network.lock().join(self.node, namespace);
    }

    fn beat(&self, number: u64) -> RemoteResult<'_, ()> {
        self.call(move |server| now(server.beat(number)))
    }

    fn counters<'a>(
        &'a self,
        namespace: &'a Namespace,
        partitions: Range<u16>,
    ) -> RemoteResult<'a, Vec<Version>> {
        let namespace = namespace.clone();
        self.call(move |server| now(Bus::counters(server, &namespace, partitions)))
    }

    fn changes_since<'a>(
        &'a self,
        namespace: &'a Namespace,
        after: &'a [(Partition, Version)],
    ) -> RemoteResult<'a, Vec<Vec<Bytes>>> {
        let (namespace, after) = (namespace.clone(), after.to_vec());
        self.call(move |server| now(server.changes_since(&namespace, &after)))
    }

    fn refresh<'a>(&'a self, namespace: &'a Namespace, key: &'a Key) -> RemoteResult<'a, Version> {
        let (namespace, key) = (namespace.clone(), key.clone());
        self.call(move |server| now(server.refresh(&namespace, &key)))
    }

    fn reassert<'a>(
        &'a self,
        namespace: &'a Namespace,
        changes: &'a [Reassertion],
        on: &'a [Incarnation],
    ) -> RemoteResult<'a, ()> {
        let (namespace, changes, on) = (namespace.clone(), changes.to_vec(), on.to_vec());
        self.call(move |server| now(server.reassert(&namespace, &changes, &on)))
    }
}
