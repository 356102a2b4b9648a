//! How much of what is answered may wait for clients to take it.
//!
//! 1. An answer that is not small counts until the client has all of it, or is gone: its bytes are in memory for so long, whatever the
//!    connection and its windows.
//! 2. Where there is no room for one more, the request is turned away, with the time to come back.
//! 3. What takes long to make, or changes something, has its room before it is made ([`Backlog::reserve`]), by what it will have, about: turned away
//!    afterwards, the work would be done for nothing, and the change all the same. What has changed something is not turned away any more
//!    ([`Reserved::keep`]).
//!
//! Deliberately absent: streams, which are made as they are taken.

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of one permit; answers with fewer do not count.
const UNIT: u64 = 4 << 10;
/// Bytes that are handed out at once of an answer that counts: a connection takes no more of them than it has buffers for.
const PIECE_BYTES: usize = 32 << 10;
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
        let room = self.take(self.units_of(bytes))?;
        Some(Body::new(Counted::new(body, room)))
    }

    /// Room for an answer that is still to be made, and will have about so many bytes; nothing if there is none.
    pub(super) fn reserve(&self, bytes: u64) -> Option<Reserved> {
        let units = if bytes < UNIT { 0 } else { self.units_of(bytes) };
        Some(Reserved { backlog: self.clone(), room: self.take(units)? })
    }

    fn units_of(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.units)
    }

    fn take(&self, units: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).try_acquire_many_owned(units).ok()
    }
}

/// Room for an answer that is being made.
pub(super) struct Reserved {
    backlog: Backlog,
    room: OwnedSemaphorePermit,
}

/// Says of an answer that its body counts already.
#[derive(Clone, Copy)]
pub(super) struct IsCounted;

impl Reserved {
    /// The answer, in this room. It is never turned away: one that has become larger takes what is left besides.
    pub(super) fn keep(self, response: Response) -> Response {
        let Self { backlog, mut room } = self;
        let Some(bytes) = response.body().size_hint().exact().filter(|bytes| *bytes >= UNIT) else {
            return response;
        };
        let of = |permits: usize| u32::try_from(permits).unwrap_or(u32::MAX);
        let more = backlog.units_of(bytes).saturating_sub(of(room.num_permits()));
        if let Some(more) = backlog.take(more.min(of(backlog.room.available_permits()))) {
            room.merge(more);
        }
        let mut response = response.map(|body| keeping(body, room));
        response.extensions_mut().insert(IsCounted);
        response
    }
}

/// The body, which keeps a place until it is taken.
pub(super) fn keeping(body: Body, place: OwnedSemaphorePermit) -> Body {
    Body::new(Counted::new(body, place))
}

/// A body that counts. It is handed out in pieces, and each of them counts for as long as it is kept somewhere: a connection drops a body with its
/// last piece.
struct Counted {
    body: Body,
    /// What is there of it, and not handed out.
    rest: Bytes,
    room: Arc<OwnedSemaphorePermit>,
}

impl Counted {
    fn new(body: Body, room: OwnedSemaphorePermit) -> Self {
        Self { body, rest: Bytes::new(), room: Arc::new(room) }
    }
}

/// A piece of a body, and the room that all of it takes.
struct Piece {
    bytes: Bytes,
    _room: Arc<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
            let Some(Ok(frame)) = frame else { return Poll::Ready(frame) };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            }
        }
        let length = self.rest.len().min(PIECE_BYTES);
        let piece = Piece { bytes: self.rest.split_to(length), _room: Arc::clone(&self.room) };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut whole = SizeHint::new();
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper.saturating_add(rest));
        }
        whole.set_lower(hint.lower().saturating_add(rest));
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    fn body(bytes: usize) -> Body {
        Body::from(vec![0; bytes])
    }

    #[tokio::test]
    async fn what_counts_is_handed_out_in_pieces_and_is_the_same() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|number| number.to_le_bytes()[1]).collect();
        let mut body = Backlog::new(4).count(Body::from(bytes.clone())).expect("there is room");
        let (mut taken, mut pieces) = (Vec::new(), 0);
        while !body.is_end_stream() {
            assert_eq!(body.size_hint().exact(), Some((bytes.len() - taken.len()) as u64));
            let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
            let data = frame.expect("it has not ended").expect("no error").into_data().expect("data");
            assert!(data.len() <= PIECE_BYTES);
            taken.extend_from_slice(&data);
            pieces += 1;
        }
        assert_eq!((taken == bytes, pieces), (true, 4));
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

    #[test]
    fn room_that_was_reserved_is_kept_by_an_answer_of_any_size() {
        let backlog = Backlog::new(1);
        let reserved = backlog.reserve(32 << 10).expect("there is room");
        assert!(backlog.reserve(40 << 10).is_none() && backlog.count(body(40 << 10)).is_none());
        let answer = reserved.keep(Response::new(body(60 << 10)));
        assert!(answer.extensions().get::<IsCounted>().is_some());
        assert!(backlog.count(body(8 << 10)).is_none(), "it has become larger, and counts as what it is");
        drop(answer);

        let (one, other) = (backlog.reserve(32 << 10), backlog.reserve(24 << 10));
        let answer = one.expect("there is room").keep(Response::new(body(60 << 10)));
        assert!(
            backlog.count(body(4 << 10)).is_none(),
            "it took what was left, and has gone out all the same"
        );
        drop(other);
        assert!(backlog.count(body(28 << 10)).is_none() && backlog.count(body(24 << 10)).is_some());
        drop(answer);
        let small = backlog.reserve(1 << 20).expect("all the room").keep(Response::new(body(1)));
        assert!(small.extensions().get::<IsCounted>().is_none() && backlog.count(body(64 << 10)).is_some());
    }

    #[tokio::test]
    async fn a_piece_that_is_kept_counts_when_its_body_is_gone() {
        let backlog = Backlog::new(1);
        let mut body = backlog.count(body(60 << 10)).expect("there is room");
        poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        let last = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        assert!(body.is_end_stream());
        drop(body);
        assert!(backlog.count(Body::from(vec![0; 60 << 10])).is_none());
        drop(last);
        assert!(backlog.count(Body::from(vec![0; 60 << 10])).is_some());
    }
}
