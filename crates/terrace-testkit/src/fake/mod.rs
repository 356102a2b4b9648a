//! An L2 in memory, with the behaviour of the real server and with faults at will.
//!
//! [`FakeRemote`] is one node's connection to a server that lives in this process. [`FakeRemote::another_node`] gives
//! a second node on the same server, with faults of its own. Clones share everything.
//!
//! 1. Every call takes effect at one moment, and each moment is some microseconds of server time after the one
//!    before, also while a manual clock stands still; unless that clock is set back ([`FakeRemote::set_back_server_time`]).
//! 2. A call gives nobody up by itself, so a value that is stored has no deadline, unless it is given one
//!    ([`FakeRemote::set_before`]).
//! 3. What a call answers is what the adapter to a real server answers, but for the numbers; a differential test
//!    holds that.
//!
//! Deliberately absent: eviction by itself, replicas that can be read, and latency that nobody asked for ([`FakeRemote::hold`]).

mod bus;
mod failover;
mod faults;
mod listing;
mod partition;
mod remote;
mod server;
mod times;

pub use bus::Loss;
pub use faults::{Fault, Gate, Operation, Point};
pub use partition::Message;

use bus::Ears;
use bytes::Bytes;
use faults::Faults;
use parking_lot::Mutex;
use server::{Caller, Now, Server};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};
use terrace_core::remote::{RemoteError, ServerTime, Sweep, SweepRule};
use terrace_core::{Clock, Key, Namespace, Partition};
use tokio::sync::oneshot;

struct Shared {
    clock: Clock,
    /// The last server time that was given out, in microseconds.
    last_micros: AtomicU64,
    /// How far the server's clock is ahead of the wall.
    ahead_micros: AtomicU64,
    nodes: AtomicU64,
    all_nodes: Mutex<Vec<Arc<Node>>>,
    /// How many sweeps there were.
    sweeps: AtomicU64,
    state: Mutex<Server>,
    incarnation: AtomicU64,
    /// What the server was before each of its last changes, if a replica is to be had.
    history: Mutex<Option<VecDeque<Server>>>,
}

impl Shared {
    /// What a call takes at least, so that no two have the same time.
    const CALL_MICROS: u64 = 16;

    fn now(&self) -> Now {
        let wall = self.clock.wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = u64::try_from(wall.as_micros()).unwrap_or(u64::MAX / 2);
        let wall = wall + self.ahead_micros.load(Ordering::SeqCst);
        let next = |last: u64| wall.max(last + Self::CALL_MICROS);
        let last = self.last_micros.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(next(last)));
        let last = last.expect("the update is never refused");
        Now { moment: self.clock.precise(), micros: next(last) }
    }
}

struct Node {
    id: u64,
    partitions: u16,
    is_closed: AtomicBool,
    is_unchained: AtomicBool,
    faults: Mutex<Faults>,
    ears: Mutex<Ears>,
}

/// One node's connection to a server that lives in this process.
///
/// # Examples
/// ```
/// use terrace_core::{Clock, Key, Namespace, Remote};
/// use terrace_testkit::fake::{Fault, FakeRemote};
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let remote = FakeRemote::new(Clock::manual());
/// let (namespace, key) = (Namespace::new("users")?, Key::new("42")?);
/// remote.open(&namespace).await?;
/// assert_eq!(remote.get(&namespace, &key).await?, None);
/// remote.set_fault(Some(Fault::Unavailable));
/// assert!(remote.get(&namespace, &key).await.is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct FakeRemote {
    shared: Arc<Shared>,
    node: Arc<Node>,
}

impl FakeRemote {
    /// A new server, and a first node on it. Values expire by `clock`.
    pub fn new(clock: Clock) -> Self {
        Self::with_partitions(clock, Partition::COUNT_DEFAULT)
    }

