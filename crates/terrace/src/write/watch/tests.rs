//! One watch of one key, step by step, without tiers and messages.

use super::*;

const NOW: Moment = Moment::from_nanos(0);
const LIMIT: Duration = Duration::from_secs(1);

fn key(text: &str) -> Key {
    Key::new(text).expect("valid")
}

fn stored(version: u64) -> Stored {
    Stored { version: version.into(), born: 0, tags: Vec::new() }
}

fn store(watching: &Watching, version: u64) -> Standing {
    watching.store(&key("k"), stored(version), NOW, |_| None)
}

fn remove(watching: &Watching, version: u64) {
    watching.remove(&key("k"), version.into(), true, NOW, || false);
}

/// Whether it is one that this node has noted.
fn hear(watching: &Watching, number: u64) -> bool {
    let mut is_applied = false;
    let is_own = watching.hear(&key("k"), number.into(), |_| false, || is_applied = true);
    assert_eq!(is_applied, !is_own, "what is no news is not applied, and all else is");
    is_own
}

fn due(watching: &Watching) -> usize {
    watching.due(Duration::ZERO, NOW, LIMIT).len()
}

#[test]
fn a_watch_ends_with_the_last_of_one_s_own_changes() {
    let watching = Watching::default();
    assert_eq!([1, 2, 3].map(|version| store(&watching, version)), [Standing::Watched; 3]);
    assert!(hear(&watching, 1) && !watching.is_empty());
    assert!(hear(&watching, 3) && watching.is_empty(), "the second was heard before it was noted");
    assert!(!hear(&watching, 3), "it is known no more");
    assert_eq!(due(&watching), 0);
}

#[test]
fn what_is_heard_in_between_contests_whoever_takes_over() {
    for after in [false, true] {
        let watching = Watching::default();
        store(&watching, 1);
        if after {
            assert_eq!(store(&watching, 3), Standing::Watched);
        }
        assert!(!hear(&watching, 2));
        assert_eq!(store(&watching, 4), Standing::Contested);
        assert_eq!(due(&watching), 0, "who was told drops it");
        assert_eq!(store(&watching, 5), Standing::Watched, "it was dropped before");
        assert!(hear(&watching, 5) && watching.is_empty());
    }
}

#[test]
fn what_was_contested_is_dropped_once_and_stays_known() {
    let watching = Watching::default();
    store(&watching, 2);
    assert!(!hear(&watching, 1));
    assert_eq!((due(&watching), due(&watching)), (1, 0));
    assert!(!watching.is_empty() && hear(&watching, 2) && watching.is_empty());
}

#[test]
fn what_was_heard_before_it_was_noted_counts() {
    let watching = Watching::default();
    assert_eq!(watching.store(&key("k"), stored(1), NOW, |_| Some(true)), Standing::Stands);
    assert_eq!(watching.store(&key("k"), stored(2), NOW, |_| Some(false)), Standing::Contested);
    assert!(hear(&watching, 2), "its number is known all the same");
    store(&watching, 3);
    assert_eq!(watching.store(&key("k"), stored(4), NOW, |_| Some(true)), Standing::Stands);
    assert!(watching.is_empty());
    store(&watching, 6);
    hear(&watching, 5);
    assert_eq!(watching.store(&key("k"), stored(7), NOW, |_| Some(true)), Standing::Contested);
}

#[test]
fn a_removal_is_no_news_and_leaves_nothing_to_watch() {
    let watching = Watching::default();
    store(&watching, 1);
    remove(&watching, 2);
    assert!(!hear(&watching, 9) && due(&watching) == 0, "there is nothing to contest");
    assert!(hear(&watching, 1) && hear(&watching, 2) && watching.is_empty());
    store(&watching, 3);
    remove(&watching, 2);
    assert!(!hear(&watching, 9) && due(&watching) == 1, "what was stored after it is watched");
    let watching = Watching::default();
    store(&watching, 1);
    watching.remove(&key("k"), 2.into(), true, NOW, || true);
    assert!(watching.is_empty());
    watching.remove(&key("k"), Version::ZERO, true, NOW, || false);
    assert!(watching.is_empty(), "L2 has not answered");
}

