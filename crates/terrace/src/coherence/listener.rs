//! Hearing of other nodes' changes, and knowing when one was missed.
//!
//! One task per cache polls what its L2 tells ([`terrace_core::bus`]) and does one thing after the other:
//!
//! 1. A message is applied if it follows on ([`Chain`]). Else the log is read, and nothing is heard meanwhile. What the log
//!    cannot tell makes the partition suspect: its copies are asked about before they count as fresh.
//! 2. A beat is sent every quarter of the lease, or every second if that is sooner. When it comes back, every message before it has been applied, and the
//!    lease of each namespace that is joined counts from when the beat was *sent* ([`super::trust`]).
//! 3. A lost connection ends no lease: leases end by themselves. Beats sent before the loss prove nothing after it.
//! 4. A message that is lost with nothing after it, and the connection open, leaves no gap. So some counters are read before
//!    each beat, in turn: what they count must have been heard when the beat is back. Until their turn has come such a
//!    loss is not noticed.
//! 5. Beats that do not come back for two leases end the connection: it may be half open. So does a beat that is lost: messages may have been lost with it.
//! 6. A server that may have forgotten something, because it has another incarnation than the one that was heard before, makes
//!    its partitions suspect, and is told again what this node changed lately before its copies are trusted ([`super::debts`]).
//! 7. What is told as touched has no number and is in no log. It is applied at once, whatever the chains say; what was missed of
//!    it is told by the bus as the whole namespace.
//! 8. Where numbers are no chain ([`Bus::is_chained`]), every message is applied as it comes, no gap is seen, and every joining
//!    makes all partitions suspect.

use super::beats::{Beats, Returned};
use super::debts::Debts;
use super::heard::{Heard, Reading};
use crate::events::EventKind;
use crate::runtime::{Turn, sleep};
use crate::space::{Shared, View};
use crate::telemetry::{Direction, Event, MessageType};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use terrace_core::bus::{Bus, BusEvent, BusEvents, Incarnation, LoadEnded, Message};
use terrace_core::coherence::{Chain, Step};
use terrace_core::mutants::{self, Mutant};
use terrace_core::remote::BoxFuture;
use terrace_core::{Chance, Clock, Moment, Namespace, Partition, Remote, RemoteError, Version};

/// A beat is sent so many times within a lease.
const BEATS_PER_LEASE: u32 = 4;
/// The longest time between two beats: so soon a cache that was dropped is noticed, too.
const BEAT_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// Listens until the cache is gone.
pub(crate) async fn listen(shared: Weak<Shared>, remote: Arc<dyn Remote>, lease: Duration, _turn: Turn) {
    let given = shared.upgrade().map(|shared| (shared.clock.clone(), shared.chance.clone()));
    let Some((clock, chance)) = given else { return };
    let mut listener = Listener {
        shared,
        remote,
        lease,
        heard: BTreeMap::new(),
        beats: Beats::new(&chance, clock.precise()),
        clock,
        chance,
        asking: FuturesUnordered::new(),
        readings: Vec::new(),
        is_unread: false,
        debts: Debts::default(),
    };
    listener.run().await;
}

struct Listener {
    shared: Weak<Shared>,
    remote: Arc<dyn Remote>,
    lease: Duration,
    clock: Clock,
    chance: Chance,
    heard: BTreeMap<Namespace, Heard>,
    beats: Beats,
    /// Beats that are being sent.
    asking: FuturesUnordered<BoxFuture<'static, Asked>>,
    /// Counters to compare when their beat is back.
    readings: Vec<Reading>,
    /// Whether the last reading of logs failed.
    is_unread: bool,
    /// What L2 may have forgotten of this node's changes.
    debts: Debts,
}

/// What came of sending a beat.
#[derive(Default)]
struct Asked {
    /// Its number, if the server has acknowledged it.
    acknowledged: Option<u64>,
    reading: Option<Reading>,
}

/// The connection has to be given up: what was missed could not be read.
struct Broken;

