//! How is loaded what the tiers lack of a batch?

use crate::error::ErrorKind;
use crate::keyspace::Tagging;
use crate::read::together::{LoadMany, loading_of, seats};
use crate::read::{Loading, Loads, begin_loading};
use crate::space::View;
use std::any::Any;
use std::sync::Arc;

/// Each key by itself, as the function says for its place in the batch.
pub(super) struct OneByOne<F> {
    pub(super) loading: F,
    /// Where each load asks the origin, and so needs a place where such are bounded.
    pub(super) bounded: Option<View>,
}

impl<F: Fn(usize) -> Loading + Send + Sync> Loads for OneByOne<F> {
    fn together(&self, places: &[usize]) -> Vec<Loading> {
        let loading = |&at: &usize| match self.bounded.clone() {
            None => self.alone(at),
            Some(view) => in_place(view, self.alone(at)),
        };
        places.iter().map(loading).collect()
    }

    fn alone(&self, place: usize) -> Loading {
        begin_loading(|| (self.loading)(place))
    }
}

/// A load that waits for a place.
fn in_place(view: View, loading: Loading) -> Loading {
    Box::new(move |old| {
        let running = loading(old);
        Box::pin(async move {
            let _place = view.place_for_batch().await?;
            running.await
        })
    })
}

/// All in one call.
pub(super) struct InOneCall<'a, K, V> {
    pub(super) view: &'a View,
    pub(super) tagging: Arc<Tagging<K, V>>,
    pub(super) keys: Vec<K>,
    pub(super) load: LoadMany<K, V>,
}

impl<K, V> Loads for InOneCall<'_, K, V>
where
    K: Clone + Send + Sync + 'static,
    V: Any + Send + Sync,
{
    fn together(&self, places: &[usize]) -> Vec<Loading> {
        self.loadings(places, true)
    }

    fn alone(&self, place: usize) -> Loading {
        let alone = self.loadings(&[place], false).pop();
        alone.unwrap_or_else(|| Box::new(|_| Box::pin(async { Err(ErrorKind::Closed.into()) })))
    }
}

impl<K, V> InOneCall<'_, K, V>
where
    K: Clone + Send + Sync + 'static,
    V: Any + Send + Sync,
{
    fn loadings(&self, places: &[usize], takes_place: bool) -> Vec<Loading> {
        let keys: Vec<K> = places.iter().map(|&at| self.keys[at].clone()).collect();
        let seats = seats(self.view, &self.load, keys.clone(), takes_place);
        let loading = |(seat, key): (_, K)| {
            let tagging = Arc::clone(&self.tagging);
            loading_of(seat, move |fetched| tagging.entry(&key, fetched, None))
        };
        seats.into_iter().zip(keys).map(loading).collect()
    }
}
