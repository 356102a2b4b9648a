//! Which servers there are, and who we are to them.

use super::Address;
use super::passwords::Password;
use std::fmt;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(super) fn unless_empty(text: impl Into<String>) -> Option<Self> {
        Some(Self(text.into())).filter(|secret| !secret.0.is_empty())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Which servers there are, and who says which of them is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Servers {
    /// One, which is the primary.
    One(Address),
    /// Sentinels, which know the primary of this name.
    Sentinel { primary: String, sentinels: Vec<Address> },
    /// Some members of a Cluster, which know the others.
    Cluster(Vec<Address>),
}

impl Servers {
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }
}

/// Who we are to servers of one kind, and how they are spoken to.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) username: Option<String>,
    pub(crate) password: Password,
    pub(crate) tls: bool,
}
