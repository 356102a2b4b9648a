//! Changes that the journal gets first, and the origin later.
//!
//! ```text
//! take the key's place ─▶ journal ─▶ change the tiers ─▶ acknowledged            later: origin ─▶ drop what others loaded meanwhile
//! ```
//!
//! 1. What the journal did not take changes no tier. Where it may have it all the same, copies are dropped.
//! 2. What the journal took is successful. A tier that fails then is told later, as after a change of the origin
//!    ([`super::through`]).
//! 3. Until the origin has a write, what anybody loads from there is older. So on this node a *loaded* value of L2 is no answer for
//!    a key with a write under way, and no loader is run: the write itself is the answer, and is kept nowhere else. What
//!    somebody else *stored* in L2 is an answer: it is newer than the write that this node stored there before. What L2 said while the
//!    write was under way is judged so when it arrives, although the origin may have the write by then.
//! 4. Other nodes do not know of the write, if they do not find it in L2. What they load meanwhile may enter L2, or be on its way
//!    there. So when the origin has the write, its key is dropped from the tiers, unless L2 still has the very version that this
//!    node stored with it. Then nobody has stored anything since, and who is at it (L2's value may be dead by its tags or its age, or somebody
//!    wants it anew) loses the lease first. And no read of this node keeps what began before. A repetition of the write after a restart drops the key in
//!    any case.
//!    A node that cannot ask L2 while a write waits loads the older row and keeps it for itself, for 30 s at most (an unanchored copy): nothing tells
//!    it when the origin has the write.
//! 5. That L2 was told of 4 outlives this process as well: while it cannot be told, the write stays in the journal, though the
//!    origin has it and is not asked again in this life. So for [`UNTOLD_MAX`] keys at most; of more, L2 is told by this process alone, if
//!    it lives.
//! 6. Of two nodes that write a key behind, the origin keeps what L2 keeps: the write has the version that L2 gave it, and is not sent
//!    before that is known, or L2 has not answered ([`crate::behind`], `stamps`).
//! 7. A request that the journal has taken before changes no tier: others may have changed the key since. What its first write left to be
//!    told to L2 is told all the same.
//! 8. An entry that was stored is not loaded ahead of its end, nor because somebody asks for a refresh: the load could find the
//!    origin without it, and 4 would not see it.

use super::{Effect, Removed, Writing, Written};
use crate::behind::{Acknowledged, Held, IdempotencyKey, Lane, Operation, Pending, Request, WriteError};
use crate::entry::{Found, Resident, Tier, absent};
use crate::erased::Erased;
use crate::error::Error;
use crate::space::{Payload, View};
use crate::telemetry::Event;
use bytes::Bytes;
use futures_util::future::join_all;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use terrace_core::remote::Validity;
use terrace_core::{CodecError, Key, Ttl, Version};

/// Keys of a namespace whose writes stay in the journal because L2 cannot be told.
const UNTOLD_MAX: usize = 10_000;
/// Fewer written keys than this are not looked through.
const SIFTED_MIN: usize = 1024;

/// What a namespace that is written behind has besides.
pub(crate) struct Behind {
    pub(crate) lane: Lane,
    /// What this node has stored in L2 of the last write of a key, while that waits for the origin: which write, and which version.
    stored: Mutex<Stored>,
    /// Which write of a key the origin has, and L2 is to be told of.
    untold: Mutex<HashMap<Key, u64>>,
}

/// The last writes of keys that wait for the origin, or did a little while ago.
#[derive(Default)]
struct Stored {
    by_key: HashMap<Key, (u64, Version)>,
    /// When there are so many, those that do not wait any more are looked for.
    sifted_at: usize,
}

impl Behind {
    pub(crate) fn new(lane: Lane) -> Self {
        Self { lane, stored: Mutex::default(), untold: Mutex::default() }
    }

    /// What a read has to see of a key.
    fn pending(&self, key: &Key) -> Pending {
        self.lane.pending(key.as_str().as_bytes())
    }
}

