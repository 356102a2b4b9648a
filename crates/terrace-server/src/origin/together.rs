//! How are many values loaded, where a source has a statement for that?
//!
//! 1. One statement loads up to [`AT_ONCE_MAX`] keys. What it brings is what single loads would bring: the database itself compares
//!    its rows with the keys that it was given, so `01` finds row 1 where they are numbers.
//! 2. A key that the database cannot read fails the whole statement. The keys are halved then, until it is alone: it fails no other. After
//!    [`REFUSALS_MAX`] such statements the rest is loaded one by one, because halving many would take longer.
//! 3. Where the statement itself does not do, keys are loaded one by one: it was refused, or has a row for none of the keys. That an
//!    origin is unreachable, or late, or has no place free, is the failure of all that it was asked for; asking for each would make it worse.

use super::error::OriginError;
use super::loader::{Answer, Loader};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use terrace::Key;

/// Keys of one statement.
const AT_ONCE_MAX: usize = 256;
/// Keys that are loaded at the same time where that is done one by one.
const ONE_BY_ONE: usize = 8;
/// Statements that may fail for a key that cannot be read, of those for one batch.
const REFUSALS_MAX: u32 = 8;

/// Loads many values, an answer for each key in their order.
pub(super) async fn load(loader: &Loader, keys: &[Key]) -> Vec<Answer> {
    let (mut answers, mut refusals) = (Vec::with_capacity(keys.len()), 0);
    for keys in keys.chunks(AT_ONCE_MAX) {
        answers.extend(load_some(loader, keys, &mut refusals).await);
    }
    answers
}

fn load_some<'a>(loader: &'a Loader, keys: &'a [Key], refusals: &'a mut u32) -> BoxFuture<'a, Vec<Answer>> {
    async move {
        let loaded =
            if keys.len() > 1 && *refusals < REFUSALS_MAX { loader.load_at_once(keys).await } else { None };
        match loaded {
            Some(Ok(answers)) if answers.len() == keys.len() => answers,
            Some(Err(OriginError::Key { .. })) => {
                *refusals += 1;
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
                let each: Vec<_> = keys.iter().map(|key| loader.load_one(key)).collect();
                stream::iter(each).buffered(ONE_BY_ONE).collect().await
            }
        }
    }
    .boxed()
}
