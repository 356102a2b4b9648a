//! What every request passes before and after its handler.
//!
//! 1. A body is read first, whole, within a time limit and a size limit. More than the limit is never read, so a body of
//!    any length costs at most [`Limits::body_bytes_max`].
//! 2. A handler runs within a time limit of its own. A change that was begun goes on when its request is given up.
//! 3. At most so many requests are at work at a time. More are turned away at once, with the time to come back. Probes
//!    are never turned away. So it is with answers that wait for clients to take them ([`super::backlog`]). A tenant that has a number of
//!    its own takes a place of it before its body is read, and keeps it until its client has the answer; while it sends the body, one of the
//!    share that may.
//! 4. Who asks is known before anything else is done, and who may not is refused before the body is read.
//! 5. A panic is a 500 of its request, and of no other.
//! 6. A read of an entry that L1 has is answered before anything is made that can wait ([`Guard::at_once`]). It has no time limit and no place
//!    but its tenant's, since it is over when another could begin: hits go on where more requests are at work than may be.
//! 7. Every answer has the id of its request, if that has one ([`super::request_id`]): it is given back here, and nowhere else.
//!
//! One function instead of a stack of layers: an L1 hit costs little enough for layers to show.

use super::access::{self, Need, Needs, Side};
use super::backlog::{self, Backlog, IsCounted};
use super::error::{Asked, Code, Problem, finish};
use super::request_id::RequestId;
use super::{App, Limits, entry, key, raw, why};
use crate::audit::{self, Action, Detail, Refusals};
use crate::auth::{Auth, Denied, UPLOAD_SHARE, Who};
use crate::runtime;
use crate::traces::{self, Traces};
use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::FromRequest;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::Either;
use std::future::{Ready, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Service;
use tracing::{Instrument, Span};

/// A whole body, as the guard has received it.
pub(super) struct Whole(pub(super) Bytes);

impl<S: Sync> FromRequest<S> for Whole {
    type Rejection = Problem;

    async fn from_request(request: axum::extract::Request, _: &S) -> Result<Self, Problem> {
        let bytes = axum::body::to_bytes(request.into_body(), usize::MAX).await;
        bytes.map(Self).map_err(|error| Problem::internal("a received body cannot be read", &error))
    }
}

/// The door to the handlers.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    auth: Arc<Auth>,
    refusals: Arc<Refusals>,
    /// Whose entries are read without the router where L1 has them.
    entries: Option<Arc<App>>,
    router: Router,
    needs: Needs,
    traces: Option<Traces>,
    limits: Limits,
    at_work: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    backlog: Backlog,
}

/// Room made at once for a body that says how long it is; the rest is made as it arrives.
const BODY_BYTES_AT_ONCE: usize = 64 << 10;

impl Guard {
    /// The door to what a listener is for.
    pub(crate) fn new(app: Arc<App>, side: Side) -> Self {
        let (auth, refusals, limits) = (Arc::clone(&app.auth), Arc::clone(&app.refusals), app.limits);
        let (entries, traces) = (Some(Arc::clone(&app)), app.traces.clone());
        Self { entries, traces, ..Self::over(super::router(app, side), auth, refusals, limits) }
    }

    fn over(
        (router, needs): (Router, Needs),
        auth: Arc<Auth>,
        refusals: Arc<Refusals>,
        limits: Limits,
    ) -> Self {
        Self {
            auth,
            refusals,
            entries: None,
            router,
            needs,
            traces: None,
            limits,
            at_work: Arc::new(Semaphore::new(limits.requests_max)),
            // Fewer than may be at work: it bounds the memory that bodies take.
            uploads: Arc::new(Semaphore::new((limits.requests_max / UPLOAD_SHARE).max(1))),
            backlog: Backlog::new(limits.requests_max),
        }
    }

    /// How long a request may take.
    pub(crate) fn request_timeout(&self) -> Duration {
        self.limits.request_timeout
    }

    /// This guard, counting together with the one before, unless it lets another number of requests in: then it counts anew.
    pub(crate) fn beside(self, before: &Self) -> Self {
        if self.limits.requests_max != before.limits.requests_max {
            return self;
        }
        let (at_work, uploads) = (Arc::clone(&before.at_work), Arc::clone(&before.uploads));
        Self { at_work, uploads, backlog: before.backlog.clone(), ..self }
    }

