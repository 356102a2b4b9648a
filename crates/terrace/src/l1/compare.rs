//! Changes of a copy that is still the one that was looked at: the check and the change are one step under the engine's lock.

use super::{Copy, KeyRef, L1};
use terrace_core::{Key, Version};

impl L1 {
    /// Replaces the key's copy if it has this version; `None`: if there is none. Voids reads that began before. Returns whether it was so.
    pub(crate) fn replace_same(&self, space: u32, key: &Key, version: Option<Version>, copy: Copy) -> bool {
        let (name, born) = (KeyRef::of(space, key.as_str()), self.tickets.born());
        self.insert_if(space, key, born, copy, |there| {
            let is_same = there.map(|there| there.version) == version;
            if is_same {
                self.tickets.void(name);
            }
            is_same
        })
    }

    /// Drops the key's copy if it has this version, and voids reads that began before. Returns whether it was so; where there was none,
    /// there is nothing to be dropped.
    pub(crate) fn drop_same(&self, key: KeyRef<'_>, version: Option<Version>) -> bool {
        let Some(version) = version else {
            self.tickets.void(key);
            return true;
        };
        let is_same = |there: &super::Resident| {
            let is_same = there.version == version;
            if is_same {
                self.tickets.void(key);
            }
            is_same
        };
        self.memory.remove_if(&key, is_same).is_some()
    }

    /// Drops the key's copy if it has this version, or was loaded under a right that is older than `right`, and voids reads that began before.
    /// Returns whether there was one.
    pub(crate) fn drop_gone(&self, key: KeyRef<'_>, version: Option<Version>, right: Version) -> bool {
        self.tickets.void(key);
        let is_gone = |there: &super::Resident| {
            let is_loaded = there.load_micros > 0 || there.is_absent();
            Some(there.version) == version || is_loaded && right.supersedes(there.version)
        };
        self.memory.remove_if(&key, is_gone).is_some()
    }
}
