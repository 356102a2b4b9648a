//! A running service, asked over HTTP: one kept-alive connection per worker. One that speaks TLS is asked by the [`Client`] of the other
//! commands, which keeps as many connections alive.
//!
//! 1. A request that was never sent, because the service had closed the idle connection, is sent once more on a new
//!    one. A request that was sent is never repeated: its failure is a failure.
//! 2. Every request ends within [`PATIENCE`].
//! 3. Who asks is said as other commands say it.

use super::asker::{Answer, Asker};
use crate::args::TlsArgs;
use crate::client::{Client, credentials, path_of_key};
use crate::failure::{Failure, reasons};
use crate::runtime;
use crate::tally::tier_named;
use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri, body::Incoming};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Keys of a replay begin with this, so that a service can give them a keyspace of their own.
pub(crate) const KEY_PREFIX: &str = "replay:";

/// Where a service is, and how it is asked.
#[derive(Clone, Debug)]
pub(crate) enum Service {
    Plain(Arc<Place>),
    Tls(Arc<Client>),
}

#[derive(Debug)]
pub(crate) struct Place {
    authority: String,
    base_path: String,
    /// What each request has.
    headers: HeaderMap,
}

impl Service {
    /// A service by its address. Nothing is sent yet.
    pub(crate) fn at(url: &str, tls: &TlsArgs) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().map_err(|_| wrong(url, "it is not a URL"))?;
        if uri.scheme_str() == Some("https") {
            return Ok(Self::Tls(Arc::new(Client::at(url, tls)?)));
        }
        let mut place = Place::parse(url, &uri)?;
        place.headers.extend(credentials()?);
        Ok(Self::Plain(Arc::new(place)))
    }
}

fn wrong(url: &str, why: &str) -> Failure {
    Failure::usage(format!("a replay cannot ask {url:?}"))
        .why(why)
        .next("write it like http://127.0.0.1:4000")
}

impl Place {
    fn parse(url: &str, uri: &Uri) -> Result<Self, Failure> {
        if uri.scheme_str() != Some("http") {
            return Err(wrong(url, "it begins neither with http:// nor with https://"));
        }
        let authority = uri.authority().ok_or_else(|| wrong(url, "it names no host"))?;
        let host = HeaderValue::from_str(authority.as_str());
        let host = host.map_err(|_| wrong(url, "its host has odd characters"))?;
        let port = authority.port_u16().unwrap_or(80);
        let base_path = uri.path().trim_end_matches('/').to_owned();
        let headers = HeaderMap::from_iter([(HOST, host)]);
        Ok(Self { authority: format!("{}:{port}", authority.host()), base_path, headers })
    }
}

/// One worker.
#[derive(Debug)]
pub(crate) struct RemoteAsker {
    service: Service,
    key_prefix: &'static str,
    connection: Option<SendRequest<Empty<Bytes>>>,
}

impl RemoteAsker {
    /// A worker that connects when it is first asked. What it is asked for, with this prefix, is the key.
    pub(crate) fn new(service: Service, key_prefix: &'static str) -> Self {
        Self { service, key_prefix, connection: None }
    }

    async fn request(&mut self, place: &Place, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
        let mut request = Request::get(format!("{}{path}", place.base_path)).body(Empty::<Bytes>::new())?;
        request.headers_mut().clone_from(&place.headers);
        for _ in 0..2 {
            let mut connection = match self.connection.take() {
                Some(connection) if !connection.is_closed() => connection,
                _ => connect(&place.authority).await?,
            };
            connection.ready().await?;
            match connection.try_send_request(request).await {
                Ok(response) => {
                    let read = read(response).await?;
                    self.connection = Some(connection);
                    return Ok(read);
                }
                Err(mut refused) => match refused.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(refused.into_error().into()),
                },
            }
        }
        bail!("the service closes every connection before a request")
    }
}

async fn connect(authority: &str) -> anyhow::Result<SendRequest<Empty<Bytes>>> {
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    runtime::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = reasons(&error), "a connection to the service ended");
        }
    });
    Ok(sender)
}

async fn read(response: Response<Incoming>) -> anyhow::Result<(StatusCode, Bytes)> {
    let status = response.status();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}

/// The part of an envelope that a replay looks at.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    value: &'a RawValue,
    source: &'a str,
}

fn answer(status: StatusCode, body: &Bytes) -> anyhow::Result<Option<Answer>> {
    match status {
        StatusCode::OK => entry(body).map(Some),
        StatusCode::NOT_FOUND => Ok(None),
        status => Err(anyhow!("{status}: {}", String::from_utf8_lossy(body))),
    }
}

fn entry(body: &Bytes) -> anyhow::Result<Answer> {
    let envelope: Envelope<'_> = serde_json::from_slice(body).context("the reply is no entry")?;
    let tier = tier_named(envelope.source)
        .with_context(|| format!("the reply comes from an unknown tier, {:?}", envelope.source))?;
    Ok(Answer { tier, value: body.slice_ref(envelope.value.get().as_bytes()) })
}

impl Asker for RemoteAsker {
    async fn ask(&mut self, id: &str) -> anyhow::Result<Option<Answer>> {
        let path = path_of_key(&format!("{}{id}", self.key_prefix));
        let place = match self.service.clone() {
            Service::Plain(place) => place,
            Service::Tls(client) => {
                let reply = client.ask(Method::GET, &path).await?;
                return reply.map(|reply| entry(&Bytes::from(reply))).transpose();
            }
        };
        let (status, body) = tokio::time::timeout(PATIENCE, self.request(&place, &path))
            .await
            .with_context(|| format!("no answer within {}", crate::words::time(PATIENCE)))??;
        answer(status, &body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use terrace::Tier;

    #[test]
    fn addresses_without_tls_are_understood() {
        let place = |url: &str| Some(Place::parse(url, &url.parse().ok()?).ok()?.authority);
        assert_eq!(place("http://127.0.0.1:4000/").as_deref(), Some("127.0.0.1:4000"));
        assert_eq!(place("http://cache").as_deref(), Some("cache:80"));
        assert_eq!(place("https://cache"), None);
        assert_eq!(place("cache:4000"), None);
    }

    #[test]
    fn a_reply_is_an_answer_a_miss_or_an_error() {
        let reply = |status, body: &'static str| answer(status, &Bytes::from_static(body.as_bytes()));
        let hit = reply(StatusCode::OK, r#"{"value":{"n": 1},"hit":true,"source":"l2"}"#).unwrap().unwrap();
        assert_eq!((hit.tier, &hit.value[..]), (Tier::L2, &b"{\"n\": 1}"[..]));
        assert_eq!(reply(StatusCode::NOT_FOUND, "{}").unwrap(), None);
        assert!(reply(StatusCode::OK, r#"{"value":1,"source":"moon"}"#).is_err());
        assert!(
            reply(StatusCode::BAD_GATEWAY, "origin down").unwrap_err().to_string().contains("origin down")
        );
    }
}
