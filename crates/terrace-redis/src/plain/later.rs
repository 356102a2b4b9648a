//! Which delayed invalidations are due?
//!
//! They are noted as with scripts: a sorted set, whose scores are the server's time when one is due.
//!
//! 1. One is due no earlier than was asked for, counted from when it was asked for.
//! 2. Who takes some makes them due again later, unless somebody else has changed the set since it was read.

use super::PlainRedis;
use super::exclusive::{Guarded, Judged};
use super::numbers::{score, time};
use super::steps::exactly;
use crate::commands::{CLAIM_MICROS, DELAY_MAX_MICROS, DELAYED_MAX, DUE_MAX, named};
use crate::error::unexpected;
use crate::link::text;
use crate::replies;
use redis::Value;
use std::time::Duration;
use terrace_core::remote::{Delayed, Due};
use terrace_core::{Namespace, RemoteError};

/// How often is looked again where somebody else has taken some meanwhile.
const ROUNDS_MAX: u32 = 4;
/// When to look again after that.
const AGAIN: Duration = Duration::from_millis(50);

impl PlainRedis {
    pub(super) async fn note(
        &self,
        namespace: &Namespace,
        invalidations: &[Delayed],
        after: Duration,
    ) -> Result<(), RemoteError> {
        if invalidations.is_empty() {
            return Ok(());
        }
        let name = self.names().delayed(namespace);
        let read = self.read(vec![redis::cmd("TIME"), named("ZCARD", &name)]).await?;
        let [now, noted] = exactly(read)?;
        if replies::count(&noted)? + invalidations.len() as u64 > u64::from(DELAYED_MAX) {
            let reason = format!("{DELAYED_MAX} delayed invalidations are noted, and no more can be");
            return Err(RemoteError::Refused { reason });
        }
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX).min(DELAY_MAX_MICROS);
        let due = time(&now)?.0 + micros;
        let mut note = named("ZADD", &name);
        for invalidation in invalidations {
            note.arg(due).arg(invalidation.to_string());
        }
        self.make_one(vec![note]).await.map(drop)
    }

    pub(super) async fn take_due(&self, namespace: &Namespace) -> Result<Due, RemoteError> {
        let name = self.names().delayed(namespace);
        let mut first = named("ZRANGE", &name);
        first.arg(0).arg(DUE_MAX - 1).arg("WITHSCORES");
        for _ in 0..ROUNDS_MAX {
            let judge = |read: Vec<Value>, _| {
                let [now, noted] = exactly(read)?;
                let (now, noted) = (time(&now)?.0, scored(noted)?);
                let due: Vec<_> = noted.iter().filter(|(_, due)| *due <= now).collect();
                if due.is_empty() {
                    let next = noted.first().map(|(_, due)| Duration::from_micros(due - now));
                    return Ok(Judged::Leave(Due { now: Vec::new(), next }));
                }
                let mut claim = named("ZADD", &name);
                for (invalidation, _) in &due {
                    claim.arg(now + CLAIM_MICROS).arg(invalidation);
                }
                let now = due.iter().filter_map(|(text, _)| Delayed::parse(text)).collect();
                Ok(Judged::Change(vec![claim], Due { now, next: None }))
            };
            let reads = [redis::cmd("TIME"), first.clone()];
            match self.guarded(None, std::slice::from_ref(&name), &reads, judge).await? {
                Guarded::Left(due) | Guarded::Changed(due, _) => return Ok(due),
                Guarded::Overtaken => {}
            }
        }
        Ok(Due { now: Vec::new(), next: Some(AGAIN) })
    }

    pub(super) async fn forget(
        &self,
        namespace: &Namespace,
        invalidations: &[Delayed],
    ) -> Result<(), RemoteError> {
        if invalidations.is_empty() {
            return Ok(());
        }
        self.make_one(vec![self.0.commands.done(namespace, invalidations)]).await.map(drop)
    }
}

/// Members and their scores, in either form that servers have for them.
fn scored(reply: Value) -> Result<Vec<(String, u64)>, RemoteError> {
    let Value::Array(all) = reply else { return Err(unexpected("members and scores", &reply)) };
    let flat: Vec<Value> = all
        .into_iter()
        .flat_map(|member| match member {
            Value::Array(pair) => pair,
            other => vec![other],
        })
        .collect();
    let pair = |pair: &[Value]| match pair {
        [member, due] => {
            let member = text(member).ok_or_else(|| unexpected("an invalidation", member))?;
            Ok((member.to_owned(), score(due)?))
        }
        odd => Err(unexpected("a member and its score", &odd)),
    };
    flat.chunks(2).map(pair).collect()
}
