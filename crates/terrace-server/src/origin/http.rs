//! An HTTP API as an origin.
//!
//! 1. The host is the configuration's. Redirects are not followed, and no proxy of the environment is used, so that nobody but the
//!    configuration says who is asked.
//! 2. A load is one request, within a time limit, after a wait for a place among those under way, which has the same limit. Its answer is
//!    read up to a limit.
//! 3. `404`, `410` and `204` say that there is no value; `400`, `414` and `422` that there can be none under this key.
//! 4. A write that got an answer of success was made. What another answer means is in [`refusal`]: one that may come from something in
//!    front of the API that has lost sight of the request, as any failure of a server may, says nothing, and so does no answer.
//! 5. What is written behind carries its id as `Idempotency-Key`, which is the same each time it is sent, and its version as
//!    `Terrace-Version`, which grows with every write of a key.
//! 6. What its answers say of groups of entries goes on with them: the tags of what was loaded, and what a write has made untrue
//!    ([`super::groups`]).

use super::answers::{Asked, Said};
use super::endpoint::{Endpoint, Verb};
use super::error::OriginError;
use super::groups::Groups;
use super::loader::Answer;
use super::roots::{Believing, Renewal, Roots};
use super::{Answered, Written};
use crate::config::HttpConfig;
use crate::runtime;
use crate::traces::Outgoing;
use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, Method, RequestBuilder, Response, StatusCode, Url, redirect};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use terrace::behind::WriteId;
use terrace::codec::JsonText;
use terrace::{Clock, Fetched, WriteFailure};
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::Instrument;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const VERSION: HeaderName = HeaderName::from_static("terrace-version");

/// An HTTP API.
#[derive(Debug)]
pub(super) struct Http {
    name: Arc<str>,
    client: Believing<Client>,
    base: Url,
    timeout: Duration,
    body_bytes_max: usize,
    loads: Semaphore,
    writes: Semaphore,
    writes_at_once: usize,
    groups: Groups,
}

impl Http {
    pub(super) fn new(name: &str, config: &HttpConfig) -> Result<Self, String> {
        let (loads, writes) = (clamp(config.concurrency), clamp(config.write_concurrency));
        Ok(Self {
            name: name.into(),
            client: Believing::new(config.root_certificate_file.as_deref(), |roots| client(config, roots))?,
            base: config.base_url.parse().map_err(|_| "its `base_url` cannot be read".to_owned())?,
            timeout: config.timeout.0,
            body_bytes_max: clamp(config.max_body.0),
            loads: Semaphore::new(loads),
            writes: Semaphore::new(writes),
            writes_at_once: writes,
            groups: Groups::new(),
        })
    }

    /// Another client, if the file with roots says something else by now.
    pub(super) fn renew(&self, config: &HttpConfig) -> Result<Option<Renewal>, String> {
        self.client.next(config.root_certificate_file.as_deref(), |roots| client(config, roots))
    }

    pub(super) fn writes_at_once(&self) -> usize {
        self.writes_at_once
    }

    /// Loads a value by the request for it.
    pub(super) async fn load(
        &self,
        endpoint: &Endpoint,
        request: RequestBuilder,
        asked: &Asked<'_>,
    ) -> Answer {
        let _place = self.place(&self.loads).await?;
        let outgoing = self.outgoing(endpoint);
        let request = request.headers(asked.condition()).headers(outgoing.headers());
        let clock = Clock::system();
        let sent = clock.precise();
        let loaded = runtime::within(self.timeout, async {
            let answer = request.send().await;
            outgoing.answered(answer.as_ref().ok().map(Response::status));
            let response = answer.map_err(|error| self.unsent(&error))?;
            let mut said = asked.said(response.headers(), clock.wall());
            let fetched = match asked.unchanged(response.status()) {
                Some(old) => self.unchanged(old, asked, &response, &mut said)?,
                None => self.document(response, asked, &said).await?,
            };
            Ok(said.of(fetched, clock.precise().since(sent)))
        });
        let late = || {
            outgoing.answered(None);
            Err(self.timed_out())
        };
        loaded.instrument(outgoing.span()).await.unwrap_or_else(late)
    }

