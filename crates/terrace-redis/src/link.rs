//! One connection: opening it, speaking over it, and knowing that it is lost.
//!
//! 1. A connection is handed out only after the server's version and role were checked and the scripts were loaded. One
//!    that is to listen has them loaded when it calls one.
//! 2. Loss is final. Everyone who waits on a lost connection learns of it at once, and nothing is heard on it any more.

use crate::config::Settings;
use crate::error::{self, Failure, Verdict};
use crate::incarnation;
use crate::scripts::Script;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, PushInfo, PushKind, Value};
use std::fmt;
use std::sync::{Arc, OnceLock};
use terrace_core::RemoteError;
use terrace_core::bus::Incarnation;
use tokio::sync::Notify;

/// Whether a connection is lost, and why.
#[derive(Default)]
struct Loss {
    reason: OnceLock<String>,
    told: Notify,
}

impl Loss {
    fn declare(&self, reason: &str) {
        if self.reason.set(reason.to_owned()).is_ok() {
            self.told.notify_waiters();
        }
    }

    async fn wait(&self) -> &str {
        loop {
            let told = self.told.notified();
            if let Some(reason) = self.reason.get() {
                return reason;
            }
            told.await;
        }
    }
}

/// Which commands are sent again after the server had forgotten a script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Again {
    /// Those that were not done.
    Undone,
    /// From the first that was not done on, so that their order holds; the others are done twice.
    InOrder,
}

/// An open connection to a server that was found fit.
pub(crate) struct Link {
    connection: MultiplexedConnection,
    server: String,
    incarnation: Option<Incarnation>,
    loss: Arc<Loss>,
}

impl Link {
    /// Commands that a connection takes in before callers have to wait.
    const QUEUE_COMMANDS: usize = 1024;

    /// Opens a connection, checks the server and loads the scripts. The caller bounds the time.
    pub(crate) async fn open(client: &Client, settings: &Settings) -> Result<Self, RemoteError> {
        let link = Self::listening(client, settings, |_| Ok(())).await?;
        link.load_scripts().await?;
        Ok(link)
    }

    /// Opens a connection and checks the server. What the server sends unasked goes to `hear`, in its order, until that
    /// says why it takes no more: then the connection is lost. The caller bounds the time.
    pub(crate) async fn listening(
        client: &Client,
        settings: &Settings,
        hear: impl Fn(PushInfo) -> Result<(), &'static str> + Send + Sync + 'static,
    ) -> Result<Self, RemoteError> {
        let loss = Arc::new(Loss::default());
        let told = Arc::clone(&loss);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(Self::QUEUE_COMMANDS)
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    told.declare("the connection was closed");
                } else if told.reason.get().is_none() {
                    hear(push).unwrap_or_else(|reason| told.declare(reason));
                }
                Ok::<(), redis::aio::SendError>(())
            });
        let address = settings.address.to_string();
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| error::of_opening(&address, &error))?;
        let mut link = Self { connection, server: String::new(), incarnation: None, loss };
        link.server = link.check(&address).await?;
        link.incarnation = incarnation::ask(&link).await?;
        Ok(link)
    }

    /// Asks the server what it is and whether it is the one to talk to. No right is needed for the question.
    async fn check(&self, address: &str) -> Result<String, RemoteError> {
        let hello = self.ask(&one(redis::cmd("HELLO"))).await?;
        check_server(address, hello.first())
    }

    /// Asks whether the server lives and still is the one to talk to; gives the connection up if it is not.
    pub(crate) async fn beat(&self, address: &str) {
        if let Err(RemoteError::Refused { reason }) = self.check(address).await {
            self.give_up(&reason);
        }
    }

    /// The server's name and version.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// Which life of the server this is a connection to; `None` if the server does not say.
    pub(crate) fn incarnation(&self) -> Option<Incarnation> {
        self.incarnation
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.loss.reason.get().is_some()
    }

    /// Ends when the connection is lost, with the reason.
    pub(crate) async fn lost(&self) -> &str {
        self.loss.wait().await
    }

    /// Gives the connection up, for everyone.
    pub(crate) fn give_up(&self, reason: &str) {
        self.loss.declare(reason);
    }

    /// Sends commands in one write, and returns their replies in order. None of them is an error.
    pub(crate) async fn ask(&self, pipeline: &Pipeline) -> Result<Vec<Value>, RemoteError> {
        self.accept(self.send(pipeline).await?)
    }

    /// Subscribes to channels by their names. Returns when the server has confirmed all of them.
    pub(crate) async fn subscribe(&self, channels: &[String]) -> Result<(), RemoteError> {
        let mut connection = self.connection.clone();
        let subscribed = connection.subscribe(channels).await;
        subscribed.map_err(|error| self.judge(error::of_exchange(&error)))
    }

    /// As [`Link::ask`], for calls of scripts: one that the server has forgotten is loaded and called again.
    pub(crate) async fn run(&self, pipeline: &Pipeline, again: Again) -> Result<Vec<Value>, RemoteError> {
        let mut replies = self.send(pipeline).await?;
        let is_undone =
            |reply: &Value| matches!(reply, Value::ServerError(error) if error::is_unknown_script(error));
        let Some(first) = replies.iter().position(is_undone) else { return self.accept(replies) };
        self.load_scripts().await?;
        let chosen: Vec<usize> = match again {
            Again::InOrder => (first..replies.len()).collect(),
            Again::Undone => (first..replies.len()).filter(|&index| is_undone(&replies[index])).collect(),
        };
        let commands: Vec<&Cmd> = pipeline.cmd_iter().collect();
        let mut repeated = Pipeline::with_capacity(chosen.len());
        for &index in &chosen {
            repeated.add_command(commands[index].clone());
        }
        for (index, reply) in chosen.into_iter().zip(self.send(&repeated).await?) {
            replies[index] = reply;
        }
        self.accept(replies)
    }

    pub(crate) async fn load_scripts(&self) -> Result<(), RemoteError> {
        let mut pipeline = Pipeline::with_capacity(Script::ALL.len());
        for script in Script::ALL {
            pipeline.add_command(script.load());
        }
        self.ask(&pipeline).await.map(drop)
    }

    async fn send(&self, pipeline: &Pipeline) -> Result<Vec<Value>, RemoteError> {
        let mut connection = self.connection.clone();
        let replies = connection.send_packed_commands(pipeline, 0, pipeline.len()).await;
        let replies = replies.map_err(|error| self.judge(error::of_exchange(&error)))?;
        if replies.len() == pipeline.len() {
            Ok(replies)
        } else {
            Err(error::unexpected("as many replies as commands", &replies.len()))
        }
    }

    fn accept(&self, replies: Vec<Value>) -> Result<Vec<Value>, RemoteError> {
        let failed = replies.iter().find_map(|reply| match reply {
            Value::ServerError(error) => Some(self.judge(error::of_reply(error))),
            _ => None,
        });
        failed.map_or(Ok(replies), Err)
    }

    fn judge(&self, failure: Failure) -> RemoteError {
        if failure.verdict == Verdict::Drop {
            self.give_up(&failure.error.to_string());
        }
        failure.error
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({}, lost: {:?})", self.server, self.loss.reason.get())
    }
}

