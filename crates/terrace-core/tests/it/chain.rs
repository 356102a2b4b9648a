//! A node that follows a partition through every loss finds every change, or learns that it did not.
//!
//! A server makes changes, keeps a short log of them, and now and then forgets: all it knew, or the last changes. Its numbers
//! jump ahead or start lower. Messages are dropped and garbled on their way, connections end. Each change remembers the
//! one it was made upon, which the chain is never shown. Then:
//!
//! 1. What is applied was made upon what was applied before, or upon where the chain began after [`Step::Suspect`].
//! 2. When a counter was read, a beat was sent after it and is back, and nothing was read since for the chain itself, then
//!    each change that was made before the reading was applied, or the partition was suspect since. Excepted is what no number can show: a change that was forgotten
//!    before it or one made upon it was heard or read.
//! 3. The same holds of what was made before a message when that is heard, once a beat is back that was sent after the last
//!    reading, and of all that was heard when the beat itself is.
//! 4. Where the server forgets nothing and only connections end, nothing is suspect but the beginning.

use proptest::prelude::*;
use std::collections::VecDeque;
use terrace_core::Version;
use terrace_core::bus::{Change, Message, MessageError, NodeId};
use terrace_core::coherence::{Chain, Step};

/// What a server does.
#[derive(Clone, Copy, Debug)]
enum Serve {
    /// A change, by a clock that shows this.
    Change(u64),
    /// It forgets everything.
    Flush,
    /// It forgets this many changes, at most as many as its log holds.
    Rollback(usize),
}

/// What happens.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Served(Serve),
    /// The node hears what was published first, or its beat.
    Hear,
    Drop,
    Garble,
    /// The connection is lost, and the channel subscribed anew.
    Subscribe,
    /// The counter is read, after which messages are handed out.
    Join,
    ReadCounter,
    SendBeat,
    /// Before the next reading of a log the server does this.
    Meanwhile(Serve),
}

/// A change as it was made.
struct Made {
    previous: u64,
    number: u64,
    upon: Option<usize>,
    at: usize,
    /// Its message was heard, or it was read in the log, before it was forgotten.
    is_seen: bool,
    is_applied: bool,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Kept,
    /// Forgotten, and the numbers show it.
    Forgotten,
    /// Forgotten, and the numbers show it only to those who have heard of it.
    Excepted,
}

impl Made {
    fn message(&self) -> Message {
        Message {
            previous: self.previous.into(),
            number: self.number.into(),
            origin: NodeId(1),
            change: Change::Floor,
        }
    }
}

#[derive(Clone, Copy)]
enum InFlight {
    Published(usize),
    Garbled(usize),
    Beat { reading: Option<Reading>, sent: usize },
}

#[derive(Clone, Copy)]
struct Reading {
    began: Option<Version>,
    counter: Version,
    at: usize,
}

#[derive(PartialEq)]
enum Connection {
    Subscribed,
    Joined,
}

struct World {
    log_length: usize,
    log_max: usize,
    now: usize,
    made: Vec<Made>,
    /// The last change that the server knows of.
    head: Option<usize>,
    channel: VecDeque<InFlight>,
    connection: Connection,
    chain: Chain,
    reading: Option<Reading>,
    /// When a counter or a log was last read for the chain.
    read_at: usize,
    /// When a beat was last back that was sent after that.
    settled_at: usize,
    suspect_at: usize,
    suspects: usize,
    meanwhile: Option<Serve>,
}

impl World {
    fn new(log_max: usize) -> Self {
        Self {
            log_length: 0,
            log_max,
            now: 1,
            made: Vec::new(),
            head: None,
            channel: VecDeque::new(),
            connection: Connection::Subscribed,
            chain: Chain::default(),
            reading: None,
            read_at: 0,
            settled_at: 0,
            suspect_at: 0,
            suspects: 0,
            meanwhile: None,
        }
    }

    fn counter(&self) -> u64 {
        self.head.map_or(0, |head| self.made[head].number)
    }

    fn change(&mut self, clock: u64) {
        if self.head.is_none() {
            self.log_length = 0;
            self.publish(clock);
        }
        self.publish(clock);
    }

    fn publish(&mut self, clock: u64) {
        let previous = self.counter();
        let mut number = clock.max(previous + 1);
        while self.made.iter().any(|made| made.number == number) {
            number += 1;
        }
        let id = self.made.len();
        self.made.push(Made {
            previous,
            number,
            upon: self.head,
            at: self.now,
            is_seen: false,
            is_applied: false,
            fate: Fate::Kept,
        });
        self.head = Some(id);
        self.log_length = (self.log_length + 1).min(self.log_max);
        self.channel.push_back(InFlight::Published(id));
    }

