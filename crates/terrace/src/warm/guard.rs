//! May a value be kept that was read from the origin before its key was known here?
//!
//! A load takes its ticket and its lease before it reads. A query has read before anybody knows which keys it brings. So:
//!
//! ```text
//! mark ─▶ the query reads ─▶ key by key: flight, lease ─▶ hear all that was published until now ─▶ changed since the mark? ─▶ fill
//! ```
//!
//! 1. The mark is a ticket of every key at once, taken before the query begins. What this node changes, or hears of, after that
//!    voids it for the keys of that stripe.
//! 2. What other nodes changed before the lease was granted is heard before a beat comes back that was sent after the grant; what
//!    they change later voids the lease. So each entry waits for such a beat; those of a batch wait together.
//! 3. Bans that are retired void every ticket, and so the mark. A query waits for those that are active before it begins; joining a
//!    namespace leaves one. What comes later costs the entries that are not kept yet, or one page of them.
//! 4. A value that may be too old is *withdrawn*: the flight ends without an outcome for those who joined it, and they look again.

use crate::coherence::tickets::{Mark, Ticket};
use crate::error::{Error, ErrorKind, OriginFailure};
use crate::read::Loading;
use crate::runtime::sleep;
use crate::space::View;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use terrace_core::{Key, Tag};

/// Beats that do not come back are waited for so many times as long as a copy may be old.
const HEARING_LEASES: u32 = 2;

/// How often it is looked whether bans are retired, which happens every second, and how long that is waited for.
const RETIRED_PAUSE: Duration = Duration::from_millis(20);
const RETIRED_LOOKS: u32 = 100;

/// Why a value was withdrawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Withdrawn {
    /// Its key may have been changed since it was read.
    Changed,
    /// Whether it was cannot be known.
    Unheard,
}

impl fmt::Display for Withdrawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Changed => "the key may have been changed since its value was read",
            Self::Unheard => "whether the key was changed since its value was read cannot be known",
        })
    }
}

/// Whether a load takes back what it would have brought.
pub(crate) fn is_withdrawn(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Load(failure) if failure.downcast::<Withdrawn>().is_some())
}

/// Why the value of a load was withdrawn, if it was.
pub(super) type Reason = Arc<OnceLock<Withdrawn>>;

impl View {
    /// The ticket that a read of `key` would have taken at the mark.
    pub(super) fn ticket_at(&self, mark: &Mark, key: &Key) -> Ticket {
        self.shared.tickets.taken_at(mark, self.name_of(key.as_str()))
    }

    /// A load that brings what was read under this ticket, unless its key may have been changed since.
    pub(super) fn guarded(&self, ticket: Ticket, key: &Key, loading: Loading, reason: &Reason) -> Loading {
        let (view, key, reason) = (self.clone(), key.clone(), Arc::clone(reason));
        Box::new(move |old| {
            let loading = loading(old);
            Box::pin(async move {
                let withdraw = |why: Withdrawn| -> Error {
                    let _the_first_counts = reason.set(why);
                    ErrorKind::Load(OriginFailure::new(why)).into()
                };
                if !view.has_heard_all().await {
                    return Err(withdraw(Withdrawn::Unheard));
                }
                let loaded = loading.await?;
                let tags = loaded.as_ref().map_or(&[][..], |loaded| &loaded.tags);
                if view.is_unchanged(ticket, &key, tags) {
                    Ok(loaded)
                } else {
                    Err(withdraw(Withdrawn::Changed))
                }
            })
        })
    }

    /// Whether nothing of the key, or of these tags, was changed since the ticket.
    fn is_unchanged(&self, ticket: Ticket, key: &Key, tags: &[Tag]) -> bool {
        // In this order: who retires a ban voids tickets first.
        !self.space.bans.name(ticket.born, key.as_str(), tags) && self.shared.tickets.is_valid(ticket)
    }

    /// Waits until all is heard that other nodes have published until now. Whether it is.
    async fn has_heard_all(&self) -> bool {
        let Some(l2) = self.l2() else { return true };
        let (clock, lease) = (&self.shared.clock, l2.lease());
        let limit = lease.saturating_mul(HEARING_LEASES);
        let hearing = self.space.trust.has_heard(clock.precise(), lease, clock, limit);
        self.shared.runtime.until_closed(hearing).await.unwrap_or(false)
    }

    /// Waits until active bans are retired, as long as that usually takes.
    pub(super) async fn wait_for_bans(&self) {
        for _ in 0..RETIRED_LOOKS {
            if self.space.bans.are_none() || self.shared.runtime.is_closed() {
                return;
            }
            sleep(RETIRED_PAUSE).await;
        }
    }

    /// Waits until this node hears of other nodes' changes, as long as for one of them.
    ///
    /// # Errors
    /// If L2 cannot be asked, or nothing is heard.
    pub(super) async fn begin_hearing(&self) -> Result<(), Error> {
        let Some(l2) = self.l2() else { return Ok(()) };
        l2.prepare(&self.space).await?;
        let clock = &self.shared.clock;
        let waiting = self.space.trust.wait(clock, l2.lease().saturating_mul(HEARING_LEASES));
        self.shared.runtime.until_closed(waiting).await.ok_or(ErrorKind::Closed)?;
        if self.space.trust.holds(clock) { Ok(()) } else { Err(ErrorKind::Unproven.into()) }
    }
}
