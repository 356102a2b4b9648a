//! What is a call to an origin, with its types taken away?
//!
//! 1. The origin's own error is kept behind an [`OriginFailure`], and its meaning in the kind of the [`Error`].
//! 2. Every call is timed, where the keyspace is known ([`timed`]): what is measured is the origin's own future, or what it measures itself.
//! 3. An origin that answers with another number of answers than it was asked for has answered nothing.

use super::{Origin, OriginAnswer, OriginWrite, WriteFailure};
use crate::error::{Error, ErrorKind, OriginFailure};
use crate::keyspace::Fetched;
use crate::telemetry::{Call, OriginTimer, SpaceCounters, timed_many, timed_one};
use std::marker::PhantomData;
use std::sync::Arc;
use terrace_core::remote::BoxFuture;

/// An origin whose own type, and whose error's, are not known any more.
pub(crate) trait Bound<K, V>: Send + Sync {
    /// Loads one value, in place of the old one, if there is one.
    fn load(&self, key: K, old: Option<Arc<V>>) -> BoxFuture<'static, Result<Fetched<V>, Error>>;

    fn load_many(&self, keys: Vec<K>) -> BoxFuture<'static, Vec<Result<Fetched<V>, Error>>>;

    /// Whether anything can be loaded from it.
    fn can_load(&self) -> bool;

    /// Whether `load_many` is one call of the origin.
    fn loads_together(&self) -> bool;

    /// Whether it times its calls itself.
    fn time_by(&self, timer: &OriginTimer) -> bool;

    /// Makes one change.
    fn write(&self, write: OriginWrite<K, V>) -> BoxFuture<'static, Answered>;

    /// Makes many.
    fn write_many(&self, writes: Vec<OriginWrite<K, V>>) -> BoxFuture<'static, Vec<Answered>>;
}

/// What an origin said of a change, with its error made typeless.
pub(crate) type Answered = OriginAnswer<OriginFailure>;

/// Why an origin did not make a change, with its error made typeless.
pub(crate) type NotWritten = WriteFailure<OriginFailure>;

impl NotWritten {
    /// Whether the origin may have the write all the same.
    pub(crate) fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }
}

impl From<NotWritten> for Error {
    fn from(failure: NotWritten) -> Self {
        match failure {
            WriteFailure::Unsupported => ErrorKind::StoreUnsupported,
            WriteFailure::Failed(error)
            | WriteFailure::Refused(error)
            | WriteFailure::Unavailable(error)
            | WriteFailure::LeftAlone { error, .. }
            | WriteFailure::Unknown(error) => ErrorKind::Store(error),
        }
        .into()
    }
}

struct Binding<K, V, O> {
    origin: Arc<O>,
    types: PhantomData<fn(K) -> V>,
}

/// Takes the type of an origin away.
pub(crate) fn bind<K, V, O>(origin: O) -> Arc<dyn Bound<K, V>>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
    O: Origin<K, V>,
{
    Arc::new(Binding { origin: Arc::new(origin), types: PhantomData })
}

impl<K, V, O> Bound<K, V> for Binding<K, V, O>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
    O: Origin<K, V>,
{
    fn load(&self, key: K, old: Option<Arc<V>>) -> BoxFuture<'static, Result<Fetched<V>, Error>> {
        let origin = Arc::clone(&self.origin);
        Box::pin(async move {
            let fetched = match &old {
                Some(old) => origin.fetch_again(&key, old).await,
                None => origin.fetch(&key).await,
            };
            fetched.map_err(|error| not_loaded(&*origin, error))
        })
    }

    fn load_many(&self, keys: Vec<K>) -> BoxFuture<'static, Vec<Result<Fetched<V>, Error>>> {
        let origin = Arc::clone(&self.origin);
        Box::pin(async move {
            let answers = origin.fetch_many(&keys).await;
            answers.into_iter().map(|answer| answer.map_err(|error| not_loaded(&*origin, error))).collect()
        })
    }

    fn can_load(&self) -> bool {
        self.origin.can_load()
    }

    fn loads_together(&self) -> bool {
        self.origin.loads_together()
    }

    fn time_by(&self, timer: &OriginTimer) -> bool {
        self.origin.time_by(timer)
    }

    fn write(&self, write: OriginWrite<K, V>) -> BoxFuture<'static, Answered> {
        let origin = Arc::clone(&self.origin);
        Box::pin(async move { origin.write(&write).await.map_failure(not_written) })
    }

    fn write_many(&self, writes: Vec<OriginWrite<K, V>>) -> BoxFuture<'static, Vec<Answered>> {
        let origin = Arc::clone(&self.origin);
        Box::pin(async move {
            let answers = origin.write_many(&writes).await;
            if answers.len() == writes.len() {
                return answers.into_iter().map(|answer| answer.map_failure(not_written)).collect();
            }
            let reason = format!("the origin gave {} answers for {} writes", answers.len(), writes.len());
            let unknown = || Err(WriteFailure::Unknown(OriginFailure::new(reason.clone())));
            let mut none: Vec<Answered> = writes.iter().map(|_| unknown().into()).collect();
            // Whichever change of them it was that made these untrue, they are.
            let invalidates = answers.into_iter().flat_map(|answer| answer.invalidates);
            if let Some(first) = none.first_mut() {
                first.invalidates = invalidates.collect();
            }
            none
        })
    }
}

