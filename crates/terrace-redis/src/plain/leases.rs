//! Who may load, and whose value is stored?
//!
//! A lease is the text `<token>:<version>:<granted at>:<epoch>:<incarnation>`, which expires by itself. Its version was given
//! out before it was written, in one step with the reading of the epoch.
//!
//! 1. A lease is void if the namespace has another epoch by now, or the server another incarnation, as far as both are known.
//!    A void lease fills nothing and holds nobody up.
//! 2. Whatever changes the key deletes the lease, which whoever fills has watched. So a fill comes before such a change, which then
//!    removes what it has stored, or is refused.
//! 3. A lease is renewed and given back only by who has it: that is watched, too.
//! 4. Who takes the place of a void lease may end one that somebody else has put there just then. That costs a load.

use super::PlainRedis;
use super::exclusive::{Guarded, Judged};
use super::numbers::Numbers;
use super::state;
use super::steps::{Step, exactly};
use crate::commands::{Keep, hex, keep, lease_millis, named};
use crate::error::unexpected;
use crate::incarnation;
use crate::link::text;
use crate::replies;
use redis::{Cmd, Value};
use std::time::Duration;
use terrace_core::bus::{Incarnation, LoadEnded};
use terrace_core::envelope::Sealed;
use terrace_core::remote::{FillOutcome, Lease, LeaseOutcome, LeaseToken, ServerTime};
use terrace_core::{Key, Namespace, RemoteError, Ttl, Version};

/// A lease as it is held.
struct Held {
    lease: Lease,
    epoch: String,
    incarnation: Option<Incarnation>,
}

impl Held {
    /// Anything else than a lease holds nobody up.
    fn parse(held: &Value) -> Option<Self> {
        let mut parts = text(held)?.split(':');
        let mut part = || parts.next();
        let token = u128::from_str_radix(part()?, 16).ok()?;
        let (version, granted_at): (u64, u64) = (part()?.parse().ok()?, part()?.parse().ok()?);
        let (epoch, of_server) = (part()?.to_owned(), part()?);
        let incarnation = match of_server {
            "-" => None,
            of_server => Some(Incarnation(u64::from_str_radix(of_server, 16).ok()?)),
        };
        let granted_at = ServerTime(granted_at);
        let lease = Lease { token: LeaseToken(token), version: version.into(), granted_at };
        Some(Self { lease, epoch, incarnation })
    }

    fn text(&self) -> String {
        let Lease { token, version, granted_at } = &self.lease;
        let of_server = self.incarnation.map_or_else(|| "-".to_owned(), incarnation::text_of);
        format!("{}:{version}:{}:{}:{of_server}", hex(*token), granted_at.0, self.epoch)
    }

    /// Whether it holds in this epoch on a server of this incarnation.
    fn holds(&self, epoch: &str, on: Option<Incarnation>) -> bool {
        let is_other = self.incarnation.zip(on).is_some_and(|(own, on)| own != on);
        self.epoch == epoch && !is_other
    }
}

impl PlainRedis {
    pub(super) async fn ask_lease(
        &self,
        namespace: &Namespace,
        key: &Key,
        token: LeaseToken,
        duration: Duration,
        dead: Option<Version>,
    ) -> Result<LeaseOutcome, RemoteError> {
        let name = self.names().value(namespace, key);
        let reads = [state::asking(self.names(), namespace), named("PTTL", &name), named("GET", &name)];
        let (numbers, read) = self.numbers(None, namespace, 1, &reads).await?;
        let [remembered, ttl, value] = exactly(read)?;
        let rules = state::rules(&remembered)?;
        let alive = replies::stored(&ttl, value)?
            .filter(|stored| !rules.kill(key.as_str(), stored) && Some(stored.claimed_version()) != dead);
        if let Some(stored) = alive {
            return Ok(LeaseOutcome::Hit(stored));
        }
        let incarnation = self.0.topology.only(self.settings().write_timeout).await?.0.incarnation();
        let Numbers { time, epoch, .. } = &numbers;
        let lease = Lease { token, version: numbers.at(0), granted_at: *time };
        let wanted = Held { lease, epoch: epoch.clone(), incarnation };
        let asking = self.asking_lease(namespace, key, &wanted, duration);
        if let Some(outcome) = granted(self.make_one(asking.clone()).await?, &wanted)? {
            return Ok(outcome);
        }
        let anew = [vec![named("DEL", self.names().lease(namespace, key))], asking].concat();
        let made = self.make_one(anew).await?.split_off(1);
        Ok(granted(made, &wanted)?.unwrap_or(LeaseOutcome::Held { remaining: Duration::ZERO }))
    }