/// A write that the journal has. It is held where L2 is about to give it a version.
type Journaled = (Acknowledged, Option<Held>);

/// What the journal says of the only change, if its request was taken before.
fn repeated(journaled: &[Result<Journaled, WriteError>]) -> Option<Acknowledged> {
    match journaled {
        [Ok((taken, _))] if taken.is_repetition => Some(*taken),
        _ => None,
    }
}

/// A write that the origin has taken.
pub(crate) struct Delivered {
    pub(crate) key: Key,
    pub(crate) number: u64,
}

impl View {
    /// Whether this namespace is written behind.
    pub(crate) fn writes_behind(&self) -> bool {
        self.space.behind.get().is_some()
    }

    /// Whether a write of the key waits for the origin.
    pub(crate) fn is_behind(&self, key: &Key) -> bool {
        self.space.behind.get().is_some_and(|behind| behind.pending(key) != Pending::Nothing)
    }

    /// The write of the key that waits for the origin, as an answer: a value, or that there is none.
    pub(crate) fn find_behind(&self, key: &Key) -> Option<Found> {
        let value = match self.space.behind.get()?.pending(key) {
            Pending::Nothing => return None,
            Pending::Deleted => absent(),
            Pending::Stored(bytes) => self.space.format.decode(&bytes).ok()?,
        };
        let terms = &self.space.terms();
        let lasting = terms.lasting(terms.ttl, &self.shared.chance);
        let resident = Resident {
            created_ms: crate::space::millis(self.shared.clock.wall()),
            ..Resident::new(value, Version::ZERO, self.shared.clock.now(), lasting)
        };
        Some(Found { resident, tier: Tier::Origin, encoded: None, stale: None, is_shared: false })
    }

    /// Stores values in the journal, and then in every tier. Gives what came of each. Goes on if the caller goes away.
    pub(crate) async fn store_behind(
        &self,
        writings: Vec<Writing>,
    ) -> Result<Vec<Result<Written, Error>>, Error> {
        let leave = self.begin()?;
        let payloads: Vec<Bytes> =
            writings.iter().map(|writing| self.encode_for_all(&writing.value)).collect::<Result<_, _>>()?;
        let view = self.clone();
        self.shared
            .runtime
            .run(leave, async move {
                let places = view.in_order(writings.iter().map(|writing| &writing.key)).await;
                let Ok(_places) = places else { return view.busy(writings.len()) };
                let (mut writings, mut payloads) = (writings.into_iter(), payloads.into_iter());
                let mut results = Vec::with_capacity(writings.len());
                while writings.len() > 0 {
                    let part: Vec<Writing> = writings.by_ref().take(view.held_max()).collect();
                    let stores = part.iter().zip(payloads.by_ref());
                    let stores =
                        stores.map(|(writing, payload)| (writing.key.clone(), Operation::Store(payload)));
                    let journaled = view.journal(stores.collect(), None).await;
                    results.extend(view.store_after_journal(part, journaled).await);
                }
                results
            })
            .await
    }

    /// Removes keys by way of the journal, and then from every tier. Gives what came of each. Goes on if the caller goes away.
    pub(crate) async fn drop_behind(&self, keys: Vec<Key>) -> Result<Vec<Result<Removed, Error>>, Error> {
        let leave = self.begin()?;
        let view = self.clone();
        self.shared
            .runtime
            .run(leave, async move {
                let Ok(_places) = view.in_order(&keys).await else { return view.busy(keys.len()) };
                let mut results = Vec::with_capacity(keys.len());
                for part in keys.chunks(view.held_max()) {
                    let deletes = part.iter().map(|key| (key.clone(), Operation::Delete)).collect();
                    let journaled = view.journal(deletes, None).await;
                    results.extend(view.drop_after_journal(part, journaled).await);
                }
                results
            })
            .await
    }

