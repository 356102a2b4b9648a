//! Does the coherence protocol keep its promises in every order of events, and is each of its rules needed for that?
//!
//! A model of the protocol is explored to its end: one key with one tag, two nodes with L1, the shared tier with its scripts,
//! an origin that is changed behind everybody's back and then invalidated, and a bus that loses. What must hold:
//!
//! 1. **G1.** A read that begins on a node after an invalidation was acknowledged there returns nothing as fresh that is older
//!    than what the origin had when the invalidation began.
//! 2. **G2.** The same on every node, once a new period has begun. A period stands for the time that a beat is good for: a
//!    node serves L1 as fresh only if a beat is back that it sent in this period.
//! 3. **G3.** Nothing comes back: after an invalidation was acknowledged L2 never answers with anything older, whatever late
//!    loaders do and whatever the server forgets of its leases, counters and generations.
//! 4. **G4.** Fresh reads of one node never go back to an earlier version.
//!
//! Each promise holds in the whole of seven worlds, of which each has a bit more of one thing ([`KEYS`], [`TAGS`],
//! [`LAPSES`], [`SWEEPS`], [`SWEPT`], [`LOSSES`], [`FAILOVERS`]): 1,696,779 states in all. Then the rules are switched off one by one
//! ([`Rules`]), and each time a promise has to break: a rule that breaks nothing is not needed, or not modelled.
//!
//! As it is in the code: the order of a change (drop, script, drop), the steps of a load (lease, origin, tag, fill), tickets,
//! joining a flight, the scripts with their counter, barrier, floor and log, what each loses with its table, and
//! [`terrace_core::coherence::Chain`] itself. A read of L1 is no event: every state is asked what such a read would return.
//!
//! Not modelled: writes of values through the cache; an L2 that cannot be reached, and what waits for it; lifetimes and the end
//! of a lease by time; a load without a lease, which is kept nowhere; tags of another partition than the key's; garbled
//! messages and numbers that start lower, which the tests of the chain itself have; clocks. A log is read in the same
//! step in which its need is seen. The counter is read before every beat: a node that reads it less often learns of a
//! message that was lost in silence, with no other behind it, only after the next reading; of a lost connection it
//! learns as here. A failover ends all promises that were made before it, and keeps those that are made after it.
//!
//! What is read and not kept in L1 drops an older copy there. That is a rule because trust can come back to a copy that had
//! lapsed, by a beat that was on its way: without it the next read goes back to that copy.
//!
//! Two rules of the protocol break nothing here, so they are no [`Rules`]: the drop before the script, which matters where L2
//! cannot be reached; and that nobody joins a flight whose ticket is void, which spares a retry: what such a flight brings is
//! refused by L2, or was read before anybody could join.

mod node;
mod rules;
mod server;
mod state;
mod world;

use rules::{Bounds, Kind, Lost, Rules};
use stateright::{Checker, HasDiscoveries, Model};
use std::collections::BTreeSet;
use world::World;

const NOTHING: Bounds = Bounds {
    kinds: &[],
    losable: &[],
    writes: 1,
    invalidations: [0, 0],
    loads: [0, 0],
    joiners: 0,
    beats: [0, 0],
    periods: 0,
    drops: 0,
    cuts: 0,
    losses: 0,
    failovers: 0,
};

/// One node invalidates the key while both read it and share reads.
const KEYS: Bounds = Bounds {
    kinds: &[Kind::Key],
    invalidations: [1, 0],
    loads: [1, 2],
    joiners: 1,
    beats: [0, 1],
    periods: 1,
    ..NOTHING
};

/// The tag is invalidated, and the server may forget its generation.
const TAGS: Bounds = Bounds {
    kinds: &[Kind::Tag],
    losable: &[Lost::Generations],
    losses: 1,
    loads: [1, 2],
    invalidations: [1, 0],
    ..NOTHING
};

/// The same, where the node that reads lets its copy lapse and gets it back.
const LAPSES: Bounds = Bounds { loads: [0, 2], beats: [0, 1], periods: 1, ..TAGS };

/// All keys are swept, and the server may forget that.
const SWEEPS: Bounds = Bounds {
    kinds: &[Kind::Sweep],
    losable: &[Lost::Counter],
    losses: 1,
    loads: [1, 2],
    invalidations: [1, 0],
    ..NOTHING
};

/// The same, with a node that reads what is not removed yet.
const SWEPT: Bounds = Bounds { loads: [0, 2], beats: [0, 2], periods: 1, losses: 0, ..SWEEPS };

/// Messages and a connection are lost.
const LOSSES: Bounds = Bounds {
    kinds: &[Kind::Key, Kind::Other],
    invalidations: [2, 0],
    loads: [0, 1],
    beats: [0, 1],
    periods: 1,
    drops: 1,
    cuts: 1,
    ..NOTHING
};

/// Another server takes over, which does not know the last change.
const FAILOVERS: Bounds = Bounds { failovers: 1, drops: 0, cuts: 0, ..LOSSES };

/// The same, where the node that invalidates listens and reads.
const ISSUERS: Bounds = Bounds {
    kinds: &[Kind::Key],
    invalidations: [1, 0],
    loads: [2, 0],
    beats: [1, 0],
    failovers: 1,
    ..NOTHING
};

fn explore(rules: Rules, bounds: Bounds, until: HasDiscoveries) -> impl Checker<World> {
    World { rules, bounds }.checker().threads(2).finish_when(until).spawn_bfs().join()
}

