//! What this node changed lately, in case that L2 forgets it.
//!
//! An L2 that fails over, or comes back from an old dump, may have forgotten changes that it acknowledged, and bring back what
//! they made invalid. The node that made them is the one who knows. So it keeps them for a while, and asserts them again
//! ([`super::debts`]) when it hears that L2 has another life.
//!
//! 1. A change is noted before L2 is asked to make it, so none is acknowledged that is not here. Until it is acknowledged
//!    nothing is known of its number, and nothing in L2 counts as newer.
//! 2. Of a key the greatest number is kept, so room is taken by distinct keys and tags: at most [`CHANGES_MAX`], and texts of
//!    at most [`BYTES_MAX`]. When there are more the oldest go, and are counted. More than [`RULES_MAX`] patterns become
//!    everything.
//! 3. A change is kept for [`KEPT`], counted while L2 is heard. While it is not, time stands still here: nobody knows yet what
//!    L2 will have forgotten.
//! 4. While changes are still to be asserted, what L2 holds of what they name counts as dead, if it is older: also what it said before it was told,
//!    and is heard after that. While L2 is not heard, it may have another life that nobody knows of yet: so of keys from then on.
//! 5. A change that failed is not kept here: it waits in [`super::pending`], and L2 is told of it in any case.
//!
//! Deliberately absent: survival of this process. What a node changed that has died is as old in L2 as L2's TTLs let it be.

use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use terrace_core::bus::Reassertion;
use terrace_core::envelope::TagStamp;
use terrace_core::remote::SweepRule;
use terrace_core::{Key, Moment, Tag, Version};

/// How long a change is kept: longer than a replica lags behind that is fit to take over.
const KEPT: Duration = Duration::from_mins(1);
/// Most keys and tags that are kept.
const CHANGES_MAX: usize = 65_536;
/// Most bytes of their texts.
const BYTES_MAX: usize = 16 << 20;
/// Most patterns that are kept.
const RULES_MAX: usize = 64;
/// An acknowledgement that comes later than this is noted as if the change had been made then.
const LATE: Duration = Duration::from_secs(1);

/// What a change names.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Named {
    Key(Key),
    Tag(Tag),
    Rule(SweepRule),
}

/// The changes that a node made lately in one namespace.
#[derive(Default)]
pub(crate) struct Recent {
    /// Whether they are still to be asserted again.
    is_owed: AtomicBool,
    /// Whether L2 is not heard, where numbers are the order of changes.
    is_lost: AtomicBool,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    /// Keys and tags.
    changes: HashMap<Named, Change>,
    /// In the order of their last mention; those that were mentioned again are here more than once.
    order: VecDeque<(u64, Named)>,
    rules: Vec<(SweepRule, Moment)>,
    mentions: u64,
    bytes: usize,
    /// Since when L2 is not heard.
    frozen: Option<Moment>,
}

struct Change {
    mention: u64,
    at: Moment,
    /// The greatest that was acknowledged.
    number: Version,
    /// How many times it is under way.
    open: u32,
}

impl Named {
    fn len(&self) -> usize {
        match self {
            Self::Key(key) => key.as_str().len(),
            Self::Tag(tag) => tag.as_str().len(),
            Self::Rule(_) => 0,
        }
    }
}

impl Recent {
    /// Changes are about to be made. Returns how many others had to go for them.
    pub(crate) fn begin(&self, named: impl IntoIterator<Item = Named>, now: Moment) -> u64 {
        let mut log = self.log.lock();
        for named in named {
            match named {
                Named::Rule(rule) => log.mention_rule(rule, now),
                named => log.mention(named, now).open += 1,
            }
        }
        log.trim(now)
    }

    /// Changes that were begun are acknowledged under these numbers.
    pub(crate) fn acknowledge(
        &self,
        acknowledged: impl IntoIterator<Item = (Named, Version)>,
        now: Moment,
    ) -> u64 {
        let mut log = self.log.lock();
        for (named, number) in acknowledged {
            let change = match named {
                Named::Rule(rule) => {
                    log.mention_rule(rule, now);
                    continue;
                }
                named => log.known(named, now),
            };
            change.open = change.open.saturating_sub(1);
            change.number = change.number.max(number);
        }
        log.trim(now)
    }

    /// Changes that were begun have failed, and wait in [`super::pending`].
    pub(crate) fn fail(&self, named: impl IntoIterator<Item = Named>) {
        let mut log = self.log.lock();
        for named in named {
            if let Some(change) = log.changes.get_mut(&named) {
                change.open = change.open.saturating_sub(1);
                if change.open == 0 && change.number == Version::ZERO {
                    log.changes.remove(&named);
                    log.bytes -= named.len();
                }
            }
        }
    }

    /// L2 is not heard any more: what is kept now is kept until it is again. Where numbers are the order of changes, `is_chained`, what is
    /// older than what is kept counts as dead from now on.
    pub(crate) fn freeze(&self, now: Moment, is_chained: bool) {
        self.log.lock().frozen.get_or_insert(now);
        self.is_lost.store(is_chained, Ordering::Release);
    }

    /// L2 is heard, and has forgotten nothing, or was told again.
    pub(crate) fn thaw(&self) {
        self.log.lock().frozen = None;
        self.is_lost.store(false, Ordering::Release);
        self.is_owed.store(false, Ordering::Release);
    }

    /// L2 was told again, and is not heard any more.
    pub(crate) fn pay(&self) {
        self.is_owed.store(false, Ordering::Release);
    }

