//! What can go wrong, for programs: each code with its status, its word and its title.

use axum::http::StatusCode;

/// What went wrong, for programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Code {
    MalformedRequest,
    Unauthorized,
    Forbidden,
    RateLimited,
    KeyEmpty,
    KeyTooLong,
    KeyCharacter,
    KeyEncoding,
    KeyRefused,
    KeyMismatch,
    KeyNotFound,
    NotCached,
    HeaderInvalid,
    VersionMismatch,
    ConditionUnsupported,
    MediaUnsupported,
    QueryInvalid,
    BodyMalformed,
    BodyInvalid,
    BodyTooLarge,
    BodyTimeout,
    ValueTooLarge,
    ValueInvalid,
    RouteNotFound,
    MethodNotAllowed,
    UriTooLong,
    HeadTooLarge,
    Overloaded,
    Timeout,
    ShuttingDown,
    OriginUnavailable,
    OriginTimeout,
    OriginNotUnique,
    OriginFailed,
    OriginOverloaded,
    OriginLeftAlone,
    OriginBusy,
    OriginRefused,
    WriteUnknown,
    DeleteUnsupported,
    LoadUnsupported,
    JournalFull,
    JournalFailed,
    NotWrittenBehind,
    WriteNotFound,
    IdempotencyKeyReused,
    DeadLetterNotFound,
    DeadLetterOvertaken,
    L2Refused,
    L2Unavailable,
    CursorLost,
    ListingUnavailable,
    Internal,
}

impl Code {
    pub(crate) const ALL: [Self; 53] = [
        Self::MalformedRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::RateLimited,
        Self::KeyEmpty,
        Self::KeyTooLong,
        Self::KeyCharacter,
        Self::KeyEncoding,
        Self::KeyRefused,
        Self::KeyMismatch,
        Self::KeyNotFound,
        Self::NotCached,
        Self::HeaderInvalid,
        Self::VersionMismatch,
        Self::ConditionUnsupported,
        Self::MediaUnsupported,
        Self::QueryInvalid,
        Self::BodyMalformed,
        Self::BodyInvalid,
        Self::BodyTooLarge,
        Self::BodyTimeout,
        Self::ValueTooLarge,
        Self::ValueInvalid,
        Self::RouteNotFound,
        Self::MethodNotAllowed,
        Self::UriTooLong,
        Self::HeadTooLarge,
        Self::Overloaded,
        Self::Timeout,
        Self::ShuttingDown,
        Self::OriginUnavailable,
        Self::OriginTimeout,
        Self::OriginNotUnique,
        Self::OriginFailed,
        Self::OriginOverloaded,
        Self::OriginLeftAlone,
        Self::OriginBusy,
        Self::OriginRefused,
        Self::WriteUnknown,
        Self::DeleteUnsupported,
        Self::LoadUnsupported,
        Self::JournalFull,
        Self::JournalFailed,
        Self::NotWrittenBehind,
        Self::WriteNotFound,
        Self::IdempotencyKeyReused,
        Self::DeadLetterNotFound,
        Self::DeadLetterOvertaken,
        Self::L2Refused,
        Self::L2Unavailable,
        Self::CursorLost,
        Self::ListingUnavailable,
        Self::Internal,
    ];