    /// A new server, and a first node on it that is set to this number of partitions.
    pub fn with_partitions(clock: Clock, partitions: u16) -> Self {
        let shared = Shared {
            clock,
            last_micros: AtomicU64::new(0),
            ahead_micros: AtomicU64::new(0),
            nodes: AtomicU64::new(0),
            all_nodes: Mutex::default(),
            sweeps: AtomicU64::new(0),
            state: Mutex::default(),
            incarnation: AtomicU64::new(1),
            history: Mutex::default(),
        };
        Self::node(Arc::new(shared), partitions)
    }

    /// Another node on the same server, with no faults.
    #[must_use]
    pub fn another_node(&self) -> Self {
        Self::node(Arc::clone(&self.shared), self.node.partitions)
    }

    /// Another node on the same server that is set to another number of partitions.
    #[must_use]
    pub fn another_node_with_partitions(&self, partitions: u16) -> Self {
        Self::node(Arc::clone(&self.shared), partitions)
    }

    fn node(shared: Arc<Shared>, partitions: u16) -> Self {
        let id = shared.nodes.fetch_add(1, Ordering::Relaxed);
        let node = Arc::new(Node {
            id,
            partitions,
            is_closed: AtomicBool::new(false),
            is_unchained: AtomicBool::new(false),
            faults: Mutex::default(),
            ears: Mutex::default(),
        });
        shared.all_nodes.lock().push(Arc::clone(&node));
        Self { shared, node }
    }

