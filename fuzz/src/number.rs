//! What a number of JSON is in MessagePack, as docs/service.md says, by exact arithmetic.

use num_bigint::{BigInt, BigUint};

/// A number that can be held.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    Whole(i128),
    Double(f64),
}

/// The number that a text of JSON is held as; `None` if it cannot be.
pub fn held(text: &str) -> Option<Number> {
    if text.contains(['.', 'e', 'E']) {
        return double(text).map(Number::Double);
    }
    if text == "-0" {
        return Some(Number::Double(-0.0));
    }
    let range = i128::from(i64::MIN)..=i128::from(u64::MAX);
    text.parse().ok().filter(|number| range.contains(number)).map(Number::Whole)
}

/// The nearest double, if it rounds to the text, or is written as that by those who write it as short as they can. At a power of
/// two these differ: the next double above it is further from it than that below.
fn double(text: &str) -> Option<f64> {
    let number: f64 = text.parse().ok()?;
    let decimal = Decimal::of(text);
    if decimal.is_zero() {
        return Some(number);
    }
    if number == 0.0 || number.is_infinite() {
        return None;
    }
    let shortest = Decimal::of(ryu::Buffer::new().format_finite(number));
    (decimal.is_rounded(number) || decimal == shortest).then_some(number)
}

/// Whole digits without zeros around them, and the power of ten of the last of them.
#[derive(PartialEq, Eq)]
struct Decimal {
    digits: BigUint,
    power: i64,
}

impl Decimal {
    fn of(text: &str) -> Self {
        let text = text.trim_start_matches('-');
        let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let places = mantissa.split_once('.').map_or(0, |(_, part)| part.len() as i64);
        let all: String = mantissa.chars().filter(char::is_ascii_digit).collect();
        let digits = all.trim_end_matches('0');
        let zeros = (all.len() - digits.len()) as i64;
        // Where the power has no room, the double is zero or has no end.
        let power = power.parse::<i64>().unwrap_or_default();
        let power = power.saturating_sub(places).saturating_add(zeros);
        Self { digits: digits.parse().unwrap_or_default(), power }
    }

    fn is_zero(&self) -> bool {
        self.digits == BigUint::ZERO
    }

    /// Whether a double, rounded to as many digits, is this. The middle between two is rounded up, or to the one with the even digit.
    fn is_rounded(&self, number: f64) -> bool {
        let bits = number.to_bits();
        let (biased, fraction) = ((bits >> 52 & 0x7ff) as i64, bits & ((1 << 52) - 1));
        let mantissa = if biased == 0 { fraction } else { fraction | 1 << 52 };
        let exponent = biased.max(1) - 1075;
        // All three are multiplied by what makes them whole.
        let power = |base: u32, of: i64| BigInt::from(base).pow(u32::try_from(of.max(0)).expect("bounded"));
        let tens = power(10, -self.power);
        let twos = power(2, -exponent);
        let unit = power(10, self.power) * &twos;
        let own = BigInt::from(self.digits.clone()) * &unit;
        let other = BigInt::from(mantissa) * power(2, exponent) * tens;
        let is_up = own > other;
        let apart = (if is_up { own - other } else { other - own }) * 2;
        apart < unit || apart == unit && (is_up || !self.digits.bit(0))
    }
}
