//! What is done together, and on which connection?
//!
//! 1. A step is one transaction: all of it is done, and nothing of others in between, or nothing is.
//! 2. A server refuses a step when it refuses one of its commands, before anything of it was done.
//! 3. Steps of one call are made in their order. If one fails after another was made, the call may have taken effect.

use super::PlainRedis;
use crate::call;
use crate::error::unexpected;
use crate::link::{Link, accept};
use crate::sending::Sending;
use redis::{Cmd, Pipeline, Value};
use std::future::Future;
use std::time::Duration;
use terrace_core::RemoteError;
use terrace_core::bus::{Change, Incarnation, Message, NodeId};
use terrace_core::{Namespace, Partition, Version};

/// Commands that are done together.
pub(super) type Step = Vec<Cmd>;

/// Most commands that are sent in one write, unless one step has more.
const COMMANDS_MAX: usize = 512;

/// The steps in as few writes as may be. None of them is cut.
pub(super) fn pipelines(steps: &[Step]) -> Vec<Pipeline> {
    let mut pipelines: Vec<Pipeline> = Vec::new();
    for step in steps {
        let has_room = |last: &&mut Pipeline| last.len() + step.len() + 2 <= COMMANDS_MAX;
        let pipeline = match pipelines.last_mut().filter(has_room) {
            Some(last) => last,
            None => pipelines.push_mut(Pipeline::new()),
        };
        pipeline.cmd("MULTI");
        for command in step {
            pipeline.add_command(command.clone());
        }
        pipeline.cmd("EXEC");
    }
    pipelines
}

/// The replies to one step; `None` if something that was watched has changed.
pub(super) fn outcome(mut replies: Vec<Value>) -> Result<Option<Vec<Value>>, RemoteError> {
    let executed = replies.pop();
    accept(replies)?;
    match executed {
        Some(Value::Array(replies)) => accept(replies).map(Some),
        Some(Value::Nil) => Ok(None),
        Some(error @ Value::ServerError(_)) => accept(vec![error]).map(|_| None),
        other => Err(unexpected("the replies of a transaction", &other)),
    }
}

/// The replies to steps, if all were made.
fn outcomes(steps: &[Step], replies: Vec<Value>) -> Result<Vec<Vec<Value>>, RemoteError> {
    let mut replies = replies.into_iter();
    let of_step = |step: &Step| {
        let made = outcome(replies.by_ref().take(step.len() + 2).collect())?;
        made.ok_or_else(|| unexpected("a transaction that nothing can stop", &"none"))
    };
    let made: Vec<Result<_, RemoteError>> = steps.iter().map(of_step).collect();
    let is_any_made = made.iter().any(Result::is_ok);
    let in_doubt = |error: RemoteError| match error {
        error if error.is_unsent() && is_any_made => {
            RemoteError::Broken { reason: format!("a part was not done: {error}") }
        }
        error => error,
    };
    made.into_iter().collect::<Result<_, _>>().map_err(in_doubt)
}

/// Whether a connection is to the incarnation that a call is for, as far as both are known.
pub(super) fn check_fit(link: &Link, on: Option<Incarnation>) -> Result<(), RemoteError> {
    match (link.incarnation(), on) {
        (Some(is), Some(on)) if is != on => {
            let reason = format!("{} is another incarnation of the server", link.address());
            Err(RemoteError::Unavailable { reason })
        }
        _ => Ok(()),
    }
}

