//! What does the server's clock say, at the least, at a moment of ours?
//!
//! A call that is void from some time of the server on takes no effect after its caller has given it up, if the server's clock
//! certainly says no less when the caller does. An exchange that was sent at `s`, came back at `r` and told the server's
//! time `τ` bounds what that clock says at a moment `t`: it is between τ + (t − r) and τ + (t − s). The lesser counts.
//!
//! 1. [`ServerClock::earliest`] is never more than the server's clock says then, if neither clock gains more than one part in
//!    [`DRIFT`] on the other, and the server's is not set back after the exchange that it is counted from.
//! 2. Of several exchanges that one is counted from which tells most, for [`KEPT`] at most. One that contradicts it takes its place
//!    at once: the server's clock was set.
//! 3. So a clock that is set back by less than an exchange takes may go unseen for [`KEPT`] and the pause between two exchanges.
//!    A call of that time may take effect later than its caller gave it up, by as much as the clock was set back, and
//!    no more.

use super::ServerTime;
use crate::clock::Moment;
use std::time::Duration;

/// Clocks are slewed by at most one part in two thousand, each.
const DRIFT: u64 = 1000;
/// How long an exchange is counted from.
const KEPT: Duration = Duration::from_secs(1);

/// What is known of the clock of one server, as seen from this process over one connection.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use terrace_core::Clock;
/// use terrace_core::remote::{ServerClock, ServerTime};
/// let clock = Clock::manual();
/// let mut server = ServerClock::default();
/// assert_eq!(server.earliest(clock.precise()), None);
/// let sent = clock.precise();
/// clock.advance(Duration::from_millis(2));
/// server.note(sent, ServerTime(5_000_000), clock.precise());
/// let deadline = server.earliest(clock.precise().plus(Duration::from_secs(1)));
/// assert!(deadline.is_some_and(|deadline| (5_998_000..6_000_000).contains(&deadline.0)));
/// ```
#[derive(Clone, Copy, Default, Debug)]
pub struct ServerClock(Option<Exchange>);

#[derive(Clone, Copy, Debug)]
struct Exchange {
    sent: Moment,
    told: u64,
    received: Moment,
}

impl ServerClock {
    /// The server told its time in an exchange that was sent and came back at these moments.
    pub fn note(&mut self, sent: Moment, told: ServerTime, received: Moment) {
        let new = Exchange { sent, told: told.0, received };
        let is_worse = |old: &Exchange| {
            received.since(old.received) < KEPT && old.allows(&new) && old.earliest(received) > new.told
        };
        if !self.0.as_ref().is_some_and(is_worse) {
            self.0 = Some(new);
        }
    }

    /// What the server's clock says at the least at a moment, which may be one to come; `None` if it never told.
    pub fn earliest(&self, at: Moment) -> Option<ServerTime> {
        self.0.map(|exchange| ServerTime(exchange.earliest(at)))
    }
}

impl Exchange {
    fn earliest(&self, at: Moment) -> u64 {
        let (after, before) = (micros(at.since(self.received)), micros(self.received.since(at)));
        (self.told + after).saturating_sub(before + allowance(after + before))
    }

    fn latest(&self, at: Moment) -> u64 {
        let (after, before) = (micros(at.since(self.sent)), micros(self.sent.since(at)));
        (self.told + after + allowance(after + before)).saturating_sub(before)
    }

    /// Whether what another exchange has told can be so, if the clock was not set in between.
    fn allows(&self, other: &Self) -> bool {
        (self.earliest(other.sent)..=self.latest(other.received)).contains(&other.told)
    }
}

/// What the clocks may have gained on each other meanwhile, and what was rounded off.
const fn allowance(micros: u64) -> u64 {
    micros / DRIFT + 2
}

/// No more than a few centuries, so that sums with the time of day are numbers.
fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX).min(1 << 53)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BEGIN: u64 = 1_000_000_000_000;

    fn at(micros: u64) -> Moment {
        Moment::from_nanos(micros * 1000)
    }

    /// Notes an exchange that the server answered on its way, whose clock says so much more than ours.
    fn exchange(clock: &mut ServerClock, (sent, there, back): (u64, u64, u64), ahead: u64) {
        clock.note(at(sent), ServerTime(BEGIN + sent + there + ahead), at(sent + there + back));
    }

    fn earliest(clock: &ServerClock, moment: u64) -> u64 {
        clock.earliest(at(moment)).expect("it has told").0
    }

    #[test]
    fn the_way_back_is_what_is_not_known() {
        let mut clock = ServerClock::default();
        exchange(&mut clock, (1_000, 40_000, 500), 0);
        assert_eq!(earliest(&clock, 41_500), BEGIN + 41_000 - 2);
        assert_eq!(
            earliest(&clock, 1_041_500),
            BEGIN + 1_041_000 - 1_002,
            "a thousandth of a second is allowed for"
        );
        assert_eq!(earliest(&clock, 1_500), BEGIN + 1_000 - 42, "a moment that has passed");
    }

    #[test]
    fn a_slow_exchange_takes_no_place_until_the_quick_one_is_old() {
        let mut clock = ServerClock::default();
        exchange(&mut clock, (0, 100, 100), 0);
        exchange(&mut clock, (250_000, 100, 400_000), 0);
        assert!(earliest(&clock, 700_000) > BEGIN + 699_000);
        exchange(&mut clock, (900_000, 100, 300_000), 0);
        assert_eq!(earliest(&clock, 1_200_100), BEGIN + 900_100 - 2);
    }

    #[test]
    fn a_clock_that_was_set_is_seen_at_once() {
        for ahead in [0, 2_000_000] {
            let mut clock = ServerClock::default();
            exchange(&mut clock, (0, 100, 100), 1_000_000);
            exchange(&mut clock, (250_000, 100, 100), ahead);
            assert_eq!(earliest(&clock, 250_200), BEGIN + 250_100 + ahead - 2);
        }
    }

    proptest! {
        /// Whatever was told in whichever exchanges, and however the clocks drift within what is allowed.
        #[test]
        fn it_never_says_more_than_the_server(
            exchanges in prop::collection::vec((0..2_000_000_u64, 0..500_000_u64, 0..500_000_u64), 1..20),
            gains in -900_i64..900,
            until in 0..4_000_000_u64,
        ) {
            let server = |ours: u64| BEGIN + ours.strict_add_signed(i64::try_from(ours).unwrap() * gains / 1_000_000);
            let (mut clock, mut now) = (ServerClock::default(), 0);
            for (pause, there, back) in exchanges {
                let (sent, reached) = (now + pause, now + pause + there);
                now = reached + back;
                clock.note(at(sent), ServerTime(server(reached)), at(now));
                prop_assert!(earliest(&clock, now + until) <= server(now + until));
            }
        }
    }
}
