//! How much is kept of what was heard and not told yet?
//!
//! The client library reads from a connection on its own and hands everything on at once, so somebody has to say when
//! it is too much. All connections of a listener share one queue.
//!
//! 1. At most [`BYTES_MAX`] are kept, counted with what it costs to keep them. Who is to take more is told the reason.
//! 2. What was taken is given out in its order, also after the end of the connection.
//! 3. Of what the server says was touched, all names of values are taken, and of others none: of the names that a change of
//!    ours touches three in four are other ones. What cannot be read counts as everything.

use redis::{PushInfo, PushKind, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc::{UnboundedReceiver, WeakUnboundedSender, unbounded_channel};

/// Most bytes that are kept: half of what a server keeps by default for a listener that is too slow.
pub(super) const BYTES_MAX: usize = 16 << 20;
/// What keeping a message costs besides its bytes, about.
const OVERHEAD: usize = 96;
/// What keeping a name costs besides its bytes, about.
const OVERHEAD_NAME: usize = 40;

/// What the server sends unasked, as far as it matters here.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Push {
    /// Something was published.
    Published { channel: Vec<u8>, message: Vec<u8> },
    /// The values with these names were touched.
    Touched(Vec<Vec<u8>>),
    /// Every value may have been: the server was flushed.
    AllTouched,
    /// Not the server's: all that it sent before it answered the question behind a beat has been taken.
    Settled { primary: usize, beat: u64 },
}

impl Push {
    /// What the server sends unasked may also be the confirmation of a subscription, or what a later server thinks of.
    fn read(push: PushInfo, is_value: impl Fn(&[u8]) -> bool) -> Option<Self> {
        let mut data = push.data.into_iter();
        match (push.kind, data.next(), data.next()) {
            (
                PushKind::Message | PushKind::SMessage,
                Some(Value::BulkString(channel)),
                Some(Value::BulkString(message)),
            ) => Some(Self::Published { channel, message }),
            (PushKind::Invalidate, Some(Value::Array(names)), None) => Self::touched(names, is_value),
            (PushKind::Invalidate, ..) => Some(Self::AllTouched),
            _ => None,
        }
    }

    fn touched(names: Vec<Value>, is_value: impl Fn(&[u8]) -> bool) -> Option<Self> {
        let mut kept = Vec::new();
        for name in names {
            match name {
                Value::BulkString(name) if is_value(&name) => kept.push(name),
                Value::BulkString(_) => {}
                _ => return Some(Self::AllTouched),
            }
        }
        (!kept.is_empty()).then_some(Self::Touched(kept))
    }

    fn weight(&self) -> usize {
        match self {
            Self::Published { channel, message } => OVERHEAD + channel.len() + message.len(),
            Self::Touched(names) => {
                OVERHEAD + names.iter().map(|name| OVERHEAD_NAME + name.len()).sum::<usize>()
            }
            Self::AllTouched | Self::Settled { .. } => OVERHEAD,
        }
    }
}

/// The end that gives out.
pub(super) struct Queue {
    pushed: UnboundedReceiver<Push>,
    /// Weak, so that the end is seen when whoever reads from the connections is gone.
    sender: WeakUnboundedSender<Push>,
    held: Arc<AtomicUsize>,
}

impl Queue {
    /// A queue, and the end that takes. `is_value` tells whether a name is one of a value.
    pub(super) fn new(
        bytes_max: usize,
        is_value: impl Fn(&[u8]) -> bool + Clone + Send + Sync + 'static,
    ) -> (Self, impl Fn(PushInfo) -> Result<(), &'static str> + Clone + Send + Sync + 'static) {
        let (sender, pushed) = unbounded_channel();
        let (own, held) = (sender.downgrade(), Arc::new(AtomicUsize::new(0)));
        let taken = Arc::clone(&held);
        let take = move |push| {
            let Some(push) = Push::read(push, &is_value) else { return Ok(()) };
            let weight = push.weight();
            if taken.fetch_add(weight, Ordering::Relaxed) + weight > bytes_max {
                return Err("what is published is not heard fast enough");
            }
            // Nobody listens any more if it fails, and then nobody misses anything.
            sender.send(push).ok();
            Ok(())
        };
        (Self { pushed, sender: own, held }, take)
    }

    /// Puts something behind all that was taken by now.
    pub(super) fn put(&self, push: Push) {
        if let Some(sender) = self.sender.upgrade() {
            self.held.fetch_add(push.weight(), Ordering::Relaxed);
            sender.send(push).ok();
        }
    }

    /// Takes no more.
    pub(super) fn close(&mut self) {
        self.pushed.close();
    }

    /// What came next; none if nothing will ever come. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Option<Push> {
        let push = self.pushed.recv().await?;
        self.held.fetch_sub(push.weight(), Ordering::Relaxed);
        Some(push)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn push(kind: PushKind, message: &str) -> PushInfo {
        let text = |text: &str| Value::BulkString(text.into());
        PushInfo { kind, data: vec![text("channel"), text(message)] }
    }

