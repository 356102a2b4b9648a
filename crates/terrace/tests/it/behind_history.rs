//! A fleet that writes behind, whose nodes are killed at any moment: every answer and every write that reaches the origin is
//! checked.
//!
//! Each node has a runtime of its own, which is dropped in the middle of whatever it does, and a journal, which its next life
//! opens. A key is written by one node and read by all. L2 forgets values, fails and takes its time; the origin does too, and
//! now and then takes a write without saying so. Checked, by the rules of `terrace_testkit::history`:
//!
//! 1. K1: what a node has acknowledged, its reads know, in this life and the next, whether or not the origin does.
//! 2. K4: when all is flushed, every node reads what was written last, and so does the origin.
//! 3. K6: nothing acknowledged is lost, nothing is reordered.
//! 4. K7, K8: every call ends; values are of the key that was asked for.

use crate::fixture::{HOUR, LEASE};
use crate::jitter::{Dice, Jittery};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use terrace::behind::{Journal, JournalOptions, LaneOptions};
use terrace::{Cache, Clock, Entry, Error, Keyspace, Origin, OriginWrite, Tier, WriteFailure};
use terrace_testkit::fake::{FakeRemote, Fault};
use terrace_testkit::history::{
    Answer, Operation, Outcome, Promises, Read, SinkHistory, Source, What, check,
};
use terrace_testkit::wait::{pause, until, until_some};

const NODES: u64 = 3;
const KEYS: u64 = 9;
const CALLERS: usize = 4;
/// A key, and the number of its last change; zero if it was never changed.
type Value = (u64, u64);

/// What the origin has, and what it was brought.
struct Rows {
    by_key: Mutex<HashMap<u64, Value>>,
    /// By node, what is known of its writes.
    histories: Vec<Mutex<SinkHistory>>,
    dice: Dice,
    is_well: AtomicBool,
}

/// The origin as one node reaches it.
struct Table(Arc<World>);

/// All that outlives a node.
struct World {
    rows: Rows,
    numbers: Vec<AtomicU64>,
    changing: Vec<tokio::sync::Mutex<()>>,
    operations: Mutex<Vec<Operation>>,
    clock: Clock,
    began: terrace_core::Moment,
    paths: Vec<PathBuf>,
}

fn at(number: u64) -> usize {
    usize::try_from(number).expect("a small number")
}

fn owner(key: u64) -> u64 {
    key % NODES
}

impl World {
    fn now(&self) -> u64 {
        u64::try_from(self.clock.precise().since(self.began).as_nanos()).expect("not so long")
    }

    /// Notes a call that begins, and gives its place.
    fn begin(&self, node: u64, key: u64, what: What) -> usize {
        let node = u32::try_from(node).expect("few nodes");
        let mut operations = self.operations.lock();
        operations.push(Operation { node, key, begun: self.now(), ended: Operation::NEVER, what });
        operations.len() - 1
    }

    fn end(&self, place: usize, what: What) {
        let mut operations = self.operations.lock();
        (operations[place].ended, operations[place].what) = (self.now(), what);
    }
}

impl Rows {
    /// Whether something goes wrong now, once in so many times.
    fn fails(&self, of: u64) -> bool {
        !self.is_well.load(Ordering::SeqCst) && self.dice.below(of) == 0
    }
}

impl Origin<u64, Value> for Table {
    type Error = &'static str;

    async fn load(&self, key: &u64) -> Result<Option<Value>, &'static str> {
        let rows = &self.0.rows;
        let row = rows.by_key.lock().get(key).copied();
        rows.dice.wait(30).await;
        if rows.fails(20) { Err("no luck") } else { Ok(Some(row.unwrap_or((*key, 0)))) }
    }

    async fn store_many(
        &self,
        writes: &[OriginWrite<u64, Value>],
    ) -> Vec<Result<(), WriteFailure<&'static str>>> {
        let rows = &self.0.rows;
        let mut answers = Vec::new();
        for write in writes {
            rows.dice.wait(10).await;
            if rows.fails(6) {
                answers.push(Err("locked".into()));
                continue;
            }
            let fence = write.fence.expect("it is written behind");
            let value = **write.value.as_ref().expect("nothing is removed");
            let text = format!("{value:?}");
            let mut history = rows.histories[at(owner(write.key))].lock();
            history.stored(fence.id.number, &write.key.to_string(), Some(&text));
            rows.by_key.lock().insert(write.key, value);
            drop(history);
            answers.push(if rows.fails(8) { Err(WriteFailure::Unknown("lost")) } else { Ok(()) });
        }
        answers
    }
}

