//! The simulation against the plainest model of the same rules, the choice on workloads whose answer is known, and
//! the bounds that the module states.

use super::contest::{BATCH, Contest};
use super::curve::Curve;
use super::keys::Keys;
use super::sampler::SIMULATED;
use super::simulation::Simulation;
use super::{CHOICES, Dials, Sampler};

/// What the module states of its memory.
const BYTES_MAX: u64 = 64 << 10;

/// A fixed well-mixed sequence, and the hash of the keys.
fn mix(number: u64) -> u64 {
    let mut bits = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// Two random draws, the smaller one: low numbers are hot.
fn skewed(step: u64, keys: u64) -> u64 {
    (mix(step) % keys).min(mix(!step) % keys)
}

/// S3-FIFO in vectors, oldest first. `left` are the keys that left small unearned, with holes for those that returned.
struct Model {
    capacity: usize,
    dials: Dials,
    small: Vec<(u64, u8)>,
    main: Vec<(u64, u8)>,
    left: Vec<Option<u64>>,
}

impl Model {
    fn access(&mut self, key: u64) -> bool {
        if let Some((_, hits)) = self.small.iter_mut().chain(&mut self.main).find(|(other, _)| *other == key)
        {
            *hits = (*hits + 1).min(3);
            return true;
        }
        let ghosts = (self.capacity * usize::from(self.dials.ghost_ways) / 2).max(1);
        let oldest = self.left.len().saturating_sub(ghosts);
        let recalled =
            self.left[oldest..].iter_mut().find(|ghost| **ghost == Some(key)).and_then(Option::take);
        let small_max = (self.capacity * usize::from(self.dials.small_percent) / 100).max(1);
        while self.small.len() + self.main.len() >= self.capacity {
            if self.small.len() >= small_max || self.main.is_empty() {
                match self.small.remove(0) {
                    (earned, hits) if hits >= self.dials.promote_hits => self.main.push((earned, 0)),
                    (unearned, _) => self.left.push(Some(unearned)),
                }
            } else {
                match self.main.remove(0) {
                    (_, 0) => {}
                    (used, hits) => self.main.push((used, hits - 1)),
                }
            }
        }
        if recalled.is_some() {
            self.main.push((key, 0));
        } else {
            self.small.push((key, 0));
        }
        false
    }
}

#[test]
fn simulation_equals_the_model() {
    for (capacity, dials) in [1, 2, 7, 33].into_iter().flat_map(|size| CHOICES.map(|choice| (size, choice))) {
        let mut keys = Keys::new(Simulation::known_max(capacity, dials.ghost_ways) + 1);
        let mut simulation = Simulation::new(capacity, dials, dials.ghost_ways, &keys);
        let mut model = Model { capacity, dials, small: vec![], main: vec![], left: vec![] };
        for step in 0..4000 {
            let key = if step % 3 == 0 { step % 100 } else { skewed(step, 5 * capacity as u64) };
            let number = keys.take(low_bits(mix(key))).expect("there are numbers enough");
            assert_eq!(
                simulation.access(number, &mut keys),
                model.access(key),
                "{capacity} {dials:?} at {step}"
            );
            keys.release(number);
        }
    }
}

#[test]
fn a_simulation_whose_dials_turned_obeys_the_new_ones() {
    let (before, after) = (CHOICES[3], CHOICES[1]);
    let mut keys = Keys::new(Simulation::known_max(20, before.ghost_ways) + 1);
    let mut simulation = Simulation::new(20, before, before.ghost_ways, &keys);
    let mut model = Model { capacity: 20, dials: before, small: vec![], main: vec![], left: vec![] };
    for step in 0..4000 {
        if step == 2000 {
            simulation.turn(after);
            model.dials = after;
        }
        let key = skewed(step, 150);
        let number = keys.take(low_bits(mix(key))).expect("there are numbers enough");
        let hit = simulation.access(number, &mut keys);
        // A key beyond the shorter ghost but within the longer one is still `left` in the model, to no effect.
        assert_eq!(hit, model.access(key), "at {step}");
        keys.release(number);
    }
}

fn low_bits(hash: u64) -> u32 {
    u32::try_from(hash & u64::from(u32::MAX)).expect("masked")
}

#[test]
fn numbers_are_given_back_and_found_again() {
    let mut keys = Keys::new(100);
    let mut held: Vec<(u32, u16)> = Vec::new();
    for step in 0..20_000 {
        if held.len() == 100 || step % 7 > 3 && !held.is_empty() {
            let place = usize::try_from(mix(step) % held.len() as u64).expect("small");
            keys.release(held.swap_remove(place).1);
        } else {
            let hash = low_bits(mix(step % 150));
            let number = keys.take(hash).expect("there are numbers enough");
            assert_eq!(keys.hash(number), hash);
            assert!(held.iter().all(|&(other, taken)| (other == hash) == (taken == number)));
            held.push((hash, number));
        }
    }
    for (_, number) in held.drain(..) {
        keys.release(number);
    }
    assert!((0..100).all(|key| keys.take(key << 20).is_some()), "all numbers are free again");
    assert_eq!(keys.take(u32::MAX), None);
}

fn ask(sampler: &Sampler, keys: impl Iterator<Item = u64>) {
    for hash in keys.map(mix) {
        if sampler.samples(hash) {
            sampler.note(hash);
        }
    }
}

fn awake(entries: usize) -> Sampler {
    let sampler = Sampler::new(entries);
    sampler.wake();
    sampler
}

#[test]
fn asleep_nothing_is_sampled() {
    let sampler = Sampler::new(100);
    assert!(!sampler.samples(0));
    sampler.note(0);
    sampler.resize(1000);
    assert!(!sampler.samples(0));
    assert_eq!(sampler.dials(), CHOICES[0]);
    assert!(sampler.curve(0.5).is_empty());
}

#[test]
fn the_share_of_the_keys_sampled_falls_with_the_size() {
    for (entries, expected) in
        [(1, 1.0), (16, 1.0), (100, 0.16), (250, 0.125), (6400, 0.01), (640_000, 0.0001)]
    {
        let sampler = awake(entries);
        let sampled = (0..1_000_000).filter(|&key| sampler.samples(mix(key))).count() as f64 / 1e6;
        assert!((sampled / expected - 1.0).abs() < 0.25, "{entries}: {sampled}");
    }
}

#[test]
fn what_all_choices_hit_keeps_the_start() {
    let sampler = awake(2000);
    ask(&sampler, (0..10_000).map(|key| key % 1500));
    assert_eq!(sampler.dials(), CHOICES[0]);
}

#[test]
fn a_loop_larger_than_the_cache_asks_for_a_long_memory() {
    let sampler = awake(1000);
    ask(&sampler, (0..400_000).map(|step| step % 2500));
    assert!(sampler.dials().ghost_ways >= 4 && sampler.dials().small_percent <= 10, "{:?}", sampler.dials());
}

#[test]
fn reuse_soon_or_never_asks_for_a_fifo() {
    // Every key comes four times within half the capacity, and never again.
    let sampler = awake(1000);
    ask(&sampler, (0..400_000).map(|step| step / 4 + (step % 4) * 200));
    assert!(sampler.dials().small_percent >= 40, "{:?}", sampler.dials());
}

#[test]
fn the_dials_follow_when_the_accesses_change() {
    let sampler = awake(1000);
    ask(&sampler, (0..400_000).map(|step| step / 4 + (step % 4) * 200));
    let before = sampler.dials();
    ask(&sampler, (0..400_000).map(|step| step % 2500));
    assert_ne!(sampler.dials(), before);
    assert!(sampler.dials().small_percent <= 10, "{:?}", sampler.dials());
}

#[test]
fn the_same_accesses_give_the_same_dials_and_curve() {
    let run = || {
        let sampler = awake(700);
        let dials = (0..200).map(|part| {
            ask(&sampler, (part * 500..(part + 1) * 500).map(|step| skewed(step, 9000)));
            sampler.dials()
        });
        (dials.collect::<Vec<_>>(), sampler.curve(0.5))
    };
    assert_eq!(run(), run());
}

#[test]
fn a_resize_forgets_all_but_the_dials() {
    let sampler = awake(1000);
    ask(&sampler, (0..400_000).map(|step| step / 4 + (step % 4) * 200));
    let dials = sampler.dials();
    sampler.resize(1100);
    assert!(!sampler.curve(0.5).is_empty(), "a small change is ignored");
    sampler.resize(100_000);
    assert_eq!(sampler.dials(), dials);
    assert!(sampler.curve(0.5).is_empty());
    let sampled = (0..1_000_000).filter(|&key| sampler.samples(mix(key))).count();
    assert!((400..900).contains(&sampled), "{sampled}");
}

#[test]
fn the_curve_never_rises_and_finds_where_the_keys_fit() {
    // 3,000 keys, all alike: a cache of n entries misses 1 - n / 3,000 of them.
    let sampler = awake(1000);
    ask(&sampler, (0..2_000_000).map(|step| mix(step) % 3000));
    let curve = sampler.curve(2.0 / 3.0);
    assert_eq!(curve.iter().map(|point| point.entries).collect::<Vec<_>>(), [250, 500, 1000, 2000, 4000]);
    assert_eq!(curve.iter().map(|point| point.factor).collect::<Vec<_>>(), [0.25, 0.5, 1.0, 2.0, 4.0]);
    assert!(curve.is_sorted_by(|smaller, larger| smaller.miss_ratio >= larger.miss_ratio), "{curve:?}");
    for point in &curve {
        let expected = (1.0 - point.entries as f64 / 3000.0).max(0.0);
        assert!((point.miss_ratio - expected).abs() < 0.12, "{curve:?}");
    }
}

#[test]
fn a_hot_key_does_not_bend_the_curve() {
    // As above, but every second access is of one key, once a sampled one and once another.
    for hot in [true, false] {
        let sampler = awake(1000);
        let is_hot = |key: &u64| sampler.samples(mix(*key)) == hot && mix(*key).is_multiple_of(8);
        let hottest = (3000..1_000_000).find(is_hot).expect("there is one");
        ask(&sampler, (0..2_000_000).map(|step| if step % 2 == 0 { hottest } else { mix(step) % 3000 }));
        for point in sampler.curve(1.0 / 3.0) {
            let expected = (1.0 - point.entries as f64 / 3000.0).max(0.0) / 2.0;
            assert!((point.miss_ratio - expected).abs() < 0.07, "{hot}: {point:?} not {expected}");
        }
    }
}

#[test]
fn memory_is_bounded_for_every_size() {
    for entries in [1, 16, 31, 100, 256, 257, 1000, 1 << 20, usize::MAX] {
        let used = allocation_counter::measure(|| {
            let sampler = awake(entries);
            ask(&sampler, 0..20_000);
        });
        let fixed = size_of::<Sampler>() as u64;
        assert!(used.bytes_max + fixed < BYTES_MAX, "{entries}: {} + {fixed}", used.bytes_max);
    }
}

#[test]
fn noting_allocates_nothing() {
    let sampler = awake(256);
    let used = allocation_counter::measure(|| ask(&sampler, (0..100_000).map(|step| skewed(step, 4000))));
    assert_eq!(used.count_total, 0);
}

#[test]
fn numbers_never_run_out() {
    let most = Contest::known_max(SIMULATED) + Curve::known_max(SIMULATED) + BATCH;
    assert!(most <= Keys::MAX, "{most}");
    for choice in CHOICES {
        assert!(choice.ghost_ways <= Dials::GHOST_WAYS_MAX);
        assert_eq!(Dials::from_bits(choice.to_bits()), choice);
    }
}

#[test]
fn every_hash_is_fine() {
    let sampler = awake(1);
    for step in 0..1000 {
        for hash in [0, u64::MAX, step, step << 32] {
            sampler.note(hash);
        }
    }
    assert!(sampler.curve(f64::NAN).len() <= 5);
}
