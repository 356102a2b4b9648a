//! In which order do changes of one key reach the origin and the tiers?
//!
//! 1. On one node, one after the other: whoever changes a key at the origin holds its place until the tiers have the change too.
//! 2. A change of many keys takes its places in the order of the keys, so that no two wait for each other.
//! 3. So many wait for a key at most ([`WAITING_MAX`]); one more is told that it is busy.
//! 4. A key is remembered while somebody holds its place, or waits for it.

use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use terrace_core::Key;
use tokio::sync::OwnedMutexGuard;

/// Changes that wait for one key.
const WAITING_MAX: usize = 1024;

/// Too many wait for a key, or it takes too long.
#[derive(Debug)]
pub(crate) struct Busy;

type Place = Arc<tokio::sync::Mutex<()>>;

/// The keys of one namespace that are being changed.
#[derive(Debug, Default)]
pub(crate) struct Order {
    places: Mutex<HashMap<Key, Place>>,
}

/// The places of some keys, until it is dropped.
pub(crate) struct InOrder<'a> {
    order: &'a Order,
    held: Vec<(Key, Option<OwnedMutexGuard<()>>)>,
}

impl Order {
    /// Waits for the places of these keys.
    pub(crate) async fn of(&self, keys: impl IntoIterator<Item = &Key>) -> Result<InOrder<'_>, Busy> {
        let keys: BTreeSet<&Key> = keys.into_iter().collect();
        let mut places = InOrder { order: self, held: Vec::with_capacity(keys.len()) };
        for key in keys {
            let place = Arc::clone(self.places.lock().entry(key.clone()).or_default());
            // Noted first: a caller that goes away while it waits has to be forgotten as well.
            places.held.push((key.clone(), None));
            // The map has one, whoever holds it one, and this one is one.
            if Arc::strong_count(&place) > WAITING_MAX + 2 {
                return Err(Busy);
            }
            let guard = place.lock_owned().await;
            if let Some((_, held)) = places.held.last_mut() {
                *held = Some(guard);
            }
        }
        Ok(places)
    }
}

impl Drop for InOrder<'_> {
    fn drop(&mut self) {
        let mut places = self.order.places.lock();
        for (key, guard) in self.held.drain(..) {
            drop(guard);
            if places.get(&key).is_some_and(|place| Arc::strong_count(place) == 1) {
                places.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn a_place_is_for_one_and_is_forgotten_after_the_last() {
        let order = Order::default();
        let [a, b] = ["a", "b"].map(|key| Key::new(key).expect("valid"));
        let first = order.of([&b, &a, &b]).now_or_never().expect("nobody is there").expect("nobody waits");
        let mut second = Box::pin(order.of([&a]));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(order.of([&b]).now_or_never().is_none());
        drop(first);
        assert_eq!(order.places.lock().len(), 1, "somebody waits for one of them");
        drop(second.now_or_never().expect("it is free").expect("nobody waits"));
        assert!(order.places.lock().is_empty());
    }

    #[test]
    fn so_many_wait_for_a_key_and_no_more() {
        let order = Order::default();
        let key = Key::new("a").expect("valid");
        let first = order.of([&key]).now_or_never().expect("nobody is there").expect("nobody waits");
        let mut waiting = Vec::new();
        for _ in 0..WAITING_MAX {
            let mut one = Box::pin(order.of([&key]));
            assert!(one.as_mut().now_or_never().is_none());
            waiting.push(one);
        }
        assert!(order.of([&key]).now_or_never().expect("it is told at once").is_err());
        waiting.clear();
        assert!(order.of([&key]).now_or_never().is_none(), "there is room again");
        drop(first);
        assert!(order.places.lock().is_empty());
    }

    #[test]
    fn one_that_goes_away_while_it_waits_is_forgotten() {
        let order = Order::default();
        let key = Key::new("a").expect("valid");
        let first = order.of([&key]).now_or_never().expect("nobody is there").expect("nobody waits");
        assert!(order.of([&key]).now_or_never().is_none());
        drop(first);
        assert!(order.places.lock().is_empty());
    }
}
