//! Trouble, as the seed brings it.

use crate::network::{MILLI, Time};
use crate::setting::{PAUSE_MAX, Trouble, index};
use crate::world::World;
use std::time::Duration;
use terrace_core::{Key, Namespace};
use terrace_testkit::fake::{FakeRemote, Fault};

/// By how much the server's clock is set at most: an hour.
const CLOCK_MILLIS_MAX: u64 = 60 * 60 * 1000;

type Losing = fn(&FakeRemote);

/// What a server can lose at once. A table of generations that is lost shows only in a value that a tag had killed, so it is
/// lost more often.
const LOSSES: [Losing; 6] = [
    FakeRemote::lose_leases,
    FakeRemote::lose_counters,
    FakeRemote::lose_generations,
    FakeRemote::lose_generations,
    FakeRemote::lose_logs,
    FakeRemote::flush,
];

const FAULTS: [Option<Fault>; 6] =
    [None, None, None, Some(Fault::Refused), Some(Fault::Protocol), Some(Fault::BrokenAfterEffect)];

impl World {
    /// Lets the fleet work until `end`, with the trouble of its setting.
    pub(crate) fn work_until(&mut self, end: Time) {
        let every = u64::try_from(self.setting.trouble_every.as_millis()).unwrap_or(1);
        while self.now < end {
            let pause = (1 + self.chance.below(every)) * MILLI;
            self.run_until(end.min(self.now + pause));
            self.trouble();
        }
    }

    fn trouble(&mut self) {
        let Trouble { connections, pauses, losses, failovers, refusals, silent_losses } =
            self.setting.trouble;
        let node = index(self.chance.below(self.nodes.len() as u64));
        match self.chance.below(8) {
            0 | 1 if connections => self.trouble_connection(node),
            2 if connections && !pauses => self.give_up_calls(node),
            7 if connections => self.give_up_calls(node),
            0 if silent_losses > 0 => self.stay_away(node),
            2 if pauses => self.pause(node),
            3 if losses => self.lose(),
            3 if failovers => self.fail_over(),
            // A gap that a message has left, and that the log does not reach back to.
            3 if silent_losses > 0 => self.server.lose_logs(),
            4 if losses && connections => self.forget_while_away(node),
            5 if refusals => {
                let fault = FAULTS[index(self.chance.below(FAULTS.len() as u64))];
                self.remotes[node].set_fault(fault);
            }
            6 if self.setting.sets_clock() => self.set_clock(),
            _ if silent_losses > 0 => {
                let until = self.now + self.a_while(1000);
                self.network.lock().links[node].losing = (silent_losses, until);
            }
            _ => {}
        }
    }

    /// The server's replica takes its place, and some of the last changes are forgotten.
    fn fail_over(&mut self) {
        const FORGOTTEN_MAX: u64 = 12;
        let known = self.record().applied_since(self.calls_at_failover) / 4;
        if known == 0 {
            return;
        }
        self.server.fail_over(known.min(index(self.chance.below(FORGOTTEN_MAX))));
        self.failed_over.push(self.record().stamp());
        self.calls_at_failover = self.record().len();
        let mut network = self.network.lock();
        for (node, remote) in self.remotes.iter().enumerate() {
            remote.mend_bus();
            network.break_calls(node);
            network.break_hearing(node);
        }
    }

    /// A node hears nothing for a while, in which the server forgets.
    fn forget_while_away(&mut self, node: usize) {
        let (first, then) = (self.a_while(300), self.a_while(300));
        {
            let mut network = self.network.lock();
            network.links[node].refused_until = self.now + first + then;
            network.break_hearing(node);
        }
        self.run_until(self.now + first);
        // What was missed is looked for in the log.
        if self.chance.below(2) == 0 {
            self.server.lose_logs();
        } else {
            self.lose();
        }
        self.run_until(self.now + then);
    }

    /// Somebody sets the server's clock, by up to an hour either way.
    fn set_clock(&self) {
        let by = Duration::from_millis(self.chance.below(CLOCK_MILLIS_MAX));
        if self.chance.below(2) == 0 {
            self.server.advance_server_time(by);
        } else {
            self.server.set_back_server_time(by);
        }
    }

    /// A node hears nothing for a while, and then misses what others have changed meanwhile.
    fn stay_away(&mut self, node: usize) {
        let until = self.now + (50 + self.chance.below(250)) * MILLI;
        let mut network = self.network.lock();
        network.links[node].refused_until = until;
        network.break_hearing(node);
    }

    /// A connection for calls stands still and is given up, as one whose heartbeats go unanswered. What it holds arrives later.
    fn give_up_calls(&mut self, node: usize) {
        let (stands, holds) = (self.a_while(200), (10 + self.chance.below(60)) * MILLI);
        self.network.lock().links[node].calls_stall_until = self.now + stands + holds;
        self.run_until(self.now + stands);
        let mut network = self.network.lock();
        network.links[node].calls_stall_until = 0;
        network.break_calls(node);
    }

    /// Up to so many milliseconds, short ones more often than long ones.
    fn a_while(&self, max: u64) -> Time {
        (1 + self.chance.below(1 + self.chance.below(max))) * MILLI
    }

    fn trouble_connection(&mut self, node: usize) {
        let (now, a_while) = (self.now, self.a_while(3000));
        let mut network = self.network.lock();
        let link = &mut network.links[node];
        match self.chance.below(9) {
            0 => link.calls_stall_until = now + a_while,
            1 => link.hearing_stalls_until = now + a_while,
            2 => {
                link.calls_stall_until = now + a_while;
                link.hearing_stalls_until = now + a_while;
            }
            3 => network.break_calls(node),
            4 => network.break_hearing(node),
            5 => {
                link.refused_until = now + a_while;
                network.break_calls(node);
                network.break_hearing(node);
            }
            6 => link.slow_calls = (self.chance.below(400) * MILLI, now + a_while),
            _ => {
                // Longer than a message takes, so that the beats that come back so late have their turn.
                let takes = self.chance.below(1200) * MILLI;
                link.slow_hearing = (takes, now + takes + a_while);
            }
        }
    }

    fn pause(&mut self, node: usize) {
        let until = self.now + self.a_while(PAUSE_MAX / MILLI);
        if self.chance.below(4) == 0 {
            self.network.lock().server_stalls_until = until;
        } else {
            self.nodes[node].paused_until = until;
        }
    }

    fn lose(&mut self) {
        match self.chance.below(8) {
            0..5 => LOSSES[index(self.chance.below(LOSSES.len() as u64))](&self.server),
            5 => {
                self.server.advance_server_time(Duration::from_millis(self.a_while(5000) / MILLI));
            }
            _ => {
                let namespace = Namespace::new("watched").expect("valid");
                let key = Key::new(&self.chance.below(self.setting.keys).to_string()).expect("valid");
                self.server.evict(&namespace, &key);
            }
        }
    }
}