    /// The old value, which still holds.
    fn unchanged(&self, old: &JsonText, asked: &Asked<'_>, response: &Response, said: &mut Said) -> Answer {
        let headers = response.headers();
        asked.note_unchanged(headers, said).map_err(|reason| self.failed(reason))?;
        if !Groups::are_named(headers) {
            return Ok(Fetched::same());
        }
        let tags = self.groups.of_entry(&self.name, headers).map_err(|reason| self.failed(reason))?;
        Ok(Fetched::value(old.clone()).tags(tags))
    }

    async fn document(&self, response: Response, asked: &Asked<'_>, said: &Said) -> Answer {
        let status = response.status();
        match status {
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::NO_CONTENT => {
                return Ok(Fetched::absent());
            }
            StatusCode::BAD_REQUEST | StatusCode::URI_TOO_LONG | StatusCode::UNPROCESSABLE_ENTITY => {
                return Err(self.bad_key(format!("it answered {status}")));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                return Err(self.busy(status, response.headers()));
            }
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
                return Err(self.unavailable(format!("it answered {status}"), true));
            }
            _ if status.is_redirection() => {
                return Err(self.failed(format!("it answered {status}, and redirects are not followed")));
            }
            _ if status.is_server_error() => {
                let (origin, reason) = (Arc::clone(&self.name), format!("it answered {status}"));
                return Err(OriginError::Broken { origin, reason });
            }
            _ if !status.is_success() => return Err(self.failed(format!("it answered {status}"))),
            _ => {}
        }
        let tags =
            self.groups.of_entry(&self.name, response.headers()).map_err(|reason| self.failed(reason))?;
        let body = self.body(response).await?;
        let document = JsonText::new(body);
        let document = document.map_err(|error| self.failed(format!("its answer is no JSON: {error}")))?;
        asked.note(&document, said);
        Ok(Fetched::value(document).tags(tags))
    }

    async fn body(&self, mut response: Response) -> Result<Bytes, OriginError> {
        let mut body = BytesMut::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if chunk.len() <= self.body_bytes_max - body.len() => {
                    body.extend_from_slice(&chunk);
                }
                Ok(Some(_)) => {
                    let reason = format!("its answer has more than {} bytes", self.body_bytes_max);
                    return Err(self.failed(reason));
                }
                Ok(None) => return Ok(body.freeze()),
                Err(error) => {
                    let reason = format!("its answer broke off: {}", words(&error));
                    return Err(self.unavailable(reason, true));
                }
            }
        }
    }

    /// A place among those who ask, or that there is none here.
    async fn place<'a>(&self, places: &'a Semaphore) -> Result<SemaphorePermit<'a>, OriginError> {
        let place = runtime::within(self.timeout, places.acquire()).await;
        place.and_then(Result::ok).ok_or_else(|| {
            let reason = format!("no place was free within {:?}", self.timeout);
            OriginError::NotNow { origin: Arc::clone(&self.name), reason }
        })
    }

    /// Makes a change by the request for it.
    pub(super) async fn write(
        &self,
        endpoint: &Endpoint,
        request: RequestBuilder,
        document: Option<&JsonText>,
        fence: Option<(WriteId, u64)>,
    ) -> Answered {
        let _place = match self.place(&self.writes).await {
            Ok(place) => place,
            Err(error) => return Err(WriteFailure::Unavailable(error)).into(),
        };
        let outgoing = self.outgoing(endpoint);
        let mut request = request.headers(outgoing.headers());
        if let Some(document) = document {
            request = request.header(CONTENT_TYPE, JSON).body(document.as_bytes().to_vec());
        }
        if let Some((id, version)) = fence {
            request = request.header(IDEMPOTENCY_KEY, id.to_string()).header(VERSION, version);
        }
        let answer = runtime::within(self.timeout, request.send()).instrument(outgoing.span()).await;
        outgoing.answered(answer.as_ref().and_then(|answer| answer.as_ref().ok()).map(Response::status));
        let made = match answer {
            Some(Ok(response)) => {
                let status = response.status();
                let mut answered =
                    Answered::from(self.written(&response, document.is_none(), fence.is_some()));
                answered.invalidates = self.groups.made_untrue(&self.name, status, response.headers());
                return answered;
            }
            Some(Err(error)) if error.is_connect() || error.is_builder() => {
                Err(WriteFailure::Unavailable(self.unavailable(words(&error.without_url()), false)))
            }
            Some(Err(error)) => Err(WriteFailure::Unknown(self.unknown(words(&error.without_url()), false))),
            None => {
                let reason = format!("it did not answer within {:?}", self.timeout);
                Err(WriteFailure::Unknown(self.unknown(reason, false)))
            }
        };
        made.into()
    }

    fn written(&self, response: &Response, is_removal: bool, comes_again: bool) -> Written {
        let status = response.status();
        let is_gone = matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
        if status.is_success() || (is_removal && is_gone) {
            return Ok(());
        }
        let reason = format!("it answered {status}");
        Err(match refusal(status, comes_again) {
            Refusal::OfTheWrite => {
                WriteFailure::Refused(OriginError::Refused { origin: Arc::clone(&self.name), reason })
            }
            Refusal::ForNow => WriteFailure::Unavailable(self.busy(status, response.headers())),
            Refusal::Unclear => WriteFailure::Unknown(self.unknown(reason, !status.is_server_error())),
            Refusal::OfAnything => WriteFailure::Failed(self.failed(reason)),
        })
    }

    /// Whether the origin can be reached; what it answers is its own affair.
    pub(super) async fn check(&self) -> Result<(), OriginError> {
        let request = self.client.now().head(self.base.clone());
        match runtime::within(self.timeout, request.send()).await {
            // Of a 403 nobody knows: with the right token, too, a root may be for nobody.
            Some(Ok(answer)) if answer.status() == StatusCode::UNAUTHORIZED => {
                let reason = format!("it answered {}", answer.status());
                Err(OriginError::Denied { origin: Arc::clone(&self.name), reason })
            }
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(self.unsent(&error)),
            None => Err(self.timed_out()),
        }
    }

    /// What traces a request to it.
    fn outgoing(&self, endpoint: &Endpoint) -> Outgoing {
        let (host, port) = (self.base.host_str(), self.base.port_or_known_default());
        Outgoing::new(&method_of(endpoint), host, port, endpoint.as_str())
    }

    /// The request for what is filled in.
    pub(super) fn request(
        &self,
        endpoint: &Endpoint,
        values: &[&str],
    ) -> Result<RequestBuilder, OriginError> {
        let path = endpoint.path(values).ok_or_else(|| {
            self.bad_key("a part of it is `.` or `..`, which leads elsewhere in a path".to_owned())
        })?;
        let base = self.base.as_str().trim_end_matches('/');
        let url: Url = format!("{base}{path}")
            .parse()
            .map_err(|_| self.bad_key("it makes an address that cannot be read".to_owned()))?;
        if url.origin() != self.base.origin() {
            return Err(self.bad_key("it makes an address of another host".to_owned()));
        }
        Ok(self.client.now().request(method_of(endpoint), url).header(ACCEPT, JSON))
    }

    fn unsent(&self, error: &reqwest::Error) -> OriginError {
        if error.is_timeout() {
            self.timed_out()
        } else {
            self.unavailable(words(error), !error.is_connect())
        }
    }

    fn bad_key(&self, reason: String) -> OriginError {
        OriginError::Key { origin: Arc::clone(&self.name), reason }
    }

    fn unavailable(&self, reason: String, is_reached: bool) -> OriginError {
        OriginError::Unavailable { origin: Arc::clone(&self.name), reason, is_reached }
    }

    fn busy(&self, status: StatusCode, headers: &HeaderMap) -> OriginError {
        let (origin, reason) = (Arc::clone(&self.name), format!("it answered {status}"));
        OriginError::Busy { origin, reason, again: retry_after(headers, Clock::system().wall()) }
    }

    fn unknown(&self, reason: String, is_answered: bool) -> OriginError {
        OriginError::Unknown { origin: Arc::clone(&self.name), reason, is_answered }
    }

    fn failed(&self, reason: String) -> OriginError {
        OriginError::Failed { origin: Arc::clone(&self.name), reason }
    }

    fn timed_out(&self) -> OriginError {
        OriginError::Timeout { origin: Arc::clone(&self.name), after: self.timeout }
    }
}

