//! Which of this node's beats are under way, and what does one prove that comes back?
//!
//! 1. A beat proves something from when it was sent, not from when it came back.
//! 2. Beats that were sent over a connection that is lost prove nothing.
//! 3. A beat that another cache sent proves nothing here, although it may come over the same connection: it may have been
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
    sent: VecDeque<(u64, Moment)>,
    /// The last one that came back, and when.
    pub(super) back: u64,
    pub(super) back_at: Moment,
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
        self.sent.push_back((number, now));
        number
    }

    /// When the beat that is back was sent, if it proves anything.
    pub(super) fn returned(&mut self, number: u64, now: Moment) -> Option<Moment> {
        if !(self.first..self.next).contains(&number) {
            return None;
        }
        let mut sent_at = None;
        while let Some((_, at)) = self.sent.pop_front_if(|(sent, _)| *sent <= number) {
            sent_at = Some(at);
        }
        if number < self.valid_from {
            return None;
        }
        self.back = self.back.max(number);
        self.back_at = now;
        if mutants::is(Mutant::TrustFromReturn) { sent_at.map(|_| now) } else { sent_at }
    }
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
        assert_eq!(ours.returned(late, clock.precise()), None, "it was sent ten seconds before ours");
        assert_eq!(ours.returned(own, clock.precise()), Some(sent));
    }

    #[test]
    fn beats_that_never_come_back_take_no_more_and_more_room() {
        let clock = Clock::manual();
        let mut beats = Beats::from(1, clock.precise());
        for _ in 0..10 * SENT_MAX {
            beats.send(clock.precise());
        }
        assert_eq!(beats.sent.len(), SENT_MAX);
        assert!(beats.returned(beats.next - 1, clock.precise()).is_some());
    }
}
