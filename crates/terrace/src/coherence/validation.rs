//! Does L2 still have what a copy in L1 is a copy of?
//!
//! A copy is *suspect* if a change of it may have been missed: the namespace is not trusted ([`super::trust`]), or a ban says so
//! of its partition ([`super::bans`]). It is kept, and L2 is asked about it when somebody reads it: for the version alone. A
//! copy that is the same counts as fresh again, as if it had been read from L2 just now; another value is read as usual.
//!
//! 1. A copy is kept anew only under a ticket that was taken before the question, and ends no later than L2 says. The
//!    generations of its tags are looked at after that, as for a value that is read.
//! 2. Questions about one key are one: whoever comes before it is sent shares its answer. Who comes later is not answered by it,
//!    but by the next.
//! 3. Keys that wait are asked about together, so many at most, and so many calls are under way at a time
//!    ([`super::questions`]). Those are counted for each shard of L2 ([`Remote::shard_of`](terrace_core::Remote::shard_of)), so that one which does not
//!    answer keeps no question from another.
//! 4. So many keys wait in a namespace at most. Of one more, and of all that wait for a shard when a call to it has failed, the
//!    question is unanswered, and the keyspace's [`SuspectPolicy`] decides. So nobody waits longer than for one failing call.
//! 5. Only values whose versions L2 gave can be asked about by version, with tags whose generations are known. Others are read.
//!
//! Deliberately absent: asking about copies that nobody reads.

use super::questions::{Put, UNANSWERED, Verdict, Waiters};
use crate::coherence::tickets::Ticket;
use crate::entry::{Found, Resident, StaleReason, Tier};
use crate::l1::weight_of_value;
use crate::read::Look;
use crate::space::{SuspectPolicy, View};
use crate::telemetry::Event;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::time::Duration;
use terrace_core::envelope::TagStamp;
use terrace_core::mutants::{self, Mutant};
use terrace_core::remote::Validity;
use terrace_core::{Key, Moment, RemoteError, Ttl, Version};
use tokio::sync::oneshot;

/// How long L2 is asked about a copy that is there, before the copy is returned as stale.
const VALIDATION_MAX: Duration = Duration::from_millis(50);
/// Keys of one batch that wait at a time, so that no batch takes all the room.
const WAITING_OF_BATCH_MAX: usize = 4096;

/// The turn to ask. Dropping it, as a runtime does when it shuts down, ends it; the last one takes what waits with it.
struct Asking {
    view: View,
    shard: u16,
    is_over: bool,
}

impl Drop for Asking {
    fn drop(&mut self) {
        if !self.is_over {
            self.view.space.questions.end_turn(self.shard);
        }
    }
}

impl Asking {
    /// Asks what waits for one shard, until nothing does.
    async fn run(mut self) {
        let questions = &self.view.space.questions;
        loop {
            // Who comes together is asked about together.
            tokio::task::yield_now().await;
            let Some(batch) = questions.take(self.shard) else { break };
            let (keys, waiters): (Vec<Key>, Vec<Waiters>) = batch.into_iter().unzip();
            // As long as a read may wait, and once: others wait for the next call behind this one.
            let verdicts = self.view.budget().once().spend(self.view.ask(&keys)).await.unwrap_or_else(|_| {
                questions.give_up(self.shard);
                vec![UNANSWERED; keys.len()]
            });
            for (waiters, verdict) in waiters.into_iter().zip(verdicts) {
                for waiter in waiters {
                    let _gone_or_told = waiter.send(verdict.clone());
                }
            }
        }
        self.is_over = true;
    }
}

/// A copy that is asked about by its version.
struct Asked {
    at: usize,
    copy: Resident,
    stamps: Vec<TagStamp>,
    /// What this supersedes L2 should not have.
    floor: Version,
}

/// A copy as an answer that cannot be proven.
fn unproven(copy: Resident) -> Found {
    Found::in_l1(copy).stale(StaleReason::Unproven)
}

