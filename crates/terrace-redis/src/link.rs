//! One connection: opening it, speaking over it, and knowing that it is lost.
//!
//! 1. A connection is handed out only after the server's version, role and mode were checked and the scripts were loaded, where
//!    there are any.
//!    One that is to listen has them loaded when it calls one. One that is only to ask who the primary is may go to
//!    anybody.
//! 2. Loss is final. Everyone who waits on a lost connection learns of it at once, and nothing is heard on it any more.
//! 3. With each question whether the server lives it is asked for its time, so that calls can be given a deadline by its clock.
//! 4. A subscription that the server ends, because its slot has moved, is a loss.

use crate::config::{Address, Mode, Settings};
use crate::error::{self, Failure, Verdict};
use crate::incarnation;
use crate::replies;
use crate::scripts::{Channels, Script};
use crate::sending::{Sending, in_a_row, one};
use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, PushInfo, PushKind, ServerError, Value};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use terrace_core::bus::Incarnation;
use terrace_core::remote::ServerClock;
use terrace_core::{Clock, RemoteError};
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

/// An open connection to a server that was found fit.
pub(crate) struct Link {
    connection: MultiplexedConnection,
    address: Address,
    is_cluster: bool,
    mode: Mode,
    server: String,
    incarnation: Option<Incarnation>,
    clock: Mutex<ServerClock>,
    loss: Arc<Loss>,
}

impl Link {
    /// Commands that a connection takes in before callers have to wait.
    const QUEUE_COMMANDS: usize = 1024;

    /// Opens a connection, checks the server and loads the scripts. The caller bounds the time.
    pub(crate) async fn open(
        client: &Client,
        address: &Address,
        settings: &Settings,
    ) -> Result<Self, RemoteError> {
        let link = Self::listening(client, address, settings, |_| Ok(())).await?;
        if settings.mode == Mode::Coherent {
            link.load_scripts().await.map_err(error::naming_plain)?;
        }
        Ok(link)
    }

    /// Opens a connection and checks the server. What the server sends unasked goes to `hear`, in its order, until that
    /// says why it takes no more: then the connection is lost. The caller bounds the time.
    pub(crate) async fn listening(
        client: &Client,
        address: &Address,
        settings: &Settings,
        hear: impl Fn(PushInfo) -> Result<(), &'static str> + Send + Sync + 'static,
    ) -> Result<Self, RemoteError> {
        let mut link = Self::connect(client, address, settings, hear).await?;
        link.server = link.check().await?;
        link.incarnation = incarnation::ask(&link).await?;
        Ok(link)
    }

    /// Opens a connection to somebody who is asked about others. The caller bounds the time.
    pub(crate) async fn asking(
        client: &Client,
        address: &Address,
        settings: &Settings,
    ) -> Result<Self, RemoteError> {
        Self::connect(client, address, settings, |_| Ok(())).await
    }

