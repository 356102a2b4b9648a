//! Another server, or another life of the same one, takes the place of the fake's, and has forgotten something.
//!
//! 1. What is brought back is the whole state as it was before a change: values, leases, counters, generations, logs. So what
//!    is forgotten is a tail of what happened, as it is with a replica that lags and with a dump.
//! 2. Calls that were made before reach the new server if they take effect after the failover.

use super::server::Server;
use super::{FakeRemote, Shared};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use terrace_core::bus::Incarnation;

/// Changes that a failover can forget.
const HISTORY_MAX: usize = 64;

impl Shared {
    pub(super) fn incarnation(&self) -> Incarnation {
        Incarnation(self.incarnation.load(Ordering::SeqCst))
    }

    /// Remembers what the server was before a change, if it has a replica.
    pub(super) fn remember(&self, before: Server) {
        if let Some(history) = &mut *self.history.lock() {
            if history.len() == HISTORY_MAX {
                history.pop_front();
            }
            history.push_back(before);
        }
    }

    fn live_anew(&self) {
        self.incarnation.fetch_add(1, Ordering::SeqCst);
        for node in self.all_nodes.lock().iter() {
            node.ears.lock().cut();
        }
    }
}

impl FakeRemote {
    /// Loses every log.
    pub fn lose_logs(&self) {
        self.shared.state.lock().for_each_partition(super::partition::Partition::lose_log);
    }

    /// Gives the server a replica, for [`FakeRemote::fail_over`] to promote.
    #[must_use]
    pub fn replicated(self) -> Self {
        self.shared.history.lock().get_or_insert_default();
        self
    }

    /// Promotes the replica, which has not heard of the last `lost` calls that changed something, nor of what came between
    /// them. It is another incarnation of the server, so every node's connection is cut ([`FakeRemote::mend_bus`]).
    ///
    /// # Panics
    /// If something is to be lost, and it has no replica, or remembers no so many changes (64).
    pub fn fail_over(&self, lost: usize) {
        if lost > 0 {
            let mut server = self.shared.state.lock();
            let mut history = self.shared.history.lock();
            let history = history.as_mut().expect("it has a replica");
            let at = history.len().checked_sub(lost).expect("so many changes are remembered");
            *server = history.split_off(at).pop_front().expect("at least one is lost");
        }
        self.shared.live_anew();
    }

    /// Another life of the server, in which it has forgotten everything, as a restart without persistence is.
    pub fn restart_empty(&self) {
        self.shared.state.lock().flush();
        self.shared.history.lock().as_mut().into_iter().for_each(VecDeque::clear);
        self.shared.live_anew();
    }
}