impl Listener {
    async fn run(&mut self) {
        let remote = Arc::clone(&self.remote);
        let Some(bus) = remote.bus() else { return };
        let mut events = bus.listen();
        loop {
            if self.hear_until_broken(bus, &mut events).await.is_ok() {
                return;
            }
            self.lose();
            drop(events);
            sleep(self.interval_before_listening()).await;
            self.beats.back_at = self.clock.precise();
            events = bus.listen();
        }
    }

    /// The time between two beats.
    fn interval(&self) -> Duration {
        (self.lease / BEATS_PER_LEASE).min(BEAT_INTERVAL_MAX)
    }

    /// The time before listening anew: at random, because what broke one node's connection has broken those of others.
    fn interval_before_listening(&self) -> Duration {
        let half = self.interval() / 2;
        let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        half + Duration::from_nanos(self.chance.below(nanos))
    }

    /// Handles one thing after the other. Ends well when the cache is gone.
    async fn hear_until_broken(&mut self, bus: &dyn Bus, events: &mut BusEvents) -> Result<(), Broken> {
        let mut tick = Box::pin(sleep(Duration::ZERO));
        loop {
            tokio::select! {
                // What is rare comes first, so that no flood of events keeps beats from being sent.
                biased;
                () = &mut tick => {
                    if self.shared.strong_count() == 0 {
                        return Ok(());
                    }
                    let silent = self.clock.precise().since(self.beats.back_at);
                    if self.heard.values().any(|heard| heard.is_joined) && silent > self.lease.saturating_mul(2) {
                        tracing::warn!(?silent, "beats do not come back; listening anew");
                        return Err(Broken);
                    }
                    self.pay_all(bus);
                    self.send_beat();
                    tick = Box::pin(sleep(self.interval()));
                }
                Some(Asked { acknowledged, reading }) = self.asking.next(), if !self.asking.is_empty() => {
                    if let Some(number) = acknowledged {
                        self.count_message(Direction::Out, MessageType::Beat);
                        self.beats.acknowledged(number);
                    }
                    self.readings.extend(reading.filter(|reading| reading.beat >= self.beats.valid_from));
                    self.compare(bus).await?;
                },
                payment = self.debts.next() => {
                    let view = self.view(payment.namespace());
                    let is_heard = self.heard.get(payment.namespace()).is_some_and(|heard| heard.is_joined);
                    if self.debts.settle(view.as_ref(), payment, self.beats.next, is_heard) {
                        self.send_beat();
                    }
                },
                event = events.next() => match event {
                    Some(event) => self.handle(bus, event).await?,
                    None => return Err(Broken),
                },
            }
        }
    }

    async fn handle(&mut self, bus: &dyn Bus, event: BusEvent) -> Result<(), Broken> {
        match event {
            BusEvent::Joined { namespace, counters, incarnations } => {
                self.join(bus, namespace, &counters, &incarnations).await
            }
            BusEvent::Heard { namespace, partition, bytes } => {
                self.receive(bus, &namespace, partition, &bytes).await
            }
            BusEvent::Touched { namespace, key } => {
                if let Some(view) = self.view(&namespace) {
                    view.space.counters.count(Event::BusTouched);
                    view.hear_touch(key.as_ref(), bus.partitions());
                }
                Ok(())
            }
            BusEvent::Beat(number) => {
                let now = self.clock.precise();
                let sent = match self.beats.returned(number, now) {
                    Returned::Proof(sent) => sent,
                    Returned::Alone => {
                        tracing::warn!("a beat was lost; listening anew");
                        return Err(Broken);
                    }
                    Returned::Nothing => return Ok(()),
                };
                if let Some(shared) = self.shared.upgrade() {
                    let lag = u64::try_from(now.since(sent).as_nanos()).unwrap_or(u64::MAX);
                    shared.bus_lag_nanos.store(lag, Ordering::Relaxed);
                }
                self.count_message(Direction::In, MessageType::Beat);
                self.compare(bus).await?;
                self.extend(bus, number, sent);
                Ok(())
            }
            BusEvent::Lost => {
                self.lose();
                Ok(())
            }
        }
    }

