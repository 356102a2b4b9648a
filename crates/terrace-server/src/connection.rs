//! One connection: TLS if there is, then HTTP/1.1 or HTTP/2, until it ends.
//!
//! 1. Everything that a client can hold open has a time limit: the handshake, the head of a request, its body, its answer, an idle
//!    connection, one whose client takes nothing of what it asked for.
//! 2. HTTP/2 is spoken where TLS has agreed on it, and nowhere else. Its streams, its resets, its headers and what is buffered for it are
//!    bounded by the numbers here.
//! 3. A connection that is told to stop takes no new requests and finishes those that it has.

use crate::api::gate::Gate;
use crate::runtime::{self, Tasks, Timers};
use crate::tls::{HTTP_2, Tls};
use crate::wire::Wire;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::FutureExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Largest head of a request, in bytes: the longest key with every byte percent-encoded, and room for headers.
const HEAD_BYTES_MAX: u32 = 32 << 10;
/// Longest that a handshake may take, if `header_timeout` is not less.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Requests at a time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 100;
/// Streams that a client has reset before they were looked at, at most; then the connection is closed.
const RESETS_PENDING_MAX: usize = 20;
/// Streams that were reset for what a client did wrong, at most; then the connection is closed.
const RESETS_OF_ERRORS_MAX: usize = 64;
/// Bytes of bodies that a client may have on their way before they are asked for, on one connection and on one stream of it.
const RECEIVE_BYTES_MAX: u32 = 128 << 10;
const RECEIVE_STREAM_BYTES_MAX: u32 = 64 << 10;
/// Bytes of answers that are buffered for one stream.
const SEND_BYTES_MAX: usize = 64 << 10;
/// How often a client of HTTP/2 has to show that it is there, and how long it may take to.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long nothing may move on a connection with requests: longer than the pause between two lines of an event stream.
const STALLED_MAX: Duration = Duration::from_secs(45);

/// What connections of one listener are served with.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) gate: Arc<Gate>,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) tasks: Tasks,
    /// How long a client may take to send a head, or leave a connection idle.
    pub(crate) patience: Duration,
}

