//! Keys and the order in which they are used, made before the time runs.
//!
//! 1. The same seed gives the same keys, on every machine and for every contender.
//! 2. A stream lies in memory in the order in which it is used: the processor fetches it ahead, and reading it costs
//!    next to nothing. Looking a key up in a table of keys would add a cache miss of its own to every operation.
//! 3. The length of a key is known at run time only, so no contender is compiled for keys of one length.

use std::fmt::Write;

/// Bytes of a key: `user:` and 19 digits.
pub const KEY_BYTES: usize = 24;

/// Keys in the order of their use.
#[derive(Debug)]
pub struct Keys {
    text: String,
    key_bytes: usize,
}

impl Keys {
    /// The keys of these numbers, in this order.
    pub fn of(numbers: impl IntoIterator<Item = u64>) -> Self {
        let mut text = String::new();
        for number in numbers {
            write!(text, "user:{number:019}").expect("a string takes what is written");
        }
        Self { text, key_bytes: KEY_BYTES }
    }

    /// The keys `from`, `from + 1`, and so on.
    pub fn sequence(from: u64, count: usize) -> Self {
        Self::of(from..from + count as u64)
    }

    /// Each of the keys from 0 up to `keys` once, in a random order.
    pub fn shuffled(keys: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut numbers: Vec<u64> = (0..keys as u64).collect();
        for last in (1..keys).rev() {
            numbers.swap(last, random.index(last + 1));
        }
        Self::of(numbers)
    }

    /// Keys from `first` up to `first + keys`, all of them equally likely.
    pub fn uniform(first: u64, keys: usize, count: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        Self::of((0..count).map(|_| first + random.below(keys as u64)))
    }

    /// Keys from 0 up to `keys`, of which few are popular and many are not, by Zipf's law.
    pub fn zipf(keys: usize, count: usize, seed: u64) -> Self {
        let zipf = Zipf::new(keys);
        let mut random = Random::new(seed);
        Self::of((0..count).map(|_| zipf.number(&mut random)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.text.len() / self.key_bytes
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The key at this place.
    #[inline]
    pub fn at(&self, index: usize) -> &str {
        let start = index * self.key_bytes;
        &self.text[start..start + self.key_bytes]
    }

    /// So many keys with their places, from this place on, beginning anew after the last.
    #[inline]
    pub fn walk(&self, from: usize, count: usize) -> impl Iterator<Item = (usize, &str)> {
        let len = self.len();
        let mut next = from % len.max(1);
        (0..count).map(move |_| {
            let index = next;
            next = if index + 1 == len { 0 } else { index + 1 };
            (index, self.at(index))
        })
    }
}

/// The `SplitMix64` generator.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Starts a series of numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(bound)) >> 64) as u64
    }

    /// An index below `bound`.
    #[expect(clippy::cast_possible_truncation, reason = "less than a bound of this type")]
    pub fn index(&mut self, bound: usize) -> usize {
        self.below(bound as u64) as usize
    }

    /// A number from 0 up to 1.
    fn share(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Spreads a number over all 64 bits, each to another one.
pub fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Zipf's law with exponent 0.99, drawn in the way of Gray et al., "Quickly Generating Billion-Record Synthetic
/// Databases" (SIGMOD 1994).
struct Zipf {
    keys: f64,
    zeta: f64,
    alpha: f64,
    eta: f64,
}

impl Zipf {
    const EXPONENT: f64 = 0.99;
    /// A prime that divides no number of keys in use: multiplying by it gives each rank a number of its own.
    const SCATTER: u128 = 2_654_435_761;

    fn new(keys: usize) -> Self {
        let zeta = |count: usize| (1..=count).map(|rank| (rank as f64).powf(-Self::EXPONENT)).sum::<f64>();
        let (n, all) = (keys as f64, zeta(keys));
        let eta = (1.0 - (2.0 / n).powf(1.0 - Self::EXPONENT)) / (1.0 - zeta(2) / all);
        Self { keys: n, zeta: all, alpha: 1.0 / (1.0 - Self::EXPONENT), eta }
    }

    /// A number of a key. Popular ones lie scattered.
    fn number(&self, random: &mut Random) -> u64 {
        let keys = truncated(self.keys);
        let scattered = u128::from(self.rank(random)) * Self::SCATTER % u128::from(keys);
        u64::try_from(scattered).expect("less than the number of keys")
    }

    fn rank(&self, random: &mut Random) -> u64 {
        let share = random.share();
        let weight = share * self.zeta;
        if weight < 1.0 {
            0
        } else if weight < 1.0 + 0.5_f64.powf(Self::EXPONENT) {
            1
        } else {
            let rank = self.keys * (self.eta * share - self.eta + 1.0).powf(self.alpha);
            truncated(rank).min(truncated(self.keys) - 1)
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of keys, never negative"
)]
fn truncated(number: f64) -> u64 {
    number as u64
}
