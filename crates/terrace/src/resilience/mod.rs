//! Calls to L2: counted, bounded, tried again where that is safe, and left out while L2 is in trouble.
//!
//! Every call to the shared tier goes through [`L2`]. The adapter makes one attempt with a deadline; here it is decided what a
//! failure means. For a read it means "not found there", or an error where the keyspace fails closed. For a change it means "not delivered yet", which
//! [`crate::coherence::pending`] remembers, or an error if trying again cannot help.
//!
//! 1. Before the first call for a namespace, L2 and this node agree on its settings ([`agreement`]).
//! 2. An answer to many questions has as many parts, or is an error.
//! 3. While the breaker ([`breaker`], [`gate`]) is open, no call is made: a read goes on without L2 at once, a change is `Queued`
//!    at once. Only deliveries of what L2 has not seen go on ([`L2::press`]), one at a time and namespace; and L2 is probed
//!    ([`probe`]). Unavailable, timeout and broken count as failures, and a call that somebody gave up on who had waited for it for
//!    [`GIVEN_UP_MIN`]; what was refused, and settings that disagree, were answered.
//! 4. A read waits for L2 for `l2_wait_max` at most, all its calls together ([`budget`]). After that L2 could not be asked, for
//!    this read; the answer, when it still comes, is dropped.
//! 5. After the breaker closed, the share of reads that ask L2 grows over its `ramp`; the others go on without L2. Those of keyspaces
//!    that fail closed all ask: they could not go on.
//! 6. What is tried again is said in [`retry`], and what is told of refusals in [`refusals`].
//! 7. A server that refuses this node's beats because it may not be the primary any more is not believed either: it still answers
//!    reads, and what it answers may have been changed elsewhere.
//!
//! A hit in L1 makes no call and asks nobody here. These are all waits for L2 between a read that misses L1 and its answer:
//!
//! | wait | where | bound |
//! |---|---|---|
//! | that L2 and this node agree on a namespace | [`L2::prepare`] | what is left of `l2_wait_max`; the attempt goes on |
//! | the value, or many | `read`, `keyspace::batch` | what is left; the call is let go |
//! | whether a copy is still the same | `coherence::validation` | what is left, and 50 ms but for `SuspectPolicy::Error`; the question goes on, with a budget of its own |
//! | generations of its tags | `tags` | what is left; the call is let go |
//! | the lease, each time it is asked for | `lease` | what is left; the call goes on, and a lease that it brings is given back |
//! | another node's load | `lease` | 10 s; no call |
//! | generations of a loaded value's tags | `tags` | what is left; the call is let go |
//! | the fill | `lease` | what is left; the call goes on |
//! | giving a lease back | `lease` | what is left; the call goes on |
//! | a pause before another attempt | [`retry`] | what is left; none if it does not fit |
//!
//! Renewing a lease runs beside the load, and nothing waits for it. A batch whose keys are loaded has one budget for the look at
//! all of them, and then one for each load.
//!
//! Deliberately absent: a breaker for each shard. [`Remote`] does not tell which server a call went to, so on a Cluster there is one
//! breaker for all. It opens when half of *all* calls fail, and closes when every primary answers.

mod agreement;
mod breaker;
mod budget;
mod gate;
mod origin;
mod probe;
mod refusals;
mod retry;
mod transitions;

pub(crate) use agreement::Agreement;
pub use breaker::{Breaker, BreakerState};
pub(crate) use budget::{Budget, Rest};
pub(crate) use gate::BreakerGauges;
pub use gate::BreakerHealth;
pub use origin::{OriginBreaker, OriginCall, OriginHealth};
pub use retry::Retry;
pub use transitions::{Transition, Transitions};

use crate::coherence::listener;
use crate::error::ConfigError;
use crate::runtime::Turns;
use crate::space::{Shared, Space, View};
use crate::telemetry::{Event, spans};
use futures_util::{Stream, StreamExt};
use gate::{Caller, Gate};
use refusals::Refusals;
use retry::Safety;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use terrace_core::remote::{Remote, RemoteResult, SweepRule};
use terrace_core::{Chance, Clock, Key, Moment, RemoteError};
use tracing::Instrument;

/// A call that its caller gave up on counts as failed if it had been under way for so long: half of the shortest time for which
/// the library itself waits. Who goes away sooner had other reasons.
const GIVEN_UP_MIN: Duration = Duration::from_millis(25);

/// How much trouble of L2 is put up with.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    pub(crate) breaker: Option<Breaker>,
    pub(crate) retry: Retry,
    pub(crate) wait_max: Duration,
}