    fn lose(&mut self) {
        let now = self.clock.now();
        for (namespace, heard) in &mut self.heard {
            heard.is_joined = false;
            if let Some(view) = view_of(&self.shared, namespace) {
                view.space.recent.freeze(now, view.is_chained());
                view.space.events.tell_state(&self.clock, EventKind::Lost);
            }
        }
        self.beats.valid_from = self.beats.next;
        self.readings.clear();
    }

    fn view(&self, namespace: &Namespace) -> Option<View> {
        view_of(&self.shared, namespace)
    }

    /// Asserts what is owed in the namespaces that are joined.
    fn pay_all(&mut self, bus: &dyn Bus) {
        for (namespace, _) in self.heard.iter().filter(|(_, heard)| heard.is_joined) {
            if let Some(view) = view_of(&self.shared, namespace) {
                self.debts.pay(&view, &self.remote, bus.partitions());
            }
        }
    }

    async fn join(
        &mut self,
        bus: &dyn Bus,
        namespace: Namespace,
        counters: &[Version],
        incarnations: &[Incarnation],
    ) -> Result<(), Broken> {
        if self.heard.values().all(|heard| !heard.is_joined) {
            // The connection is new: beats from before it are not missed.
            self.beats.valid_from = self.beats.next;
        }
        let renewed = self.debts.join(self.view(&namespace).as_ref(), &namespace, incarnations);
        let (mut heard, is_first) = match self.heard.remove(&namespace) {
            Some(heard) => (heard, false),
            None => (self.begin(bus, &namespace, counters), true),
        };
        let chains = (0..).map(Partition).zip(heard.chains.iter_mut().zip(counters));
        let steps: Vec<(Partition, Step)> = chains
            .map(|(partition, (chain, &counter))| {
                let is_renewed = !is_first && (renewed.contains(&partition) || !bus.is_chained());
                (partition, if is_renewed { chain.renewed(counter) } else { chain.joined(counter) })
            })
            .filter(|_| !mutants::is(Mutant::JoinWithoutRepair))
            .collect();
        let joined = self.follow(bus, &namespace, &mut heard, steps).await;
        if let Some(view) = self.view(&namespace) {
            view.space.generations.counted(counters);
            let is_anew = !is_first && !renewed.is_empty();
            if is_anew {
                view.space.agreement.doubt();
            }
            view.space.events.tell_state(&self.clock, EventKind::Joined { is_anew });
        }
        heard.is_joined = joined.is_ok();
        heard.settles_with = self.beats.next;
        self.heard.insert(namespace, heard);
        self.beats.back_at = self.clock.precise();
        joined?;
        self.pay_all(bus);
        self.send_beat();
        Ok(())
    }

    /// A namespace that was never joined: what came into L1 before is not known to be fresh.
    fn begin(&self, bus: &dyn Bus, namespace: &Namespace, counters: &[Version]) -> Heard {
        if let Some(view) = self.view(namespace) {
            view.forget_all(bus.partitions());
        }
        Heard {
            chains: counters.iter().map(|&counter| Chain::begun_at(counter)).collect(),
            ..Heard::default()
        }
    }

    async fn receive(
        &mut self,
        bus: &dyn Bus,
        namespace: &Namespace,
        partition: Partition,
        bytes: &[u8],
    ) -> Result<(), Broken> {
        if let Some(LoadEnded(key)) = LoadEnded::parse(bytes) {
            if let Some(view) = self.view(namespace) {
                self.count_message(Direction::In, MessageType::Ended);
                view.space.waiting.wake(&key);
            }
            return Ok(());
        }
        let Some(mut heard) = self.heard.remove(namespace) else { return Ok(()) };
        let mut done = Ok(());
        if let Some(chain) = heard.chains.get_mut(usize::from(partition.0)) {
            let message = Message::parse(bytes);
            let step = match &message {
                Ok(_) if !bus.is_chained() => Step::Apply,
                Ok(message) => chain.heard(message),
                Err(error) => {
                    tracing::warn!(%namespace, partition = partition.0, %error, "what was heard is no message");
                    chain.garbled()
                }
            };
            match (step, &message) {
                (Step::Apply, Ok(message)) => self.apply(bus, namespace, partition, message),
                (step, _) => done = self.follow(bus, namespace, &mut heard, vec![(partition, step)]).await,
            }
        }
        self.heard.insert(namespace.clone(), heard);
        done
    }

