//! Which commands does a call send?
//!
//! 1. Calls of one key or tag touch one partition. Batches are pipelines of them, so that a Cluster can be served by
//!    cutting the pipelines.

use crate::config::Mode;
use crate::keys::Names;
use crate::replies::Judged;
use crate::scripts::{Channels, Script};
use redis::Cmd;
use std::time::Duration;
use terrace_core::envelope::Sealed;
use terrace_core::key::Partition;
use terrace_core::remote::{Delayed, Expected, Lease, LeaseToken, SettingsRecord, Sweep, SweepRule};
use terrace_core::{Key, Namespace, Tag, Ttl, Version};

/// Most bumped tags of one partition that are told apart.
pub(crate) const TAGS_PER_PARTITION_MAX: u32 = 4096;
/// How long the server remembers a beat, in milliseconds.
const BEAT_KEPT_MILLIS: u32 = 60_000;
/// How many names the server looks at in one step of a sweep.
pub(crate) const SCAN_COUNT: u32 = 500;

/// Most delayed invalidations that are noted for one namespace.
pub(crate) const DELAYED_MAX: u32 = 100_000;
/// Most of them that are taken at once.
pub(crate) const DUE_MAX: u32 = 256;
/// How long those who took one have to make it.
pub(crate) const CLAIM_MICROS: u64 = 30_000_000;
/// The longest delay, a hundred years: so that the sum with the time of day is a number that the server knows exactly.
pub(crate) const DELAY_MAX_MICROS: u64 = 3_155_760_000_000_000;
/// Most sweeps by pattern whose victims are still there.
pub(crate) const RULES_MAX: u32 = 64;

/// How long the server keeps a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Keep {
    Always,
    Millis(u64),
    Not,
}

/// Whole milliseconds, rounded down: a value may end early, never late.
pub(crate) fn keep(ttl: Ttl) -> Keep {
    match ttl.duration().map(Ttl::from) {
        None | Some(Ttl::Never) => Keep::Always,
        Some(Ttl::After(duration)) => match u64::try_from(duration.as_millis()) {
            Ok(0) => Keep::Not,
            Ok(millis) => Keep::Millis(millis),
            Err(_) => Keep::Always,
        },
    }
}

/// Asks for some values.
pub(crate) struct Reading {
    pub(crate) commands: Vec<Cmd>,
    /// How many replies come first: the rules of so many partitions.
    pub(crate) partitions: usize,
    /// For each value, which of them are about it.
    pub(crate) places: Vec<usize>,
}

/// The names of one deployment, and of this node in it.
#[derive(Clone, Debug)]
pub(crate) struct Commands {
    pub(crate) names: Names,
    pub(crate) mode: Mode,
    /// This node's name in messages.
    pub(crate) origin: String,
    /// How changes are published.
    pub(crate) channels: Channels,
}

impl Commands {
    /// What kills the values, then the values. Each partition's part comes once.
    pub(crate) fn get(&self, namespace: &Namespace, keys: &[Key]) -> Reading {
        self.reading(namespace, keys, |name| named("GET", name))
    }

