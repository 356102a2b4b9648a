//! Does what this node has stored through the origin stand, as far as others' messages tell?
//!
//! L2 may have seen another node's change before this one, and its message may come after this one's acknowledgement. Messages of a
//! partition come in their order: once this node has heard its own, it has heard whatever came before.
//!
//! 1. A key has one watch, of the value that this node stored last. Whoever stores the next value takes it over, in one step and only
//!    once L2 has that value: until then the one before is what L2 has, and is watched.
//! 2. What this node did in the key's place is known by its number until it is heard. It is no news then: it voids no ticket. Anything else
//!    that is heard meanwhile contests the watch, and so does a ban that came before it ended. A watch that is contested stays so, whoever
//!    takes it over: only dropping the key ends it.
//! 3. A change is noted, and it is looked at what was heard before, in one step under the lock that the listener holds while it applies a
//!    message. So a message is seen by the one or by the other.
//! 4. Of more than [`WATCHED_MAX`] keys none is watched: they are dropped. Of more than [`UNHEARD_MAX`] changes of a key that were
//!    not heard the oldest is forgotten: when it is heard, it counts as another's. There is one task for all watches of a namespace.
//! 5. What is not heard in time, or before the cache is closed, is dropped. The task may end with the runtime of whoever began it: what it has
//!    not dropped by then is contested again, and whoever hears of the key next begins another.
//! 6. Where numbers are not the order of changes ([`View::is_chained`]), a removal of a greater number may have come before the value: it
//!    ends no watch, and is news when it is heard.

use crate::coherence::tickets::Ticket;
use crate::runtime::{Turns, within};
use crate::space::View;
use crate::sync::Mutex;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::HashMap;
use std::time::Duration;
use terrace_core::{Key, Moment, Tag, Ttl, Version};
use tokio::sync::Notify;

/// Keys of a namespace that are watched at a time. Changes that leave nothing to watch are noted of half as many.
const WATCHED_MAX: usize = 16_384;
/// Changes of a key that this node made and has not heard of.
const UNHEARD_MAX: usize = 64;
/// How often it is looked whether a watch has lasted for too long.
const PAUSE: Duration = Duration::from_millis(50);
/// Drops of keys that are under way at a time: one shard of L2 that hangs keeps no other waiting.
const DROPS_MAX: usize = 16;

/// A value that was stored in every tier.
pub(crate) struct Stored {
    pub(crate) version: Version,
    /// How many bans there were when its change began.
    pub(crate) born: u64,
    pub(crate) tags: Vec<Tag>,
}

/// Whether a value may stay that was stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// Nobody came between.
    Stands,
    /// Nobody has, so far.
    Watched,
    /// Somebody may have.
    Contested,
}

/// What is known of one key.
struct Watch {
    /// The numbers of this node's changes that it has not heard of, in order.
    unheard: Vec<Version>,
    /// What the last of these has stored, if it has stored a value and nothing was heard that contests it.
    stored: Option<Stored>,
    is_contested: bool,
    since: Since,
}

/// When a watch began, on the clock and by the pauses of its task: tests hold the clock still.
#[derive(Clone, Copy)]
struct Since {
    began: Moment,
    paused: Duration,
}

#[derive(Default)]
struct Watches {
    by_key: HashMap<Key, Watch>,
    /// How long the task has paused in all.
    paused: Duration,
}

/// The watches of one namespace.
#[derive(Default)]
pub(crate) struct Watching {
    watches: Mutex<Watches>,
    contested: Notify,
    turns: Turns,
}

impl Watching {
    /// Notes that a value was stored, in its key's place. `was_alone` tells what was heard before this step: whether
    /// nobody came between, or, if it was not heard yet, that nobody has so far. What is contested is for the caller to drop.
    pub(crate) fn store(
        &self,
        key: &Key,
        stored: Stored,
        now: Moment,
        was_alone: impl FnOnce(&Stored) -> Option<bool>,
    ) -> Standing {
        let mut watches = self.watches.lock();
        let version = stored.version;
        match was_alone(&stored) {
            Some(true) => match watches.by_key.remove(key) {
                Some(before) if before.is_contested => Standing::Contested,
                _ => Standing::Stands,
            },
            Some(false) => {
                watches.note(key, version, None, now);
                Standing::Contested
            }
            None if watches.note(key, version, Some(stored), now) => Standing::Watched,
            None => Standing::Contested,
        }
    }

