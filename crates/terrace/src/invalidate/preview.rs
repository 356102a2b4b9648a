//! What would an invalidation remove?

use super::Invalidation;
use crate::coherence::delayed::Targets;
use crate::error::Error;
use crate::runtime::within;
use crate::space::View;
use futures_util::StreamExt;
use std::collections::BTreeSet;
use std::time::Duration;
use terrace_core::remote::SweepRule;
use terrace_core::{Key, RemoteError, Tag};

/// How long entries are looked for.
const LOOKING_MAX: Duration = Duration::from_secs(1);
/// Most entries that are counted.
const MATCHED_MAX: usize = 65_536;
/// Most keys that are shown.
const SAMPLE_MAX: usize = 10;

/// What an invalidation would remove.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Preview {
    /// So many entries, at least.
    pub matched: u64,
    /// Whether that is all there is. By tags only copies on this node are known where there is an L2.
    pub is_exact: bool,
    /// Some of their keys, in order.
    pub sample: Vec<String>,
}

/// The keys that were found.
struct Matched {
    keys: BTreeSet<Key>,
    is_exact: bool,
}

impl Matched {
    fn add(&mut self, key: Key) {
        if self.keys.len() < MATCHED_MAX {
            self.keys.insert(key);
        } else {
            self.is_exact &= self.keys.contains(&key);
        }
    }
}

impl<K> Invalidation<K> {
    /// Looks for what would be invalidated, and leaves it as it is.
    ///
    /// # Errors
    /// [`ErrorKind::Key`](crate::ErrorKind::Key) if a key cannot be one; [`ErrorKind::Remote`](crate::ErrorKind::Remote) if L2
    /// cannot be asked.
    ///
    /// # Cost
    /// A lookup for each key; for patterns a pass over all keys of the server, for a second at most; for tags, and where
    /// there is no L2, one pass over L1.
    ///
    /// # Cancel safety
    /// Safe.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let users = terrace::Cache::memory()?.keyspace::<u64, String>("users").build()?;
    /// users.put_many([(1, "ann".into()), (2, "ben".into()), (30, "cy".into())]).await?;
    /// let preview = users.invalidate().keys([1]).pattern("3*")?.preview().await?;
    /// assert_eq!((preview.matched, preview.is_exact), (2, true));
    /// assert_eq!(preview.sample, ["1", "30"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub async fn preview(self) -> Result<Preview, Error> {
        let Self { view, keys, tags, patterns, .. } = self;
        let rules = patterns.into_iter().map(SweepRule::Matching).collect();
        view.preview(Targets { keys: keys?, tags, rules }).await
    }
}

impl View {
    async fn preview(&self, targets: Targets) -> Result<Preview, Error> {
        let Targets { keys, tags, rules } = targets;
        let mut matched = Matched { keys: BTreeSet::new(), is_exact: tags.is_empty() || self.l2().is_none() };
        for key in keys {
            if self.look(&key).await?.is_some() {
                matched.add(key);
            }
        }
        let is_in_l2 = self.l2().is_some();
        self.match_copies(&tags, if is_in_l2 { &[] } else { &rules }, &mut matched);
        if is_in_l2 {
            let looking = self.match_entries(&rules, &mut matched);
            if within(LOOKING_MAX, looking).await.transpose()?.is_none() {
                matched.is_exact = false;
            }
        }
        let Matched { keys, is_exact } = matched;
        let sample = keys.iter().take(SAMPLE_MAX).map(|key| key.as_str().to_owned()).collect();
        Ok(Preview { matched: keys.len() as u64, is_exact, sample })
    }

    /// The copies in L1 that have one of the tags or that a rule names.
    fn match_copies(&self, tags: &[Tag], rules: &[SweepRule], matched: &mut Matched) {
        let Some(l1) = self.l1().filter(|_| !tags.is_empty() || !rules.is_empty()) else { return };
        l1.for_each(self.space.id, &self.space.bans, |text, copy| {
            let has_tag = copy.tags().iter().any(|tag| tags.contains(tag));
            if has_tag || rules.iter().any(|rule| rule.names(text)) {
                matched.add(Key::new(text).expect("it was a key when it was stored"));
            }
        });
    }

    /// The entries in L2 that a rule names.
    async fn match_entries(&self, rules: &[SweepRule], matched: &mut Matched) -> Result<(), RemoteError> {
        let Some(l2) = self.l2() else { return Ok(()) };
        for rule in rules {
            let mut names = l2.names(&self.space, rule).await?;
            while let Some(keys) = names.next().await {
                keys?.into_iter().for_each(|key| matched.add(key));
            }
        }
        Ok(())
    }
}
