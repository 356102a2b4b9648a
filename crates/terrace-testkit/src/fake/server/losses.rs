//! What a server loses of the leases that it gave.

use super::Server;
use terrace_core::{Key, Namespace};

impl Server {
    pub(in crate::fake) fn lose_lease(&mut self, namespace: &Namespace, key: &Key) -> bool {
        self.spaces.get_mut(namespace).is_some_and(|space| space.leases.remove(key).is_some())
    }

    pub(in crate::fake) fn lose_leases(&mut self) {
        self.spaces.values_mut().for_each(|space| space.leases.clear());
    }
}