impl Patience {
    /// How long a read waits for L2 at most, unless told otherwise.
    pub(crate) const WAIT_MAX_DEFAULT: Duration = Duration::from_millis(250);

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.wait_max < Duration::from_millis(1) {
            return Err(ConfigError::new(
                "l2_wait_max",
                self.wait_max,
                "at least a millisecond, e.g. 250 ms",
            ));
        }
        self.breaker.map_or(Ok(()), |breaker| breaker.check())?;
        self.retry.check()
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self { breaker: Some(Breaker::default()), retry: Retry::default(), wait_max: Self::WAIT_MAX_DEFAULT }
    }
}

/// The second tier.
pub(crate) struct L2 {
    remote: Arc<dyn Remote>,
    shared: Weak<Shared>,
    lease: Duration,
    listening: Turns,
    gate: Option<Gate>,
    retry: Retry,
    wait_max: Duration,
    probing: Turns,
    refusals: Refusals,
    is_cut_off: AtomicBool,
    clock: Clock,
    chance: Chance,
}

/// An attempt that is being made. One that is dropped was given up on.
struct UnderWay<'a> {
    l2: &'a L2,
    since: Moment,
    is_over: bool,
}

impl UnderWay<'_> {
    fn took(&self) -> Duration {
        self.l2.clock.precise().since(self.since)
    }

    fn ends(mut self, error: Option<&RemoteError>) {
        self.is_over = true;
        let Some(gate) = &self.l2.gate else { return };
        let took = self.took();
        // A read may have gone on without what is seen through for it.
        let is_late = budget::is_going_on() && took > self.l2.wait_max;
        let opens = if is_late { gate.counted(true, error) } else { gate.called(took, error) };
        if opens {
            self.l2.see_to_probing();
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if !self.is_over && self.took() >= GIVEN_UP_MIN {
            self.l2.overran();
        }
    }
}

impl L2 {
    /// `lease` is how old a copy can be that counts as fresh.
    pub(crate) fn new(
        remote: Arc<dyn Remote>,
        shared: Weak<Shared>,
        lease: Duration,
        patience: &Patience,
        clock: &Clock,
        chance: &Chance,
    ) -> Self {
        let gate = patience.breaker.map(|breaker| Gate::new(breaker, clock.clone(), chance.clone()));
        Self {
            remote,
            shared,
            lease,
            listening: Turns::default(),
            gate,
            retry: patience.retry,
            wait_max: patience.wait_max,
            probing: Turns::default(),
            refusals: Refusals::default(),
            is_cut_off: AtomicBool::new(false),
            clock: clock.clone(),
            chance: chance.clone(),
        }
    }

