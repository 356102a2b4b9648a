//! One request to a running service, and what its answer means to a person.
//!
//! 1. A miss is `None`, never an error.
//! 2. Every other refusal becomes a [`Failure`] with the service's own words and the exit code that [`Exit::of_answer`] gives it; no
//!    connection is unavailable.
//!
//! Deliberately absent: retries. Whoever types a command can type it again.

mod tls;

use crate::args::{ServiceArgs, TlsArgs};
use crate::failure::{Exit, Failure, reasons};
use anyhow::Context as _;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, ETAG, HeaderMap, HeaderValue, IF_MATCH, LOCATION};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// Everything but what a path segment takes as it is.
const IN_SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b':');
/// What to look at when an answer makes no sense.
pub(crate) const IS_IT_TERRACE: &str = "is this the address of a terrace service?";
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(30);
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// How long a stream of events may last.
const FOR_EVER: Duration = Duration::from_hours(24 * 365);

/// Paths below `/api/cache/` that are no keys, and those that URLs give a meaning of their own.
const RESERVED: [&str; 19] = [
    "",
    ".",
    "..",
    "metrics",
    "invalidate",
    "refresh",
    "events",
    "why",
    "hot",
    "behind",
    "keys",
    "keyspaces",
    "breakers",
    "latencies",
    "bus",
    "capacity",
    "history",
    "batch",
    "openapi.json",
];

/// The path of a request that names a key.
pub(crate) fn path_of_key(key: &str) -> String {
    let is_reserved = RESERVED.contains(&key) || key.starts_with("why/") || key.starts_with("behind/");
    let separator = if is_reserved { "?key=" } else { "/" };
    format!("/api/cache{separator}{}", utf8_percent_encode(key, IN_SEGMENT))
}

/// Where it is told why a key is answered as it is.
pub(crate) fn path_of_why(key: &str) -> String {
    format!("/api/cache/why?key={}", utf8_percent_encode(key, IN_SEGMENT))
}

/// Where it is told which keys are looked up most.
pub(crate) fn path_of_hot(keyspace: Option<&str>, limit: u16) -> String {
    let keyspace = keyspace.map(|name| format!("&keyspace={}", utf8_percent_encode(name, IN_SEGMENT)));
    format!("/api/cache/hot?limit={limit}{}", keyspace.unwrap_or_default())
}

/// Text as a part of a path, or as a value of a query.
pub(crate) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, IN_SEGMENT).to_string()
}

/// Where the keys are told that the tiers hold.
pub(crate) fn path_of_keys(
    pattern: &str,
    keyspace: Option<&str>,
    cursor: Option<&str>,
    limit: u64,
) -> String {
    let mut path = format!("/api/cache/keys?pattern={}&limit={limit}", encoded(pattern));
    for (name, text) in [("keyspace", keyspace), ("cursor", cursor)] {
        if let Some(text) = text {
            path.extend(["&", name, "=", &encoded(text)]);
        }
    }
    path
}

/// Where it is told what is written behind.
pub(crate) fn path_of_queue(keyspace: Option<&str>, limit: u16) -> String {
    let keyspace = keyspace.map(|name| format!("&keyspace={}", encoded(name)));
    format!("/api/cache/behind?limit={limit}{}", keyspace.unwrap_or_default())
}

/// The variable with the token, and the one with the file that has it.
const TOKEN: [&str; 2] = ["TERRACE_TOKEN", "TERRACE_TOKEN_FILE"];

/// What tells the service who is asking, if anything does.
pub(crate) fn credentials() -> anyhow::Result<HeaderMap> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let token = match (set(TOKEN[0]), set(TOKEN[1])) {
        (Some(token), _) => token,
        (None, Some(file)) => std::fs::read_to_string(&file)
            .map_err(|error| Failure::unreadable(file.as_ref(), &error).next("look at TERRACE_TOKEN_FILE"))?,
        (None, None) => return Ok(HeaderMap::new()),
    };
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim())).map_err(|_| {
        Failure::usage("the token has characters that no token has")
            .next("look at TERRACE_TOKEN or TERRACE_TOKEN_FILE")
    })?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
}

/// A running service.
#[derive(Debug)]
pub(crate) struct Client {
    base: String,
    /// Whether TLS is spoken, and no certificate shown.
    is_nameless: bool,
    http: reqwest::Client,
}

/// What went wrong, in the service's words.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Problem {
    code: String,
    title: Option<String>,
    detail: Option<String>,
}