    /// Does what the chains of one namespace ask for, but for what was heard just now.
    async fn follow(
        &mut self,
        bus: &dyn Bus,
        namespace: &Namespace,
        heard: &mut Heard,
        steps: Vec<(Partition, Step)>,
    ) -> Result<(), Broken> {
        let is_suspect = |step: &(Partition, Step)| step.1 == Step::Suspect;
        let suspects =
            steps.iter().filter(|step| is_suspect(step)).map(|(partition, _)| *partition).collect();
        self.suspect(bus, namespace, &suspects);
        let missing: Vec<_> = steps
            .into_iter()
            .filter_map(|(partition, step)| match step {
                Step::Missing { after, until } => Some((partition, after, until)),
                Step::Apply | Step::Known | Step::Suspect => None,
            })
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        heard.settles_with = self.beats.next;
        let after: Vec<_> = missing.iter().map(|(partition, after, _)| (*partition, *after)).collect();
        let logs = self.read_logs(bus, namespace, &after).await?;
        let mut suspects = HashSet::new();
        for ((partition, _, until), log) in missing.into_iter().zip(logs) {
            let log = log.iter().map(|bytes| Message::parse(bytes)).collect();
            match heard.chains[usize::from(partition.0)].repair(log, until) {
                Some(missed) => {
                    self.count(namespace, Event::BusRepaired, 1);
                    for message in &missed {
                        self.apply(bus, namespace, partition, message);
                    }
                }
                None => {
                    suspects.insert(partition);
                }
            }
        }
        self.suspect(bus, namespace, &suspects);
        Ok(())
    }

    /// What the logs tell. If they cannot be read, the connection is given up once; after that they count as empty: they may
    /// be too long to be read in time, or not for this node to read, and will be no shorter the next time.
    async fn read_logs(
        &mut self,
        bus: &dyn Bus,
        namespace: &Namespace,
        after: &[(Partition, Version)],
    ) -> Result<Vec<Vec<Bytes>>, Broken> {
        let error = match bus.changes_since(namespace, after).await {
            Ok(logs) if logs.len() == after.len() => {
                self.is_unread = false;
                return Ok(logs);
            }
            Ok(logs) => RemoteError::Protocol { reason: format!("{} logs of {}", logs.len(), after.len()) },
            Err(error) => error,
        };
        tracing::warn!(%namespace, %error, "missed changes cannot be read");
        if error.is_retryable() && !std::mem::replace(&mut self.is_unread, true) {
            return Err(Broken);
        }
        Ok(vec![Vec::new(); after.len()])
    }

    /// Makes the copies of partitions suspect of which a change may have been missed.
    fn suspect(&self, bus: &dyn Bus, namespace: &Namespace, suspects: &HashSet<Partition>) {
        let is_any = !suspects.is_empty() && !mutants::is(Mutant::SuspectsStay);
        if let Some(view) = self.view(namespace).filter(|_| is_any) {
            view.space.counters.add(Event::BusSuspected, suspects.len() as u64);
            let count = u32::try_from(suspects.len()).unwrap_or(u32::MAX);
            view.space.events.tell_state(&self.clock, EventKind::Suspected(count));
            view.suspect(suspects, bus.partitions());
        }
    }

    fn apply(&self, bus: &dyn Bus, namespace: &Namespace, partition: Partition, message: &Message) {
        if let Some(view) = self.view(namespace) {
            let direction = if message.origin == bus.node() { Direction::Out } else { Direction::In };
            self.count_message(direction, MessageType::of(&message.change));
            view.hear(partition, message, bus.partitions());
            view.space.events.tell_heard(&self.clock, bus, partition, message);
        }
    }

    fn count_message(&self, direction: Direction, kind: MessageType) {
        if let Some(shared) = self.shared.upgrade() {
            shared.bus_counters.count(direction, kind);
        }
    }

