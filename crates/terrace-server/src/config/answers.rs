//! What of the answers of an API counts besides the document, as a keyspace's source says.
//!
//! 1. Nothing, unless it is said: an API that says that its answers are not to be kept would be asked for each read.
//! 2. A database says none of it, so there it is refused, also where it is said to be as it is without a word.

use super::OriginConfig;
use super::check::Checker;
use super::report::Refusal;
use super::units::Flag;
use serde::Serialize;
use toml::Spanned;

/// Who says how long what is loaded is fresh.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceFreshness {
    /// The keyspace, by its TTL.
    Keyspace,
    /// The answer of the API, within the keyspace's TTL.
    Answer,
}

impl SourceFreshness {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    pub(super) fn is_keyspace(&self) -> bool {
        *self == Self::Keyspace
    }
}

const FRESHNESS: [(&str, SourceFreshness); 2] =
    [("keyspace", SourceFreshness::Keyspace), ("answer", SourceFreshness::Answer)];

/// Who can say how long what is loaded is fresh.
pub(super) fn freshness_words() -> Vec<&'static str> {
    FRESHNESS.iter().map(|(word, _)| *word).collect()
}

/// What a source says of answers.
pub(super) struct Answers {
    pub(super) freshness: SourceFreshness,
    pub(super) conditional: bool,
}

impl Checker<'_> {
    /// What counts of the answers of an origin; `None` is one that is not there, or is refused itself.
    pub(super) fn answers(
        &mut self,
        origin: Option<&OriginConfig>,
        freshness: Option<Spanned<String>>,
        conditional: Option<Spanned<Flag>>,
    ) -> Answers {
        let kind = match origin {
            None | Some(OriginConfig::Http(_)) => None,
            Some(OriginConfig::Sqlite(_)) => Some("sqlite"),
            Some(OriginConfig::Postgres(_)) => Some("postgres"),
        };
        if let Some((freshness, kind)) = freshness.as_ref().zip(kind) {
            let title = format!("an origin of type `{kind}` does not say how long a value is fresh");
            let help = "leave `freshness` out: the keyspace's `ttl` says it; `answer` is for an origin of type `http`";
            self.refuse(&Refusal::new(freshness.span(), title).help(help));
        }
        if let Some((conditional, kind)) = conditional.as_ref().zip(kind) {
            let title = format!("an origin of type `{kind}` does not say whether an old value still holds");
            let help = "leave `conditional` out: it is for an origin of type `http`";
            self.refuse(&Refusal::new(conditional.span(), title).help(help));
        }
        Answers {
            freshness: self.word(freshness, "freshness", &FRESHNESS, SourceFreshness::Keyspace),
            conditional: conditional.is_some_and(|flag| flag.get_ref().0),
        }
    }
}