    /// Answers a request: at once, if it can.
    pub(crate) fn answer<B>(self: &Arc<Self>, request: Request<B>) -> Answering
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
    {
        let visit = self.visit(&request);
        let is_head = request.method() == Method::HEAD;
        if let Some(response) = self.at_once(&visit, &request) {
            return Either::Left(ready(complete(response, is_head, visit.id)));
        }
        let this = Arc::clone(self);
        Either::Right(Box::pin(async move {
            let id = visit.id.clone();
            complete(this.answer_traced(visit, request).await, is_head, id)
        }))
    }

    /// Who asks for what, and whether it is traced.
    fn visit<B>(&self, request: &Request<B>) -> Visit {
        let id = RequestId::of(request.headers());
        let span = self.traces.as_ref().map_or_else(Span::none, |traces| self.trace(traces, request));
        if let Some(id) = &id {
            traces::name_request(&span, id.as_str());
        }
        Visit { need: self.needs.of(request.uri().path()), who: self.auth.who(request.headers()), span, id }
    }

    /// The answer to who reads an entry that L1 has, and may. What else there is to say, is said by the way that takes longer.
    fn at_once<B: HttpBody>(&self, visit: &Visit, request: &Request<B>) -> Option<Response> {
        let (Need::Entry, &Method::GET, Some(app), Ok(who)) =
            (visit.need, request.method(), &self.entries, &visit.who)
        else {
            return None;
        };
        let is_plain = visit.span.is_none() && request.body().is_end_stream();
        if !is_plain || self.refused(visit, request).is_some() {
            return None;
        }
        let of_tenant = who.enter().ok()?;
        let is_raw = request.uri().path().starts_with(raw::PREFIX);
        let read =
            || if is_raw { raw::at_once(app, who, request) } else { entry::at_once(app, who, request) };
        let read = catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_panic| Some(Err(panicked())));
        let response = keeping(of_tenant, read?.unwrap_or_else(IntoResponse::into_response));
        let asked = self.asked(visit.need, visit.id.as_ref(), request.uri());
        Some(self.counted(finish(response, asked), asked))
    }

    /// What a problem repeats of a request.
    fn asked<'a>(&self, need: Need, id: Option<&'a RequestId>, uri: &'a Uri) -> Asked<'a> {
        Asked { uri, keys_below: keys_below(need, uri.path()), key_bytes_max: self.limits.key_bytes_max, id }
    }

    /// Why a visit ends at the door.
    fn refused<B>(&self, visit: &Visit, request: &Request<B>) -> Option<Problem> {
        let (method, host) = (request.method(), host_of(request));
        let_in(visit.need, visit.who.as_ref(), method)
            .and_then(|()| from_here(request.headers(), method, host))
            .and_then(|()| self.for_us(visit.need, host))
            .err()
    }

    async fn answer_traced<B>(&self, visit: Visit, request: Request<B>) -> Response
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
    {
        let span = visit.span.clone();
        let (response, problem) = self.answered(visit, request).instrument(span.clone()).await;
        traces::end_request(&span, response.status(), problem.map(Code::word));
        response
    }

    fn trace<B>(&self, traces: &Traces, request: &Request<B>) -> Span {
        let path = request.uri().path();
        if is_work(path) {
            traces.request(request, || self.needs.route_of(path).map(str::to_owned))
        } else {
            Span::none()
        }
    }

    async fn answered<B>(&self, visit: Visit, request: Request<B>) -> (Response, Option<Code>)
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
    {
        let (uri, method) = (request.uri().clone(), request.method().clone());
        let refused = self.refused(&visit, &request);
        let Visit { need, who, id, .. } = visit;
        let asked = self.asked(need, id.as_ref(), &uri);
        let request_id = id.as_ref().map(RequestId::as_str);
        let action = Action { method: &method, path: uri.path(), request_id };
        if let Some(problem) = refused {
            let code = problem.code;
            self.refusals.note(who.as_ref().ok(), action, code.word());
            return (finish(problem.into_response(), asked), Some(code));
        }
        let who = who.ok();
        let noted = who.as_ref().filter(|_| need.is_noted(&method));
        let noted = noted.map(|who| Noted { who, action, is_over: false });
        let mut response =
            self.admit(who.as_ref(), request).await.unwrap_or_else(IntoResponse::into_response);
        let problem = response.extensions().get::<Problem>().map(|problem| problem.code);
        if let Some(noted) = noted {
            let detail = response.extensions_mut().remove::<Detail>();
            noted.came_to(detail.as_ref(), problem.map_or("done", Code::word));
        } else if let Some(code @ (Code::Forbidden | Code::RateLimited)) = problem {
            self.refusals.note(who.as_ref(), action, code.word());
        }
        let response = finish(response, asked);
        // Of the answer to a `HEAD` nothing waits: its body is not sent.
        let response = if method == Method::HEAD { response } else { self.counted(response, asked) };
        (response, problem)
    }

    /// The answer, if there is room for it to wait in.
    fn counted(&self, response: Response, asked: Asked<'_>) -> Response {
        if response.extensions().get::<IsCounted>().is_some() {
            return response;
        }
        let (parts, body) = response.into_parts();
        match self.backlog.count(body) {
            Some(body) => Response::from_parts(parts, body),
            None => finish(overloaded().into_response(), asked),
        }
    }

    /// Refuses what is asked of a host that this is not.
    fn for_us(&self, need: Need, host: Option<&str>) -> Result<(), Problem> {
        if need == Need::Nothing || host.is_none_or(|host| self.auth.is_ours(host)) {
            return Ok(());
        }
        let detail = "this service is not known by that name: name it in `auth.hosts`, or ask for tokens";
        Err(Problem::new(Code::Forbidden, detail))
    }

    async fn admit<B>(&self, who: Option<&Who>, request: Request<B>) -> Result<Response, Problem>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
    {
        let is_work = is_work(request.uri().path());
        let of_tenant = who.filter(|_| is_work).map_or(Ok(None), Who::enter);
        let of_tenant = of_tenant.map_err(|most| {
            let detail =
                format!("this tenant has {most} requests at work, as many as it may; try again in a second");
            Problem::new(Code::RateLimited, detail)
        })?;
        let request = if request.body().is_end_stream() {
            request.map(|_nothing| Body::empty())
        } else {
            // Apart, so that a request without a body does not carry what it takes to read one.
            Box::pin(self.receive(who, request)).await?
        };
        let place = is_work.then(|| self.at_work.try_acquire()).transpose();
        let _place = place.map_err(|_| overloaded())?;
        Ok(keeping(of_tenant, self.run(who, request).await?))
    }

    async fn run(&self, who: Option<&Who>, request: Request<Body>) -> Result<Response, Problem> {
        let limit = self.limits.request_timeout;
        let answer = AssertUnwindSafe(self.handle(who, request)).catch_unwind();
        match runtime::within(limit, answer).await {
            Some(Ok(response)) => Ok(response),
            Some(Err(_panic)) => Err(panicked()),
            None => {
                let detail = format!("there was no answer within {limit:?}; a change may still take effect");
                Err(Problem::new(Code::Timeout, detail))
            }
        }
    }

    /// Lets a handler answer.
    async fn handle(&self, who: Option<&Who>, mut request: Request<Body>) -> Response {
        if let Some(who) = who {
            request.extensions_mut().insert(who.clone());
        }
        request.extensions_mut().insert(self.backlog.clone());
        match self.router.clone().call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// Reads the body of a method that has one; other bodies are left unread.
    async fn receive<B>(&self, who: Option<&Who>, request: Request<B>) -> Result<Request<Body>, Problem>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
    {
        let (parts, body) = request.into_parts();
        if !matches!(parts.method, Method::PUT | Method::POST) {
            return Ok(Request::from_parts(parts, Body::empty()));
        }
        let of_tenant = who.map_or(Ok(None), Who::upload);
        let _of_tenant = of_tenant.map_err(|most| {
            let detail =
                format!("this tenant is sending {most} bodies, as many as it may; try again in a second");
            Problem::new(Code::RateLimited, detail)
        })?;
        let _place = self.uploads.try_acquire().map_err(|_| overloaded())?;
        let limit = self.limits.request_timeout;
        let read = runtime::within(limit, read(body, self.limits.body_bytes_max)).await;
        let late = || Problem::new(Code::BodyTimeout, format!("the body did not arrive within {limit:?}"));
        Ok(Request::from_parts(parts, Body::from(read.ok_or_else(late)??)))
    }
}

