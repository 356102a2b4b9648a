//! What this node still owes an L2 that may have forgotten changes.
//!
//! 1. A namespace that is joined on another incarnation of L2's server than before owes what this node changed lately in the
//!    partitions concerned ([`super::recent`]). It is asserted in the background, in batches.
//! 2. Until all of it was, the namespace is not trusted: only a beat that is sent after that extends the lease.
//! 3. What fails is tried again, whole, with the next beat. What is done twice costs misses.
//! 4. While a debt is paid, another life of L2 may begin. Then the payment counts for nothing.

use super::recent::Named;
use crate::space::View;
use crate::telemetry::Event;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use terrace_core::bus::{Incarnation, Reassertion};
use terrace_core::remote::{BoxFuture, SweepRule};
use terrace_core::{Key, Namespace, Partition, Remote, RemoteError, Tag, Version};

/// Changes that are asserted in one call.
const BATCH_MAX: usize = 512;

/// What all namespaces of a cache owe.
#[derive(Default)]
pub(super) struct Debts {
    of: BTreeMap<Namespace, Debt>,
    payments: FuturesUnordered<BoxFuture<'static, Payment>>,
}

#[derive(Default)]
struct Debt {
    /// The incarnations that were told last.
    on: Arc<[Incarnation]>,
    /// The partitions for which changes are still to be asserted.
    owed: HashSet<Partition>,
    is_being_paid: bool,
    /// The first beat that proves something.
    trusted_from: u64,
}

/// What came of asserting changes.
pub(super) struct Payment {
    namespace: Namespace,
    on: Arc<[Incarnation]>,
    result: Result<u64, RemoteError>,
}

impl Payment {
    pub(super) fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

impl Debts {
    /// A namespace was joined on these incarnations. Returns the partitions whose server may have forgotten something.
    pub(super) fn join(
        &mut self,
        view: Option<&View>,
        namespace: &Namespace,
        on: &[Incarnation],
    ) -> HashSet<Partition> {
        let is_first = !self.of.contains_key(namespace);
        let debt = self.of.entry(namespace.clone()).or_default();
        let is_new = |index: usize| debt.on.get(index) != on.get(index);
        let renewed: HashSet<Partition> =
            (0..).map(Partition).zip(0..on.len()).filter(|(_, at)| is_new(*at)).map(|(one, _)| one).collect();
        debt.on = on.into();
        let Some(view) = view else { return renewed };
        let recent = &view.space.recent;
        let has_something = !is_first || !recent.is_empty();
        if !renewed.is_empty() && has_something {
            view.space.counters.add(Event::BusIncarnation, u64::from(!is_first));
            debt.owed.extend(&renewed);
            recent.owe();
        }
        if debt.owed.is_empty() {
            recent.thaw();
        }
        renewed
    }

    /// Begins to assert what is owed in a namespace, unless that is going on.
    pub(super) fn pay(&mut self, view: &View, remote: &Arc<dyn Remote>, partitions: u16) {
        let namespace = &view.space.namespace;
        let Some(debt) =
            self.of.get_mut(namespace).filter(|debt| !debt.owed.is_empty() && !debt.is_being_paid)
        else {
            return;
        };
        debt.is_being_paid = true;
        let concerns = |text: &str| debt.owed.contains(&Partition::of(namespace, text, partitions));
        let changes = view.space.recent.owed(view.shared.clock.now(), concerns);
        let (namespace, on, remote) = (namespace.clone(), Arc::clone(&debt.on), Arc::clone(remote));
        self.payments.push(Box::pin(async move {
            let result = assert(&*remote, &namespace, &changes, &on).await;
            Payment { namespace, on, result }
        }));
    }

    /// The next payment that has ended; never if there is none.
    pub(super) async fn next(&mut self) -> Payment {
        match self.payments.next().await {
            Some(payment) => payment,
            None => std::future::pending().await,
        }
    }

