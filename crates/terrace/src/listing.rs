//! Which keys do the tiers hold?
//!
//! Page by page, for people and programs that look around. Nothing is kept between two pages: a place says all.
//!
//! 1. A key that a tier holds all the time, from the first page to the last, is on one of them at least; one that both tiers hold is
//!    told of for each. What comes or goes meanwhile may be told or not.
//! 2. A page costs at most so much, whatever the tiers hold: one step in L2, or so many copies of L1 and the rest of their part.
//! 3. L1 comes first, part by part, and within a part by key: so a place is a part and a key. It is of one process: another one goes on
//!    with L2, if there is one.
//! 4. Listing is no lookup: it counts as none, makes nothing hot, and keeps nothing.

use crate::entry::{Resident, Tier, remaining};
use crate::error::Error;
use crate::space::View;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use terrace_core::remote::{ListPlace, Listed, SweepRule};
use terrace_core::{Glob, Ttl};

/// Copies of L1 that are looked at for one page, but for the rest of the last part.
const LOOKED_AT_MAX: usize = 65_536;

/// A key that a tier holds.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct HeldKey {
    /// The key's text.
    pub key: String,
    /// Which tier.
    pub tier: Tier,
    /// How much longer the entry is fresh, as this tier knows it; `None` if it does not. An entry that is kept for its grace has
    /// nothing left in L1, and in L2 what is left of its grace.
    pub ttl: Option<Ttl>,
    /// What it counts as against the bound of L1, in bytes; `None` in L2.
    pub bytes: Option<u64>,
}

/// Some of the keys that the tiers hold; see [`Keyspace::list`](crate::Keyspace::list).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct KeyPage {
    /// The keys. There may be none although there are more.
    pub keys: Vec<HeldKey>,
    /// Where it goes on; `None` at the end.
    pub next: Option<KeyPlace>,
}

/// Where a listing has come to. As text it has no spaces but those of keys, and goes on wherever it is read again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyPlace(At);

#[derive(Clone, PartialEq, Eq, Debug)]
enum At {
    /// Behind this key of this part of the L1 of one life of a cache; `None` for the beginning of the first part of any.
    L1(Option<Copies>),
    /// Here, or at the beginning.
    L2(Option<ListPlace>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Copies {
    life: u64,
    part: usize,
    after: String,
}

impl KeyPlace {
    /// The beginning of both tiers.
    pub const FIRST: Self = Self(At::L1(None));
    /// The beginning of L2.
    pub const FIRST_OF_L2: Self = Self(At::L2(None));

    /// Which tier it is in.
    pub fn tier(&self) -> Tier {
        match self.0 {
            At::L1(_) => Tier::L1,
            At::L2(_) => Tier::L2,
        }
    }
}

/// The text is no place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this is no place of a listing")]
pub struct KeyPlaceError(());

impl fmt::Display for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            At::L1(None) => f.write_str("l1"),
            At::L1(Some(Copies { life, part, after })) => write!(f, "l1.{life:x}.{part:x}.{after}"),
            At::L2(None) => f.write_str("l2"),
            At::L2(Some(ListPlace(numbers))) => {
                f.write_str("l2")?;
                numbers.iter().try_for_each(|number| write!(f, ".{number:x}"))
            }
        }
    }
}

impl FromStr for KeyPlace {
    type Err = KeyPlaceError;

    fn from_str(text: &str) -> Result<Self, KeyPlaceError> {
        let (tier, rest) = text.split_once('.').map_or((text, None), |(tier, rest)| (tier, Some(rest)));
        let number = |part: Option<&str>| {
            part.and_then(|part| u64::from_str_radix(part, 16).ok()).ok_or(KeyPlaceError(()))
        };
        match (tier, rest) {
            ("l1", None) => Ok(Self::FIRST),
            ("l2", None) => Ok(Self::FIRST_OF_L2),
            ("l1", Some(rest)) => {
                let mut parts = rest.splitn(3, '.');
                let (life, part) = (number(parts.next())?, number(parts.next())?);
                let part = usize::try_from(part).map_err(|_| KeyPlaceError(()))?;
                let after = parts.next().ok_or(KeyPlaceError(()))?.to_owned();
                Ok(Self(At::L1(Some(Copies { life, part, after }))))
            }
            ("l2", Some(rest)) => {
                let mut parts = rest.split('.');
                let mut next = || number(parts.next());
                let place = ListPlace([next()?, next()?, next()?, next()?]);
                if parts.next().is_some() {
                    return Err(KeyPlaceError(()));
                }
                Ok(Self(At::L2(Some(place))))
            }
            _ => Err(KeyPlaceError(())),
        }
    }
}

