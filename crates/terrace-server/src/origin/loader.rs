//! What one keyspace asks of its origin: a key in, a document out; a document in, and whether the origin has it.
//!
//! 1. A statement gets its values beside it: captures of the key, the document as one text, the version of a write that is
//!    written behind, the tenant whose key it is. A request gets captures and the tenant in its path, and the rest as its body and
//!    headers; one that has a place for a tenant is not made for nobody's.
//! 2. A batch goes to the origin a few writes at a time. When it is in trouble, or half of the time for the batch is over, the rest is
//!    not asked for, and says so: what was not tried counts as no attempt.
//! 3. Loads and writes each ask the breaker that is theirs, and tell it what they came to: one for a key by that key, so that one at which
//!    the origin always fails is not taken for an origin that does.
//! 4. Each of its calls is timed for itself: a statement for many keys, or one write of a batch ([`super::under_way`]).
//! 5. The words of a database go to the log, here. What leaves is [`Told`], whose words are for anybody.

use super::answers::Answers;
use super::endpoint::Endpoint;
use super::error::{OriginError, Told, told, why};
use super::http::Http;
use super::room::Room;
use super::under_way::{Kind, UnderWay};
use super::{Answered, Database, Guards, Written, together};
use crate::config::{DOCUMENT, TENANT, VERSION};
use crate::template::{Captures, Template};
use futures_util::future::join_all;
use reqwest::RequestBuilder;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use terrace::behind::WriteId;
use terrace::codec::JsonText;
use terrace::{
    Clock, Fault, Fetched, Key, Origin, OriginAnswer, OriginBreaker, OriginTimer, OriginWrite, WriteFailure,
};

/// A statement as the database wants it, and the names of its parameters by number.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub(super) text: Arc<str>,
    pub(super) names: Vec<String>,
}

/// A value that goes beside a statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Parameter {
    Text(String),
    Number(u64),
    /// One text for each key of a batch.
    List(Vec<String>),
    Nothing,
}

/// A statement that loads many, and the part of the key of which it is given a list.
#[derive(Clone, Debug)]
pub(super) struct Many {
    pub(super) statement: Prepared,
    pub(super) part: String,
}

/// Statements of a database.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) database: Arc<Database>,
    /// None where values are only written.
    pub(super) load: Option<Prepared>,
    pub(super) load_many: Option<Many>,
    /// The column that is the whole document.
    pub(super) document: Option<Arc<str>>,
    pub(super) store: Option<Prepared>,
    pub(super) delete: Option<Prepared>,
}

/// Requests to an API.
#[derive(Debug)]
pub(super) struct Requests {
    pub(super) origin: Arc<str>,
    pub(super) api: Arc<Http>,
    /// None where values are only written.
    pub(super) load: Option<Endpoint>,
    pub(super) store: Option<Endpoint>,
    pub(super) delete: Option<Endpoint>,
    pub(super) answers: Answers,
}

/// What a keyspace asks with.
#[derive(Debug)]
pub(super) enum Asking {
    Sql(Statements),
    Http(Requests),
}

/// What a database has for one key.
pub(super) type Found = Result<Option<JsonText>, OriginError>;

/// What came of the load of one key.
pub(super) type Answer = Result<Fetched<JsonText>, OriginError>;

/// What a write says.
#[derive(Clone, Copy)]
struct Change<'a> {
    /// `None` to remove.
    value: Option<&'a JsonText>,
    fence: Option<(WriteId, u64)>,
}

impl Statements {
    /// The values of a statement's parameters.
    fn parameters(statement: &Prepared, captures: &Captures<'_>, change: Change<'_>) -> Vec<Parameter> {
        let of = |name: &String| match (captures.get(name), name.as_str()) {
            (Some(text), _) => Some(Parameter::Text(text.to_owned())),
            (None, DOCUMENT) => change.value.map(|value| Parameter::Text(value.as_str().to_owned())),
            (None, TENANT) => Some(Parameter::Nothing),
            (None, VERSION) => change.fence.map(|(_, version)| Parameter::Number(version)),
            (None, _) => None,
        };
        statement.names.iter().filter_map(of).collect()
    }

