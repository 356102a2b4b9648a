//! What one entry has different from its keyspace.

use crate::KeyError;
use terrace_core::{Tag, Ttl};

/// What one entry has different from its keyspace.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// let options = terrace::EntryOptions::default().ttl(Duration::from_secs(5)).tag("org:7")?;
/// # Ok::<(), terrace::KeyError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct EntryOptions {
    pub(super) ttl: Option<Ttl>,
    pub(super) tags: Vec<Tag>,
}

impl EntryOptions {
    /// How long the entry is fresh. Zero keeps nothing, and removes what is there.
    #[must_use]
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.ttl = Some(ttl.into());
        self
    }

    /// Adds a tag.
    ///
    /// # Errors
    /// [`KeyError`] if the text cannot be a tag.
    pub fn tag(mut self, tag: &str) -> Result<Self, KeyError> {
        self.tags.push(Tag::new(tag)?);
        Ok(self)
    }
}
