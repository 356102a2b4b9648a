//! One request to a running service, and what its answer means to a person.
//!
//! 1. A miss is `None`, never an error.
//! 2. Every other refusal becomes a [`Failure`] with the service's own words and the exit code that belongs to it:
//!    401 and 403 denied; no connection, 502, 503 and 504 unavailable; the rest failure.
//!
//! Deliberately absent: retries. Whoever types a command can type it again.

use crate::failure::{Exit, Failure, reasons};
use anyhow::Context as _;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// Everything but what a path segment takes as it is.
const IN_SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b':');
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(30);
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// A key as it stands in the path of a request.
pub(crate) fn path_of_key(key: &str) -> Result<String, Failure> {
    if matches!(key, "" | "." | "..") {
        let failure = Failure::usage(format!("{key:?} cannot be a key here"));
        return Err(failure.why("URLs give empty segments and dots a meaning of their own"));
    }
    Ok(format!("/api/cache/{}", utf8_percent_encode(key, IN_SEGMENT)))
}

/// A running service.
#[derive(Debug)]
pub(crate) struct Client {
    base: String,
    http: reqwest::Client,
}

/// What went wrong, in the service's words.
#[derive(Deserialize)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
}

impl Client {
    /// A client of the service at `url`. Nothing is sent yet.
    pub(crate) fn new(url: &str) -> anyhow::Result<Self> {
        let parsed: reqwest::Url = url.parse().map_err(|error| {
            Failure::usage(format!("{url:?} is not a URL"))
                .why(error)
                .next("write it like http://127.0.0.1:4000, in --url or TERRACE_URL")
        })?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(Failure::usage(format!("{url:?} is neither http:// nor https://")).into());
        }
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            .connect_timeout(CONNECT_PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("terrace/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("cannot set up the HTTP client")?;
        Ok(Self { base: url.trim_end_matches('/').to_owned(), http })
    }

    /// Where the service is.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Asks for a document; `None` if there is none (404).
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Option<String>> {
        self.ask(Method::GET, path, None).await
    }

    /// Sends a document.
    pub(crate) async fn send(&self, method: Method, path: &str, body: String) -> anyhow::Result<String> {
        let answer = self.ask(method, path, Some(body)).await?;
        answer.ok_or_else(|| self.no_such_route(path))
    }

    /// Removes a document. `None` if there was none and the service says so by 404.
    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<Option<String>> {
        self.ask(Method::DELETE, path, None).await
    }

    async fn ask(&self, method: Method, path: &str, body: Option<String>) -> anyhow::Result<Option<String>> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(text)),
            status => Err(self.refused(status, &text).into()),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        Failure::new(Exit::Unavailable, format!("no answer from {}", self.base))
            .why(reasons(error))
            .next("start it with `terrace serve`, or say where it is with --url or TERRACE_URL")
    }

    fn refused(&self, status: StatusCode, text: &str) -> Failure {
        let exit = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Denied,
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                Exit::Unavailable
            }
            _ => Exit::Failure,
        };
        let failure = Failure::new(exit, format!("{} answered {status}", self.base));
        match serde_json::from_str::<Problem>(text) {
            Ok(Problem { detail: Some(words), .. } | Problem { title: Some(words), .. }) => {
                failure.why(words)
            }
            _ => failure.next("is this the address of a terrace service?"),
        }
    }

    fn no_such_route(&self, path: &str) -> anyhow::Error {
        Failure::new(Exit::Failure, format!("{} has no {path}", self.base))
            .next("is this the address of a terrace service?")
            .into()
    }

    /// Reads a reply that must be JSON.
    pub(crate) fn json(&self, text: &str) -> anyhow::Result<Value> {
        serde_json::from_str(text).map_err(|error| {
            Failure::new(Exit::Failure, format!("{} did not answer in JSON", self.base))
                .why(error)
                .next("is this the address of a terrace service?")
                .into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_data_in_a_path() {
        let path = |key| path_of_key(key).ok();
        assert_eq!(path("user:42").as_deref(), Some("/api/cache/user:42"));
        assert_eq!(path("a/b?c#d %é").as_deref(), Some("/api/cache/a%2Fb%3Fc%23d%20%25%C3%A9"));
        assert_eq!(path("a/../b").as_deref(), Some("/api/cache/a%2F..%2Fb"));
        assert_eq!(path(".."), None);
    }

    #[test]
    fn what_is_no_address_is_a_usage_error() {
        for url in ["127.0.0.1:4000", "ftp://x", ""] {
            let error = Client::new(url).unwrap_err();
            assert_eq!(crate::failure::report(&error), Exit::Usage, "{url:?}");
        }
    }
}
