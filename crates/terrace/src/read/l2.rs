//! What does L2 have of a key, and is that an answer?
//!
//! Whatever L2 holds is judged here: whether its bytes are an entry of this key, whether its tags live, whether it is fresh.
//!
//! It is judged as of when it was asked ([`Sent`]): what it said before something was done about it here is not believed after that.

use super::Look;
use crate::entry::{Found, Resident, Tagged, Tier, absent};
use crate::erased::Erased;
use crate::space::View;
use crate::telemetry::Event;
use crate::terms::Lasting;
use terrace_core::envelope::Envelope;
use terrace_core::mutants::{self, Mutant};
use terrace_core::remote::Stored;
use terrace_core::{Key, Moment, Ttl, Version};

/// When L2 was asked about a key, and what was known here of the key before.
#[derive(Clone, Copy)]
pub(crate) struct Sent {
    at: Moment,
    /// Whether a write of the key waited for the origin. When the origin has it, what was loaded meanwhile is dropped from L2, but not from an
    /// answer that is on its way.
    was_behind: bool,
    /// What this supersedes L2 should not have had then. It may have been told so since.
    floor: Version,
}

impl View {
    /// A question to L2 about a key, which is to be sent after this.
    pub(crate) fn sending(&self, key: &Key) -> Sent {
        let floor = self.space.recent.floor(key);
        Sent { at: self.shared.clock.now(), was_behind: self.is_behind(key), floor }
    }

    /// A fresh value in L2.
    pub(crate) async fn look_in_l2(&self, key: &Key) -> Look {
        let Some(l2) = self.l2() else { return Look::Unknown };
        if self.distrusts(key) {
            return Look::Unknown;
        }
        let sent = self.sending(key);
        let read = l2.ask(&self.space, "get", |remote| remote.get(&self.space.namespace, key));
        match read.await {
            Ok(Some(stored)) => self.examine(key, &stored, sent).await,
            Ok(None) => Look::Miss { dead: None, old: None },
            Err(_) => Look::Unknown,
        }
    }

    /// Whether what L2 holds is an entry of this key that nobody has invalidated.
    pub(crate) async fn examine(&self, key: &Key, stored: &Stored, sent: Sent) -> Look {
        let dead = Look::Miss { dead: Some(stored.claimed_version()), old: None };
        let Some(envelope) = self.open(key, stored) else { return dead };
        match self.are_tags_alive(&envelope.tags).await {
            Some(true) => {}
            Some(false) => return dead,
            None => return Look::Unknown,
        }
        self.decoded(key, &envelope, stored, sent).unwrap_or(dead)
    }

    /// What an envelope that is alive holds: a fresh value, or an old one. `None` if it cannot be decoded, is older than a
    /// change that L2 had forgotten when it was asked, or was loaded while the origin did not have this node's last write of the key.
    pub(crate) fn decoded(
        &self,
        key: &Key,
        envelope: &Envelope,
        stored: &Stored,
        sent: Sent,
    ) -> Option<Look> {
        let is_loaded = envelope.is_absent || !envelope.load_time.is_zero();
        if is_loaded && (sent.was_behind || self.is_behind(key)) || sent.floor.supersedes(envelope.version) {
            return None;
        }
        let value = if envelope.is_absent { absent() } else { self.decode(envelope)? };
        let found = Self::found(value, envelope, stored, sent.at);
        if self.latest() < found.resident.fresh_until {
            return Some(Look::Hit(found));
        }
        let dead = Some(found.resident.version);
        let old = (!found.resident.is_absent()).then(|| Box::new(found));
        Some(Look::Miss { dead, old })
    }

    /// The envelope, if the bytes are one of this key, and no change is known that made it invalid and that L2 has forgotten.
    pub(crate) fn open(&self, key: &Key, stored: &Stored) -> Option<Envelope> {
        self.space.counters.add(Event::L2BytesRead, stored.bytes.len() as u64);
        let opened = self.unseal(key, &stored.bytes);
        opened
            .inspect_err(|error| {
                self.space.counters.count(Event::L2Envelope);
                tracing::warn!(namespace = %self.space.namespace, %error, "an entry in L2 is no envelope of its key");
            })
            .ok()
            .filter(|envelope| !self.space.recent.outdates(key, envelope.version))
    }

    /// The value in an envelope, if this namespace's codec wrote it and can read it.
    pub(crate) fn decode(&self, envelope: &Envelope) -> Option<Erased> {
        let decoded = self.space.format.decode_by(envelope.codec, &envelope.payload).ok();
        if decoded.is_none() {
            self.space.counters.count(Event::L2Payload);
            tracing::warn!(namespace = %self.space.namespace, codec = envelope.codec.0, "a value in L2 cannot be decoded");
        }
        decoded
    }

    /// An entry read from L2 by a request that was sent at `sent`: it ends here no later than there.
    fn found(value: Erased, envelope: &Envelope, stored: &Stored, sent: Moment) -> Found {
        let remaining = stored.remaining.filter(|_| !mutants::is(Mutant::TtlBeginsAnew));
        let left = remaining.map_or(envelope.ttl, |left| left.without(envelope.grace).min(envelope.ttl));
        // How much of the grace is left of an entry that is past its TTL.
        let grace = remaining.and_then(Ttl::duration).map_or(envelope.grace, |left| left.min(envelope.grace));
        // So much of it is over, so long ago its TTL ended.
        let past = envelope.grace.saturating_sub(grace);
        let (tags, generations) =
            envelope.tags.iter().map(|stamp| (stamp.tag.clone(), stamp.generation)).unzip();
        let load_micros = u32::try_from(envelope.load_time.as_micros()).unwrap_or(u32::MAX);
        let resident = Resident {
            created_ms: envelope.created_ms,
            load_micros,
            tags: Tagged::of(tags, generations),
            ..Resident::new(
                value,
                envelope.version,
                sent.minus(past),
                Lasting { ttl: left, grace: envelope.grace },
            )
        };
        Found {
            resident,
            tier: Tier::L2,
            encoded: Some(envelope.payload.len()),
            stale: None,
            is_shared: false,
        }
    }
}
