//! Which row is asked for next, if a few are asked for often and most hardly ever?
//!
//! 1. Rank `r` of `n` is drawn with a probability in proportion to `1 / r^s`.
//! 2. The same seed draws the same sequence, on every machine.
//!
//! Drawing is a binary search in the table of cumulated weights: 8 bytes per rank, about 100 ns.

/// A small generator of pseudo-random numbers (splitmix64): for load, never for secrets.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// A sequence that depends on the seed alone.
    pub(crate) const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// The next number from zero to below one.
    pub(crate) fn unit(&mut self) -> f64 {
        const STEPS: u64 = 1 << 53;
        (self.next() % STEPS) as f64 / STEPS as f64
    }
}

/// The distribution over the ranks `0..n`, the most popular first.
#[derive(Debug)]
pub(crate) struct Zipf {
    cumulated: Vec<f64>,
}

impl Zipf {
    /// A distribution over `ranks` ranks with exponent `exponent`; at least one rank.
    pub(crate) fn new(ranks: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        let cumulated = (1..=ranks.max(1))
            .map(|rank| {
                sum += f64::from(rank).powf(-exponent);
                sum
            })
            .collect();
        Self { cumulated }
    }

    /// Draws a rank.
    pub(crate) fn draw(&self, random: &mut Random) -> usize {
        let total = self.cumulated.last().copied().unwrap_or(1.0);
        let point = random.unit() * total;
        self.cumulated.partition_point(|&weight| weight <= point).min(self.cumulated.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_popular_rank_is_drawn_as_often_as_the_law_says() {
        const DRAWS: u32 = 200_000;
        let zipf = Zipf::new(1000, 1.0);
        let mut random = Random::seeded(7);
        let mut counts = vec![0_u32; 1000];
        for _ in 0..DRAWS {
            counts[zipf.draw(&mut random)] += 1;
        }
        let harmonic: f64 = (1..=1000).map(|rank| 1.0 / f64::from(rank)).sum();
        for rank in [1_u32, 2, 10] {
            let expected = f64::from(DRAWS) / harmonic / f64::from(rank);
            let seen = f64::from(counts[rank as usize - 1]);
            assert!((seen / expected - 1.0).abs() < 0.1, "rank {rank}: {seen} draws, {expected} expected");
        }
    }

    #[test]
    fn a_seed_fixes_the_sequence() {
        let zipf = Zipf::new(50, 0.9);
        let draw = |seed| {
            let mut random = Random::seeded(seed);
            (0..20).map(|_| zipf.draw(&mut random)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn one_rank_is_always_drawn() {
        assert_eq!(Zipf::new(1, 1.0).draw(&mut Random::seeded(3)), 0);
    }
}