    /// [`Commands::get`] of as much of each value as tells its version.
    pub(crate) fn versions<'a>(
        &self,
        namespace: &Namespace,
        keys: impl IntoIterator<Item = &'a Key> + Clone,
    ) -> Reading {
        self.reading(namespace, keys, |name| {
            let mut command = named("GETRANGE", name);
            command.arg(0).arg(Sealed::VERSION_AT.end - 1);
            command
        })
    }

    fn reading<'a>(
        &self,
        namespace: &Namespace,
        keys: impl IntoIterator<Item = &'a Key> + Clone,
        read: impl Fn(&str) -> Cmd,
    ) -> Reading {
        let of = |key: &Key| self.names.partition_of(namespace, key.as_str());
        let mut partitions: Vec<Partition> = keys.clone().into_iter().map(of).collect();
        let count = partitions.len();
        partitions.sort_unstable();
        partitions.dedup();
        let mut commands = Vec::with_capacity(partitions.len() + count * 2);
        for partition in &partitions {
            let mut command = named("HMGET", self.names.counter(namespace, *partition));
            command.arg("first").arg("rules");
            commands.push(command);
        }
        let mut places = Vec::with_capacity(count);
        for key in keys {
            let name = self.names.value(namespace, key);
            commands.extend([named("PTTL", &name), read(&name)]);
            places.push(partitions.binary_search(&of(key)).unwrap_or_default());
        }
        Reading { commands, partitions: partitions.len(), places }
    }

    /// The call of a script that changes the partition of `name`, with what all of those need.
    fn change(&self, script: Script, namespace: &Namespace, partition: Partition, own: &[&str]) -> Cmd {
        let shared = self.names.of_partition(namespace, partition);
        let mut keys = vec![shared.counter.as_str(), &shared.log, &shared.channel];
        match script {
            Script::BumpTag | Script::Generation => keys.push(&shared.generations),
            _ => keys.extend(own),
        }
        let mut command = script.call(self.channels, &keys);
        command.arg(&self.origin);
        command
    }

    fn change_key(&self, script: Script, namespace: &Namespace, key: &Key) -> Cmd {
        let partition = self.names.partition_of(namespace, key.as_str());
        let own = [&*self.names.value(namespace, key), &*self.names.lease(namespace, key)];
        self.change(script, namespace, partition, &own)
    }

    pub(crate) fn lease(
        &self,
        namespace: &Namespace,
        key: &Key,
        token: LeaseToken,
        duration: Duration,
        dead: Option<Version>,
    ) -> Cmd {
        let dead = dead.map(|version| version.get().to_be_bytes());
        let mut command = self.change_key(Script::Lease, namespace, key);
        command.arg(hex(token)).arg(lease_millis(duration)).arg(dead.as_ref().map_or(&[][..], |bytes| bytes));
        command
    }

    pub(crate) fn renew(&self, namespace: &Namespace, key: &Key, lease: &Lease, duration: Duration) -> Cmd {
        let mut command = Script::Renew.call(self.channels, &[&self.names.lease(namespace, key)]);
        command.arg(hex(lease.token)).arg(lease_millis(duration));
        command
    }

    pub(crate) fn release(&self, namespace: &Namespace, key: &Key, lease: &Lease) -> Cmd {
        self.release_of(namespace, key, &hex(lease.token))
    }

    /// Ends a lease, whoever has it.
    pub(crate) fn end_lease(&self, namespace: &Namespace, key: &Key) -> Cmd {
        self.release_of(namespace, key, "")
    }

    fn release_of(&self, namespace: &Namespace, key: &Key, token: &str) -> Cmd {
        let channel = self.names.channel(namespace, self.names.partition_of(namespace, key.as_str()));
        let mut command = Script::Release.call(self.channels, &[&self.names.lease(namespace, key), &channel]);
        command.arg(token).arg(key.as_str());
        command
    }

    pub(crate) fn fill(
        &self,
        namespace: &Namespace,
        key: &Key,
        lease: &Lease,
        value: &Sealed,
        ttl: Ttl,
    ) -> Cmd {
        let partition = self.names.partition_of(namespace, key.as_str());
        let (counter, channel) =
            (self.names.counter(namespace, partition), self.names.channel(namespace, partition));
        let (name, held) = (self.names.value(namespace, key), self.names.lease(namespace, key));
        let keys = [&*counter, &*name, &*held, &*channel];
        let mut command = Script::Fill.call(self.channels, &keys);
        command.arg(hex(lease.token));
        match keep(ttl) {
            Keep::Always => command.arg(""),
            Keep::Millis(millis) => command.arg(millis),
            Keep::Not => command.arg("0"),
        };
        add_value(&mut command, value);
        command.arg(key.as_str());
        command
    }

    /// Its last argument is yet to come: from when on, by the server's clock, it is too late ([`Sending::Sets`]). Where it
    /// removes, that argument means nothing.
    ///
    /// [`Sending::Sets`]: crate::sending::Sending::Sets
    pub(crate) fn set(&self, namespace: &Namespace, key: &Key, value: &Sealed, ttl: Ttl) -> Cmd {
        let keep = keep(ttl);
        if keep == Keep::Not {
            return self.invalidate(namespace, key);
        }
        let mut command = self.change_key(Script::Set, namespace, key);
        command.arg(key.as_str());
        match keep {
            Keep::Millis(millis) => command.arg(millis),
            Keep::Always | Keep::Not => command.arg(""),
        };
        add_value(&mut command, value);
        command
    }

    /// A set, or a removal, on a condition. Its last argument is yet to come, as that of [`Commands::set`].
    pub(crate) fn set_if(
        &self,
        namespace: &Namespace,
        key: &Key,
        expected: Expected,
        judged: Judged,
        value: Option<&(Sealed, Ttl)>,
    ) -> Cmd {
        let bytes = |version: Option<Version>| version.map(|version| version.get().to_be_bytes());
        let expected = match expected {
            Expected::Absent => None,
            Expected::Version(version) => Some(version),
        };
        let mut command = self.change_key(Script::Compare, namespace, key);
        command.arg(key.as_str());
        for version in [bytes(expected), bytes(judged.dead)] {
            command.arg(version.as_ref().map_or(&[][..], |bytes| bytes));
        }
        command.arg(judged.until.get());
        let kept = value.map(|(value, ttl)| (value, keep(*ttl)));
        match kept {
            Some((value, Keep::Millis(millis))) => add_value(command.arg(millis), value),
            Some((value, Keep::Always)) => add_value(command.arg(""), value),
            Some((_, Keep::Not)) | None => {
                command.arg("none").arg("").arg("");
            }
        }
        command
    }

    pub(crate) fn invalidate(&self, namespace: &Namespace, key: &Key) -> Cmd {
        let mut command = self.change_key(Script::Invalidate, namespace, key);
        command.arg(key.as_str());
        command
    }

    /// A sweep, partition by partition.
    pub(crate) fn sweep(&self, namespace: &Namespace, sweep: &Sweep) -> Vec<Cmd> {
        let begin = |partition| {
            let mut command = self.change(Script::Sweep, namespace, partition, &[]);
            command.arg(sweep.rule.pattern()).arg(sweep_id(sweep)).arg(RULES_MAX);
            command
        };
        self.names.partitions().map(begin).collect()
    }

    /// Asks for the rules of all partitions.
    pub(crate) fn rules(&self, namespace: &Namespace) -> Vec<Cmd> {
        let rules = |partition| {
            let mut command = named("HGET", self.names.counter(namespace, partition));
            command.arg("rules");
            command
        };
        self.names.partitions().map(rules).collect()
    }

    /// Looks at about `count` more names.
    pub(crate) fn scan(&self, namespace: &Namespace, rule: &SweepRule, cursor: u64, count: u32) -> Cmd {
        let mut command = redis::cmd("SCAN");
        let pattern = self.names.scan_pattern(namespace, rule);
        command.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(count);
        command
    }

    pub(crate) fn reap(&self, namespace: &Namespace, sweep: &Sweep, keys: &[Key]) -> Vec<Cmd> {
        let reap = |key: &Key| {
            let counter = self.names.counter(namespace, self.names.partition_of(namespace, key.as_str()));
            let mut command =
                Script::Reap.call(self.channels, &[&*counter, &*self.names.value(namespace, key)]);
            command.arg(sweep_id(sweep));
            command
        };
        keys.iter().filter(|key| sweep.rule.names(key.as_str())).map(reap).collect()
    }

    pub(crate) fn retire(&self, namespace: &Namespace, sweep: &Sweep) -> Vec<Cmd> {
        let retire = |partition| {
            let mut command =
                Script::Retire.call(self.channels, &[&self.names.counter(namespace, partition)]);
            command.arg(sweep_id(sweep));
            command
        };
        self.names.partitions().map(retire).collect()
    }

    pub(crate) fn delay(&self, namespace: &Namespace, invalidations: &[Delayed], after: Duration) -> Cmd {
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX).min(DELAY_MAX_MICROS);
        let mut command = Script::Delay.call(self.channels, &[&self.names.delayed(namespace)]);
        command.arg(micros).arg(DELAYED_MAX);
        for invalidation in invalidations {
            command.arg(invalidation.to_string());
        }
        command
    }

    pub(crate) fn due(&self, namespace: &Namespace) -> Cmd {
        let mut command = Script::Due.call(self.channels, &[&self.names.delayed(namespace)]);
        command.arg(CLAIM_MICROS).arg(DUE_MAX);
        command
    }

    pub(crate) fn done(&self, namespace: &Namespace, invalidations: &[Delayed]) -> Cmd {
        let mut command = redis::cmd("ZREM");
        command.arg(self.names.delayed(namespace));
        for invalidation in invalidations {
            command.arg(invalidation.to_string());
        }
        command
    }

    pub(crate) fn bump_tags(&self, namespace: &Namespace, tags: &[Tag]) -> Vec<Cmd> {
        tags.iter()
            .map(|tag| {
                let partition = self.names.partition_of(namespace, tag.as_str());
                let mut command = self.change(Script::BumpTag, namespace, partition, &[]);
                command.arg(tag.as_str()).arg(TAGS_PER_PARTITION_MAX);
                command
            })
            .collect()
    }

    pub(crate) fn generations(&self, namespace: &Namespace, tags: &[Tag]) -> Vec<Cmd> {
        tags.iter()
            .map(|tag| {
                let partition = self.names.partition_of(namespace, tag.as_str());
                let mut command = self.change(Script::Generation, namespace, partition, &[]);
                command.arg(tag.as_str());
                command
            })
            .collect()
    }

    /// Makes the tables of tag generations that are not there, so that no load finds itself older than one.
    pub(crate) fn floors(&self, namespace: &Namespace) -> Vec<Cmd> {
        self.names
            .partitions()
            .map(|partition| {
                let mut command = self.change(Script::Generation, namespace, partition, &[]);
                command.arg("");
                command
            })
            .collect()
    }

    /// Writes settings down that are not yet, if none differs, and asks for them.
    pub(crate) fn agree(&self, namespace: &Namespace, record: &SettingsRecord) -> Cmd {
        let mut command = Script::Agree.call(self.channels, &[&self.names.meta(namespace)]);
        for (name, value) in record.fields() {
            command.arg(name).arg(value);
        }
        command
    }

    /// Forgets the settings of a namespace.
    pub(crate) fn forget_settings(&self, namespace: &Namespace) -> Cmd {
        named("UNLINK", self.names.meta(namespace))
    }

    /// Greets partitions by the server's incarnation.
    pub(crate) fn hello(
        &self,
        namespace: &Namespace,
        partitions: &[Partition],
        incarnation: &str,
    ) -> Vec<Cmd> {
        let hello = |partition: &Partition| {
            let mut command = self.change(Script::Hello, namespace, *partition, &[]);
            command.arg(incarnation);
            command
        };
        partitions.iter().map(hello).collect()
    }

    pub(crate) fn refresh(&self, namespace: &Namespace, key: &Key) -> Cmd {
        let partition = self.names.partition_of(namespace, key.as_str());
        let mut command = self.change(Script::Refresh, namespace, partition, &[]);
        command.arg(key.as_str());
        command
    }

    pub(crate) fn reassert(&self, namespace: &Namespace, key: &Key, number: Option<Version>) -> Cmd {
        let mut command = self.change_key(Script::Reassert, namespace, key);
        command.arg(key.as_str()).arg(number.map_or_else(String::new, |number| number.to_string()));
        command
    }

    /// A beat, to the primary that `tag` leads to; see [`Names::beat`].
    pub(crate) fn beat(&self, tag: Option<u32>, number: u64) -> Cmd {
        let mut command = Script::Beat.call(self.channels, &[&self.names.beat(tag, &self.origin)]);
        command.arg(number).arg(BEAT_KEPT_MILLIS);
        command
    }

    /// Asks for the numbers of the last changes.
    pub(crate) fn counters(&self, namespace: &Namespace, partitions: &[Partition]) -> Vec<Cmd> {
        let counter = |partition: &Partition| {
            let mut command = named("HGET", self.names.counter(namespace, *partition));
            command.arg("seq");
            command
        };
        partitions.iter().map(counter).collect()
    }

    /// Asks for the numbers of the last changes, each with the incarnation that the partition was last greeted by.
    pub(crate) fn greeted(&self, namespace: &Namespace, partitions: &[Partition]) -> Vec<Cmd> {
        let greeted = |partition: &Partition| {
            let mut command = named("HMGET", self.names.counter(namespace, *partition));
            command.arg(&["seq", "inc"]);
            command
        };
        partitions.iter().map(greeted).collect()
    }

    /// Asks for what the logs hold after these numbers.
    pub(crate) fn changes_since(&self, namespace: &Namespace, after: &[(Partition, Version)]) -> Vec<Cmd> {
        let log = |(partition, version): &(Partition, Version)| {
            let mut command = named("XRANGE", self.names.log(namespace, *partition));
            command.arg(format!("({version}-0")).arg("+");
            command
        };
        after.iter().map(log).collect()
    }
}

