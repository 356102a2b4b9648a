//! Which copies are dead by a change that names many entries at once?
//!
//! A tag, a pattern, a clearing, a partition of which a message may be missing: such a change does not look for what it
//! names. It is written down as a *ban*, with a number, and each copy in L1 knows how many bans there were when its read
//! began ([`Ticket::born`](super::tickets::Ticket)). A copy that is older than a ban that names it is dead. So a change costs
//! the same however many entries there are, and a read pays for it only while bans are active. The idea is Varnish's.
//!
//! 1. A ban is numbered and written down in one step. A read that begins later is younger than it.
//! 2. Whoever looks a copy up reads the bans *before* the lookup and holds them until the copy was judged: a ban that was
//!    retired before that has been applied to all copies.
//! 3. Bans are retired in the background: tickets are voided, so that no read that is older than they are keeps anything
//!    any more; what they name is removed; they are forgotten.
//! 4. Of too many bans one is made that names more.
//! 5. A partition of which a message may be missing makes its copies *suspect*, not dead: they do not count as fresh, and are
//!    kept for whoever asks L2 about them ([`super::validation`]), which makes them younger than the ban. So such a ban is
//!    retired late: what nobody has touched for [`SUSPECT_ROUNDS`] is removed with it. Only time in which copies are trusted
//!    counts: while L2 is not heard nothing is lost for having waited.
//! 6. What is younger than the newest active ban is named by none, and costs no lock.

use crate::entry::Resident;
use crate::l1::L1Key;
use crate::runtime::sleep;
use crate::space::View;
use parking_lot::{RwLock, RwLockReadGuard};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use terrace_core::remote::SweepRule;
use terrace_core::{CacheKey, Glob, KeyName, Namespace, Partition, Tag};

/// Active bans of tags that are told apart.
const TAGS_MAX: usize = 4096;
/// Active bans of patterns that are told apart.
const PATTERNS_MAX: usize = 64;
/// How long bans wait to be retired together.
const RETIRING_PAUSE: Duration = Duration::from_secs(1);
/// How often others are retired before a ban is whose copies are suspect: a minute, as long as a copy stays by default.
const SUSPECT_ROUNDS: usize = 60;
/// Copies in L1 that are looked through at once, for the sake of counting what is dead.
const COUNTED_MAX: usize = 16_384;

/// A change that names many entries.
#[derive(Clone, Debug)]
pub(crate) enum Ban<'a> {
    /// What the rule names.
    Sweep(&'a SweepRule),
    /// What has one of these tags.
    Tags(&'a [Tag]),
    /// What has a tag of this partition, of so many.
    Floor(Partition, u16),
    /// What is of one of these partitions, of so many, or has a tag of one: it is not dead, but suspect.
    Suspects(&'a HashSet<Partition>, u16),
}

/// What bans make of a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// Nothing names it.
    Alive,
    /// A change of it may have been missed.
    Suspect,
    /// It was invalidated.
    Dead,
}

/// The bans of one namespace.
#[derive(Debug)]
pub(crate) struct Bans {
    namespace: Namespace,
    /// The number of the newest active one; zero if there is none.
    active: AtomicU64,
    /// The number of the newest one ever.
    last: AtomicU64,
    list: RwLock<List>,
}

/// The bans that were active when they were taken.
pub(crate) struct Active<'a> {
    namespace: &'a Namespace,
    list: RwLockReadGuard<'a, List>,
}

/// The active bans, each with its number. Zero is none.
#[derive(Debug, Default)]
struct List {
    all: u64,
    tagged: u64,
    patterns: Vec<(Glob, u64)>,
    tags: HashMap<Tag, u64>,
    floors: HashMap<Partition, u64>,
    suspects: HashMap<Partition, u64>,
    /// How many partitions the namespace has, if any is named.
    partitions: u16,
}

impl Bans {
    pub(crate) fn new(namespace: Namespace) -> Self {
        Self { namespace, active: AtomicU64::new(0), last: AtomicU64::new(0), list: RwLock::default() }
    }

    /// Whether none is active. To be asked before a copy is looked up.
    #[inline]
    pub(crate) fn are_none(&self) -> bool {
        self.newest() == 0
    }

    /// The number of the newest active one: what is not older is named by none. To be asked before a copy is looked up.
    #[inline]
    pub(crate) fn newest(&self) -> u64 {
        self.active.load(Ordering::Acquire)
    }

