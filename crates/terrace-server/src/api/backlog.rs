//! How much of what is answered may wait for clients to take it.
//!
//! 1. An answer that is not small counts until the client has all of it, or is gone: its bytes are in memory for so long, whatever the
//!    connection and its windows.
//! 2. Where there is no room for one more, the request is turned away, with the time to come back.
//!
//! Deliberately absent: streams, which are made as they are taken.

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of one permit; answers with fewer do not count.
const UNIT: u64 = 4 << 10;
/// Room for each request that may be at work, in bytes.
const BYTES_PER_REQUEST: u64 = 64 << 10;

/// The room for answers that wait.
#[derive(Clone, Debug)]
pub(super) struct Backlog {
    room: Arc<Semaphore>,
    units: u32,
}

impl Backlog {
    pub(super) fn new(requests_max: usize) -> Self {
        let units = (requests_max as u64).saturating_mul(BYTES_PER_REQUEST) / UNIT;
        let units = u32::try_from(units).unwrap_or(u32::MAX).max(1);
        let permits = usize::try_from(units).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { room: Arc::new(Semaphore::new(permits)), units }
    }

    /// The body, which counts until it is taken; nothing if there is no room for it. One that is larger than all the room takes all.
    pub(super) fn count(&self, body: Body) -> Option<Body> {
        let Some(bytes) = body.size_hint().exact().filter(|bytes| *bytes >= UNIT) else { return Some(body) };
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.units);
        let room = Arc::clone(&self.room).try_acquire_many_owned(units).ok()?;
        Some(Body::new(Counted { body, _room: room }))
    }
}

/// The body, which keeps a place until it is taken.
pub(super) fn keeping(body: Body, place: OwnedSemaphorePermit) -> Body {
    Body::new(Counted { body, _room: place })
}

/// A body that counts.
struct Counted {
    body: Body,
    _room: OwnedSemaphorePermit,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(bytes: usize) -> Body {
        Body::from(vec![0; bytes])
    }

    #[test]
    fn large_answers_count_until_they_are_gone_and_small_ones_do_not() {
        let backlog = Backlog::new(1);
        let first = backlog.count(body(60 << 10)).expect("there is room");
        assert!(backlog.count(body(8 << 10)).is_none());
        assert!(backlog.count(body(1 << 10)).is_some());
        drop(first);
        assert!(backlog.count(body(1 << 20)).is_some(), "one that is larger than all the room");
    }
}