    /// Makes every call of this node fail like this, until it is set to `None`.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.node.faults.lock().set_all(fault);
    }

    /// Makes every call of one operation of this node fail like this, until it is set to `None`.
    pub fn set_fault_on(&self, operation: Operation, fault: Option<Fault>) {
        self.node.faults.lock().set_on(operation, fault);
    }

    /// Makes the next call of one operation of this node fail like this. More of them queue up.
    pub fn fail_next(&self, operation: Operation, fault: Fault) {
        self.node.faults.lock().push_next(operation, fault);
    }

    /// Holds the calls of one operation of this node until the gate lets them go.
    pub fn hold(&self, operation: Operation, point: Point) -> Gate {
        let gate = Gate::new(point);
        self.node.faults.lock().hold(operation, &gate);
        gate
    }

    /// How many calls of one operation this node made, failed ones included.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.node.faults.lock().calls(operation)
    }

    /// How many calls this node made, failed ones included.
    pub fn calls_total(&self) -> u64 {
        self.node.faults.lock().calls_total()
    }

    /// Counts from zero again.
    pub fn reset_calls(&self) {
        self.node.faults.lock().reset_calls();
    }

    /// Loses everything, as a restart without persistence does.
    pub fn flush(&self) {
        self.past_calls(Server::flush);
    }

    /// Loses one value, as a server that is short of memory does. Returns whether there was one.
    pub fn evict(&self, namespace: &Namespace, key: &Key) -> bool {
        self.past_calls(|server| server.evict(namespace, key))
    }

    /// Gives a value another end, so long from now, as a stranger on a shared server could. Returns whether there is one.
    pub fn expire(&self, namespace: &Namespace, key: &Key, after: Duration) -> bool {
        let expires = self.shared.clock.precise().plus(after);
        self.past_calls(|server| server.expire(namespace, key, expires))
    }

    /// Loses the lease of one key, as if it had run out. Returns whether there was one.
    pub fn lose_lease(&self, namespace: &Namespace, key: &Key) -> bool {
        self.shared.state.lock().lose_lease(namespace, key)
    }

    /// Loses every lease.
    pub fn lose_leases(&self) {
        self.shared.state.lock().lose_leases();
    }

    /// Loses every version counter and barrier.
    pub fn lose_counters(&self) {
        self.shared.state.lock().for_each_partition(partition::Partition::lose_counter);
    }

    /// Loses every table of tag generations.
    pub fn lose_generations(&self) {
        self.shared.state.lock().for_each_partition(partition::Partition::lose_generations);
    }

    /// Loses the version counter and barrier of one partition.
    pub fn lose_counter(&self, namespace: &Namespace, partition: Partition) {
        self.shared.state.lock().with_partition(namespace, partition, partition::Partition::lose_counter);
    }

    /// Loses the tag generations of one partition.
    pub fn lose_generations_of(&self, namespace: &Namespace, partition: Partition) {
        self.shared.state.lock().with_partition(namespace, partition, partition::Partition::lose_generations);
    }

    /// Replaces a value by other bytes, as a stranger on a shared server could.
    pub fn tamper(&self, namespace: &Namespace, key: &Key, bytes: Bytes) {
        self.past_calls(|server| server.tamper(namespace, key, bytes));
    }

    /// Sets the server's clock further ahead of the wall, for versions, deadlines and lease times; expiry follows the clock alone.
    pub fn advance_server_time(&self, by: Duration) {
        let by = u64::try_from(by.as_micros()).unwrap_or(u64::MAX / 2);
        self.shared.ahead_micros.fetch_add(by, Ordering::SeqCst);
    }

    /// Sets the server's clock back, for the same, to what the wall shows at the least. So its time goes backwards once.
    pub fn set_back_server_time(&self, by: Duration) {
        let by = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        let less = |ahead: u64| Some(ahead.saturating_sub(by));
        let shared = &self.shared;
        let _always = shared.ahead_micros.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        shared.last_micros.store(0, Ordering::SeqCst);
    }

    /// The time on the server's clock.
    pub fn server_time(&self) -> ServerTime {
        ServerTime(self.shared.now().micros)
    }

    /// The keys that have a value, dead or alive, in order.
    pub fn keys(&self, namespace: &Namespace) -> Vec<Key> {
        self.shared.state.lock().keys(namespace, self.shared.clock.precise())
    }

    /// The log of one partition, oldest message first.
    pub fn log(&self, namespace: &Namespace, partition: Partition) -> Vec<Message> {
        self.shared.state.lock().log(namespace, partition)
    }

    fn new_sweep(&self, rule: SweepRule) -> Sweep {
        Sweep { rule, id: self.shared.sweeps.fetch_add(1, Ordering::SeqCst) }
    }

    fn caller(&self) -> Caller {
        Caller { id: self.node.id, partitions: self.node.partitions, now: self.shared.now() }
    }

    /// Does to the server what no call does.
    fn past_calls<T>(&self, act: impl FnOnce(&mut Server) -> T) -> T {
        let mut server = self.shared.state.lock();
        let done = act(&mut server);
        self.publish_touched(&server.take_touched());
        done
    }

    /// Runs `effect` on the server, now or when a gate says so, unless a fault is in the way.
    async fn call<T: Send + 'static>(
        &self,
        operation: Operation,
        effect: impl FnOnce(&mut Server, &Self) -> Result<T, RemoteError> + Send + 'static,
    ) -> Result<T, RemoteError> {
        let (fault, gate) = self.node.faults.lock().arrive(operation);
        if self.node.is_closed.load(Ordering::SeqCst) {
            return Err(RemoteError::Unavailable { reason: "it was closed".to_owned() });
        }
        let node = self.clone();
        let act = move || {
            let mut server = node.shared.state.lock();
            let before = node.shared.history.lock().is_some().then(|| server.clone());
            let result = effect(&mut server, &node);
            let published = server.take_published();
            if let Some(before) = before.filter(|_| !published.is_empty()) {
                node.shared.remember(before);
            }
            node.publish(&published);
            node.publish_ended(&server.take_ended());
            node.publish_touched(&server.take_touched());
            result
        };
        let run = move || match fault {
            None => act(),
            Some(fault) => {
                if fault.has_effect() {
                    act().ok();
                }
                Err(fault.error())
            }
        };
        let Some(gate) = gate else { return run() };
        let (sender, receiver) = oneshot::channel();
        match gate.point {
            Point::BeforeEffect => gate.arrive(Box::new(move || drop(sender.send(run())))),
            Point::AfterEffect => {
                let reply = run();
                gate.arrive(Box::new(move || drop(sender.send(reply))));
            }
        }
        receiver.await.unwrap_or_else(|_| Err(Fault::BrokenAfterEffect.error()))
    }
}

impl fmt::Debug for FakeRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeRemote").field("node", &self.node.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
