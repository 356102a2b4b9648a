//! Tickets, trust and flights under many schedules: shuttle switches threads at each lock and atomic by chance.
//!
//! `TERRACE_SHUTTLE_ITERATIONS` says how often (1,000 each unless set). A schedule that fails is printed: `shuttle::replay`
//! runs it again. All atomics are taken to be sequentially consistent.
//!
//! In each test one number is the truth that L2 holds. What must never be seen is an older one, by whoever began to look
//! after the change had returned.

use super::bans::Bans;
use super::tickets::Tickets;
use super::trust::Trust;
use crate::entry::{Found, Resident, Tier};
use crate::flight::{Boarding, Flights, Joinable, Joined, Outcome};
use crate::l1::{Copy, KeyRef, L1};
use crate::terms::Lasting;
use crate::write::watch::{Standing, Stored, Watching};
use shuttle::future::block_on;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::{Config, Runner, thread};
use std::sync::Arc;
use std::time::Duration;
use terrace_core::{Chance, Clock, Key, KeyName, Moment, Namespace, Ttl, Version};
use terrace_memory::Policy;

const SEED: u64 = 0x7E44_ACE6;
/// How many ordering constraints PCT tries to meet at once.
const PCT_DEPTH: usize = 3;
const NAME: KeyRef<'static> = KeyRef { space: 0, name: KeyName::Text("k") };
const OLD: u64 = 1;
const NEW: u64 = 2;

/// Runs a test with many schedules.
fn explore(test: fn()) {
    let asked = std::env::var("TERRACE_SHUTTLE_ITERATIONS").ok();
    let iterations =
        asked.map_or(1_000, |text| text.parse().expect("TERRACE_SHUTTLE_ITERATIONS is a number"));
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    config.silence_warnings = true;
    Runner::new(RandomScheduler::new_from_seed(SEED, iterations), config.clone()).run(test);
    Runner::new(PctScheduler::new_from_seed(SEED, PCT_DEPTH, iterations), config).run(test);
}

fn key() -> Key {
    Key::new("k").expect("valid")
}

fn resident(version: u64) -> Resident {
    let lasting = Lasting { ttl: Ttl::Never, grace: Duration::ZERO };
    Resident::new(Arc::new(version), version.into(), Moment::from_nanos(0), lasting)
}

fn copy(version: u64) -> Copy {
    Copy { resident: resident(version), weight_bytes: 1, ttl: Ttl::Never, ahead: None }
}

struct Node {
    l1: L1,
    tickets: Arc<Tickets>,
    truth: AtomicU64,
}

impl Node {
    fn new() -> Arc<Self> {
        let tickets = Arc::new(Tickets::new(&Chance::seeded(1)));
        let l1 = L1::new(10, 0, Policy::Default, None, &tickets, &Clock::manual()).expect("a bound is set");
        Arc::new(Self { l1, tickets, truth: AtomicU64::new(OLD) })
    }

    /// A read of L2 that is kept.
    fn read(&self) {
        let ticket = self.tickets.take(NAME);
        let version = self.truth.load(Ordering::SeqCst);
        self.l1.keep(0, &key(), ticket, copy(version));
    }

    /// Which version L1 has.
    fn peek(&self) -> Option<Version> {
        let bans = Bans::new(Namespace::new("n").expect("valid"));
        self.l1.peek_with(NAME, &bans, |there| there.version)
    }
}

#[test]
fn shuttle_a_read_keeps_nothing_that_was_removed_meanwhile() {
    explore(|| {
        let node = Node::new();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let node = Arc::clone(&node);
                thread::spawn(move || node.read())
            })
            .collect();
        node.l1.drop_copy(NAME);
        node.truth.store(NEW, Ordering::SeqCst);
        node.l1.drop_copy(NAME);
        assert_ne!(node.peek(), Some(OLD.into()), "the change has returned");
        for reader in readers {
            reader.join().expect("no panic");
        }
        assert_ne!(node.peek(), Some(OLD.into()), "the readers have ended");
    });
}