/// A request at the door.
struct Visit {
    need: Need,
    who: Result<Who, Denied>,
    span: Span,
    id: Option<RequestId>,
}

/// An answer: there already, or on its way.
pub(crate) type Answering = Either<Ready<Response>, Pin<Box<dyn Future<Output = Response> + Send>>>;

/// Whether a path is one of those that are worked for, and not a probe or a page.
fn is_work(path: &str) -> bool {
    path.starts_with("/api/") || path.starts_with("/v1/")
}

/// What a path that names a key has before it; `None` if it names none.
fn keys_below(need: Need, path: &str) -> Option<&'static str> {
    match need {
        Need::Entry if path.starts_with(raw::PREFIX) => Some(raw::ENTRIES),
        Need::Entry => Some(key::ENTRIES),
        Need::Admin if path.starts_with(why::PREFIX) || why::PREFIX.trim_end_matches('/') == path => {
            Some(why::PREFIX)
        }
        _ => None,
    }
}

/// Refuses who may not go on to the handler.
fn let_in(need: Need, who: Result<&Who, &Denied>, method: &Method) -> Result<(), Problem> {
    match who {
        Ok(who) => access::admit(need, who, method),
        Err(_) if need == Need::Nothing => Ok(()),
        Err(Denied::NoToken) => {
            Err(Problem::new(Code::Unauthorized, "this needs a token: `Authorization: Bearer TOKEN`"))
        }
        Err(Denied::Unknown) => Err(access::nobody()),
        Err(Denied::TooOften) => Err(Problem::new(
            Code::RateLimited,
            "this token is used more often than it may; try again in a second",
        )),
        Err(Denied::TenantTooOften) => Err(Problem::new(
            Code::RateLimited,
            "the tokens of this tenant are used more often than they may; try again in a second",
        )),
    }
}

