//! An HTTP API of one test's own, which keeps documents, remembers what it was asked, and misbehaves when told to.

use crate::support::beside;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::net::TcpListener;

/// How it answers, instead of as it should.
#[derive(Clone, Debug)]
pub(crate) enum Mood {
    Well,
    Status(u16),
    /// Says this, and when to come again.
    Again(u16, &'static str),
    /// Does what it is asked to, and then says this.
    DoneBut(u16),
    /// Does what it is asked to, and says this with these lines of `Cache-Group-Invalidation`.
    Untrue(u16, Vec<&'static str>),
    /// Answers a load as it should, with these lines of `Cache-Groups`.
    Grouped(Vec<String>),
    /// Answers a load as it should, with these headers; with 304 if it is asked about their entity tag, or the time of their last change.
    Saying(Vec<(&'static str, String)>),
    /// Says this with these headers, and does nothing.
    Head(u16, Vec<(&'static str, String)>),
    Redirect(String),
    Text(String),
    Hang,
}

/// What it was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
}

#[derive(Debug)]
struct Inner {
    documents: BTreeMap<String, String>,
    asked: Vec<Asked>,
    mood: Mood,
}

#[derive(Clone, Debug)]
pub(crate) struct Api {
    address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
}

impl Api {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let inner = Inner { documents: BTreeMap::new(), asked: Vec::new(), mood: Mood::Well };
        let api =
            Self { address: listener.local_addr().expect("an address"), inner: Arc::new(Mutex::new(inner)) };
        let router = Router::new().fallback(answer).with_state(api.clone());
        drop(beside(async move { axum::serve(listener, router).await }));
        api
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/v2", self.address)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics in here")
    }

    pub(crate) fn set(&self, path: &str, document: &str) {
        self.inner().documents.insert(path.to_owned(), document.to_owned());
    }

    pub(crate) fn document(&self, path: &str) -> Option<String> {
        self.inner().documents.get(path).cloned()
    }

    pub(crate) fn mood(&self, mood: Mood) {
        self.inner().mood = mood;
    }

    /// What it was asked since it was last asked for that.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.inner().asked)
    }
}

async fn answer(State(api): State<Api>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let method = parts.method.to_string();
    let asked = Asked { method, path: path.clone(), headers: parts.headers };
    api.inner().asked.push(asked.clone());
    let mood = api.inner().mood.clone();
    match mood {
        Mood::Well => change(&api, &parts.method, path, &body),
        Mood::Status(status) => code(status).into_response(),
        Mood::Again(status, when) => (code(status), [(header::RETRY_AFTER, when)]).into_response(),
        Mood::DoneBut(status) => {
            change(&api, &parts.method, path, &body);
            code(status).into_response()
        }
        Mood::Untrue(status, lines) => {
            let done = change(&api, &parts.method, path, &body);
            let mut response = if parts.method == Method::GET { done } else { code(status).into_response() };
            for line in lines {
                let line = HeaderValue::from_str(line).expect("a header");
                response.headers_mut().append("cache-group-invalidation", line);
            }
            response
        }
        Mood::Grouped(lines) => {
            let mut response = change(&api, &parts.method, path, &body);
            for line in lines {
                let line = HeaderValue::from_str(&line).expect("a header");
                response.headers_mut().append("cache-groups", line);
            }
            response
        }
        Mood::Saying(headers) => saying(&api, &asked, path, &headers),
        Mood::Head(status, headers) => with(code(status).into_response(), &headers),
        Mood::Redirect(to) => {
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)], Body::empty()).into_response()
        }
        Mood::Text(text) => text.into_response(),
        Mood::Hang => std::future::pending().await,
    }
}

fn saying(api: &Api, asked: &Asked, path: String, headers: &[(&'static str, String)]) -> Response {
    let is_known =
        [("etag", "if-none-match"), ("last-modified", "if-modified-since")].iter().any(|(said, of)| {
            let of = asked.headers.get(*of).and_then(|of| of.to_str().ok());
            headers.iter().any(|(name, value)| name == said && of == Some(value))
        });
    let response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        change(api, &Method::GET, path, &[])
    };
    with(response, headers)
}

fn with(mut response: Response, headers: &[(&'static str, String)]) -> Response {
    for (name, value) in headers {
        response.headers_mut().append(*name, HeaderValue::from_str(value).expect("a header"));
    }
    response
}

fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).expect("a status")
}

fn change(api: &Api, method: &Method, path: String, body: &[u8]) -> Response {
    let documents = &mut api.inner().documents;
    match *method {
        Method::GET => documents.get(&path).cloned().map_or_else(
            || StatusCode::NOT_FOUND.into_response(),
            |document| ([(header::CONTENT_TYPE, "application/json")], document).into_response(),
        ),
        Method::PUT => {
            documents.insert(path, String::from_utf8(body.to_vec()).expect("text"));
            StatusCode::NO_CONTENT.into_response()
        }
        Method::DELETE if documents.remove(&path).is_some() => StatusCode::NO_CONTENT.into_response(),
        Method::DELETE => StatusCode::NOT_FOUND.into_response(),
        _ => StatusCode::OK.into_response(),
    }
}