    /// The active ones, as long as they are held. To be taken before a copy is looked up.
    pub(crate) fn active(&self) -> Active<'_> {
        Active { namespace: &self.namespace, list: self.list.read() }
    }

    /// Whether a value with this key and these tags is named by one that came after its birth, and is active.
    pub(crate) fn name(&self, born: u64, text: &str, tags: &[Tag]) -> bool {
        self.is_any_since(born) && self.active().standing(born, text, tags) != Standing::Alive
    }

    /// Whether a copy is to be removed before the bans are retired: it is dead, or has been suspect since this ban.
    fn condemn(&self, suspects_until: u64, copy: &Resident, text: &str) -> bool {
        let (born, tags) = (copy.born, copy.tags());
        self.is_any_since(born) && {
            let active = self.active();
            active.standing(born, text, tags) == Standing::Dead
                || active.list.doubt(active.namespace, born, Some(suspects_until), text, tags)
        }
    }

    /// Writes a ban down under the number that `next` gives out.
    pub(crate) fn add(&self, ban: &Ban<'_>, next: impl FnOnce() -> u64) {
        let mut list = self.list.write();
        let number = next();
        list.add(ban, number);
        self.last.store(number, Ordering::SeqCst);
        self.active.store(number, Ordering::SeqCst);
    }

    /// Whether there was one since `born`, active or not.
    pub(crate) fn is_any_since(&self, born: u64) -> bool {
        self.last() > born
    }

    fn last(&self) -> u64 {
        self.last.load(Ordering::SeqCst)
    }

    /// Whether there is a ban to be retired: any up to this number, of suspects up to that one.
    fn has_due(&self, until: u64, suspects_until: u64) -> bool {
        let list = self.list.read();
        list.numbers().any(|number| number <= until)
            || list.suspects.values().any(|number| *number <= suspects_until)
    }

    /// Forgets the bans up to this number, those of suspects up to that one. What they name was removed.
    fn retire(&self, until: u64, suspects_until: u64) {
        let mut list = self.list.write();
        list.retire(until, suspects_until);
        let newest = list.numbers().chain(list.suspects.values().copied()).max();
        self.active.store(newest.unwrap_or(0), Ordering::SeqCst);
    }
}

impl List {
    fn add(&mut self, ban: &Ban<'_>, number: u64) {
        match ban {
            Ban::Sweep(SweepRule::All) => self.all = number,
            Ban::Sweep(SweepRule::Matching(glob)) => {
                self.patterns.retain(|(banned, _)| banned != glob);
                self.patterns.push((glob.clone(), number));
            }
            Ban::Tags(tags) => self.tags.extend(tags.iter().map(|tag| (tag.clone(), number))),
            Ban::Floor(partition, count) => {
                self.partitions = *count;
                self.floors.insert(*partition, number);
            }
            Ban::Suspects(suspects, count) => {
                self.partitions = *count;
                self.suspects.extend(suspects.iter().map(|partition| (*partition, number)));
            }
        }
        if self.patterns.len() > PATTERNS_MAX {
            self.patterns.clear();
            self.all = number;
        }
        if self.tags.len() > TAGS_MAX {
            self.tags.clear();
            self.tagged = number;
        }
    }

    /// Of bans that kill.
    fn numbers(&self) -> impl Iterator<Item = u64> {
        let whole = [self.all, self.tagged].into_iter().filter(|number| *number > 0);
        let patterns = self.patterns.iter().map(|(_, number)| *number);
        whole.chain(patterns).chain(self.tags.values().copied()).chain(self.floors.values().copied())
    }

    fn retire(&mut self, until: u64, suspects_until: u64) {
        for number in [&mut self.all, &mut self.tagged] {
            *number = if *number > until { *number } else { 0 };
        }
        self.patterns.retain(|(_, number)| *number > until);
        self.tags.retain(|_, number| *number > until);
        self.floors.retain(|_, number| *number > until);
        self.suspects.retain(|_, number| *number > suspects_until);
    }

    fn kill(&self, namespace: &Namespace, born: u64, text: &str, tags: &[Tag]) -> bool {
        let is_dead = |tag: &Tag| {
            self.tagged > born
                || self.tags.get(tag).is_some_and(|number| *number > born)
                || self.is_of(&self.floors, namespace, born, None, tag.as_str())
        };
        self.all > born
            || self.patterns.iter().any(|(glob, number)| *number > born && glob.matches(text))
            || tags.iter().any(is_dead)
    }

    /// Whether a value is suspect, by a ban up to this number.
    fn doubt(&self, namespace: &Namespace, born: u64, until: Option<u64>, text: &str, tags: &[Tag]) -> bool {
        let is_suspect = |text: &str| self.is_of(&self.suspects, namespace, born, until, text);
        is_suspect(text) || tags.iter().any(|tag| is_suspect(tag.as_str()))
    }

