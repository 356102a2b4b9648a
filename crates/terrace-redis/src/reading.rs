//! What is read, and is it alive?
//!
//! 1. What kills the values of a partition is read before them, in the same exchange ([`crate::rules`]).
//! 2. A read asks for the time left, then for the value. A writer that comes in between leaves a time that belongs to
//!    the value before, so the time of the value's own envelope, from when the request was sent, is a bound as well.
//! 3. Whether a version is still there is asked in the same way, with so much of each value as tells its version.

use crate::commands::Reading;
use crate::error;
use crate::listing;
use crate::remote::Redis;
use crate::replies;
use crate::rules::Rules;
use redis::Value;
use terrace_core::remote::{ListPlace, Listed, Stored, SweepRule, Validity};
use terrace_core::{Key, Namespace, RemoteError, Ttl, Version};

impl Redis {
    /// The values of some keys.
    pub(crate) async fn get_all(
        &self,
        namespace: &Namespace,
        keys: &[Key],
    ) -> Result<Vec<Option<Stored>>, RemoteError> {
        let mut reading = self.commands().get(namespace, keys);
        let replies = self.read(std::mem::take(&mut reading.commands)).await?;
        alive(keys, &reading, replies)
    }

    /// [`Remote::validate`]: of each value so much as tells its version.
    pub(crate) async fn validate_all(
        &self,
        namespace: &Namespace,
        asked: &[(Key, Version)],
    ) -> Result<Vec<Validity>, RemoteError> {
        let keys = asked.iter().map(|(key, _)| key);
        let mut reading = self.commands().versions(namespace, keys.clone());
        let replies = self.read(std::mem::take(&mut reading.commands)).await?;
        let found = alive(keys, &reading, replies)?;
        let judge = |(found, (_, known)): (Option<Stored>, &(Key, Version))| {
            // A part of nothing is no bytes.
            Validity::of(found.filter(|stored| !stored.bytes.is_empty()).as_ref(), *known)
        };
        Ok(found.into_iter().zip(asked).map(judge).collect())
    }

    /// [`Remote::list`]: a page of names, and so much of each value as tells whether it is alive.
    pub(crate) async fn list_page(
        &self,
        namespace: &Namespace,
        rule: &SweepRule,
        from: Option<ListPlace>,
        count: u32,
    ) -> Result<Option<Listed>, RemoteError> {
        let (topology, commands) = (self.topology(), self.commands());
        let Some(page) = listing::page(topology, commands, namespace, rule, from, count).await? else {
            return Ok(None);
        };
        let mut reading = commands.versions(namespace, &page.keys);
        let replies = self.read(std::mem::take(&mut reading.commands)).await?;
        let found = alive(&page.keys, &reading, replies)?;
        Ok(Some(Listed { entries: listed(page.keys, found), next: page.next }))
    }
}

/// The keys that have a value, with the time that is left to it.
pub(crate) fn listed(keys: Vec<Key>, found: Vec<Option<Stored>>) -> Vec<(Key, Option<Ttl>)> {
    let is_there = |(key, found): (Key, Option<Stored>)| {
        // A part of nothing is no bytes.
        found.filter(|stored| !stored.bytes.is_empty()).map(|stored| (key, stored.remaining))
    };
    keys.into_iter().zip(found).filter_map(is_there).collect()
}

/// The values of some keys that are not dead.
fn alive<'a>(
    keys: impl IntoIterator<Item = &'a Key>,
    Reading { partitions, places, .. }: &Reading,
    replies: Vec<Value>,
) -> Result<Vec<Option<Stored>>, RemoteError> {
    let mut replies = replies.into_iter();
    let rules = replies.by_ref().take(*partitions).map(|reply| Rules::read(&reply));
    let rules: Vec<Rules> = rules.collect::<Result<_, _>>()?;
    let mut found = Vec::with_capacity(places.len());
    for (key, &place) in keys.into_iter().zip(places) {
        let (Some(ttl), Some(value), Some(rules)) = (replies.next(), replies.next(), rules.get(place)) else {
            return Err(error::unexpected("a reply for each key", &found.len()));
        };
        let stored = replies::stored(&ttl, value)?;
        found.push(stored.filter(|stored| !rules.kill(key.as_str(), stored)));
    }
    Ok(found)
}
