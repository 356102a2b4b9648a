//! Tells readers of breakers that open, are tried and close.
//!
//! 1. Each breaker is listened to once, from when the service starts or another configuration makes it, which are never at the same time. What
//!    comes before the first reader is not kept.
//! 2. They are of the service, and no tenant's: so is the feed.

use super::{Feed, Told};
use crate::origin::Breakers;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, select_all, unfold};
use serde_json::json;
use std::sync::{Arc, PoisonError};
use terrace::{Cache, OriginBreaker, Transition, Transitions};

impl Feed {
    /// Begins to tell of the breaker of L2, if there is one.
    pub(crate) fn watch_l2(self: &Arc<Self>, cache: &Cache) {
        if let Some(transitions) = cache.breaker_transitions() {
            self.follow(of("l2".to_owned(), transitions));
        }
    }

    /// Begins to tell of those of these breakers of which it does not. These are all there are from now on.
    pub(crate) fn watch(self: &Arc<Self>, breakers: &Breakers) {
        let mut told: Vec<BoxStream<'static, Told>> = Vec::new();
        let mut all = Vec::new();
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        for (target, breaker) in breakers.iter().flat_map(|(name, guards)| guards.named(name)) {
            if !watched.iter().any(|known: &OriginBreaker| known.is_same(breaker)) {
                told.push(of(target, breaker.transitions()));
            }
            all.push(breaker.clone());
        }
        *watched = all;
        drop(watched);
        if !told.is_empty() {
            self.follow(select_all(told));
        }
    }
}

/// What is told of a breaker.
fn of(target: String, transitions: Transitions) -> BoxStream<'static, Told> {
    let each = unfold(transitions, async |mut transitions| {
        let transition = transitions.next().await?;
        Some((transition, transitions))
    });
    each.map(move |transition| told(&target, transition)).boxed()
}

fn told(target: &str, transition: Transition) -> Told {
    let at = humantime::format_rfc3339_millis(transition.at).to_string();
    let (state, was) = (transition.to.as_str(), transition.from.as_str());
    let data = json!({ "target": target, "state": state, "was": was, "at": at });
    Told::Service { name: super::BREAKER, data: data.to_string() }
}