    /// The status, the word and the title of each code.
    const fn facts(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::MalformedRequest => (400, "malformed_request", "The request is not HTTP"),
            Self::Unauthorized => (401, "unauthorized", "There is no token, or nobody has it"),
            Self::Forbidden => (403, "forbidden", "The token is not for this"),
            Self::RateLimited => (429, "rate_limited", "More is asked for than may be"),
            Self::KeyEmpty => (400, "key_empty", "The key is empty"),
            Self::KeyTooLong => (400, "key_too_long", "The key is too long"),
            Self::KeyCharacter => (400, "key_character", "The key has a character that is not allowed"),
            Self::KeyEncoding => (400, "key_encoding", "The key is not UTF-8"),
            Self::KeyRefused => (400, "key_refused", "The origin cannot have such a key"),
            Self::KeyMismatch => (422, "key_mismatch", "The key in the body is not the key of the path"),
            Self::KeyNotFound => (404, "key_not_found", "There is no value for this key"),
            Self::NotCached => (504, "not_cached", "No tier has a value, and the origin was not to be asked"),
            Self::HeaderInvalid => (400, "header_invalid", "A header does not have the expected form"),
            Self::VersionMismatch => {
                (412, "version_mismatch", "What is there is not what the request wants to be there")
            }
            Self::ConditionUnsupported => {
                (501, "condition_unsupported", "This keyspace cannot be changed on a condition")
            }
            Self::MediaUnsupported => (415, "media_unsupported", "This keyspace takes nothing but JSON"),
            Self::QueryInvalid => (422, "query_invalid", "The query does not have the expected form"),
            Self::BodyMalformed => (400, "body_malformed", "The body is malformed, or broke off"),
            Self::BodyInvalid => (422, "body_invalid", "The body does not have the expected form"),
            Self::BodyTooLarge => (413, "body_too_large", "The body is too large"),
            Self::BodyTimeout => (408, "body_timeout", "The body took too long to arrive"),
            Self::ValueTooLarge => (413, "value_too_large", "The value is too large"),
            Self::ValueInvalid => (422, "value_invalid", "The value cannot be kept"),
            Self::RouteNotFound => (404, "route_not_found", "There is nothing at this path"),
            Self::MethodNotAllowed => (405, "method_not_allowed", "This path does not know this method"),
            Self::UriTooLong => (414, "uri_too_long", "The path is too long"),
            Self::HeadTooLarge => (431, "head_too_large", "The headers are too large"),
            Self::Overloaded => (503, "overloaded", "The service has too much to do"),
            Self::Timeout => (504, "timeout", "The request took too long"),
            Self::ShuttingDown => (503, "shutting_down", "The service is shutting down"),
            Self::WriteUnknown => (504, "write_unknown", "Nobody knows whether the write was made"),
            Self::DeleteUnsupported => {
                (405, "delete_unsupported", "The keyspace has no statement that removes from its origin")
            }
            Self::JournalFull => (503, "journal_full", "There is no room for another write"),
            Self::JournalFailed => (503, "journal_failed", "The journal takes no writes any more"),
            Self::NotWrittenBehind => {
                (404, "not_written_behind", "There is no such keyspace that is written behind")
            }
            Self::WriteNotFound => {
                (404, "write_not_found", "This instance has given out no such id of a write")
            }
            Self::IdempotencyKeyReused => {
                (422, "idempotency_key_reused", "The idempotency key was given to another request")
            }
            Self::DeadLetterNotFound => (404, "dead_letter_not_found", "There is no such dead letter"),
            Self::DeadLetterOvertaken => {
                (409, "dead_letter_overtaken", "A newer write of the key was acknowledged since")
            }
            Self::L2Unavailable => {
                (503, "l2_unavailable", "The shared cache does not answer, and there is no answer without it")
            }
            Self::L2Refused => (502, "l2_refused", "The shared cache refused the change"),
            Self::CursorLost => (410, "cursor_lost", "The listing cannot go on from there"),
            Self::ListingUnavailable => {
                (503, "listing_unavailable", "The shared cache cannot say which keys it holds")
            }
            Self::Internal => (500, "internal", "Something is wrong with the service"),
            _ => self.facts_of_origins(),
        }
    }

    const fn facts_of_origins(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::OriginUnavailable => (502, "origin_unavailable", "The origin cannot be reached"),
            Self::OriginTimeout => (504, "origin_timeout", "The origin took too long"),
            Self::OriginNotUnique => {
                (502, "origin_not_unique", "The origin has more than one value for this key")
            }
            Self::OriginLeftAlone => {
                (503, "origin_left_alone", "The origin failed too often, and is not asked")
            }
            Self::OriginBusy => (503, "origin_busy", "The origin answers that it cannot do this now"),
            Self::OriginOverloaded => {
                (503, "origin_overloaded", "As many loads from the origin are at work as may be")
            }
            Self::LoadUnsupported => (422, "load_unsupported", "The keyspace loads nothing from its origin"),
            Self::OriginRefused => (422, "origin_refused", "The origin does not take this write"),
            _ => (502, "origin_failed", "The origin failed"),
        }
    }

    pub(crate) fn status(self) -> StatusCode {
        StatusCode::from_u16(self.facts().0).expect("each is a status")
    }

    pub(crate) const fn word(self) -> &'static str {
        self.facts().1
    }

    pub(crate) const fn title(self) -> &'static str {
        self.facts().2
    }

    /// Seconds after which to try again, where that makes sense.
    pub(super) const fn retry_after(self) -> Option<u32> {
        match self {
            Self::RateLimited
            | Self::Overloaded
            | Self::ShuttingDown
            | Self::OriginOverloaded
            | Self::JournalFull
            | Self::L2Unavailable
            | Self::ListingUnavailable => Some(1),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_code_has_a_word_of_its_own() {
        let words: HashSet<&str> = Code::ALL.into_iter().map(Code::word).collect();
        assert_eq!(words.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(code.status().is_client_error() || code.status().is_server_error(), "{code:?}");
            assert!(code.word().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
        }
    }
}