#[test]
fn shuttle_a_write_keeps_its_copy_unless_another_was_heard() {
    explore(|| {
        let node = Node::new();
        node.l1.drop_copy(NAME);
        let ticket = node.tickets.take(NAME);
        let hearing = Arc::clone(&node);
        let listener = thread::spawn(move || {
            hearing.l1.drop_older(NAME, NEW.into());
            hearing.l1.drop_older(NAME, (NEW + 1).into());
        });
        let reading = Arc::clone(&node);
        let reader = thread::spawn(move || reading.read());
        node.truth.store(NEW + 1, Ordering::SeqCst);
        let renewed = node.tickets.renew([(ticket, NEW.into())])[0];
        node.l1.settle(0, &key(), renewed, Some(copy(NEW)));
        listener.join().expect("no panic");
        reader.join().expect("no panic");
        let left = node.peek();
        assert!(left.is_none_or(|left| left == (NEW + 1).into()), "{left:?} was overwritten before");
    });
}

/// An origin, and an L2 that has the log of its changes.
#[derive(Default)]
struct Beyond {
    row: u64,
    value: Option<u64>,
    log: Vec<u64>,
}

impl Beyond {
    /// Changes L2. Gives the change's number.
    fn change(&mut self, value: Option<u64>) -> Version {
        self.value = value;
        self.log.push(self.log.len() as u64 + 1);
        (self.log.len() as u64).into()
    }
}

/// A node that writes through the origin.
struct Writer {
    node: Arc<Node>,
    watching: Watching,
    beyond: Mutex<Beyond>,
}

impl Writer {
    fn new() -> Arc<Self> {
        Arc::new(Self { node: Node::new(), watching: Watching::default(), beyond: Mutex::default() })
    }

    fn beyond(&self) -> shuttle::sync::MutexGuard<'_, Beyond> {
        self.beyond.lock().expect("nobody panicked")
    }

    /// What `write::through` does with one key.
    fn write(&self, value: u64) {
        let Node { l1, tickets, .. } = &*self.node;
        let first = tickets.take(NAME);
        self.beyond().row = value;
        l1.drop_copy(NAME);
        let ticket = tickets.take(NAME);
        if !Tickets::alone(&[(first, ticket)])[0] {
            return self.drop_key();
        }
        let version = self.beyond().change(Some(value));
        let renewed = tickets.renew([(ticket, version)])[0];
        let copy = Copy { resident: Resident { version, ..resident(value) }, ..copy(value) };
        l1.settle(0, &key(), renewed, Some(copy));
        let stored = Stored { version, born: 0, tags: Vec::new() };
        let was_alone =
            |_: &Stored| renewed.map_or(Some(false), |renewed| tickets.was_alone(renewed, version));
        if self.watching.store(&key(), stored, Moment::from_nanos(0), was_alone) == Standing::Contested {
            self.drop_key();
        }
    }

    fn drop_key(&self) {
        let Node { l1, tickets, .. } = &*self.node;
        l1.drop_copy(NAME);
        let version = self.beyond().change(None);
        l1.drop_copy(NAME);
        let was_heard = || tickets.has_heard(NAME, version);
        self.watching.remove(&key(), version, true, Moment::from_nanos(0), was_heard);
    }

    /// Hears the message after so many. Returns whether there was one.
    fn hear(&self, heard: usize) -> bool {
        let Some(number) = self.beyond().log.get(heard).copied() else { return false };
        let apply = || self.node.l1.drop_older(NAME, number.into());
        if self.watching.hear(&key(), number.into(), |_| false, apply) {
            self.node.l1.leave_older(NAME, number.into());
        }
        true
    }

    /// Two writes, one after the other, while messages are heard, and others change the key or not. Gives what the tiers have when all was
    /// heard, and what they should.
    fn run(self: &Arc<Self>, others: bool) -> ([Option<u64>; 2], u64) {
        let hearing = Arc::clone(self);
        let listener = thread::spawn(move || {
            let mut heard = 0;
            for _ in 0..6 {
                heard += usize::from(hearing.hear(heard));
                thread::yield_now();
            }
            heard
        });
        let changing = Arc::clone(self);
        let stranger = thread::spawn(move || {
            if others {
                changing.beyond().row = 9;
                changing.beyond().change(None);
            }
        });
        self.write(1);
        self.write(2);
        stranger.join().expect("no panic");
        let mut heard = listener.join().expect("no panic");
        while self.hear(heard) {
            heard += 1;
        }
        let limit = Duration::from_secs(1);
        if !self.watching.due(Duration::ZERO, Moment::from_nanos(0), limit).is_empty() {
            self.drop_key();
        }
        let bans = Bans::new(Namespace::new("n").expect("valid"));
        let read = |there: &Resident| *there.value.downcast_ref::<u64>().expect("a number");
        let beyond = self.beyond();
        ([self.node.l1.peek_with(NAME, &bans, read), beyond.value], beyond.row)
    }
}

