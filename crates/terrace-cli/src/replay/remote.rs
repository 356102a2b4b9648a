//! A running service, asked over HTTP: one kept-alive connection per worker.
//!
//! 1. A request that was never sent, because the service had closed the idle connection, is sent once more on a new
//!    one. A request that was sent is never repeated: its failure is a failure.
//! 2. Every request ends within [`PATIENCE`].
//!
//! Deliberately absent: TLS. A replay measures a service, not a proxy before it.

use super::asker::{Answer, Asker};
use crate::client::path_of_key;
use crate::failure::{Failure, reasons};
use crate::runtime;
use crate::tally::tier_named;
use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri, body::Incoming};
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

/// Where a service is.
#[derive(Clone, Debug)]
pub(crate) struct Service(Arc<Place>);

#[derive(Debug)]
struct Place {
    authority: String,
    host: HeaderValue,
    base_path: String,
}

impl Service {
    /// Reads the address of a service.
    pub(crate) fn parse(url: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| {
            Failure::usage(format!("a replay cannot ask {url:?}"))
                .why(why)
                .next("write it like http://127.0.0.1:4000")
        };
        let uri: Uri = url.parse().map_err(|_| wrong("it is not a URL"))?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong("it does not begin with http://"));
        }
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        let host =
            HeaderValue::from_str(authority.as_str()).map_err(|_| wrong("its host has odd characters"))?;
        let port = authority.port_u16().unwrap_or(80);
        let base_path = uri.path().trim_end_matches('/').to_owned();
        Ok(Self(Arc::new(Place { authority: format!("{}:{port}", authority.host()), host, base_path })))
    }
}

/// One worker's connection.
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

    async fn request(&mut self, id: &str) -> anyhow::Result<(StatusCode, Bytes)> {
        let path =
            format!("{}{}", self.service.0.base_path, path_of_key(&format!("{}{id}", self.key_prefix)));
        let mut request =
            Request::get(path).header(HOST, self.service.0.host.clone()).body(Empty::<Bytes>::new())?;
        for _ in 0..2 {
            let mut connection = match self.connection.take() {
                Some(connection) if !connection.is_closed() => connection,
                _ => connect(&self.service.0.authority).await?,
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
        StatusCode::OK => {
            let envelope: Envelope<'_> = serde_json::from_slice(body).context("the reply is no entry")?;
            let tier = tier_named(envelope.source)
                .with_context(|| format!("the reply comes from an unknown tier, {:?}", envelope.source))?;
            Ok(Some(Answer { tier, value: body.slice_ref(envelope.value.get().as_bytes()) }))
        }
        StatusCode::NOT_FOUND => Ok(None),
        status => Err(anyhow!("{status}: {}", String::from_utf8_lossy(body))),
    }
}

impl Asker for RemoteAsker {
    async fn ask(&mut self, id: &str) -> anyhow::Result<Option<Answer>> {
        let (status, body) = tokio::time::timeout(PATIENCE, self.request(id))
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
        let place = |url| Service::parse(url).map(|service| service.0.authority.clone()).ok();
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