    /// Stores a value in the journal, and then in every tier, unless the request was taken before. Goes on if the caller goes away.
    pub(crate) async fn store_once(
        &self,
        writing: Writing,
        name: &IdempotencyKey,
        terms: &[u8],
    ) -> Result<Vec<Result<Written, Error>>, Error> {
        let leave = self.begin()?;
        let operation = Operation::Store(self.encode_for_all(&writing.value)?);
        let request = Request::new(name, writing.key.as_str().as_bytes(), &operation, terms);
        let view = self.clone();
        let change = async move {
            let Ok(_place) = view.in_order([&writing.key]).await else { return view.busy(1) };
            let journaled = view.journal(vec![(writing.key.clone(), operation)], Some(request)).await;
            if let Some(taken) = repeated(&journaled) {
                let (effect, nothing) = (view.effect_of(&writing.key), Ttl::After(Duration::ZERO));
                let written = Written::of(effect, Version::ZERO, nothing);
                return vec![Ok(Written { journaled: Some(taken), ..written })];
            }
            view.store_after_journal(vec![writing], journaled).await
        };
        self.shared.runtime.run(leave, change).await
    }

    /// Removes a key by way of the journal, and then from every tier, unless the request was taken before. Goes on if the caller goes away.
    pub(crate) async fn drop_once(
        &self,
        key: Key,
        name: &IdempotencyKey,
    ) -> Result<Vec<Result<Removed, Error>>, Error> {
        let leave = self.begin()?;
        let request = Request::new(name, key.as_str().as_bytes(), &Operation::Delete, &[]);
        let view = self.clone();
        let change = async move {
            let Ok(_place) = view.in_order([&key]).await else { return view.busy(1) };
            let journaled = view.journal(vec![(key.clone(), Operation::Delete)], Some(request)).await;
            if let Some(taken) = repeated(&journaled) {
                let removed = Removed::of(false, view.effect_of(&key), Version::ZERO);
                return vec![Ok(Removed { journaled: Some(taken), ..removed })];
            }
            view.drop_after_journal(&[key], journaled).await
        };
        self.shared.runtime.run(leave, change).await
    }

    /// How far changes of a key have come that were made before.
    fn effect_of(&self, key: &Key) -> Effect {
        let is_untold = self.l2().is_some() && self.distrusts(key);
        if is_untold { Effect::Queued } else { Effect::Applied }
    }

    async fn drop_after_journal(
        &self,
        keys: &[Key],
        journaled: Vec<Result<Journaled, WriteError>>,
    ) -> Vec<Result<Removed, Error>> {
        let known = keys.iter().zip(&journaled);
        let taken: Vec<Key> = known.filter(|(_, taken)| taken.is_ok()).map(|(key, _)| key.clone()).collect();
        let mut removed = self.drop_for_certain(&taken).await.into_iter();
        let results = journaled.into_iter().map(|taken| {
            let (journaled, held) = taken?;
            let removed = removed.next().unwrap_or(Removed::queued());
            if let Some(held) = held {
                held.given(removed.version);
            }
            Ok(Removed { journaled: Some(journaled), ..removed })
        });
        results.collect()
    }

    /// How many writes are given to the journal at a time: they are held together, until L2 has given all of them a version.
    fn held_max(&self) -> usize {
        self.space.behind.get().map_or(1, |behind| behind.lane.held_max())
    }

    /// The bytes of a value that every tier takes.
    fn encode_for_all(&self, value: &Erased) -> Result<Bytes, Error> {
        let Payload { codec, bytes } = self.encode(value)?;
        let expected = self.space.format.codec();
        if codec != expected {
            // The journal has no room for which codec it was.
            return Err(CodecError::Mismatch { expected, found: codec }.into());
        }
        if self.l2().is_none() {
            self.check_size(self.weigh(value, None))?;
        }
        Ok(bytes)
    }

