//! Random histories of writes, commits, sends, failures and ends, against what is promised.
//!
//! Nothing runs by itself here: each step of the writer's thread and of the sender is taken by the test, so a history can be
//! repeated and shrunk.

mod repeat;
mod step;

use self::repeat::Memory;
use self::step::{Step, step};
use super::disk::{Disk, Faults};
use crate::behind::Request;
use crate::behind::error::WriteError;
use crate::behind::options::{Ack, JournalOptions, LaneOptions};
use crate::behind::record::{Operation, Outcome, Pending, Record, Write, WriteState};
use crate::behind::shared::{Reply, Shared, Submitted, Terms};
use crate::behind::sink::{Outcomes, Sink};
use crate::behind::store::Store;
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use terrace_core::{Chance, Clock};

const INTERVAL: Duration = Duration::from_secs(10);
/// How many seconds the clock of L2 is off at most, and longer than that how long a restart takes: the version that a write was sent
/// with is not waited for until the file has it.
const OFF: i64 = 100;
const RESTART: Duration = Duration::from_secs(OFF.unsigned_abs() * 2);

struct Unused;

impl Sink for Unused {
    fn store_many<'a>(&'a self, _: &'a [Write]) -> Outcomes<'a> {
        unreachable!("the test is the sink")
    }
}

/// What the test knows of a write.
struct Known {
    key: Bytes,
    operation: Operation,
    ack: Ack,
    is_acknowledged: bool,
    is_refused: bool,
    reply: Option<Reply>,
    request: Request,
    memory: Memory,
}

struct World {
    disk: Disk,
    clock: Clock,
    shared: Arc<Shared>,
    store: Store,
    known: BTreeMap<u64, Known>,
    under_way: Vec<Write>,
    /// Per key: the write that was sent in this life and is neither stored nor given up.
    open: BTreeMap<Bytes, u64>,
    /// Per key: the newest number that the sink was ever given in this life.
    newest_sent: BTreeMap<Bytes, u64>,
    /// Writes that L2 has not given a version.
    held: VecDeque<Arc<Record>>,
    /// The last version that L2 gave.
    l2: u64,
    /// Per key: what the origin has, behind its fence: version, number, operation.
    origin: BTreeMap<Bytes, (u64, u64, Operation)>,
    /// Writes that were stored or given up in this life.
    over: BTreeSet<u64>,
    dead: BTreeSet<u64>,
}

fn start(disk: &Disk, clock: &Clock) -> (Arc<Shared>, Store) {
    let options = JournalOptions::default().pending_max(50).clock(clock.clone()).chance(Chance::seeded(3));
    let (shared, store) =
        super::super::load(Path::new("model.journal"), disk.opener(), options).expect("a sound file opens");
    let lane = LaneOptions::default().interval(INTERVAL).attempts_max(3).batch_max(3);
    shared.attach("space", lane, Arc::new(Unused)).expect("its first sink");
    (shared, store)
}

