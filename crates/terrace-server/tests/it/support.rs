//! A running service, and a client that shows every byte.

use std::net::SocketAddr;
use std::time::Duration;
use terrace_server::config::{Config, Sources};
use terrace_server::{Ended, ReloadError, Reloader, Security, Server, Stop};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Longest that any answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A service of one test's own.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    /// The listener for what concerns the service, if there is one.
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) security: Security,
    pub(crate) reloader: Reloader,
    stop: oneshot::Sender<Stop>,
    task: JoinHandle<Ended>,
}

/// An answer, as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Reads a configuration, on a free port.
pub(crate) fn config(toml: &str) -> Config {
    let sources = Sources::text(toml).flag("--listen", "server.listen", "127.0.0.1:0");
    Config::load(&sources).unwrap_or_else(|error| panic!("{error}"))
}

/// What is wrong with a configuration.
pub(crate) fn refused(toml: &str) -> String {
    Config::load(&Sources::text(toml)).expect_err(toml).to_string()
}

/// A credential as a configuration has it.
pub(crate) fn token(name: &str, token: &str, rest: &str) -> String {
    use sha2::Digest as _;
    let bytes = sha2::Sha256::digest(token);
    let digest = bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    format!("[[auth.token]]\nname = '{name}'\nsha256 = '{digest}'\n{rest}\n")
}

/// Starts a service with this configuration.
pub(crate) async fn start(toml: &str) -> Running {
    run(Server::bind(&config(toml)).await.expect("it starts"))
}

/// Lets a service serve.
#[expect(clippy::disallowed_methods, reason = "this module is the owner of spawning in these tests")]
pub(crate) fn run(server: Server) -> Running {
    let (stop, stopped) = oneshot::channel();
    let (address, admin, security) = (server.local_addr(), server.admin_addr(), server.security());
    let reloader = server.reloader();
    let task = tokio::spawn(server.run(async { stopped.await.unwrap_or(Stop::Now) }));
    Running { address, admin, security, reloader, stop, task }
}

/// Runs a client beside the test.
#[expect(clippy::disallowed_methods, reason = "this module is the owner of spawning in these tests")]
pub(crate) fn beside<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(task)
}

impl Running {
    /// Gives it another configuration.
    pub(crate) async fn reload(&self, toml: &str) -> Result<Vec<String>, ReloadError> {
        let sources = Sources::text(toml).flag("--listen", "server.listen", "127.0.0.1:0");
        self.reloader.reload(&sources).await
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.send("GET", target, "").await
    }

    pub(crate) async fn put(&self, target: &str, body: &str) -> Answer {
        self.send("PUT", target, body).await
    }

    pub(crate) async fn post(&self, target: &str, body: &str) -> Answer {
        self.send("POST", target, body).await
    }

    pub(crate) async fn delete(&self, target: &str) -> Answer {
        self.send("DELETE", target, "").await
    }

    /// Sends a request on a connection of its own.
    pub(crate) async fn send(&self, method: &str, target: &str, body: &str) -> Answer {
        self.send_bytes(method, target, body.as_bytes()).await
    }

    pub(crate) async fn send_bytes(&self, method: &str, target: &str, body: &[u8]) -> Answer {
        let length =
            if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        let head = format!("{method} {target} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{length}\r\n");
        self.raw(&[head.as_bytes(), body].concat()).await
    }

    /// Sends a request with these lines in its head.
    pub(crate) async fn send_with(&self, method: &str, target: &str, lines: &[&str], body: &[u8]) -> Answer {
        Answer::parse(&self.bytes_of(method, target, lines, body).await)
    }