    fn count(&self, namespace: &Namespace, event: Event, n: u64) {
        if let Some(view) = self.view(namespace) {
            view.space.counters.add(event, n);
        }
    }

    /// Sends a beat, having read the counters whose turn it is.
    fn send_beat(&mut self) {
        let number = self.beats.send(self.clock.precise());
        let (remote, shared) = (Arc::clone(&self.remote), Weak::clone(&self.shared));
        let turns = self.heard.len().max(1) as u64;
        let turn = usize::try_from(number % turns).unwrap_or(0);
        let is_counted = remote.bus().is_some_and(Bus::is_chained);
        let read = self.heard.iter_mut().filter(|(_, heard)| heard.is_joined && is_counted).nth(turn);
        let reading = read.map(|(namespace, heard)| heard.next_reading(number, namespace));
        self.asking.push(Box::pin(async move {
            let Some(bus) = remote.bus() else { return Asked::default() };
            let mut done = None;
            if let Some(reading) = reading {
                let counters = bus.counters(&reading.namespace, reading.partitions()).await;
                done = counters.ok().map(|counters| Reading { counters, ..reading });
            }
            let beat = bus.beat(number).await;
            if let Some(l2) = shared.upgrade().as_ref().and_then(|shared| shared.l2.as_ref()) {
                l2.heed_beat(&beat);
            }
            if let Err(error) = beat {
                tracing::debug!(%error, "a beat could not be sent");
                return Asked::default();
            }
            Asked { acknowledged: Some(number), reading: done }
        }));
    }

    /// A beat that was sent at `sent` is back, and all that came before it was applied.
    fn extend(&mut self, bus: &dyn Bus, number: u64, sent: Moment) {
        let settling =
            self.heard.iter_mut().filter(|(_, heard)| heard.is_joined && heard.settles_with <= number);
        let settled = settling.map(|(namespace, heard)| (namespace.clone(), heard.settle()));
        for (namespace, suspects) in settled.collect::<Vec<_>>() {
            self.suspect(bus, &namespace, &suspects);
        }
        let Some(shared) = self.shared.upgrade() else { return };
        let spaces = shared.spaces.read();
        let joined = self
            .heard
            .iter()
            .filter(|(namespace, heard)| heard.is_joined && self.debts.allow(namespace, number));
        for space in joined.filter_map(|(namespace, _)| spaces.get(namespace)) {
            space.counters.add(Event::BusLapsed, u64::from(space.trust.has_lapsed(&self.clock)));
            space.trust.extend(sent, self.lease, &self.clock);
        }
    }

    /// Compares the counters whose beat is back with what was heard: the one was read before the other was sent.
    async fn compare(&mut self, bus: &dyn Bus) -> Result<(), Broken> {
        let back = self.beats.back;
        let due: Vec<Reading> = self.readings.extract_if(.., |reading| reading.beat <= back).collect();
        for reading in due {
            let Some(mut heard) = self.heard.remove(&reading.namespace) else { continue };
            let counted = (reading.first..).map(Partition).zip(reading.began.iter().zip(&reading.counters));
            let lagging = counted.filter_map(|(partition, (&began, &counter))| {
                let chain = heard.chains.get_mut(usize::from(partition.0))?;
                let lags = heard.is_joined && chain.lags(began, counter);
                lags.then(|| (partition, chain.joined(counter)))
            });
            let steps: Vec<_> = lagging.collect();
            if !steps.is_empty() {
                heard.settles_with = self.beats.next;
            }
            let done = self.follow(bus, &reading.namespace, &mut heard, steps).await;
            self.heard.insert(reading.namespace, heard);
            done?;
        }
        Ok(())
    }
}

fn view_of(shared: &Weak<Shared>, namespace: &Namespace) -> Option<View> {
    let shared = shared.upgrade()?;
    let space = shared.spaces.read().get(namespace).map(Arc::clone)?;
    // Another cache on the same connection may have joined what this one keeps to itself.
    space.uses_l2.then_some(View { shared, space })
}
