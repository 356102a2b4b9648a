//! Is an entry with tags still alive?
//!
//! An entry in L2 carries its tags and the generation that each had when it was stored. It is alive while all of them
//! are unchanged: a bump of one tag kills every entry that has it, however many, in one step.
//!
//! 1. Generations are compared for equality, never for order, so a lost and remade table kills, and never revives.
//! 2. A value that was loaded is stored only if none of its tags was bumped since its lease was granted.
//!
//! Deliberately absent, for now: knowing generations without asking. A hit in L2 on an entry with tags costs a second
//! round trip.

use crate::space::View;
use terrace_core::envelope::TagStamp;
use terrace_core::remote::{Generation, Lease};
use terrace_core::{RemoteError, Tag};

impl View {
    /// The tags with the generations they have now.
    pub(crate) async fn stamps(&self, tags: &[Tag]) -> Result<Vec<TagStamp>, RemoteError> {
        Ok(stamp(tags, &self.generations(tags).await?))
    }

    /// The tags with their generations, or `None` if one of them was bumped since the lease was granted.
    pub(crate) async fn stamps_since(
        &self,
        tags: &[Tag],
        lease: &Lease,
    ) -> Result<Option<Vec<TagStamp>>, RemoteError> {
        let generations = self.generations(tags).await?;
        if generations.iter().any(|generation| generation.bumped_at >= lease.granted_at) {
            return Ok(None);
        }
        Ok(Some(stamp(tags, &generations)))
    }

    /// Whether none of these tags was bumped since the entry was stored; `None` if that cannot be known.
    pub(crate) async fn are_tags_alive(&self, stamps: &[TagStamp]) -> Option<bool> {
        if stamps.is_empty() {
            return Some(true);
        }
        let alive = self.alive(stamps).await?;
        Some(stamps.iter().all(|stamp| alive.contains(stamp)))
    }

    /// Those of the stamps whose tags were not bumped since; `None` if that cannot be known.
    pub(crate) async fn alive(&self, stamps: &[TagStamp]) -> Option<Vec<TagStamp>> {
        if self.distrusts_tags(stamps) {
            return None;
        }
        let mut tags: Vec<Tag> = stamps.iter().map(|stamp| stamp.tag.clone()).collect();
        tags.sort_unstable();
        tags.dedup();
        self.stamps(&tags).await.ok()
    }

    async fn generations(&self, tags: &[Tag]) -> Result<Vec<Generation>, RemoteError> {
        match self.l2() {
            Some(l2) if !tags.is_empty() => {
                let namespace = &self.space.namespace;
                l2.call_each(&self.space, tags.len(), |remote| remote.generations(namespace, tags)).await
            }
            _ => Ok(Vec::new()),
        }
    }
}

fn stamp(tags: &[Tag], generations: &[Generation]) -> Vec<TagStamp> {
    let stamps = tags.iter().zip(generations);
    stamps.map(|(tag, now)| TagStamp { tag: tag.clone(), generation: now.version }).collect()
}
