//! The way in by a listener: each request passes the guard that stands there when it comes.
//!
//! Another guard can take the place of the one before, for another configuration. Who has passed the one before is not disturbed.

use super::App;
use super::access::Side;
use super::guard::{Answering, Guard};
use arc_swap::ArcSwap;
use axum::body::HttpBody;
use axum::http::Request;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The way in.
pub(crate) struct Gate {
    side: Side,
    guard: ArcSwap<Guard>,
}

impl Gate {
    /// A gate to what a listener is for.
    pub(crate) fn new(app: Arc<App>, side: Side) -> Self {
        Self { side, guard: ArcSwap::from_pointee(Guard::new(app, side)) }
    }

    /// Lets a guard of another configuration stand there.
    pub(crate) fn turn_to(&self, app: Arc<App>) {
        let before = self.guard.load_full();
        self.guard.store(Arc::new(Guard::new(app, self.side).beside(&before)));
    }

    /// How long a request may take that comes now.
    pub(crate) fn request_timeout(&self) -> Duration {
        self.guard.load().request_timeout()
    }

    /// Answers a request.
    pub(crate) fn answer<B>(&self, request: Request<B>) -> Answering
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
    {
        self.guard.load().answer(request)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gate({:?})", self.side)
    }
}
