//! What the server keeps for one partition: its counter, its log, the generations of its tags.
//!
//! 1. Numbers are given out once: to a change ([`Partition::change`], logged) or to a lease ([`Partition::grant`], not).
//! 2. Each message names the number of the one before it, so that a gap in the chain is seen.
//! 3. A counter that was lost is made anew, ahead of the server's time; leases of the old one are void.
//! 4. A server of another incarnation greets a partition before it changes it: that raises the counter and voids leases.

use super::server::Now;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use terrace_core::bus::Incarnation;
use terrace_core::mutants::{self, Mutant};
use terrace_core::remote::{Generation, ServerTime, Sweep, SweepRule};
use terrace_core::{Key, Tag, Version};

/// One entry of a partition's log, and what is published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The number of the change before; zero if this is the first.
    pub previous: u64,
    /// The number of this change.
    pub sequence: u64,
    /// The node that asked for it.
    pub origin: u64,
    /// What was done: `set`, `invalidate`, `tag`, `sweep`, `floor` or `hello`.
    pub operation: &'static str,
    /// The key, tag or pattern.
    pub argument: String,
}

#[derive(Clone)]
struct Counter {
    sequence: u64,
    top: u64,
    born: u64,
    /// What it began with.
    first: u64,
    barrier: u64,
    rules: Vec<(u64, Sweep)>,
    /// The incarnation of the server that it was last greeted by.
    incarnation: Option<Incarnation>,
}

impl Message {
    /// One that has no number yet.
    fn of(origin: u64, operation: &'static str, argument: &str) -> Self {
        Self { previous: 0, sequence: 0, origin, operation, argument: argument.to_owned() }
    }
}

impl fmt::Display for Message {
    /// Writes the message as it is published.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { previous, sequence, origin, operation, argument } = self;
        write!(f, "1 {previous} {sequence} {origin:016x} {operation} {argument}")
    }
}

/// A granted lease, as the server remembers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Grant {
    pub(super) version: u64,
    pub(super) born: u64,
}

#[derive(Clone)]
struct Generations {
    floor: Generation,
    bumped: HashMap<Tag, Generation>,
}

/// The state of one partition.
#[derive(Clone, Default)]
pub(super) struct Partition {
    counter: Option<Counter>,
    generations: Option<Generations>,
    log: VecDeque<Message>,
    /// What the call that is running has published.
    published: Vec<Message>,
}

impl Partition {
    /// Sweeps by pattern whose victims are still there.
    const RULES_MAX: usize = 64;
    /// Messages that the log keeps.
    const LOG_MAX: usize = 4096;
    /// Bumped tags that are told apart; one more, and all tags of the partition get a new floor.
    pub(super) const TAGS_MAX: usize = 4096;
    /// How far the clocks of two servers are apart at most, in microseconds.
    const SKEW_MAX: u64 = 1 << 30;
    /// Changes that a server has forgotten at most while its numbers run ahead of its clock.
    const FORGOTTEN_MAX: u64 = 1 << 14;

    fn counter(&mut self, now: Now, origin: u64) -> Counter {
        if let Some(counter) = &self.counter {
            return counter.clone();
        }
        let micros = now.micros;
        let logged = self.log.back().map_or(0, |message| message.sequence + Self::FORGOTTEN_MAX);
        let sequence = logged.max(micros + 2 * Self::SKEW_MAX);
        let counter = Counter {
            sequence,
            top: sequence,
            born: micros,
            first: sequence,
            barrier: 0,
            rules: Vec::new(),
            incarnation: None,
        };
        self.counter = Some(counter.clone());
        self.log.clear();
        self.append(Message { sequence, ..Message::of(origin, "floor", "") });
        counter
    }

    fn append(&mut self, message: Message) {
        if self.log.len() == Self::LOG_MAX {
            self.log.pop_front();
        }
        if message.operation != "set" || !mutants::is(Mutant::ForgottenPublish) {
            self.published.push(message.clone());
        }
        self.log.push_back(message);
    }

