//! Which keys of a batch are loaded in one call?
//!
//! Each key that a batch leads has a *seat*. A seat is taken when the key is to be loaded, and given up when it is not: another
//! node has brought the value meanwhile. When all seats are decided the loader is called, with the keys of those that are taken.
//!
//! 1. Who waits for another node's lease holds up the others for [`WAIT_MAX`] at most: then those who are there are loaded, and
//!    who comes later is loaded with whom else comes later.
//! 2. The call takes one place where loads are bounded ([`crate::bulkhead`]), for all of its keys; a load of one key by itself has
//!    one already.
//! 3. The call runs in a task of its own, within the keyspace's `load_timeout`. Its panic, its timeout, and an answer that is not one
//!    for each key, are the failure of every key that it was for.

use super::{Loaded, Loading, begin_loading};
use crate::error::{Error, ErrorKind};
use crate::keyspace::Fetched;
use crate::runtime::{Runtime, panic_message, sleep, within};
use crate::space::View;
use crate::sync::Mutex;
use crate::telemetry::spans;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::remote::BoxFuture;
use tokio::sync::oneshot;
use tracing::Instrument;

/// How long the first seat that is taken waits for the others to be decided.
const WAIT_MAX: Duration = Duration::from_millis(25);

/// What the loader brings for a key.
type Answer<V> = Result<Fetched<V>, Error>;
/// A loader of many keys.
pub(crate) type LoadMany<K, V> = Arc<dyn Fn(Vec<K>) -> BoxFuture<'static, Vec<Answer<V>>> + Send + Sync>;

/// The seats of one batch.
struct Together<K, V> {
    view: View,
    load: LoadMany<K, V>,
    takes_place: bool,
    state: Mutex<State<K, V>>,
}

struct State<K, V> {
    undecided: usize,
    taken: Vec<(K, oneshot::Sender<Answer<V>>)>,
    is_awaited: bool,
}

/// The place of one key. Dropped, it is given up.
pub(crate) struct Seat<K: Send + 'static, V: Send + 'static> {
    together: Arc<Together<K, V>>,
    key: Option<K>,
}

/// A seat for each of these keys, of a batch that takes a place by itself or not.
pub(crate) fn seats<K: Send + 'static, V: Send + 'static>(
    view: &View,
    load: &LoadMany<K, V>,
    keys: Vec<K>,
    takes_place: bool,
) -> Vec<Seat<K, V>> {
    let state = State { undecided: keys.len(), taken: Vec::new(), is_awaited: false };
    let (view, load, state) = (view.clone(), Arc::clone(load), Mutex::new(state));
    let together = Arc::new(Together { view, load, takes_place, state });
    keys.into_iter().map(|key| Seat { together: Arc::clone(&together), key: Some(key) }).collect()
}

impl<K: Send + 'static, V: Send + 'static> Seat<K, V> {
    /// Loads the key, with whomever else is there.
    pub(crate) async fn load(mut self) -> Answer<V> {
        let Some(key) = self.key.take() else { return Err(ErrorKind::Closed.into()) };
        let (answer, answered) = oneshot::channel();
        self.together.decide(Some((key, answer)));
        // Who is not answered had no runtime left, or was given up with the cache.
        answered.await.unwrap_or_else(|_| Err(ErrorKind::Closed.into()))
    }
}

impl<K: Send + 'static, V: Send + 'static> Drop for Seat<K, V> {
    fn drop(&mut self) {
        if self.key.take().is_some() {
            self.together.decide(None);
        }
    }
}

impl<K: Send + 'static, V: Send + 'static> Together<K, V> {
    /// One more seat is decided.
    fn decide(self: &Arc<Self>, taken: Option<(K, oneshot::Sender<Answer<V>>)>) {
        let mut state = self.state.lock();
        state.undecided -= 1;
        state.taken.extend(taken);
        if state.taken.is_empty() {
            return;
        }
        if state.undecided == 0 {
            let taken = std::mem::take(&mut state.taken);
            drop(state);
            self.call(taken);
        } else if !std::mem::replace(&mut state.is_awaited, true) {
            drop(state);
            let together = Arc::clone(self);
            self.view.shared.runtime.spawn_part(async move {
                sleep(WAIT_MAX).await;
                let mut state = together.state.lock();
                state.is_awaited = false;
                let taken = std::mem::take(&mut state.taken);
                drop(state);
                together.call(taken);
            });
        }
    }

    /// Loads these keys, as a part of the flights that have them: a shutdown waits for it. Where no task can be started, they are not
    /// answered, which is a failure too.
    fn call(&self, taken: Vec<(K, oneshot::Sender<Answer<V>>)>) {
        let runtime = &self.view.shared.runtime;
        if taken.is_empty() || !Runtime::is_inside() {
            return;
        }
        let (keys, answers): (Vec<K>, Vec<_>) = taken.into_iter().unzip();
        let (load, limit) = (Arc::clone(&self.load), self.view.space.rules().load_timeout);
        let taking = self.takes_place.then(|| self.view.clone());
        let count = keys.len();
        let span = spans::load_many(&self.view.space.namespace, count);
        let calling = async move {
            let place = match &taking {
                Some(view) => view.place_for_batch().await.map(Some),
                None => Ok(None),
            };
            let _place = match place {
                Ok(place) => place,
                Err(error) => return tell(answers, failed(count, error.kind())),
            };
            let loading = AssertUnwindSafe(async { load(keys).await }).catch_unwind();
            let loaded = match within(limit, loading).await {
                None => failed(count, &ErrorKind::LoadTimedOut { after: limit }),
                Some(Err(panic)) => {
                    failed(count, &ErrorKind::LoadPanicked { message: panic_message(&*panic).into() })
                }
                Some(Ok(loaded)) if loaded.len() != count => {
                    let got = loaded.len();
                    failed(count, &ErrorKind::LoadMiscounted { asked: count, got })
                }
                Some(Ok(loaded)) => loaded,
            };
            tell(answers, loaded);
        };
        runtime.spawn_part(calling.instrument(span));
    }
}

fn tell<V>(answers: Vec<oneshot::Sender<Answer<V>>>, loaded: Vec<Answer<V>>) {
    for (answer, loaded) in answers.into_iter().zip(loaded) {
        let _gone_or_told = answer.send(loaded);
    }
}

fn failed<V>(count: usize, kind: &ErrorKind) -> Vec<Answer<V>> {
    (0..count).map(|_| Err(kind.clone().into())).collect()
}

/// A load of which `entry` says what is kept, of what a seat brings.
pub(crate) fn loading_of<K, V>(
    seat: Seat<K, V>,
    entry: impl FnOnce(Fetched<V>) -> Result<Option<Loaded>, Error> + Send + 'static,
) -> Loading
where
    K: Send + 'static,
    V: Send + 'static,
{
    begin_loading(move || Box::new(move |_| Box::pin(async move { entry(seat.load().await?) })))
}