    fn queue_of(bytes_max: usize) -> (Queue, impl Fn(PushInfo) -> Result<(), &'static str>) {
        Queue::new(bytes_max, |name| name.starts_with(b"d:"))
    }

    /// What is taken of what a server says on the wire.
    fn taken(wire: &str) -> Option<Push> {
        let value = redis::parse_redis_value(wire.as_bytes()).expect("it is RESP");
        let Value::Push { kind, data } = value else { panic!("it is no push: {value:?}") };
        let (mut queue, take) = queue_of(BYTES_MAX);
        take(PushInfo { kind, data }).expect("there is room");
        queue.next().now_or_never().flatten()
    }

    #[test]
    fn every_name_that_was_touched_is_taken() {
        let names = |names: &[&str]| Some(Push::Touched(names.iter().map(|name| (*name).into()).collect()));
        let head = ">2\r\n$10\r\ninvalidate\r\n";
        for (rest, expected) in [
            ("*1\r\n$3\r\nd:a\r\n", names(&["d:a"])),
            ("*4\r\n$3\r\nd:a\r\n$1\r\ns\r\n$3\r\nd:b\r\n$4\r\nd:\r\n\r\n", names(&["d:a", "d:b", "d:\r\n"])),
            ("*2\r\n$1\r\ns\r\n$3\r\nlog\r\n", None),
            ("*0\r\n", None),
            ("_\r\n", Some(Push::AllTouched)),
            ("$-1\r\n", Some(Push::AllTouched)),
            ("$3\r\nd:a\r\n", Some(Push::AllTouched)),
            ("*2\r\n$3\r\nd:a\r\n_\r\n", Some(Push::AllTouched)),
        ] {
            assert_eq!(taken(&format!("{head}{rest}")), expected, "{rest:?}");
        }
        assert_eq!(taken(">1\r\n$10\r\ninvalidate\r\n"), Some(Push::AllTouched));
        assert_eq!(taken(">3\r\n$10\r\ninvalidate\r\n*0\r\n*0\r\n"), Some(Push::AllTouched));
    }

    #[test]
    fn names_take_room() {
        let touched = |names: &[&str]| {
            let names = names.iter().map(|name| Value::BulkString((*name).into())).collect();
            PushInfo { kind: PushKind::Invalidate, data: vec![Value::Array(names)] }
        };
        let (mut queue, take) = queue_of(OVERHEAD + 2 * (OVERHEAD_NAME + 3));
        take(touched(&["s", "log", "l:a"])).expect("it is passed over");
        take(touched(&["d:a", "s", "d:b"])).expect("there is room");
        take(touched(&["d:c"])).expect_err("there is none");
        assert!(queue.next().now_or_never().flatten().is_some());
        assert_eq!(queue.held.load(Ordering::Relaxed), OVERHEAD + OVERHEAD_NAME + 3, "what was refused");
    }

    fn next(queue: &mut Queue) -> Option<String> {
        let push = queue.next().now_or_never().flatten()?;
        let Push::Published { channel, message } = push else { panic!("it was not published: {push:?}") };
        assert_eq!(channel, b"channel");
        Some(String::from_utf8(message).expect("text"))
    }

    #[test]
    fn too_much_is_refused_and_room_is_made_by_taking() {
        let weight = OVERHEAD + "channel".len() + "a".len();
        let (mut queue, take) = queue_of(2 * weight);
        for message in ["a", "b"] {
            take(push(PushKind::Message, message)).expect("there is room");
        }
        assert_eq!(next(&mut queue).as_deref(), Some("a"));
        take(push(PushKind::Message, "c")).expect("there is room again");
        take(push(PushKind::Message, "d")).expect_err("there is none");
        assert_eq!([next(&mut queue), next(&mut queue)], [Some("b".to_owned()), Some("c".to_owned())]);
        assert_eq!(next(&mut queue), None);
    }

    #[test]
    fn what_is_no_message_takes_no_room() {
        let (mut queue, take) = queue_of(0);
        take(push(PushKind::Subscribe, "a")).expect("it is passed over");
        take(PushInfo { kind: PushKind::Message, data: vec![] }).expect("it is passed over");
        assert_eq!(next(&mut queue), None);
    }

    #[test]
    fn what_was_taken_is_given_out_after_the_end() {
        let (mut queue, take) = queue_of(BYTES_MAX);
        take(push(PushKind::Message, "a")).expect("there is room");
        queue.close();
        take(push(PushKind::Message, "b")).expect("nobody cares");
        assert_eq!(next(&mut queue).as_deref(), Some("a"));
        assert!(queue.next().now_or_never().expect("it has ended").is_none());
    }
}
