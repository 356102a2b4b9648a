//! Requests that come again: each is found while it is remembered, and changes nothing.

use super::{Known, Step, World, step};
use crate::behind::error::WriteError;
use crate::behind::options::Ack;
use crate::behind::record::{DeadLetter, Operation, Write};
use crate::behind::shared::{Submitted, Terms};
use crate::behind::{IdempotencyKey, Request};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// For how long it is certain that a request is remembered, if it was not refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Memory {
    /// Until this process ends.
    ThisLife,
    /// Over restarts: its acknowledgement has survived one.
    Lasting,
    /// It may have ended with a process.
    Unsure,
}

/// The request of the write with this index.
pub(super) fn request(index: usize, key: &Bytes, operation: &Operation) -> Request {
    let name = IdempotencyKey::new(&format!("request-{index}")).expect("a key");
    Request::new(&name, key, operation, &[])
}

impl Known {
    /// Whether what was acknowledged is there after the process has ended.
    pub(super) fn survives(&self, is_power_loss: bool) -> bool {
        let survives = match self.ack {
            Ack::Fsync => true,
            Ack::Os => !is_power_loss,
            Ack::Memory => false,
        };
        self.is_acknowledged && survives
    }
}

impl World {
    /// A request comes again, and another one of its name.
    pub(super) fn repeat(&mut self, which: u16) {
        let at = usize::from(which) % self.known.len().max(1);
        let Some((&number, known)) = self.known.iter().nth(at) else { return };
        if known.is_refused || known.memory == Memory::Unsure {
            return;
        }
        let is_unanswered = known.reply.is_some();
        let submit = |request| {
            let terms = Terms { version: None, is_held: false, ack: known.ack, request: Some(request) };
            self.shared.submit(0, known.key.clone(), known.operation.clone(), terms)
        };
        let before = self.standing();
        match submit(known.request) {
            Ok(Submitted::Before { number: of, is_at_work }) => {
                assert_eq!((of, is_at_work), (number, is_unanswered), "of which write, and is it at work");
            }
            Ok(Submitted::Taken(taken)) => panic!("{number} was taken again, as {}", taken.number),
            Err(error) => panic!("{number}: {error}"),
        }
        let other = Request { content: known.request.content ^ 1, ..known.request };
        let refused = submit(other).err();
        let is_named = matches!(&refused, Some(WriteError::KeyReused { id }) if id.number == number);
        assert!(is_named, "{number}: {refused:?}");
        assert_eq!(self.standing(), before, "a repetition has changed something");
    }

    /// What was acknowledged and survives is remembered from now on, and so is what is found in the file.
    pub(super) fn remember_what_is_sure(&mut self, waiting: &[Write], is_power_loss: bool) {
        let waiting: BTreeSet<u64> = waiting.iter().map(|write| write.id.number).collect();
        for (number, known) in &mut self.known {
            let is_sure = known.memory == Memory::Lasting
                || (known.memory == Memory::ThisLife && known.survives(is_power_loss))
                || waiting.contains(number);
            known.memory = if is_sure { Memory::Lasting } else { Memory::Unsure };
        }
    }

    /// All that a write could change.
    fn standing(&self) -> Standing {
        let state = self.shared.state.lock();
        let queue = &state.queues[0];
        Standing {
            next: state.next,
            incoming: state.incoming.len(),
            bytes: queue.bytes(),
            waiting: queue.waiting(0, usize::MAX),
            dead: queue.dead_letters(0, usize::MAX),
            origin: self.origin.clone(),
        }
    }
}

#[derive(PartialEq, Debug)]
struct Standing {
    next: u64,
    incoming: usize,
    bytes: usize,
    waiting: Vec<Write>,
    dead: Vec<DeadLetter>,
    origin: BTreeMap<Bytes, (u64, u64, Operation)>,
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2_000, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn a_history_with_repetitions_comes_to_what_it_comes_to_without(
        steps in prop::collection::vec(step(), 1..80)
    ) {
        let (mut with, mut without) = (World::new(), World::new());
        for step in &steps {
            with.run(step);
            if !matches!(step, Step::Repeat(_)) {
                without.run(step);
            }
            assert_eq!(with.standing(), without.standing(), "after {step:?}");
        }
        with.end();
        without.end();
        assert_eq!(with.standing(), without.standing());
    }
}
