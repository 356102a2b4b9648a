//! The breaker of an origin, by a clock that stands still: what opens it, who probes it, and what closes it.

use super::*;

fn breaker() -> (OriginBreaker, Clock) {
    let clock = Clock::manual();
    let settings = Breaker::default().min_calls(4).open(Duration::from_secs(2));
    (OriginBreaker::new("main", settings, clock.clone()).expect("valid"), clock)
}

fn opened() -> (OriginBreaker, Clock) {
    let (breaker, clock) = breaker();
    for _ in 0..4 {
        breaker.begin().expect("it is closed").end(true);
    }
    assert_eq!(breaker.health().state, BreakerState::Open);
    (breaker, clock)
}

#[test]
fn what_succeeds_or_is_given_up_does_not_open_it() {
    let (breaker, _) = breaker();
    for round in 0..40 {
        let call = breaker.begin().expect("it is closed");
        match round % 4 {
            3 => call.end(true),
            0 => drop(call),
            _ => call.end(false),
        }
    }
    let health = breaker.health();
    assert_eq!((health.state, health.calls, health.failures), (BreakerState::Closed, 30, 10));
}

#[test]
fn what_is_given_up_late_has_failed_and_what_was_not_made_says_nothing() {
    for is_made in [true, false] {
        let (breaker, clock) = breaker();
        let calls: Vec<OriginCall> = (0..4).map(|_| breaker.begin().expect("it is closed")).collect();
        clock.advance(GIVEN_UP_MIN);
        for call in calls {
            if is_made { drop(call) } else { call.not_made() }
        }
        let expected = if is_made { BreakerState::Open } else { BreakerState::Closed };
        assert_eq!(breaker.health().state, expected);
    }
}

#[test]
fn one_call_probes_after_its_time_and_the_others_wait_for_what_it_came_to() {
    let (breaker, clock) = opened();
    let wait = breaker.begin().expect_err("it is open");
    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(2), "{wait:?}");
    clock.advance(Duration::from_secs(2));
    let probe = breaker.begin().expect("it is time");
    assert!(breaker.begin().is_err(), "one at a time");
    probe.end(false);
    breaker.begin().expect("it is closed").end(false);
    assert_eq!(breaker.health().transitions.map(|(_, times)| times), [1, 1, 1]);
    assert_eq!(breaker.health().rejected, 2);
}

#[test]
fn what_began_before_an_opening_says_nothing_after_a_closing() {
    for ends in [true, false] {
        let (breaker, clock) = breaker();
        let old: Vec<OriginCall> = (0..8).map(|_| breaker.begin().expect("it is closed")).collect();
        for _ in 0..4 {
            breaker.begin().expect("it is closed").end(true);
        }
        clock.advance(Duration::from_secs(2));
        breaker.begin().expect("it is time").end(false);
        for call in old {
            if ends { call.end(true) } else { drop(call) }
        }
        let health = breaker.health();
        assert_eq!((health.state, health.calls, health.failures), (BreakerState::Closed, 13, 12));
        for _ in 0..4 {
            breaker.begin().expect("it is closed").end(true);
        }
        assert_eq!(breaker.health().state, BreakerState::Open, "what began since counts");
    }
}

fn say(breaker: &OriginBreaker, thing: &str, is_failure: bool) {
    breaker.begin_for(thing).expect("it may be asked").end(is_failure);
}

#[test]
fn one_thing_that_fails_again_and_again_counts_once_in_a_window_while_another_succeeds() {
    let (breaker, clock) = breaker();
    say(&breaker, "well", false);
    for _ in 0..100 {
        say(&breaker, "a", true);
    }
    for thing in ["b", "a"] {
        say(&breaker, thing, true);
    }
    let health = breaker.health();
    assert_eq!((health.state, health.failures), (BreakerState::Closed, 102), "two things");
    clock.advance(Breaker::WINDOW_DEFAULT);
    say(&breaker, "well", false);
    for thing in ["a", "a", "b"] {
        say(&breaker, thing, true);
    }
    assert_eq!(breaker.health().state, BreakerState::Closed, "two things of another window");
    say(&breaker, "c", true);
    assert_eq!(breaker.health().state, BreakerState::Open);
}