    /// Whether the server may not be the primary any more, so that nothing it has is known to be fresh.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.is_cut_off.load(Ordering::Acquire)
    }

    /// What a beat came to. One that fails in another way than by the server's word says nothing.
    pub(crate) fn heed_beat(&self, beat: &Result<(), RemoteError>) {
        if let Err(error) = beat {
            self.refusals.note(self.clock.precise(), error);
        }
        let is_cut_off = match beat {
            Ok(()) => false,
            Err(RemoteError::CutOff { .. }) => true,
            Err(_) => return,
        };
        if self.is_cut_off.swap(is_cut_off, Ordering::AcqRel) != is_cut_off {
            tracing::warn!(
                is_cut_off,
                "whether L2 takes changes has changed; while it does not, it is not read"
            );
        }
    }

    /// How old a copy can be that counts as fresh.
    pub(crate) fn lease(&self) -> Duration {
        self.lease
    }

    /// How long a read waits for it at most.
    pub(crate) fn wait_max(&self) -> Duration {
        self.wait_max
    }

    pub(crate) fn remote(&self) -> &dyn Remote {
        &*self.remote
    }

    /// Whether it tells of changes that others make.
    pub(crate) fn tells_changes(&self) -> bool {
        self.remote.bus().is_some()
    }

    /// How its breaker is, if it has one.
    pub(crate) fn breaker_health(&self) -> Option<BreakerHealth> {
        self.gate.as_ref().map(Gate::health)
    }

    /// What it refused last, if that was lately.
    pub(crate) fn refused(&self) -> Option<RemoteError> {
        self.refusals.lately(self.clock.precise())
    }

    /// The transitions of its breaker, if it has one.
    pub(crate) fn breaker_transitions(&self) -> Option<Transitions> {
        self.gate.as_ref().map(Gate::transitions)
    }

    /// What metrics tell of its breaker, if it has one.
    pub(crate) fn breaker_gauges(&self) -> Option<BreakerGauges> {
        self.gate.as_ref().map(Gate::gauges)
    }

    /// Makes a call for `space`, of this name for those who trace it, that may change something, having made sure that L2 and this node agree on the namespace's
    /// settings. It is made again only if it was not sent.
    pub(crate) async fn call<'a, T>(
        &'a self,
        space: &'a Space,
        name: &'static str,
        call: impl Fn(&'a dyn Remote) -> RemoteResult<'a, T>,
    ) -> Result<T, RemoteError> {
        self.prepare(space).await?;
        let span = spans::l2(&space.namespace, name);
        spans::end_l2(&span, self.attempts(space, Safety::Change, call).instrument(span.clone()).await)
    }

    /// [`L2::call`] for a question, which changes nothing.
    pub(crate) async fn ask<'a, T>(
        &'a self,
        space: &'a Space,
        name: &'static str,
        call: impl Fn(&'a dyn Remote) -> RemoteResult<'a, T>,
    ) -> Result<T, RemoteError> {
        self.prepare(space).await?;
        let span = spans::l2(&space.namespace, name);
        spans::end_l2(&span, self.attempts(space, Safety::Question, call).instrument(span.clone()).await)
    }

    /// [`L2::call`] for what L2 must not be believed without. It is made while the breaker is open, too: whoever makes it has
    /// pauses of his own, and makes one at a time. Made once: he tries again himself.
    pub(crate) async fn press<'a, T>(
        &'a self,
        space: &'a Space,
        name: &'static str,
        call: impl Fn(&'a dyn Remote) -> RemoteResult<'a, T>,
    ) -> Result<T, RemoteError> {
        if !space.agreement.is_reached() {
            self.agree(space).await?;
        }
        self.see_to_listening();
        let span = spans::l2(&space.namespace, name);
        spans::end_l2(&span, self.observed(space, call(&*self.remote)).instrument(span.clone()).await)
    }

    /// [`L2::call`] for one that answers about each of `expected` things.
    pub(crate) async fn call_each<'a, T>(
        &'a self,
        space: &'a Space,
        name: &'static str,
        expected: usize,
        call: impl Fn(&'a dyn Remote) -> RemoteResult<'a, Vec<T>>,
    ) -> Result<Vec<T>, RemoteError> {
        Self::each(space, expected, self.call(space, name, call).await)
    }

    /// [`L2::ask`] for one that answers each of `expected` questions.
    pub(crate) async fn ask_each<'a, T>(
        &'a self,
        space: &'a Space,
        name: &'static str,
        expected: usize,
        call: impl Fn(&'a dyn Remote) -> RemoteResult<'a, Vec<T>>,
    ) -> Result<Vec<T>, RemoteError> {
        Self::each(space, expected, self.ask(space, name, call).await)
    }

    /// As many answers as were expected.
    pub(crate) fn each<T>(
        space: &Space,
        expected: usize,
        answers: Result<Vec<T>, RemoteError>,
    ) -> Result<Vec<T>, RemoteError> {
        let answers = answers?;
        if answers.len() == expected {
            return Ok(answers);
        }
        let reason = format!("{} answers to {expected} questions", answers.len());
        let error = RemoteError::Protocol { reason };
        space.counters.l2_error(&error);
        Err(error)
    }

    /// The keys that a rule names, some at a time.
    pub(crate) async fn names<'a>(
        &'a self,
        space: &'a Space,
        rule: &'a SweepRule,
    ) -> Result<impl Stream<Item = Result<Vec<Key>, RemoteError>> + Unpin + use<'a>, RemoteError> {
        self.prepare(space).await?;
        Ok(self.remote.names(&space.namespace, rule).map(|step| self.counted(space, step)))
    }

    /// Sees to it that L2 may be asked, that it and this node agree, and that this node listens. Whoever takes a ticket does this
    /// before: hearing of a namespace for the first time voids all tickets.
    pub(crate) async fn prepare(&self, space: &Space) -> Result<(), RemoteError> {
        self.admit(space, Caller::Call)?;
        self.prepare_admitted(space).await
    }

    /// [`L2::prepare`] for a read that begins: it has to be one of the share that may ask, while L2 comes back. One that could not go on
    /// without L2 may in any case.
    pub(crate) async fn prepare_read(&self, space: &Space) -> Result<(), RemoteError> {
        let caller = if space.rules().fails_closed { Caller::Call } else { Caller::Read };
        self.admit(space, caller)?;
        self.prepare_admitted(space).await
    }

    async fn prepare_admitted(&self, space: &Space) -> Result<(), RemoteError> {
        if !space.agreement.is_reached() {
            let agreed = budget::within_left(&self.clock, Box::pin(self.agree(space))).await;
            return agreed.unwrap_or_else(|_| {
                // One attempt is made for all who wait: so each of them counts.
                self.overran();
                Err(self.timed_out(space))
            });
        }
        // The runtime that the listener ran on may have ended.
        self.see_to_listening();
        Ok(())
    }

    fn admit(&self, space: &Space, caller: Caller) -> Result<(), RemoteError> {
        let Some(gate) = self.gate.as_ref().filter(|gate| !gate.admits(caller)) else { return Ok(()) };
        space.counters.count(Event::L2Rejected);
        self.see_to_probing();
        Err(gate.refusal())
    }

    /// Makes attempts until one succeeds, or another would not be safe, or there is no time for it.
    async fn attempts<'a, T>(
        &'a self,
        space: &'a Space,
        safety: Safety,
        call: impl Fn(&'a dyn Remote) -> RemoteResult<'a, T>,
    ) -> Result<T, RemoteError> {
        let mut retried = 0;
        loop {
            if budget::left().is_some_and(|left| left.is_zero()) {
                return Err(out_of_time());
            }
            self.admit(space, Caller::Call)?;
            let error = match self.observed(space, call(&*self.remote)).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let pause = self.retry.pause(retried, &self.chance).filter(|_| safety.allows(&error));
            let Some(pause) = pause.filter(|pause| budget::allows(*pause)) else {
                return Err(error);
            };
            retried += 1;
            space.counters.count(Event::L2Retried);
            budget::pause(pause).await;
        }
    }

    /// Makes one attempt, and tells the counters and the breaker of it.
    async fn observed<T>(&self, space: &Space, call: RemoteResult<'_, T>) -> Result<T, RemoteError> {
        let under_way = UnderWay { l2: self, since: self.clock.precise(), is_over: false };
        let result = budget::within_left(&self.clock, call).await;
        let result = result.unwrap_or(Err(RemoteError::Timeout { after: self.wait_max }));
        under_way.ends(result.as_ref().err());
        self.counted(space, result)
    }

    /// Somebody has given up waiting for L2.
    fn overran(&self) {
        let error = RemoteError::Timeout { after: self.wait_max };
        if self.gate.as_ref().is_some_and(|gate| gate.counted(true, Some(&error))) {
            self.see_to_probing();
        }
    }

    /// A read does not wait any longer for what goes on without it, and is counted for itself when it ends.
    pub(crate) fn timed_out(&self, space: &Space) -> RemoteError {
        let error = RemoteError::Timeout { after: self.wait_max };
        space.counters.l2_error(&error);
        error
    }

    /// Starts listening, unless that is going on.
    pub(crate) fn see_to_listening(&self) {
        if self.listening.are_taken() || self.remote.bus().is_none() {
            return;
        }
        let Some(shared) = self.shared.upgrade().filter(|shared| shared.runtime.is_available()) else {
            return;
        };
        if let Some(turn) = self.listening.take() {
            let (weak, remote) = (Weak::clone(&self.shared), Arc::clone(&self.remote));
            shared.runtime.spawn_until_closed(listener::listen(weak, remote, self.lease, turn));
        }
    }

    fn counted<T>(&self, space: &Space, result: Result<T, RemoteError>) -> Result<T, RemoteError> {
        space.counters.count(Event::L2RoundTrip);
        result.inspect_err(|error| {
            space.counters.l2_error(error);
            self.refusals.note(self.clock.precise(), error);
            tracing::debug!(namespace = %space.namespace, %error, "a call to L2 failed");
        })
    }
}

/// A call was not made, because the read that wanted it has no time left for L2.
fn out_of_time() -> RemoteError {
    RemoteError::Unavailable { reason: "the read has no time left to wait for it".to_owned() }
}

impl View {
    /// The time that one read may spend on L2.
    pub(crate) fn budget(&self) -> Budget {
        Budget::new(self.l2().map_or(Duration::ZERO, |l2| l2.wait_max))
    }

    /// Waits for what others ask L2, for as long as the read may wait.
    pub(crate) async fn within_budget<T>(&self, answer: impl Future<Output = T> + Send) -> Option<T> {
        budget::within_left(&self.shared.clock, Box::pin(answer)).await.ok()
    }

    /// Waits for what has to be seen through, for as long as the read may wait. If that is too short, gives the rest back.
    pub(crate) async fn see_through<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Rest<T>> {
        let work: Rest<T> = Box::pin(budget::going_on(work));
        budget::within_left(&self.shared.clock, work).await
    }
}
