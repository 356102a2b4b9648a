//! Which generations do tags have?
//!
//! Tables are those of the scripts: a hash for each partition, with `t:<tag>` for each tag that was bumped and `floor` for all
//! others, each `<generation>:<time>`.
//!
//! 1. A generation is a number that was given out for it alone. So generations of a tag are never equal, in whichever order bumps
//!    that meet are made.
//! 2. A table without a floor is a lost one: it gets a new floor, which is told in the same step.
//! 3. The time of a generation is not later than its bump.

use super::PlainRedis;
use super::numbers::Numbers;
use super::steps::Step;
use crate::commands::{TAGS_PER_PARTITION_MAX, named};
use crate::error::unexpected;
use crate::replies;
use redis::{Cmd, Value};
use terrace_core::bus::{Change, Incarnation};
use terrace_core::remote::Generation;
use terrace_core::{Namespace, Partition, RemoteError, Tag, Version};

/// How often a table that is lost is made again, before it is said that it does not last.
const ROUNDS_MAX: u32 = 4;

fn field_of(tag: &Tag) -> String {
    format!("t:{tag}")
}

fn text_of(numbers: &Numbers, index: usize) -> String {
    format!("{}:{}", numbers.at(index), numbers.time.0)
}

impl PlainRedis {
    fn table(&self, namespace: &Namespace, partition: Partition) -> String {
        self.names().of_partition(namespace, partition).generations
    }

    fn table_of(&self, namespace: &Namespace, tag: &Tag) -> String {
        self.table(namespace, self.names().partition_of(namespace, tag.as_str()))
    }

    /// Makes the tables that are not there, so that no load finds itself older than one.
    pub(super) async fn make_floors(&self, namespace: &Namespace) -> Result<(), RemoteError> {
        let asking = |partition| {
            let mut command = named("HEXISTS", self.table(namespace, partition));
            command.arg("floor");
            command
        };
        let replies = self.read(self.names().partitions().map(asking).collect()).await?;
        let is_missing = |(_, reply): &(Partition, Value)| *reply == Value::Int(0);
        let missing = self.names().partitions().zip(replies).filter(is_missing);
        self.lay_floors(namespace, missing.map(|(partition, _)| partition).collect()).await
    }

    async fn lay_floors(&self, namespace: &Namespace, partitions: Vec<Partition>) -> Result<(), RemoteError> {
        if partitions.is_empty() {
            return Ok(());
        }
        let (numbers, _) = self.numbers(None, namespace, partitions.len(), &[]).await?;
        let lay = |(index, partition): (usize, &Partition)| {
            let mut floor = named("HSETNX", self.table(namespace, *partition));
            floor.arg("floor").arg(text_of(&numbers, index));
            vec![floor, self.publish(namespace, *partition, numbers.at(index), Change::Floor)]
        };
        let steps: Vec<Step> = partitions.iter().enumerate().map(lay).collect();
        self.make(&steps).await.map(drop)
    }

    pub(super) async fn ask_generations(
        &self,
        namespace: &Namespace,
        tags: &[Tag],
    ) -> Result<Vec<Generation>, RemoteError> {
        let asking = |tag: &Tag| {
            let mut command = named("HMGET", self.table_of(namespace, tag));
            command.arg("floor").arg(field_of(tag));
            command
        };
        let asking: Vec<Cmd> = tags.iter().map(asking).collect();
        if asking.is_empty() {
            return Ok(Vec::new());
        }
        for _ in 0..ROUNDS_MAX {
            let found = self.read(asking.clone()).await?;
            let found = found.iter().map(generation).collect::<Result<Vec<_>, _>>()?;
            let mut missing: Vec<Partition> = tags
                .iter()
                .zip(&found)
                .filter(|(_, found)| found.is_none())
                .map(|(tag, _)| self.names().partition_of(namespace, tag.as_str()))
                .collect();
            if missing.is_empty() {
                return Ok(found.into_iter().flatten().collect());
            }
            missing.sort_unstable();
            missing.dedup();
            self.lay_floors(namespace, missing).await?;
        }
        let reason = format!("the server forgets the generations of tags of namespace `{namespace}`");
        Err(RemoteError::Broken { reason })
    }

    pub(super) async fn bump(
        &self,
        on: Option<Incarnation>,
        namespace: &Namespace,
        tags: &[Tag],
    ) -> Result<Vec<Version>, RemoteError> {
        if tags.is_empty() {
            return Ok(Vec::new());
        }
        let asking = |tag: &Tag| {
            let table = self.table_of(namespace, tag);
            let mut floor = named("HEXISTS", &table);
            floor.arg("floor");
            [floor, named("HLEN", &table)]
        };
        let asking: Vec<Cmd> = tags.iter().flat_map(asking).collect();
        let (numbers, found) = self.numbers(on, namespace, 2 * tags.len(), &asking).await?;
        let bump = |(index, tag): (usize, &Tag)| {
            let is_whole = found[2 * index] == Value::Int(1);
            let has_room =
                matches!(found[2 * index + 1], Value::Int(held) if held <= i64::from(TAGS_PER_PARTITION_MAX));
            self.bumping(namespace, tag, &numbers, 2 * index, is_whole && has_room)
        };
        let steps: Vec<Step> = tags.iter().enumerate().map(bump).collect();
        self.make_on(on, &steps).await?;
        Ok((0..tags.len()).map(|index| numbers.at(2 * index + 1)).collect())
    }

    /// Gives a tag a new generation. A table that is not to be kept is dropped for a new floor.
    fn bumping(
        &self,
        namespace: &Namespace,
        tag: &Tag,
        numbers: &Numbers,
        index: usize,
        is_kept: bool,
    ) -> Step {
        let partition = self.names().partition_of(namespace, tag.as_str());
        let table = self.table(namespace, partition);
        let mut step = Step::new();
        if !is_kept {
            let mut floor = named("HSET", &table);
            floor.arg("floor").arg(text_of(numbers, index));
            step.extend([named("DEL", &table), floor]);
            step.push(self.publish(namespace, partition, numbers.at(index), Change::Floor));
        }
        let mut bumped = named("HSET", &table);
        bumped.arg(field_of(tag)).arg(text_of(numbers, index + 1));
        step.push(bumped);
        step.push(self.publish(namespace, partition, numbers.at(index + 1), Change::Tag(tag.clone())));
        step
    }
}

/// The generation of a tag, from the floor and its own; none if there is no floor.
fn generation(reply: &Value) -> Result<Option<Generation>, RemoteError> {
    let Value::Array(fields) = reply else { return Err(unexpected("a floor and a generation", reply)) };
    match fields.as_slice() {
        [Value::Nil, _] => Ok(None),
        [floor, Value::Nil] => replies::generation(floor).map(Some),
        [_, own] => replies::generation(own).map(Some),
        _ => Err(unexpected("a floor and a generation", reply)),
    }
}