    /// Notes that this node has removed a key under this number, unless that `was_heard`. Where the number says that it came after whatever
    /// was stored under a smaller one, `is_after`, that needs no watch any more.
    pub(crate) fn remove(
        &self,
        key: &Key,
        version: Version,
        is_after: bool,
        now: Moment,
        was_heard: impl FnOnce() -> bool,
    ) {
        let mut watches = self.watches.lock();
        if !is_after && watches.by_key.get(key).is_some_and(|watch| watch.stored.is_some()) {
            return;
        }
        if was_heard() {
            if watches.by_key.get(key).is_some_and(|watch| watch.is_older_than(version)) {
                watches.by_key.remove(key);
            }
        } else if version != Version::ZERO {
            watches.note(key, version, None, now);
        }
    }

    /// What was due was not dropped.
    fn contest_again(&self, keys: &[Key]) {
        let mut watches = self.watches.lock();
        for key in keys {
            let since = watches.since(Moment::from_nanos(0));
            watches.by_key.entry(key.clone()).or_insert_with(|| Watch::new(since)).is_contested = true;
        }
        self.contested.notify_one();
    }

    /// A change of a key was heard. Returns whether it is one of this node's own that was noted; anything else is applied, in the same
    /// step. `is_dead` tells whether a ban names what was stored.
    pub(crate) fn hear(
        &self,
        key: &Key,
        number: Version,
        is_dead: impl FnOnce(&Stored) -> bool,
        apply: impl FnOnce(),
    ) -> bool {
        let mut watches = self.watches.lock();
        let Some(watch) = watches.by_key.get_mut(key) else {
            apply();
            return false;
        };
        let Some(at) = watch.unheard.iter().position(|own| *own == number) else {
            apply();
            self.contest_one(watch);
            return false;
        };
        // What comes before it and was not heard was heard before it was noted: messages are in order, and what is missed makes
        // copies suspect, which is a ban.
        watch.unheard.drain(..=at);
        if watch.unheard.is_empty() {
            if watch.stored.as_ref().is_some_and(is_dead) {
                self.contest_one(watch);
            }
            if !watch.is_contested {
                watches.by_key.remove(key);
            }
        }
        true
    }

    /// Somebody has changed a key, nobody knows under which number.
    pub(crate) fn contest(&self, key: &Key) {
        if let Some(watch) = self.watches.lock().by_key.get_mut(key) {
            self.contest_one(watch);
        }
    }

    /// Contests what `is_dead` names.
    pub(crate) fn contest_dead(&self, is_dead: impl Fn(&Key, &Stored) -> bool) {
        for (key, watch) in &mut self.watches.lock().by_key {
            if watch.stored.as_ref().is_some_and(|stored| is_dead(key, stored)) {
                self.contest_one(watch);
            }
        }
    }

    fn contest_one(&self, watch: &mut Watch) {
        if watch.stored.is_some() && !std::mem::replace(&mut watch.is_contested, true) {
            self.contested.notify_one();
        }
    }

    /// The keys whose values have to go: they are contested, or nothing was heard of them for so long. The task has paused for so
    /// long since it asked last.
    pub(crate) fn due(&self, paused: Duration, now: Moment, limit: Duration) -> Vec<Key> {
        let mut due = Vec::new();
        let mut watches = self.watches.lock();
        watches.paused += paused;
        let since = Since { began: now, paused: watches.paused };
        watches.by_key.retain(|key, watch| {
            let is_over = watch.since.until(since) >= limit;
            if watch.is_contested || (is_over && watch.stored.is_some()) {
                due.push(key.clone());
                watch.end(since);
                // What is still unheard is no news when it comes.
                return !watch.unheard.is_empty();
            }
            !is_over
        });
        due
    }

    fn is_empty(&self) -> bool {
        self.watches.lock().by_key.is_empty()
    }
}

impl Watches {
    fn since(&self, now: Moment) -> Since {
        Since { began: now, paused: self.paused }
    }

    /// Notes a change of this node, and what it has stored. Returns whether that is watched.
    fn note(&mut self, key: &Key, version: Version, stored: Option<Stored>, now: Moment) -> bool {
        let room = if stored.is_some() { WATCHED_MAX } else { WATCHED_MAX / 2 };
        let since = self.since(now);
        if !self.by_key.contains_key(key) {
            if self.by_key.len() >= room {
                return false;
            }
            self.by_key.insert(key.clone(), Watch::new(since));
        }
        let Some(watch) = self.by_key.get_mut(key) else { return false };
        let at = watch.unheard.partition_point(|own| !own.supersedes(version));
        watch.unheard.insert(at, version);
        if watch.unheard.len() > UNHEARD_MAX {
            watch.unheard.remove(0);
        }
        if !watch.is_older_than(version) {
            return false;
        }
        let was_contested = watch.is_contested;
        watch.end(since);
        watch.stored = stored.filter(|_| !was_contested);
        watch.stored.is_some()
    }
}

impl Watch {
    fn new(since: Since) -> Self {
        Self { unheard: Vec::new(), stored: None, is_contested: false, since }
    }

