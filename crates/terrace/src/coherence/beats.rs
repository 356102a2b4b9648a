//! Which of this node's beats are under way, and what does one prove that comes back?
//!
//! 1. A beat proves something from when it was sent, not from when it came back.
//! 2. Beats that were sent over a connection that is lost prove nothing.
//! 3. The server does one thing after the other, and tells of it in that order. So a beat that was acknowledged before another one
//!    was sent comes back before that one, or is lost: messages may have been lost with it then, and no beat proves
//!    anything that was sent by then.
//! 4. A beat that another cache sent proves nothing here, although it may come over the same connection: it may have been
//!    sent before this cache's own. So each cache numbers its beats from a start of its own.

use std::collections::VecDeque;
use terrace_core::mutants::{self, Mutant};
use terrace_core::{Chance, Moment};

/// Beats under way that are remembered: while none comes back, there would be ever more.
const SENT_MAX: usize = 1024;

/// The beats under way.
pub(super) struct Beats {
    first: u64,
    pub(super) next: u64,
    /// Beats before this one were sent over a connection that is lost.
    pub(super) valid_from: u64,
    sent: VecDeque<Sent>,
    /// The last one that came back, and when.
    pub(super) back: u64,
    pub(super) back_at: Moment,
}

/// A beat that has not come back.
struct Sent {
    number: u64,
    at: Moment,
    /// The first beat that was sent after the server had acknowledged this one.
    followed_by: Option<u64>,
}

impl Beats {
    pub(super) fn new(chance: &Chance, now: Moment) -> Self {
        Self::from(first_number(chance), now)
    }

    fn from(first: u64, now: Moment) -> Self {
        Self { first, next: first, valid_from: first, sent: VecDeque::new(), back: 0, back_at: now }
    }

    pub(super) fn send(&mut self, now: Moment) -> u64 {
        let number = self.next;
        self.next += 1;
        if self.sent.len() == SENT_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back(Sent { number, at: now, followed_by: None });
        number
    }

    /// The server has acknowledged a beat.
    pub(super) fn acknowledged(&mut self, number: u64) {
        let next = self.next;
        if let Some(sent) = self.sent.iter_mut().find(|sent| sent.number == number) {
            sent.followed_by = Some(next);
        }
    }

    /// What the beat proves that is back.
    pub(super) fn returned(&mut self, number: u64, now: Moment) -> Returned {
        if !(self.first..self.next).contains(&number) {
            return Returned::Nothing;
        }
        let valid_from = self.valid_from;
        self.sent.retain(|sent| sent.number >= valid_from);
        let place = self.sent.iter().position(|sent| sent.number == number);
        let Some(sent) = place.and_then(|place| self.sent.remove(place)) else { return Returned::Nothing };
        self.back = self.back.max(number);
        self.back_at = now;
        if self.sent.iter().any(|lost| lost.followed_by.is_some_and(|next| next <= number)) {
            self.valid_from = self.next;
            return Returned::Alone;
        }
        Returned::Proof(if mutants::is(Mutant::TrustFromReturn) { now } else { sent.at })
    }
}

/// What a beat proves that is back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Returned {
    /// That all was heard that was published before this moment, when it was sent.
    Proof(Moment),
    /// That one before it was lost on its way.
    Alone,
    /// Nothing.
    Nothing,
}

/// Where a listener begins to count its beats: far from where others do, and from the end.
fn first_number(chance: &Chance) -> u64 {
    chance.number() >> 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use terrace_core::Clock;

    #[test]
    fn a_beat_of_another_cache_proves_nothing() {
        let clock = Clock::manual();
        let new = || Beats::new(&Chance::system(), clock.precise());
        let (mut ours, mut theirs) = (new(), new());
        let late = theirs.send(clock.precise());
        clock.advance(Duration::from_secs(10));
        let sent = clock.precise();
        let own = ours.send(sent);
        let returned = ours.returned(late, clock.precise());
        assert_eq!(returned, Returned::Nothing, "it was sent ten seconds before ours");
        assert_eq!(ours.returned(own, clock.precise()), Returned::Proof(sent));
    }

    #[test]
    fn a_beat_that_comes_back_without_the_one_before_proves_a_loss() {
        let clock = Clock::manual();
        let mut beats = Beats::from(1, clock.precise());
        let send = |beats: &mut Beats| beats.send(clock.precise());
        let lost = send(&mut beats);
        beats.acknowledged(lost);
        let [back, under_way] = [(); 2].map(|()| send(&mut beats));
        assert_eq!(beats.returned(back, clock.precise()), Returned::Alone);
        assert_eq!(
            beats.returned(under_way, clock.precise()),
            Returned::Nothing,
            "it was sent before that was known"
        );
        let next = send(&mut beats);
        assert_eq!(beats.returned(next, clock.precise()), Returned::Proof(clock.precise()));
    }

    #[test]
    fn a_beat_that_is_overtaken_is_not_lost_before_that_is_certain() {
        let clock = Clock::manual();
        let mut beats = Beats::from(1, clock.precise());
        let send = |beats: &mut Beats| beats.send(clock.precise());
        let (first, second) = (send(&mut beats), send(&mut beats));
        beats.acknowledged(first);
        assert_eq!(beats.returned(second, clock.precise()), Returned::Proof(clock.precise()));
        let (third, fourth) = (send(&mut beats), send(&mut beats));
        assert_eq!(beats.returned(first, clock.precise()), Returned::Proof(clock.precise()));
        beats.acknowledged(third);
        assert_eq!(beats.returned(fourth, clock.precise()), Returned::Proof(clock.precise()));
        let fifth = send(&mut beats);
        assert_eq!(beats.returned(fifth, clock.precise()), Returned::Alone, "the third is lost");
    }

    #[test]
    fn a_beat_of_a_connection_that_was_lost_is_not_missed() {
        let clock = Clock::manual();
        let mut beats = Beats::from(1, clock.precise());
        let lost = beats.send(clock.precise());
        beats.acknowledged(lost);
        beats.valid_from = beats.next;
        let next = beats.send(clock.precise());
        assert_eq!(beats.returned(next, clock.precise()), Returned::Proof(clock.precise()));
    }

    #[test]
    fn beats_that_never_come_back_take_no_more_and_more_room() {
        let clock = Clock::manual();
        let mut beats = Beats::from(1, clock.precise());
        for _ in 0..10 * SENT_MAX {
            beats.send(clock.precise());
        }
        assert_eq!(beats.sent.len(), SENT_MAX);
        assert_ne!(beats.returned(beats.next - 1, clock.precise()), Returned::Nothing);
    }
}