    /// What was published since this was asked last.
    pub(super) fn take_published(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.published)
    }

    /// The number of the last change; zero if there is no counter.
    pub(super) fn sequence(&self) -> Version {
        self.counter.as_ref().map_or(Version::ZERO, |counter| counter.sequence.into())
    }

    /// Gives a change its number, and logs it.
    pub(super) fn change(&mut self, now: Now, origin: u64, operation: &'static str, argument: &str) -> u64 {
        let counter = self.counter(now, origin);
        let sequence = now.micros.max(counter.top + 1);
        self.commit(counter, sequence, Message::of(origin, operation, argument));
        sequence
    }

    fn commit(&mut self, counter: Counter, sequence: u64, message: Message) {
        let previous = counter.sequence;
        self.counter = Some(Counter { sequence, top: sequence, ..counter });
        self.append(Message { previous, sequence, ..message });
    }

    /// Greets the partition by the server's incarnation.
    pub(super) fn hello(&mut self, now: Now, origin: u64, incarnation: Incarnation) {
        let known = self.counter.clone();
        let Some(counter) = known.filter(|counter| counter.incarnation != Some(incarnation)) else { return };
        let sequence = (counter.top + Self::FORGOTTEN_MAX).max(now.micros + Self::SKEW_MAX);
        let counter = Counter { barrier: sequence, incarnation: Some(incarnation), ..counter };
        self.commit(counter, sequence, Message::of(origin, "hello", ""));
    }

    /// Gives a lease its number.
    pub(super) fn grant(&mut self, now: Now, origin: u64) -> Grant {
        let mut counter = self.counter(now, origin);
        counter.top = now.micros.max(counter.top + 1);
        let grant = Grant { version: counter.top, born: counter.born };
        self.counter = Some(counter);
        grant
    }

    /// Whether a lease may still fill.
    pub(super) fn honours(&self, grant: Grant) -> bool {
        self.counter.as_ref().is_some_and(|counter| {
            let is_above = grant.version > counter.barrier || mutants::is(Mutant::NoBarrier);
            counter.born == grant.born && is_above
        })
    }

    /// Whether no more rules can be written down by a sweep of this rule.
    pub(super) fn refuses(&self, rule: &SweepRule) -> bool {
        let stay = |(_, sweep): &&(u64, Sweep)| *rule != SweepRule::All && sweep.rule != *rule;
        self.rules().iter().filter(stay).count() >= Self::RULES_MAX
    }

    /// Writes a rule down that kills what is older, and voids every lease. Returns the number of that.
    pub(super) fn sweep(&mut self, now: Now, origin: u64, sweep: &Sweep) -> Version {
        let sequence = self.change(now, origin, "sweep", sweep.rule.pattern());
        if let Some(counter) = &mut self.counter {
            counter.barrier = sequence;
            counter.rules.retain(|(_, other)| sweep.rule != SweepRule::All && other.rule != sweep.rule);
            counter.rules.push((sequence, sweep.clone()));
        }
        sequence.into()
    }

    fn rules(&self) -> &[(u64, Sweep)] {
        self.counter.as_ref().map_or(&[], |counter| &counter.rules)
    }

    /// The sweeps whose victims may still be there.
    pub(super) fn sweeps(&self) -> impl Iterator<Item = &Sweep> {
        self.rules().iter().map(|(_, sweep)| sweep)
    }

    /// Whether a value of this version is dead.
    pub(super) fn kills(&self, key: &Key, version: Version) -> bool {
        let is_of = |counter: &Counter| version >= counter.first.into();
        let is_older = version != Version::ZERO && !self.counter.as_ref().is_some_and(is_of);
        let is_swept =
            |(number, sweep): &(u64, Sweep)| version < (*number).into() && sweep.rule.names(key.as_str());
        is_older || self.rules().iter().any(is_swept)
    }

    /// Whether a value of this version was killed by this sweep, and none by its rule came since.
    pub(super) fn reaps(&self, key: &Key, id: u64, version: Version) -> bool {
        let is_killed = |(number, sweep): &(u64, Sweep)| {
            sweep.id == id && version < (*number).into() && sweep.rule.names(key.as_str())
        };
        self.rules().iter().any(is_killed)
    }

    /// Ends a sweep.
    pub(super) fn retire(&mut self, id: u64) {
        if let Some(counter) = &mut self.counter {
            counter.rules.retain(|(_, sweep)| sweep.id != id);
        }
    }

    /// Which counter it is that counts now; zero if there is none.
    pub(super) fn born(&self) -> u64 {
        self.counter.as_ref().map_or(0, |counter| counter.born)
    }

    fn new_floor(&mut self, now: Now, version: u64) {
        let floor = Generation { version: version.into(), bumped_at: ServerTime(now.micros) };
        self.generations = Some(Generations { floor, bumped: HashMap::new() });
    }

    /// The generation of a tag; makes the table if there is none.
    pub(super) fn generation(&mut self, now: Now, origin: u64, tag: Option<&Tag>) -> Generation {
        if self.generations.is_none() {
            let version =
                if mutants::is(Mutant::NoFloor) { 0 } else { self.change(now, origin, "floor", "") };
            self.new_floor(now, version);
        }
        let table = self.generations.as_ref().expect("it was made above if it was missing");
        tag.and_then(|tag| table.bumped.get(tag)).copied().unwrap_or(table.floor)
    }

    /// Gives a tag a new generation. Returns its version.
    pub(super) fn bump(&mut self, now: Now, origin: u64, tag: &Tag) -> Version {
        let is_full =
            |table: &Generations| table.bumped.len() >= Self::TAGS_MAX && !table.bumped.contains_key(tag);
        if self.generations.as_ref().is_none_or(is_full) {
            let version = self.change(now, origin, "floor", "");
            self.new_floor(now, version);
        }
        let version = Version::from(self.change(now, origin, "tag", tag.as_str()));
        if let Some(table) = &mut self.generations {
            table.bumped.insert(tag.clone(), Generation { version, bumped_at: ServerTime(now.micros) });
        }
        version
    }

    pub(super) fn log(&self) -> Vec<Message> {
        self.log.iter().cloned().collect()
    }

    pub(super) fn lose_log(&mut self) {
        self.log.clear();
    }

    pub(super) fn lose_counter(&mut self) {
        self.counter = None;
    }

    pub(super) fn lose_generations(&mut self) {
        self.generations = None;
    }
}
