//! Nodes to test with, and loads that a test holds in its hand.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use terrace::{
    Breaker, BreakerState, Cache, CacheBuilder, Clock, Entry, Key, Keyspace, L1, LoadError, Namespace, Tier,
    Written,
};
use terrace_core::remote::BoxFuture;
use terrace_testkit::fake::{FakeRemote, Operation};
use terrace_testkit::wait::until_some;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) type Texts = Keyspace<String, String>;
pub(crate) type Loads<T> = Result<Arc<String>, LoadError<T>>;

/// A TTL that no test reaches by accident.
pub(crate) const HOUR: Duration = Duration::from_hours(1);
/// How old a copy is at most that counts as fresh, on nodes that hear of changes.
pub(crate) const LEASE: Duration = Duration::from_millis(100);
/// How long a copy stays in L1 next to an L2.
pub(crate) const L1_TTL: Duration = L1::TTL_DEFAULT;

/// One process of a fleet: a cache, and its connection to the L2 that all share.
pub(crate) struct Node {
    pub(crate) cache: Cache,
    pub(crate) texts: Texts,
    pub(crate) remote: FakeRemote,
    pub(crate) clock: Clock,
}

impl Node {
    /// The first node of a fleet, with both tiers.
    pub(crate) async fn first() -> Self {
        let clock = Clock::manual();
        Self::on(FakeRemote::new(clock.clone()), clock, |builder| builder).await
    }

    /// The first node of a fleet without L1.
    pub(crate) async fn first_without_l1() -> Self {
        let clock = Clock::manual();
        Self::on(FakeRemote::new(clock.clone()), clock, CacheBuilder::no_l1).await
    }

    /// Another node with both tiers.
    pub(crate) async fn another(&self) -> Self {
        Self::on(self.remote.another_node(), self.clock.clone(), |builder| builder).await
    }

    /// Another node without L1: it sees what L2 has.
    pub(crate) async fn another_without_l1(&self) -> Self {
        Self::on(self.remote.another_node(), self.clock.clone(), CacheBuilder::no_l1).await
    }

    /// The first node of a fleet that hears of changes, all in one partition.
    pub(crate) async fn first_hearing() -> Self {
        Self::first_hearing_of(1).await
    }

    /// The same, with more than one partition.
    pub(crate) async fn first_hearing_of(partitions: u16) -> Self {
        let clock = Clock::manual();
        let remote = FakeRemote::with_partitions(clock.clone(), partitions).hearing();
        Self::on(remote, clock, |builder| builder.staleness_max(LEASE)).await
    }

    /// Another node that hears of changes.
    pub(crate) async fn another_hearing(&self) -> Self {
        let remote = self.remote.another_node().hearing();
        Self::on(remote, self.clock.clone(), |builder| builder.staleness_max(LEASE)).await
    }

    /// The first node of a fleet whose nodes hear of writers that are not terrace, too.
    pub(crate) async fn first_tracking() -> Self {
        let clock = Clock::manual();
        let remote = FakeRemote::with_partitions(clock.clone(), 16).hearing().tracking();
        Self::on(remote, clock, |builder| builder.staleness_max(LEASE)).await
    }

    /// Another node that hears of them.
    pub(crate) async fn another_tracking(&self) -> Self {
        let remote = self.remote.another_node().hearing().tracking();
        Self::on(remote, self.clock.clone(), |builder| builder.staleness_max(LEASE)).await
    }

    /// Another cache over the very connection of this node.
    pub(crate) async fn twin(&self) -> Self {
        Self::on(self.remote.clone(), self.clock.clone(), |builder| builder.staleness_max(LEASE)).await
    }

    async fn on(remote: FakeRemote, clock: Clock, set: impl FnOnce(CacheBuilder) -> CacheBuilder) -> Self {
        let builder = Cache::builder().clock(clock.clone()).default_ttl(HOUR).l2(remote.clone());
        let cache = set(builder).build().expect("valid settings");
        let texts = cache.keyspace("texts").build().expect("a new keyspace");
        let node = Self { cache, texts, remote, clock };
        node.texts.contains("the first call opens the namespace").await.expect("a valid key");
        node.remote.reset_calls();
        node
    }

    pub(crate) async fn put(&self, key: &str, value: &str) -> Written {
        self.texts.put(key, value.to_owned()).await.expect("it can be stored")
    }

    pub(crate) async fn get(&self, key: &str) -> Option<String> {
        self.texts.get(key).await.expect("a valid key").map(|value| (*value).clone())
    }

    pub(crate) async fn entry(&self, key: &str) -> Option<Entry<String>> {
        self.texts.get_entry(key).await.expect("a valid key")
    }

    /// Loads through the cache; the loader brings `value`.
    pub(crate) async fn load(&self, key: &str, value: &str) -> String {
        let loaded = self.texts.get_or_load(key, loader(value)).await;
        (*loaded.expect("the loader does not fail")).clone()
    }

