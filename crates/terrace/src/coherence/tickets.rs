//! Tickets: a value may enter L1 only if nothing was invalidated since its read began.
//!
//! A striped counter per group of keys. A read takes a [`Ticket`] (the count of its stripe) *before* it asks L2 or the
//! origin. Every invalidation raises the count, and *then* drops the L1 copy. The insert happens only if the count is
//! still the ticket's, which is checked under the lock of the engine's shard ([`crate::l1`] does that).
//!
//! 1. There is no moment between check and insert: an insert that saw the old count is over before the invalidation's
//!    own removal gets the shard's lock, which then removes it; a later one sees the new count.
//! 2. Two keys that share a stripe cost each other a miss, never a stale hit.
//! 3. A hit in L1 takes no ticket.
//! 4. A write's own message may be heard before its acknowledgement. It voids the write's ticket like any other, but the
//!    write knows its number, and may renew the ticket all the same if that was the only change. The renewed ticket remembers
//!    that: the message is no excuse for another change a second time.
//! 5. A message raises the count before it is noted as heard, and whoever asks looks at what was heard first: so a count that is seen
//!    after a message was seen has that message in it, and all that came before.

use crate::l1::KeyRef;
use crate::sync::atomic::{AtomicU64, Ordering};
use std::collections::HashMap;
use std::hash::BuildHasher;
use terrace_core::mutants::{self, Mutant};
use terrace_core::{Chance, Version};

/// How many stripes a cache has.
const STRIPES: usize = 4096;

/// The count of a stripe when a read began, and how many bans there were then ([`super::bans`]).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Ticket {
    stripe: usize,
    count: u64,
    pub(crate) born: u64,
    /// Whether the message of the change that has renewed it is in the count.
    has_heard: bool,
}

/// The counts of all stripes at one time, before it is known which keys will be asked for.
pub(crate) struct Mark {
    counts: Box<[u64]>,
    born: u64,
}

/// One group of keys.
#[derive(Default)]
struct Stripe {
    count: AtomicU64,
    /// The number of the last change that was heard. Only the listener writes it, after it has raised the count.
    heard: AtomicU64,
}

impl Stripe {
    /// Whether the change of this number was the last that was heard.
    fn was_last(&self, number: Version) -> bool {
        number != Version::ZERO && self.heard.load(Ordering::SeqCst) == number.get()
    }
}

/// The stripes of one cache.
pub(crate) struct Tickets {
    stripes: Box<[Stripe]>,
    /// The number of the last ban.
    bans: AtomicU64,
    hasher: foldhash::fast::FixedState,
}

impl Tickets {
    pub(crate) fn new(chance: &Chance) -> Self {
        let stripes = (0..STRIPES).map(|_| Stripe::default()).collect();
        let hasher = foldhash::fast::FixedState::with_seed(chance.number());
        Self { stripes, bans: AtomicU64::new(0), hasher }
    }

    fn stripe_of(&self, key: KeyRef<'_>) -> usize {
        let hash = self.hasher.hash_one(key);
        usize::try_from(hash % STRIPES as u64).expect("less than STRIPES")
    }

    /// Notes that a read of `key` begins.
    pub(crate) fn take(&self, key: KeyRef<'_>) -> Ticket {
        let stripe = self.stripe_of(key);
        let count = self.stripes[stripe].count.load(Ordering::SeqCst);
        Ticket { stripe, count, born: self.born(), has_heard: false }
    }

    /// Notes that something begins that will bring the values of some keys.
    ///
    /// # Cost
    /// 32 KiB.
    pub(crate) fn mark(&self) -> Mark {
        let born = self.born();
        let counts = self.stripes.iter().map(|stripe| stripe.count.load(Ordering::SeqCst)).collect();
        Mark { counts, born }
    }

    /// The ticket that a read of `key` would have taken then.
    pub(crate) fn taken_at(&self, mark: &Mark, key: KeyRef<'_>) -> Ticket {
        let stripe = self.stripe_of(key);
        Ticket { stripe, count: mark.counts[stripe], born: mark.born, has_heard: false }
    }

    /// How many bans there are now.
    pub(crate) fn born(&self) -> u64 {
        self.bans.load(Ordering::SeqCst)
    }

