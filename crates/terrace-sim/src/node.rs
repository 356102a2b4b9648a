//! A node of a simulated fleet: a cache on a runtime of its own.
//!
//! A node's tasks run only while the world lets them, for the time since they ran last. So a node that is paused does
//! nothing, reads no clock and sends nothing, while the world goes on; when it runs again, its clock has jumped and
//! all its timers are due, as after `SIGSTOP` and `SIGCONT`. What was sent to it lies in its channels, as in the buffers
//! of its sockets.
//!
//! A node stands still between two polls of its tasks only, never within one.

use crate::network::{MILLI, Network, Time, span};
use crate::origin::Slow;
use crate::record::{Truth, Value};
use crate::remote::Adapter;
use crate::setting::Setting;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use terrace::{Cache, Keyspace, L1, SuspectPolicy, Tag};
use terrace_core::{Chance, Clock};
use terrace_testkit::fake::FakeRemote;
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// Keys `n` with the same `n % GROUPS` match one pattern; those of the groups below [`TAGGED`] also share a tag.
pub(crate) const GROUPS: u64 = 3;
pub(crate) const TAGGED: u64 = 2;
/// The node that has no L1, in each fleet but the smallest.
pub(crate) const NO_L1: usize = 2;
/// How long an entry lives that is not told of changes.
pub(crate) const FLEETING_TTL: Duration = Duration::from_secs(3);
/// How long a load may take.
pub(crate) const LOAD_TIMEOUT: Duration = Duration::from_secs(2);
/// Time between two runs of a node to which nothing happens, at most.
const IDLE_MAX: Time = 10 * MILLI;
/// How often the other tasks get their turn once a node's time has come.
const TURNS: usize = 6;

/// What the callers of a node have.
pub(crate) struct Spaces {
    pub(crate) node: u32,
    pub(crate) cache: Cache,
    pub(crate) plain: Keyspace<u64, Value>,
    pub(crate) through: Keyspace<u64, Value>,
    /// Of entries that are changed without a word.
    pub(crate) fleeting: Keyspace<u64, Value>,
    pub(crate) policy: SuspectPolicy,
    pub(crate) writes_through: bool,
    pub(crate) truth: Arc<Truth>,
    pub(crate) keys: u64,
}

/// A node.
pub(crate) struct Node {
    pub(crate) spaces: Arc<Spaces>,
    runtime: Runtime,
    began: Instant,
    clock: Clock,
    /// Up to when it has run, and when it runs next.
    ran_until: Time,
    pub(crate) due: Time,
    pub(crate) paused_until: Time,
    idle: Time,
    chance: Chance,
    calling: Arc<AtomicUsize>,
}

impl Node {
    pub(crate) fn new(
        number: usize,
        setting: &Setting,
        server: FakeRemote,
        network: &Arc<Mutex<Network>>,
        truth: &Arc<Truth>,
    ) -> Self {
        let seed = setting.seed.wrapping_mul(1000).wrapping_add(number as u64);
        let chance = Chance::seeded(seed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime can be made");
        let began = runtime.block_on(async { now() });
        let clock = Clock::manual();
        let adapter = Adapter {
            node: number,
            server,
            network: Arc::clone(network),
            hears: setting.hears,
            clock: clock.clone(),
            server_clock: Mutex::default(),
        };
        let builder = Cache::builder()
            .clock(clock.clone())
            .chance(Chance::seeded(chance.number()))
            .staleness_max(setting.staleness_max)
            .default_ttl(Duration::from_secs(20))
            .l2(adapter);
        let builder = if number == NO_L1 {
            builder.no_l1()
        } else {
            builder.l1(L1::entries(10_000).ttl(setting.l1_ttl))
        };
        let cache = builder.build().expect("valid settings");
        let policy = setting.policies[number % setting.policies.len()];
        let spaces = Arc::new(spaces(number, cache, policy, setting, truth));
        let due = chance.below(5) * MILLI;
        Self {
            spaces,
            runtime,
            began,
            clock,
            ran_until: 0,
            due,
            paused_until: 0,
            idle: MILLI,
            chance,
            calling: Arc::default(),
        }
    }

    /// Starts a caller.
    pub(crate) fn spawn(&self, caller: impl Future<Output = ()> + Send + 'static) {
        self.calling.fetch_add(1, Ordering::Relaxed);
        let calling = Arc::clone(&self.calling);
        self.runtime.spawn(async move {
            caller.await;
            calling.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// Whether a caller has not ended. One that panicked never does.
    pub(crate) fn is_calling(&self) -> bool {
        self.calling.load(Ordering::Relaxed) > 0
    }

    /// Has to run soon: something has come.
    pub(crate) fn wake(&mut self, now: Time) {
        self.idle = MILLI;
        self.due = self.due.min(now.next_multiple_of(MILLI).max(self.ran_until));
    }

    /// Lets the node's time go on to `now`, which is a whole millisecond.
    pub(crate) fn run(&mut self, now: Time) {
        self.clock.advance(span(now - self.ran_until));
        self.ran_until = now;
        let until = self.began + span(now);
        self.runtime.block_on(async {
            sleep_until(until).await;
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
        });
        self.idle = (self.idle * 2).min(IDLE_MAX);
        self.due = now + MILLI + self.chance.below(self.idle / MILLI) * MILLI;
    }
}

#[expect(clippy::disallowed_methods, reason = "the runtime's clock, which is the simulation's")]
fn now() -> Instant {
    Instant::now()
}

async fn sleep_until(until: Instant) {
    tokio::time::sleep_until(until).await;
}

fn spaces(
    number: usize,
    cache: Cache,
    policy: SuspectPolicy,
    setting: &Setting,
    truth: &Arc<Truth>,
) -> Spaces {
    let node = u32::try_from(number).expect("few nodes");
    let tagger = |key: &u64, _: &Value| {
        let group = key % GROUPS;
        if group < TAGGED { vec![tag(group)] } else { Vec::new() }
    };
    let options = setting.grace.map(|grace| grace.options()).unwrap_or_default();
    let plain = cache.keyspace("watched").tags(tagger).suspect(policy).load_timeout(LOAD_TIMEOUT);
    let plain = plain.options(options.clone());
    let plain = plain.build().expect("a new keyspace");
    let through = plain.clone().with_origin(Slow(node, Arc::clone(truth)));
    let fleeting = cache.keyspace("fleeting").suspect(policy).load_timeout(LOAD_TIMEOUT);
    let fleeting = fleeting.options(options).ttl(FLEETING_TTL);
    let fleeting = fleeting.build().expect("a new keyspace").with_origin(Slow(node, Arc::clone(truth)));
    let (truth, keys, writes_through) = (Arc::clone(truth), setting.keys, setting.writes_through);
    Spaces { node, cache, plain, through, fleeting, policy, writes_through, truth, keys }
}

pub(crate) fn tag(group: u64) -> Tag {
    Tag::new(&format!("group:{group}")).expect("valid")
}

impl Spaces {
    /// The keys of one group.
    pub(crate) fn group(&self, group: u64) -> Vec<u64> {
        (0..self.keys).filter(|key| key % GROUPS == group).collect()
    }

    /// Two keys beside each other.
    pub(crate) fn pair(&self, key: u64) -> [u64; 2] {
        let first = key.min(self.keys - 2);
        [first, first + 1]
    }

    /// How many keys are changed without a word: they come after the others.
    pub(crate) const FLEETING: u64 = 2;

    pub(crate) fn is_told(&self) -> bool {
        self.cache.stats().pending_invalidations == 0
    }
}
