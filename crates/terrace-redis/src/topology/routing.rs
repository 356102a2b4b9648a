//! How is a call of several slots cut, and what is a redirection worth?
//!
//! 1. A command that was redirected was not done. It is sent again, where it was sent to, within the call's deadline: a set with
//!    the same deadline, by the clock of that server.
//! 2. Nothing else is sent again but reads, and what [`Sending::Sets`] says: commands of a slot that follow one
//!    which was redirected follow it, to the same server, so that the order holds that they have with one.
//! 3. A slot that is being moved has its names in two places. A script that needs several is told to try again until the
//!    slot has arrived; it waits within the deadline.
//! 4. A call of several slots of which a part was not sent may have taken effect.
//!
//! Deliberately absent: waiting for a Cluster that is down, or for a shard without a primary. That fails at once, as with
//! one server.

use super::{Fit, State, slots};
use crate::call;
use crate::config::Address;
use crate::error::{is_late, partly_late, unexpected};
use crate::sending::{Sending, batches};
use crate::supervisor::{Backoff, Supervisor, pause};
use futures_util::future::join_all;
use redis::{Cmd, Pipeline, ServerError, Value};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::RemoteError;

/// The longest pause before a command is sent again whose slot is being moved: a slot is moved in milliseconds.
const WAIT_MAX: Duration = Duration::from_millis(40);

/// Where a command has to go.
#[derive(Clone, PartialEq, Eq, Hash)]
enum To {
    /// To the owner of its slot, as the map has it.
    Owner,
    /// To a server that was named as the owner.
    Named(Address),
    /// To a server that will be the owner.
    Asked(Address),
}

/// A command that has no answer yet.
struct Waiting {
    index: usize,
    slot: u16,
    command: Cmd,
    to: To,
}

/// Commands for one server.
struct Group {
    supervisor: Arc<Supervisor>,
    /// The place in the call, and the slot.
    members: Vec<(usize, u16)>,
    commands: Vec<Cmd>,
    /// The commands as they were sent.
    batches: Vec<Pipeline>,
    /// How many commands stand for one: `ASKING` goes before each that was redirected so.
    stride: usize,
}

/// What has come of a call so far.
struct Progress {
    replies: Vec<Value>,
    /// Commands that have no answer yet.
    waiting: Vec<Waiting>,
    /// Whether a command was done that is sent again to follow another one.
    is_repeating: bool,
}

/// Sends commands to whoever has what they name. The caller bounds the time.
pub(super) async fn exchange(
    state: &Arc<State>,
    fit: &Fit,
    commands: Vec<Cmd>,
    sending: Sending,
    limit: Duration,
) -> Result<Vec<Value>, RemoteError> {
    let replies = vec![Value::Nil; commands.len()];
    let numbered = commands.into_iter().enumerate();
    let waiting =
        |(index, command)| Waiting { index, slot: slots::of_command(&command), command, to: To::Owner };
    let mut progress = Progress { replies, waiting: numbered.map(waiting).collect(), is_repeating: false };
    let mut backoff = Backoff::up_to(WAIT_MAX);
    let mut is_begun = false;
    for round in 0.. {
        let doubted = |error| if is_begun { in_doubt(error) } else { error };
        let waiting = std::mem::take(&mut progress.waiting);
        let mut groups = group(state, waiting, limit).await.map_err(doubted)?;
        is_begun |= groups.len() > 1;
        let doubted = |error| if is_begun { in_doubt(error) } else { error };
        let sent = join_all(groups.iter_mut().map(|group| group.send(state, fit, sending, limit))).await;
        for (group, answers) in groups.into_iter().zip(sent) {
            group.sort(answers.map_err(doubted)?, sending, &mut progress)?;
        }
        let Progress { replies, waiting, .. } = &progress;
        if replies.iter().any(is_down) || !waiting.is_empty() {
            state.doubt.notify_one();
        }
        if waiting.is_empty() {
            break;
        }
        is_begun |= waiting.len() < replies.len();
        if round > 1 || waiting.iter().any(|waiting| waiting.to == To::Owner) {
            pause(backoff.next()).await;
        }
    }
    if progress.is_repeating && progress.replies.iter().any(is_late) {
        return Err(partly_late());
    }
    Ok(progress.replies)
}

fn is_down(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if error.code() == "CLUSTERDOWN")
}

/// Another part of the call may have taken effect.
fn in_doubt(error: RemoteError) -> RemoteError {
    if error.is_unsent() {
        RemoteError::Broken { reason: format!("a part was not sent: {error}") }
    } else {
        error
    }
}

