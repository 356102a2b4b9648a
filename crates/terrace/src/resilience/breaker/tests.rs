//! The machine by hand, and against every short history and many long ones.

use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(time: Duration) -> Moment {
    Moment::from_nanos(1_000_000_000).plus(time)
}

fn small() -> Breaker {
    Breaker::default().min_calls(4).window(SECOND).open(SECOND).ramp(SECOND)
}

fn opened(chance: &Chance) -> Machine {
    let mut machine = Machine::new(small());
    while !machine.called(true, at(Duration::ZERO), chance) {}
    machine
}

#[test]
fn it_opens_by_share_and_not_before_enough_calls() {
    let chance = Chance::seeded(1);
    let mut machine = Machine::new(Breaker::default());
    let now = at(Duration::ZERO);
    assert!((0..19).all(|_| !machine.called(true, now, &chance)), "19 of 19 are too few");
    assert!(machine.called(true, now, &chance), "the 20th");
    let mut machine = Machine::new(Breaker::default());
    assert!((0..1_000).all(|_| !machine.called(false, now, &chance)));
    assert!((0..999).all(|_| !machine.called(true, now, &chance)), "less than half");
    assert!(machine.called(true, now, &chance), "half");
}

#[test]
fn a_success_does_not_open_it_though_its_share_is_high() {
    let chance = Chance::seeded(1);
    let mut machine = Machine::new(small());
    assert!((0..3).all(|_| !machine.called(true, at(Duration::ZERO), &chance)));
    assert!(!machine.called(false, at(Duration::ZERO), &chance));
    assert!(machine.called(true, at(Duration::ZERO), &chance));
}

#[test]
fn what_is_older_than_the_window_does_not_count() {
    let chance = Chance::seeded(1);
    let mut machine = Machine::new(small());
    for call in 0..100 {
        assert!(
            !machine.called(true, at(Duration::from_millis(340) * call), &chance),
            "three in each window"
        );
    }
}

#[test]
fn it_is_probed_after_half_to_all_of_its_time_and_closes_with_a_ramp() {
    for seed in 0..100 {
        let chance = Chance::seeded(seed);
        let mut machine = opened(&chance);
        assert_eq!(machine.probe(at(Duration::from_nanos(499_999_999))), None, "too early");
        let probe = machine.probe(at(SECOND)).expect("it is time");
        assert_eq!(machine.probe(at(SECOND * 9)), None, "one at a time");
        machine.probed(probe, true, at(SECOND), &chance);
        assert_eq!(machine.state(), BreakerState::Closed);
        assert_eq!(machine.share(at(SECOND)), Some(SHARE_MIN));
        assert_eq!(machine.share(at(SECOND * 3 / 2)), Some(0.5));
        assert_eq!(machine.share(at(SECOND * 2)), None);
    }
    let waits: std::collections::BTreeSet<_> =
        (0..100).map(|seed| opened(&Chance::seeded(seed)).until_probe(at(Duration::ZERO))).collect();
    assert!(waits.len() > 90, "nodes come back at different times");
}

#[test]
fn a_clock_that_goes_back_does_not_keep_it_open() {
    let chance = Chance::seeded(1);
    let mut machine = opened(&chance);
    assert!(machine.until_probe(Moment::from_nanos(0)).expect("it is open") <= SECOND);
    let probe = machine.probe(Moment::NEVER).expect("a jump ahead is over its time");
    machine.probed(probe, false, Moment::from_nanos(0), &chance);
    assert!(machine.until_probe(Moment::from_nanos(0)).expect("it is open") <= SECOND);
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let refused = |breaker: Breaker| breaker.check().expect_err("refused").setting;
    for share in [0.0, -0.5, 1.01, f64::NAN, f64::INFINITY] {
        assert_eq!(refused(Breaker::default().failures(share)), "breaker.failures");
    }
    assert_eq!(refused(Breaker::default().window(Duration::from_millis(99))), "breaker.window");
    assert_eq!(refused(Breaker::default().min_calls(0)), "breaker.min_calls");
    assert_eq!(refused(Breaker::default().open(Duration::ZERO)), "breaker.open");
    assert_eq!(refused(Breaker::default().slow(Duration::ZERO)), "breaker.slow");
    assert_eq!(refused(Breaker::default().ramp(Duration::MAX)), "breaker.ramp");
    assert_eq!(Breaker::default().failures(1.0).ramp(Duration::ZERO).check(), Ok(()));
}

