//! Changes that are made only if what is there is as the caller wants it.
//!
//! ```text
//! look where the truth is ─▶ ask the caller ─▶ change it if it is still the same ─no─▶ look again
//! ```
//!
//! 1. What is asked about is what L2 has, never a copy of it in L1; where there is no L2, what L1 has. What is dead, past its TTL, or the
//!    knowledge that there is nothing, counts as nothing.
//! 2. The caller is asked without a lock, so it may take its time. Between the question and the change nothing can come: L2 makes it
//!    only if it still has the very version that was asked about, and L1 does so under the engine's lock.
//! 3. A change that fails was not promised to anybody, so it does not wait to be made later: an error says whether it may have been made.
//!    Copies of the key are dropped in any case.
//! 4. A bump of a tag is elsewhere in L2 than the key. One that comes between the question and the change may be overtaken by it, as if it had
//!    come after: the new value is dead if it has that tag, and is kept if it has not.

use super::{Effect, Ended, Prepared, Removed, Writing, Written};
use crate::entry::Found;
use crate::error::{Error, ErrorKind};
use crate::events::EventKind;
use crate::l1::L1;
use crate::lease::Right;
use crate::read::Look;
use crate::resilience::L2;
use crate::space::{Made, View};
use crate::telemetry::Event;
use terrace_core::envelope::Sealed;
use terrace_core::remote::{Compared, Expected, Validity};
use terrace_core::{Key, RemoteError, Ttl, Version};

/// How often what is there is looked at, because it was changed meanwhile.
const LOOKS_MAX: usize = 16;

/// What a caller says to what is there.
pub(crate) type Condition = dyn Fn(Option<Found>) -> bool + Send + Sync;

/// What is there: what counts, and the version that it has, whether it counts or not.
pub(crate) struct There {
    pub(crate) found: Option<Found>,
    pub(crate) version: Option<Version>,
}

impl View {
    /// Stores a value if the condition holds for what is there. `None` if it does not. Goes on if the caller goes away.
    pub(crate) async fn write_if(
        &self,
        writing: Writing,
        holds: Box<Condition>,
    ) -> Result<Option<Written>, Error> {
        let leave = self.begin()?;
        if self.l2().is_none() {
            return self.write_here_if(&writing, &*holds);
        }
        self.check_comparing()?;
        let (prepared, view) = (self.prepare(writing)?, self.clone());
        let change = async move {
            for _ in 0..LOOKS_MAX {
                let there = view.there(&prepared.key).await?;
                let replaced = Some(there.found.is_some());
                if !holds(there.found) {
                    return Ok(None);
                }
                if let Some(ended) = view.store_if(&prepared, there.version).await? {
                    return Ok(Some(Written { replaced, ..ended.written }));
                }
            }
            Err(ErrorKind::Contended.into())
        };
        self.shared.runtime.run(leave, change).await?
    }

    /// Removes a key from the tiers if the condition holds for what is there. `None` if it does not. Goes on if the caller goes away.
    pub(crate) async fn remove_if(&self, key: Key, holds: Box<Condition>) -> Result<Option<Removed>, Error> {
        let leave = self.begin()?;
        if self.l2().is_none() {
            return self.remove_here_if(&key, &*holds);
        }
        self.check_comparing()?;
        let view = self.clone();
        let change = async move {
            for _ in 0..LOOKS_MAX {
                let there = view.there(&key).await?;
                let existed = there.found.is_some();
                if !holds(there.found) {
                    return Ok(None);
                }
                if let Some(version) = view.remove_same(&key, there.version).await? {
                    return Ok(Some(Removed::of(existed, Effect::Applied, version)));
                }
            }
            Err(ErrorKind::Contended.into())
        };
        self.shared.runtime.run(leave, change).await?
    }

    /// Removes a key from the tiers if L2 has this version of it; gives the removal's. `None` if it has another.
    pub(crate) async fn remove_same(
        &self,
        key: &Key,
        there: Option<Version>,
    ) -> Result<Option<Version>, Error> {
        self.drop_l1(key);
        let made = self.tell_if(key, there, None).await;
        self.drop_l1(key);
        let Some(version) = made? else { return Ok(None) };
        self.tell_own(true, [EventKind::Invalidated(key.clone())]);
        self.note_made([(key, version)]);
        Ok(Some(version))
    }