    async fn load(&self, load: &Prepared, captures: &Captures<'_>) -> Result<Option<JsonText>, OriginError> {
        let nothing = Change { value: None, fence: None };
        let values = Self::parameters(load, captures, nothing);
        self.database.load(&load.text, values, self.document.as_ref()).await
    }

    /// Loads many values in one call: an answer for each key, or the failure of all.
    async fn load_many(&self, many: &Many, keys: &[Captures<'_>]) -> Result<Vec<Found>, OriginError> {
        let of = |name: &String| match keys.first().and_then(|first| first.get(name)) {
            _ if *name == many.part => {
                Parameter::List(keys.iter().map(|key| key.get(name).unwrap_or_default().to_owned()).collect())
            }
            Some(text) => Parameter::Text(text.to_owned()),
            None => Parameter::Nothing,
        };
        let values = many.statement.names.iter().map(of).collect();
        self.database.load_many(&many.statement.text, values, self.document.as_ref(), keys.len()).await
    }

    /// The statement that makes a change.
    fn to_write(&self, change: Change<'_>) -> Result<&Prepared, WriteFailure<OriginError>> {
        let statement = if change.value.is_some() { &self.store } else { &self.delete };
        statement.as_ref().ok_or(WriteFailure::Unsupported)
    }

    async fn write(&self, statement: &Prepared, captures: &Captures<'_>, change: Change<'_>) -> Written {
        self.database.write(&statement.text, Self::parameters(statement, captures, change)).await
    }
}

impl Requests {
    /// What a request's path is filled with; `None` if it is for tenants, and nobody's asks.
    fn values<'a>(endpoint: &Endpoint, captures: &'a Captures<'_>) -> Option<Vec<&'a str>> {
        endpoint.names().iter().map(|name| captures.get(name)).collect()
    }

    /// The request for a value, and what it is made with; `None` if there is none to make.
    fn to_load(&self, captures: &Captures<'_>) -> Result<Option<(&Endpoint, RequestBuilder)>, OriginError> {
        let Some(endpoint) = &self.load else { return Ok(None) };
        let values = Self::values(endpoint, captures);
        values.map(|values| Ok((endpoint, self.api.request(endpoint, &values)?))).transpose()
    }

    /// The request for a change, and what it is made with.
    fn to_write(
        &self,
        captures: &Captures<'_>,
        change: Change<'_>,
    ) -> Result<(&Endpoint, RequestBuilder), WriteFailure<OriginError>> {
        let endpoint = if change.value.is_some() { &self.store } else { &self.delete };
        let Some(endpoint) = endpoint else { return Err(WriteFailure::Unsupported) };
        let Some(values) = Self::values(endpoint, captures) else {
            return Err(WriteFailure::Refused(OriginError::Key {
                origin: Arc::clone(&self.origin),
                reason: "only a tenant can write it".to_owned(),
            }));
        };
        let request = self.api.request(endpoint, &values).map_err(WriteFailure::Refused)?;
        Ok((endpoint, request))
    }
}

impl Asking {
    /// How many writes of a batch are under way at the same time.
    fn writes_at_once(&self) -> usize {
        match self {
            Self::Sql(statements) => statements.database.writes_at_once(),
            Self::Http(requests) => requests.api.writes_at_once(),
        }
    }
}

/// Loads the values of one keyspace, and writes them.
#[derive(Debug)]
pub(crate) struct Loader {
    pub(super) origin: Arc<str>,
    /// Whose keys these are.
    pub(super) tenant: Option<Arc<str>>,
    pub(super) pattern: Template,
    pub(super) asking: Asking,
    /// Whether the origin is asked at all.
    pub(super) guards: Guards,
    /// Where the loads of a batch have their places.
    pub(super) room: Room,
    /// How long a batch may take before the rest of it is left.
    pub(super) batch_time: Duration,
    /// What times its calls, once it is bound to its keyspace.
    pub(super) timer: OnceLock<OriginTimer>,
}

impl Loader {
    /// The parts of a key, and whose it is; `None` if it is not of the keyspace's pattern.
    fn captures<'a>(&'a self, key: &'a Key) -> Option<Captures<'a>> {
        let captures = self.pattern.captures(key.as_str())?;
        Some(match &self.tenant {
            Some(tenant) => captures.and(TENANT, tenant),
            None => captures,
        })
    }

