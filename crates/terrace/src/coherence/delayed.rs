//! Invalidations that are to come.
//!
//! 1. Where there is L2 they are noted there, by its clock: whoever sees first that one is due makes it, and has it forgotten
//!    when L2 has seen it. So one survives the death of who asked for it; it may be made twice, which costs misses.
//! 2. The one who asked wakes when it is due. The others look now and then ([`super::chores`]).
//! 3. Without L2 they wait in this process, and die with it.

use crate::error::{Error, ErrorKind};
use crate::runtime::sleep;
use crate::space::View;
use crate::write::Effect;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use terrace_core::remote::{Delayed, Named, SweepRule};
use terrace_core::{Key, RemoteError, Tag};

/// Invalidations that are noted in one call.
const BATCH_MAX: usize = 512;
/// Most that wait in a process, of one namespace without L2.
const HERE_MAX: usize = 100_000;
/// The one who asked looks again if the next one is due that soon: clocks do not go alike.
const SOON: Duration = Duration::from_secs(1);

/// What invalidations name, each kind by itself.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    pub(crate) keys: Vec<Key>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) rules: Vec<SweepRule>,
}

impl Targets {
    fn len(&self) -> usize {
        self.keys.len() + self.tags.len() + self.rules.len()
    }

    fn into_named(self) -> impl Iterator<Item = Named> {
        let Self { keys, tags, rules } = self;
        let keys = keys.into_iter().map(Named::Key);
        keys.chain(tags.into_iter().map(Named::Tag)).chain(rules.into_iter().map(Named::Rule))
    }
}

impl FromIterator<Named> for Targets {
    fn from_iter<I: IntoIterator<Item = Named>>(named: I) -> Self {
        let mut targets = Self::default();
        for named in named {
            match named {
                Named::Key(key) => targets.keys.push(key),
                Named::Tag(tag) => targets.tags.push(tag),
                Named::Rule(rule) => targets.rules.push(rule),
            }
        }
        targets
    }
}

impl View {
    /// Sees to it that these are invalidated after so long.
    pub(crate) async fn delay(&self, targets: Targets, after: Duration) -> Result<(), Error> {
        let Some(l2) = self.l2() else { return self.delay_here(targets, after) };
        let note = |named| Delayed { id: self.shared.chance.number(), named };
        let noted: Vec<Delayed> = targets.into_named().map(note).collect();
        for batch in noted.chunks(BATCH_MAX) {
            l2.call(&self.space, "delay", |remote| remote.delay(&self.space.namespace, batch, after)).await?;
        }
        if self.shared.runtime.is_available() {
            let view = self.clone();
            self.shared.runtime.spawn_until_closed(async move {
                sleep(after).await;
                while let Ok(Some(next)) = view.make_due().await
                    && next <= SOON
                {
                    sleep(next).await;
                }
            });
        }
        Ok(())
    }

    fn delay_here(&self, targets: Targets, after: Duration) -> Result<(), Error> {
        if !self.shared.runtime.is_available() {
            return Err(ErrorKind::Closed.into());
        }
        let count = targets.len();
        let waiting = Arc::clone(&self.space.delayed_here);
        if waiting.fetch_add(count, Ordering::Relaxed) + count > HERE_MAX {
            waiting.fetch_sub(count, Ordering::Relaxed);
            let reason = format!("{HERE_MAX} delayed invalidations wait, and no more can");
            return Err(RemoteError::Refused { reason }.into());
        }
        let view = self.clone();
        self.shared.runtime.spawn_until_closed(async move {
            sleep(after).await;
            waiting.fetch_sub(count, Ordering::Relaxed);
            if let Err(error) = view.invalidate_all_of(targets, false).await {
                tracing::warn!(namespace = %view.space.namespace, %error, "a delayed invalidation failed");
            }
        });
        Ok(())
    }

    /// Makes the invalidations that are due in L2. Returns in how long the next one is due, if one is noted and nothing failed.
    pub(crate) async fn make_due(&self) -> Result<Option<Duration>, RemoteError> {
        let Some(l2) = self.l2() else { return Ok(None) };
        let (space, namespace) = (&self.space, &self.space.namespace);
        loop {
            let due = l2.call(space, "due", |remote| remote.due(namespace)).await?;
            if due.now.is_empty() {
                return Ok(due.next);
            }
            let (rules, others): (Vec<_>, Vec<_>) =
                due.now.into_iter().partition(|delayed| matches!(delayed.named, Named::Rule(_)));
            let mut are_made = self.make(&others).await?;
            for rule in rules.chunks(1) {
                are_made &= self.make(rule).await?;
            }
            if !are_made {
                return Ok(None);
            }
        }
    }

    /// Makes invalidations, and has them forgotten if L2 has seen them. Else they are due again soon. Returns whether it has.
    async fn make(&self, delayed: &[Delayed]) -> Result<bool, RemoteError> {
        let Some(l2) = self.l2().filter(|_| !delayed.is_empty()) else { return Ok(true) };
        let (space, namespace) = (&self.space, &self.space.namespace);
        let targets = delayed.iter().map(|delayed| delayed.named.clone()).collect();
        match self.invalidate_all_of(targets, false).await {
            Ok(done) if done.effect == Effect::Applied => {}
            Ok(_) => return Ok(false),
            Err(error) => {
                tracing::warn!(%namespace, %error, "delayed invalidations failed; they are due again soon");
                return Ok(false);
            }
        }
        l2.call(space, "done", |remote| remote.done(namespace, delayed)).await?;
        Ok(true)
    }
}