    /// The origin does not have a key any more, or nothing that may be kept, and this version was there when it was asked: removes it, but not
    /// what somebody has stored since. Whether it is gone.
    pub(crate) async fn remove_gone(&self, key: &Key, right: &Right, there: Option<Version>) -> bool {
        let Some(l2) = self.l2() else {
            let name = self.name_of(key.as_str());
            if self.l1().is_some_and(|l1| l1.drop_gone(name, there, right.version())) {
                self.tell_own(true, [EventKind::Invalidated(key.clone())]);
            }
            return true;
        };
        if l2.remote().can_compare() {
            match self.remove_same(key, there).await {
                Ok(Some(_)) => return true,
                Ok(None) => {
                    self.give_back(key, right).await;
                    return true;
                }
                Err(_) => {}
            }
        } else if !self.is_still_there(l2, key, right, there).await {
            return false;
        }
        self.remove_through(std::slice::from_ref(key)).await.is_ok()
    }

    /// Whether nobody has changed a key since a lease was granted past this version of it, as far as an L2 that cannot compare can say: every
    /// change ends the lease, and so does its time.
    async fn is_still_there(&self, l2: &L2, key: &Key, right: &Right, there: Option<Version>) -> bool {
        let Right::Leased(lease, _) = right else { return true };
        let (namespace, term) = (&self.space.namespace, self.term());
        let renewed = l2.call(&self.space, "renew", |remote| remote.renew(namespace, key, lease, term)).await;
        let (Ok(false), Some(there)) = (&renewed, there) else { return !matches!(renewed, Ok(false)) };
        let asked = [(key.clone(), there)];
        let told = l2.ask_each(&self.space, "validate", 1, |remote| remote.validate(namespace, &asked)).await;
        told.map_or(true, |told| matches!(told[..], [Validity::Same { .. }]))
    }

    fn check_comparing(&self) -> Result<(), Error> {
        let can = self.l2().is_none_or(|l2| l2.remote().can_compare());
        if can { Ok(()) } else { Err(ErrorKind::ConditionUnsupported.into()) }
    }

    /// What L2 has of a key.
    pub(crate) async fn there(&self, key: &Key) -> Result<There, Error> {
        let unknown = |reason: &str| {
            Error::from(ErrorKind::ConditionUnknown(RemoteError::Unavailable { reason: reason.to_owned() }))
        };
        let Some(l2) = self.l2() else { return Err(unknown("there is no L2")) };
        if self.distrusts(key) {
            return Err(unknown("it was not told of an invalidation yet"));
        }
        let sent = self.sending(key);
        let read = l2.ask(&self.space, "get", |remote| remote.get(&self.space.namespace, key)).await;
        let stored = read.map_err(|error| unknown(&error.to_string()))?;
        let Some(stored) = stored.filter(|stored| !stored.bytes.is_empty()) else {
            return Ok(There { found: None, version: None });
        };
        let version = Some(stored.claimed_version());
        match self.examine(key, &stored, sent).await {
            Look::Hit(found) | Look::Kept(found) => {
                let found = Some(found).filter(|found| !found.resident.is_absent());
                Ok(There { found, version })
            }
            Look::Miss { .. } => Ok(There { found: None, version }),
            Look::Unknown | Look::Unproven => Err(unknown("it does not say whether its tags are alive")),
        }
    }

    /// Stores a value in L2 if that has this version, and then here. `None` if it has not.
    async fn store_if(&self, prepared: &Prepared, there: Option<Version>) -> Result<Option<Ended>, Error> {
        let Prepared { key, lasting, tags, payload, .. } = prepared;
        let stamps = self.stamps(tags).await.map_err(|error| Error::from(unsent(&error)))?;
        let sealed = self.seal(key, Made::Put, payload.clone(), *lasting, stamps)?;
        self.space.counters.add(Event::L2BytesWritten, sealed.as_bytes().len() as u64);
        self.drop_l1(key);
        let begun = self.begin_write(prepared);
        let made = self.tell_if(key, there, Some((sealed, lasting.in_all()))).await;
        let Ok(Some(version)) = made else {
            self.drop_l1(key);
            return made.map(|_| None);
        };
        self.note_made([(key, version)]);
        self.tell_own(true, [EventKind::Set(key.clone())]);
        Ok(self.end_writes(vec![begun], Effect::Applied, vec![version], true).pop())
    }