    async fn connect(
        client: &Client,
        address: &Address,
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
                match push.kind {
                    PushKind::Disconnection => told.declare("the connection was closed"),
                    PushKind::SUnsubscribe => told.declare("the server ended a subscription"),
                    _ if told.reason.get().is_some() => {}
                    _ => hear(push).unwrap_or_else(|reason| told.declare(reason)),
                }
                Ok::<(), redis::aio::SendError>(())
            });
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| error::of_opening(address, &error, settings.mode))?;
        Ok(Self {
            connection,
            address: address.clone(),
            is_cluster: settings.servers.is_cluster(),
            mode: settings.mode,
            server: String::new(),
            incarnation: None,
            clock: Mutex::default(),
            loss,
        })
    }

    /// Asks the server what it is and whether it is the one to talk to, and for its time. No right is needed for the first
    /// question, and every script needs the one for the second.
    async fn check(&self) -> Result<String, RemoteError> {
        if self.mode == Mode::Plain {
            let hello = self.ask(&one(redis::cmd("HELLO"))).await?;
            return check_server(&self.address, self.is_cluster, self.mode, hello.first());
        }
        let mut questions = Pipeline::with_capacity(2);
        questions.cmd("HELLO").cmd("TIME");
        let clock = Clock::system();
        let sent = clock.precise();
        let mut answers = self.send(&questions).await?;
        let received = clock.precise();
        let time = answers.pop();
        let server = check_server(&self.address, self.is_cluster, self.mode, accept(answers)?.first())?;
        let time = accept(time.into_iter().collect())?;
        self.clock().note(sent, replies::time(time.first())?, received);
        Ok(server)
    }

    fn clock(&self) -> MutexGuard<'_, ServerClock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commands as this server has to be sent them.
    pub(crate) fn dated(&self, mut commands: Vec<Cmd>, sending: Sending) -> Result<Vec<Cmd>, RemoteError> {
        if let Sending::Sets { by } = sending {
            let deadline = self.clock().earliest(by).ok_or_else(|| {
                let reason = format!("{} has not told its time", self.address);
                RemoteError::Unavailable { reason }
            })?;
            for command in &mut commands {
                command.arg(deadline.0);
            }
        }
        Ok(commands)
    }

    /// Asks whether the server lives and still is the one to talk to; gives the connection up if it is not.
    pub(crate) async fn beat(&self) {
        if let Err(RemoteError::Refused { reason }) = self.check().await {
            self.give_up(&reason);
        }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
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
        accept(self.send(pipeline).await?)
    }

    /// Subscribes to channels by their names. Returns when the server has confirmed all of them.
    pub(crate) async fn subscribe(&self, channels: &[String]) -> Result<(), RemoteError> {
        if self.is_cluster {
            let mut pipeline = Pipeline::with_capacity(channels.len());
            for channel in channels {
                pipeline.cmd("SSUBSCRIBE").arg(channel);
            }
            return self.ask(&pipeline).await.map(drop);
        }
        let mut connection = self.connection.clone();
        let subscribed = connection.subscribe(channels).await;
        subscribed.map_err(|error| self.judge(error::of_exchange(&error)))
    }

    /// Sends commands, a bounded number in one write, and returns their replies in order, errors of the server among them.
    /// A script that the server has forgotten is loaded and called again.
    pub(crate) async fn exchange(
        &self,
        batches: &[Pipeline],
        sending: Sending,
    ) -> Result<Vec<Value>, RemoteError> {
        if let [batch] = batches {
            return self.exchange_one(batch, sending).await;
        }
        if sending == Sending::Reads {
            let parts = try_join_all(batches.iter().map(|batch| self.send(batch))).await?;
            return Ok(parts.into_iter().flatten().collect());
        }
        let mut replies = Vec::new();
        for batch in batches {
            replies.append(&mut self.exchange_one(batch, sending).await?);
        }
        Ok(replies)
    }

    async fn exchange_one(&self, batch: &Pipeline, sending: Sending) -> Result<Vec<Value>, RemoteError> {
        let mut replies = self.send(batch).await?;
        let is_undone =
            |reply: &Value| matches!(reply, Value::ServerError(error) if error::is_unknown_script(error));
        let Some(first) = replies.iter().position(is_undone) else { return Ok(replies) };
        self.load_scripts().await?;
        let is_chosen = |index: &usize| sending.keeps_order() || is_undone(&replies[*index]);
        let chosen: Vec<usize> = (first..replies.len()).filter(is_chosen).collect();
        let commands: Vec<&Cmd> = batch.cmd_iter().collect();
        let repeated = in_a_row(chosen.iter().map(|&index| commands[index].clone()));
        for (index, reply) in chosen.into_iter().zip(self.send(&repeated).await?) {
            let was_done = as_error(&replies[index]).is_none();
            if was_done && error::is_late(&reply) {
                return Err(error::partly_late());
            }
            replies[index] = reply;
        }
        Ok(replies)
    }

    pub(crate) async fn load_scripts(&self) -> Result<(), RemoteError> {
        let channels = Channels::of(self.is_cluster);
        let loading = in_a_row(Script::ALL.into_iter().map(|script| script.load(channels)));
        self.ask(&loading).await.map(drop)
    }

    /// Sends commands in one write, and returns their replies in order. One of them may say that the connection is of no
    /// use any more.
    pub(crate) async fn send(&self, pipeline: &Pipeline) -> Result<Vec<Value>, RemoteError> {
        let mut connection = self.connection.clone();
        let replies = connection.send_packed_commands(pipeline, 0, pipeline.len()).await;
        let replies = replies.map_err(|error| self.judge(error::of_exchange(&error)))?;
        if replies.len() != pipeline.len() {
            return Err(error::unexpected("as many replies as commands", &replies.len()));
        }
        for error in replies.iter().filter_map(as_error) {
            self.judge(error::of_reply(error));
        }
        Ok(replies)
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

fn as_error(reply: &Value) -> Option<&ServerError> {
    match reply {
        Value::ServerError(error) => Some(error),
        _ => None,
    }
}

/// The replies, if none of them is an error.
pub(crate) fn accept(replies: Vec<Value>) -> Result<Vec<Value>, RemoteError> {
    let failed = replies.iter().find_map(as_error).map(|error| error::of_reply(error).error);
    match failed {
        None => Ok(replies),
        Some(RemoteError::Late { .. }) if !replies.iter().all(error::is_late) => Err(error::partly_late()),
        Some(error) => Err(error),
    }
}

/// The name and version of a server that says hello, if it can do what the scripts need and is what it is taken for.
fn check_server(
    address: &Address,
    is_cluster: bool,
    speaking: Mode,
    hello: Option<&Value>,
) -> Result<String, RemoteError> {
    let Some(Value::Map(fields)) = hello else { return Err(error::unexpected("a map from HELLO", &hello)) };
    let field = |name: &str| {
        fields.iter().find_map(|(key, value)| (text(key) == Some(name)).then(|| text(value)).flatten())
    };
    let (name, version) = (field("server").unwrap_or("redis"), field("version").unwrap_or_default());
    let server = format!("{name} {version}");
    let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
    let number = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let needed = match (name, is_cluster) {
        ("redis", true) => (7, 0),
        ("redis", false) if speaking == Mode::Plain => (6, 0),
        ("redis", false) => (6, 2),
        (_, true) => (7, 2),
        (_, false) => (0, 0),
    };
    if number < needed {
        return Err(error::too_old(address, &server, is_cluster, speaking));
    }
    let refused = |reason| Err(RemoteError::Refused { reason });
    match field("mode") {
        Some("sentinel") => return refused(format!("{address} is a sentinel, and not a server with values")),
        Some("cluster") if !is_cluster => {
            return refused(format!("{address} is a member of a Cluster, and has to be spoken to as one"));
        }
        Some("standalone") if is_cluster => return refused(format!("{address} is no member of a Cluster")),
        _ => {}
    }
    if field("role").is_some_and(|role| role != "master") {
        return refused(format!(
            "{address} is a replica, and values are read and written at primaries alone"
        ));
    }
    Ok(server)
}

/// A text, in whichever form the server has it.
pub(crate) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_mode(
        mode: &str,
        is_cluster: bool,
        name: &str,
        version: &str,
        role: &str,
    ) -> Result<String, String> {
        let field =
            |name: &str, value: &str| (Value::BulkString(name.into()), Value::SimpleString(value.to_owned()));
        let fields = [("server", name), ("version", version), ("mode", mode), ("role", role)];
        let hello = Value::Map(fields.map(|(name, value)| field(name, value)).into());
        let address = Address { host: "db".to_owned(), port: 6379 };
        check_server(&address, is_cluster, Mode::Coherent, Some(&hello)).map_err(|error| error.to_string())
    }

    fn check(name: &str, version: &str, role: &str) -> Result<String, String> {
        check_mode("standalone", false, name, version, role)
    }

    #[test]
    fn of_a_call_that_was_late_in_part_nothing_is_certain() {
        let reply = |line: &str| redis::parse_redis_value(line.as_bytes()).expect("a reply");
        let late = || reply("-LATE by 5 us\r\n");
        let outcome = |replies: Vec<Value>| accept(replies).map_err(|error| error.kind());
        assert_eq!(outcome(vec![late(), late()]), Err("late"));
        assert_eq!(outcome(vec![late(), Value::Int(5)]), Err("broken"));
        assert_eq!(outcome(vec![Value::Int(5), late()]), Err("broken"));
        assert_eq!(outcome(vec![Value::Int(5)]), Ok(vec![Value::Int(5)]));
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

    #[test]
    fn a_cluster_is_known_for_what_it_is_and_must_be_newer() {
        let member = |name, version| check_mode("cluster", true, name, version, "master");
        assert_eq!(member("redis", "7.0.0"), Ok("redis 7.0.0".to_owned()));
        assert_eq!(member("valkey", "7.2.5"), Ok("valkey 7.2.5".to_owned()));
        let old = member("redis", "6.2.14").expect_err("too old");
        assert!(old.ends_with("redis 6.2.14, and a Cluster of Redis 7.0 or Valkey 7.2 is needed"), "{old}");
        let found = |mode, is_cluster| check_mode(mode, is_cluster, "redis", "7.2.0", "master");
        for (mode, is_cluster, words) in [
            ("cluster", false, "is a member of a Cluster, and has to be spoken to as one"),
            ("standalone", true, "is no member of a Cluster"),
            ("sentinel", false, "is a sentinel"),
        ] {
            let refusal = found(mode, is_cluster).expect_err(words);
            assert!(refusal.contains(words), "{refusal}");
        }
    }
}