    /// L2 may have forgotten what is kept.
    pub(crate) fn owe(&self) {
        self.is_owed.store(true, Ordering::Release);
    }

    /// All that is kept of what `concerns`, oldest first; patterns at the end.
    pub(crate) fn owed(&self, now: Moment, concerns: impl Fn(&str) -> bool) -> Vec<Reassertion> {
        let mut log = self.log.lock();
        log.trim(now);
        let is_last =
            |mention: &u64, named: &Named| log.changes.get(named).filter(|change| change.mention == *mention);
        let names = log.order.iter().filter_map(|(mention, named)| {
            let change = is_last(mention, named)?;
            match named {
                Named::Key(key) if concerns(key.as_str()) => {
                    let number = (change.open == 0).then_some(change.number);
                    Some(Reassertion::Key { key: key.clone(), number })
                }
                Named::Tag(tag) if concerns(tag.as_str()) => Some(Reassertion::Tag(tag.clone())),
                _ => None,
            }
        });
        let rules = log.rules.iter().map(|(rule, _)| Reassertion::Sweep(rule.clone()));
        names.chain(rules).collect()
    }

    /// Whether nothing is kept.
    pub(crate) fn is_empty(&self) -> bool {
        let log = self.log.lock();
        log.changes.is_empty() && log.rules.is_empty()
    }

    /// Of which version a value in L2 has to be for no change of `key` to be forgotten there: what this supersedes is dead. Who asks L2 asks
    /// this first: when the answer comes, L2 may have been told again.
    #[inline]
    pub(crate) fn floor(&self, key: &Key) -> Version {
        let (is_owed, is_lost) = (self.is_owed.load(Ordering::Acquire), self.is_lost.load(Ordering::Acquire));
        if is_owed || is_lost { self.log.lock().floor(key, is_owed) } else { Version::ZERO }
    }

    /// Whether L2 has forgotten a change of `key`, if it holds this version.
    #[inline]
    pub(crate) fn outdates(&self, key: &Key, version: Version) -> bool {
        self.floor(key).supersedes(version)
    }

    /// Whether L2 may have forgotten a bump of one of these tags.
    #[inline]
    pub(crate) fn distrusts_tags(&self, tags: &[TagStamp]) -> bool {
        self.is_owed.load(Ordering::Acquire) && {
            let log = self.log.lock();
            tags.iter().any(|stamp| log.changes.contains_key(&Named::Tag(stamp.tag.clone())))
        }
    }
}

impl Log {
    /// The greatest number of a key's changes. While all that is kept is owed, nothing in L2 is newer than a pattern that names the key, nor
    /// than a change that is under way.
    fn floor(&self, key: &Key, is_owed: bool) -> Version {
        let names = |(rule, _): &(SweepRule, Moment)| match rule {
            SweepRule::All => true,
            SweepRule::Matching(glob) => glob.matches(key.as_str()),
        };
        match self.changes.get(&Named::Key(key.clone())) {
            Some(change) if is_owed && change.open > 0 => Version::MAX,
            _ if is_owed && self.rules.iter().any(names) => Version::MAX,
            Some(change) => change.number,
            None => Version::ZERO,
        }
    }

    /// A change that is made now.
    fn mention(&mut self, named: Named, now: Moment) -> &mut Change {
        self.mentions += 1;
        let mention = self.mentions;
        self.order.push_back((mention, named.clone()));
        let length = named.len();
        let bytes = &mut self.bytes;
        let change = self.changes.entry(named).or_insert_with(|| {
            *bytes += length;
            Change { mention, at: now, number: Version::ZERO, open: 0 }
        });
        (change.mention, change.at) = (mention, now);
        change
    }

    /// A change that was begun: it is made now if that was long ago.
    fn known(&mut self, named: Named, now: Moment) -> &mut Change {
        if self.changes.get(&named).is_some_and(|change| now.since(change.at) < LATE) {
            return self.changes.get_mut(&named).expect("it was found above");
        }
        self.mention(named, now)
    }

    fn mention_rule(&mut self, rule: SweepRule, now: Moment) {
        self.rules.retain(|(kept, _)| *kept != rule);
        self.rules.push((rule, now));
        if self.rules.len() > RULES_MAX {
            self.rules = vec![(SweepRule::All, now)];
        }
    }

    /// Drops what is kept no longer. Returns how much of that was for want of room.
    fn trim(&mut self, now: Moment) -> u64 {
        let now = self.frozen.unwrap_or(now);
        let is_over = |at: Moment| now.since(at) > KEPT;
        self.rules.retain(|(_, at)| !is_over(*at));
        let mut dropped = 0;
        while let Some((mention, named)) = self.order.front() {
            if let Some(change) = self.changes.get(named).filter(|change| change.mention == *mention) {
                let is_full = self.changes.len() > CHANGES_MAX || self.bytes > BYTES_MAX;
                let is_over = is_over(change.at);
                if !is_full && !is_over {
                    break;
                }
                dropped += u64::from(!is_over);
                self.bytes -= named.len();
                self.changes.remove(named);
            }
            self.order.pop_front();
        }
        if self.order.len() > 2 * self.changes.len() + RULES_MAX {
            let changes = &self.changes;
            self.order.retain(|(mention, named)| {
                changes.get(named).is_some_and(|change| change.mention == *mention)
            });
        }
        dropped
    }
}

#[cfg(test)]
mod tests;
