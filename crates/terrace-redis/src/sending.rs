//! How are the commands of a call sent, and which of them again?
//!
//! 1. What is sent in one write is bounded.
//! 2. A set that is sent again, here or to another server, is given up at the moment at which it was to be from the beginning.

use redis::{Arg, Cmd, Pipeline};
use terrace_core::Moment;

/// How commands are sent, and which of them again after one was not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sending {
    /// They read, and are all under way at once.
    Reads,
    /// They are scripts; those that were not done are sent again.
    Changes,
    /// They are scripts for one server, of which the last is to be done last. Those from the first that was not done on are sent again, and
    /// some are done twice.
    Row,
    /// They are sets. Those from the first that was not done on are sent again, so that their order holds, and some are done
    /// twice; but from a moment on none of them is done. Wherever they are sent, and however often, they are told when that is
    /// by the clock of the server, as their last argument.
    Sets {
        /// When their caller gives them up.
        by: Moment,
    },
}

impl Sending {
    /// Whether commands that follow one which was not done follow it when it is sent again.
    pub(crate) fn keeps_order(self) -> bool {
        matches!(self, Self::Row | Self::Sets { .. })
    }

    /// Whether commands are told when they are too late.
    fn is_dated(self) -> bool {
        matches!(self, Self::Sets { .. })
    }

    /// A command that [`Link::dated`](crate::link::Link::dated) has made, as it was before: for another server.
    pub(crate) fn undated(self, command: &Cmd) -> Cmd {
        if !self.is_dated() {
            return command.clone();
        }
        let mut undated = Cmd::new();
        let arguments = command.args_iter();
        let count = arguments.len().saturating_sub(1);
        for argument in arguments.take(count) {
            match argument {
                Arg::Simple(bytes) => undated.arg(bytes),
                _ => &mut undated,
            };
        }
        undated
    }
}

/// Most reads that are sent in one write, so that replies of others can get in between.
const READS_MAX: usize = 256;
/// Most changes that are sent in one write.
const CHANGES_MAX: usize = 512;

/// A pipeline of one command.
pub(crate) fn one(command: Cmd) -> Pipeline {
    in_a_row(std::iter::once(command))
}

/// Commands in the order in which they are sent, a bounded number together.
pub(crate) fn batches(commands: Vec<Cmd>, sending: Sending) -> Vec<Pipeline> {
    let most = if sending == Sending::Reads { READS_MAX } else { CHANGES_MAX };
    let mut batches = Vec::with_capacity(commands.len().div_ceil(most));
    let mut commands = commands.into_iter();
    while commands.len() > 0 {
        batches.push(in_a_row(commands.by_ref().take(most)));
    }
    batches
}

pub(crate) fn in_a_row(commands: impl Iterator<Item = Cmd>) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(commands.size_hint().0);
    for command in commands {
        pipeline.add_command(command);
    }
    pipeline
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_that_is_redirected_gets_the_deadline_of_the_other_server() {
        let mut dated = redis::cmd("EVALSHA");
        dated.arg(b"value\0\xff").arg("").arg(17);
        let mut undated = redis::cmd("EVALSHA");
        undated.arg(b"value\0\xff").arg("");
        let sets = Sending::Sets { by: Moment::NEVER };
        assert_eq!(sets.undated(&dated).get_packed_command(), undated.get_packed_command());
        for others in [Sending::Reads, Sending::Changes, Sending::Row] {
            assert_eq!(others.undated(&dated).get_packed_command(), dated.get_packed_command());
        }
    }
}