#[test]
fn a_ban_contests_when_the_watch_ends_or_the_ban() {
    let watching = Watching::default();
    store(&watching, 1);
    assert!(watching.hear(&key("k"), 1.into(), |_| true, || panic!("it is no news")));
    assert_eq!(due(&watching), 1);
    assert!(watching.is_empty());
    store(&watching, 2);
    watching.contest_dead(|_, stored| stored.version == 1.into());
    assert_eq!(due(&watching), 0);
    watching.contest_dead(|_, stored| stored.version == 2.into());
    assert_eq!(due(&watching), 1);
    store(&watching, 3);
    watching.contest(&key("other"));
    assert_eq!(due(&watching), 0);
    watching.contest(&key("k"));
    assert_eq!(due(&watching), 1);
}

#[test]
fn a_watch_lasts_for_so_long_on_either_clock_and_each_value_anew() {
    let (watching, half) = (Watching::default(), LIMIT / 2);
    store(&watching, 1);
    assert!(watching.due(half, NOW, LIMIT).is_empty());
    store(&watching, 2);
    assert!(watching.due(half, NOW, LIMIT).is_empty());
    assert_eq!(watching.due(half, NOW, LIMIT).len(), 1, "by its pauses");
    assert!(!watching.is_empty(), "its numbers are known for as long again");
    assert!(watching.due(LIMIT, NOW, LIMIT).is_empty() && watching.is_empty());
    store(&watching, 3);
    assert_eq!(watching.due(Duration::ZERO, NOW.plus(LIMIT), LIMIT).len(), 1, "by the clock");
}

#[test]
fn there_are_so_many_watches_and_so_many_numbers_and_no_more() {
    let watching = Watching::default();
    let changes = UNHEARD_MAX as u64 + 1;
    for version in 1..=changes {
        assert_eq!(store(&watching, version), Standing::Watched);
    }
    assert_eq!(watching.watches.lock().by_key[&key("k")].unheard.len(), UNHEARD_MAX);
    assert!(!hear(&watching, 1) && due(&watching) == 1, "the first was forgotten");
    assert!(hear(&watching, changes) && watching.is_empty());
    let of = |n: usize| key(&n.to_string());
    for n in 0..WATCHED_MAX {
        watching.remove(&of(n), 1.into(), true, NOW, || false);
    }
    assert_eq!(watching.watches.lock().by_key.len(), WATCHED_MAX / 2, "removals leave room for values");
    for n in 0..=WATCHED_MAX {
        let standing = watching.store(&of(n), stored(2), NOW, |_| None);
        assert_eq!(standing == Standing::Watched, n < WATCHED_MAX);
    }
    assert_eq!(watching.watches.lock().by_key.len(), WATCHED_MAX);
}

#[test]
fn what_was_due_and_was_not_dropped_is_due_again() {
    let watching = Watching::default();
    store(&watching, 2);
    hear(&watching, 1);
    let due_keys = || watching.due(Duration::ZERO, NOW, LIMIT);
    let given_up = Due { watching: &watching, keys: due_keys() };
    assert!(due_keys().is_empty());
    drop(given_up);
    let mut dropped = Due { watching: &watching, keys: due_keys() };
    assert_eq!(dropped.keys, [key("k")]);
    dropped.keys.clear();
    drop(dropped);
    assert!(due_keys().is_empty());
}

#[test]
fn a_number_that_is_no_order_ends_no_watch_of_a_value() {
    let watching = Watching::default();
    let unordered = |version: u64, was_heard: bool| {
        watching.remove(&key("k"), version.into(), false, NOW, || was_heard);
    };
    store(&watching, 8);
    unordered(9, false);
    unordered(9, true);
    assert!(!hear(&watching, 7));
    assert_eq!(due(&watching), 1, "the value is watched as before");
    unordered(10, false);
    assert!(hear(&watching, 10), "no value is watched any more");
}
