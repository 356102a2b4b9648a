//! HTTP by hand, on connections that are kept: as little as can be between the clock and the service.
//!
//! 1. A request that was sent is never repeated. Whether a change that failed took effect is not known then.
//! 2. Only what the service itself answers is understood: a status, headers, a body of a known length.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Whether the change holds on its node alone, so far.
    pub(crate) is_queued: bool,
    pub(crate) body: Vec<u8>,
}

/// A connection, once it is needed.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    stream: Option<(SocketAddr, TcpStream)>,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects now, so that the first request need not.
    pub(crate) async fn open(&mut self, address: SocketAddr) -> std::io::Result<()> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        self.stream = Some((address, stream));
        Ok(())
    }

    /// Sends a request and waits for its answer. Dropping the future ends the connection.
    pub(crate) async fn ask(
        &mut self,
        address: SocketAddr,
        method: &str,
        path: &str,
        body: &str,
    ) -> std::io::Result<Reply> {
        if self.stream.as_ref().is_none_or(|(there, _)| *there != address) {
            self.open(address).await?;
        }
        let (_, mut stream) = self.stream.take().ok_or(ErrorKind::NotConnected)?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        let head = loop {
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
        };
        let text = std::str::from_utf8(&self.buffer[..head]).map_err(Error::other)?;
        let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
        let header = |name: &str| {
            let lines = text.lines().filter_map(|line| line.split_once(": "));
            lines.filter(|(this, _)| this.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
        };
        let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0_usize);
        let is_queued = header("terrace-effect") == Some("queued");
        let is_last = header("connection") == Some("close");
        while self.buffer.len() < head + 4 + length {
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        if !is_last {
            self.stream = Some((address, stream));
        }
        let body = self.buffer[head + 4..head + 4 + length].to_vec();
        Ok(Reply { status: status.ok_or(ErrorKind::InvalidData)?, is_queued, body })
    }
}