/// A command about a name.
pub(crate) fn named(command: &str, name: impl redis::ToRedisArgs) -> Cmd {
    let mut command = redis::cmd(command);
    command.arg(name);
    command
}

/// How long the server keeps a lease.
pub(crate) fn lease_millis(duration: Duration) -> u64 {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    millis.clamp(1, u64::try_from(Ttl::LONGEST.as_millis()).unwrap_or(u64::MAX))
}

pub(crate) fn hex(token: LeaseToken) -> String {
    format!("{:032x}", token.0)
}

fn sweep_id(sweep: &Sweep) -> String {
    format!("{:016x}", sweep.id)
}

/// The bytes before the version and those after it: the script puts the version in between.
fn add_value(command: &mut Cmd, value: &Sealed) {
    let bytes = value.as_bytes();
    command.arg(&bytes[..Sealed::VERSION_AT.start]).arg(&bytes[Sealed::VERSION_AT.end..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_keeps_no_value_longer_than_its_ttl() {
        let millis = Duration::from_millis;
        for (ttl, expected) in [
            (Ttl::Never, Keep::Always),
            (Ttl::After(Duration::ZERO), Keep::Not),
            (Ttl::After(Duration::from_micros(999)), Keep::Not),
            (Ttl::After(Duration::from_micros(1999)), Keep::Millis(1)),
            (Ttl::After(millis(1 << 31)), Keep::Millis(1 << 31)),
            (Ttl::After(Duration::MAX), Keep::Always),
        ] {
            assert_eq!(keep(ttl), expected, "{ttl:?}");
        }
    }
}