fn answer(read: Result<Option<Entry<Value>>, Error>) -> What {
    let Ok(entry) = read else { return What::Read(Answer::Failed) };
    let Some(entry) = entry else { return What::Read(Answer::Nothing) };
    let source = match entry.tier {
        Tier::L1 => Source::L1,
        Tier::L2 => Source::L2,
        Tier::Origin => Source::Origin,
    };
    let (key, version) = *entry.value;
    let read = Read { key, version, source: Some(source), is_anchored: false, has_asked: false };
    What::Read(if entry.is_stale { Answer::Stale(read) } else { Answer::Fresh(read) })
}

/// One life of a node.
struct Node {
    number: u64,
    cache: Cache,
    rows: Keyspace<u64, Value>,
    remote: FakeRemote,
    world: Arc<World>,
}

impl Node {
    async fn open(number: u64, remote: FakeRemote, world: &Arc<World>, seed: u64) -> Self {
        let path = &world.paths[at(number)];
        let opened = async || Journal::open(path, JournalOptions::default()).ok();
        let journal = until_some("the journal to be let go of", opened).await;
        let jittery = Jittery { remote: remote.clone(), around: Dice::new(seed) };
        let builder = Cache::builder().journal(journal).l2(jittery).staleness_max(LEASE).default_ttl(HOUR);
        let cache = builder.build().expect("valid settings");
        let options = LaneOptions::default()
            .interval(Duration::from_millis(3))
            .flush_at(4)
            .attempts_max(10_000)
            .backoff(Duration::from_millis(1), Duration::from_millis(4));
        let rows = cache.keyspace("rows").write_behind(Table(Arc::clone(world)), options);
        let rows = rows.build().expect("a new keyspace");
        world.rows.histories[at(number)].lock().begin_life();
        Self { number, cache, rows, remote, world: Arc::clone(world) }
    }

    async fn read(&self, key: u64) {
        let place = self.world.begin(self.number, key, What::Read(Answer::Failed));
        let what = answer(self.rows.get_entry(&key).await);
        self.world.end(place, what);
    }

    /// Changes a key of one's own. The next change of it waits for this one's end, or for this life's.
    async fn put(&self, key: u64) {
        let _changing = self.world.changing[at(key)].lock().await;
        let version = self.world.numbers[at(key)].fetch_add(1, Ordering::SeqCst) + 1;
        let unknown = What::Change { version, outcome: Outcome::Unknown };
        let place = self.world.begin(self.number, key, unknown);
        let written = self.rows.put(&key, (key, version)).await.expect("it is acknowledged");
        let id = written.journaled.expect("it is journaled").id;
        let text = format!("{:?}", (key, version));
        let history = &self.world.rows.histories[at(self.number)];
        history.lock().acknowledged(id.number, &key.to_string(), Some(&text));
        self.world.end(place, What::Change { version, outcome: Outcome::Queued });
    }

    async fn act(&self, dice: &Dice) {
        let (any, own) = (dice.below(KEYS), dice.below(KEYS / NODES) * NODES + self.number);
        match dice.below(100) {
            0..60 => self.read(any).await,
            60..90 => self.put(own).await,
            90..94 => drop(self.rows.invalidate().keys([any]).send().await),
            94..97 => {
                let namespace = terrace_core::Namespace::new("rows").expect("valid");
                self.remote.evict(&namespace, &crate::fixture::key(&any.to_string()));
            }
            97..99 => self.remote.set_fault(dice.one_of(&FAULTS)),
            _ => pause(Duration::from_millis(dice.below(5))).await,
        }
    }

    /// Brings everything to the origin and to L2.
    async fn settle(&self) {
        self.remote.set_fault(None);
        let behind = self.rows.behind().expect("it is written behind");
        until_some("everything to be flushed", async || (behind.flush().await.left() == 0).then_some(()))
            .await;
        until("L2 to be told", || self.cache.stats().pending_invalidations == 0).await;
    }
}

const FAULTS: [Option<Fault>; 6] = [
    None,
    None,
    None,
    Some(Fault::Unavailable),
    Some(Fault::TimeoutAfterEffect),
    Some(Fault::BrokenAfterEffect),
];

