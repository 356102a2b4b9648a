//! Does everything that the configuration names answer?
//!
//! [`check`] asks what [`crate::config::Config::load`] cannot know: whether L2 answers and lets us in, whether each
//! origin does, whether it compiles each statement. It changes nothing.

use crate::config::{Config, KeyspaceConfig, Strategy, VERSION};
use crate::origin::{Ask, OriginError, Origins};
use crate::server::StartError;
use crate::tiers;
use terrace::RemoteError;

/// The words with which Redis refuses because of who asks, and those of its client for an answer without them.
const DENIALS: [&str; 5] = ["NOAUTH", "WRONGPASS", "NOPERM", "DENIED", "authentication failed"];

/// What was asked, and what came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Finding {
    /// What was asked: `l2`, `keyspace.users.source.load`.
    pub what: String,
    /// What is wrong, in a sentence.
    pub result: Result<(), String>,
    /// Whether it is wrong that there was no answer; what was asked may be right.
    pub is_unanswered: bool,
    /// Whether it was answered that this is not for whoever asks: a password or a user is wrong, or may not do what is needed.
    pub is_denied: bool,
    /// What is not as one may think although nothing is wrong: what L2's settings leave open, and what its mode does not promise.
    pub warnings: Vec<String>,
}

/// Asks L2 and every origin, also one that no keyspace uses.
///
/// # Errors
/// [`StartError`] if a setting cannot be that loading the configuration could not judge.
///
/// # Cost
/// One round trip to L2, and one to an origin per statement, or one where there is none.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// use terrace_server::config::{Config, Sources};
///
/// let config = Config::load(&Sources::text(
///     r#"
///     origin.lite = { type = "sqlite", file = "/nowhere/ref.db" }
///     [keyspace.config]
///     pattern = "config:{name}"
///     source = { origin = "lite", load = "select value from config where name = :name" }
///     "#,
/// ))?;
/// let findings = terrace_server::check(&config).await?;
/// assert_eq!(findings[0].what, "keyspace.config.source.load");
/// assert!(findings[0].result.is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub async fn check(config: &Config) -> Result<Vec<Finding>, StartError> {
    let mut findings = Vec::new();
    if config.l2.is_some() {
        let cache = tiers::open(config, None)?.cache;
        let (error, warnings) = match cache.health().await.l2 {
            Some(Err(error)) => (Some(error), Vec::new()),
            Some(Ok(health)) => (None, health.warnings),
            None => (None, Vec::new()),
        };
        let is_denied = error.as_ref().is_some_and(is_denied);
        let is_unanswered = error.is_some() && !is_denied;
        let result = error.map_or(Ok(()), |error| Err(error.to_string()));
        findings.push(Finding { what: "l2".to_owned(), result, is_unanswered, is_denied, warnings });
    }
    findings.extend(journal_folder(config));
    let origins = Origins::start(config)?;
    for (name, keyspace) in &config.keyspaces {
        let Some(source) = &keyspace.source else { continue };
        for (key, result) in origins.check(source).await {
            let what = format!("keyspace.{name}.source.{key}");
            findings.push(Finding { warnings: unfenced(keyspace, key), ..Finding::of_origin(what, result) });
        }
    }
    let sources = || config.keyspaces.values().filter_map(|keyspace| keyspace.source.as_ref());
    for name in config.origins.keys().filter(|name| sources().all(|source| source.origin != **name)) {
        let answer = origins.ping(name).await;
        findings.push(Finding::of_origin(format!("origin.{name}"), answer));
    }
    Ok(findings)
}

impl Finding {
    fn of_origin(what: String, answer: Result<(), OriginError>) -> Self {
        let is_unanswered = answer.as_ref().is_err_and(OriginError::is_unanswered);
        let is_denied = answer.as_ref().is_err_and(OriginError::is_denied);
        let result = answer.map_err(|error| error.to_string());
        Self { what, result, is_unanswered, is_denied, warnings: Vec::new() }
    }
}

/// Whether L2 refused because of who asks. It refuses for want of memory, too, and that passes.
fn is_denied(error: &RemoteError) -> bool {
    let RemoteError::Refused { reason } = error else { return false };
    DENIALS.iter().any(|words| reason.contains(words))
}

/// Whether there is a folder for the journal. The journal itself may be in use by a service that runs, so it is left alone.
fn journal_folder(config: &Config) -> Option<Finding> {
    let path = config.write_behind.path.as_ref().filter(|_| config.write_behind.enabled)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let result = match folder {
        Some(folder) if !folder.is_dir() => Err(format!("there is no folder {}; make it", folder.display())),
        _ => Ok(()),
    };
    let what = "write_behind.path".to_owned();
    Some(Finding { what, result, is_unanswered: false, is_denied: false, warnings: Vec::new() })
}

/// What a statement of a keyspace that is written behind leaves open.
fn unfenced(keyspace: &KeyspaceConfig, key: &str) -> Vec<String> {
    let store = keyspace.source.as_ref().and_then(|source| source.store.as_ref()).filter(|_| key == "store");
    let store = store.filter(|_| keyspace.strategy == Strategy::WriteBehind);
    match store
        .filter(|store| matches!(store, Ask::Sql(_)) && !store.names().iter().any(|name| name == VERSION))
    {
        Some(_) => vec![
            "it does not compare `:version`: a write that arrives twice, or late, can undo a newer one"
                .to_owned(),
        ],
        None => Vec::new(),
    }
}

/// Lets L2 forget the settings that all instances have to share that serve a keyspace; see [`terrace::Cache::forget_settings`].
/// For settings that were changed on purpose, once no instance runs any more that has the old ones.
///
/// # Errors
/// In words, what was wrong: there is no L2, a setting cannot be, or L2 could not be told.
///
/// # Cost
/// One round trip to L2.
pub async fn forget_settings(config: &Config, keyspace: &str) -> Result<(), String> {
    if config.l2.is_none() {
        return Err("no L2 is configured, so there are no settings to forget".to_owned());
    }
    let cache = tiers::open(config, None).map_err(|error| error.to_string())?.cache;
    cache.forget_settings(keyspace).await.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_is_told_from_what_does_not_work() {
        let refused = |reason: &str| is_denied(&RemoteError::Refused { reason: reason.to_owned() });
        for reason in [
            "127.0.0.1:6379: \"WRONGPASS\": invalid username-password pair or user is disabled.",
            "NOAUTH Authentication required.",
            "127.0.0.1:6379: Password authentication failed - AuthenticationFailed",
            "NOPERM this user has no permissions to run the 'get' command",
        ] {
            assert!(refused(reason), "{reason}");
        }
        assert!(!refused("OOM command not allowed when used memory > 'maxmemory'."));
        assert!(!is_denied(&RemoteError::Unavailable { reason: "WRONGPASS".to_owned() }));
    }
}