    /// Writes a lease unless there is one, and reads the one that is there then.
    fn asking_lease(&self, namespace: &Namespace, key: &Key, wanted: &Held, duration: Duration) -> Step {
        let name = self.names().lease(namespace, key);
        let mut ask = named("SET", &name);
        ask.arg(wanted.text()).arg("NX").arg("PX").arg(lease_millis(duration));
        vec![ask, named("GET", &name), named("PTTL", &name)]
    }

    pub(super) async fn renew_lease(
        &self,
        namespace: &Namespace,
        key: &Key,
        lease: &Lease,
        duration: Duration,
    ) -> Result<bool, RemoteError> {
        let mut longer = named("PEXPIRE", self.names().lease(namespace, key));
        longer.arg(lease_millis(duration));
        match self.if_held(namespace, key, lease, vec![longer]).await? {
            Guarded::Changed((), made) => replies::renewed(made.first().unwrap_or(&Value::Nil)),
            Guarded::Left(()) | Guarded::Overtaken => Ok(false),
        }
    }

    pub(super) async fn release_lease(
        &self,
        namespace: &Namespace,
        key: &Key,
        lease: &Lease,
    ) -> Result<(), RemoteError> {
        self.if_held(namespace, key, lease, self.ending(namespace, key)).await.map(drop)
    }

    /// Ends the leases of these keys, whoever has them, and tells those who wait for one.
    pub(super) async fn end_leases<'a>(
        &self,
        namespace: &Namespace,
        keys: impl Iterator<Item = &'a Key>,
    ) -> Result<(), RemoteError> {
        let keys: Vec<&Key> = keys.collect();
        let ending = keys.iter().map(|key| named("DEL", self.names().lease(namespace, key)));
        let replies = self.change(ending.collect()).await?;
        let mut telling = Vec::new();
        for (key, reply) in keys.into_iter().zip(&replies) {
            if replies::count(reply)? > 0 {
                telling.push(self.telling(namespace, key));
            }
        }
        if telling.is_empty() { Ok(()) } else { self.change(telling).await.map(drop) }
    }

    /// Does a step if the lease is still this one.
    async fn if_held(
        &self,
        namespace: &Namespace,
        key: &Key,
        lease: &Lease,
        step: Step,
    ) -> Result<Guarded<()>, RemoteError> {
        let name = self.names().lease(namespace, key);
        let judge = |read: Vec<Value>, _| {
            let is_held =
                read.first().and_then(Held::parse).is_some_and(|held| held.lease.token == lease.token);
            Ok(if is_held { Judged::Change(step, ()) } else { Judged::Leave(()) })
        };
        self.guarded(None, std::slice::from_ref(&name), &[named("GET", &name)], judge).await
    }

    /// Ends a lease, and tells those who wait for that.
    fn ending(&self, namespace: &Namespace, key: &Key) -> Step {
        vec![named("DEL", self.names().lease(namespace, key)), self.telling(namespace, key)]
    }

    /// Tells those who wait for a lease that it has ended.
    fn telling(&self, namespace: &Namespace, key: &Key) -> Cmd {
        let partition = self.names().partition_of(namespace, key.as_str());
        self.say(namespace, partition, &LoadEnded(key.clone()).to_string())
    }

    pub(super) async fn fill_under(
        &self,
        namespace: &Namespace,
        key: &Key,
        lease: &Lease,
        value: &Sealed,
        ttl: Ttl,
    ) -> Result<FillOutcome, RemoteError> {
        let watched = [self.names().lease(namespace, key), self.names().epoch(namespace)];
        let reads = [named("GET", &watched[0]), named("GET", &watched[1])];
        let judge = |read: Vec<Value>, on| {
            let [held, epoch] = exactly(read)?;
            let held = Held::parse(&held).filter(|held| held.lease.token == lease.token);
            let Some(held) = held else { return Ok(Judged::Leave(FillOutcome::Rejected)) };
            let mut step = self.ending(namespace, key);
            if !held.holds(text(&epoch).unwrap_or_default(), on) {
                return Ok(Judged::Change(step, FillOutcome::Rejected));
            }
            if let Some(store) = self.storing(namespace, key, value, held.lease.version, ttl) {
                step.insert(0, store);
            }
            Ok(Judged::Change(step, FillOutcome::Stored))
        };
        match self.guarded(None, &watched, &reads, judge).await? {
            Guarded::Left(outcome) | Guarded::Changed(outcome, _) => Ok(outcome),
            Guarded::Overtaken => Ok(FillOutcome::Rejected),
        }
    }

    /// Stores a value; nothing if it is to be kept for no time.
    pub(super) fn storing(
        &self,
        namespace: &Namespace,
        key: &Key,
        value: &Sealed,
        version: Version,
        ttl: Ttl,
    ) -> Option<Cmd> {
        let mut store = named("SET", self.names().value(namespace, key));
        store.arg(value.stamp(version).as_ref());
        match keep(ttl) {
            Keep::Not => return None,
            Keep::Always => {}
            Keep::Millis(millis) => {
                store.arg("PX").arg(millis);
            }
        }
        Some(store)
    }
}