impl View {
    /// Some of the keys that the tiers hold; `None` if the place is lost.
    pub(crate) async fn list(
        &self,
        pattern: &Glob,
        from: &KeyPlace,
        count: usize,
    ) -> Result<Option<KeyPage>, Error> {
        match &from.0 {
            At::L1(at) => Ok(self.list_l1(pattern, at.as_ref(), count.max(1))),
            At::L2(at) => self.list_l2(pattern, *at, count.max(1)).await,
        }
    }

    /// Where L1 has been seen to its end.
    fn behind_l1(&self) -> Option<KeyPlace> {
        self.l2().is_some().then_some(KeyPlace::FIRST_OF_L2)
    }

    fn list_l1(&self, pattern: &Glob, from: Option<&Copies>, count: usize) -> Option<KeyPage> {
        let nothing = || KeyPage { keys: Vec::new(), next: self.behind_l1() };
        let Some(l1) = self.l1() else { return Some(nothing()) };
        let life = *self.shared.life.get_or_init(|| self.shared.chance.number());
        if from.is_some_and(|from| from.life != life) {
            return self.l2().is_some().then(nothing);
        }
        let (mut part, mut after) = from.map_or((0, None), |from| (from.part, Some(from.after.as_str())));
        let (mut keys, mut looked_at) = (Vec::new(), 0);
        while part < l1.parts() {
            let wanted = count - keys.len();
            let mut found = BTreeMap::new();
            let mut is_cut = false;
            looked_at += l1.for_each_of(part, self.space.id, &self.space.bans, |text, copy| {
                if after.is_some_and(|after| text <= after) || copy.is_absent() || !pattern.matches(text) {
                    return;
                }
                found.insert(text.to_owned(), self.held(text, copy));
                if found.len() > wanted {
                    is_cut = true;
                    found.pop_last();
                }
            });
            keys.extend(found.into_values());
            let last = keys.last().map(|last: &HeldKey| last.key.clone()).filter(|_| is_cut);
            let is_enough = keys.len() >= count || looked_at >= LOOKED_AT_MAX;
            if let Some(last) = last {
                return Some(KeyPage {
                    keys,
                    next: Some(KeyPlace(At::L1(Some(Copies { life, part, after: last })))),
                });
            }
            (part, after) = (part + 1, None);
            if is_enough && part < l1.parts() {
                let next = Copies { life, part, after: String::new() };
                return Some(KeyPage { keys, next: Some(KeyPlace(At::L1(Some(next)))) });
            }
        }
        Some(KeyPage { keys, next: self.behind_l1() })
    }

    fn held(&self, text: &str, copy: &Resident) -> HeldKey {
        let ttl = Some(remaining(copy.fresh_until, &self.shared.clock));
        HeldKey { key: text.to_owned(), tier: Tier::L1, ttl, bytes: Some(copy.weight_bytes) }
    }

    async fn list_l2(
        &self,
        pattern: &Glob,
        from: Option<ListPlace>,
        count: usize,
    ) -> Result<Option<KeyPage>, Error> {
        let Some(l2) = self.l2() else { return Ok(Some(KeyPage { keys: Vec::new(), next: None })) };
        let rule = if pattern.is_all() { SweepRule::All } else { SweepRule::Matching(pattern.clone()) };
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let namespace = &self.space.namespace;
        let listed = l2.ask(&self.space, "list", |remote| remote.list(namespace, &rule, from, count)).await?;
        let Some(Listed { entries, next }) = listed else { return Ok(None) };
        // L2 has not been told yet that the others are gone.
        let believed = entries.into_iter().filter(|(key, _)| !self.space.pending.distrusts(key));
        let held = |(key, ttl): (terrace_core::Key, Option<Ttl>)| HeldKey {
            key: key.as_str().to_owned(),
            tier: Tier::L2,
            ttl,
            bytes: None,
        };
        let next = next.map(|next| KeyPlace(At::L2(Some(next))));
        Ok(Some(KeyPage { keys: believed.map(held).collect(), next }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let copies = |after: &str| At::L1(Some(Copies { life: 0xfe, part: 3, after: after.to_owned() }));
        for at in [
            At::L1(None),
            copies("a.b. c"),
            copies(""),
            At::L2(None),
            At::L2(Some(ListPlace([u64::MAX, 0, 1, 2]))),
        ] {
            let place = KeyPlace(at);
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        for text in
            ["", "l3", "l1.", "l1.1", "l1.1.2", "l1.x.2.k", "l2.1.2.3", "l2.1.2.3.4.5", "l2.", "l2.1.2.3.-4"]
        {
            assert_eq!(text.parse::<KeyPlace>(), Err(KeyPlaceError(())), "{text}");
        }
    }
}
