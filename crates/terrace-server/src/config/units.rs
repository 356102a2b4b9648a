//! Numbers, durations and sizes as people write them.
//!
//! 1. Every setting can also be given as text, because that is what an environment variable and `${VAR}` give:
//!    `pool = "${POOL:-16}"` works like `pool = 16`.
//! 2. A bare number is seconds where a duration is wanted, and bytes where a size is wanted.
//! 3. What is printed reads back as the same value.

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;
use terrace::Ttl;

/// A setting that can be written as a number, as text, or as either.
trait Scalar: Sized {
    /// What is allowed, after the words "expected".
    const EXPECTED: &'static str;

    fn from_number(number: u64) -> Option<Self>;
    fn from_text(text: &str) -> Option<Self>;
    fn from_flag(_: bool) -> Option<Self> {
        None
    }
}

struct ScalarVisitor<T>(PhantomData<T>);

impl<T: Scalar> Visitor<'_> for ScalarVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        let value = u64::try_from(number).ok().and_then(T::from_number);
        value.ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        T::from_number(number).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<T, E> {
        T::from_flag(flag).ok_or_else(|| E::invalid_type(Unexpected::Bool(flag), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text.trim()).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

macro_rules! scalar {
    ($name:ident) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(ScalarVisitor(PhantomData))
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Self::from_text(text.trim()).ok_or_else(|| format!("expected {}", Self::EXPECTED))
            }
        }
    };
}

/// A whole number, zero or more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Count(pub(super) u64);

impl Scalar for Count {
    const EXPECTED: &'static str = "a whole number, zero or more";

    fn from_number(number: u64) -> Option<Self> {
        Some(Self(number))
    }

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

scalar!(Count);

/// Yes or no.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Flag(pub(super) bool);

impl Scalar for Flag {
    const EXPECTED: &'static str = "true or false";

    fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self(false)),
            1 => Some(Self(true)),
            _ => None,
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Some(Self(true)),
            "false" | "0" => Some(Self(false)),
            _ => None,
        }
    }

    fn from_flag(flag: bool) -> Option<Self> {
        Some(Self(flag))
    }
}

scalar!(Flag);

/// A duration: `"5m"`, `"1h 30m"`, `"250ms"`, or a number of seconds.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use terrace_server::config::Period;
/// assert_eq!("1h 30m".parse(), Ok(Period(Duration::from_secs(5400))));
/// assert_eq!("60".parse(), Ok(Period(Duration::from_secs(60))));
/// assert_eq!(Period(Duration::from_secs(60)).to_string(), "1m");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Period(pub Duration);

impl Period {
    pub(super) const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl Scalar for Period {
    const EXPECTED: &'static str = "a duration such as \"5m\" or \"250ms\", or a number of seconds";

    fn from_number(seconds: u64) -> Option<Self> {
        Some(Self::seconds(seconds))
    }

    fn from_text(text: &str) -> Option<Self> {
        match text.parse() {
            Ok(seconds) => Some(Self::seconds(seconds)),
            Err(_) => humantime::parse_duration(text).ok().map(Self),
        }
    }
}

scalar!(Period);

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A TTL: a duration, or `"never"`.
///
/// # Examples
/// ```
/// use terrace::Ttl;
/// use terrace_server::config::TtlSetting;
/// assert_eq!("never".parse(), Ok(TtlSetting(Ttl::Never)));
/// assert_eq!(TtlSetting(Ttl::After(std::time::Duration::from_secs(3600))).to_string(), "1h");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TtlSetting(pub Ttl);

impl Scalar for TtlSetting {
    const EXPECTED: &'static str = "a duration such as \"5m\", a number of seconds, or \"never\"";

    fn from_number(seconds: u64) -> Option<Self> {
        Some(Self(Duration::from_secs(seconds).into()))
    }

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "never" => Some(Self(Ttl::Never)),
            _ => Period::from_text(text).map(|period| Self(period.0.into())),
        }
    }
}

scalar!(TtlSetting);

impl fmt::Display for TtlSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.duration() {
            Some(duration) => Period(duration).fmt(f),
            None => f.write_str("never"),
        }
    }
}

impl Serialize for TtlSetting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A number of bytes: `"512MiB"`, `"10kB"`, or a plain number.
///
/// # Examples
/// ```
/// use terrace_server::config::ByteSize;
/// assert_eq!("1KiB".parse(), Ok(ByteSize(1024)));
/// assert_eq!("10 MB".parse(), Ok(ByteSize(10_000_000)));
/// assert_eq!(ByteSize(8 << 20).to_string(), "8MiB");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ByteSize(pub u64);

impl ByteSize {
    const UNITS: [(&'static str, u64); 9] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("kB", 1_000),
        ("B", 1),
    ];
}

impl Scalar for ByteSize {
    const EXPECTED: &'static str = "a size such as \"512MiB\" or \"10kB\", or a number of bytes";

    fn from_number(bytes: u64) -> Option<Self> {
        Some(Self(bytes))
    }

    fn from_text(text: &str) -> Option<Self> {
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = (text[..unit_at].parse::<u64>().ok()?, text[unit_at..].trim());
        if unit.is_empty() {
            return Some(Self(number));
        }
        let (_, factor) = Self::UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
        number.checked_mul(*factor).map(Self)
    }
}

scalar!(ByteSize);

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |factor: u64| self.0 >= factor && self.0.is_multiple_of(factor);
        match Self::UNITS.iter().find(|(_, factor)| fits(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_number_is_seconds_or_bytes() {
        assert_eq!("3600".parse(), Ok(Period::seconds(3600)));
        assert_eq!("3600".parse(), Ok(ByteSize(3600)));
        assert_eq!("0".parse(), Ok(TtlSetting(Ttl::After(Duration::ZERO))));
    }

    #[test]
    fn what_is_no_duration_or_size_is_refused() {
        for text in ["", "-1", "5 parsecs", "1.5", "MiB", "99999999999TiB", "1e3", "٣"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text:?}");
        }
        for text in ["", "-1s", "5 parsecs", "forever", "99999999999999999999"] {
            assert!(text.parse::<Period>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_printed_reads_back() {
        for bytes in [0, 1, 999, 1000, 1024, 1_000_000, 1 << 20, 1536, u64::MAX] {
            let printed = ByteSize(bytes).to_string();
            assert_eq!(printed.parse(), Ok(ByteSize(bytes)), "{printed}");
        }
        for millis in [0, 1, 250, 1000, 90_000, 5_400_000, 86_400_000] {
            let period = Period(Duration::from_millis(millis));
            assert_eq!(period.to_string().parse(), Ok(period), "{period}");
        }
        for ttl in [Ttl::Never, Ttl::After(Duration::from_hours(1))] {
            assert_eq!(TtlSetting(ttl).to_string().parse(), Ok(TtlSetting(ttl)));
        }
    }

    #[test]
    fn flags_are_what_shells_and_other_languages_write() {
        for (text, flag) in [("true", true), ("TRUE", true), ("1", true), ("false", false), ("0", false)] {
            assert_eq!(text.parse(), Ok(Flag(flag)), "{text}");
        }
        assert!("maybe".parse::<Flag>().is_err());
        assert!("".parse::<Flag>().is_err());
    }
}
