//! What a node does with what it hears and reads.

use crate::rules::{Kind, Rules};
use crate::state::{
    Guarantee, InFlight, Link, Load, Node, Progress, Promise, Published, Stage, State, Stored, What,
};
use terrace_core::Version;
use terrace_core::bus::{Change, Message, NodeId};
use terrace_core::coherence::{Chain, Step};

impl Node {
    /// Voids the tickets, then drops the copy.
    pub(crate) fn forget(&mut self) {
        self.void();
        self.copy = None;
    }

    fn void(&mut self) {
        if let Some(load) = &mut self.load {
            load.is_void = true;
        }
    }

    /// What a read gets from L1 as fresh.
    pub(crate) fn fresh(&self, rules: &Rules) -> Option<Stored> {
        self.copy.filter(|_| self.is_trusted || !rules.beat_is_required)
    }

    fn apply(&mut self, rules: &Rules, message: Published, me: usize) {
        if matches!(message.what, What::Other | What::Hello)
            || (message.by == me && message.what == What::This)
        {
            return;
        }
        if rules.message_voids {
            self.void();
        }
        if rules.message_drops {
            self.copy = None;
        }
    }
}

fn message(published: Published) -> Message {
    let Published { previous, number, by, .. } = published;
    Message {
        previous: Version::from(u64::from(previous)),
        number: Version::from(u64::from(number)),
        origin: NodeId(by as u64),
        change: Change::Floor,
    }
}

/// A number of the model.
fn small(version: Version) -> u8 {
    u8::try_from(version.get()).expect("few changes")
}

impl State {
    /// The connection is there again, the partition was greeted and the counter was read.
    pub(crate) fn rejoin(&mut self, rules: &Rules, node: usize) {
        self.nodes[node].link = Link::Joined;
        self.hello(rules, node);
        let counter = Version::from(u64::from(self.seq()));
        let is_renewed = std::mem::replace(&mut self.nodes[node].life, self.life) != self.life;
        self.nodes[node].owes |= is_renewed && self.nodes[node].recent.is_some();
        if is_renewed && rules.renewal_suspects {
            let step = self.nodes[node].chain.renewed(counter);
            self.take(rules, node, step, None);
            self.unsettle(node);
        } else if rules.join_repairs {
            self.read(rules, node, counter);
        } else {
            self.nodes[node].chain = Chain::default();
            self.nodes[node].chain.joined(counter);
        }
    }

    /// The node asserts its changes again.
    pub(crate) fn pay(&mut self, rules: &Rules, node: usize) {
        self.nodes[node].owes = false;
        if let Some(number) = self.nodes[node].recent.filter(|_| rules.changes_are_reasserted) {
            self.reassert(node, number);
        }
        self.acked = self.acked.max(self.nodes[node].forgotten);
        for in_flight in &mut self.nodes[node].channel {
            if let InFlight::Beat { is_of_this_period, .. } = in_flight {
                *is_of_this_period = false;
            }
        }
        self.nodes[node].is_trusted = false;
        self.promise_again(node);
    }

    /// What the node changed and the server had forgotten is promised again.
    fn promise_again(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.own = node.own.max(node.forgotten);
    }

    /// Gives a counter to the chain.
    fn read(&mut self, rules: &Rules, node: usize, counter: Version) {
        let step = self.nodes[node].chain.joined(counter);
        self.take(rules, node, step, None);
        self.unsettle(node);
    }

    fn unsettle(&mut self, node: usize) {
        for in_flight in &mut self.nodes[node].channel {
            if let InFlight::Beat { settles, .. } = in_flight {
                *settles = false;
            }
        }
    }

    pub(crate) fn beat(&mut self, node: usize) {
        let counter = self.seq();
        let node = &mut self.nodes[node];
        let began = node.chain.last().map_or(0, small);
        node.channel.push(InFlight::Beat { is_of_this_period: true, settles: true, began, counter });
    }

    pub(crate) fn hear(&mut self, rules: &Rules, node: usize) {
        match self.nodes[node].channel.remove(0) {
            InFlight::Message(published) => {
                let mut heard = message(published);
                if let Some(last) = self.nodes[node].chain.last()
                    && !rules.previous_is_compared
                {
                    heard.previous = last;
                }
                let step = self.nodes[node].chain.heard(&heard);
                self.take(rules, node, step, Some(published));
            }
            InFlight::Beat { is_of_this_period, settles, began, counter } => {
                if settles {
                    let step = self.nodes[node].chain.settle();
                    self.take(rules, node, step, None);
                }
                let counter = Version::from(u64::from(counter));
                let began = Version::from(u64::from(began));
                let began = (began != Version::ZERO).then_some(began);
                if rules.counter_is_compared && self.nodes[node].chain.lags(began, counter) {
                    self.read(rules, node, counter);
                }
                if is_of_this_period && !(self.nodes[node].owes && rules.assertion_precedes_trust) {
                    self.nodes[node].is_trusted = true;
                    self.promise_again(node);
                }
            }
        }
    }