/// A copy that L2 keeps for so much longer, by an answer to a question that was sent then: it ends here no later than there.
fn bounded(copy: Resident, remaining: Option<Ttl>, sent: Moment) -> Resident {
    let Some(left) = remaining.and_then(Ttl::duration) else { return copy };
    let (fresh_until, stale_until) = (copy.fresh_until, copy.stale_until);
    let grace = stale_until.since(fresh_until);
    let fresh = sent.plus(left.saturating_sub(grace));
    Resident { fresh_until: fresh_until.min(fresh), stale_until: stale_until.min(sent.plus(left)), ..copy }
}

impl View {
    /// A copy in this process' memory that cannot be proven fresh, and whether it could if no ban named it.
    fn doubted(&self, key: &Key) -> Option<(Resident, bool)> {
        let l1 = self.l1()?;
        let is_trusted = self.space.trust.holds(&self.shared.clock);
        let (copy, is_doubted) = l1.get_undead(self.name_of(key.as_str()), &self.space.bans)?;
        let is_suspect = (is_doubted || !is_trusted) && copy.is_answer(self.latest());
        is_suspect.then_some((copy, is_trusted))
    }

    /// Whether a copy may be an answer that nobody can prove. That there is no value is none where the keyspace fails closed: L2 may have one.
    fn may_be_unproven(&self, copy: &Resident) -> bool {
        !copy.is_absent() || self.may_go_without_l2().is_ok()
    }

    /// A copy in this process' memory that cannot be proven fresh.
    pub(crate) fn suspect_copy(&self, key: &Key) -> Option<Found> {
        self.doubted(key).map(|(copy, _)| unproven(copy))
    }

    /// [`View::suspect_copy`], for who returns it as it is. L2 is asked about it in the background if that can make it
    /// count as fresh.
    pub(crate) fn stale_copy(&self, key: &Key) -> Option<Found> {
        let (copy, is_trusted) = self.doubted(key).filter(|(copy, _)| self.may_be_unproven(copy))?;
        if is_trusted {
            self.put_question(key, None);
        }
        Some(unproven(copy))
    }

    /// What L2 says; where it says nothing, what the keyspace wants to be done with a copy that may be old.
    pub(crate) async fn validate(&self, key: &Key) -> Look {
        let policy = self.space.rules().suspect;
        let found =
            if policy == SuspectPolicy::Stale { self.stale_copy(key) } else { self.suspect_copy(key) };
        let Some(copy) = found else { return self.look_in_l2(key).await };
        if let Some(l2) = self.l2() {
            l2.see_to_listening();
        }
        if policy == SuspectPolicy::Stale {
            return Look::Hit(copy);
        }
        let answered = self.answered(self.question(key));
        let Verdict { look, outcome } = match policy {
            SuspectPolicy::Error => self.within_budget(answered).await,
            _ => self.within_budget(crate::runtime::within(VALIDATION_MAX, answered)).await.flatten(),
        }
        .unwrap_or(UNANSWERED);
        self.space.counters.count(outcome);
        if matches!(look, Look::Unknown) { self.unproven(copy) } else { look }
    }

    /// [`View::validate`] for keys of which there are suspect copies, some at a time; where L2 says nothing, nothing is known.
    pub(crate) async fn validate_many(&self, keys: &[Key]) -> Vec<Look> {
        let mut verdicts = vec![UNANSWERED; keys.len()];
        if let Some(l2) = self.l2().filter(|_| !keys.is_empty()) {
            l2.see_to_listening();
            let answered = async {
                let parts = keys.chunks(WAITING_OF_BATCH_MAX).zip(verdicts.chunks_mut(WAITING_OF_BATCH_MAX));
                for (keys, verdicts) in parts {
                    self.answer_each(keys, verdicts).await;
                }
            };
            match self.space.rules().suspect {
                SuspectPolicy::Error => self.within_budget(answered).await,
                _ => self.within_budget(crate::runtime::within(VALIDATION_MAX, answered)).await.flatten(),
            }
            .unwrap_or_default();
        }
        let look = |Verdict { look, outcome }| {
            self.space.counters.count(outcome);
            look
        };
        verdicts.into_iter().map(look).collect()
    }