    /// Where the answer to a read comes from, and what it is.
    pub(crate) async fn source(&self, key: &str) -> Option<(Tier, String)> {
        self.entry(key).await.map(|entry| (entry.tier, (*entry.value).clone()))
    }

    /// Reads in a task of its own.
    pub(crate) fn getting(&self, key: &'static str) -> JoinHandle<Option<String>> {
        let texts = self.texts.clone();
        spawn(async move { texts.get(key).await.expect("a valid key").map(|value| (*value).clone()) })
    }

    /// Stores in a task of its own.
    pub(crate) fn putting(
        &self,
        key: &'static str,
        value: &str,
    ) -> JoinHandle<Result<Written, terrace::Error>> {
        let (texts, value) = (self.texts.clone(), value.to_owned());
        spawn(async move { texts.put(key, value).await })
    }

    /// Loads in a task of its own, with a loader that the test holds.
    pub(crate) fn loading(&self, key: &'static str) -> (HeldLoad<Infallible>, JoinHandle<Loads<Infallible>>) {
        let (held, loader) = hold();
        let texts = self.texts.clone();
        (held, spawn(async move { texts.get_or_load(key, loader).await }))
    }

    /// Loads in a task of its own, with a loader that brings `value` at once.
    pub(crate) fn loading_at_once(&self, key: &'static str, value: &str) -> JoinHandle<String> {
        let (texts, loader) = (self.texts.clone(), loader(value));
        spawn(async move { (*texts.get_or_load(key, loader).await.expect("it does not fail")).clone() })
    }

    /// Waits until L2 is not left alone any more. The clock stands still while the runtime's time goes on.
    pub(crate) async fn is_asked_again(&self) {
        until_some("L2 to be asked again", async || {
            let breaker = self.cache.health().await.breaker?;
            (breaker.state == BreakerState::Closed).then_some(())
        })
        .await;
        self.clock.advance(Breaker::RAMP_DEFAULT);
    }

    pub(crate) fn calls(&self, operation: Operation) -> u64 {
        self.remote.calls(operation)
    }
}

pub(crate) fn namespace() -> Namespace {
    Namespace::new("texts").expect("valid")
}

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).expect("valid")
}

/// A loader that brings `value` at once.
pub(crate) fn loader(value: &str) -> impl FnOnce() -> BoxFuture<'static, Result<String, Infallible>> + use<> {
    let value = value.to_owned();
    move || Box::pin(async move { Ok(value) })
}

/// A load that has to wait for its test.
pub(crate) struct HeldLoad<E> {
    started: Option<oneshot::Receiver<()>>,
    end: oneshot::Sender<Result<String, E>>,
}

impl<E> HeldLoad<E> {
    /// Waits until it has started.
    pub(crate) async fn started(&mut self) {
        let started = self.started.take().expect("it is waited for once");
        within("a load to start", started).await.expect("the loader runs");
    }

    /// Whether it is still waiting, or has never started.
    pub(crate) fn is_alive(&self) -> bool {
        !self.end.is_closed()
    }

    /// Lets it end.
    pub(crate) fn end(self, result: Result<String, E>) {
        self.end.send(result).ok().expect("the load is alive");
    }

    /// Lets it bring a value.
    pub(crate) fn bring(self, value: &str) {
        self.end(Ok(value.to_owned()));
    }
}

/// A loader that waits for its test.
pub(crate) fn hold<E: Send + 'static>()
-> (HeldLoad<E>, impl FnOnce() -> BoxFuture<'static, Result<String, E>> + Send) {
    let (start, started) = oneshot::channel();
    let (end, ended) = oneshot::channel();
    let loader = move || -> BoxFuture<'static, Result<String, E>> {
        Box::pin(async move {
            start.send(()).ok();
            ended.await.expect("the test ends its loads")
        })
    };
    (HeldLoad { started: Some(started), end }, loader)
}

/// A loader that counts how often it runs.
#[derive(Clone, Default)]
pub(crate) struct Counted(Arc<AtomicU64>);

impl Counted {
    pub(crate) fn runs(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn loader(
        &self,
        value: &str,
    ) -> impl FnOnce() -> BoxFuture<'static, Result<String, Infallible>> + Send + use<> {
        let (runs, value) = (Arc::clone(&self.0), value.to_owned());
        move || {
            Box::pin(async move {
                runs.fetch_add(1, Ordering::SeqCst);
                Ok(value)
            })
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this module is the owner of spawning in these tests")]
pub(crate) fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(future)
}

/// Runs a future that has to end.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    terrace_testkit::wait::within(what, terrace_testkit::wait::DEADLINE, future).await
}

/// The result of a task that has to end.
pub(crate) async fn ended<T>(task: JoinHandle<T>) -> T {
    within("a task to end", task).await.expect("the task does not panic")
}

/// Gives the other tasks of this thread's runtime their turn, until they all wait for something.
pub(crate) async fn let_others_run() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

/// A runtime of a test's own, on this thread.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made")
}
