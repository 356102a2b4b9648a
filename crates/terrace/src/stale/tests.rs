//! What is remembered of failures, and that nothing else is left of them.

use super::*;
use crate::{Cache, Clock, EntryOptions, Keyspace};

fn keys(count: usize) -> Vec<Key> {
    (0..count).map(|number| Key::new(&number.to_string()).expect("valid")).collect()
}

#[test]
fn no_more_failures_are_remembered_than_may_be_and_those_that_are_over_make_room() {
    let (cooling, clock) = (Cooling::default(), Clock::manual());
    let (pause, keys) = (Duration::from_secs(1), keys(COOLING_MAX + 100));
    let note = |key| cooling.note(key, clock.now(), clock.now().plus(pause));
    keys.iter().for_each(note);
    assert_eq!(cooling.0.lock().len(), COOLING_MAX);
    assert!(cooling.holds(&keys[0], clock.now()) && !cooling.holds(&keys[COOLING_MAX], clock.now()));
    clock.advance(pause);
    assert!(!cooling.holds(&keys[0], clock.now()));
    note(&keys[COOLING_MAX]);
    assert_eq!(cooling.0.lock().len(), 1);
    cooling.forget(&keys[COOLING_MAX]);
    assert!(cooling.0.lock().is_empty());
}

#[tokio::test]
async fn thousands_of_loads_that_fail_leave_no_flight_and_nobody_who_waits() {
    let (clock, ttl) = (Clock::manual(), Duration::from_secs(1));
    let l1 = crate::L1::entries(4 * COOLING_MAX);
    let cache = Cache::builder().clock(clock.clone()).l1(l1).build().expect("valid settings");
    let options = EntryOptions::new().ttl(ttl).grace(ttl).failure_pause(ttl);
    let texts: Keyspace<String, u64> = cache.keyspace("texts").options(options).build().expect("new");
    let keys = keys(COOLING_MAX + 1000);
    for key in &keys {
        texts.put(key.as_str(), 1).await.expect("stored");
    }
    clock.advance(ttl);
    for key in &keys {
        let failing = async || Err::<u64, _>("refused");
        assert_eq!(*texts.get_or_load(key.as_str(), failing).await.expect("there is an old value"), 1);
    }
    let view = cache.views().remove(0);
    assert_eq!(view.space.cooling.0.lock().len(), COOLING_MAX);
    assert!(!keys.iter().any(|key| view.space.flights.is_any_of(key)));
    assert_eq!(cache.stats().total.stale_hits, keys.len() as u64);
    clock.advance(ttl);
    for key in &keys {
        let value = texts.get_or_load(key.as_str(), async || Ok::<_, &str>(2)).await;
        assert_eq!(*value.expect("it does not fail"), 2);
    }
    assert!(view.space.cooling.0.lock().is_empty(), "a load that is successful is no failure");
}