    /// Asks about keys, and notes each answer as it comes: one shard may be late.
    async fn answer_each(&self, keys: &[Key], verdicts: &mut [Verdict]) {
        let questions = keys.iter().map(|key| self.question(key)).enumerate();
        let mut answers: FuturesUnordered<_> =
            questions.map(async |(at, question)| (at, self.answered(question).await)).collect();
        while let Some((at, verdict)) = answers.next().await {
            verdicts[at] = verdict;
        }
    }

    /// What becomes of a copy that may be old when L2 cannot be asked.
    pub(crate) fn unproven(&self, copy: Found) -> Look {
        match self.space.rules().suspect {
            SuspectPolicy::Error => Look::Unproven,
            _ if self.may_be_unproven(&copy.resident) => Look::Hit(copy),
            _ => Look::Unknown,
        }
    }

    /// [`View::unproven`] of a key's copy, if there is one.
    pub(crate) fn without_l2(&self, key: &Key) -> Look {
        self.suspect_copy(key).map_or(Look::Unknown, |copy| self.unproven(copy))
    }

    async fn answered(&self, question: Option<oneshot::Receiver<Verdict>>) -> Verdict {
        match question {
            Some(question) => question.await.unwrap_or(UNANSWERED),
            None => UNANSWERED,
        }
    }

    /// Asks L2 about the copy of a key; `None` if there is no room for one more question.
    fn question(&self, key: &Key) -> Option<oneshot::Receiver<Verdict>> {
        let (waiter, question) = oneshot::channel();
        self.put_question(key, Some(waiter)).then_some(question)
    }

    fn put_question(&self, key: &Key, waiter: Option<oneshot::Sender<Verdict>>) -> bool {
        let Some(l2) = self.l2().filter(|_| self.shared.runtime.is_available()) else { return false };
        let shard = l2.remote().shard_of(&self.space.namespace, key);
        match self.space.questions.put(shard, key, waiter) {
            Put::Refused => false,
            Put::Waits { is_first } => {
                if is_first {
                    let asking = Asking { view: self.clone(), shard, is_over: false };
                    self.shared.runtime.spawn_until_closed(asking.run());
                }
                true
            }
        }
    }

    /// Asks L2 about copies, and keeps what it says.
    async fn ask(&self, keys: &[Key]) -> Result<Vec<Verdict>, RemoteError> {
        let take = |key: &Key| self.shared.tickets.take(self.name_of(key.as_str()));
        let tickets: Vec<Ticket> = keys.iter().map(take).collect();
        let mut verdicts = vec![UNANSWERED; keys.len()];
        let (mut by_version, mut to_read) = (Vec::new(), Vec::new());
        for (at, key) in keys.iter().enumerate() {
            if let Some(found) = self.look_again(key.as_str()) {
                verdicts[at] = Verdict { look: Look::Kept(found), outcome: Event::ValidatedSame };
            } else if !self.distrusts(key) {
                let copy =
                    self.doubted(key).map(|(copy, _)| copy).filter(|copy| copy.version != Version::ZERO);
                match copy.and_then(|copy| Some((copy.stamps()?, copy))) {
                    Some((stamps, copy)) => {
                        let floor = self.space.recent.floor(key);
                        by_version.push(Asked { at, copy, stamps, floor });
                    }
                    None => to_read.push(at),
                }
            }
        }
        let sent = self.shared.clock.now();
        let told = self.ask_versions(keys, &by_version).await?;
        let mut same = Vec::new();
        for (asked, told) in by_version.into_iter().zip(told) {
            let version = asked.copy.version;
            match told {
                Validity::Same { .. }
                    if asked.floor.supersedes(version)
                        || self.space.recent.outdates(&keys[asked.at], version) =>
                {
                    verdicts[asked.at] = self.missing(&keys[asked.at], version, Some(version));
                }
                Validity::Same { remaining } => same.push((asked, remaining)),
                Validity::Missing => verdicts[asked.at] = self.missing(&keys[asked.at], version, None),
                Validity::Changed => to_read.push(asked.at),
            }
        }
        self.rearm(keys, &tickets, same, sent, &mut verdicts).await;
        self.read_anew(keys, &tickets, &to_read, &mut verdicts).await;
        Ok(verdicts)
    }