/// An origin whose calls are timed as those of a keyspace.
struct Timed<K, V> {
    origin: Arc<dyn Bound<K, V>>,
    counters: Arc<SpaceCounters>,
}

/// The same origin, whose calls are timed as those of a keyspace.
pub(crate) fn timed<K, V>(origin: Arc<dyn Bound<K, V>>, counters: &Arc<SpaceCounters>) -> Arc<dyn Bound<K, V>>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    if origin.time_by(&OriginTimer::new(counters)) {
        return origin;
    }
    Arc::new(Timed { origin, counters: Arc::clone(counters) })
}

impl<K, V> Bound<K, V> for Timed<K, V>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn load(&self, key: K, old: Option<Arc<V>>) -> BoxFuture<'static, Result<Fetched<V>, Error>> {
        Box::pin(timed_one(&self.counters, Call::Load, self.origin.load(key, old)))
    }

    fn load_many(&self, keys: Vec<K>) -> BoxFuture<'static, Vec<Result<Fetched<V>, Error>>> {
        Box::pin(timed_many(&self.counters, Call::LoadMany, self.origin.load_many(keys)))
    }

    fn can_load(&self) -> bool {
        self.origin.can_load()
    }

    fn loads_together(&self) -> bool {
        self.origin.loads_together()
    }

    /// It is timed here.
    fn time_by(&self, _: &OriginTimer) -> bool {
        true
    }

    fn write(&self, write: OriginWrite<K, V>) -> BoxFuture<'static, Answered> {
        let call = if write.value.is_some() { Call::Store } else { Call::Delete };
        Box::pin(timed_one(&self.counters, call, self.origin.write(write)))
    }

    fn write_many(&self, writes: Vec<OriginWrite<K, V>>) -> BoxFuture<'static, Vec<Answered>> {
        let deletes = writes.iter().all(|write| write.value.is_none());
        let call = if deletes { Call::Delete } else { Call::Store };
        Box::pin(timed_many(&self.counters, call, self.origin.write_many(writes)))
    }
}

fn not_loaded<K: Send + Sync, V: Send + Sync, O: Origin<K, V>>(origin: &O, error: O::Error) -> Error {
    ErrorKind::Load(OriginFailure::by(origin.fault_of(&error), error)).into()
}

fn not_written<E: std::fmt::Display + Send + Sync + 'static>(failure: WriteFailure<E>) -> NotWritten {
    match failure {
        WriteFailure::Unsupported => WriteFailure::Unsupported,
        WriteFailure::Failed(error) => WriteFailure::Failed(OriginFailure::new(error)),
        WriteFailure::Refused(error) => WriteFailure::Refused(OriginFailure::new(error)),
        WriteFailure::Unavailable(error) => WriteFailure::Unavailable(OriginFailure::new(error)),
        WriteFailure::LeftAlone { error, again } => {
            WriteFailure::LeftAlone { error: OriginFailure::new(error), again }
        }
        WriteFailure::Unknown(error) => WriteFailure::Unknown(OriginFailure::new(error)),
    }
}
