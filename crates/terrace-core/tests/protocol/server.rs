//! The scripts: each is one step.

use crate::rules::{Kind, Lost, Rules};
use crate::state::{
    Counter, Generations, Guarantee, InFlight, LOG_MAX, Lease, Link, Progress, Promise, Published, Stage,
    State, Stored, What,
};

impl State {
    fn next_number(&mut self) -> u8 {
        self.server.clock += 1;
        self.highest = self.highest.max(self.server.clock);
        self.server.clock
    }

    fn publish(&mut self, message: Published) {
        self.server.log.push(message);
        if self.server.log.len() > LOG_MAX {
            self.server.log.remove(0);
        }
        for node in self.nodes.iter_mut().filter(|node| node.link != Link::Down) {
            node.channel.push(InFlight::Message(message));
        }
    }

    /// The counter, made if it is not there.
    fn counter(&mut self, by: usize) -> Counter {
        if let Some(counter) = self.server.counter {
            return counter;
        }
        let born = self.next_number();
        let counter = Counter { seq: born, born, barrier: 0 };
        self.server.counter = Some(counter);
        self.server.log.clear();
        self.publish(Published { previous: 0, number: born, by, what: What::Floor });
        counter
    }

    fn commit(&mut self, by: usize, what: What) -> u8 {
        let counter = self.counter(by);
        let number = self.next_number();
        self.server.counter = Some(Counter { seq: number, ..counter });
        self.publish(Published { previous: counter.seq, number, by, what });
        number
    }

    /// The last number that the server knows; zero if none.
    pub(crate) fn seq(&self) -> u8 {
        self.server.counter.map_or(0, |counter| counter.seq)
    }

    /// One step of an invalidation in L2.
    pub(crate) fn invalidate(&mut self, rules: &Rules, by: usize) {
        self.replica = self.server.clone();
        let Some(mut change) = self.nodes[by].change else { return };
        change.at = match (change.kind, change.at) {
            (Kind::Sweep, at @ (Progress::Begun | Progress::Removed)) => {
                let number = self.commit(by, What::This);
                let counter = self.counter(by);
                self.server.counter = Some(Counter { barrier: number, ..counter });
                if at == Progress::Begun { Progress::Raised } else { Progress::Done }
            }
            (Kind::Tag, _) => {
                self.bump_tag(by);
                Progress::Done
            }
            (Kind::Other, _) => {
                self.commit(by, What::Other);
                Progress::Done
            }
            (kind, _) => {
                if rules.value_is_removed {
                    self.server.value = None;
                }
                if kind == Kind::Key {
                    if rules.lease_is_voided {
                        self.server.lease = None;
                    }
                    let number = self.commit(by, What::This);
                    change.number = number;
                }
                let is_untold = kind == Kind::Sweep && rules.sweep_is_told_twice;
                if is_untold { Progress::Removed } else { Progress::Done }
            }
        };
        self.nodes[by].change = Some(change);
    }

    fn bump_tag(&mut self, by: usize) {
        let floor = match self.server.generations {
            Some(generations) => generations.floor,
            None => self.commit(by, What::Floor),
        };
        let number = self.commit(by, What::This);
        self.server.generations = Some(Generations { floor, tag: Some(number) });
    }

    /// The generation of the tag.
    pub(crate) fn generation(&mut self, rules: &Rules, by: usize) -> u8 {
        if let Some(generation) = self.known_generation(rules) {
            return generation;
        }
        let floor = self.commit(by, What::Floor);
        self.server.generations = Some(Generations { floor, tag: None });
        floor
    }

    fn known_generation(&self, rules: &Rules) -> Option<u8> {
        match self.server.generations {
            Some(Generations { floor, tag }) => Some(tag.unwrap_or(floor)),
            None => (!rules.floor_is_new).then_some(1),
        }
    }

    /// The value that L2 would answer with.
    pub(crate) fn live_value(&self, rules: &Rules) -> Option<u8> {
        let stored = self.server.value?;
        let is_live = !rules.hit_is_checked || self.known_generation(rules) == Some(stored.stamp);
        is_live.then_some(stored.value)
    }

    /// The value, or the right to load it; nothing if somebody else has that.
    pub(crate) fn lease(&mut self, by: usize, dead: u8) -> Option<Stage> {
        if let Some(stored) = self.server.value.filter(|stored| stored.version != dead) {
            return Some(Stage::Hit(stored));
        }
        let counter = self.counter(by);
        let is_held = |lease: Lease| lease.born == counter.born && lease.version > counter.barrier;
        if self.server.lease.is_some_and(is_held) {
            return None;
        }
        let lease = Lease { version: self.next_number(), born: counter.born };
        self.server.lease = Some(lease);
        Some(Stage::Leased(lease))
    }

    /// Whether L2 took the value.
    pub(crate) fn fill(&mut self, rules: &Rules, lease: Lease, stored: Stored) -> bool {
        if rules.lease_is_checked && self.server.lease != Some(lease) {
            return false;
        }
        self.server.lease = None;
        let born = self.server.counter.map(|counter| counter.born);
        let barrier = self.server.counter.map_or(0, |counter| counter.barrier);
        let is_honoured = (!rules.counter_is_checked || born == Some(lease.born))
            && (!rules.barrier_is_checked || lease.version > barrier);
        if is_honoured {
            self.server.value = Some(stored);
            if self.server.greeted == self.life && stored.value < self.forgotten {
                self.broken = self.broken.or(Some(Guarantee::Lost));
            }
        }
        is_honoured
    }

    /// The server forgets by itself.
    pub(crate) fn lose(&mut self, lost: Lost) {
        match lost {
            Lost::Counter => self.server.counter = None,
            Lost::Generations => self.server.generations = None,
        }
    }

    /// Greets the partition by this life of the server.
    pub(crate) fn hello(&mut self, rules: &Rules, by: usize) {
        if self.server.greeted == self.life {
            return;
        }
        self.server.greeted = self.life;
        self.server.clock = self.highest;
        let number = self.commit(by, What::Hello);
        if rules.hello_voids {
            let counter = self.counter(by);
            self.server.counter = Some(Counter { barrier: number, ..counter });
        }
    }

    /// Invalidates the key once more, but for a value that is not older than this; zero spares none.
    pub(crate) fn reassert(&mut self, by: usize, number: u8) {
        self.server.lease = None;
        let is_older = |stored: &Stored| number == 0 || stored.version < number;
        self.server.value = self.server.value.filter(|stored| !is_older(stored));
        self.commit(by, What::Again);
    }

    /// Another server takes over which does not know the last change. What was promised before is promised again when those
    /// who had made the changes have asserted them.
    pub(crate) fn fail_over(&mut self) {
        self.server = self.replica.clone();
        self.life += 1;
        self.forgotten = self.forgotten.max(self.acked);
        (self.acked, self.due) = (0, 0);
        for node in 0..self.nodes.len() {
            self.cut(node);
            let node = &mut self.nodes[node];
            node.forgotten = node.forgotten.max(node.own);
            (node.own, node.seen) = (0, 0);
            if let Some(change) = &mut node.change
                && change.at != Progress::Begun
            {
                change.at = Progress::Forgotten;
            }
            if let Some(load) = &mut node.load {
                load.is_of_this_life = false;
                let nothing = Promise { own: 0, fleet: 0, seen: 0 };
                load.leader = nothing;
                load.joiner = load.joiner.map(|_| nothing);
            }
        }
    }

    pub(crate) fn cut(&mut self, node: usize) {
        self.nodes[node].link = Link::Down;
        self.nodes[node].channel.clear();
    }
}
