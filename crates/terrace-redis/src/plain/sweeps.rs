//! What does a sweep kill, and what is removed?
//!
//! 1. A sweep holds once its rule is written: from then on whoever reads a value knows the rule. In the same step the epoch ends,
//!    so every lease from before is void.
//! 2. What is removed was watched from before its version was read: what has come since stays.

use super::PlainRedis;
use super::exclusive::{Guarded, Judged};
use super::state;
use super::steps::{Step, exactly};
use crate::commands::{RULES_MAX, named};
use crate::config::random;
use crate::error::unexpected;
use crate::replies;
use crate::rules::Rules;
use redis::{Cmd, Value};
use terrace_core::bus::{Change, Incarnation};
use terrace_core::remote::{Sweep, SweepRule, Swept};
use terrace_core::{Key, Namespace, Partition, RemoteError, Version};

/// Keys that are watched together. Others may change one of them meanwhile, so few.
const WATCHED_MAX: usize = 32;
/// How often a batch is tried again of which somebody has changed a key.
const ROUNDS_MAX: u32 = 8;

impl PlainRedis {
    pub(super) async fn sweep_on(
        &self,
        on: Option<Incarnation>,
        namespace: &Namespace,
        rule: &SweepRule,
    ) -> Result<Swept, RemoteError> {
        let reads = [state::asking(self.names(), namespace)];
        let (numbers, read) = self.numbers(on, namespace, 1, &reads).await?;
        let [remembered] = exactly(read)?;
        let rules = state::rules(&remembered)?;
        let is_replaced = |other: &SweepRule| *rule == SweepRule::All || other == rule;
        let (replaced, kept): (Vec<_>, Vec<_>) =
            rules.all().iter().map(|(_, sweep)| sweep).partition(|sweep| is_replaced(&sweep.rule));
        if kept.len() >= RULES_MAX as usize {
            let reason = format!(
                "{RULES_MAX} sweeps by pattern are active, and no more can be; tags have no such bound"
            );
            return Err(RemoteError::Refused { reason });
        }
        let (sweep, number) = (Sweep { rule: rule.clone(), id: random() }, numbers.at(0));
        let name = self.names().state(namespace);
        let mut write = named("HSET", &name);
        write.arg(state::field_of(&sweep)).arg(state::rule_text(number, &sweep));
        let mut step = vec![write, named("DEL", self.names().epoch(namespace))];
        if !replaced.is_empty() {
            let fields: Vec<String> = replaced.into_iter().map(state::field_of).collect();
            let mut forget = named("HDEL", &name);
            forget.arg(fields);
            step.push(forget);
        }
        // One message is enough: all partitions are told of over one connection.
        step.push(self.publish(namespace, Partition(0), number, Change::Sweep(rule.clone())));
        self.make_on(on, &[step]).await?;
        Ok(Swept { sweep, version: Some(number) })
    }

    /// What kills values now.
    pub(super) async fn ask_rules(&self, namespace: &Namespace) -> Result<Rules, RemoteError> {
        let [remembered] = exactly(self.read(vec![state::asking(self.names(), namespace)]).await?)?;
        state::rules(&remembered)
    }

    pub(super) async fn reap_keys(
        &self,
        namespace: &Namespace,
        sweep: &Sweep,
        keys: &[Key],
    ) -> Result<u64, RemoteError> {
        let named_keys: Vec<&Key> = keys.iter().filter(|key| sweep.rule.names(key.as_str())).collect();
        let mut asking = named("HGET", self.names().state(namespace));
        asking.arg(state::field_of(sweep));
        let mut removed = 0;
        for keys in named_keys.chunks(WATCHED_MAX) {
            removed += self
                .remove_checked(None, namespace, keys, &[asking.clone()], |read, versions| {
                    let number = match read.first() {
                        None | Some(Value::Nil) => return Ok(None),
                        Some(held) => state::read_rule(held)?.0,
                    };
                    let is_dead = |version: &Option<Version>| version.is_some_and(|version| version < number);
                    let dead = keys.iter().zip(versions).filter(|(_, version)| is_dead(version));
                    let names = dead.map(|(key, _)| self.names().value(namespace, key)).collect::<Vec<_>>();
                    let mut remove = redis::cmd("DEL");
                    remove.arg(&names);
                    Ok((!names.is_empty()).then(|| vec![remove]))
                })
                .await?;
        }
        Ok(removed)
    }