/// Lets a node live until it has done so much, and kills it in the middle of what it does besides.
fn live(number: u64, remote: FakeRemote, world: &Arc<World>, seed: u64) {
    let dice = Arc::new(Dice::new(seed));
    let runtime = crate::fixture::runtime();
    let (lifetime, done) = (20 + dice.below(60), Arc::new(AtomicU64::new(0)));
    runtime.block_on(async {
        let node = Arc::new(Node::open(number, remote, world, seed).await);
        for _ in 0..CALLERS {
            let (node, dice, done) = (Arc::clone(&node), Arc::clone(&dice), Arc::clone(&done));
            crate::fixture::spawn(async move {
                loop {
                    node.act(&dice).await;
                    done.fetch_add(1, Ordering::SeqCst);
                    dice.wait(4).await;
                }
            });
        }
        until("the end of a life", || done.load(Ordering::SeqCst) >= lifetime).await;
    });
    drop(runtime);
}

fn run(seed: u64, lives: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Clock::system();
    let server = FakeRemote::with_partitions(clock.clone(), 4);
    let world = Arc::new(World {
        rows: Rows {
            by_key: Mutex::default(),
            histories: (0..NODES).map(|_| Mutex::default()).collect(),
            dice: Dice::new(seed ^ 0x0514),
            is_well: AtomicBool::new(false),
        },
        numbers: (0..KEYS).map(|_| AtomicU64::new(0)).collect(),
        changing: (0..KEYS).map(|_| tokio::sync::Mutex::new(())).collect(),
        operations: Mutex::default(),
        began: clock.precise(),
        clock,
        paths: (0..NODES).map(|node| folder.path().join(node.to_string())).collect(),
    });
    std::thread::scope(|threads| {
        for node in 0..NODES {
            let (server, world) = (server.clone(), Arc::clone(&world));
            threads.spawn(move || {
                for life in 0..lives {
                    let seed = seed + (node + 1) * 10_000 + life;
                    live(node, server.another_node().hearing(), &world, seed);
                }
            });
        }
    });
    world.rows.is_well.store(true, Ordering::SeqCst);
    let calm_from = crate::fixture::runtime().block_on(settle(&server, &world, seed));
    let promises = Promises {
        staleness_max: None,
        calm_from: Some(calm_from),
        unordered: (0..3).collect(),
        ..Promises::within(LEASE, Duration::from_secs(20))
    };
    let ended: Vec<Operation> =
        world.operations.lock().iter().filter(|call| is_over(call)).copied().collect();
    let report = check(&ended, &promises);
    report.expect_kept();
    let figures: Vec<_> = world.rows.histories.iter().map(|history| judged(&mut history.lock())).collect();
    println!("seed {seed}: {report}; {figures:?}");
    assert!(figures.iter().all(|figures| figures.0.is_kept()), "seed {seed}: {figures:?}");
    assert!(figures.iter().all(|figures| figures.1 > 20), "seed {seed}: too little happened: {figures:?}");
    for key in 0..KEYS {
        let newest = world.numbers[at(key)].load(Ordering::SeqCst);
        let row = world.rows.by_key.lock().get(&key).copied();
        let acknowledged = ended.iter().filter_map(|call| match call.what {
            What::Change { version, outcome: Outcome::Queued } if call.key == key => Some(version),
            _ => None,
        });
        let (least, row) = (acknowledged.max().unwrap_or(0), row.map_or(0, |(_, version)| version));
        assert!((least..=newest).contains(&row), "seed {seed}: key {key}: {row}, of {least} to {newest}");
    }
}

/// What was read when a node was killed has no answer, and is no call that takes long. A change may have been made.
fn is_over(call: &Operation) -> bool {
    call.ended != Operation::NEVER
}

fn judged(history: &mut SinkHistory) -> (terrace_testkit::history::SinkFigures, usize) {
    history.found(&[]);
    (history.figures(), history.count_stored())
}

/// The last lives: all is flushed, and all is read.
async fn settle(server: &FakeRemote, world: &Arc<World>, seed: u64) -> u64 {
    let mut nodes = Vec::new();
    for number in 0..NODES {
        nodes.push(Node::open(number, server.another_node().hearing(), world, seed + number).await);
    }
    for node in &nodes {
        node.settle().await;
    }
    pause(LEASE * 5).await;
    let calm_from = world.now();
    for (node, key) in nodes.iter().flat_map(|node| (0..KEYS).map(move |key| (node, key))) {
        node.read(key).await;
        node.read(key).await;
    }
    for node in &nodes {
        node.cache.shutdown(Duration::from_secs(10)).await.expect("nothing is left");
    }
    calm_from
}

#[test]
fn nothing_acknowledged_is_lost_or_forgotten_when_nodes_are_killed_at_any_moment() {
    let seed = std::env::var("TERRACE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in seed.map_or(vec![1, 2, 3, 4], |seed| vec![seed]) {
        run(seed, 12);
    }
}
