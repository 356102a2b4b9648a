//! Who waits here for somebody else's load, and how they learn that it has ended.
//!
//! 1. Whoever waits is registered before the lease is asked for, so no end is missed that comes after the answer.
//! 2. Being woken proves nothing: whoever wakes asks again. An end that is not heard of costs a longer wait.
//! 3. Where nobody waits, hearing of an end, or of a change, costs one look at a number.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use terrace_core::Key;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// The keys of one namespace whose loads by others are waited for.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    count: AtomicUsize,
    keys: Mutex<HashMap<Key, Awaited>>,
}

#[derive(Debug, Default)]
struct Awaited {
    waiters: usize,
    ended: Arc<Notify>,
}

impl Waiting {
    /// Waits for a key until the value is dropped.
    pub(crate) fn begin<'a>(&'a self, key: &'a Key) -> Waiter<'a> {
        self.count.fetch_add(1, Ordering::SeqCst);
        let mut keys = self.keys.lock();
        let awaited = keys.entry(key.clone()).or_default();
        awaited.waiters += 1;
        Waiter { waiting: self, key, ended: Arc::clone(&awaited.ended) }
    }

    /// Wakes those who wait for this key.
    pub(crate) fn wake(&self, key: &Key) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        if let Some(awaited) = self.keys.lock().get(key) {
            awaited.ended.notify_waiters();
        }
    }
}

/// One who waits.
#[derive(Debug)]
pub(crate) struct Waiter<'a> {
    waiting: &'a Waiting,
    key: &'a Key,
    ended: Arc<Notify>,
}

impl Waiter<'_> {
    /// Ends when the load does, if that is heard of after this was called.
    pub(crate) fn ended(&self) -> OwnedNotified {
        Arc::clone(&self.ended).notified_owned()
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut keys = self.waiting.keys.lock();
        if let Some(awaited) = keys.get_mut(self.key) {
            awaited.waiters -= 1;
            if awaited.waiters == 0 {
                keys.remove(self.key);
            }
        }
        drop(keys);
        self.waiting.count.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn only_those_are_woken_who_wait_for_the_key() {
        let waiting = Waiting::default();
        let [one, other] = ["one", "other"].map(|key| Key::new(key).expect("valid"));
        waiting.wake(&one);
        let (first, second, stranger) = (waiting.begin(&one), waiting.begin(&one), waiting.begin(&other));
        let [first_ended, second_ended, not_ended] = [&first, &second, &stranger].map(Waiter::ended);
        waiting.wake(&one);
        assert!(first_ended.now_or_never().is_some() && second_ended.now_or_never().is_some());
        assert!(not_ended.now_or_never().is_none());
        drop((first, second, stranger));
        assert!(waiting.keys.lock().is_empty());
    }
}