    /// Removes again what was changed, as far as it is older, and publishes that.
    pub(super) async fn reassert_keys(
        &self,
        on: Option<Incarnation>,
        namespace: &Namespace,
        keys: &[(&Key, Option<Version>)],
    ) -> Result<(), RemoteError> {
        for chunk in keys.chunks(WATCHED_MAX) {
            let (numbers, _) = self.numbers(on, namespace, chunk.len(), &[]).await?;
            let keys: Vec<&Key> = chunk.iter().map(|(key, _)| *key).collect();
            self.remove_checked(on, namespace, &keys, &[], |_, versions| {
                let mut step = Step::new();
                for (index, ((key, changed), version)) in chunk.iter().zip(versions).enumerate() {
                    let is_newer = changed.zip(*version).is_some_and(|(changed, version)| version >= changed);
                    if !is_newer {
                        step.push(named("DEL", self.names().value(namespace, key)));
                    }
                    step.push(named("DEL", self.names().lease(namespace, key)));
                    let partition = self.names().partition_of(namespace, key.as_str());
                    let change = Change::Invalidate((*key).clone());
                    step.push(self.publish(namespace, partition, numbers.at(index), change));
                }
                Ok(Some(step))
            })
            .await?;
        }
        Ok(())
    }

    /// Reads the versions of some values, and does what `judge` decides unless one of them has changed since. `reads` are read
    /// before them. Returns the first reply to that.
    async fn remove_checked(
        &self,
        on: Option<Incarnation>,
        namespace: &Namespace,
        keys: &[&Key],
        reads: &[Cmd],
        judge: impl Fn(&[Value], &[Option<Version>]) -> Result<Option<Step>, RemoteError>,
    ) -> Result<u64, RemoteError> {
        let watched: Vec<String> = keys.iter().map(|key| self.names().value(namespace, key)).collect();
        let asking = watched.iter().map(|name| {
            let mut command = named("GETRANGE", name);
            command.arg(1).arg(8);
            command
        });
        let asking: Vec<Cmd> = reads.iter().cloned().chain(asking).collect();
        for _ in 0..ROUNDS_MAX {
            let judged = |read: Vec<Value>, _| {
                let (read, found) = read.split_at(reads.len());
                let versions = found.iter().map(version).collect::<Result<Vec<_>, _>>()?;
                let step = judge(read, &versions)?;
                Ok(step.map_or(Judged::Leave(()), |step| Judged::Change(step, ())))
            };
            match self.guarded(on, &watched, &asking, judged).await? {
                Guarded::Left(()) => return Ok(0),
                Guarded::Changed((), made) => return made.first().map_or(Ok(0), replies::count),
                Guarded::Overtaken => {}
            }
        }
        let reason = format!("keys of namespace `{namespace}` are changed as fast as they are looked at");
        Err(RemoteError::Broken { reason })
    }
}

/// The version of a value, from the bytes where it stands; zero of what is no envelope, and none where there is no value.
fn version(found: &Value) -> Result<Option<Version>, RemoteError> {
    match found {
        Value::BulkString(bytes) if bytes.is_empty() => Ok(None),
        Value::BulkString(bytes) => {
            let version = bytes.as_slice().try_into().map_or(0, u64::from_be_bytes);
            Ok(Some(version.into()))
        }
        other => Err(unexpected("a part of a value", other)),
    }
}