    /// The very bytes of an answer.
    pub(crate) async fn bytes_of(&self, method: &str, target: &str, lines: &[&str], body: &[u8]) -> Vec<u8> {
        let lines: Vec<String> = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let lines = lines.concat();
        let length = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {length}\r\n{lines}\r\n"
        );
        self.exchange(&[head.as_bytes(), body].concat()).await
    }

    /// Sends bytes as they are, and reads until the connection ends.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Answer {
        Answer::parse(&self.exchange(bytes).await)
    }

    async fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await.expect("it listens");
            let (mut reader, mut writer) = stream.split();
            let mut answer = Vec::new();
            let writing = async {
                // The service may refuse before it has read all: that shows in its answer.
                writer.write_all(bytes).await.ok();
            };
            let ((), _) = tokio::join!(writing, reader.read_to_end(&mut answer));
            answer
        };
        tokio::time::timeout(PATIENCE, exchange).await.expect("an answer in time")
    }

    /// Sends bytes as they are, and reads until a text has come.
    pub(crate) async fn raw_until(&self, bytes: &[u8], text: &str) -> String {
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await.expect("it listens");
            stream.write_all(bytes).await.expect("it reads");
            let mut answer = Vec::new();
            while !String::from_utf8_lossy(&answer).contains(text) {
                assert_ne!(stream.read_buf(&mut answer).await.expect("it answers"), 0, "it goes on");
            }
            String::from_utf8_lossy(&answer).into_owned()
        };
        tokio::time::timeout(PATIENCE, exchange).await.expect("an answer in time")
    }

    /// Stops the service and says how it ended.
    pub(crate) async fn stop(self, how: Stop) -> Ended {
        self.stop.send(how).expect("it runs");
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends in time").expect("it does not panic")
    }
}

/// A client that keeps its connection.
pub(crate) struct Client<S = TcpStream> {
    stream: BufReader<S>,
}

impl Client {
    pub(crate) async fn of(service: &Running) -> Self {
        Self::over(TcpStream::connect(service.address).await.expect("it listens"))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    pub(crate) async fn ask(&mut self, token: &str, method: &str, target: &str, body: &str) -> Answer {
        self.ask_with(token, method, target, &[], body).await
    }

    /// Asks with more headers.
    pub(crate) async fn ask_with(
        &mut self,
        token: &str,
        method: &str,
        target: &str,
        lines: &[&str],
        body: &str,
    ) -> Answer {
        let lines: Vec<String> = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let lines = lines.concat();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n{lines}\r\n{body}",
            body.len()
        );
        let exchange = async {
            self.stream.write_all(request.as_bytes()).await.expect("sent");
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"\r\n\r\n") {
                assert_ne!(
                    self.stream.read_until(b'\n', &mut bytes).await.expect("an answer"),
                    0,
                    "{target}"
                );
            }
            let head = Answer::parse(&bytes);
            let length = head.header("content-length").filter(|_| method != "HEAD");
            let length = length.map_or(0, |length| length.parse().expect("a number"));
            let from = bytes.len();
            bytes.resize(from + length, 0);
            self.stream.read_exact(&mut bytes[from..]).await.expect("a body");
            Answer::parse(&bytes)
        };
        tokio::time::timeout(PATIENCE, exchange).await.expect("an answer in time")
    }
}

impl Answer {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).expect("answers are UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP answer: {text:?}"));
        let status = head.get(9..12).and_then(|status| status.parse().ok()).expect("a status");
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(own, _)| *own == name).map(|(_, value)| value)
    }

    /// The body with every time replaced by `T`, after a look at its form.
    pub(crate) fn body_without_times(&self) -> String {
        const FORM: &str = "\"0000-00-00T00:00:00.000Z\"";
        let is_time = |text: &str| {
            text.bytes().zip(FORM.bytes()).all(|(byte, form)| match form {
                b'0' => byte.is_ascii_digit(),
                form => byte == form,
            })
        };
        let mut masked = String::new();
        let mut rest = self.body.as_str();
        while let Some(at) = (0..rest.len()).find(|&at| rest.get(at..at + FORM.len()).is_some_and(is_time)) {
            masked.push_str(&rest[..at]);
            masked.push_str("\"T\"");
            rest = &rest[at + FORM.len()..];
        }
        masked + rest
    }

    /// Asserts that this is a problem with this status and code, and returns its detail.
    pub(crate) fn problem(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"));
        assert_eq!(body["code"], code, "{self:?}");
        assert_eq!(body["status"], status, "{self:?}");
        assert_eq!(body["type"], format!("/problems/{code}"), "{self:?}");
        assert!(body["title"].is_string(), "{self:?}");
        body["detail"].as_str().expect("a detail").to_owned()
    }
}