    async fn ask_versions(&self, keys: &[Key], asked: &[Asked]) -> Result<Vec<Validity>, RemoteError> {
        let Some(l2) = self.l2().filter(|_| !asked.is_empty()) else { return Ok(Vec::new()) };
        if mutants::is(Mutant::RearmUnasked) {
            return Ok(vec![Validity::Same { remaining: None }; asked.len()]);
        }
        let versions: Vec<(Key, Version)> =
            asked.iter().map(|asked| (keys[asked.at].clone(), asked.copy.version)).collect();
        let namespace = &self.space.namespace;
        l2.ask_each(&self.space, "validate", versions.len(), |remote| remote.validate(namespace, &versions))
            .await
    }

    /// L2 does not have what there is a copy of, or has it and it is dead. Nothing was changed by that, so no ticket is void.
    fn missing(&self, key: &Key, version: Version, dead: Option<Version>) -> Verdict {
        self.forget(key, version);
        Verdict { look: Look::Miss { dead, old: None }, outcome: Event::ValidatedMissing }
    }

    /// Keeps copies anew that L2 has as well, if their tags are alive.
    async fn rearm(
        &self,
        keys: &[Key],
        tickets: &[Ticket],
        same: Vec<(Asked, Option<Ttl>)>,
        sent: Moment,
        verdicts: &mut [Verdict],
    ) {
        let stamps: Vec<TagStamp> = same
            .iter()
            .filter(|(asked, _)| !self.distrusts_tags(&asked.stamps))
            .flat_map(|(asked, _)| asked.stamps.iter().cloned())
            .collect();
        let alive = if stamps.is_empty() { Some(Vec::new()) } else { self.alive(&stamps).await };
        for (Asked { at, copy, stamps: own, floor: _ }, remaining) in same {
            let key = &keys[at];
            let are_alive = if self.distrusts_tags(&own) {
                None
            } else {
                alive.as_ref().map(|alive| own.iter().all(|stamp| alive.contains(stamp)))
            };
            match are_alive {
                Some(false) => {
                    verdicts[at] = self.missing(key, copy.version, Some(copy.version));
                }
                None if !own.is_empty() => {}
                _ => verdicts[at] = self.keep_proven(tickets[at], key, bounded(copy, remaining, sent)),
            }
        }
    }

    /// L2 has the very value of a copy: it is kept anew, and fresh, unless its time is over.
    fn keep_proven(&self, ticket: Ticket, key: &Key, copy: Resident) -> Verdict {
        let (version, is_absent) = (copy.version, copy.is_absent());
        let found = Found { resident: copy, tier: Tier::L2, encoded: None, stale: None, is_shared: false };
        if self.latest() >= found.resident.fresh_until {
            let old = (!is_absent).then(|| Box::new(found));
            let look = Look::Miss { dead: Some(version), old };
            return Verdict { look, outcome: Event::ValidatedSame };
        }
        if let Some(l1) = self.l1() {
            let weight = weight_of_value(&found.resident, key);
            let copy = self.copy(found.resident.clone(), weight, true, &self.space.terms());
            if !l1.keep(self.space.id, key, ticket, copy) {
                self.forget_older(key, version);
            }
        }
        Verdict { look: Look::Kept(found), outcome: Event::ValidatedSame }
    }

    /// Reads the values of which there is no copy, or an older one.
    async fn read_anew(&self, keys: &[Key], tickets: &[Ticket], which: &[usize], verdicts: &mut [Verdict]) {
        if which.is_empty() {
            return;
        }
        let asked: Vec<Key> = which.iter().map(|&at| keys[at].clone()).collect();
        for (&at, look) in which.iter().zip(self.look_in_l2_for_many(&asked).await) {
            let key = &keys[at];
            verdicts[at] = match look {
                Look::Hit(found) => {
                    self.promote(tickets[at], key, &found);
                    Verdict { look: Look::Kept(found), outcome: Event::ValidatedChanged }
                }
                Look::Miss { .. } => {
                    if let Some(copy) = self.suspect_copy(key) {
                        self.forget(key, copy.resident.version);
                    }
                    Verdict { look, outcome: Event::ValidatedMissing }
                }
                look => Verdict { look, outcome: Event::ValidationUnanswered },
            };
        }
    }
}
