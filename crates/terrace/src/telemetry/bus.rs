//! What went over the bus, in which direction?
//!
//! 1. Types are the words of the wire ([`terrace_core::bus`]): a closed set, of which each series is there from the start.
//! 2. A change of this node's is *out*, and counted when it comes back: of what L2 publishes in one step with a change nobody
//!    else knows for certain that it was said. So out stands still on a node that hears nothing, as in does.
//! 3. A beat is out when the server has taken it, and in when it is back. That a load has ended says nobody's name: it is in.

use super::names;
use super::prometheus::describe;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use terrace_core::bus::Change;

/// Which way a message went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub(crate) enum Direction {
    /// It came from another node, or it is a beat that is back.
    In,
    /// It is this node's.
    Out,
}

impl Direction {
    const ALL: [Self; 2] = [Self::In, Self::Out];

    const fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// What a message says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub(crate) enum MessageType {
    Set,
    Invalidate,
    Tag,
    Sweep,
    Floor,
    Refresh,
    Hello,
    /// Somebody's load has ended.
    Ended,
    Beat,
}

impl MessageType {
    const ALL: [Self; 9] = [
        Self::Set,
        Self::Invalidate,
        Self::Tag,
        Self::Sweep,
        Self::Floor,
        Self::Refresh,
        Self::Hello,
        Self::Ended,
        Self::Beat,
    ];

    pub(crate) const fn of(change: &Change) -> Self {
        match change {
            Change::Set(_) => Self::Set,
            Change::Invalidate(_) => Self::Invalidate,
            Change::Tag(_) => Self::Tag,
            Change::Sweep(_) => Self::Sweep,
            Change::Floor => Self::Floor,
            Change::Refresh(_) => Self::Refresh,
            Change::Hello => Self::Hello,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Invalidate => "invalidate",
            Self::Tag => "tag",
            Self::Sweep => "sweep",
            Self::Floor => "floor",
            Self::Refresh => "refresh",
            Self::Hello => "hello",
            Self::Ended => "ended",
            Self::Beat => "beat",
        }
    }

    /// Whether a message of this type can go that way at all.
    fn goes(self, direction: Direction) -> bool {
        self != Self::Ended || direction == Direction::In
    }
}

const TYPES: usize = MessageType::ALL.len();

/// Messages since the cache was built.
#[derive(Default, Debug)]
pub(crate) struct BusCounters([[AtomicU64; TYPES]; 2]);

impl BusCounters {
    pub(crate) fn count(&self, direction: Direction, kind: MessageType) {
        self.0[direction as usize][kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> BusEvents {
        let read = |counts: &[AtomicU64; TYPES]| {
            std::array::from_fn(|kind: usize| counts[kind].load(Ordering::Relaxed))
        };
        BusEvents([read(&self.0[0]), read(&self.0[1])])
    }
}

/// [`BusCounters`] at one time.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct BusEvents([[u64; TYPES]; 2]);

impl BusEvents {
    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = describe(encoder, names::BUS_EVENTS)?;
        for direction in Direction::ALL {
            for kind in MessageType::ALL.into_iter().filter(|kind| kind.goes(direction)) {
                let labels = [(names::DIR, direction.as_str()), (names::TYPE, kind.as_str())];
                let count = self.0[direction as usize][kind as usize];
                metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        Ok(())
    }
}
