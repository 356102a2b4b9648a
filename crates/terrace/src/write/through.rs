//! Changes that the origin gets first.
//!
//! ```text
//! take the keys' places ─▶ note tickets ─▶ write the origin ─▶ change the tiers ─▶ if somebody came between: drop the copies
//! ```
//!
//! 1. What the origin did not take changes no tier, and its error is the caller's.
//! 2. Where it is not known whether the origin took it (it took too long, it panicked, it says so), copies are dropped.
//! 3. What the origin took is successful. That a tier fails then is logged and counted, and the tier is told later; until then it
//!    is not believed about the key.
//! 4. Nobody knows in which order the origin saw this change and one that somebody else made meanwhile, on whichever node. So a
//!    key that anybody else changed between the first step and the last, as far as this node hears of it, is dropped from the
//!    tiers instead of stored: the origin is asked again.
//! 5. Another node's change can be heard after this one's acknowledgement, though L2 saw it before. So a stored key is watched
//!    until this node's own message about it has come back ([`super::watch`]).
//! 6. What else the origin says is not true any more is invalidated before anything is acknowledged, whether the change was made or not. That
//!    L2 cannot be told of it is no failure of the change: it is told later, and the change counts as queued.

use super::order::{Busy, InOrder};
use super::watch::{Standing, Stored};
use super::{Begun, Effect, Prepared, Removed, Writing, Written};
use crate::coherence::tickets::{Ticket, Tickets};
use crate::error::{Error, ErrorKind};
use crate::events::EventKind;
use crate::origin::bound::{Answered, NotWritten};
use crate::runtime::{panic_message, within};
use crate::space::View;
use crate::telemetry::{Event, spans};
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use terrace_core::remote::BoxFuture;
use terrace_core::{Key, RemoteError, Tag, Ttl, Version};
use tracing::Instrument;

/// A call to the origin that makes some changes, with an answer for each.
pub(crate) type OriginCall = BoxFuture<'static, Vec<Answered>>;

/// What came of a change at the origin.
enum Answer {
    Stored,
    /// It does not have it.
    Not(Error),
    /// It may have it.
    Unknown(Error),
}

impl From<Result<(), NotWritten>> for Answer {
    fn from(written: Result<(), NotWritten>) -> Self {
        match written {
            Ok(()) => Self::Stored,
            Err(failure) if failure.is_unknown() => Self::Unknown(failure.into()),
            Err(failure) => Self::Not(failure.into()),
        }
    }
}

/// What is kept in the tiers, and what there was when its change began.
struct Kept {
    prepared: Prepared,
    begun: Begun,
    /// How many bans.
    born: u64,
}

impl View {
    /// Stores values at the origin, and then in every tier. All are checked before the first is stored. Gives what came of
    /// each. Goes on if the caller goes away.
    pub(crate) async fn store_through(
        &self,
        writings: Vec<Writing>,
        call: OriginCall,
    ) -> Result<Vec<Result<Written, Error>>, Error> {
        let leave = self.begin()?;
        let prepared =
            writings.into_iter().map(|writing| self.prepare(writing)).collect::<Result<Vec<_>, _>>()?;
        let view = self.clone();
        self.shared.runtime.run(leave, async move { view.store_in_order(prepared, call).await }).await
    }

    /// Changes keys at the origin, and then drops them from every tier. Gives what came of each. Goes on if the caller goes
    /// away.
    pub(crate) async fn drop_through(
        &self,
        keys: Vec<Key>,
        call: OriginCall,
    ) -> Result<Vec<Result<Removed, Error>>, Error> {
        let leave = self.begin()?;
        let view = self.clone();
        self.shared.runtime.run(leave, async move { view.drop_in_order(keys, call).await }).await
    }

    async fn store_in_order(&self, prepared: Vec<Prepared>, call: OriginCall) -> Vec<Result<Written, Error>> {
        let places = self.in_order(prepared.iter().map(|prepared| &prepared.key)).await;
        let Ok(_places) = places else { return self.busy(prepared.len()) };
        let tickets: Vec<Ticket> = prepared
            .iter()
            .map(|prepared| self.shared.tickets.take(self.name_of(prepared.key.as_str())))
            .collect();
        let (answers, untrue) = self.ask_origin(call, prepared.len()).await;
        let effect = self.invalidate_for_origin_within(self.space.rules().load_timeout, &untrue).await;
        let mut stored = Vec::with_capacity(prepared.len());
        let mut unknown = Vec::new();
        let mut results: Vec<Option<Error>> = Vec::with_capacity(prepared.len());
        for ((prepared, ticket), answer) in prepared.into_iter().zip(tickets).zip(answers) {
            results.push(match answer {
                Answer::Stored => {
                    stored.push((prepared, ticket));
                    None
                }
                Answer::Not(error) => Some(error),
                Answer::Unknown(error) => {
                    unknown.push(prepared.key);
                    Some(error)
                }
            });
        }
        self.drop_in_place(&unknown).await;
        let mut written = self.store_after_origin(stored).await.into_iter();
        let nothing = || ErrorKind::Closed.into();
        let results = results.into_iter().map(|error| match error {
            Some(error) => Err(error),
            None => written.next().map(|written| written.and(effect)).ok_or_else(nothing),
        });
        results.collect()
    }

