//! What waits for an origin that is left alone: it comes when that may be asked again, a batch of it first, and however often it was refused.

use crate::behind::counters::Counters;
use crate::behind::queue::{Committed, Queue, Settling};
use crate::behind::record::Record;
use crate::behind::{LaneOptions, Operation, Outcome, Write};
use std::sync::Arc;
use std::time::Duration;
use terrace_core::{Chance, Clock, Moment};

const BATCH: usize = 10;
const BACKOFF_MIN: Duration = Duration::from_mins(1);
const AGAIN: Duration = Duration::from_secs(2);

/// A queue in which so many keys have a write that may be sent, and its time.
struct Waiting {
    queue: Queue,
    counters: Counters,
    clock: Clock,
}

impl Waiting {
    fn with(keys: u64) -> Self {
        let options =
            LaneOptions::default().backoff(BACKOFF_MIN, 60 * BACKOFF_MIN).batch_max(BATCH).attempts_max(50);
        let (mut queue, counters, clock) = (Queue::new("space".into()), Counters::default(), Clock::manual());
        queue.options = Some(options);
        let mut waiting = Self { queue, counters, clock };
        for number in 1..=keys {
            waiting.write(number, number);
        }
        waiting
    }

    /// Takes in a write of a key, which may be sent, and gives its number.
    fn write(&mut self, number: u64, key: u64) -> u64 {
        let key = format!("k{key}").into();
        let record = Arc::new(Record::new(number, "space".into(), key, Operation::Store("v".into()), number));
        let now = self.now();
        self.queue.accept(Arc::clone(&record), now, true, false);
        let committed = Committed { record: &record, is_in_file: true };
        self.queue.commit(committed, now, &self.counters, &mut Vec::new());
        self.queue.force();
        number
    }

    fn now(&self) -> Moment {
        self.clock.precise()
    }

    fn take(&mut self) -> Vec<Write> {
        let now = self.now();
        self.queue.take(now, 1, &self.counters)
    }

    fn settle(&mut self, batch: &[Write], outcome: &Outcome) {
        self.settle_each(batch, &vec![outcome.clone(); batch.len()]);
    }

    fn settle_each(&mut self, batch: &[Write], outcomes: &[Outcome]) {
        let (now, chance, mut notes) = (self.now(), Chance::seeded(7), Vec::new());
        let mut settling = Settling {
            now,
            chance: &chance,
            room_for_dead: 99,
            counters: &self.counters,
            notes: &mut notes,
            failed_with: None,
            journal: 1,
            letters: Vec::new(),
        };
        self.queue.settle(batch, outcomes, &mut settling);
    }

    /// Refuses all that may be sent now, and gives how many that are.
    fn refuse_all(&mut self) -> usize {
        let mut count = 0;
        loop {
            let batch = self.take();
            if batch.is_empty() {
                return count;
            }
            count += batch.len();
            self.settle(&batch, &left_alone());
        }
    }

    /// How long until it is to be looked at again.
    fn wait(&self) -> Duration {
        self.queue.wake_at().expect("something waits").since(self.now())
    }
}

fn left_alone() -> Outcome {
    Outcome::LeftAlone { reason: "the breaker is open".to_owned(), again: AGAIN }
}

