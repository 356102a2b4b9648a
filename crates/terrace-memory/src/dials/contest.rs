//! Which of the choices does best on the sample.
//!
//! 1. Every choice has a simulation, all of one capacity, and all see the same accesses.
//! 2. What all hit or all miss says nothing. Two choices are compared by the accesses on which they disagree: each
//!    is a toss of a coin if the two are equally good. So a lead counts when it exceeds the standard deviation of so
//!    many tosses; hot keys in the sample, which all choices hit, neither help nor blur.
//! 3. There is a verdict every [`ROUND_TURNOVERS`] times the capacity in accesses. Each time a quarter of what was
//!    counted is forgotten, so the past counts for some four rounds.

use super::keys::Keys;
use super::simulation::Simulation;
use super::{CHOICES, Dials};

/// Accesses are run in batches, one bit each.
pub(super) const BATCH: usize = u64::BITS as usize;
/// Length of a round in multiples of the simulated capacity.
const ROUND_TURNOVERS: usize = 8;

#[derive(Debug)]
pub(super) struct Contest {
    contenders: [Simulation; CHOICES.len()],
    /// `wins[a][b]`: accesses that hit with choice `a` and missed with choice `b`, older ones counting less.
    wins: [[u32; CHOICES.len()]; CHOICES.len()],
    chosen: usize,
    round_batches: usize,
    batches_left: usize,
}

/// What a batch came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    /// A bit for each access, set if it hit with the dials then in use.
    pub(super) hits: u64,
    /// The dials to use from now on, if others.
    pub(super) turned: Option<Dials>,
}

impl Contest {
    /// The most keys that a contest knows.
    pub(super) fn known_max(capacity: usize) -> usize {
        CHOICES.iter().map(|choice| Simulation::known_max(capacity, choice.ghost_ways)).sum()
    }

    /// A contest of caches of so many of the keys, that goes on from the dials given.
    pub(super) fn new(capacity: usize, dials: Dials, keys: &Keys) -> Self {
        let round_batches = (capacity * ROUND_TURNOVERS / BATCH).max(1);
        Self {
            contenders: CHOICES.map(|choice| Simulation::new(capacity, choice, choice.ghost_ways, keys)),
            wins: [[0; CHOICES.len()]; CHOICES.len()],
            chosen: CHOICES.iter().position(|&choice| choice == dials).unwrap_or(0),
            round_batches,
            batches_left: round_batches,
        }
    }

    /// Runs a full batch.
    pub(super) fn run(&mut self, batch: &[u16], keys: &mut Keys) -> Outcome {
        let mut hits = [0; CHOICES.len()];
        for (contender, hits) in self.contenders.iter_mut().zip(&mut hits) {
            *hits = contender.run(batch, keys);
        }
        for (wins, ours) in self.wins.iter_mut().zip(hits) {
            for (count, theirs) in wins.iter_mut().zip(hits) {
                *count += (ours & !theirs).count_ones();
            }
        }
        let hits = hits[self.chosen];
        self.batches_left -= 1;
        let turned = if self.batches_left == 0 { self.judge() } else { None };
        Outcome { hits, turned }
    }

    fn judge(&mut self) -> Option<Dials> {
        self.batches_left = self.round_batches;
        let best = (0..CHOICES.len()).max_by_key(|&choice| (self.lead(choice), choice == self.chosen));
        let better = best.filter(|&choice| self.is_outside_noise(choice));
        for count in self.wins.as_flattened_mut() {
            *count -= count.div_ceil(4);
        }
        self.chosen = better.unwrap_or(self.chosen);
        better.map(|choice| CHOICES[choice])
    }

    /// Hits of a choice less those of the chosen.
    const fn lead(&self, choice: usize) -> i64 {
        self.wins[choice][self.chosen] as i64 - self.wins[self.chosen][choice] as i64
    }

    const fn is_outside_noise(&self, choice: usize) -> bool {
        let lead = self.lead(choice);
        let tosses = self.wins[choice][self.chosen] as u64 + self.wins[self.chosen][choice] as u64;
        lead > 0 && lead.unsigned_abs().pow(2) > tosses
    }
}
