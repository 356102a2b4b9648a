//! Which questions about copies wait to be asked?
//!
//! 1. A key waits once, with all who wait for its answer, until it is sent. One that was sent is no concern of this module.
//! 2. Each shard of L2 has a lane of its own: batches of [`BATCH_MAX`] keys, [`CALLS_MAX`] calls that are under way.
//! 3. At most [`WAITING_MAX`] keys wait. One more is refused.
//! 4. A waiter whose question is given up is told by the end of its channel.

use crate::read::Look;
use crate::telemetry::Event;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use terrace_core::Key;
use tokio::sync::oneshot;

/// Keys that are asked about in one call.
const BATCH_MAX: usize = 128;
/// Calls that are under way at a time, to one shard.
const CALLS_MAX: usize = 4;
/// Keys that wait to be asked about, of one namespace.
const WAITING_MAX: usize = 16_384;

/// What L2 said of a copy.
#[derive(Clone)]
pub(super) struct Verdict {
    pub(super) look: Look,
    pub(super) outcome: Event,
}

pub(super) const UNANSWERED: Verdict = Verdict { look: Look::Unknown, outcome: Event::ValidationUnanswered };

/// Who waits for what is said of one key.
pub(super) type Waiters = Vec<oneshot::Sender<Verdict>>;

/// The questions of one namespace that were not sent yet.
#[derive(Default)]
pub(crate) struct Questions(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    lanes: HashMap<u16, Lane>,
    /// Keys of all lanes.
    count: usize,
}

/// The questions for one shard.
#[derive(Default)]
struct Lane {
    order: VecDeque<Key>,
    waiters: HashMap<Key, Waiters>,
    calls: usize,
}

/// What becomes of a question.
pub(super) enum Put {
    /// It waits. Whether somebody has to begin to ask.
    Waits { is_first: bool },
    /// There is no room.
    Refused,
}

impl Questions {
    /// Adds a question, for `waiter` if anybody waits for the answer.
    pub(super) fn put(&self, shard: u16, key: &Key, waiter: Option<oneshot::Sender<Verdict>>) -> Put {
        let mut waiting = self.0.lock();
        let Waiting { lanes, count } = &mut *waiting;
        let has_room = *count < WAITING_MAX;
        let lane = lanes.entry(shard).or_default();
        if let Some(waiters) = lane.waiters.get_mut(key) {
            waiters.extend(waiter);
            return Put::Waits { is_first: false };
        }
        if !has_room {
            return Put::Refused;
        }
        *count += 1;
        lane.order.push_back(key.clone());
        lane.waiters.insert(key.clone(), waiter.into_iter().collect());
        let is_first = lane.calls < CALLS_MAX;
        lane.calls += usize::from(is_first);
        Put::Waits { is_first }
    }

    /// The questions to be asked next; `None` ends the turn of whoever asks.
    pub(super) fn take(&self, shard: u16) -> Option<Vec<(Key, Waiters)>> {
        let mut waiting = self.0.lock();
        let lane = waiting.lanes.get_mut(&shard)?;
        let keys = lane.order.drain(..lane.order.len().min(BATCH_MAX));
        let batch: Vec<_> = keys.filter_map(|key| lane.waiters.remove_entry(&key)).collect();
        waiting.count -= batch.len();
        if batch.is_empty() {
            waiting.end_turn(shard);
            return None;
        }
        Some(batch)
    }

    /// Gives up what waits for a shard.
    pub(super) fn give_up(&self, shard: u16) {
        self.0.lock().give_up(shard);
    }

    /// Ends the turn of whoever asks. The last one takes what waits with it.
    pub(super) fn end_turn(&self, shard: u16) {
        self.0.lock().end_turn(shard);
    }
}

impl Waiting {
    fn end_turn(&mut self, shard: u16) {
        let Some(lane) = self.lanes.get_mut(&shard) else { return };
        lane.calls -= 1;
        if lane.calls == 0 {
            self.give_up(shard);
            self.lanes.remove(&shard);
        }
    }

    fn give_up(&mut self, shard: u16) {
        if let Some(lane) = self.lanes.get_mut(&shard) {
            self.count -= lane.order.len();
            lane.order.clear();
            lane.waiters.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> Key {
        Key::new(&n.to_string()).expect("valid")
    }

    fn is_first(put: &Put) -> bool {
        matches!(put, Put::Waits { is_first: true })
    }

    fn count(questions: &Questions) -> usize {
        questions.0.lock().count
    }

    #[test]
    fn questions_about_one_key_are_one_until_it_is_sent() {
        let questions = Questions::default();
        let (first, second) = (oneshot::channel(), oneshot::channel());
        assert!(is_first(&questions.put(0, &key(1), Some(first.0))));
        assert!(!is_first(&questions.put(0, &key(1), Some(second.0))));
        let batch = questions.take(0).expect("something waits");
        assert_eq!((batch.len(), batch[0].1.len(), count(&questions)), (1, 2, 0));
        assert!(is_first(&questions.put(0, &key(1), None)), "the one that was sent is another");
    }

    #[test]
    fn calls_and_batches_and_room_are_bounded_for_each_shard_and_all() {
        let questions = Questions::default();
        let begun = (0..WAITING_MAX).filter(|n| is_first(&questions.put(0, &key(*n), None))).count();
        assert_eq!(begun, CALLS_MAX);
        assert!(matches!(questions.put(1, &key(WAITING_MAX), None), Put::Refused));
        assert!(matches!(questions.put(0, &key(0), None), Put::Waits { .. }), "it waits already");
        assert_eq!(questions.take(0).expect("they wait").len(), BATCH_MAX);
        assert!(is_first(&questions.put(1, &key(WAITING_MAX), None)), "another shard has calls of its own");
    }

    #[test]
    fn nobody_waits_for_a_call_that_has_failed_or_a_turn_that_is_over() {
        let questions = Questions::default();
        let (waiter, mut question) = oneshot::channel();
        questions.put(0, &key(1), Some(waiter));
        questions.give_up(0);
        assert!(question.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
        let (waiter, mut question) = oneshot::channel();
        questions.put(0, &key(2), Some(waiter));
        questions.end_turn(0);
        assert!(question.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty));
        questions.end_turn(0);
        assert!(question.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
        assert!(count(&questions) == 0 && questions.0.lock().lanes.is_empty());
        assert!(is_first(&questions.put(0, &key(2), None)));
        questions.take(0);
        assert!(questions.take(0).is_none() && questions.0.lock().lanes.is_empty());
    }
}