/// What a request that is noted has come to: one whose client goes away, too, since what it began goes on.
struct Noted<'a> {
    who: &'a Who,
    action: Action<'a>,
    is_over: bool,
}

impl Noted<'_> {
    fn came_to(mut self, detail: Option<&Detail>, outcome: &str) {
        self.is_over = true;
        audit::done(self.who, self.action, detail, outcome);
    }
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            audit::done(self.who, self.action, None, "the client went away");
        }
    }
}

/// The host that a request is for.
fn host_of<B>(request: &Request<B>) -> Option<&str> {
    // One that is no text is nobody's name.
    let named = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or(".."));
    request.uri().authority().map(Authority::as_str).or(named)
}

/// Refuses a change that a browser asks for on behalf of a page of somebody else: it would bring along whatever lets its user in, were that
/// only that the service listens on this machine.
fn from_here(headers: &HeaderMap, method: &Method, host: Option<&str>) -> Result<(), Problem> {
    let is_elsewhere = |value: &HeaderValue| matches!(value.as_bytes(), b"cross-site" | b"same-site");
    let is_of_another_page = |origin: &HeaderValue| {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        origin.is_none_or(|(_, page)| host.is_none_or(|host| !page.eq_ignore_ascii_case(host)))
    };
    let is_foreign = headers.get("sec-fetch-site").is_some_and(is_elsewhere)
        || headers.get(header::ORIGIN).is_some_and(is_of_another_page);
    if method.is_safe() || !is_foreign {
        return Ok(());
    }
    Err(Problem::new(Code::Forbidden, "a page of another site cannot change anything here"))
}

/// A whole body, if it is not longer than allowed. A body that says that it is longer is not read at all.
async fn read<B: HttpBody<Data = Bytes>>(body: B, bytes_max: usize) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(
            Code::BodyTooLarge,
            format!("the body has more than {bytes_max} bytes, the most allowed"),
        )
    };
    let claimed = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if claimed > bytes_max {
        return Err(too_large());
    }
    let mut body = pin!(body);
    let mut bytes = BytesMut::with_capacity(claimed.min(BODY_BYTES_AT_ONCE));
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let frame = frame.map_err(|_| Problem::new(Code::BodyMalformed, "the body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > bytes_max - bytes.len() {
            return Err(too_large());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// An answer that keeps the place of its request.
fn keeping(place: Option<OwnedSemaphorePermit>, response: Response) -> Response {
    match place {
        Some(place) => response.map(|body| backlog::keeping(body, place)),
        None => response,
    }
}

/// An answer as it goes out: with the id of its request, and without a body if that is a `HEAD`.
fn complete(mut response: Response, is_head: bool, id: Option<RequestId>) -> Response {
    RequestId::echo(id, &mut response);
    if is_head {
        // Of what is not sent because it is known, or was not made, the length is not that of nothing.
        let length = response.body().size_hint().exact();
        let is_told = |&length: &u64| length > 0 && response.status() != StatusCode::NOT_MODIFIED;
        if let Some(length) = length.filter(is_told) {
            response.headers_mut().entry(header::CONTENT_LENGTH).or_insert(length.into());
        }
        *response.body_mut() = Body::empty();
    }
    response
}

fn panicked() -> Problem {
    Problem::internal("a handler panicked", &"see the message above")
}

pub(super) fn overloaded() -> Problem {
    Problem::new(Code::Overloaded, "too many requests are at work; try again in a second")
}

#[cfg(test)]
mod tests;