/// What asking for a lease came to; nothing if the one that is there is void.
fn granted(made: Vec<Value>, wanted: &Held) -> Result<Option<LeaseOutcome>, RemoteError> {
    let [_, held, ttl] = exactly(made)?;
    let Some(held) = Held::parse(&held).filter(|held| held.holds(&wanted.epoch, wanted.incarnation)) else {
        return Ok(None);
    };
    if held.lease.token == wanted.lease.token {
        return Ok(Some(LeaseOutcome::Granted(held.lease)));
    }
    match ttl {
        Value::Int(millis) => {
            let remaining = Duration::from_millis(u64::try_from(millis).unwrap_or_default());
            Ok(Some(LeaseOutcome::Held { remaining }))
        }
        other => Err(unexpected("milliseconds", &other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(incarnation: Option<Incarnation>) -> Held {
        let lease = Lease { token: LeaseToken(0xab), version: 7.into(), granted_at: ServerTime(5) };
        Held { lease, epoch: "00000000000000cd".to_owned(), incarnation }
    }

    #[test]
    fn a_lease_is_read_as_it_was_written() {
        for incarnation in [None, Some(Incarnation(0xef))] {
            let text = held(incarnation).text();
            let read = Held::parse(&Value::BulkString(text.clone().into())).expect("a lease");
            assert_eq!((read.lease.clone(), read.text()), (held(incarnation).lease, text));
        }
        for odd in ["", "ab", "ab:7:5:cd", "x:7:5:cd:-", "ab:x:5:cd:-", "ab:7:5:cd:x"] {
            assert!(Held::parse(&Value::BulkString(odd.into())).is_none(), "{odd}");
        }
        assert!(Held::parse(&Value::Nil).is_none());
    }

    #[test]
    fn a_lease_holds_in_its_epoch_and_on_its_server() {
        let epoch = "00000000000000cd";
        let (known, other) = (Some(Incarnation(1)), Some(Incarnation(2)));
        assert!(held(None).holds(epoch, known) && held(known).holds(epoch, None));
        assert!(held(known).holds(epoch, known) && !held(known).holds(epoch, other));
        assert!(!held(known).holds("", known) && !held(None).holds("00000000000000ce", None));
    }
}
