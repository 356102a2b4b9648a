//! What the examples of databases have in common: tables as origins, and a worked set of keyspaces over them.
//!
//! | module | shows |
//! |---|---|
//! | [`table`] | an [`Origin`](terrace::Origin) for one table of a database, whatever its keys are |
//! | [`patterns`] | several keyspaces, each with its keys, its TTL and its strategy |
//! | [`tour`] | what each of them does |

#![forbid(unsafe_code)]

pub mod patterns;
pub mod table;
pub mod tour;

/// What goes wrong in an example.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
