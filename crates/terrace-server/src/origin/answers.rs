//! What of an answer to a load counts besides the document: how long it holds, and by what the API tells whether it still does.
//!
//! 1. Each only where its keyspace's source says so.
//! 2. An answer grows old from when it was asked for: how long it was on its way is off its TTL, which is never longer than the keyspace's.
//! 3. That an old value still holds counts only if that was asked, of this value. It is an answer like another: what it says of times counts,
//!    and where it says nothing, what was said of the value before; what it says of groups takes the place of the old tags.
//! 4. Of what is not to be kept, nothing is.

use super::freshness;
use super::validators::{Known, Validator, Validators};
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use std::time::{Duration, SystemTime};
use terrace::codec::JsonText;
use terrace::{Fetched, Key, Ttl};

/// What counts of the answers to loads of one keyspace.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// The TTL that none goes beyond which says how long it holds; `None` if that does not count.
    ttl_max: Option<Ttl>,
    /// `None` if nothing is asked on a condition.
    validators: Option<Validators>,
}

impl Answers {
    pub(super) fn new(ttl_max: Option<Ttl>, is_conditional: bool) -> Self {
        Self { ttl_max, validators: is_conditional.then(Validators::default) }
    }

    /// What is asked of a key, of which there is this value.
    pub(super) fn asking<'a>(&'a self, key: &'a Key, old: Option<&'a JsonText>) -> Asked<'a> {
        let known = |old| Some((old, self.validators.as_ref()?.of(key, old)?));
        Asked { answers: self, key, old: old.and_then(known) }
    }

    fn lifetime(&self, headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
        self.ttl_max.and_then(|_| freshness::lifetime(headers, now))
    }
}

/// One load.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    answers: &'a Answers,
    key: &'a Key,
    /// The old value that is asked about.
    old: Option<(&'a JsonText, Known)>,
}

/// What the headers of an answer say.
#[derive(Debug)]
pub(super) struct Said {
    ttl_max: Option<Ttl>,
    lifetime: Option<Duration>,
    age: Duration,
    validator: Option<Validator>,
}

impl Asked<'_> {
    /// The headers that ask on a condition.
    pub(super) fn condition(&self) -> HeaderMap {
        let condition = self.old.as_ref().and_then(|(_, known)| known.validator.condition());
        condition.into_iter().collect()
    }

    /// What an answer says that came at this time.
    pub(super) fn said(&self, headers: &HeaderMap, now: SystemTime) -> Said {
        Said {
            ttl_max: self.answers.ttl_max,
            lifetime: self.answers.lifetime(headers, now),
            age: freshness::age(headers),
            validator: self.answers.validators.as_ref().and_then(|_| Validator::of(headers)),
        }
    }

    /// The value that an answer says still holds; `None` if it is no such answer.
    pub(super) fn unchanged(&self, status: StatusCode) -> Option<&JsonText> {
        let (old, _) = self.old.as_ref().filter(|_| status == StatusCode::NOT_MODIFIED)?;
        Some(old)
    }

    /// Notes that the old value still holds, as an answer says; why it does not count, if it does not.
    pub(super) fn note_unchanged(&self, headers: &HeaderMap, said: &mut Said) -> Result<(), String> {
        let (Some((old, known)), Some(validators)) = (&self.old, &self.answers.validators) else {
            return Ok(());
        };
        if known.validator.is_denied_by(headers) {
            validators.forget(self.key);
            return Err(
                "it answered 304 Not Modified, for another entity tag than it was asked about".to_owned()
            );
        }
        said.lifetime = said.lifetime.or(known.lifetime);
        said.validator = Some(known.validator.clone());
        self.note(old, said);
        Ok(())
    }

    /// Notes by what the API tells whether a value still holds.
    pub(super) fn note(&self, value: &JsonText, said: &Said) {
        let Some(validators) = &self.answers.validators else { return };
        match &said.validator {
            Some(validator) if said.lifetime != Some(Duration::ZERO) => {
                validators.keep(self.key, value, validator.clone(), said.lifetime);
            }
            _ => validators.forget(self.key),
        }
    }
}

impl Said {
    /// What is loaded, with the TTL that it has if it was asked for so long ago.
    pub(super) fn of(&self, fetched: Fetched<JsonText>, elapsed: Duration) -> Fetched<JsonText> {
        let Some((lifetime, most)) = self.lifetime.zip(self.ttl_max) else { return fetched };
        fetched.ttl(Ttl::After(lifetime).without(self.age.saturating_add(elapsed)).min(most))
    }
}
