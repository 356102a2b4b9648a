//! Which numbers do changes and values get?
//!
//! A number is the greater of the last one given out and the server's time in microseconds, plus one: the same rule as that of
//! the scripts, made of commands. The last number is the score of the only member of a sorted set, and the time that of another
//! one, because there is a command that takes the greater of two scores.
//!
//! 1. No number is given out twice, and each is greater than all before, as long as the last one is not lost; and after that, as long
//!    as the server's clock is not set back.
//! 2. They stay exact in a double, in which scores are kept, for 200 years.
//! 3. Who gets a number learns in the same step what the namespace remembers, and makes that if it is lost: values with smaller
//!    numbers are dead then, and leases void.

use super::PlainRedis;
use super::steps::{Step, exactly, is_out_of_memory};
use crate::commands::named;
use crate::config::random;
use crate::error::unexpected;
use crate::link::text;
use redis::{Cmd, Value};
use std::sync::{Mutex, MutexGuard, PoisonError};
use terrace_core::bus::Incarnation;
use terrace_core::remote::ServerTime;
use terrace_core::{Clock, Moment, Namespace, RemoteError, Version};

/// The only member of the sets.
const MEMBER: &str = "v";
/// How often what a namespace remembers is made again, before it is said that it does not last.
const ROUNDS_MAX: u32 = 4;

/// How many commands give numbers out.
const COMMANDS: usize = 6;

/// About what time it is on the server: what it said last, and when that was here.
#[derive(Default)]
pub(super) struct ServerClock(Mutex<Option<(ServerTime, Moment)>>);

impl ServerClock {
    fn told(&self) -> MutexGuard<'_, Option<(ServerTime, Moment)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server has said this just now.
    fn set(&self, time: ServerTime) {
        *self.told() = Some((time, Clock::system().precise()));
    }

    fn about_now(&self) -> Option<ServerTime> {
        let (time, at) = (*self.told())?;
        let since = Clock::system().precise().since(at).as_micros();
        Some(ServerTime(time.0.saturating_add(u64::try_from(since).unwrap_or(u64::MAX))))
    }
}

/// Some numbers in a row, and what was so when they were given out.
#[derive(Clone, Debug)]
pub(super) struct Numbers {
    first: u64,
    /// The server's time: not later than anything that is done under these numbers.
    pub(super) time: ServerTime,
    /// Of the namespace. Empty where it could not be read, which is no epoch of any lease.
    pub(super) epoch: String,
}

impl Numbers {
    pub(super) fn at(&self, index: usize) -> Version {
        Version::from(self.first + index as u64)
    }
}

/// The reply to `TIME`.
pub(super) fn time(reply: &Value) -> Result<ServerTime, RemoteError> {
    let parsed = match reply {
        Value::Array(parts) => match parts.as_slice() {
            [seconds, micros] => {
                let number = |part| text(part)?.parse::<u64>().ok();
                number(seconds).zip(number(micros))
            }
            _ => None,
        },
        _ => None,
    };
    let (seconds, micros) = parsed.ok_or_else(|| unexpected("a time", reply))?;
    Ok(ServerTime(seconds.saturating_mul(1_000_000).saturating_add(micros)))
}

/// A score that is a whole number.
pub(super) fn score(reply: &Value) -> Result<u64, RemoteError> {
    let number = match reply {
        Value::Double(number) => Some(*number),
        other => text(other).and_then(|text| text.parse().ok()),
    };
    let is_whole = |number: &f64| *number >= 0.0 && *number < 9e15 && number.fract() == 0.0;
    let number =
        number.filter(is_whole).ok_or_else(|| unexpected("a score that is a whole number", reply))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was checked to be whole")]
    Ok(number as u64)
}