    /// The statement that loads many, if there is one.
    pub(super) fn many(&self) -> Option<&Many> {
        match &self.asking {
            Asking::Sql(statements) => statements.load_many.as_ref(),
            Asking::Http(_) => None,
        }
    }

    /// How many statements of one batch may run at the same time: some connections are for others.
    pub(super) fn statements_at_once(&self) -> usize {
        match &self.asking {
            Asking::Sql(statements) => (statements.database.loads_at_once() / 2).max(1),
            Asking::Http(_) => 1,
        }
    }

    /// Loads one value, in place of the old one, if there is one.
    pub(super) async fn load_one(&self, key: &Key, old: Option<&JsonText>) -> Answer {
        let Some(captures) = self.captures(key) else { return Ok(Fetched::absent()) };
        match &self.asking {
            Asking::Sql(statements) => {
                let Some(load) = &statements.load else { return Ok(Fetched::absent()) };
                let loaded =
                    self.judged(Some(key), OriginTimer::load, statements.load(load, &captures)).await;
                loaded.map(Fetched::from)
            }
            Asking::Http(requests) => match requests.to_load(&captures)? {
                Some((endpoint, request)) => {
                    let asked = requests.answers.asking(key, old);
                    let loaded = requests.api.load(endpoint, request, &asked);
                    self.judged(Some(key), OriginTimer::load, loaded).await
                }
                None => Ok(Fetched::absent()),
            },
        }
    }

    /// Loads from the origin, if it is not left alone, and notes how it did. What can be said without asking was said before: it would pass
    /// for an answer.
    async fn judged<T>(
        &self,
        key: Option<&Key>,
        kind: Kind,
        asked: impl Future<Output = Result<T, OriginError>>,
    ) -> Result<T, OriginError> {
        let call = self.begin(self.guards.loads.as_ref(), key, kind)?;
        let answer = asked.await;
        call.end(answer.as_ref().err());
        answer
    }

    /// Leave to ask the origin, for one key or for several.
    fn begin(
        &self,
        guard: Option<&OriginBreaker>,
        key: Option<&Key>,
        kind: Kind,
    ) -> Result<UnderWay, OriginError> {
        let begin = |guard: &OriginBreaker| match key {
            Some(key) => guard.begin_for(&(self.tenant.as_deref(), key.as_str())),
            None => guard.begin(),
        };
        let guarded = guard.map(begin).transpose();
        let guarded =
            guarded.map_err(|again| OriginError::LeftAlone { origin: Arc::clone(&self.origin), again })?;
        Ok(UnderWay::begin(guarded, self.timer.get(), kind))
    }

    /// Loads values in one call: an answer for each key, or the failure of all. `None` if there is no such call.
    pub(super) async fn load_at_once(&self, keys: &[Key]) -> Option<Result<Vec<Answer>, OriginError>> {
        let (Asking::Sql(statements), Some(many)) = (&self.asking, self.many()) else { return None };
        let captures: Vec<Captures<'_>> = keys.iter().map(|key| self.captures(key)).collect::<Option<_>>()?;
        let rows = self.judged(None, OriginTimer::load_many, statements.load_many(many, &captures)).await;
        Some(rows.map(|rows| rows.into_iter().map(|row| row.map(Fetched::from)).collect()))
    }