    fn forget_head(&mut self, fate: Fate) {
        let Some(head) = self.head else { return };
        let made = &mut self.made[head];
        made.fate = fate;
        self.head = made.upon;
        self.log_length = self.log_length.saturating_sub(1);
    }

    fn serve(&mut self, serve: Serve) {
        match serve {
            Serve::Change(clock) => self.change(clock),
            Serve::Rollback(count) => {
                for _ in 0..count.min(self.log_length) {
                    self.forget_head(Fate::Excepted);
                }
            }
            // Whoever knew a number sees the flush by the counter alone.
            Serve::Flush => {
                let fate = if self.chain.last().is_none() { Fate::Excepted } else { Fate::Forgotten };
                while self.head.is_some() {
                    self.forget_head(fate);
                }
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        self.now += 1;
        match happening {
            Happening::Served(serve) => self.serve(serve),
            Happening::Meanwhile(serve) => self.meanwhile = Some(serve),
            Happening::Hear => self.hear(),
            Happening::Drop => {
                if self.channel.front().is_some_and(|front| !matches!(front, InFlight::Beat { .. })) {
                    self.channel.pop_front();
                }
            }
            Happening::Garble => {
                if let Some(&InFlight::Published(id)) = self.channel.front() {
                    self.channel[0] = InFlight::Garbled(id);
                }
            }
            Happening::Subscribe => {
                self.channel.clear();
                self.connection = Connection::Subscribed;
            }
            Happening::Join => {
                if self.connection == Connection::Subscribed {
                    self.connection = Connection::Joined;
                    self.join(self.counter().into());
                }
            }
            Happening::ReadCounter => {
                self.reading = self.read_counter();
            }
            Happening::SendBeat => {
                let reading = self.reading.take();
                self.channel.push_back(InFlight::Beat { reading, sent: self.now });
            }
        }
    }

    /// Nothing, if a change that is forgotten is still on its way: that shows by the reading after this one.
    fn read_counter(&self) -> Option<Reading> {
        let is_forgotten = |message: &InFlight| matches!(*message, InFlight::Published(id) if self.made[id].fate != Fate::Kept);
        let reading = Reading { began: self.chain.last(), counter: self.counter().into(), at: self.now };
        (!self.channel.iter().any(is_forgotten)).then_some(reading)
    }

    fn join(&mut self, counter: Version) {
        self.read_at = self.now;
        let step = self.chain.joined(counter);
        self.take(step, None);
    }

    fn hear(&mut self) {
        if self.connection != Connection::Joined {
            return;
        }
        match self.channel.pop_front() {
            None => {}
            Some(InFlight::Garbled(id)) => {
                let step = self.chain.garbled();
                self.take(step, None);
                self.check_heard(id);
            }
            Some(InFlight::Published(id)) => {
                self.made[id].is_seen |= self.made[id].fate == Fate::Kept;
                let before = self.chain.last();
                let step = self.chain.heard(&self.made[id].message());
                self.take(step, Some((id, before)));
                self.check_heard(id);
            }
            Some(InFlight::Beat { reading, sent }) => self.hear_beat(reading, sent),
        }
    }

    fn hear_beat(&mut self, reading: Option<Reading>, sent: usize) {
        let is_settled = sent > self.read_at;
        if is_settled {
            let step = self.chain.settle();
            self.take(step, None);
            self.settled_at = self.now;
            self.check(|made| made.is_seen);
        }
        if let Some(reading) = reading {
            if self.chain.lags(reading.began, reading.counter) {
                self.join(reading.counter);
            }
            if is_settled {
                self.check(|made| made.at <= reading.at);
            }
        }
    }

    fn take(&mut self, step: Step, heard: Option<(usize, Option<Version>)>) {
        match step {
            Step::Known => {}
            Step::Apply => {
                let (id, before) = heard.expect("only a message is applied");
                self.apply(id, before);
            }
            Step::Suspect => {
                self.suspect_at = self.now;
                self.suspects += 1;
            }
            Step::Missing { after, until } => self.repair(after, until),
        }
    }

    fn repair(&mut self, after: Version, until: Version) {
        assert_eq!(self.chain.last(), Some(after));
        if let Some(serve) = self.meanwhile.take() {
            self.serve(serve);
            self.now += 1;
        }
        self.read_at = self.now;
        let mut log = VecDeque::new();
        let mut id = self.head;
        for _ in 0..self.log_length {
            let Some(entry) = id.filter(|&id| self.made[id].number > after.get()) else { break };
            log.push_front(entry);
            id = self.made[entry].upon;
        }
        for &id in &log {
            self.made[id].is_seen = true;
        }
        let entries: Vec<Result<Message, MessageError>> =
            log.iter().map(|&id| Ok(self.made[id].message())).collect();
        match self.chain.repair(entries, until) {
            None => self.take(Step::Suspect, None),
            Some(missed) => {
                let mut before = Some(after);
                assert_eq!(missed.len(), log.len());
                for (id, message) in log.into_iter().zip(missed) {
                    self.apply(id, before);
                    before = Some(message.number);
                }
                assert_eq!(self.chain.last(), before);
            }
        }
    }

    fn apply(&mut self, id: usize, before: Option<Version>) {
        let upon = self.made[id].upon.map(|upon| self.made[upon].number.into());
        assert_eq!(upon, before, "not made upon what was applied before");
        self.made[id].is_applied = true;
    }

    /// The third property, of all that was made up to this change.
    fn check_heard(&self, id: usize) {
        if self.settled_at > self.read_at {
            let at = self.made[id].at;
            self.check(|made| made.at <= at);
        }
    }

    fn check(&self, is_due: impl Fn(&Made) -> bool) {
        for (id, made) in self.made.iter().enumerate().filter(|(_, made)| is_due(made)) {
            let is_told = made.is_applied || made.at < self.suspect_at;
            let is_excepted = made.fate == Fate::Excepted && !self.is_seen_or_followed(id);
            assert!(is_told || is_excepted, "{} was missed, and nobody was told", made.number);
        }
    }

    fn is_seen_or_followed(&self, of: usize) -> bool {
        let seen = (of..self.made.len()).filter(|&id| self.made[id].is_seen);
        seen.into_iter()
            .any(|id| std::iter::successors(Some(id), |&id| self.made[id].upon).any(|id| id == of))
    }
}

fn serves() -> impl Strategy<Value = Serve> {
    prop_oneof![
        8 => (0_u64..60).prop_map(Serve::Change),
        1 => Just(Serve::Flush),
        1 => (1_usize..4).prop_map(Serve::Rollback),
    ]
}

fn happenings() -> impl Strategy<Value = Happening> {
    prop_oneof![
        8 => serves().prop_map(Happening::Served),
        8 => Just(Happening::Hear),
        2 => Just(Happening::Drop),
        1 => Just(Happening::Garble),
        1 => Just(Happening::Subscribe),
        3 => Just(Happening::Join),
        3 => Just(Happening::ReadCounter),
        3 => Just(Happening::SendBeat),
        1 => serves().prop_map(Happening::Meanwhile),
    ]
}

fn harmless_happenings() -> impl Strategy<Value = Happening> {
    prop_oneof![
        8 => (0_u64..60).prop_map(|clock| Happening::Served(Serve::Change(clock))),
        8 => Just(Happening::Hear),
        1 => Just(Happening::Subscribe),
        3 => Just(Happening::Join),
        3 => Just(Happening::ReadCounter),
        3 => Just(Happening::SendBeat),
        1 => (0_u64..60).prop_map(|clock| Happening::Meanwhile(Serve::Change(clock))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4 * ProptestConfig::default().cases, ..ProptestConfig::default() })]

    #[test]
    fn no_change_is_missed_in_silence(
        log_max in 1_usize..6,
        happenings in proptest::collection::vec(happenings(), 1..60),
    ) {
        let mut world = World::new(log_max);
        for happening in happenings {
            world.happen(happening);
        }
        world.happen(Happening::Join);
        world.happen(Happening::ReadCounter);
        world.happen(Happening::SendBeat);
        while !world.channel.is_empty() {
            world.happen(Happening::Hear);
        }
    }

    #[test]
    fn lost_connections_alone_make_nothing_suspect(
        happenings in proptest::collection::vec(harmless_happenings(), 1..60),
    ) {
        let mut world = World::new(usize::MAX);
        world.change(1);
        world.happen(Happening::Join);
        for happening in happenings {
            world.happen(happening);
        }
        prop_assert_eq!(world.suspects, 1);
    }
}