/// Longest time that is handed on of an API that wants to be left alone.
const AGAIN_MAX: Duration = Duration::from_hours(1);

/// How long an API wants to be left alone, which it says in seconds or by a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let again = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(again.min(AGAIN_MAX))
}

fn method_of(endpoint: &Endpoint) -> Method {
    match endpoint.verb() {
        Verb::Get => Method::GET,
        Verb::Put => Method::PUT,
        Verb::Post => Method::POST,
        Verb::Patch => Method::PATCH,
        Verb::Delete => Method::DELETE,
    }
}

/// A client that believes these roots.
fn client(config: &HttpConfig, roots: &Roots) -> Result<Client, String> {
    // Whoever embeds the service may have chosen one already.
    rustls::crypto::ring::default_provider().install_default().ok();
    let mut headers = HeaderMap::new();
    for (header, value) in &config.headers {
        let header: HeaderName = header.parse().map_err(|_| format!("`{header}` is no header"))?;
        let mut value: HeaderValue =
            value.reveal().parse().map_err(|_| format!("the header `{header}` cannot have this value"))?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    let mut client = Client::builder()
        .default_headers(headers)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(config.connect_timeout.0)
        .user_agent(concat!("terrace/", env!("CARGO_PKG_VERSION")));
    if let Some((file, pem)) = config.root_certificate_file.as_ref().zip(roots.as_ref()) {
        let cannot = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let roots = Certificate::from_pem_bundle(pem).map_err(|error| cannot(&error))?;
        if roots.is_empty() {
            return Err(cannot(&"there is no PEM section `CERTIFICATE` in it"));
        }
        client = client.tls_certs_only(roots);
    }
    client.build().map_err(|error| words(&error))
}

/// What an answer to a write says that is not success.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refusal {
    /// The origin will never take it.
    OfTheWrite,
    /// It was not made, and may be later.
    ForNow,
    /// It may have been made.
    Unclear,
    /// It was not made, and something has to be put right first.
    OfAnything,
}

