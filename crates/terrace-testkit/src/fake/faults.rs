//! What goes wrong, and when: the switches of a [`super::FakeRemote`].
//!
//! 1. A fault is decided when a call arrives, so a test that sets one knows which calls it meets.
//! 2. A held call belongs to the gate: it takes effect when the gate lets it, even if its caller has gone, as a
//!    request that is on its way to a real server does.

use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use terrace_core::remote::RemoteError;
use tokio::sync::watch;

/// The calls of [`terrace_core::Remote`], as counted and as faults are set on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "each is the method of the same name")]
pub enum Operation {
    Open,
    ForgetSettings,
    Get,
    GetMany,
    Validate,
    Settle,
    Lease,
    Renew,
    Release,
    Fill,
    Set,
    SetMany,
    SetIf,
    Invalidate,
    Sweep,
    Sweeps,
    Names,
    List,
    Reap,
    Retire,
    Delay,
    Due,
    Done,
    BumpTags,
    Generations,
    Health,
    Beat,
    Counters,
    ChangesSince,
    Reassert,
    Refresh,
}

/// A way for a call to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// There is no connection; nothing is done.
    Unavailable,
    /// The deadline passes before the request arrives; nothing is done.
    TimeoutBeforeEffect,
    /// The deadline passes before the reply arrives; the effect is done.
    TimeoutAfterEffect,
    /// The connection breaks before the reply arrives; the effect is done.
    BrokenAfterEffect,
    /// The server refuses, as one without memory does; nothing is done.
    Refused,
    /// The reply makes no sense; the effect is done.
    Protocol,
}

impl Fault {
    /// The deadline that a fake call pretends to have.
    pub const DEADLINE: Duration = Duration::from_secs(3);

    pub(super) const fn has_effect(self) -> bool {
        matches!(self, Self::TimeoutAfterEffect | Self::BrokenAfterEffect | Self::Protocol)
    }

    pub(super) fn error(self) -> RemoteError {
        let reason = "a fault that a test switched on".to_owned();
        match self {
            Self::Unavailable => RemoteError::Unavailable { reason },
            Self::TimeoutBeforeEffect | Self::TimeoutAfterEffect => {
                RemoteError::Timeout { after: Self::DEADLINE }
            }
            Self::BrokenAfterEffect => RemoteError::Broken { reason },
            Self::Refused => RemoteError::Refused { reason: format!("OOM {reason}") },
            Self::Protocol => RemoteError::Protocol { reason },
        }
    }
}

/// On which side of its effect a call is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Point {
    /// The request is on its way: nothing is done yet.
    BeforeEffect,
    /// The reply is on its way: all is done.
    AfterEffect,
}

type Held = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct GateState {
    is_open: bool,
    held: VecDeque<Held>,
}

pub(super) struct GateInner {
    pub(super) point: Point,
    state: Mutex<GateState>,
    count: watch::Sender<usize>,
}

impl GateInner {
    /// Keeps the call, or runs it at once if the gate has been opened.
    pub(super) fn arrive(&self, call: Held) {
        let mut state = self.state.lock();
        if state.is_open {
            drop(state);
            call();
        } else {
            state.held.push_back(call);
            self.count.send_replace(state.held.len());
        }
    }

    fn take(&self, count: usize) -> Vec<Held> {
        let mut state = self.state.lock();
        let count = count.min(state.held.len());
        let taken = state.held.drain(..count).collect();
        self.count.send_replace(state.held.len());
        taken
    }
}

/// Holds calls of one operation until a test lets them go. Dropping it lets all of them go.
#[must_use = "dropping the gate opens it"]
pub struct Gate(pub(super) Arc<GateInner>);

impl Gate {
    pub(super) fn new(point: Point) -> Self {
        Self(Arc::new(GateInner { point, state: Mutex::default(), count: watch::channel(0).0 }))
    }

    /// How many calls are held now.
    pub fn held(&self) -> usize {
        *self.0.count.borrow()
    }

    /// Waits until at least `count` calls are held.
    ///
    /// # Panics
    /// If that does not happen within [`crate::wait::DEADLINE`].
    ///
    /// # Cancel safety
    /// Dropping the future only stops the waiting.
    pub async fn wait_until_held(&self, count: usize) {
        let mut held = self.0.count.subscribe();
        let waiting = held.wait_for(|held| *held >= count);
        crate::wait::within("calls to be held", crate::wait::DEADLINE, waiting)
            .await
            .expect("the gate lives as long as this borrow");
    }

    /// Lets the call go that came first, of those held. Returns whether there was one.
    pub fn release_one(&self) -> bool {
        let taken = self.0.take(1);
        let had_one = !taken.is_empty();
        for call in taken {
            call();
        }
        had_one
    }

    /// Lets all calls go, those held and those to come.
    pub fn open(&self) {
        self.0.state.lock().is_open = true;
        for call in self.0.take(usize::MAX) {
            call();
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gate({:?}, {} held)", self.0.point, self.held())
    }
}

/// The faults of one node, and what it has asked for.
#[derive(Default)]
pub(super) struct Faults {
    all: Option<Fault>,
    on: HashMap<Operation, Fault>,
    next: HashMap<Operation, VecDeque<Fault>>,
    gates: HashMap<Operation, Arc<GateInner>>,
    calls: HashMap<Operation, u64>,
}

impl Faults {
    /// Counts a call, and decides its fate.
    pub(super) fn arrive(&mut self, operation: Operation) -> (Option<Fault>, Option<Arc<GateInner>>) {
        *self.calls.entry(operation).or_default() += 1;
        let once = self.next.get_mut(&operation).and_then(VecDeque::pop_front);
        let fault = once.or(self.all).or_else(|| self.on.get(&operation).copied());
        (fault, self.gates.get(&operation).cloned())
    }

    pub(super) fn set_all(&mut self, fault: Option<Fault>) {
        self.all = fault;
    }

    pub(super) fn set_on(&mut self, operation: Operation, fault: Option<Fault>) {
        match fault {
            Some(fault) => self.on.insert(operation, fault),
            None => self.on.remove(&operation),
        };
    }

    pub(super) fn push_next(&mut self, operation: Operation, fault: Fault) {
        self.next.entry(operation).or_default().push_back(fault);
    }

    pub(super) fn hold(&mut self, operation: Operation, gate: &Gate) {
        self.gates.insert(operation, Arc::clone(&gate.0));
    }

    pub(super) fn calls(&self, operation: Operation) -> u64 {
        self.calls.get(&operation).copied().unwrap_or(0)
    }

    pub(super) fn calls_total(&self) -> u64 {
        self.calls.values().sum()
    }

    pub(super) fn reset_calls(&mut self) {
        self.calls.clear();
    }
}