impl PlainRedis {
    /// Gives out so many numbers. `reads` are done in the same step; their replies come second.
    pub(super) async fn numbers(
        &self,
        on: Option<Incarnation>,
        namespace: &Namespace,
        count: usize,
        reads: &[Cmd],
    ) -> Result<(Numbers, Vec<Value>), RemoteError> {
        for _ in 0..ROUNDS_MAX {
            let about = match self.0.clock.about_now() {
                Some(time) => time,
                None => self.time().await?,
            };
            let step = [reads, &self.giving_out(namespace, count, about)].concat();
            let made = self.make_on(on, &[step]).await?.pop().unwrap_or_default();
            let [.., last, first, epoch, now] = made.as_slice() else {
                return Err(unexpected("the replies of numbers", &made.len()));
            };
            if made.len() != reads.len() + COMMANDS {
                return Err(unexpected("a reply for each command", &made.len()));
            }
            let (last, time) = (score(last)?, time(now)?);
            self.0.clock.set(time);
            if let (Some(_), Some(epoch)) = (text(first), text(epoch)) {
                let first = last.saturating_sub(count as u64) + 1;
                let numbers = Numbers { first, time, epoch: epoch.to_owned() };
                return Ok((numbers, made.into_iter().take(reads.len()).collect()));
            }
            self.make_on(on, &[self.remembering(namespace, last)]).await?;
        }
        let reason = format!("the server forgets what it has to remember of namespace `{namespace}`");
        Err(RemoteError::Broken { reason })
    }

    /// Numbers for what removes. Where the server has no memory for giving out some, those have to do that it would have given
    /// out: no value has one of them.
    pub(super) async fn numbers_of_removal(
        &self,
        namespace: &Namespace,
        count: usize,
    ) -> Result<Numbers, RemoteError> {
        match self.numbers(None, namespace, count, &[]).await {
            Ok((numbers, _)) => Ok(numbers),
            Err(error) if is_out_of_memory(&error) => {
                let asking = vec![asking_last(self.names(), namespace), redis::cmd("TIME")];
                let [last, now] = exactly(self.read(asking).await?)?;
                let last = if last == Value::Nil { 0 } else { score(&last)? };
                let time = time(&now)?;
                Ok(Numbers { first: last.max(time.0) + 1, time, epoch: String::new() })
            }
            Err(error) => Err(error),
        }
    }

    async fn time(&self) -> Result<ServerTime, RemoteError> {
        let [told] = exactly(self.read(vec![redis::cmd("TIME")]).await?)?;
        let time = time(&told)?;
        self.0.clock.set(time);
        Ok(time)
    }

    fn giving_out(&self, namespace: &Namespace, count: usize, about: ServerTime) -> Step {
        let (last, time) = (self.names().last_number(namespace), self.names().time(namespace));
        let mut above = named("ZADD", &time);
        above.arg(about.0).arg(MEMBER);
        let mut greater = named("ZUNIONSTORE", &last);
        greater.arg(2).arg(&last).arg(&time).arg("AGGREGATE").arg("MAX");
        let mut next = named("ZINCRBY", &last);
        next.arg(count).arg(MEMBER);
        let mut first = named("HGET", self.names().state(namespace));
        first.arg("first");
        let epoch = named("GET", self.names().epoch(namespace));
        vec![above, greater, next, first, epoch, redis::cmd("TIME")]
    }

    /// Makes what was lost: what the namespace begins with, and an epoch.
    fn remembering(&self, namespace: &Namespace, first: u64) -> Step {
        let mut begin = named("HSETNX", self.names().state(namespace));
        begin.arg("first").arg(first);
        let mut epoch = named("SET", self.names().epoch(namespace));
        epoch.arg(format!("{:016x}", random())).arg("NX");
        vec![begin, epoch]
    }
}

/// Asks for the last number that was given out.
pub(super) fn asking_last(names: &crate::keys::Names, namespace: &Namespace) -> Cmd {
    let mut command = named("ZSCORE", names.last_number(namespace));
    command.arg(MEMBER);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn scores_are_whole_numbers_in_either_form() {
        assert_eq!(score(&Value::Double(1_790_000_000_000_001.0)).expect("whole"), 1_790_000_000_000_001);
        assert_eq!(score(&bulk("1790000000000001")).expect("whole"), 1_790_000_000_000_001);
        for odd in [Value::Double(0.5), Value::Double(-1.0), Value::Double(f64::NAN), bulk("x"), Value::Nil] {
            assert!(score(&odd).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn a_time_is_two_numbers() {
        let told = Value::Array(vec![bulk("1790000000"), bulk("000007")]);
        assert_eq!(time(&told).expect("a time"), ServerTime(1_790_000_000_000_007));
        for odd in [Value::Array(vec![bulk("1")]), Value::Array(vec![bulk("1"), bulk("x")]), Value::Nil] {
            assert!(time(&odd).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn the_servers_clock_goes_on() {
        let clock = ServerClock::default();
        assert_eq!(clock.about_now(), None);
        clock.set(ServerTime(5_000_000));
        let now = clock.about_now().expect("it was told");
        assert!((5_000_000..305_000_000).contains(&now.0), "{now:?}");
    }
}