    async fn make(
        &self,
        key: &Key,
        value: Option<&JsonText>,
        fence: Option<(WriteId, u64)>,
    ) -> OriginAnswer<Told> {
        let change = Change { value, fence };
        let answered = match self.captures(key) {
            Some(captures) => {
                let asked = self.write_captured(key, &captures, change).await;
                asked.unwrap_or_else(|not_asked| Err(not_asked).into())
            }
            None => Err(WriteFailure::Refused(OriginError::Key {
                origin: Arc::clone(&self.origin),
                reason: "it is not of the keyspace's pattern".to_owned(),
            }))
            .into(),
        };
        answered.map_failure(|failure| {
            let id = fence.map(|(id, _)| tracing::field::display(id));
            told(failure, |error| {
                if matches!(error, OriginError::LeftAlone { .. }) {
                    tracing::debug!(%error, id, "a write was not made");
                } else {
                    tracing::warn!(%error, id, "a write failed");
                }
            })
        })
    }

    /// Asks for a change of a key of the keyspace; an error if nothing was asked.
    async fn write_captured(
        &self,
        key: &Key,
        captures: &Captures<'_>,
        change: Change<'_>,
    ) -> Result<Answered, WriteFailure<OriginError>> {
        let kind = if change.value.is_some() { OriginTimer::store } else { OriginTimer::delete };
        let begin =
            || self.begin(self.guards.writes.as_ref(), Some(key), kind).map_err(OriginError::not_made);
        let (call, answered) = match &self.asking {
            Asking::Sql(statements) => {
                let statement = statements.to_write(change)?;
                (begin()?, statements.write(statement, captures, change).await.into())
            }
            Asking::Http(requests) => {
                let (endpoint, request) = requests.to_write(captures, change)?;
                (begin()?, requests.api.write(endpoint, request, change.value, change.fence).await)
            }
        };
        call.end(answered.made.as_ref().err().and_then(why));
        Ok(answered.map_failure(|failure| match failure {
            WriteFailure::Unavailable(error) => self.unreached(error),
            failure => failure,
        }))
    }

    fn not_asked(&self) -> WriteFailure<Told> {
        let reason = "writes before this one failed, or took too long".to_owned();
        let origin = Arc::clone(&self.origin);
        self.unreached(Told(OriginError::Unavailable { origin, reason, is_reached: true }))
    }

    /// What a write comes to that did not reach the origin: it waits for the breaker, if that is open by now.
    fn unreached<E>(&self, error: E) -> WriteFailure<E> {
        match self.guards.writes.as_ref().and_then(OriginBreaker::until_asked) {
            Some(again) => WriteFailure::LeftAlone { error, again },
            None => WriteFailure::Unavailable(error),
        }
    }
}

/// A load's failure with words for anybody, after its own words were logged.
fn tell(error: OriginError) -> Told {
    if matches!(error, OriginError::Key { .. } | OriginError::LeftAlone { .. }) {
        tracing::debug!(%error, "nothing was loaded");
    } else {
        tracing::warn!(%error, "a load failed");
    }
    Told(error)
}

impl Origin<Key, JsonText> for Loader {
    type Error = Told;

    async fn load(&self, key: &Key) -> Result<Option<JsonText>, Told> {
        self.fetch(key).await.map(Fetched::into_value)
    }

    async fn fetch(&self, key: &Key) -> Result<Fetched<JsonText>, Told> {
        self.load_one(key, None).await.map_err(tell)
    }

    async fn fetch_again(&self, key: &Key, old: &JsonText) -> Result<Fetched<JsonText>, Told> {
        self.load_one(key, Some(old)).await.map_err(tell)
    }

    async fn fetch_many(&self, keys: &[Key]) -> Vec<Result<Fetched<JsonText>, Told>> {
        let answers = together::load(self, keys).await;
        answers.into_iter().map(|answer| answer.map_err(tell)).collect()
    }

    fn loads_together(&self) -> bool {
        self.many().is_some()
    }

    fn can_load(&self) -> bool {
        match &self.asking {
            Asking::Sql(statements) => statements.load.is_some(),
            Asking::Http(requests) => requests.load.is_some(),
        }
    }