/// Serves one connection until it ends.
pub(crate) async fn serve(stream: TcpStream, service: Arc<Service>) {
    let _slower_without = stream.set_nodelay(true);
    let Some(tls) = &service.tls else { return http1(stream, &service).await };
    let handshake = tls.acceptor().accept(stream);
    match runtime::within(service.patience.min(HANDSHAKE_MAX), handshake).await {
        Some(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(HTTP_2) => {
            http2(stream, service).await;
        }
        Some(Ok(stream)) => http1(stream, &service).await,
        Some(Err(error)) => tracing::debug!(%error, "a handshake failed"),
        None => tracing::debug!("a handshake took too long"),
    }
}

async fn http1<S>(stream: S, to: &Arc<Service>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service =
        service_fn(|request: hyper::Request<Incoming>| to.gate.answer(request).map(Ok::<_, Infallible>));
    let head_bytes_max = usize::try_from(HEAD_BYTES_MAX).unwrap_or(usize::MAX);
    let mut connection = http1::Builder::new()
        .timer(Timers::of(to.patience))
        .header_read_timeout(to.patience)
        .max_buf_size(head_bytes_max)
        .max_header_size(head_bytes_max)
        .serve_connection(TokioIo::new(Wire::new(stream, to.patience)), service);
    let mut stopped = pin!(to.tasks.stopped());
    let mut is_told = false;
    let ended = poll_fn(|context| {
        if !is_told && stopped.as_mut().poll(context).is_ready() {
            is_told = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        connection.poll_without_shutdown(context)
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "a connection ended early");
    }
    connection.into_parts().io.into_inner().linger().await;
}

async fn http2<S>(stream: S, to: Arc<Service>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::new(Activity::default());
    let (of_requests, to_answer) = (Arc::clone(&activity), Arc::clone(&to));
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let open = Open::new(&of_requests);
        let watched = |body| Body::new(Watched { body, open });
        to_answer.gate.answer(request).map(|answer| Ok::<Response, Infallible>(answer.map(watched)))
    });
    let mut connection = http2::Builder::new(to.tasks.clone())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .max_local_error_reset_streams(RESETS_OF_ERRORS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX)
        .initial_connection_window_size(RECEIVE_BYTES_MAX)
        .initial_stream_window_size(RECEIVE_STREAM_BYTES_MAX)
        .max_send_buf_size(SEND_BYTES_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(Wire::opaque(stream, to.patience)), service);
    let mut quiet = Quiet::new(to.patience, STALLED_MAX.max(to.gate.request_timeout().saturating_mul(2)));
    let mut stopped = pin!(to.tasks.stopped());
    let mut is_told = false;
    let ended = poll_fn(|context| {
        let mut tell = !is_told && stopped.as_mut().poll(context).is_ready();
        match quiet.poll(context, &activity) {
            Silence::Short => {}
            Silence::Long if is_told => return Poll::Ready(Ok(())),
            Silence::Long => tell = true,
        }
        if tell {
            is_told = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        Pin::new(&mut connection).poll(context)
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// What happens on a connection.
#[derive(Debug, Default)]
struct Activity {
    /// Requests whose answers are not out yet.
    open: AtomicUsize,
    /// Steps of any request so far.
    steps: AtomicU64,
}

/// A request whose answer is not out yet.
#[derive(Debug)]
struct Open(Arc<Activity>);

impl Open {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.open.fetch_add(1, Ordering::Relaxed);
        activity.steps.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.steps.fetch_add(1, Ordering::Relaxed);
    }
}

/// An answer that is watched on its way out: it is asked for more only while its client takes it.
struct Watched {
    body: Body,
    open: Open,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_ready() {
            self.open.0.steps.fetch_add(1, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Whether a connection has been quiet for too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Silence {
    Short,
    Long,
}

/// For how long nothing has moved on a connection, looked at now and then.
struct Quiet {
    patience: Duration,
    /// The same, while there are requests.
    stalled_max: Duration,
    timer: runtime::Timer,
    steps: u64,
    lasting: Duration,
}

impl Quiet {
    fn new(patience: Duration, stalled_max: Duration) -> Self {
        let stalled_max = stalled_max.max(patience);
        Self { patience, stalled_max, timer: runtime::timer(patience), steps: 0, lasting: Duration::ZERO }
    }

    fn poll(&mut self, context: &mut Context<'_>, activity: &Activity) -> Silence {
        let mut silence = Silence::Short;
        while self.timer.as_mut().poll(context).is_ready() {
            self.timer = runtime::timer(self.patience);
            let steps = activity.steps.load(Ordering::Relaxed);
            self.lasting = if steps == self.steps { self.lasting + self.patience } else { Duration::ZERO };
            self.steps = steps;
            let has_requests = activity.open.load(Ordering::Relaxed) > 0;
            let limit = if has_requests { self.stalled_max } else { self.patience };
            if self.lasting >= limit {
                silence = Silence::Long;
            }
        }
        silence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many looks a connection counts as quiet.
    async fn looks_until_long(activity: &Activity, mut meanwhile: impl FnMut(u32)) -> u32 {
        let mut quiet = Quiet::new(Duration::from_secs(30), Duration::from_secs(90));
        for look in 1..100 {
            let silence = poll_fn(|context| {
                let before = quiet.lasting;
                let steps = quiet.steps;
                let silence = quiet.poll(context, activity);
                let has_looked = quiet.lasting != before || quiet.steps != steps || silence == Silence::Long;
                if has_looked { Poll::Ready(silence) } else { Poll::Pending }
            })
            .await;
            if silence == Silence::Long {
                return look;
            }
            meanwhile(look);
        }
        100
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_quiet_sooner_than_one_that_is_stalled() {
        let activity = Arc::new(Activity::default());
        assert_eq!(looks_until_long(&activity, |_| {}).await, 1);
        let open = Open::new(&activity);
        assert_eq!(looks_until_long(&activity, |_| {}).await, 4, "one step, then three times nothing");
        drop(open);
        let opened = |look| drop((look < 10).then(|| Open::new(&activity)));
        assert_eq!(looks_until_long(&activity, opened).await, 11);
    }
}