#[test]
fn one_thing_that_fails_while_nothing_else_succeeds_counts_each_time() {
    let until_open = |breaker: &OriginBreaker| {
        let fails = |_: &u32| {
            say(breaker, "a", true);
            breaker.health().state == BreakerState::Open
        };
        (1..=9).find(fails)
    };
    let (alone, _) = breaker();
    assert_eq!(until_open(&alone), Some(4), "nothing else was asked for");
    let (itself, _) = breaker();
    say(&itself, "a", false);
    assert_eq!(until_open(&itself), Some(3), "that it succeeded itself counts as a call, and no more");
    let (other, clock) = breaker();
    say(&other, "b", false);
    say(&other, "a", false);
    clock.advance(Breaker::WINDOW_DEFAULT.saturating_sub(Duration::from_nanos(1)));
    say(&other, "a", false);
    assert_eq!(until_open(&other), None, "another succeeded in the window");
    clock.advance(Duration::from_nanos(1));
    assert!(until_open(&other).is_some(), "and no longer");
    let (many, _) = breaker();
    many.begin().expect("it is closed").end(false);
    assert_eq!(until_open(&many), None, "what is for no one thing is another");
}

#[test]
fn that_it_was_not_reached_or_given_up_late_counts_by_what_it_says() {
    let (breaker, clock) = breaker();
    say(&breaker, "b", false);
    for _ in 0..4 {
        let call = breaker.begin_for("a").expect("it is closed");
        clock.advance(GIVEN_UP_MIN);
        drop(call);
    }
    assert_eq!(breaker.health().state, BreakerState::Closed, "one thing");
    for _ in 0..2 {
        breaker.begin_for("a").expect("it is closed").unreachable();
    }
    assert_eq!(breaker.health().state, BreakerState::Open);
}

/// One that was opened, and probed in vain for these things.
fn blaming(things: &[&str]) -> (OriginBreaker, Clock) {
    let (breaker, clock) = opened();
    for thing in things {
        clock.advance(Duration::from_secs(2));
        say(&breaker, thing, true);
    }
    clock.advance(Duration::from_secs(2));
    (breaker, clock)
}

#[test]
fn a_thing_whose_probe_failed_leaves_the_next_to_others() {
    let (breaker, _) = blaming(&["a", "b"]);
    for thing in ["a", "b"] {
        let wait = breaker.begin_for(thing).expect_err("others come first");
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(2), "{wait:?}");
    }
    say(&breaker, "c", false);
    assert_eq!(breaker.health().state, BreakerState::Closed);
    say(&breaker, "a", false);
    let (breaker, _) = blaming(&["a"]);
    breaker.begin().expect("what is for no one thing is another").end(false);
}

#[test]
fn a_thing_that_is_asked_for_alone_is_probed_in_the_end() {
    let (breaker, clock) = blaming(&["a"]);
    let wait = breaker.begin_for("a").expect_err("others come first");
    clock.advance(wait.saturating_sub(Duration::from_nanos(1)));
    assert!(breaker.begin_for("a").is_err(), "not yet");
    clock.advance(Duration::from_nanos(1));
    say(&breaker, "a", false);
    assert_eq!(breaker.health().state, BreakerState::Closed);
}

#[test]
fn a_probe_that_reached_nothing_or_was_not_made_blames_nothing() {
    for is_made in [true, false] {
        let (breaker, clock) = opened();
        clock.advance(Duration::from_secs(2));
        let probe = breaker.begin_for("a").expect("it is time");
        if is_made {
            probe.unreachable();
        } else {
            probe.not_made();
        }
        assert_eq!(breaker.health().state, BreakerState::Open);
        clock.advance(Duration::from_secs(2));
        say(&breaker, "a", false);
    }
}

#[test]
fn it_is_half_open_from_when_somebody_may_ask() {
    let (breaker, clock) = opened();
    clock.advance(Duration::from_secs(9));
    let health = breaker.health();
    assert_eq!((health.state, health.transitions[2]), (BreakerState::HalfOpen, (BreakerState::HalfOpen, 0)));
    let (least, most) = (Duration::from_secs(7), Duration::from_secs(8));
    assert!(health.lasting >= least && health.lasting <= most, "{health:?}");
    let probe = breaker.begin().expect("it is time");
    assert_eq!(breaker.health().state, BreakerState::HalfOpen);
    probe.end(true);
    assert_eq!(breaker.health().state, BreakerState::Open);
}

#[test]
fn a_probe_that_fails_or_is_given_up_opens_it_again() {
    for is_given_up in [false, true] {
        let (breaker, clock) = opened();
        clock.advance(Duration::from_secs(2));
        let probe = breaker.begin().expect("it is time");
        if is_given_up {
            drop(probe);
        } else {
            probe.end(true);
        }
        assert_eq!(breaker.health().state, BreakerState::Open);
        assert!(breaker.begin().is_err());
        clock.advance(Duration::from_secs(2));
        assert!(breaker.begin().is_ok());
    }
}
