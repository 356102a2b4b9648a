//! What can be switched off, and how much of everything there is in one check.

/// The rules of the protocol, all of which hold in the protocol itself.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each rule is there or not")]
pub(crate) struct Rules {
    /// An invalidation, a sweep's removal included, removes L2's value.
    pub(crate) value_is_removed: bool,
    /// A key's invalidation voids its lease.
    pub(crate) lease_is_voided: bool,
    /// A fill is refused without the lease that the load was granted.
    pub(crate) lease_is_checked: bool,
    /// A fill is refused if its lease is older than the last sweep.
    pub(crate) barrier_is_checked: bool,
    /// A sweep is told once more when the values are removed.
    pub(crate) sweep_is_told_twice: bool,
    /// A fill is refused if its lease is of an earlier counter.
    pub(crate) counter_is_checked: bool,
    /// A loaded value is not stored if its tag was bumped after the grant.
    pub(crate) stamp_is_checked: bool,
    /// The tags of what is found in L2 are asked for.
    pub(crate) hit_is_checked: bool,
    /// A table of generations that is not there gets a new floor.
    pub(crate) floor_is_new: bool,
    /// What is read is kept in L1 only if nothing was invalidated meanwhile.
    pub(crate) ticket_is_checked: bool,
    /// What is read and not kept drops an older copy.
    pub(crate) newer_result_drops: bool,
    /// The node that invalidates drops its copy after the script.
    pub(crate) ack_drops: bool,
    /// Another node's change drops the copy.
    pub(crate) message_drops: bool,
    /// Another node's change voids the tickets.
    pub(crate) message_voids: bool,
    /// A copy is fresh only if a beat of this period is back.
    pub(crate) beat_is_required: bool,
    /// A lost connection shows in what is applied after it.
    pub(crate) join_repairs: bool,
    /// A message is applied only if it follows on.
    pub(crate) previous_is_compared: bool,
    /// The counter is read before a beat is sent.
    pub(crate) counter_is_compared: bool,
    /// A flight is joined only until its outcome is decided in L2.
    pub(crate) late_joiner_is_refused: bool,
    /// What L2 refused is given to the leader alone.
    pub(crate) rejected_is_leaders: bool,
    /// Who joins another incarnation of the server takes nothing for known.
    pub(crate) renewal_suspects: bool,
    /// A server that greets the partition voids the leases from before.
    pub(crate) hello_voids: bool,
    /// A node asserts its changes again on another incarnation of the server.
    pub(crate) changes_are_reasserted: bool,
    /// It does so before it trusts its copies.
    pub(crate) assertion_precedes_trust: bool,
    /// A change is noted before it is made.
    pub(crate) change_is_noted_first: bool,
}

impl Rules {
    pub(crate) const ALL: Self = Self {
        value_is_removed: true,
        lease_is_voided: true,
        lease_is_checked: true,
        barrier_is_checked: true,
        sweep_is_told_twice: true,
        counter_is_checked: true,
        stamp_is_checked: true,
        hit_is_checked: true,
        floor_is_new: true,
        ticket_is_checked: true,
        newer_result_drops: true,
        ack_drops: true,
        message_drops: true,
        message_voids: true,
        beat_is_required: true,
        join_repairs: true,
        previous_is_compared: true,
        counter_is_compared: true,
        late_joiner_is_refused: true,
        rejected_is_leaders: true,
        renewal_suspects: true,
        hello_voids: true,
        changes_are_reasserted: true,
        assertion_precedes_trust: true,
        change_is_noted_first: true,
    };
}

/// How a value is invalidated.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Kind {
    Key,
    Tag,
    Sweep,
    /// Another key of the partition is invalidated, which is no concern of this one.
    Other,
}

/// What a server can lose by itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Lost {
    Counter,
    Generations,
}

/// How much of everything may happen; it is counted down.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Bounds {
    pub(crate) kinds: &'static [Kind],
    pub(crate) losable: &'static [Lost],
    pub(crate) writes: u8,
    pub(crate) invalidations: [u8; 2],
    pub(crate) loads: [u8; 2],
    pub(crate) joiners: u8,
    /// How many beats each node sends; one that sends none does not listen either, and trusts nothing after the first
    /// period.
    pub(crate) beats: [u8; 2],
    pub(crate) periods: u8,
    pub(crate) drops: u8,
    pub(crate) cuts: u8,
    pub(crate) losses: u8,
    pub(crate) failovers: u8,
}
