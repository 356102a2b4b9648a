//! What a source asks its origin with: a statement, or a request. Which of the two, the type of the origin decides, when the
//! configuration is read.

use super::endpoint::Endpoint;
use super::sql::Statement;
use serde::Serialize;

/// A statement of a database, or a request to an API.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Ask {
    /// Of an origin of type `sqlite` or `postgres`.
    Sql(Statement),
    /// Of an origin of type `http`.
    Http(Endpoint),
}

impl Ask {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Sql(statement) => statement.as_str(),
            Self::Http(endpoint) => endpoint.as_str(),
        }
    }

    /// The names of its parameters.
    pub fn names(&self) -> &[String] {
        match self {
            Self::Sql(statement) => statement.names(),
            Self::Http(endpoint) => endpoint.names(),
        }
    }

    pub(super) fn statement(&self) -> Option<&Statement> {
        match self {
            Self::Sql(statement) => Some(statement),
            Self::Http(_) => None,
        }
    }

    pub(super) fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            Self::Sql(_) => None,
            Self::Http(endpoint) => Some(endpoint),
        }
    }
}