    /// Settles a payment: beats from this one on prove something again. Returns whether nothing is owed any more. Where L2 is not heard by then,
    /// what is kept goes on being kept: nobody knows what it has forgotten since.
    pub(super) fn settle(
        &mut self,
        view: Option<&View>,
        payment: Payment,
        next_beat: u64,
        is_heard: bool,
    ) -> bool {
        let Payment { namespace, on, result } = payment;
        let Some(debt) = self.of.get_mut(&namespace) else { return false };
        debt.is_being_paid = false;
        match result {
            Ok(count) if debt.on == on => {
                let paid = std::mem::take(&mut debt.owed);
                debt.trusted_from = next_beat;
                if let Some(view) = view {
                    // What L2 told of tags meanwhile may be from before they were bumped again.
                    view.suspect(&paid, u16::try_from(on.len()).unwrap_or(u16::MAX));
                    view.space.counters.add(Event::Reasserted, count);
                    if is_heard { view.space.recent.thaw() } else { view.space.recent.pay() }
                }
                true
            }
            Ok(_) => false,
            Err(error) => {
                tracing::warn!(%namespace, %error, "changes that L2 may have forgotten could not be asserted yet");
                false
            }
        }
    }

    /// Whether a beat proves something for the namespace.
    pub(super) fn allow(&self, namespace: &Namespace, beat: u64) -> bool {
        self.of.get(namespace).is_some_and(|debt| debt.owed.is_empty() && beat >= debt.trusted_from)
    }
}

/// Asserts changes, and returns how many.
async fn assert(
    remote: &dyn Remote,
    namespace: &Namespace,
    changes: &[Reassertion],
    on: &[Incarnation],
) -> Result<u64, RemoteError> {
    let Some(bus) = remote.bus() else { return Ok(0) };
    for batch in changes.chunks(BATCH_MAX) {
        bus.reassert(namespace, batch, on).await?;
    }
    Ok(changes.len() as u64)
}

impl View {
    /// Changes of keys are about to be made in L2.
    pub(crate) fn note_keys<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) {
        self.note(keys.into_iter().map(|key| Named::Key(key.clone())));
    }

    /// Tags are about to be bumped in L2.
    pub(crate) fn note_tags(&self, tags: &[Tag]) {
        self.note(tags.iter().map(|tag| Named::Tag(tag.clone())));
    }

    /// A sweep of L2 is about to begin, or has ended.
    pub(crate) fn note_sweep(&self, rule: &SweepRule) {
        self.note([Named::Rule(rule.clone())]);
    }

    fn note(&self, named: impl IntoIterator<Item = Named>) {
        if self.tells() {
            let dropped = self.space.recent.begin(named, self.shared.clock.now());
            self.space.counters.add(Event::RecentDropped, dropped);
        }
    }

    /// Changes of keys were made under these numbers.
    pub(crate) fn note_made<'a>(&self, made: impl IntoIterator<Item = (&'a Key, Version)>) {
        self.note_acknowledged(made.into_iter().map(|(key, number)| (Named::Key(key.clone()), number)));
    }

    /// Changes of keys have failed, and wait to be made.
    pub(crate) fn note_failed<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) {
        if self.tells() {
            self.space.recent.fail(keys.into_iter().map(|key| Named::Key(key.clone())));
        }
    }

    /// Tags were bumped.
    pub(crate) fn note_bumped(&self, tags: &[Tag]) {
        self.note_acknowledged(tags.iter().map(|tag| (Named::Tag(tag.clone()), Version::ZERO)));
    }

    fn note_acknowledged(&self, acknowledged: impl IntoIterator<Item = (Named, Version)>) {
        if self.tells() {
            let dropped = self.space.recent.acknowledge(acknowledged, self.shared.clock.now());
            self.space.counters.add(Event::RecentDropped, dropped);
        }
    }

    /// Whether L2 tells of changes, and of its other lives.
    pub(crate) fn tells(&self) -> bool {
        self.l2().is_some_and(|l2| l2.remote().bus().is_some())
    }
}