    fn fault_of(&self, error: &Told) -> Fault {
        error.0.fault()
    }

    /// It is of one keyspace.
    fn time_by(&self, timer: &OriginTimer) -> bool {
        self.timer.get_or_init(|| timer.clone());
        true
    }

    async fn store(&self, key: &Key, value: &JsonText) -> Result<(), WriteFailure<Told>> {
        self.make(key, Some(value), None).await.made
    }

    async fn delete(&self, key: &Key) -> Result<(), WriteFailure<Told>> {
        self.make(key, None, None).await.made
    }

    async fn store_many(&self, writes: &[OriginWrite<Key, JsonText>]) -> Vec<Result<(), WriteFailure<Told>>> {
        self.write_many(writes).await.into_iter().map(|answer| answer.made).collect()
    }

    async fn write(&self, write: &OriginWrite<Key, JsonText>) -> OriginAnswer<Told> {
        let fence = write.fence.map(|fence| (fence.id, fence.version));
        self.make(&write.key, write.value.as_deref(), fence).await
    }

    async fn write_many(&self, writes: &[OriginWrite<Key, JsonText>]) -> Vec<OriginAnswer<Told>> {
        let clock = Clock::system();
        let begun = clock.precise();
        let ask = |write: &OriginWrite<Key, JsonText>| {
            let fence = write.fence.map(|fence| (fence.id, fence.version));
            let (key, value) = (write.key.clone(), write.value.clone());
            async move { self.make(&key, value.as_deref(), fence).await }
        };
        let is_late = || clock.precise().since(begun) >= self.batch_time;
        let mut answers = ask_some(writes, self.asking.writes_at_once(), ask, is_late).await;
        answers.resize_with(writes.len(), || Err(self.not_asked()).into());
        answers
    }
}

/// Asks for writes, a few at a time, until the origin is in trouble or it is late. Gives the answers of those that were asked for.
async fn ask_some<T, F, E>(
    writes: &[T],
    at_once: usize,
    ask: impl Fn(&T) -> F,
    is_late: impl Fn() -> bool,
) -> Vec<OriginAnswer<E>>
where
    F: Future<Output = OriginAnswer<E>>,
{
    let mut answers = Vec::with_capacity(writes.len());
    for few in writes.chunks(at_once) {
        let answered = join_all(few.iter().map(&ask)).await;
        let is_in_trouble = answered.iter().any(|answer| {
            use WriteFailure::{LeftAlone, Unavailable, Unknown};
            matches!(answer.made, Err(Unavailable(_) | LeftAlone { .. } | Unknown(_)))
        });
        answers.extend(answered);
        if is_in_trouble || is_late() {
            break;
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::cell::Cell;

    /// How many of ten writes are asked for, three at a time, if the fifth is answered so.
    fn asked(fifth: &WriteFailure<()>, late_after: usize) -> usize {
        let count = Cell::new(0);
        let ask = |&number: &usize| {
            count.set(count.get() + 1);
            std::future::ready(OriginAnswer::from(if number == 5 { Err(fifth.clone()) } else { Ok(()) }))
        };
        let writes: Vec<usize> = (1..=10).collect();
        let answers = ask_some(&writes, 3, ask, || count.get() >= late_after).now_or_never();
        assert_eq!(answers.expect("nothing waits").len(), count.get());
        count.get()
    }

    #[test]
    fn what_says_something_of_the_origin_stops_a_batch_and_what_says_something_of_a_write_does_not() {
        assert_eq!(asked(&WriteFailure::Unavailable(()), 100), 6);
        assert_eq!(asked(&WriteFailure::Unknown(()), 100), 6);
        assert_eq!(asked(&WriteFailure::Failed(()), 100), 10);
        assert_eq!(asked(&WriteFailure::Refused(()), 100), 10);
        assert_eq!(asked(&WriteFailure::Failed(()), 3), 3, "it is late after the first three");
    }
}