    /// The number of a new ban.
    pub(crate) fn number_ban(&self) -> u64 {
        self.bans.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Whether nothing was invalidated since the ticket was taken.
    pub(crate) fn is_valid(&self, ticket: Ticket) -> bool {
        self.stripes[ticket.stripe].count.load(Ordering::SeqCst) == ticket.count
            || mutants::is(Mutant::NoTicket)
    }

    /// [`Tickets::is_valid`] for the ticket that a change of this number renewed: its own message is no other change.
    pub(crate) fn is_valid_after(&self, renewed: Ticket, number: Version) -> bool {
        self.is_valid(renewed) || self.was_alone(renewed, number) == Some(true)
    }

    /// Voids the tickets of `key`. The caller drops the L1 copy after it, not before.
    pub(crate) fn void(&self, key: KeyRef<'_>) {
        self.stripes[self.stripe_of(key)].count.fetch_add(1, Ordering::SeqCst);
    }

    /// [`Tickets::void`] for a change of this number that was heard.
    pub(crate) fn void_heard(&self, key: KeyRef<'_>, number: Version) {
        let stripe = &self.stripes[self.stripe_of(key)];
        stripe.count.fetch_add(1, Ordering::SeqCst);
        stripe.heard.store(number.get(), Ordering::SeqCst);
    }

    /// Voids tickets on behalf of changes that began together under these tickets and got these numbers, and gives each a
    /// new one; `None` if somebody else has voided it meanwhile.
    pub(crate) fn renew(&self, changes: impl IntoIterator<Item = (Ticket, Version)>) -> Vec<Option<Ticket>> {
        let mut renewed = HashMap::new();
        let renew =
            |(ticket, number)| *renewed.entry(ticket).or_insert_with(|| self.renew_one(ticket, number));
        changes.into_iter().map(renew).collect()
    }

    fn renew_one(&self, Ticket { stripe, count, born, .. }: Ticket, number: Version) -> Option<Ticket> {
        let of_stripe = &self.stripes[stripe];
        let raise = |from, has_heard| {
            let raised = of_stripe.count.compare_exchange(from, from + 1, Ordering::SeqCst, Ordering::SeqCst);
            raised.is_ok().then_some(Ticket { stripe, count: from + 1, born, has_heard })
        };
        let heard_itself = || of_stripe.was_last(number).then(|| raise(count + 1, true)).flatten();
        raise(count, false).or_else(heard_itself)
    }

    /// Which of these changes nobody else has come between. Each noted its first ticket before it did anything; then all of them
    /// voided their keys' tickets once, and only then did each take its second one.
    pub(crate) fn alone(changes: &[(Ticket, Ticket)]) -> Vec<bool> {
        let mut own: HashMap<usize, u64> = HashMap::new();
        for (first, _) in changes {
            *own.entry(first.stripe).or_default() += 1;
        }
        changes.iter().map(|(first, second)| second.count - first.count == own[&first.stripe]).collect()
    }

    /// Whether a change that renewed its ticket, and got this number, was the only one of those that are numbered before it or
    /// that are heard before it is; `None` as long as it has not been heard. One that comes a little later may count as well.
    pub(crate) fn was_alone(&self, renewed: Ticket, number: Version) -> Option<bool> {
        let stripe = &self.stripes[renewed.stripe];
        let alone = renewed.count + u64::from(!renewed.has_heard);
        let has_come = || stripe.was_last(number).then(|| stripe.count.load(Ordering::SeqCst) == alone);
        let another = || (stripe.count.load(Ordering::SeqCst) != renewed.count).then_some(false);
        // What was not heard may have come since, and is why the count is another.
        has_come().or_else(|| another().map(|_| has_come().unwrap_or(false)))
    }

    /// Whether the change of this number was the last that was heard of the keys that share this one's count.
    pub(crate) fn has_heard(&self, key: KeyRef<'_>, number: Version) -> bool {
        self.stripes[self.stripe_of(key)].was_last(number)
    }

    /// Voids every ticket. By two, so that no write takes it for its own message.
    pub(crate) fn void_all(&self) {
        for stripe in &self.stripes {
            stripe.count.fetch_add(2, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> KeyRef<'_> {
        KeyRef::of(1, text)
    }

    #[test]
    fn a_ticket_taken_before_an_invalidation_is_void_after_it() {
        let tickets = Tickets::new(&Chance::system());
        let before = tickets.take(key("a"));
        tickets.void(key("a"));
        assert!(!tickets.is_valid(before));
        assert!(tickets.is_valid(tickets.take(key("a"))));
    }

    #[test]
    fn a_mark_is_a_ticket_of_every_key() {
        let tickets = Tickets::new(&Chance::system());
        tickets.void(key("a"));
        let mark = tickets.mark();
        assert_eq!(tickets.taken_at(&mark, key("a")), tickets.take(key("a")));
        tickets.void(key("a"));
        assert!(!tickets.is_valid(tickets.taken_at(&mark, key("a"))));
    }

    #[test]
    fn a_change_knows_whether_it_was_alone() {
        let tickets = Tickets::new(&Chance::system());
        let mine = tickets.take(key("a"));
        let renewed = tickets.renew([(mine, 1.into()), (mine, 2.into())]);
        assert!(!tickets.is_valid(mine));
        assert!(renewed.iter().all(|renewed| renewed.is_some_and(|renewed| tickets.is_valid(renewed))));
        assert_eq!(tickets.renew([(mine, 1.into())]), [None], "the first one counts as a change");
    }

    #[test]
    fn a_change_is_not_overtaken_by_its_own_message() {
        let tickets = Tickets::new(&Chance::system());
        let mine = tickets.take(key("a"));
        tickets.void_heard(key("a"), 7.into());
        assert!(!tickets.is_valid(mine), "for a read it is a change");
        assert_eq!(tickets.renew([(mine, 8.into())]), [None], "it is another's");
        let renewed = tickets.renew([(mine, 7.into())])[0];
        assert!(renewed.is_some_and(|renewed| tickets.is_valid(renewed)));
    }

    #[test]
    fn a_change_is_overtaken_by_another_beside_its_own_message() {
        let tickets = Tickets::new(&Chance::system());
        let first = tickets.take(key("a"));
        tickets.void_heard(key("a"), 7.into());
        tickets.void(key("a"));
        assert_eq!(tickets.renew([(first, 7.into())]), [None]);
    }

    #[test]
    fn changes_that_share_a_stripe_are_alone_together_and_not_with_a_stranger() {
        let tickets = Tickets::new(&Chance::system());
        let first = tickets.take(key("a"));
        tickets.void(key("a"));
        tickets.void(key("a"));
        let second = tickets.take(key("a"));
        assert_eq!(Tickets::alone(&[(first, second), (first, second)]), [true, true]);
        assert_eq!(Tickets::alone(&[(first, second)]), [false], "one of the two was a stranger's");
    }

    #[test]
    fn what_is_heard_before_its_own_message_has_come_between() {
        let tickets = Tickets::new(&Chance::system());
        let renewed = tickets.take(key("a"));
        assert_eq!(tickets.was_alone(renewed, 7.into()), None);
        tickets.void_heard(key("a"), 7.into());
        assert_eq!(tickets.was_alone(renewed, 7.into()), Some(true));
        assert!(tickets.is_valid_after(renewed, 7.into()) && !tickets.is_valid_after(renewed, 8.into()));
        tickets.void(key("a"));
        assert!(!tickets.is_valid_after(renewed, 7.into()));
        let renewed = tickets.take(key("a"));
        tickets.void_heard(key("a"), 8.into());
        assert_eq!(tickets.was_alone(renewed, 9.into()), Some(false));
        tickets.void_heard(key("a"), 9.into());
        assert_eq!(tickets.was_alone(renewed, 9.into()), Some(false));
    }

    #[test]
    fn its_own_message_excuses_a_change_only_once() {
        let tickets = Tickets::new(&Chance::system());
        let mine = tickets.take(key("a"));
        tickets.void_heard(key("a"), 7.into());
        let renewed = tickets.renew([(mine, 7.into())])[0].expect("it heard itself");
        assert!(tickets.is_valid_after(renewed, 7.into()));
        assert_eq!(tickets.was_alone(renewed, 7.into()), Some(true));
        tickets.void(key("a"));
        assert!(!tickets.is_valid_after(renewed, 7.into()));
        assert_eq!(tickets.was_alone(renewed, 7.into()), Some(false));
    }

    #[test]
    fn a_message_that_is_on_its_way_in_is_not_taken_for_what_came_before_it() {
        let tickets = Tickets::new(&Chance::system());
        let mine = tickets.take(key("a"));
        tickets.void_heard(key("a"), 5.into());
        let stripe = &tickets.stripes[mine.stripe];
        stripe.count.fetch_add(1, Ordering::SeqCst);
        assert_eq!(tickets.renew([(mine, 7.into())]), [None], "between the two steps of hearing 7");
        stripe.heard.store(7, Ordering::SeqCst);
        assert_eq!(tickets.renew([(mine, 7.into())]), [None]);
    }

    #[test]
    fn what_has_no_number_is_never_heard() {
        let tickets = Tickets::new(&Chance::system());
        let renewed =
            tickets.renew([(tickets.take(key("a")), Version::ZERO)])[0].expect("nobody came between");
        assert_eq!(tickets.was_alone(renewed, Version::ZERO), None);
        assert!(!tickets.has_heard(key("a"), Version::ZERO));
    }

    #[test]
    fn voiding_all_voids_every_stripe() {
        let tickets = Tickets::new(&Chance::system());
        let texts: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
        let taken: Vec<Ticket> = texts.iter().map(|text| tickets.take(key(text))).collect();
        tickets.void_all();
        assert!(taken.iter().all(|&ticket| !tickets.is_valid(ticket)));
    }
}