    /// Whether a change of this number came after what was stored.
    fn is_older_than(&self, version: Version) -> bool {
        self.stored.as_ref().is_none_or(|stored| version.supersedes(stored.version))
    }

    /// Nothing that was stored is watched any more.
    fn end(&mut self, since: Since) {
        (self.stored, self.is_contested, self.since) = (None, false, since);
    }
}

impl Since {
    fn until(self, now: Self) -> Duration {
        now.began.since(self.began).max(now.paused.saturating_sub(self.paused))
    }
}

impl View {
    /// Whether a value may stay that was stored in its key's place, under a ticket that was `renewed` unless somebody else has
    /// voided it. What is contested is for the caller to drop, and [`View::see_to_watches`] for it to call.
    pub(super) fn stands(&self, key: &Key, stored: Stored, renewed: Option<Ticket>) -> Standing {
        let version = stored.version;
        let was_alone = |stored: &Stored| {
            let alone =
                renewed.map_or(Some(false), |renewed| self.shared.tickets.was_alone(renewed, version));
            // Asked last: a ban that came before this change was heard before it.
            if self.is_dead(key, stored) { Some(false) } else { alone }
        };
        if !self.hears() {
            let alone = renewed.is_some() && !self.is_dead(key, &stored);
            return if alone { Standing::Stands } else { Standing::Contested };
        }
        self.space.watching.store(key, stored, self.shared.clock.precise(), was_alone)
    }

    /// Notes that keys were removed, in their places or by a watch, under these numbers.
    pub(super) fn note_removed<'a>(&self, removed: impl Iterator<Item = (&'a Key, Version)>) {
        if !self.hears() {
            return;
        }
        let (now, is_after) = (self.shared.clock.precise(), self.is_chained());
        for (key, version) in removed {
            let was_heard = || self.shared.tickets.has_heard(self.name_of(key.as_str()), version);
            self.space.watching.remove(key, version, is_after, now, was_heard);
        }
        self.see_to_watches();
    }

    /// Whether a ban has come since the change began that stored this, and names it.
    pub(crate) fn is_dead(&self, key: &Key, stored: &Stored) -> bool {
        self.space.bans.name(stored.born, key.as_str(), &stored.tags)
    }

    fn hears(&self) -> bool {
        self.l2().is_some_and(crate::resilience::L2::tells_changes)
    }

    /// Sees to it that what does not stand is dropped.
    pub(crate) fn see_to_watches(&self) {
        let watching = &self.space.watching;
        if watching.turns.are_taken() || watching.is_empty() {
            return;
        }
        if let Some(turn) = watching.turns.take() {
            let view = self.clone();
            self.shared.runtime.spawn_part(async move {
                view.drop_what_does_not_stand().await;
                drop(turn);
                view.see_to_watches();
            });
        }
    }

    /// Goes on as long as anything is watched.
    async fn drop_what_does_not_stand(&self) {
        let (watching, mut dropping) = (&self.space.watching, FuturesUnordered::new());
        let lasts = self.l2().map_or(Duration::ZERO, |l2| l2.lease().saturating_mul(2));
        while !watching.is_empty() || !dropping.is_empty() {
            let (is_closed, drops) = (self.shared.runtime.is_closed(), !dropping.is_empty());
            // What is watched when the cache is closed has no time left.
            let pause = if is_closed && !drops { Duration::ZERO } else { PAUSE };
            let wait = async {
                tokio::select! {
                    () = self.shared.runtime.closing(), if !is_closed => {}
                    () = watching.contested.notified(), if dropping.len() < DROPS_MAX => {}
                    Some(()) = dropping.next(), if drops => {}
                }
            };
            let paused = if within(pause, wait).await.is_none() { pause } else { Duration::ZERO };
            if dropping.len() < DROPS_MAX {
                let limit = if self.shared.runtime.is_closed() { Duration::ZERO } else { lasts };
                let due = watching.due(paused, self.shared.clock.precise(), limit);
                if !due.is_empty() {
                    dropping.push(self.drop_due(due));
                }
            }
        }
    }
}

impl View {
    /// Drops what was due. Given up, it is contested again.
    async fn drop_due(&self, keys: Vec<Key>) {
        let contested = keys.iter().map(|key| (key.clone(), Ttl::Never)).collect();
        let mut due = Due { watching: &self.space.watching, keys };
        self.drop_contested(contested).await;
        due.keys.clear();
    }
}

/// What is to be dropped. Itself dropped, what is left of it is contested again.
struct Due<'a> {
    watching: &'a Watching,
    keys: Vec<Key>,
}

impl Drop for Due<'_> {
    fn drop(&mut self) {
        if !self.keys.is_empty() {
            self.watching.contest_again(&self.keys);
        }
    }
}

#[cfg(test)]
#[path = "watch/tests.rs"]
mod tests;