impl PlainRedis {
    /// Bounds the time of a whole call.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, RemoteError>>,
    ) -> Result<T, RemoteError> {
        tokio::time::timeout(limit, call).await.unwrap_or(Err(RemoteError::Timeout { after: limit }))
    }

    /// Makes steps, and returns the replies to each.
    pub(super) async fn make(&self, steps: &[Step]) -> Result<Vec<Vec<Value>>, RemoteError> {
        self.make_on(None, steps).await
    }

    /// [`PlainRedis::make`] on a server of this incarnation.
    pub(super) async fn make_on(
        &self,
        on: Option<Incarnation>,
        steps: &[Step],
    ) -> Result<Vec<Vec<Value>>, RemoteError> {
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        let (link, limit) = self.0.topology.only(self.settings().write_timeout).await?;
        check_fit(&link, on)?;
        let pipelines = pipelines(steps);
        let replies = call::on(&link, limit, link.exchange(&pipelines, Sending::Changes)).await?;
        outcomes(steps, replies)
    }

    /// Makes steps that only remove and tell. A server that has no memory left refuses every transaction, whatever is in it. Then
    /// the commands are done one after the other, which is as good if a lease is removed before its value and told of last.
    pub(super) async fn make_removal(&self, steps: &[Step]) -> Result<Vec<Vec<Value>>, RemoteError> {
        match self.make(steps).await {
            Err(error) if is_out_of_memory(&error) => {}
            made => return made,
        }
        let in_doubt = |error: RemoteError| match error {
            error if error.is_unsent() => {
                RemoteError::Broken { reason: format!("a part was not done: {error}") }
            }
            error => error,
        };
        let mut replies = self.change(steps.concat()).await.map_err(in_doubt)?.into_iter();
        Ok(steps.iter().map(|step| replies.by_ref().take(step.len()).collect()).collect())
    }

    /// Does commands one after the other.
    pub(super) async fn change(&self, commands: Vec<Cmd>) -> Result<Vec<Value>, RemoteError> {
        self.0.topology.exchange(commands, Sending::Changes, self.settings().write_timeout).await
    }

    /// Makes one step.
    pub(super) async fn make_one(&self, step: Step) -> Result<Vec<Value>, RemoteError> {
        let made = self.make(&[step]).await?;
        made.into_iter().next().ok_or_else(|| unexpected("the replies of a step", &"none"))
    }

    /// Reads, in one round trip.
    pub(super) async fn read(&self, commands: Vec<Cmd>) -> Result<Vec<Value>, RemoteError> {
        self.0.topology.exchange(commands, Sending::Reads, self.settings().read_timeout).await
    }

    /// Tells of a change on the channel of its partition.
    pub(super) fn publish(
        &self,
        namespace: &Namespace,
        partition: Partition,
        number: Version,
        change: Change,
    ) -> Cmd {
        let origin = NodeId(self.settings().node_id);
        let message = Message { previous: Version::ZERO, number, origin, change };
        self.say(namespace, partition, &message.to_string())
    }

    pub(super) fn say(&self, namespace: &Namespace, partition: Partition, text: &str) -> Cmd {
        let mut command = redis::cmd("PUBLISH");
        command.arg(self.names().channel(namespace, partition)).arg(text);
        command
    }
}

/// Whether the server has refused to do anything for want of memory.
pub(super) fn is_out_of_memory(error: &RemoteError) -> bool {
    matches!(error, RemoteError::Refused { reason } if reason.starts_with("OOM"))
}

/// As many values as are expected.
pub(super) fn exactly<const N: usize>(replies: Vec<Value>) -> Result<[Value; N], RemoteError> {
    replies.try_into().map_err(|replies: Vec<Value>| unexpected("another number of replies", &replies.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(commands: usize) -> Step {
        (0..commands).map(|_| redis::cmd("DEL")).collect()
    }

    fn error(code: &str) -> Value {
        redis::parse_redis_value(format!("-{code} refused\r\n").as_bytes()).expect("a reply")
    }

    #[test]
    fn no_step_is_cut() {
        let steps = [step(200), step(200), step(200), step(600), step(1)];
        let cut: Vec<Vec<usize>> = pipelines(&steps)
            .iter()
            .map(|pipeline| {
                let names = pipeline.cmd_iter().map(Cmd::get_packed_command);
                names.fold(Vec::new(), |mut sizes, packed| {
                    let is = |name: &str| packed.windows(name.len()).any(|part| part == name.as_bytes());
                    match sizes.last_mut() {
                        _ if is("MULTI") => sizes.push(0),
                        Some(last) if is("DEL") => *last += 1,
                        _ => assert!(is("EXEC")),
                    }
                    sizes
                })
            })
            .collect();
        assert_eq!(cut, [vec![200, 200], vec![200], vec![600], vec![1]]);
    }

    #[test]
    fn what_a_step_came_to_is_told() {
        let queued = || vec![Value::Okay, Value::SimpleString("QUEUED".to_owned())];
        let with = |last: Value| [queued(), vec![last]].concat();
        let done = outcome(with(Value::Array(vec![Value::Int(1)]))).expect("it was done");
        assert_eq!(done, Some(vec![Value::Int(1)]));
        assert_eq!(outcome(with(Value::Nil)).expect("it was not done"), None);
        let refused = outcome(vec![Value::Okay, error("OOM"), error("EXECABORT")]);
        assert!(
            matches!(&refused, Err(RemoteError::Refused { reason }) if reason.starts_with("OOM")),
            "{refused:?}"
        );
        assert!(outcome(with(Value::Array(vec![error("WRONGTYPE")]))).is_err());
        assert!(outcome(with(error("EXECABORT"))).is_err());
        assert!(outcome(Vec::new()).is_err());
    }

    #[test]
    fn a_call_of_which_a_part_was_done_is_in_doubt() {
        let steps = [step(1), step(1)];
        let queued = Value::SimpleString("QUEUED".to_owned());
        let done = [Value::Okay, queued, Value::Array(vec![Value::Int(1)])];
        let refused = [Value::Okay, error("OOM"), error("EXECABORT")];
        let both = outcomes(&steps, [&done[..], &refused].concat()).expect_err("one was refused");
        assert!(!both.is_unsent() && both.to_string().contains("OOM"), "{both}");
        let none = outcomes(&steps, [&refused[..], &refused].concat()).expect_err("both were refused");
        assert!(none.is_unsent(), "{none}");
    }
}
