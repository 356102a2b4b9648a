//! Changes on a condition.

use super::{Caller, PartitionId, Server, server_ttl};
use terrace_core::envelope::Sealed;
use terrace_core::mutants::{self, Mutant};
use terrace_core::remote::{Compared, Expected, RemoteError, ServerTime, Stored};
use terrace_core::{Key, Namespace, Ttl, Version};

impl Server {
    /// Stores a value, or removes what is there, if that is what is expected.
    pub(in crate::fake) fn set_if(
        &mut self,
        namespace: &Namespace,
        key: &Key,
        expected: Expected,
        (value, deadline): (Option<&(Sealed, Ttl)>, ServerTime),
        caller: Caller,
    ) -> Result<Compared, RemoteError> {
        if caller.now.micros >= deadline.0 && !mutants::is(Mutant::NoDeadline) {
            return Err(RemoteError::Late { reason: "LATE".to_owned() });
        }
        let id = PartitionId::of(namespace, key.as_str(), caller.partitions);
        let space = self.space_of(namespace, key, caller);
        let stored = space.stored(key, caller.now.moment).filter(|stored| !stored.bytes.is_empty());
        let there = stored.as_ref().map(Stored::claimed_version);
        let there = there.filter(|version| !space.partition(id).kills(key, *version));
        let is_expected = match expected {
            Expected::Absent => there.is_none(),
            Expected::Version(version) => there == Some(version),
        };
        if !is_expected {
            return Ok(Compared::Differs { there });
        }
        let kept = value.map(|(value, ttl)| (value, server_ttl(*ttl))).filter(|(_, ttl)| !ttl.is_zero());
        let word = if kept.is_some() { "set" } else { "invalidate" };
        let version = Version::from(space.partition(id).change(caller.now, caller.id, word, key.as_str()));
        space.leases.remove(key);
        match kept {
            Some((value, ttl)) => space.store(key, value.stamp(version), ttl, caller.now.moment),
            None => {
                space.remove(key);
            }
        }
        Ok(Compared::Changed(version))
    }
}