impl World {
    fn new() -> Self {
        let (disk, clock) = (Disk::default(), Clock::manual());
        let (shared, store) = start(&disk, &clock);
        Self {
            disk,
            clock,
            shared,
            store,
            known: BTreeMap::new(),
            under_way: Vec::new(),
            open: BTreeMap::new(),
            newest_sent: BTreeMap::new(),
            held: VecDeque::new(),
            l2: 0,
            origin: BTreeMap::new(),
            over: BTreeSet::new(),
            dead: BTreeSet::new(),
        }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Write { key, is_delete, ack, is_held } => self.write(*key, *is_delete, *ack, *is_held),
            Step::Release(off) => self.release(*off),
            Step::Repeat(which) => self.repeat(*which),
            Step::Commit => self.commit(),
            Step::Send => self.send(),
            Step::Settle(bits) => self.settle(*bits),
            Step::Fail => self.fail(),
            Step::Retry(key) => self.retry(*key),
            Step::Advance(seconds) => self.clock.advance(Duration::from_secs(*seconds)),
            Step::Kill => self.restart(self.disk.after_kill(), false),
            Step::Power { changes, seed } => {
                self.disk.fail(Faults { power: Some(*changes), ..Faults::default() });
                self.commit();
                let left = self.disk.after_power_loss(&Chance::seeded(*seed));
                self.restart(left, true);
            }
            Step::DiskFull(writes) => self.disk.fail(Faults { room: Some(*writes), ..Faults::default() }),
            Step::Room => self.disk.fail(Faults::default()),
        }
        self.check_reads();
        self.check_states();
    }

    fn write(&mut self, key: u8, is_delete: bool, ack: Ack, is_held: bool) {
        let key = Bytes::from(vec![b'k', key]);
        let value = Bytes::from(self.known.len().to_string());
        let operation = if is_delete { Operation::Delete } else { Operation::Store(value) };
        // As a keyspace does it: one change of a key at a time.
        if self.held.iter().any(|held| held.key == key) {
            return;
        }
        let request = repeat::request(self.known.len(), &key, &operation);
        let terms = Terms { version: None, is_held, ack, request: Some(request) };
        match self.shared.submit(0, key.clone(), operation.clone(), terms) {
            Ok(Submitted::Before { number, .. }) => panic!("a new request is said to be {number}"),
            Ok(Submitted::Taken(taken)) => {
                if is_held {
                    self.held.push_back(taken.record);
                }
                assert!(!self.known.contains_key(&taken.number), "a number was given out twice");
                let is_acknowledged = taken.reply.is_none();
                let known = Known {
                    key,
                    operation,
                    ack,
                    is_acknowledged,
                    is_refused: false,
                    reply: taken.reply,
                    request,
                    memory: Memory::ThisLife,
                };
                self.known.insert(taken.number, known);
            }
            Err(WriteError::DiskFull | WriteError::Full { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn release(&mut self, off: Option<i64>) {
        let Some(record) = self.held.pop_front() else { return };
        let given = off.map(|seconds| {
            let micros = self.clock.wall().duration_since(UNIX_EPOCH).expect("after it").as_micros();
            let now = u64::try_from(micros).expect("in time").saturating_add_signed(seconds * 1_000_000);
            self.l2 = now.max(self.l2 + 1);
            self.l2
        });
        self.shared.release(0, &record, given);
    }

    fn commit(&mut self) {
        let work = self.shared.take(&mut self.shared.state.lock());
        self.shared.commit(&mut self.store, work);
        for known in self.known.values_mut() {
            let answer = known.reply.as_mut().and_then(|reply| reply.try_recv().ok());
            if let Some(answer) = answer {
                known.reply = None;
                known.is_acknowledged = answer.is_ok();
                known.is_refused = answer.is_err();
            }
        }
    }

    fn send(&mut self) {
        if !self.under_way.is_empty() {
            return;
        }
        self.clock.advance(INTERVAL);
        let keyspace = self.shared.keyspace(0).expect("attached");
        let batch = self.shared.state.lock().queues[0].take(
            self.clock.now(),
            self.shared.journal,
            &keyspace.counters,
        );
        for write in &batch {
            let known = &self.known[&write.id.number];
            assert!(self.held.iter().all(|held| held.number != write.id.number), "a held write was sent");
            assert!(!known.is_refused, "a refused write was sent");
            assert!(known.is_acknowledged, "a write was sent that nobody was told of");
            assert_eq!((&known.key, &known.operation), (&write.key, &write.operation));
            let newest = self.newest_sent.get(&write.key).copied().unwrap_or(0);
            assert!(newest <= write.id.number, "{} was sent after {newest}", write.id.number);
            let open = *self.open.entry(write.key.clone()).or_insert(write.id.number);
            assert_eq!(open, write.id.number, "a write overtook one that was sent and not settled");
            self.newest_sent.insert(write.key.clone(), write.id.number);
        }
        self.under_way = batch;
    }

    fn settle(&mut self, bits: u64) {
        let batch = std::mem::take(&mut self.under_way);
        let outcomes: Vec<Outcome> = batch
            .iter()
            .enumerate()
            .map(|(index, write)| match (bits >> (3 * index)) & 7 {
                0..=2 => {
                    self.apply(write);
                    Outcome::Stored
                }
                3 | 4 => Outcome::Refused("never".into()),
                5 => Outcome::Failed("no".into()),
                6 => Outcome::LeftAlone { reason: "not asked".into(), again: Duration::from_secs(2) },
                // It was applied, and the answer was lost.
                _ => {
                    self.apply(write);
                    Outcome::Unavailable("lost".into())
                }
            })
            .collect();
        self.settled(&batch, &outcomes, None);
    }

    fn fail(&mut self) {
        let batch = std::mem::take(&mut self.under_way);
        let outcomes = vec![Outcome::Failed("hung".into()); batch.len()];
        self.settled(&batch, &outcomes, Some(batch.len()));
    }

    fn settled(&mut self, batch: &[Write], outcomes: &[Outcome], failed_with: Option<usize>) {
        let keyspace = self.shared.keyspace(0).expect("attached");
        self.shared.settle(0, &keyspace, batch, outcomes, failed_with);
        for (write, outcome) in batch.iter().zip(outcomes) {
            if *outcome == Outcome::Stored {
                self.over.insert(write.id.number);
                self.open.remove(&write.key);
            }
        }
        let letters = self.shared.state.lock().queues[0].dead_letters(0, usize::MAX);
        for letter in letters {
            let number = letter.write.id.number;
            if self.dead.insert(number) {
                self.over.insert(number);
                self.open.remove(&letter.write.key);
            }
        }
    }

    /// What is brought back waits as if it had never been given up, and so does what it had taken the place of.
    fn retry(&mut self, key: u8) {
        let key = Bytes::from(vec![b'k', key]);
        let (now, mut notes) = (self.clock.now(), Vec::new());
        let mut state = self.shared.state.lock();
        let queue = &mut state.queues[0];
        let letters = queue.dead_letters(0, usize::MAX);
        let heirs: Vec<(u64, WriteState)> =
            self.known.keys().map(|number| (*number, queue.state_of(*number, 0, now))).collect();
        let Ok(count) = queue.revive(&key, now, &mut notes) else { return };
        let back: Vec<u64> = letters
            .iter()
            .filter(|letter| letter.write.key == key && !letter.is_overtaken)
            .map(|letter| letter.write.id.number)
            .collect();
        assert_eq!(count, back.len());
        for (number, before) in heirs {
            let WriteState::Coalesced { by: Some(heir) } = before else { continue };
            let is_back = back.contains(&heir.number);
            assert!(
                !is_back || !queue.is_settled(number),
                "{number} waits with {heir}, and is called settled"
            );
        }
        self.shared.note(&mut state, notes);
        drop(state);
        for number in back {
            self.over.remove(&number);
            self.dead.remove(&number);
            self.known.entry(number).and_modify(|known| known.is_acknowledged = true);
        }
    }

    /// The origin applies a write, unless it has a newer one.
    fn apply(&mut self, write: &Write) {
        let has = self.origin.get(&write.key).map_or(0, |(version, ..)| *version);
        if has < write.version {
            let written = (write.version, write.id.number, write.operation.clone());
            self.origin.insert(write.key.clone(), written);
        }
    }

    /// What a local read sees is the newest acknowledged write that is not over.
    fn check_reads(&self) {
        let mut newest: BTreeMap<&Bytes, (u64, &Operation)> = BTreeMap::new();
        for (number, known) in self.known.iter().filter(|(_, known)| known.is_acknowledged) {
            newest.insert(&known.key, (*number, &known.operation));
        }
        let state = self.shared.state.lock();
        for (key, (number, operation)) in newest {
            let expected = match operation {
                _ if self.over.contains(&number) => Pending::Nothing,
                Operation::Store(value) => Pending::Stored(value.clone()),
                Operation::Delete => Pending::Deleted,
            };
            assert_eq!(state.queues[0].pending(key), expected, "of write {number}");
        }
    }

    /// What was acknowledged is told of until it is over, and what is told of it is so.
    fn check_states(&self) {
        let (state, now) = (self.shared.state.lock(), self.clock.now());
        let state_of = |number| state.queues[0].state_of(number, 0, now);
        for (number, known) in self.known.iter().filter(|(_, known)| known.is_acknowledged) {
            let (is_over, is_dead) = (self.over.contains(number), self.dead.contains(number));
            let of_key = |other: &u64| *other > *number && self.known[other].key == known.key;
            match state_of(*number) {
                WriteState::Waiting { write, .. } => {
                    assert!(!is_over, "{number} waits and is over");
                    assert_eq!(
                        (write.id.number, &write.key, &write.operation),
                        (*number, &known.key, &known.operation)
                    );
                }
                WriteState::Dead(letter) => assert!(is_dead && letter.write.id.number == *number),
                WriteState::Coalesced { by: Some(heir) } => {
                    assert!(!is_over && of_key(&heir.number), "{number} is not of {heir}");
                    let stands = state_of(heir.number);
                    assert!(matches!(stands, WriteState::Waiting { .. } | WriteState::Dead(_)), "{stands:?}");
                }
                WriteState::Coalesced { by: None } => {
                    assert!(!is_over && self.over.iter().any(of_key), "nothing stands for {number}");
                }
                WriteState::Gone => assert!(is_over && !is_dead, "{number} is gone and not over"),
            }
        }
    }

    /// The process ends, and another opens what is left on the disk.
    fn restart(&mut self, left: Disk, is_power_loss: bool) {
        self.clock.advance(RESTART);
        let (shared, store) = start(&left, &self.clock);
        (self.disk, self.shared, self.store) = (left, shared, store);
        self.under_way.clear();
        self.held.clear();
        self.open.clear();
        self.newest_sent.clear();
        let state = self.shared.state.lock();
        let waiting = state.queues[0].waiting(0, usize::MAX);
        let letters = state.queues[0].dead_letters(0, usize::MAX);
        drop(state);
        self.dead = letters.iter().map(|letter| letter.write.id.number).collect();
        let mut newest: BTreeMap<Bytes, u64> = BTreeMap::new();
        for write in &waiting {
            let known = &self.known[&write.id.number];
            assert_eq!(
                (&known.key, &known.operation),
                (&write.key, &write.operation),
                "another write than before"
            );
            newest.insert(write.key.clone(), write.id.number);
        }
        for (number, known) in &self.known {
            let survives = known.survives(is_power_loss);
            let has = self.origin.get(&known.key).map_or(0, |(_, number, _)| *number);
            let waits = newest.get(&known.key).copied().unwrap_or(0);
            let is_there = has >= *number || waits >= *number || self.dead.contains(number);
            assert!(is_there || !survives || self.is_overtaken(*number), "write {number} is lost");
        }
        self.remember_what_is_sure(&waiting, is_power_loss);
        self.forget_what_is_gone(&waiting);
    }

    /// Whether a newer write of the key was given up after this one had been coalesced into it.
    fn is_overtaken(&self, number: u64) -> bool {
        let key = &self.known[&number].key;
        self.dead.iter().any(|dead| *dead > number && self.known[dead].key == *key)
    }

    /// What the new life knows: what waits is acknowledged, the rest is over.
    fn forget_what_is_gone(&mut self, waiting: &[Write]) {
        let waiting: BTreeSet<u64> = waiting.iter().map(|write| write.id.number).collect();
        for (number, known) in &mut self.known {
            known.reply = None;
            known.is_acknowledged = waiting.contains(number);
            known.is_refused = false;
        }
        self.over.clear();
    }

    /// Lets everything go well until nothing is left to do.
    fn end(&mut self) {
        self.disk.fail(Faults::default());
        while !self.held.is_empty() {
            self.release(Some(0));
        }
        for _ in 0..2_000 {
            self.commit();
            self.send();
            self.settle(0);
            self.clock.advance(Duration::from_mins(5));
            if self.shared.state.lock().totals().0 == 0 {
                break;
            }
        }
        assert_eq!(self.shared.state.lock().totals().0, 0, "something never leaves");
        for (number, known) in self.known.iter().filter(|(_, known)| known.is_acknowledged) {
            let has = self.origin.get(&known.key).map_or(0, |(_, number, _)| *number);
            assert!(
                has >= *number || self.dead.contains(number) || self.is_overtaken(*number),
                "write {number} never came to the origin"
            );
        }
        for (_, number, operation) in self.origin.values() {
            assert_eq!(operation, &self.known[number].operation);
        }
        let queue = &self.shared.state.lock().queues[0];
        assert!(queue.is_settled(u64::MAX), "a flush would wait for ever");
        assert_eq!(queue.bytes(), queue.dead_letters(0, usize::MAX).iter().map(dead_weight).sum::<usize>());
    }
}

fn dead_weight(letter: &crate::behind::record::DeadLetter) -> usize {
    crate::behind::record::weight(letter.write.key.len(), &letter.write.operation)
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2_000, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn no_history_loses_or_reorders_a_write(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
        }
        world.end();
    }
}

#[test]
fn writes_of_a_batch_that_failed_as_a_whole_come_in_smaller_ones() {
    let mut world = World::new();
    for key in 0..3 {
        world.write(key, false, Ack::Fsync, false);
    }
    world.commit();
    world.send();
    assert_eq!(world.under_way.len(), 3);
    world.fail();
    world.clock.advance(Duration::from_mins(5));
    world.send();
    assert_eq!(world.under_way.len(), 1, "all three are due, and whose fault it was is not known");
    world.settle(0);
    world.end();
}

#[test]
fn what_is_brought_back_stands_for_what_it_had_taken_the_place_of() {
    let mut world = World::new();
    for _ in 0..2 {
        world.write(0, false, Ack::Fsync, false);
    }
    world.commit();
    world.send();
    assert_eq!(world.under_way.len(), 1, "one has taken the place of the other");
    world.run(&Step::Settle(3));
    assert_eq!(world.dead.len(), 1);
    world.run(&Step::Retry(0));
    assert!(world.dead.is_empty());
    world.end();
}

#[test]
fn what_is_brought_back_before_its_version_is_known_waits_for_that() {
    let mut world = World::new();
    world.write(0, false, Ack::Fsync, false);
    world.commit();
    world.send();
    world.write(0, false, Ack::Fsync, true);
    world.commit();
    for step in [Step::Settle(3), Step::Retry(0), Step::Send, Step::Settle(0), Step::Send] {
        world.run(&step);
    }
    assert!(world.under_way.is_empty() && world.held.len() == 1);
    world.end();
}
