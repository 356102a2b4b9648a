//! Every workload runs, small, with our engine under both policies.

use crate::keys::{KEY_BYTES, Keys, Random};
use crate::ours::Ours;
use crate::rounds;
use crate::workload::{Scale, Workload};
use std::collections::HashSet;
use std::time::Duration;
use terrace_memory::Policy;

#[test]
fn every_workload_runs_on_one_thread_and_on_two() {
    let makers = [
        Workload::hit,
        Workload::read,
        Workload::ttl,
        Workload::large,
        Workload::miss,
        Workload::insert,
        Workload::overwrite,
        Workload::mixed,
        Workload::load,
        Workload::remove,
    ];
    for workload in makers.map(|make| make(Scale::SMOKE)) {
        for policy in [Policy::Default, Policy::Lru] {
            let ttl = workload.has_ttl.then_some(Duration::from_hours(1));
            let ours = Ours::new(workload.capacity, policy, ttl).unwrap();
            let prepared = workload.prepare("ours", Box::new(ours));
            for threads in [1, 2] {
                let rows =
                    rounds::measure(workload.name, 2, vec![workload.contender(&prepared, threads)]).unwrap();
                assert!(rows[0].values.iter().all(|nanos| *nanos > 0.0), "{}: {rows:?}", workload.name);
            }
        }
    }
}

#[test]
fn single_reads_are_timed_and_writes_are_not() {
    let workload = Workload::tail(Scale::SMOKE);
    let ours = Ours::new(workload.capacity, Policy::Default, None).unwrap();
    let prepared = workload.prepare("ours", Box::new(ours));
    let mut counts = [0, 0];
    let mut took: Vec<_> = counts.iter_mut().map(|count| |_| *count += 1).collect();
    workload.time_reads(&prepared, &mut took);
    drop(took);
    assert!(counts.iter().all(|count| (100..200).contains(count)), "{counts:?}");
}

#[test]
fn a_miss_among_hits_is_an_error() {
    let workload = Workload::hit(Scale::SMOKE);
    let too_small = Ours::new(10, Policy::Default, None).unwrap();
    let prepared = workload.prepare("ours", Box::new(too_small));
    let error = rounds::measure("", 1, vec![workload.contender(&prepared, 1)]).unwrap_err();
    assert!(error.to_string().contains("reads found a value"), "{error}");
}

#[test]
fn keys_are_as_promised() {
    let keys = Keys::sequence(7, 3);
    assert_eq!((keys.len(), keys.at(0)), (3, "user:0000000000000000007"));
    assert_eq!(keys.at(0).len(), KEY_BYTES);
    let walked: Vec<_> = keys.walk(5, 3).map(|(index, _)| index).collect();
    assert_eq!(walked, [2, 0, 1]);
    let shuffled = Keys::shuffled(100, 1);
    let distinct: HashSet<&str> = shuffled.walk(0, 100).map(|(_, key)| key).collect();
    assert_eq!(distinct.len(), 100);
    assert_ne!(shuffled.at(0), Keys::shuffled(100, 2).at(0));
}

#[test]
fn zipf_has_few_popular_keys_and_many_others() {
    let keys = Keys::zipf(1_000, 100_000, 3);
    let mut counts = std::collections::HashMap::<&str, usize>::new();
    keys.walk(0, keys.len()).for_each(|(_, key)| *counts.entry(key).or_default() += 1);
    let mut counts: Vec<usize> = counts.into_values().collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let popular: usize = counts.iter().take(10).sum();
    assert!(counts.len() > 900 && (35_000..45_000).contains(&popular), "{} {popular}", counts.len());
}

#[test]
fn random_numbers_stay_below_their_bound() {
    let mut random = Random::new(1);
    assert!((0..1_000).all(|_| random.index(7) < 7));
}