    /// Asks L2 for a change. `None` if it has another version by now.
    async fn tell_if(
        &self,
        key: &Key,
        there: Option<Version>,
        value: Option<(Sealed, Ttl)>,
    ) -> Result<Option<Version>, Error> {
        let expected = there.map_or(Expected::Absent, Expected::Version);
        let Some(l2) = self.l2() else { return Ok(None) };
        self.note_keys([key]);
        let told = l2
            .call(&self.space, "set if", |remote| {
                remote.set_if(&self.space.namespace, key, expected, value.clone())
            })
            .await;
        match told {
            Ok(Compared::Changed(version)) => Ok(Some(version)),
            Ok(Compared::Differs { .. }) => {
                self.note_failed([key]);
                Ok(None)
            }
            Err(error) => {
                self.note_failed([key]);
                Err(ErrorKind::ConditionUnknown(error).into())
            }
        }
    }

    /// [`View::write_if`] where there is no L2.
    fn write_here_if(&self, writing: &Writing, holds: &Condition) -> Result<Option<Written>, Error> {
        let weight = self.weigh(&writing.value, None);
        self.check_size(weight)?;
        let Writing { key, value, lasting, terms, tags } = writing;
        for _ in 0..LOOKS_MAX {
            let there = self.there_here(key);
            let replaced = Some(there.found.is_some());
            if !holds(there.found) {
                return Ok(None);
            }
            let version = self.shared.versions.next();
            let entry = || self.entry(value.clone(), version, *lasting, tags);
            let is_made = if lasting.ttl.is_zero() {
                self.l1().is_none_or(|l1| l1.drop_same(self.name_of(key.as_str()), there.version))
            } else {
                let copy = || self.copy(entry(), weight, true, terms);
                self.l1().is_none_or(|l1| l1.replace_same(self.space.id, key, there.version, copy()))
            };
            if is_made {
                self.tell_own(true, [EventKind::Set(key.clone())]);
                return Ok(Some(Written { replaced, ..Written::of(Effect::Applied, version, lasting.ttl) }));
            }
        }
        Err(ErrorKind::Contended.into())
    }

    /// [`View::remove_if`] where there is no L2.
    fn remove_here_if(&self, key: &Key, holds: &Condition) -> Result<Option<Removed>, Error> {
        for _ in 0..LOOKS_MAX {
            let there = self.there_here(key);
            let existed = there.found.is_some();
            if !holds(there.found) {
                return Ok(None);
            }
            let name = self.name_of(key.as_str());
            if self.l1().is_none_or(|l1: &L1| l1.drop_same(name, there.version)) {
                self.tell_own(true, [EventKind::Invalidated(key.clone())]);
                return Ok(Some(Removed::of(existed, Effect::Applied, Version::ZERO)));
            }
        }
        Err(ErrorKind::Contended.into())
    }

    /// What this process' memory has of a key, where that is all there is.
    pub(crate) fn there_here(&self, key: &Key) -> There {
        let name = self.name_of(key.as_str());
        let Some((l1, copy)) = self.l1().and_then(|l1| Some((l1, l1.peek_banned(name)?))) else {
            return There { found: None, version: None };
        };
        let version = Some(copy.version);
        let alive = l1.peek_in_order(name, &self.space.bans);
        let counts = alive.filter(|alive| {
            alive.version == copy.version && alive.is_answer(self.latest()) && !alive.is_absent()
        });
        There { found: counts.map(Found::in_l1), version }
    }
}

/// What could not be asked before a change was asked for: so it was not.
fn unsent(error: &RemoteError) -> ErrorKind {
    ErrorKind::ConditionUnknown(RemoteError::Unavailable { reason: error.to_string() })
}
