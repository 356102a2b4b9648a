//! What can happen next, and what must never be seen.

use crate::rules::{Bounds, Kind, Lost, Rules};
use crate::state::{Guarantee, InFlight, Invalidation, Link, Progress, State};
use stateright::{Model, Property};

/// One check: the rules that hold, and how much happens.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) rules: Rules,
    pub(crate) bounds: Bounds,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Action {
    /// Somebody changes the origin.
    Write,
    /// A new period begins: no beat that was sent before is of use.
    Period,
    Begin(usize, Kind),
    RunScript(usize),
    Acknowledge(usize),
    StartRead(usize),
    /// The read that is under way goes on.
    Read(usize),
    ShareRead(usize),
    SendBeat(usize),
    Hear(usize),
    DropMessage(usize),
    Cut(usize),
    Subscribe(usize),
    Rejoin(usize),
    Pay(usize),
    Lose(Lost),
    FailOver,
}

impl World {
    fn of_server(state: &State, actions: &mut Vec<Action>) {
        let left = &state.left;
        if left.writes > 0 {
            actions.push(Action::Write);
        }
        if left.periods > 0 {
            actions.push(Action::Period);
        }
        if left.losses > 0 {
            let server = &state.server;
            actions.extend(left.losable.iter().copied().filter_map(|lost| {
                let is_there = match lost {
                    Lost::Counter => server.counter.is_some(),
                    Lost::Generations => server.generations.is_some(),
                };
                is_there.then_some(Action::Lose(lost))
            }));
        }
        if left.failovers > 0 {
            actions.push(Action::FailOver);
        }
    }

    fn of_node(&self, state: &State, me: usize, actions: &mut Vec<Action>) {
        let (node, left) = (&state.nodes[me], &state.left);
        match node.change.map(|change| change.at) {
            Some(Progress::Begun | Progress::Raised | Progress::Removed) => {
                actions.push(Action::RunScript(me));
            }
            Some(Progress::Done | Progress::Forgotten) => actions.push(Action::Acknowledge(me)),
            None if left.invalidations[me] > 0 => {
                actions.extend(left.kinds.iter().map(|&kind| Action::Begin(me, kind)));
            }
            None => {}
        }
        if node.load.is_some() {
            actions.push(Action::Read(me));
            if left.joiners > 0 && state.is_open(&self.rules, me) {
                actions.push(Action::ShareRead(me));
            }
        } else if left.loads[me] > 0 && node.fresh(&self.rules).is_none() {
            actions.push(Action::StartRead(me));
        }
        self.of_link(state, me, actions);
    }

    fn of_link(&self, state: &State, me: usize, actions: &mut Vec<Action>) {
        let (node, left) = (&state.nodes[me], &state.left);
        match node.link {
            Link::Down if self.bounds.beats[me] == 0 => {}
            Link::Down => actions.push(Action::Subscribe(me)),
            Link::Subscribed => actions.push(Action::Rejoin(me)),
            Link::Joined => {
                if node.owes {
                    actions.push(Action::Pay(me));
                }
                if left.beats[me] > 0 && self.rules.beat_is_required {
                    actions.push(Action::SendBeat(me));
                }
                if !node.channel.is_empty() {
                    actions.push(Action::Hear(me));
                }
                if left.cuts > 0 {
                    actions.push(Action::Cut(me));
                }
            }
        }
        if left.drops > 0 && matches!(node.channel.first(), Some(InFlight::Message(_))) {
            actions.push(Action::DropMessage(me));
        }
    }

    fn happen(&self, state: &mut State, action: Action) -> Option<()> {
        let rules = &self.rules;
        match action {
            Action::Write => {
                state.left.writes -= 1;
                state.origin += 1;
            }
            Action::Period => begin_period(state),
            Action::Begin(node, kind) => {
                state.left.invalidations[node] -= 1;
                if kind != Kind::Other {
                    state.nodes[node].forget();
                }
                let goal = state.origin;
                if kind == Kind::Key && rules.change_is_noted_first {
                    state.nodes[node].recent = Some(0);
                }
                state.nodes[node].change = Some(Invalidation { kind, goal, at: Progress::Begun, number: 0 });
            }
            Action::RunScript(node) => state.invalidate(rules, node),
            Action::Acknowledge(node) => state.acknowledge(rules, node),
            Action::StartRead(node) => {
                state.left.loads[node] -= 1;
                state.start(node);
            }
            Action::Read(node) => state.advance(rules, node)?,
            Action::ShareRead(node) => {
                state.left.joiners -= 1;
                let promise = state.promise(node);
                state.nodes[node].load.as_mut()?.joiner = Some(promise);
            }
            Action::SendBeat(node) => {
                state.left.beats[node] -= 1;
                state.beat(node);
            }
            Action::Hear(node) => state.hear(rules, node),
            Action::DropMessage(node) => {
                state.left.drops -= 1;
                state.nodes[node].channel.remove(0);
            }
            Action::Cut(node) => {
                state.left.cuts -= 1;
                state.cut(node);
            }
            Action::Subscribe(node) => state.nodes[node].link = Link::Subscribed,
            Action::Rejoin(node) => state.rejoin(rules, node),
            Action::Pay(node) => state.pay(rules, node),
            Action::Lose(lost) => {
                state.left.losses -= 1;
                state.lose(lost);
            }
            Action::FailOver => {
                state.left.failovers -= 1;
                state.fail_over();
            }
        }
        Some(())
    }

    /// Whether reads of L1 that begin now break nothing of one kind, and none that has ended did.
    fn holds(&self, state: &State, guarantee: Guarantee) -> bool {
        let breaks = |node: usize| {
            let fresh = state.nodes[node].fresh(&self.rules)?;
            state.promise(node).broken_by(fresh)
        };
        state.broken != Some(guarantee) && (0..state.nodes.len()).all(|node| breaks(node) != Some(guarantee))
    }
}

fn begin_period(state: &mut State) {
    state.left.periods -= 1;
    state.due = state.acked;
    for node in &mut state.nodes {
        node.is_trusted = false;
        for in_flight in &mut node.channel {
            if let InFlight::Beat { is_of_this_period, .. } = in_flight {
                *is_of_this_period = false;
            }
        }
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::first(self.bounds.clone())]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        Self::of_server(state, actions);
        (0..state.nodes.len()).for_each(|node| self.of_node(state, node, actions));
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.happen(&mut next, action)?;
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("G1", |world: &World, state: &State| world.holds(state, Guarantee::Node)),
            Property::always("G2", |world: &World, state: &State| world.holds(state, Guarantee::Fleet)),
            Property::always("G3", |world: &World, state: &State| {
                state.live_value(&world.rules).is_none_or(|value| value >= state.acked)
            }),
            Property::always("G5", |_, state: &State| state.broken != Some(Guarantee::Lost)),
            Property::always("G4", |world: &World, state: &State| world.holds(state, Guarantee::Back)),
        ]
    }
}