    /// Gives changes to the journal, all at once and in their order. Copies of what it may have, though it does not say so, are
    /// dropped.
    async fn journal(
        &self,
        changes: Vec<(Key, Operation)>,
        request: Option<Request>,
    ) -> Vec<Result<Journaled, WriteError>> {
        let Some(behind) = self.space.behind.get() else {
            return changes.iter().map(|_| Err(WriteError::Closed)).collect();
        };
        let (keys, limit) = (changes.iter().map(|(key, _)| key.clone()), self.space.rules().load_timeout);
        let (keys, has_l2): (Vec<Key>, _) = (keys.collect(), self.l2().is_some());
        let writing = changes.into_iter().map(async |(key, operation)| {
            let key = Bytes::copy_from_slice(key.as_str().as_bytes());
            behind.lane.write_request(key, operation, has_l2, request, limit).await
        });
        let journaled = join_all(writing).await;
        let is_unknown = |result: &Result<Journaled, WriteError>| {
            matches!(result, Err(WriteError::Unacknowledged { .. } | WriteError::Poisoned { .. }))
        };
        let unknown = keys.iter().zip(&journaled).filter(|(_, result)| is_unknown(result));
        let unknown: Vec<Key> = unknown.map(|(key, _)| key.clone()).collect();
        self.drop_for_certain(&unknown).await;
        journaled
    }

    async fn store_after_journal(
        &self,
        writings: Vec<Writing>,
        journaled: Vec<Result<Journaled, WriteError>>,
    ) -> Vec<Result<Written, Error>> {
        let paired = writings.into_iter().zip(&journaled);
        let taken: Vec<Writing> =
            paired.filter(|(_, taken)| taken.is_ok()).map(|(writing, _)| writing).collect();
        let keys: Vec<Key> = taken.iter().map(|writing| writing.key.clone()).collect();
        let ttls: Vec<_> = taken.iter().map(|writing| writing.lasting.ttl).collect();
        let written = if taken.is_empty() { Ok(Vec::new()) } else { self.write_tiers(taken).await };
        let written = written.unwrap_or_else(|error| {
            let namespace = &self.space.namespace;
            tracing::warn!(%namespace, %error, "the journal has a write that the tiers did not take; they are told later");
            self.space.counters.add(Event::WriteRepaired, keys.len() as u64);
            // L2's refusal has dropped this node's copies, and queued the keys; nothing else fails once it was checked.
            ttls.iter().map(|&ttl| Written::of(Effect::Queued, Version::ZERO, ttl)).collect()
        });
        // What left the journal before the tiers had it may have been refused by the origin.
        let gone: Vec<Key> = keys.iter().filter(|key| !self.is_behind(key)).cloned().collect();
        self.drop_for_certain(&gone).await;
        let mut stored = keys.into_iter().zip(written);
        let results = journaled.into_iter().map(|taken| {
            let (taken, held) = taken?;
            let (key, written) = stored.next().ok_or(WriteError::Closed)?;
            self.note_stored(&key, taken.id.number, written.version);
            if let Some(held) = held {
                held.given(written.version);
            }
            Ok(Written { journaled: Some(taken), ..written })
        });
        results.collect()
    }

    /// Notes what L2 has of a write, unless the origin has it by now.
    fn note_stored(&self, key: &Key, number: u64, version: Version) {
        let Some(behind) = self.space.behind.get().filter(|_| self.l2().is_some()) else { return };
        let mut stored = behind.stored.lock();
        stored.by_key.insert(key.clone(), (number, version));
        // The origin may have had it before it was noted here.
        if stored.by_key.len() > stored.sifted_at {
            stored.by_key.retain(|key, _| behind.pending(key) != Pending::Nothing);
            stored.sifted_at = SIFTED_MIN.max(stored.by_key.len() * 2);
        }
    }

    /// Whether the origin has a write that is in the journal because L2 is to be told of it.
    pub(crate) fn is_delivered(&self, delivered: &Delivered) -> bool {
        let untold = |behind: &Behind| behind.untold.lock().get(&delivered.key) == Some(&delivered.number);
        self.space.behind.get().is_some_and(untold)
    }