/// The problem that an answer describes; an empty one if it describes none.
fn problem(text: &str) -> Problem {
    serde_json::from_str(text).unwrap_or_default()
}

/// What is said of a change that was made.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) reply: String,
    /// The keyspace and the id of the write, if it waits for its origin.
    pub(crate) waits: Option<(String, String)>,
}

/// The keyspace and the write that the path of a queued write names.
pub(crate) fn queued_write(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix("/api/cache/behind/")?.split_once("/writes/")
}

fn waiting_at(headers: &HeaderMap) -> Option<(String, String)> {
    let (keyspace, id) = queued_write(headers.get(LOCATION)?.to_str().ok()?)?;
    Some((keyspace.to_owned(), id.to_owned()))
}

/// What a service calls a miss.
const KEY_NOT_FOUND: &str = "key_not_found";

impl Client {
    /// A client of the service that a command line names. Nothing is sent yet.
    pub(crate) fn new(service: &ServiceArgs) -> anyhow::Result<Self> {
        Self::at(&service.url, &service.tls)
    }

    /// A client of the service at `url`. Nothing is sent yet.
    pub(crate) fn at(url: &str, tls: &TlsArgs) -> anyhow::Result<Self> {
        let parsed: reqwest::Url = url.parse().map_err(|error| {
            Failure::usage(format!("{url:?} is not a URL"))
                .why(error)
                .next("write it like http://127.0.0.1:4000, in --url or TERRACE_URL")
        })?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(Failure::usage(format!("{url:?} is neither http:// nor https://")).into());
        }
        let http = tls::known(reqwest::Client::builder(), tls)?
            .timeout(PATIENCE)
            .connect_timeout(CONNECT_PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .default_headers(credentials()?)
            .user_agent(concat!("terrace/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("cannot set up the HTTP client")?;
        let is_nameless = parsed.scheme() == "https" && tls.cert.is_none();
        Ok(Self { base: url.trim_end_matches('/').to_owned(), is_nameless, http })
    }

    /// Where the service is.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Sends a request without a body, and returns the reply; `None` if there is no such key.
    pub(crate) async fn ask(&self, method: Method, path: &str) -> anyhow::Result<Option<String>> {
        self.request(method, path, None).await
    }

    /// Asks for what is always there.
    pub(crate) async fn read(&self, path: &str) -> anyhow::Result<String> {
        let reply = self.request(Method::GET, path, None).await?;
        reply.ok_or_else(|| self.is_no_terrace(path))
    }

    /// Asks for what is always there, of a keyspace if one is named. That it is not there is told apart from a query that cannot be.
    pub(crate) async fn read_of(&self, keyspace: Option<&str>, path: &str) -> anyhow::Result<String> {
        let failed = match self.read(path).await {
            Ok(reply) => return Ok(reply),
            Err(failed) => failed.downcast::<Failure>()?,
        };
        let is_query = failed.exit() == Exit::Usage;
        match keyspace.filter(|_| is_query) {
            Some(name) if !self.has_keyspace(name).await? => Err(failed.because_absent().into()),
            _ => Err(failed.into()),
        }
    }

    async fn has_keyspace(&self, name: &str) -> anyhow::Result<bool> {
        let known = self.json(&self.read("/api/cache/keyspaces").await?)?;
        Ok(known["keyspaces"].as_array().is_some_and(|known| known.iter().any(|of| of["name"] == name)))
    }

    /// What the service says of whether it is ready, also where it is not.
    pub(crate) async fn readiness(&self) -> anyhow::Result<String> {
        let response = self.http.get(format!("{}/readyz?verbose", self.base)).send().await;
        let response = response.map_err(|error| self.unreachable(&error))?;
        response.text().await.map_err(|error| self.unreachable(&error).into())
    }

    /// Sends a document, and returns the reply.
    pub(crate) async fn send(&self, method: Method, path: &str, body: String) -> anyhow::Result<String> {
        let reply = self.request(method, path, Some(body)).await?;
        reply.ok_or_else(|| self.is_no_terrace(path))
    }

    /// Changes an entry, and returns what was said of it; `None` if there is no such key.
    pub(crate) async fn change(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> anyhow::Result<Option<Changed>> {
        let reply = self.exchange(method, path, body).await?;
        Ok(reply.map(|(headers, reply)| Changed { waits: waiting_at(&headers), reply }))
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> anyhow::Result<Option<String>> {
        Ok(self.exchange(method, path, body).await?.map(|(_, text)| text))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> anyhow::Result<Option<(HeaderMap, String)>> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        if status.is_success() {
            return Ok(Some((headers, text)));
        }
        let problem = problem(&text);
        match problem.code.as_str() {
            KEY_NOT_FOUND => Ok(None),
            _ => Err(self.refused(status, problem).into()),
        }
    }

    /// Reads an entry, with the tag that tells it from what comes after it; `None` if there is none.
    pub(crate) async fn read_tagged(&self, path: &str) -> anyhow::Result<Option<(String, String)>> {
        let request = self.http.get(format!("{}{path}", self.base));
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let (status, tag) = (response.status(), response.headers().get(ETAG).cloned());
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        if !status.is_success() {
            let problem = problem(&text);
            return if problem.code == KEY_NOT_FOUND {
                Ok(None)
            } else {
                Err(self.refused(status, problem).into())
            };
        }
        let tag = tag.and_then(|tag| tag.to_str().ok().map(str::to_owned)).ok_or_else(|| {
            Failure::new(Exit::Failure, format!("{} does not say which value of a key it has", self.base))
                .next("this needs a newer service")
        })?;
        Ok(Some((tag, text)))
    }

    /// Stores an entry if what is there still has this tag; `None` if it has another one.
    pub(crate) async fn put_if_same(
        &self,
        path: &str,
        tag: &str,
        body: String,
    ) -> anyhow::Result<Option<String>> {
        let request = self.http.put(format!("{}{path}", self.base)).header(IF_MATCH, tag);
        let request = request.header("content-type", "application/json").body(body);
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        match status {
            StatusCode::PRECONDITION_FAILED => Ok(None),
            status if status.is_success() => Ok(Some(text)),
            status => Err(self.refused(status, problem(&text)).into()),
        }
    }

    /// Opens a stream of events that goes on until it breaks, behind the event that was seen last.
    pub(crate) async fn stream(&self, path: &str, last: Option<&str>) -> anyhow::Result<reqwest::Response> {
        let mut request = self.http.get(format!("{}{path}", self.base)).timeout(FOR_EVER);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        Err(self.refused(status, problem(&text)).into())
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let next = tls::next(error, self.is_nameless)
            .unwrap_or("start it with `terrace serve`, or say where it is with --url or TERRACE_URL");
        Failure::new(Exit::Unavailable, format!("no answer from {}", self.base))
            .why(reasons(error))
            .next(next)
    }

    fn refused(&self, status: StatusCode, problem: Problem) -> Failure {
        let exit = Exit::of_answer(status, &problem.code);
        let failure = Failure::new(exit, format!("{} answered {status}", self.base));
        let failure = match exit {
            Exit::Denied if status == StatusCode::FORBIDDEN => {
                failure.next("use a token with that scope, by TERRACE_TOKEN or TERRACE_TOKEN_FILE")
            }
            Exit::Denied => failure.next("say who you are with TERRACE_TOKEN or TERRACE_TOKEN_FILE"),
            _ => failure,
        };
        match problem.detail.or(problem.title) {
            Some(words) => failure.why(words),
            None => failure.next(IS_IT_TERRACE),
        }
    }

    pub(crate) fn is_no_terrace(&self, path: &str) -> anyhow::Error {
        let what = format!("{} does not know {path}", self.base);
        Failure::new(Exit::Failure, what).next(IS_IT_TERRACE).into()
    }

    /// Reads a reply that must be JSON.
    pub(crate) fn json(&self, text: &str) -> anyhow::Result<Value> {
        serde_json::from_str(text).map_err(|error| {
            Failure::new(Exit::Failure, format!("{} did not answer in JSON", self.base))
                .why(error)
                .next(IS_IT_TERRACE)
                .into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_data_in_a_path() {
        for (key, path) in [
            ("user:42", "/api/cache/user:42"),
            ("a/b?c#d %é", "/api/cache/a%2Fb%3Fc%23d%20%25%C3%A9"),
            ("a/../b", "/api/cache/a%2F..%2Fb"),
            ("..", "/api/cache?key=.."),
            ("metrics", "/api/cache?key=metrics"),
            ("events", "/api/cache?key=events"),
            ("hot", "/api/cache?key=hot"),
            ("behind", "/api/cache?key=behind"),
        ] {
            assert_eq!(path_of_key(key), path);
        }
    }

    #[test]
    fn what_is_no_address_is_a_usage_error() {
        for url in ["127.0.0.1:4000", "ftp://x", ""] {
            let error = Client::at(url, &TlsArgs::default()).unwrap_err();
            assert_eq!(crate::failure::report(&error, false), Exit::Usage, "{url:?}");
        }
    }
}