    fn is_of(
        &self,
        named: &HashMap<Partition, u64>,
        namespace: &Namespace,
        born: u64,
        until: Option<u64>,
        text: &str,
    ) -> bool {
        let of = || Partition::of(namespace, text, self.partitions);
        let is_meant = |number: &u64| *number > born && until.is_none_or(|until| *number <= until);
        !named.is_empty() && named.get(&of()).is_some_and(is_meant)
    }
}

impl Active<'_> {
    /// Whether a copy in L1 does not count as fresh.
    pub(crate) fn name_copy(&self, name: KeyName<'_>, copy: &Resident) -> bool {
        self.standing_of(name, copy) != Standing::Alive
    }

    /// [`Active::standing`] of a copy in L1.
    pub(crate) fn standing_of(&self, name: KeyName<'_>, copy: &Resident) -> Standing {
        match name {
            KeyName::Number(number) => number.with_text(|text| self.standing(copy.born, text, copy.tags())),
            KeyName::Text(text) => self.standing(copy.born, text, copy.tags()),
        }
    }

    fn standing(&self, born: u64, text: &str, tags: &[Tag]) -> Standing {
        let Self { namespace, list } = self;
        if list.kill(namespace, born, text, tags) {
            Standing::Dead
        } else if list.doubt(namespace, born, None, text, tags) {
            Standing::Suspect
        } else {
            Standing::Alive
        }
    }
}

impl View {
    /// Kills every copy that the ban names, or makes it suspect, and what reads bring that began before.
    pub(crate) fn ban(&self, ban: &Ban<'_>) {
        self.space.bans.add(ban, || self.shared.tickets.number_ban());
        self.retire_soon();
    }

    /// Removes the copies that are dead, if there are few to be looked through or `always`. Returns how many it were.
    pub(crate) fn remove_dead(&self, always: bool) -> u64 {
        if !self.shared.runtime.is_available() {
            return self.retire(0);
        }
        if always || self.is_counted() { self.remove_banned(0) } else { 0 }
    }

    /// Whether L1 has so few copies that dead ones are looked for at once.
    pub(crate) fn is_counted(&self) -> bool {
        self.l1().is_none_or(|l1| l1.len() <= COUNTED_MAX)
    }

    fn remove_banned(&self, suspects_until: u64) -> u64 {
        let Some(l1) = self.l1() else { return 0 };
        let bans = &self.space.bans;
        l1.remove_where(self.space.id, |name: &L1Key, copy: &Resident| {
            name.with_text(|text| bans.condemn(suspects_until, copy, text))
        })
    }

    /// Sees to it that bans are retired.
    fn retire_soon(&self) {
        if self.space.retiring.are_taken() || !self.shared.runtime.is_available() {
            return;
        }
        if let Some(turn) = self.space.retiring.take() {
            let view = self.clone();
            self.shared.runtime.spawn_until_closed(async move {
                let mut rounds = VecDeque::with_capacity(SUSPECT_ROUNDS + 1);
                while !view.space.bans.are_none() {
                    sleep(RETIRING_PAUSE).await;
                    view.retire(view.suspects_due(&mut rounds));
                }
                drop(turn);
                if !view.space.bans.are_none() {
                    view.retire_soon();
                }
            });
        }
    }

    /// Up to which number bans have been suspicions for long enough, given the last numbers of the rounds before.
    fn suspects_due(&self, rounds: &mut VecDeque<u64>) -> u64 {
        if self.space.trust.holds(&self.shared.clock) {
            rounds.push_back(self.space.bans.last());
        }
        if rounds.len() > SUSPECT_ROUNDS { rounds.pop_front().unwrap_or(0) } else { 0 }
    }