    fn take(&mut self, rules: &Rules, node: usize, step: Step, heard: Option<Published>) {
        match step {
            Step::Known => {}
            Step::Suspect => self.nodes[node].forget(),
            Step::Apply => {
                let published = heard.expect("only a message is applied");
                self.nodes[node].apply(rules, published, node);
            }
            Step::Missing { after, until } => {
                let log: Vec<Published> =
                    self.server.log.iter().copied().filter(|entry| entry.number > small(after)).collect();
                let entries = log.iter().map(|&entry| Ok(message(entry))).collect();
                self.unsettle(node);
                match self.nodes[node].chain.repair(entries, until) {
                    None => self.nodes[node].forget(),
                    Some(_) => log.into_iter().for_each(|entry| self.nodes[node].apply(rules, entry, node)),
                }
            }
        }
    }

    /// The node's invalidation is acknowledged.
    pub(crate) fn acknowledge(&mut self, rules: &Rules, node: usize) {
        let Some(change) = self.nodes[node].change.take() else { return };
        if change.kind == Kind::Other {
            return;
        }
        if rules.ack_drops {
            self.nodes[node].forget();
        }
        if change.kind == Kind::Key && change.number > 0 {
            self.nodes[node].recent = Some(change.number);
        }
        let is_again =
            change.at == Progress::Forgotten && self.nodes[node].life == self.life && !self.nodes[node].owes;
        if change.at == Progress::Done || is_again {
            self.nodes[node].own = self.nodes[node].own.max(change.goal);
            self.acked = self.acked.max(change.goal);
        } else if change.at == Progress::Forgotten {
            self.forgotten = self.forgotten.max(change.goal);
            self.nodes[node].forgotten = self.nodes[node].forgotten.max(change.goal);
        }
    }

    pub(crate) fn start(&mut self, node: usize) {
        let leader = self.promise(node);
        let stage = Stage::Asking { dead: 0 };
        self.nodes[node].load =
            Some(Load { is_of_this_life: true, leader, joiner: None, is_void: false, stage });
    }

    /// One step of the read that is under way; nothing if it has to wait for somebody else's lease.
    pub(crate) fn advance(&mut self, rules: &Rules, node: usize) -> Option<()> {
        let stage = self.nodes[node].load.as_ref()?.stage;
        let next = match stage {
            Stage::Asking { dead } => self.lease(node, dead)?,
            Stage::Hit(stored) => {
                if !rules.hit_is_checked || self.generation(rules, node) == stored.stamp {
                    Stage::Answered { result: stored, is_accepted: true }
                } else {
                    Stage::Asking { dead: stored.version }
                }
            }
            Stage::Leased(lease) => Stage::Loaded(lease, self.origin),
            Stage::Loaded(lease, value) => {
                let stamp = self.generation(rules, node);
                let stored = Stored { value, version: lease.version, stamp };
                if rules.stamp_is_checked && stamp >= lease.version {
                    self.server.lease = self.server.lease.filter(|&held| held != lease);
                    Stage::Answered { result: stored, is_accepted: false }
                } else {
                    Stage::Stamped(lease, stored)
                }
            }
            Stage::Stamped(lease, result) => {
                Stage::Answered { result, is_accepted: self.fill(rules, lease, result) }
            }
            Stage::Answered { result, is_accepted } => {
                self.finish(rules, node, result, is_accepted);
                return Some(());
            }
        };
        self.nodes[node].load.as_mut()?.stage = next;
        Some(())
    }

    /// Whether somebody may share the result of the read that is under way.
    pub(crate) fn is_open(&self, rules: &Rules, node: usize) -> bool {
        self.nodes[node].load.as_ref().is_some_and(|load| {
            let is_early = !matches!(load.stage, Stage::Hit(_) | Stage::Answered { .. });
            load.joiner.is_none() && (is_early || !rules.late_joiner_is_refused)
        })
    }

    fn finish(&mut self, rules: &Rules, node: usize, result: Stored, is_accepted: bool) {
        let Some(load) = self.nodes[node].load.take() else { return };
        if is_accepted && (!load.is_void || !rules.ticket_is_checked) {
            self.nodes[node].copy = Some(result);
        } else if rules.newer_result_drops {
            let is_older = |copy: &Stored| copy.version < result.version;
            self.nodes[node].copy = self.nodes[node].copy.filter(|copy| !is_older(copy));
        }
        self.give(load.leader, result);
        if let Some(joiner) = load.joiner.filter(|_| is_accepted || !rules.rejected_is_leaders) {
            self.give(joiner, result);
        }
        if load.is_of_this_life {
            self.nodes[node].seen = self.nodes[node].seen.max(result.version);
        }
    }

    /// A read that was promised this ends with that.
    fn give(&mut self, promise: Promise, result: Stored) {
        self.broken = self.broken.or_else(|| promise.broken_by(result));
    }
}

impl Promise {
    /// What it breaks if this is returned as fresh.
    pub(crate) fn broken_by(self, result: Stored) -> Option<Guarantee> {
        if result.value < self.own {
            return Some(Guarantee::Node);
        }
        if result.value < self.fleet {
            return Some(Guarantee::Fleet);
        }
        (result.version < self.seen).then_some(Guarantee::Back)
    }
}