#[test]
fn shuttle_two_writes_of_one_node_leave_the_second() {
    explore(|| {
        let (tiers, row) = Writer::new().run(false);
        assert_eq!((tiers, row), ([Some(2); 2], 2));
    });
}

#[test]
fn shuttle_two_writes_of_one_node_leave_nothing_that_the_origin_has_not() {
    explore(|| {
        let (tiers, row) = Writer::new().run(true);
        assert!(
            tiers.iter().all(|tier| tier.is_none_or(|value| value == row)),
            "{tiers:?}, and {row} is true"
        );
    });
}

#[test]
fn shuttle_a_trusted_copy_is_no_older_than_the_beat() {
    explore(|| {
        let node = Node::new();
        node.read();
        let (clock, trust) = (Clock::manual(), Arc::new(Trust::not_yet()));
        let (hearing, extended, time) = (Arc::clone(&node), Arc::clone(&trust), clock.clone());
        let listener = thread::spawn(move || {
            hearing.truth.store(NEW, Ordering::SeqCst);
            hearing.l1.drop_older(NAME, NEW.into());
            extended.extend(time.now(), Duration::from_secs(1), &time);
        });
        if trust.holds(&clock) {
            assert_ne!(node.peek(), Some(OLD.into()), "the beat came after the change");
        }
        listener.join().expect("no panic");
    });
}

/// Loads under the flight that is led.
fn lead(node: &Node, flights: &Flights) -> Option<u64> {
    match flights.board(&key(), NAME, &node.tickets, Joinable::Unchanged, Clock::manual().now(), None) {
        Boarding::Lead(lead) => {
            let version = node.truth.load(Ordering::SeqCst);
            let found = Found {
                resident: resident(version),
                tier: Tier::Origin,
                encoded: None,
                stale: None,
                is_shared: false,
            };
            let is_valid = node.tickets.is_valid(lead.ticket());
            lead.end(if is_valid { Outcome::Answer(Some(found)) } else { Outcome::Overtaken(Some(found)) });
            Some(version)
        }
        Boarding::Join(flight) => {
            let Joined::Ended(joined) = block_on(flight.joined()) else { return None };
            Some(joined.ok()??.resident.version.get())
        }
        Boarding::Wait(_) => None,
    }
}

#[test]
fn shuttle_who_comes_after_a_change_joins_nothing_older() {
    explore(|| {
        let (node, flights) = (Node::new(), Arc::new(Flights::default()));
        let others: Vec<_> = (0..2)
            .map(|_| {
                let (node, flights) = (Arc::clone(&node), Arc::clone(&flights));
                thread::spawn(move || lead(&node, &flights))
            })
            .collect();
        node.truth.store(NEW, Ordering::SeqCst);
        node.tickets.void(NAME);
        assert_ne!(lead(&node, &flights), Some(OLD), "it came after the change");
        for other in others {
            other.join().expect("no panic");
        }
    });
}
