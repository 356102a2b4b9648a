//! Listing what the server has, page by page.

use super::server::{Caller, Server};
use terrace_core::remote::{ListPlace, Listed, SweepRule};
use terrace_core::{Key, Namespace};

impl Server {
    /// Keys that are alive, in the order of a number of each. A place is the number of the last one, and another life of the server
    /// loses it.
    pub(super) fn list(
        &mut self,
        namespace: &Namespace,
        rule: &SweepRule,
        from: Option<ListPlace>,
        count: u32,
        life: u64,
        caller: Caller,
    ) -> Option<Listed> {
        if from.is_some_and(|ListPlace([of, ..])| of != life) {
            return None;
        }
        let after = from.map(|ListPlace([_, number, ..])| number);
        let mut numbered: Vec<(u64, Key)> = self
            .keys(namespace, caller.now.moment)
            .into_iter()
            .map(|key| (number_of(&key), key))
            .filter(|(number, _)| after.is_none_or(|after| *number > after))
            .collect();
        numbered.sort_unstable();
        let mut looked_at = numbered.len().min(count.max(1) as usize);
        // Keys of one number come together.
        while looked_at > 0
            && looked_at < numbered.len()
            && numbered[looked_at].0 == numbered[looked_at - 1].0
        {
            looked_at += 1;
        }
        let is_end = looked_at == numbered.len();
        numbered.truncate(looked_at);
        let next = numbered.last().filter(|_| !is_end).map(|(number, _)| ListPlace([life, *number, 0, 0]));
        let entries =
            numbered.into_iter().filter(|(_, key)| rule.names(key.as_str())).filter_map(|(_, key)| {
                let remaining = self.get(namespace, &key, caller)?.remaining;
                Some((key, remaining))
            });
        Some(Listed { entries: entries.collect(), next })
    }
}

/// A number for a key, in an order that has nothing to do with its text: FNV-1a.
fn number_of(key: &Key) -> u64 {
    key.as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
