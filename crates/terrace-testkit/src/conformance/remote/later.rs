//! Invalidations that are to come.

use super::Bench;
use crate::wait::until_some;
use std::time::Duration;
use terrace_core::Tag;
use terrace_core::remote::{Delayed, Due, Named, SweepRule};

impl Bench<'_> {
    async fn due(&self) -> Due {
        self.remote.due(&self.namespace).await.expect("it succeeds")
    }

    async fn delay(&self, invalidations: &[Delayed], after: Duration) {
        self.remote.delay(&self.namespace, invalidations, after).await.expect("it succeeds");
    }
}

pub(super) async fn what_is_delayed_is_due_once_and_again_for_others(bench: Bench<'_>) {
    assert_eq!(bench.due().await, Due::default());
    let of = |id, named| Delayed { id, named };
    let soon = [
        of(1, Named::Key(Bench::key("a key"))),
        of(2, Named::Tag(Tag::new("tag").expect("valid"))),
        of(3, Named::Rule(SweepRule::All)),
    ];
    let late = of(4, Named::Key(Bench::key("late")));
    bench.delay(std::slice::from_ref(&late), Duration::from_hours(1)).await;
    let next = bench.due().await.next.expect("one is noted");
    assert!((Duration::from_mins(59)..=Duration::from_hours(1)).contains(&next), "{next:?}");
    bench.delay(&soon, Duration::ZERO).await;
    let due = until_some("they are due", async || {
        let due = bench.due().await;
        (!due.now.is_empty()).then_some(due.now)
    })
    .await;
    assert_eq!(due, soon);
    let next = bench.due().await;
    assert_eq!(next.now, [], "they were taken");
    assert!(
        next.next.is_some_and(|next| next <= Duration::from_secs(30)),
        "until half a minute is over: {next:?}"
    );
    bench.remote.done(&bench.namespace, &due).await.expect("it succeeds");
    assert!(bench.due().await.next.is_some_and(|next| next > Duration::from_mins(1)), "one is left");
    bench.remote.done(&bench.namespace, std::slice::from_ref(&late)).await.expect("it succeeds");
    bench.remote.done(&bench.namespace, &[]).await.expect("nothing is done");
    bench.delay(&[], Duration::ZERO).await;
    assert_eq!(bench.due().await, Due::default());
}