#[test]
fn what_is_refused_again_and_again_waits_no_longer_for_it_and_it_costs_no_attempt() {
    let mut waiting = Waiting::with(1);
    for _ in 0..20 {
        let batch = waiting.take();
        assert_eq!(batch.iter().map(|write| write.attempt).collect::<Vec<_>>(), [1]);
        waiting.settle(&batch, &left_alone());
        assert_eq!(waiting.wait(), AGAIN);
        assert!(waiting.take().is_empty(), "it rests");
        assert!(waiting.queue.is_settled(1), "a flush does not wait for it");
        waiting.clock.advance(AGAIN);
    }
    let batch = waiting.take();
    waiting.settle(&batch, &Outcome::Failed("no".to_owned()));
    assert!(waiting.wait() <= BACKOFF_MIN, "{:?} after its first failure", waiting.wait());
    waiting.clock.advance(waiting.wait());
    let batch = waiting.take();
    waiting.settle(&batch, &left_alone());
    waiting.clock.advance(AGAIN);
    let batch = waiting.take();
    waiting.settle(&batch, &Outcome::Unavailable("no connection".to_owned()));
    let wait = waiting.wait();
    assert!(wait >= BACKOFF_MIN && wait <= 2 * BACKOFF_MIN, "{wait:?} after its second");
    assert_eq!(waiting.counters.figures().parked, 1, "it fails all the time");
}

#[test]
fn a_key_whose_writes_were_refused_is_flushed_again_once_one_gets_there() {
    let mut waiting = Waiting::with(1);
    let batch = waiting.take();
    waiting.settle(&batch, &left_alone());
    let next = waiting.write(2, 1);
    assert!(waiting.queue.is_settled(next), "nor does a flush wait for what is behind it");
    waiting.clock.advance(AGAIN);
    let batch = waiting.take();
    waiting.settle(&batch, &Outcome::Stored);
    let last = waiting.write(3, 1);
    assert!(!waiting.queue.is_settled(last), "a flush waits for it");
    let batch = waiting.take();
    waiting.settle(&batch, &Outcome::Refused("never".to_owned()));
    assert_eq!((waiting.queue.len(), waiting.queue.is_settled(last)), (0, true));
}

#[test]
fn what_has_failed_for_long_comes_as_soon_as_the_rest_once_the_origin_is_left_alone() {
    let mut waiting = Waiting::with(1);
    for _ in 0..6 {
        let batch = waiting.take();
        assert_eq!(batch.len(), 1);
        waiting.settle(&batch, &Outcome::Unavailable("no connection".to_owned()));
        waiting.clock.advance(waiting.wait());
    }
    let batch = waiting.take();
    waiting.settle(&batch, &left_alone());
    assert_eq!(waiting.wait(), AGAIN);
}

#[test]
fn one_batch_asks_whether_the_origin_is_back_and_the_rest_follows_if_it_is() {
    let mut waiting = Waiting::with(95);
    assert_eq!(waiting.refuse_all(), 95, "each is parked, so that no flush waits for it");
    for _ in 0..5 {
        waiting.clock.advance(AGAIN);
        assert_eq!(waiting.refuse_all(), BATCH, "the others are not tried in vain");
        assert_eq!(waiting.wait(), AGAIN);
    }
    waiting.clock.advance(AGAIN);
    let mut stored = 0;
    loop {
        let batch = waiting.take();
        if batch.is_empty() {
            break;
        }
        stored += batch.len();
        waiting.settle(&batch, &Outcome::Stored);
    }
    assert_eq!((stored, waiting.queue.len()), (95, 0), "all at once");
}

#[test]
fn one_that_gets_there_lets_the_rest_go_also_where_others_of_its_batch_were_refused_meanwhile() {
    for there in [Outcome::Stored, Outcome::Held("somebody is to be told".to_owned())] {
        for first in [true, false] {
            let mut waiting = Waiting::with(25);
            assert_eq!(waiting.refuse_all(), 25);
            waiting.clock.advance(AGAIN);
            let batch = waiting.take();
            assert_eq!(batch.len(), BATCH);
            let mut outcomes = vec![left_alone(); BATCH];
            outcomes[if first { 0 } else { BATCH - 1 }] = there.clone();
            waiting.settle_each(&batch, &outcomes);
            let batch = waiting.take();
            assert_eq!(batch.len(), BATCH, "{there:?}, first: {first}: their time is over");
            waiting.settle(&batch, &Outcome::Stored);
            assert_eq!(waiting.take().len(), 5);
        }
    }
}
