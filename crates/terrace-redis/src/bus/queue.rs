//! How much is kept of what was heard and not told yet?
//!
//! The client library reads from a connection on its own and hands everything on at once, so somebody has to say when
//! it is too much. All connections of a listener share one queue.
//!
//! 1. At most [`BYTES_MAX`] are kept, counted with what it costs to keep them. Who is to take more is told the reason.
//! 2. What was taken is given out in its order, also after the end of the connection.

use redis::{PushInfo, PushKind, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Most bytes that are kept: half of what a server keeps by default for a listener that is too slow.
pub(super) const BYTES_MAX: usize = 16 << 20;
/// What keeping a message costs besides its bytes, about.
const OVERHEAD: usize = 96;

/// Something that was published.
pub(super) struct Published {
    pub(super) channel: Vec<u8>,
    pub(super) message: Vec<u8>,
}

impl Published {
    /// What the server sends unasked may also be the confirmation of a subscription, or what a later server thinks of.
    fn read(push: PushInfo) -> Option<Self> {
        let mut data = push.data.into_iter();
        match (push.kind, data.next(), data.next()) {
            (
                PushKind::Message | PushKind::SMessage,
                Some(Value::BulkString(channel)),
                Some(Value::BulkString(message)),
            ) => Some(Self { channel, message }),
            _ => None,
        }
    }

    fn weight(&self) -> usize {
        OVERHEAD + self.channel.len() + self.message.len()
    }
}

/// The end that gives out.
pub(super) struct Queue {
    published: UnboundedReceiver<Published>,
    held: Arc<AtomicUsize>,
}

impl Queue {
    /// A queue, and the end that takes.
    pub(super) fn new(
        bytes_max: usize,
    ) -> (Self, impl Fn(PushInfo) -> Result<(), &'static str> + Clone + Send + Sync + 'static) {
        let (sender, published) = unbounded_channel();
        let held = Arc::new(AtomicUsize::new(0));
        let taken = Arc::clone(&held);
        let take = move |push| {
            let Some(published) = Published::read(push) else { return Ok(()) };
            let weight = published.weight();
            if taken.fetch_add(weight, Ordering::Relaxed) + weight > bytes_max {
                return Err("what is published is not heard fast enough");
            }
            // Nobody listens any more if it fails, and then nobody misses anything.
            sender.send(published).ok();
            Ok(())
        };
        (Self { published, held }, take)
    }

    /// Takes no more.
    pub(super) fn close(&mut self) {
        self.published.close();
    }

    /// What came next; none if nothing will ever come. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Option<Published> {
        let published = self.published.recv().await?;
        self.held.fetch_sub(published.weight(), Ordering::Relaxed);
        Some(published)
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

    fn next(queue: &mut Queue) -> Option<String> {
        let published = queue.next().now_or_never().flatten()?;
        assert_eq!(published.channel, b"channel");
        Some(String::from_utf8(published.message).expect("text"))
    }

    #[test]
    fn too_much_is_refused_and_room_is_made_by_taking() {
        let weight = OVERHEAD + "channel".len() + "a".len();
        let (mut queue, take) = Queue::new(2 * weight);
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
        let (mut queue, take) = Queue::new(0);
        take(push(PushKind::Subscribe, "a")).expect("it is passed over");
        take(PushInfo { kind: PushKind::Message, data: vec![] }).expect("it is passed over");
        assert_eq!(next(&mut queue), None);
    }

    #[test]
    fn what_was_taken_is_given_out_after_the_end() {
        let (mut queue, take) = Queue::new(BYTES_MAX);
        take(push(PushKind::Message, "a")).expect("there is room");
        queue.close();
        take(push(PushKind::Message, "b")).expect("nobody cares");
        assert_eq!(next(&mut queue).as_deref(), Some("a"));
        assert!(queue.next().now_or_never().expect("it has ended").is_none());
    }
}