/// A pipeline of one command.
pub(crate) fn one(command: Cmd) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(1);
    pipeline.add_command(command);
    pipeline
}

/// The name and version of a server that says hello, if it can do what the scripts need.
fn check_server(address: &str, hello: Option<&Value>) -> Result<String, RemoteError> {
    let Some(Value::Map(fields)) = hello else { return Err(error::unexpected("a map from HELLO", &hello)) };
    let field = |name: &str| {
        fields.iter().find_map(|(key, value)| (text(key) == Some(name)).then(|| text(value)).flatten())
    };
    let (name, version) = (field("server").unwrap_or("redis"), field("version").unwrap_or_default());
    let server = format!("{name} {version}");
    let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
    let number = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if name == "redis" && number < (6, 2) {
        return Err(error::too_old(address, &server));
    }
    if field("role").is_some_and(|role| role != "master") {
        let reason = format!("{address} is a replica, and values are read and written at primaries alone");
        return Err(RemoteError::Refused { reason });
    }
    Ok(server)
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, version: &str, role: &str) -> Result<String, String> {
        let field =
            |name: &str, value: &str| (Value::BulkString(name.into()), Value::SimpleString(value.to_owned()));
        let hello = Value::Map(vec![field("server", name), field("version", version), field("role", role)]);
        check_server("db:6379", Some(&hello)).map_err(|error| error.to_string())
    }

    #[test]
    fn old_servers_and_replicas_are_refused_clearly() {
        assert_eq!(check("redis", "7.0.15", "master"), Ok("redis 7.0.15".to_owned()));
        assert_eq!(check("redis", "6.2.0", "master"), Ok("redis 6.2.0".to_owned()));
        assert_eq!(check("redis", "255.255.255", "master"), Ok("redis 255.255.255".to_owned()));
        assert_eq!(check("valkey", "8.1.0", "master"), Ok("valkey 8.1.0".to_owned()));
        let old = check("redis", "6.0.16", "master").expect_err("too old");
        assert_eq!(old, "L2 refused: db:6379 is redis 6.0.16, and Redis 6.2 or any Valkey is needed");
        let replica = check("redis", "7.0.15", "replica").expect_err("a replica");
        assert!(replica.contains("db:6379 is a replica"), "{replica}");
    }
}