/// What can happen to the machine.
#[derive(Clone, Copy, Debug)]
enum Doing {
    Call(bool),
    /// Time goes on; or back, if it is negative.
    Pass(i64),
    Begin,
    End(bool),
}

/// A machine, and what has to hold of it.
#[derive(Clone)]
struct Model {
    machine: Machine,
    chance: Chance,
    now: u64,
    probes: u32,
}

impl Model {
    fn new(settings: Breaker) -> Self {
        Self { machine: Machine::new(settings), chance: Chance::seeded(7), now: 1 << 40, probes: 0 }
    }

    fn now(&self) -> Moment {
        Moment::from_nanos(self.now)
    }

    fn step(&mut self, step: Doing) {
        let before = self.machine.state();
        match step {
            Doing::Call(is_failure) => {
                let opens = self.machine.called(is_failure, self.now(), &self.chance);
                assert_eq!(
                    opens,
                    before == BreakerState::Closed && self.machine.state() == BreakerState::Open
                );
                assert!(!opens || is_failure);
            }
            Doing::Pass(nanos) => self.now = self.now.saturating_add_signed(nanos),
            Doing::Begin => {
                if let Some(Probe(())) = self.machine.probe(self.now()) {
                    assert_eq!(before, BreakerState::Open);
                    self.probes += 1;
                }
            }
            Doing::End(is_well) => {
                if self.probes > 0 {
                    self.probes -= 1;
                    self.machine.probed(Probe(()), is_well, self.now(), &self.chance);
                    let expected = if is_well { BreakerState::Closed } else { BreakerState::Open };
                    assert_eq!(self.machine.state(), expected);
                }
            }
        }
        self.check();
    }

    fn check(&self) {
        assert!(self.probes <= 1, "one probe at a time");
        assert_eq!(self.probes == 1, self.machine.state() == BreakerState::HalfOpen);
        let share = self.machine.share(self.now()).unwrap_or(1.0);
        assert!((0.0..=1.0).contains(&share));
        assert_eq!(share > 0.0, self.machine.state() == BreakerState::Closed);
        self.clone().recover();
    }

    /// From here it closes, at the latest with the second probe, without more waiting than `open`.
    fn recover(mut self) {
        if self.probes == 1 {
            self.machine.probed(Probe(()), false, self.now(), &self.chance);
        }
        let longest = self.machine.settings.open;
        if let Some(wait) = self.machine.until_probe(self.now()) {
            assert!(wait <= longest, "{wait:?}");
            // As the prober does: by the clock or by what it slept, whichever is more.
            let slept = self.now().plus(wait);
            let probe = self.machine.probe(slept).or_else(|| self.machine.probe(Moment::NEVER));
            self.machine.probed(probe.expect("its time is over"), true, slept, &self.chance);
        }
        assert_eq!(self.machine.state(), BreakerState::Closed);
    }
}

/// Every history of so many steps more.
fn explore(model: &Model, steps: &[Doing], depth: u32, seen: &mut u64) {
    *seen += 1;
    for step in steps.iter().filter(|_| depth > 0) {
        let mut next = model.clone();
        next.chance = Chance::seeded(*seen);
        next.step(*step);
        explore(&next, steps, depth - 1, seen);
    }
}

#[test]
fn every_history_of_seven_steps_holds_what_is_promised() {
    let half = i64::try_from(SECOND.as_nanos() / 2).expect("it fits");
    let steps = [
        Doing::Call(true),
        Doing::Call(false),
        Doing::Pass(half),
        Doing::Pass(-half),
        Doing::Begin,
        Doing::End(true),
        Doing::End(false),
    ];
    let mut seen = 0;
    explore(&Model::new(small().min_calls(2)), &steps, 7, &mut seen);
    let mut seen_open = 0;
    let mut open = Model::new(small().min_calls(1));
    open.step(Doing::Call(true));
    explore(&open, &steps, 7, &mut seen_open);
    println!("{} histories", seen + seen_open);
}

fn steps() -> impl Strategy<Value = Vec<Doing>> {
    let step = prop_oneof![
        6 => any::<bool>().prop_map(Doing::Call),
        3 => (-5_000_000_000..5_000_000_000_i64).prop_map(Doing::Pass),
        1 => any::<i64>().prop_map(Doing::Pass),
        2 => Just(Doing::Begin),
        1 => any::<bool>().prop_map(Doing::End),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #[test]
    fn long_histories_with_jumping_clocks_hold_what_is_promised(steps in steps(), min_calls in 1..5_u32) {
        let mut model = Model::new(small().min_calls(min_calls).failures(0.3));
        for step in steps {
            model.step(step);
        }
    }
}
