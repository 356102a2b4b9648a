//! How are many values loaded, where a source has a statement for that?
//!
//! 1. One statement loads up to [`AT_ONCE_MAX`] keys. What it brings is what single loads would bring: the database itself compares
//!    its rows with the keys that it was given, so `01` finds row 1 where they are numbers.
//! 2. A key that the database cannot read fails the whole statement. The keys are halved then, until it is alone: it fails no other. After
//!    [`REFUSALS_MAX`] such statements the rest is loaded one by one, because halving many would take longer.
//! 3. Where the statement itself does not do, keys are loaded one by one: it was refused, has a row for none of the keys, or more rows
//!    than keys can have. That an origin is unreachable, or late, or has no place free, is the failure of all that it was asked for; asking for
//!    each would make it worse.
//! 4. There are never more than [`STATEMENTS_AT_ONCE`] statements of a batch at a time, or eight of its keys that are loaded one by one. Where
//!    they have their places: [`super::room`].
//! 5. The library's `load_timeout` is for a batch, however many statements it takes; each of these has the origin's own time limit.

use super::error::OriginError;
use super::loader::{Answer, Loader};
use super::room::{Given, ONE_BY_ONE, Turns};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use std::sync::atomic::{AtomicU32, Ordering};
use terrace::Key;

/// Keys of one statement.
pub(super) const AT_ONCE_MAX: usize = 256;
/// Statements of one batch that run at the same time.
const STATEMENTS_AT_ONCE: usize = 4;
/// Statements that may fail for a key that cannot be read, of those for one batch.
const REFUSALS_MAX: u32 = 8;

/// Loads many values, an answer for each key in their order.
pub(super) async fn load(loader: &Loader, keys: &[Key]) -> Vec<Answer> {
    let course = Course { loader, refusals: AtomicU32::new(0), turns: Turns::new(&loader.room) };
    let most = keys.len().div_ceil(AT_ONCE_MAX).min(STATEMENTS_AT_ONCE).min(loader.statements_at_once());
    let places = loader.room.places(most);
    let statements: Vec<_> = keys.chunks(AT_ONCE_MAX).map(|keys| course.load_some(keys)).collect();
    let answers: Vec<Vec<Answer>> = stream::iter(statements).buffered(places.count()).collect().await;
    answers.into_iter().flatten().collect()
}

/// One batch.
struct Course<'a> {
    loader: &'a Loader,
    /// Statements that failed for a key that cannot be read.
    refusals: AtomicU32,
    turns: Turns<'a>,
}

impl Course<'_> {
    /// Loads keys by one statement, or as it turns out. The statement has a place.
    fn load_some<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Vec<Answer>> {
        async move {
            let may_halve = self.refusals.load(Ordering::Relaxed) < REFUSALS_MAX;
            let loaded =
                if keys.len() > 1 && may_halve { self.loader.load_at_once(keys).await } else { None };
            match loaded {
                Some(Ok(answers)) if answers.len() == keys.len() => answers,
                Some(Err(OriginError::Key { .. })) => {
                    self.refusals.fetch_add(1, Ordering::Relaxed);
                    let (first, second) = keys.split_at(keys.len() / 2);
                    let mut answers = self.load_some(first).await;
                    answers.extend(self.load_some(second).await);
                    answers
                }
                Some(Err(error)) if error.is_of_any_call() => {
                    keys.iter().map(|_| Err(error.clone())).collect()
                }
                failed => {
                    if let Some(Err(error)) = failed {
                        tracing::warn!(%error, "`load_many` failed, so its keys are loaded one by one");
                    }
                    self.load_each(keys).await
                }
            }
        }
        .boxed()
    }

    /// Loads keys one by one.
    async fn load_each(&self, keys: &[Key]) -> Vec<Answer> {
        let given = &Given::new();
        let load = |key| async move {
            let _turn = self.turns.turn(given).await;
            self.loader.load_one(key, None).await
        };
        let each: Vec<_> = keys.iter().map(load).collect();
        stream::iter(each).buffered(ONE_BY_ONE).collect().await
    }
}
