//! How are many values loaded, where a source has a statement for that?
//!
//! 1. One statement loads up to [`AT_ONCE_MAX`] keys. What it brings is what single loads would bring: the database itself compares
//!    its rows with the keys that it was given, so `01` finds row 1 where they are numbers.
//! 2. A key that the database cannot read fails the whole statement. The keys are halved then, until it is alone: it fails no other. After
//!    [`REFUSALS_MAX`] such statements the rest is loaded one by one, because halving many would take longer.
//! 3. Where the statement itself does not do, keys are loaded one by one: it was refused, has a row for none of the keys, or more rows
//!    than keys can have. That an origin is unreachable, or late, or has no place free, is the failure of all that it was asked for; asking for
//!    each would make it worse.
//! 4. A batch has one place where loads are bounded. More than one call at a time is made in places that are free
//!    ([`Loader::places`]), never more than [`STATEMENTS_AT_ONCE`] statements or [`ONE_BY_ONE`] keys.
//! 5. The library's `load_timeout` is for a batch, however many statements it takes; each of these has the origin's own time limit.

use super::error::OriginError;
use super::loader::{Answer, Loader};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use std::sync::atomic::{AtomicU32, Ordering};
use terrace::Key;

/// Keys of one statement.
pub(super) const AT_ONCE_MAX: usize = 256;
/// Statements of one batch that run at the same time.
const STATEMENTS_AT_ONCE: usize = 4;
/// Keys that are loaded at the same time where that is done one by one.
const ONE_BY_ONE: usize = 8;
/// Statements that may fail for a key that cannot be read, of those for one batch.
const REFUSALS_MAX: u32 = 8;

/// Loads many values, an answer for each key in their order.
pub(super) async fn load(loader: &Loader, keys: &[Key]) -> Vec<Answer> {
    let refusals = AtomicU32::new(0);
    let most = keys.len().div_ceil(AT_ONCE_MAX).min(STATEMENTS_AT_ONCE).min(loader.statements_at_once());
    let places = loader.places(most);
    let statements: Vec<_> =
        keys.chunks(AT_ONCE_MAX).map(|keys| load_some(loader, keys, &refusals)).collect();
    let answers: Vec<Vec<Answer>> = stream::iter(statements).buffered(places.count()).collect().await;
    answers.into_iter().flatten().collect()
}

fn load_some<'a>(loader: &'a Loader, keys: &'a [Key], refusals: &'a AtomicU32) -> BoxFuture<'a, Vec<Answer>> {
    async move {
        let may_halve = refusals.load(Ordering::Relaxed) < REFUSALS_MAX;
        let loaded = if keys.len() > 1 && may_halve { loader.load_at_once(keys).await } else { None };
        match loaded {
            Some(Ok(answers)) if answers.len() == keys.len() => answers,
            Some(Err(OriginError::Key { .. })) => {
                refusals.fetch_add(1, Ordering::Relaxed);
                let (first, second) = keys.split_at(keys.len() / 2);
                let mut answers = load_some(loader, first, refusals).await;
                answers.extend(load_some(loader, second, refusals).await);
                answers
            }
            Some(Err(error)) if error.is_of_any_call() => keys.iter().map(|_| Err(error.clone())).collect(),
            failed => {
                if let Some(Err(error)) = failed {
                    tracing::warn!(%error, "`load_many` failed, so its keys are loaded one by one");
                }
                let places = loader.places(keys.len().min(ONE_BY_ONE));
                let each: Vec<_> = keys.iter().map(|key| loader.load_one(key)).collect();
                stream::iter(each).buffered(places.count()).collect().await
            }
        }
    }
    .boxed()
}