    /// The origin has these writes: drops what others may have loaded while it did not. Gives for each whether it is done: L2 has
    /// been told, or cannot be waited for.
    pub(crate) async fn settle_behind(&self, delivered: &[Delivered]) -> Vec<bool> {
        // What was read from the origin before it had them is not kept any more.
        for Delivered { key, .. } in delivered {
            self.shared.tickets.void(self.name_of(key.as_str()));
        }
        let Some((behind, l2)) = self.space.behind.get().zip(self.l2()) else {
            return vec![true; delivered.len()];
        };
        let (mut asked, mut dropped) = (Vec::new(), Vec::new());
        {
            let mut stored = behind.stored.lock();
            for Delivered { key, number } in delivered {
                match stored.by_key.get(key).copied() {
                    Some((last, version)) if version != Version::ZERO && last >= *number => {
                        asked.push((key.clone(), version, last));
                    }
                    _ => dropped.push(key.clone()),
                }
                if stored.by_key.get(key).is_some_and(|(last, _)| last == number) {
                    stored.by_key.remove(key);
                }
            }
        }
        if !asked.is_empty() {
            let question: Vec<_> = asked.iter().map(|(key, version, _)| (key.clone(), *version)).collect();
            let namespace = &self.space.namespace;
            let told = l2
                .ask_each(&self.space, "settle", question.len(), |remote| remote.settle(namespace, &question))
                .await;
            let validity = told.unwrap_or_else(|_| vec![Validity::Missing; question.len()]);
            let is_other = |validity: &Validity| !matches!(validity, Validity::Same { .. });
            let others = asked.into_iter().zip(validity).filter(|(_, validity)| is_other(validity));
            dropped.extend(others.map(|((key, ..), _)| key));
        }
        let told = dropped.iter().zip(self.drop_for_certain(&dropped).await);
        let queued: HashSet<&Key> =
            told.filter(|(_, removed)| removed.effect != Effect::Applied).map(|(key, _)| key).collect();
        Self::note_untold(behind, delivered, |key| !queued.contains(key))
    }

    /// L2 does not answer in time about these writes. What there is no room to remember is done all the same: L2 is told by this
    /// process, and is not believed about it until then.
    pub(crate) fn leave_untold(&self, delivered: &[Delivered]) -> Vec<bool> {
        let Some(behind) = self.space.behind.get() else { return vec![true; delivered.len()] };
        let done = Self::note_untold(behind, delivered, |_| false);
        let left = delivered.iter().zip(&done).filter(|(_, is_done)| **is_done).map(|(write, _)| &write.key);
        self.queue_keys(left);
        done
    }

    /// Remembers which of these writes L2 is still to be told of. Gives for each whether it is done: L2 was told, or there is no room.
    fn note_untold(behind: &Behind, delivered: &[Delivered], is_told: impl Fn(&Key) -> bool) -> Vec<bool> {
        let mut untold = behind.untold.lock();
        let done = delivered.iter().map(|Delivered { key, number }| {
            let is_done = is_told(key) || untold.len() >= UNTOLD_MAX;
            if is_done {
                untold.remove(key);
            } else {
                untold.insert(key.clone(), *number);
            }
            is_done
        });
        done.collect()
    }

    /// Drops the copies of keys whose writes were given up or come back: L2 is not believed about them until it has been told, and they
    /// leave this process' memory at once.
    pub(crate) fn forget_behind(&self, keys: &[Key]) {
        if let Some(behind) = self.space.behind.get() {
            let (mut stored, mut untold) = (behind.stored.lock(), behind.untold.lock());
            for key in keys {
                stored.by_key.remove(key);
                untold.remove(key);
            }
        }
        // In this order: what is read from L2 in between would be kept.
        if self.l2().is_some() {
            self.queue_keys(keys);
        }
        for key in keys {
            self.drop_l1(key);
        }
    }
}