    async fn drop_in_order(&self, keys: Vec<Key>, call: OriginCall) -> Vec<Result<Removed, Error>> {
        let Ok(_places) = self.in_order(&keys).await else { return self.busy(keys.len()) };
        let (answers, untrue) = self.ask_origin(call, keys.len()).await;
        let effect = self.invalidate_for_origin_within(self.space.rules().load_timeout, &untrue).await;
        let is_changed = |answer: &Answer| !matches!(answer, Answer::Not(_));
        let changed: Vec<Key> = keys
            .iter()
            .zip(&answers)
            .filter(|(_, answer)| is_changed(answer))
            .map(|(key, _)| key.clone())
            .collect();
        let mut removed = self.drop_in_place(&changed).await.into_iter();
        let mut next = || removed.next().unwrap_or(Removed::queued());
        let results = answers.into_iter().map(|answer| match answer {
            Answer::Stored => Ok(next().and(effect)),
            Answer::Unknown(error) => {
                next();
                Err(error)
            }
            Answer::Not(error) => Err(error),
        });
        results.collect()
    }

    /// The places of these keys, if they are free in time.
    pub(crate) async fn in_order(&self, keys: impl IntoIterator<Item = &Key>) -> Result<InOrder<'_>, Busy> {
        within(self.space.rules().load_timeout, self.space.order.of(keys)).await.unwrap_or(Err(Busy))
    }

    /// What comes of so many changes whose keys others are changing for too long: nothing.
    pub(crate) fn busy<T>(&self, count: usize) -> Vec<Result<T, Error>> {
        let after = self.space.rules().load_timeout;
        (0..count).map(|_| Err(ErrorKind::StoreBusy { after }.into())).collect()
    }

    /// Asks the origin for so many changes, come what may of it, and for the tags of what is not true any more.
    async fn ask_origin(&self, call: OriginCall, count: usize) -> (Vec<Answer>, Vec<Tag>) {
        let limit = self.space.rules().load_timeout;
        let span = spans::store(&self.space.namespace, count);
        let call = AssertUnwindSafe(call).catch_unwind().instrument(span.clone());
        let answered = within(limit, call).await;
        let failed = |kind: ErrorKind| (0..count).map(|_| Answer::Unknown(kind.clone().into())).collect();
        let mut untrue = Vec::new();
        let mut answer = |mut answered: Answered| {
            untrue.append(&mut answered.invalidates);
            Answer::from(answered.made)
        };
        let answers: Vec<Answer> = match answered {
            None => failed(ErrorKind::StoreTimedOut { after: limit }),
            Some(Err(panic)) => failed(ErrorKind::StorePanicked { message: panic_message(&*panic).into() }),
            Some(Ok(answers)) => answers.into_iter().map(&mut answer).collect(),
        };
        for answer in &answers {
            self.space.counters.count(match answer {
                Answer::Stored => Event::OriginStored,
                Answer::Not(_) => Event::OriginNotStored,
                Answer::Unknown(_) => Event::OriginUnknown,
            });
        }
        let failed = answers.iter().filter(|answer| !matches!(answer, Answer::Stored)).count();
        spans::fail_some(&span, failed, "not_stored");
        (answers, untrue)
    }

    /// Stores in the tiers what the origin has taken.
    async fn store_after_origin(&self, stored: Vec<(Prepared, Ticket)>) -> Vec<Written> {
        if stored.is_empty() {
            return Vec::new();
        }
        let (prepared, tickets): (Vec<Prepared>, Vec<Ticket>) = stored.into_iter().unzip();
        let agreed = self.agree_before_writing().await;
        let begun = self.begin_writes(&prepared);
        let pairs: Vec<_> =
            tickets.into_iter().zip(&begun).map(|(first, begun)| (first, begun.ticket)).collect();
        let alone = Tickets::alone(&pairs);
        let mut stands = Vec::with_capacity(prepared.len());
        let (mut kept, mut contested) = (Vec::new(), Vec::new());
        for (((prepared, begun), (first, _)), alone) in prepared.into_iter().zip(begun).zip(pairs).zip(alone)
        {
            let is_named = self.space.bans.name(first.born, prepared.key.as_str(), &prepared.tags);
            stands.push(alone && !is_named);
            if alone && !is_named {
                kept.push(Kept { prepared, begun, born: first.born });
            } else {
                contested.push((prepared.key, prepared.lasting.ttl));
            }
        }
        let mut dropped = self.drop_contested(contested).await.into_iter();
        let mut written = self.keep_after_origin(kept, agreed).await.into_iter();
        let results =
            stands.into_iter().filter_map(|stands| if stands { written.next() } else { dropped.next() });
        results.collect()
    }

    /// Stores what nobody else has changed so far.
    async fn keep_after_origin(&self, kept: Vec<Kept>, agreed: Result<(), RemoteError>) -> Vec<Written> {
        if self.l2().is_none() {
            return kept.into_iter().map(|kept| self.keep_here(kept.begun)).collect();
        }
        let (mut prepared, mut begun, mut noted) = (Vec::new(), Vec::new(), Vec::new());
        for kept in kept {
            noted.push((kept.prepared.key.clone(), kept.prepared.tags.clone(), kept.born));
            prepared.push(kept.prepared);
            begun.push(kept.begun);
        }
        let (ended, failure) = self.finish_writes(begun, prepared, agreed).await;
        if let Some(error) = failure {
            let namespace = &self.space.namespace;
            tracing::warn!(%namespace, %error, "the origin has a write that L2 did not take; L2 is told later");
            self.space.counters.add(Event::WriteRepaired, noted.len() as u64);
            return ended.into_iter().map(|ended| ended.written).collect();
        }
        let mut contested = Vec::new();
        for ((key, tags, born), ended) in noted.into_iter().zip(&ended) {
            let stored = Stored { version: ended.written.version, born, tags };
            if self.stands(&key, stored, ended.renewed) == Standing::Contested {
                contested.push((key, ended.written.ttl));
            }
        }
        self.see_to_watches();
        self.drop_contested(contested).await;
        ended.into_iter().map(|ended| ended.written).collect()
    }

    /// Stores a value where there is no L2.
    fn keep_here(&self, begun: Begun) -> Written {
        let Begun { key, resident, lasting, terms, ticket, weight_bytes } = begun;
        let (version, ttl) = (self.shared.versions.next(), lasting.ttl);
        let resident = crate::entry::Resident { version, ..resident };
        if let Some(l1) = self.l1().filter(|_| !ttl.is_zero()) {
            let copy = self.copy(resident, weight_bytes, true, &terms);
            if !l1.keep(self.space.id, &key, ticket, copy) {
                self.space.counters.count(Event::WriteContested);
            }
        }
        self.tell_own(true, [EventKind::Set(key)]);
        Written::of(Effect::Applied, version, ttl)
    }

    /// Drops keys whose order at the origin nobody knows.
    pub(super) async fn drop_contested(&self, keys: Vec<(Key, Ttl)>) -> Vec<Written> {
        if keys.is_empty() {
            return Vec::new();
        }
        self.space.counters.add(Event::WriteContested, keys.len() as u64);
        let (keys, ttls): (Vec<Key>, Vec<_>) = keys.into_iter().unzip();
        let removed = self.drop_in_place(&keys).await;
        let written = |(removed, ttl): (Removed, _)| Written::of(removed.effect, Version::ZERO, ttl);
        removed.into_iter().zip(ttls).map(written).collect()
    }

    /// [`View::drop_for_certain`] of keys whose places are held, or whose watches have ended: nobody else's change to this node.
    async fn drop_in_place(&self, keys: &[Key]) -> Vec<Removed> {
        let removed = self.drop_for_certain(keys).await;
        self.note_removed(keys.iter().zip(removed.iter().map(|removed| removed.version)));
        removed
    }

    /// Drops keys from every tier. That L2 refuses is logged, and L2 is told later.
    pub(crate) async fn drop_for_certain(&self, keys: &[Key]) -> Vec<Removed> {
        if keys.is_empty() {
            return Vec::new();
        }
        self.remove_through(keys).await.unwrap_or_else(|error| {
            let namespace = &self.space.namespace;
            tracing::warn!(%namespace, %error, "the origin was changed, and L2 does not drop its copy; it is told later");
            self.space.counters.add(Event::WriteRepaired, keys.len() as u64);
            keys.iter().map(|_| Removed::queued()).collect()
        })
    }
}
