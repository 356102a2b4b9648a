//! Changes on a condition.

use super::{Player, key, samples, ttl};
use terrace_core::remote::{Compared, Expected};
use terrace_core::{RemoteError, Version};

impl Player<'_> {
    /// Stores or removes, if there is nothing, or the version that was seen last, or one that nobody has.
    pub(super) async fn set_if(
        &mut self,
        step: usize,
        index: u8,
        expected: u8,
        kept: Option<u8>,
    ) -> Result<(), RemoteError> {
        let key = key(index);
        let seen = self.seen.get(&key).copied();
        let expected = match (expected % 4, seen) {
            (1 | 2, Some(version)) => Expected::Version(version),
            (3, _) => Expected::Version(Version::from(1)),
            _ => Expected::Absent,
        };
        let value = kept
            .map(ttl)
            .map(|ttl| (samples::sealed(self.namespace, &key, &format!("compared {step}"), ttl), ttl));
        match self.rig.remote().set_if(self.namespace, &key, expected, value).await? {
            Compared::Changed(version) => {
                self.text("changed");
                self.version(key.as_str(), version);
                // What comes next knows of it, as a node that keeps it does.
                self.seen.insert(key, version);
            }
            Compared::Differs { there } => {
                self.text("differs");
                if let Some(there) = there {
                    self.version(key.as_str(), there);
                }
            }
        }
        Ok(())
    }
}
