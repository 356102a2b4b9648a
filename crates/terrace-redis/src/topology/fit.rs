//! Which lives of its servers is a call for?
//!
//! 1. A server that does not say which life it is in fits any.

use super::slots;
use crate::keys::Names;
use crate::link::Link;
use std::collections::HashMap;
use terrace_core::bus::Incarnation;
use terrace_core::{Namespace, RemoteError};

/// Which incarnation of its server each partition of a call is for.
pub(crate) enum Fit {
    /// Any.
    Any,
    /// That of each partition, by the partition's slot.
    Of(HashMap<u16, Incarnation>),
}

impl Fit {
    /// These incarnations, in the order of the partitions.
    pub(crate) fn of(names: &Names, namespace: &Namespace, on: &[Incarnation]) -> Self {
        let slot = |partition| slots::of_name(names.counter(namespace, partition).as_bytes());
        Self::Of(names.partitions().map(slot).zip(on.iter().copied()).collect())
    }

    /// Whether the connection may be asked about these slots.
    pub(super) fn check(&self, link: &Link, slots: impl Iterator<Item = u16>) -> Result<(), RemoteError> {
        let (Self::Of(wanted), Some(is)) = (self, link.incarnation()) else { return Ok(()) };
        let mut wanted = slots.filter_map(|slot| wanted.get(&slot));
        if wanted.all(|wanted| *wanted == is) {
            return Ok(());
        }
        let reason = format!("{} is another incarnation of the server", link.address());
        Err(RemoteError::Unavailable { reason })
    }
}
