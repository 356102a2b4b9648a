//! Under which strategy of their keyspace were lookups answered, or not?
//!
//! A keyspace has one strategy, until it is given another ([`replace`](crate::KeyspaceBuilder::replace)). Lookups are not counted by
//! strategy: what was counted since a change is the share of the strategy that the keyspace has now.
//!
//! 1. A share never gets smaller. What a strategy had when another took its place stays, and grows on if it comes back.
//! 2. Every lookup is in one share: that of the strategy which holds when it is counted. One that is under way during a change is the
//!    new one's.
//! 3. Whoever reads the counters holds the shares meanwhile ([`super::counters`]): a change between the two would be read as growth of the
//!    old strategy, and taken back with the next reading.

use crate::Strategy;

/// How many lookups were answered by each tier, and how many by none.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Answers {
    pub(super) hits_l1: u64,
    pub(super) hits_l2: u64,
    pub(super) misses: u64,
}

impl Answers {
    fn with(self, other: Self, of: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            hits_l1: of(self.hits_l1, other.hits_l1),
            hits_l2: of(self.hits_l2, other.hits_l2),
            misses: of(self.misses, other.misses),
        }
    }

    fn since(self, earlier: Self) -> Self {
        self.with(earlier, u64::saturating_sub)
    }

    fn plus(self, more: Self) -> Self {
        self.with(more, u64::saturating_add)
    }
}

/// The shares of the strategies that a keyspace has had.
#[derive(Default, Debug)]
pub(super) struct Shares {
    /// What each had when it was replaced the last time; at most as many as there are strategies. Empty until the keyspace is opened.
    kept: Vec<(Strategy, Answers)>,
    /// Which of these the keyspace has.
    now: usize,
    /// What was counted when it got that one.
    since: Answers,
}

impl Shares {
    /// The keyspace has this strategy from now on; `total` was counted so far. What was counted before it had any is of the first.
    pub(super) fn change(&mut self, strategy: Strategy, total: Answers) {
        if let Some((_, share)) = self.kept.get_mut(self.now) {
            *share = share.plus(total.since(self.since));
            self.since = total;
        }
        let known = self.kept.iter().position(|(known, _)| *known == strategy);
        self.now = known.unwrap_or(self.kept.len());
        if known.is_none() {
            self.kept.push((strategy, Answers::default()));
        }
    }

    /// Each strategy's share of what was counted so far, in the order in which the keyspace has had them first.
    pub(super) fn of(&self, total: Answers) -> Vec<(Strategy, Answers)> {
        if self.kept.is_empty() {
            return vec![(Strategy::default(), total)];
        }
        let mut shares = self.kept.clone();
        let (_, share) = &mut shares[self.now];
        *share = share.plus(total.since(self.since));
        shares
    }
}

#[cfg(test)]
mod tests {
    use super::super::counters::SpaceCounters;
    use super::*;
    use proptest::{collection, option, prop_assert, prop_assert_eq, proptest};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use terrace_core::Clock;

    const STRATEGIES: [Strategy; 3] = [Strategy::CacheAside, Strategy::ReadThrough, Strategy::WriteBehind];

    fn total(hits_l1: u64) -> Answers {
        Answers { hits_l1, hits_l2: 2 * hits_l1, misses: 3 * hits_l1 }
    }

    #[test]
    fn a_strategy_that_comes_back_goes_on_where_it_was() {
        let mut shares = Shares::default();
        assert_eq!(shares.of(total(0)), [(Strategy::CacheAside, total(0))], "it is not opened yet");
        shares.change(Strategy::ReadThrough, total(0));
        assert_eq!(shares.of(total(5)), [(Strategy::ReadThrough, total(5))]);
        shares.change(Strategy::WriteThrough, total(7));
        assert_eq!(
            shares.of(total(10)),
            [(Strategy::ReadThrough, total(7)), (Strategy::WriteThrough, total(3))]
        );
        shares.change(Strategy::ReadThrough, total(12));
        shares.change(Strategy::ReadThrough, total(13));
        assert_eq!(
            shares.of(total(20)),
            [(Strategy::ReadThrough, total(15)), (Strategy::WriteThrough, total(5))]
        );
    }

    /// Shares that are read while lookups are counted and the strategy changes: once for each reading, and at the same time.
    #[test]
    fn no_share_shrinks_while_lookups_are_counted_and_the_strategy_changes() {
        const READINGS: usize = 3_000;
        let counters = SpaceCounters::new(Clock::manual());
        counters.change_strategy(STRATEGIES[0]);
        let reads = AtomicUsize::new(0);
        let is_over = || reads.load(Ordering::Acquire) >= READINGS;
        let misses = std::thread::scope(|scope| {
            let counting = scope.spawn(|| {
                let mut count = 0;
                while !is_over() {
                    (0..100).for_each(|_| counters.miss());
                    count += 100;
                }
                count
            });
            scope.spawn(|| {
                for (change, strategy) in STRATEGIES.iter().cycle().enumerate() {
                    while reads.load(Ordering::Acquire) <= change {
                        std::thread::yield_now();
                    }
                    if is_over() {
                        return;
                    }
                    counters.change_strategy(*strategy);
                }
            });
            let mut before: Vec<(Strategy, Answers)> = Vec::new();
            while !is_over() {
                reads.fetch_add(1, Ordering::Release);
                let now = counters.snapshot().by_strategy().to_vec();
                let shrunk = before.iter().zip(&now).find(|((_, was), (_, is))| was.misses > is.misses);
                if shrunk.is_some() {
                    reads.store(READINGS, Ordering::Release);
                }
                assert_eq!(shrunk, None);
                before = now;
            }
            counting.join().expect("it only counts")
        });
        let shares = counters.snapshot();
        assert_eq!(shares.by_strategy().iter().map(|(_, share)| share.misses).sum::<u64>(), misses);
    }

    proptest! {
        #[test]
        fn no_share_shrinks_and_all_together_are_what_was_counted(
            steps in collection::vec((0_u64..9, option::of(0..STRATEGIES.len())), 1..40)
        ) {
            let (mut shares, mut counted, mut before) = (Shares::default(), 0, Vec::new());
            shares.change(STRATEGIES[0], total(0));
            let mut expected = [0; STRATEGIES.len()];
            let mut now = 0;
            for (more, change) in steps {
                counted += more;
                expected[now] += more;
                if let Some(next) = change {
                    now = next;
                    shares.change(STRATEGIES[next], total(counted));
                }
                let read = shares.of(total(counted));
                for (strategy, share) in &read {
                    let at = STRATEGIES.iter().position(|one| one == strategy).expect("one of them");
                    prop_assert_eq!(*share, total(expected[at]));
                }
                let pairs: Vec<(&(Strategy, Answers), _)> = before.iter().zip(&read).collect();
                for ((of, was), (same, is)) in pairs {
                    prop_assert!(of == same && was.hits_l1 <= is.hits_l1);
                }
                prop_assert_eq!(read.iter().map(|(_, share)| share.hits_l1).sum::<u64>(), counted);
                before = read;
            }
        }
    }
}