fn holds(bounds: Bounds) {
    let checker = explore(Rules::ALL, bounds, HasDiscoveries::AnyFailures);
    println!("{} states, depth {}", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
}

/// Without the rule that `switch_off` switches off, this promise breaks.
fn breaks(switch_off: impl FnOnce(&mut Rules), bounds: Bounds, promise: &'static str) {
    let mut rules = Rules::ALL;
    switch_off(&mut rules);
    let checker = explore(rules, bounds, HasDiscoveries::AnyOf(BTreeSet::from([promise])));
    let path = checker.assert_any_discovery(promise);
    println!("{} states; {:?}", checker.unique_state_count(), path.into_actions());
}

#[test]
fn promises_hold_while_a_key_is_invalidated_and_reads_are_shared() {
    holds(KEYS);
}

#[test]
fn promises_hold_while_a_tag_is_invalidated_and_its_generation_forgotten() {
    holds(TAGS);
}

#[test]
fn promises_hold_while_a_tag_is_invalidated_and_a_copy_lapses() {
    holds(LAPSES);
}

#[test]
fn promises_hold_while_keys_are_swept_and_the_barrier_forgotten() {
    holds(SWEEPS);
}

#[test]
fn promises_hold_while_swept_values_are_still_read() {
    holds(SWEPT);
}

#[test]
fn promises_hold_while_messages_and_connections_are_lost() {
    holds(LOSSES);
}

#[test]
fn promises_hold_after_a_failover() {
    holds(FAILOVERS);
}

#[test]
fn promises_hold_again_after_a_failover_that_forgot_them() {
    holds(ISSUERS);
}

#[test]
fn another_life_of_the_server_has_to_make_all_suspect() {
    breaks(|rules| rules.renewal_suspects = false, FAILOVERS, "G2");
}

#[test]
fn another_life_of_the_server_has_to_void_leases() {
    breaks(|rules| rules.hello_voids = false, ISSUERS, "G5");
}

#[test]
fn changes_have_to_be_asserted_again_after_a_failover() {
    breaks(|rules| rules.changes_are_reasserted = false, ISSUERS, "G3");
}

#[test]
fn changes_have_to_be_asserted_again_before_copies_are_trusted() {
    breaks(|rules| rules.assertion_precedes_trust = false, ISSUERS, "G1");
}

#[test]
fn a_change_has_to_be_noted_before_it_is_made() {
    breaks(|rules| rules.change_is_noted_first = false, ISSUERS, "G3");
}

#[test]
fn an_invalidation_has_to_remove_the_value() {
    breaks(|rules| rules.value_is_removed = false, KEYS, "G3");
}

#[test]
fn an_invalidation_has_to_void_the_lease() {
    breaks(|rules| rules.lease_is_voided = false, KEYS, "G3");
}

#[test]
fn a_fill_has_to_hold_the_lease() {
    breaks(|rules| rules.lease_is_checked = false, KEYS, "G3");
    breaks(|rules| rules.lease_is_checked = false, KEYS, "G4");
}

#[test]
fn a_fill_has_to_be_younger_than_the_last_sweep() {
    breaks(|rules| rules.barrier_is_checked = false, SWEEPS, "G3");
}

#[test]
fn a_sweep_has_to_be_told_again_when_it_is_over() {
    breaks(|rules| rules.sweep_is_told_twice = false, SWEPT, "G2");
}

#[test]
fn a_fill_has_to_be_of_this_counter() {
    breaks(|rules| rules.counter_is_checked = false, SWEEPS, "G3");
}

#[test]
fn a_tag_bumped_during_a_load_has_to_prevent_the_fill() {
    breaks(|rules| rules.stamp_is_checked = false, TAGS, "G3");
}

#[test]
fn the_tag_of_a_hit_has_to_be_asked_for() {
    breaks(|rules| rules.hit_is_checked = false, TAGS, "G3");
}

#[test]
fn a_table_of_generations_that_is_gone_has_to_get_a_new_floor() {
    breaks(|rules| rules.floor_is_new = false, TAGS, "G3");
}

#[test]
fn a_copy_has_to_come_under_a_ticket() {
    breaks(|rules| rules.ticket_is_checked = false, KEYS, "G1");
    breaks(|rules| rules.ticket_is_checked = false, KEYS, "G2");
}

#[test]
fn what_is_read_and_not_kept_has_to_drop_an_older_copy() {
    breaks(|rules| rules.newer_result_drops = false, LAPSES, "G4");
}

#[test]
fn the_copy_has_to_be_dropped_after_the_script() {
    breaks(|rules| rules.ack_drops = false, KEYS, "G1");
}

#[test]
fn a_message_has_to_drop_the_copy() {
    breaks(|rules| rules.message_drops = false, KEYS, "G2");
}

#[test]
fn a_message_has_to_void_the_tickets() {
    breaks(|rules| rules.message_voids = false, KEYS, "G2");
}

#[test]
fn a_copy_has_to_have_a_beat() {
    breaks(|rules| rules.beat_is_required = false, KEYS, "G2");
}

#[test]
fn a_lost_connection_has_to_be_repaired_before_its_beats_count() {
    breaks(|rules| rules.join_repairs = false, LOSSES, "G2");
}

#[test]
fn a_message_has_to_follow_on() {
    breaks(|rules| rules.previous_is_compared = false, LOSSES, "G2");
}

#[test]
fn the_counter_has_to_be_compared() {
    breaks(|rules| rules.counter_is_compared = false, LOSSES, "G2");
}

#[test]
fn a_flight_has_to_be_joined_before_its_outcome_is_decided() {
    breaks(|rules| rules.late_joiner_is_refused = false, KEYS, "G2");
}

#[test]
fn what_l2_refused_has_to_be_kept_from_joiners() {
    breaks(|rules| rules.rejected_is_leaders = false, KEYS, "G2");
}
