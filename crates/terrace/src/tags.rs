//! Is an entry with tags still alive?
//!
//! An entry in L2 carries its tags and the generation that each had when it was stored. It is alive while all of them
//! are unchanged: a bump of one tag kills every entry that has it, however many, in one step.
//!
//! 1. Generations are compared for equality, never for order, so a lost and remade table kills, and never revives.
//! 2. A value that was loaded is stored only if none of its tags was bumped since its load began.
//! 3. Generations that this node knows are not asked for ([`crate::coherence::generations`]).

use crate::coherence::generations::Heads;
use crate::resilience::L2;
use crate::space::View;
use terrace_core::envelope::TagStamp;
use terrace_core::mutants::{self, Mutant};
use terrace_core::remote::{Generation, Lease};
use terrace_core::{RemoteError, Tag, Version};

impl View {
    /// The tags with the generations they have now.
    pub(crate) async fn stamps(&self, tags: &[Tag]) -> Result<Vec<TagStamp>, RemoteError> {
        let known = self.known_generations(tags);
        let unknown: Vec<Tag> = tags
            .iter()
            .zip(&known)
            .filter(|(_, known)| known.is_none())
            .map(|(tag, _)| tag.clone())
            .collect();
        let mut told = self.ask_generations(&unknown).await?.into_iter().map(|told| told.version);
        let generations =
            known.into_iter().map(|known| known.or_else(|| told.next()).unwrap_or(Version::ZERO));
        let stamps = tags.iter().zip(generations);
        Ok(stamps.map(|(tag, generation)| TagStamp { tag: tag.clone(), generation }).collect())
    }

    /// The tags with their generations, or `None` if one of them may have been bumped since the load began: since the heads were
    /// taken, or the lease was granted. Neither says enough: numbers go back where a counter is lost, and the clocks of two
    /// servers differ. L2 is asked: what this node knows may be older than the load.
    pub(crate) async fn stamps_since(
        &self,
        tags: &[Tag],
        lease: &Lease,
        heads: Option<&Heads>,
    ) -> Result<Option<Vec<TagStamp>>, RemoteError> {
        let namespace = &self.space.namespace;
        let told = self.ask_generations(tags).await?;
        let is_from_before = |(tag, told): (&Tag, &Generation)| {
            told.bumped_at < lease.granted_at
                && heads.is_none_or(|heads| heads.include(namespace, tag, told.version))
        };
        if !tags.iter().zip(&told).all(is_from_before) && !mutants::is(Mutant::NoTagFence) {
            return Ok(None);
        }
        let stamps = tags.iter().zip(told);
        Ok(Some(stamps.map(|(tag, told)| TagStamp { tag: tag.clone(), generation: told.version }).collect()))
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

    /// What this node knows, in the order of `tags`.
    fn known_generations(&self, tags: &[Tag]) -> Vec<Option<Version>> {
        if self.l2().is_some_and(L2::tells_changes) && self.space.trust.holds(&self.shared.clock) {
            self.space.generations.known(tags)
        } else {
            vec![None; tags.len()]
        }
    }

    async fn ask_generations(&self, tags: &[Tag]) -> Result<Vec<Generation>, RemoteError> {
        let Some(l2) = self.l2().filter(|_| !tags.is_empty()) else { return Ok(Vec::new()) };
        let (namespace, born) = (&self.space.namespace, self.shared.tickets.born());
        let told = l2
            .ask_each(&self.space, "generations", tags.len(), |remote| remote.generations(namespace, tags))
            .await?;
        if l2.tells_changes() {
            let is_current = || !self.space.bans.is_any_since(born);
            let versions = tags.iter().cloned().zip(told.iter().map(|told| told.version));
            self.space.generations.told(versions, is_current);
        }
        Ok(told)
    }
}
