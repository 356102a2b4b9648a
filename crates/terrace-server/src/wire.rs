//! One connection's bytes.
//!
//! 1. What is refused before there is a request (a head that is too large or no HTTP) is answered by the HTTP library
//!    itself, with a bare status. Such an answer is replaced on its way out by the problem that all other errors are.
//! 2. A client that does not read its answer is cut off: see [`Wire::new`].
//! 3. A connection that ends with unread input is shut down gently ([`Wire::linger`]): else the answer that explains the
//!    refusal could be lost with the connection.

use crate::api::error::{Code, Problem};
use crate::runtime;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

/// How long the end of a connection waits for the client to stop sending.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes that are read and thrown away at the end of a connection, at most.
const LINGER_BYTES_MAX: usize = 1 << 20;
/// Longest answer that can be the HTTP library's own, in bytes.
const BARE_ANSWER_BYTES_MAX: usize = 512;

/// Longest first line of a request whose head was refused for something else, in bytes.
const FIRST_LINE_BYTES_MAX: usize = 8 << 10;

/// The first line that arrives after an answer has begun: that of the next request.
#[derive(Clone, Copy, Debug, Default)]
struct FirstLine {
    bytes: usize,
    is_whole: bool,
}

impl FirstLine {
    fn arrive(&mut self, bytes: &[u8]) {
        if !self.is_whole {
            let end = bytes.iter().position(|&byte| byte == b'\n');
            self.is_whole = end.is_some();
            self.bytes += end.unwrap_or(bytes.len());
        }
    }

    fn is_too_long(self) -> bool {
        self.bytes > FIRST_LINE_BYTES_MAX
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Wire<S = TcpStream> {
    stream: S,
    stall_timeout: Duration,
    stalled: Option<runtime::Timer>,
    /// Whether refusals of the HTTP library are to be recognised: in what is written in HTTP/2 there are none.
    is_http1: bool,
    first_line: FirstLine,
    /// An answer of our own that is being written instead, and how much of it is out.
    replacement: Option<(Vec<u8>, usize)>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// A connection that is cut when the client takes nothing for `stall_timeout` while there is something to write.
    pub(crate) fn new(stream: S, stall_timeout: Duration) -> Self {
        Self {
            stream,
            stall_timeout,
            stalled: None,
            is_http1: true,
            first_line: FirstLine::default(),
            replacement: None,
        }
    }

    /// A connection whose bytes go out as they are.
    pub(crate) fn opaque(stream: S, stall_timeout: Duration) -> Self {
        Self { is_http1: false, ..Self::new(stream, stall_timeout) }
    }

    /// Ends the connection, reading for a while what is still arriving.
    pub(crate) async fn linger(mut self) {
        let farewell = async {
            self.stream.shutdown().await?;
            let mut scrap = vec![0; 16 << 10];
            let mut total = 0;
            while total < LINGER_BYTES_MAX {
                match self.stream.read(&mut scrap).await? {
                    0 => break,
                    length => total += length,
                }
            }
            io::Result::Ok(())
        };
        let _ended_either_way = runtime::within(LINGER, farewell).await;
    }

    fn write_out(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timer = self.stalled.get_or_insert_with(|| runtime::timer(self.stall_timeout));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing")))
    }

    /// Writes the replacement; ready when all of it is out.
    fn write_replacement(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((bytes, done)) = self.replacement.take() {
            if done == bytes.len() {
                break;
            }
            let polled = self.write_out(context, &bytes[done..]);
            let more = match &polled {
                Poll::Ready(Ok(length)) => *length,
                _ => 0,
            };
            self.replacement = Some((bytes, done + more));
            if ready!(polled)? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The problem to answer with instead of these bytes, if they are a bare refusal of the HTTP library.
fn instead_of(bytes: &[u8], first_line: FirstLine) -> Option<Problem> {
    let status = bytes.strip_prefix(b"HTTP/1.1 4")?.get(..2)?;
    let is_bare = bytes.len() <= BARE_ANSWER_BYTES_MAX
        && bytes.windows(BARE.len()).any(|window| window.eq_ignore_ascii_case(BARE));
    if !is_bare {
        return None;
    }
    match (status, first_line.is_too_long()) {
        (b"00", _) => Some(Problem::new(Code::MalformedRequest, "the request is not HTTP/1.1")),
        (b"14", _) | (b"31", true) => Some(Problem::new(
            Code::UriTooLong,
            "the path is longer than this service reads; shorten the key",
        )),
        (b"31", false) => {
            Some(Problem::new(Code::HeadTooLarge, "the headers are larger than this service reads"))
        }
        _ => None,
    }
}

const BARE: &[u8] = b"\r\ncontent-length: 0\r\n";

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.first_line.arrive(&buffer.filled()[before..]);
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_http1
            && self.replacement.is_none()
            && let Some(problem) = instead_of(bytes, self.first_line)
        {
            self.replacement = Some((problem.wire(), 0));
        }
        if self.replacement.is_some() {
            ready!(self.write_replacement(context))?;
            return Poll::Ready(Ok(bytes.len()));
        }
        self.first_line = FirstLine::default();
        self.write_out(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE_431: &[u8] =
        b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\ndate: x\r\n\r\n";

    #[test]
    fn bare_refusals_are_recognised_and_nothing_else() {
        let code = |bytes: &[u8], read: &[u8]| {
            let mut first_line = FirstLine::default();
            read.chunks(1000).for_each(|chunk| first_line.arrive(chunk));
            instead_of(bytes, first_line).map(|problem| problem.code)
        };
        let long = vec![b'x'; FIRST_LINE_BYTES_MAX + 1];
        assert_eq!(code(BARE_431, &[b"GET /\r\n", long.as_slice()].concat()), Some(Code::HeadTooLarge));
        assert_eq!(code(BARE_431, &long), Some(Code::UriTooLong));
        assert_eq!(code(BARE_431, &[long.as_slice(), b"\r\nhost: x\r\n"].concat()), Some(Code::UriTooLong));
        assert_eq!(
            code(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", b""),
            Some(Code::MalformedRequest)
        );
        for other in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 10\r\n\r\n{\"a\":1234}",
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 4",
            b"",
        ] {
            assert_eq!(code(other, b""), None);
        }
    }

    #[tokio::test]
    async fn a_bare_refusal_goes_out_as_a_problem_even_in_small_pieces() {
        let (near, mut far) = tokio::io::duplex(7);
        let writing = async move {
            let mut wire = Wire::new(near, Duration::from_secs(5));
            wire.write_all(BARE_431).await.expect("written");
        };
        let reading = async move {
            let mut answer = String::new();
            far.read_to_string(&mut answer).await.expect("read");
            answer
        };
        let ((), answer) = tokio::join!(writing, reading);
        assert!(answer.starts_with(
            "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/problem+json\r\n"
        ));
        assert!(answer.ends_with("\"code\":\"head_too_large\"}"), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_cut_off() {
        let (near, _far) = tokio::io::duplex(7);
        let mut wire = Wire::new(near, Duration::from_secs(5));
        let error = wire.write_all(b"more than fits in the pipe").await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