async fn group(
    state: &Arc<State>,
    waiting: Vec<Waiting>,
    limit: Duration,
) -> Result<Vec<Group>, RemoteError> {
    let map = match state.current() {
        Some(map) => map,
        None => state.map(limit).await?,
    };
    let mut groups: Vec<(Arc<Supervisor>, bool, Vec<Waiting>)> = Vec::new();
    for waiting in waiting {
        let supervisor = match &waiting.to {
            To::Owner => {
                let owner = map.of_slot(waiting.slot).ok_or_else(|| {
                    state.doubt.notify_one();
                    let reason = format!("slot {} of the Cluster has no primary", waiting.slot);
                    RemoteError::Unavailable { reason }
                })?;
                Arc::clone(&map.shards[owner].supervisor)
            }
            To::Named(address) | To::Asked(address) => state.connections(address)?,
        };
        let is_asked = matches!(waiting.to, To::Asked(_));
        let is_its = |group: &&mut (Arc<Supervisor>, bool, _)| {
            Arc::ptr_eq(&group.0, &supervisor) && group.1 == is_asked
        };
        match groups.iter_mut().find(is_its) {
            Some((_, _, group)) => group.push(waiting),
            None => groups.push((supervisor, is_asked, vec![waiting])),
        }
    }
    let group = |(supervisor, is_asked, waiting)| Group::new(supervisor, is_asked, waiting);
    Ok(groups.into_iter().map(group).collect())
}

impl Group {
    fn new(supervisor: Arc<Supervisor>, is_asked: bool, waiting: Vec<Waiting>) -> Self {
        let members = waiting.iter().map(|waiting| (waiting.index, waiting.slot)).collect();
        let commands = waiting.into_iter().map(|waiting| waiting.command).collect();
        Self { supervisor, members, commands, batches: Vec::new(), stride: if is_asked { 2 } else { 1 } }
    }

    async fn send(
        &mut self,
        state: &Arc<State>,
        fit: &Fit,
        sending: Sending,
        limit: Duration,
    ) -> Result<Vec<Value>, RemoteError> {
        if self.supervisor.current().is_none() {
            state.start()?;
            state.doubt.notify_one();
        }
        let (link, limit) = call::connection(&self.supervisor, limit).await?;
        fit.check(&link, self.members.iter().map(|(_, slot)| *slot))?;
        let commands = link.dated(std::mem::take(&mut self.commands), sending)?;
        let asking = std::iter::repeat_n(redis::cmd("ASKING"), self.stride - 1);
        let commands = commands.into_iter().flat_map(|command| asking.clone().chain([command]));
        self.batches = batches(commands.collect(), sending);
        call::on(&link, limit, link.exchange(&self.batches, sending)).await
    }

    /// Keeps what was answered, and lets the rest wait.
    fn sort(
        &self,
        answers: Vec<Value>,
        sending: Sending,
        progress: &mut Progress,
    ) -> Result<(), RemoteError> {
        let commands =
            self.batches.iter().flat_map(Pipeline::cmd_iter).skip(self.stride - 1).step_by(self.stride);
        let answers = answers.into_iter().skip(self.stride - 1).step_by(self.stride);
        let mut redirected: HashMap<u16, To> = HashMap::new();
        for ((&(index, slot), command), answer) in self.members.iter().zip(commands).zip(answers) {
            let redirection = match &answer {
                Value::ServerError(error) => redirection(error, self.supervisor.address())?,
                _ => None,
            };
            let followed = redirected.get(&slot).filter(|_| sending != Sending::Changes).cloned();
            match followed.or(redirection) {
                None => progress.replies[index] = answer,
                Some(to) => {
                    redirected.entry(slot).or_insert_with(|| to.clone());
                    progress.is_repeating |= !matches!(answer, Value::ServerError(_));
                    progress.waiting.push(Waiting { index, slot, command: sending.undated(command), to });
                }
            }
        }
        Ok(())
    }
}

/// Where a server sends a command that it has not done.
fn redirection(error: &ServerError, asked: &Address) -> Result<Option<To>, RemoteError> {
    let named = || {
        let details = error.details().unwrap_or_default();
        let address = details.split_once(' ').and_then(|(_, address)| Address::redirected(address, asked));
        address.ok_or_else(|| unexpected("the address of a server", &details))
    };
    Ok(match error.code() {
        "MOVED" => Some(To::Named(named()?)),
        "ASK" => Some(To::Asked(named()?)),
        "TRYAGAIN" => Some(To::Owner),
        _ => None,
    })
}