    /// Retires what bans there are, and those of suspects up to this number.
    fn retire(&self, suspects_until: u64) -> u64 {
        let until = self.space.bans.last();
        if !self.space.bans.has_due(until, suspects_until) {
            return 0;
        }
        self.shared.tickets.void_all();
        self.space.watching.contest_dead(|key, stored| self.is_dead(key, stored));
        self.see_to_watches();
        let removed = self.remove_banned(suspects_until);
        self.space.bans.retire(until, suspects_until);
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bans() -> Bans {
        Bans::new(Namespace::new("n").expect("valid"))
    }

    fn tags(texts: &[&str]) -> Vec<Tag> {
        texts.iter().map(|text| Tag::new(text).expect("valid")).collect()
    }

    fn matching(pattern: &str) -> SweepRule {
        SweepRule::Matching(Glob::new(pattern).expect("valid"))
    }

    #[test]
    fn what_is_older_and_named_is_dead_and_nothing_else() {
        let bans = bans();
        let of = |text: &str| Partition::of(&bans.namespace, text, 256);
        let (rule, tagged) = (matching("user:*"), tags(&["t"]));
        bans.add(&Ban::Sweep(&rule), || 1);
        bans.add(&Ban::Tags(&tagged), || 2);
        bans.add(&Ban::Floor(of("low"), 256), || 3);
        bans.add(&Ban::Suspects(&HashSet::from([of("odd")]), 256), || 4);
        let other = "other".to_owned();
        assert_eq!(
            [of("odd"), of("low")].map(|partition| [of("other"), of("t")].contains(&partition)),
            [false; 2]
        );
        for (number, text, tagged) in [
            (1, "user:1", &[][..]),
            (2, &other, &["t"]),
            (3, &other, &["low"]),
            (4, "odd", &[]),
            (4, &other, &["odd"]),
        ] {
            assert!(bans.name(number - 1, text, &tags(tagged)), "{text} {tagged:?}");
            assert!(!bans.name(number, text, &tags(tagged)), "{text} {tagged:?} is younger");
        }
        assert!(!bans.name(0, &other, &tags(&[&other])));
        bans.add(&Ban::Sweep(&SweepRule::All), || 5);
        assert!(bans.name(4, &other, &[]));
    }

    #[test]
    fn what_may_have_been_missed_is_suspect_and_what_was_invalidated_is_dead() {
        let bans = bans();
        let odd = Partition::of(&bans.namespace, "odd", 256);
        let standing = |born: u64| bans.active().standing(born, "odd", &tags(&["t"]));
        bans.add(&Ban::Suspects(&HashSet::from([odd]), 256), || 3);
        assert_eq!([0, 2, 3].map(standing), [Standing::Suspect, Standing::Suspect, Standing::Alive]);
        bans.add(&Ban::Tags(&tags(&["t"])), || 4);
        assert_eq!([0, 3, 4].map(standing), [Standing::Dead, Standing::Dead, Standing::Alive]);
    }

    #[test]
    fn a_suspicion_outlives_the_bans_around_it() {
        let bans = bans();
        let odd = Partition::of(&bans.namespace, "odd", 256);
        bans.add(&Ban::Suspects(&HashSet::from([odd]), 256), || 1);
        bans.add(&Ban::Tags(&tags(&["t"])), || 2);
        assert!(bans.has_due(2, 0));
        bans.retire(2, 0);
        assert!(!bans.has_due(2, 0) && bans.has_due(2, 1));
        assert_eq!((bans.newest(), bans.active().standing(0, "odd", &[])), (1, Standing::Suspect));
        bans.add(&Ban::Suspects(&HashSet::from([odd]), 256), || 3);
        bans.retire(3, 1);
        assert_eq!(bans.newest(), 3, "it was raised again meanwhile");
        bans.retire(3, 3);
        assert!(bans.are_none());
    }

    #[test]
    fn what_is_retired_names_nothing_and_what_came_since_does() {
        let bans = bans();
        let (first, second) = (tags(&["first"]), tags(&["second"]));
        bans.add(&Ban::Tags(&first), || 1);
        bans.add(&Ban::Tags(&second), || 2);
        bans.add(&Ban::Tags(&first), || 3);
        bans.retire(2, 2);
        assert!(!bans.are_none());
        assert!(bans.name(0, "k", &first) && !bans.name(0, "k", &second));
        bans.retire(3, 3);
        assert!(bans.are_none() && !bans.name(0, "k", &first));
        assert!(bans.is_any_since(2) && !bans.is_any_since(3), "that there was one is not forgotten");
    }

    #[test]
    fn of_too_many_one_is_made_that_names_more() {
        let bans = bans();
        let many: Vec<Tag> = (0..=TAGS_MAX).map(|n| Tag::new(&n.to_string()).expect("valid")).collect();
        bans.add(&Ban::Tags(&many), || 1);
        assert!(bans.name(0, "k", &tags(&["another"])), "every tag");
        assert!(!bans.name(0, "k", &[]), "and nothing without tags");
        for n in 0..=PATTERNS_MAX {
            bans.add(&Ban::Sweep(&matching(&format!("{n}*"))), || 2);
        }
        assert!(bans.name(1, "k", &[]), "every key");
    }
}