/// What it says of a write, which may come again, with the same id: then it is not lost if it was not made, and not made twice if it was.
fn refusal(status: StatusCode, comes_again: bool) -> Refusal {
    match status.as_u16() {
        // Of what comes again, the first attempt may still be at work.
        409 if comes_again => Refusal::Unclear,
        400 | 404 | 409 | 410 | 412 | 413 | 414 | 415 | 422 => Refusal::OfTheWrite,
        425 | 429 => Refusal::ForNow,
        408 | 503 if comes_again => Refusal::ForNow,
        501 | 505 => Refusal::OfAnything,
        408 | 300..=399 | 500..=599 => Refusal::Unclear,
        _ => Refusal::OfAnything,
    }
}

fn clamp(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)
}

/// What an error and its sources say, in one line, without the address.
fn words(error: &reqwest::Error) -> String {
    let mut words = Vec::new();
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = next {
        words.push(error.to_string());
        next = error.source();
    }
    if words.is_empty() { "the request failed".to_owned() } else { words.join(": ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_an_api_wants_to_be_left_alone_is_bounded() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (text, seconds) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("86400", Some(3600)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("Sat, 06 Nov 2094 08:49:37 GMT", Some(3600)),
            ("soon", None),
            ("-1", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            assert_eq!(retry_after(&headers, now).map(|again| again.as_secs()), seconds, "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn only_what_says_that_nothing_was_done_counts_as_not_done() {
        use Refusal::{ForNow, OfAnything, OfTheWrite, Unclear};
        for (status, once, again) in [
            (409, OfTheWrite, Unclear),
            (422, OfTheWrite, OfTheWrite),
            (429, ForNow, ForNow),
            (408, Unclear, ForNow),
            (503, Unclear, ForNow),
            (500, Unclear, Unclear),
            (524, Unclear, Unclear),
            (303, Unclear, Unclear),
            (401, OfAnything, OfAnything),
            (501, OfAnything, OfAnything),
        ] {
            let code = StatusCode::from_u16(status).expect("a status");
            assert_eq!((refusal(code, false), refusal(code, true)), (once, again), "{status}");
        }
    }
}
