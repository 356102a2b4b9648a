//! What do the server's settings leave open when a network splits?
//!
//! A primary that is cut off from the others, and not from some of us, goes on serving until its own settings stop it. They
//! are the bound on what its side may take for fresh, and only the server's owner can set them.
//!
//! 1. A setting that may not be read is passed over: many services do not let it be. Then the bound is not known.

use crate::config::Servers;
use crate::link::{Link, text};
use crate::sending::one;
use redis::Value;

/// What is left open, in words for people; nothing if there is a bound, or if it is not known.
pub(crate) async fn examine(link: &Link, servers: &Servers) -> Option<String> {
    match servers {
        Servers::One(_) => None,
        Servers::Sentinel { .. } => {
            let is_unbounded = setting(link, "min-replicas-to-write").await? == "0";
            is_unbounded.then(|| {
                "`min-replicas-to-write` is 0: a primary that is cut off takes changes for as long as it is".to_owned()
            })
        }
        Servers::Cluster(_) => {
            let is_unbounded = setting(link, "cluster-allow-reads-when-down").await? == "yes";
            is_unbounded.then(|| {
                "`cluster-allow-reads-when-down` is `yes`: a primary that is cut off is read for as long as it is"
                    .to_owned()
            })
        }
    }
}

async fn setting(link: &Link, name: &str) -> Option<String> {
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg(name);
    let answer = link.ask(&one(command)).await;
    let answer = answer.inspect_err(|error| {
        tracing::debug!(address = %link.address(), name, %error, "a setting of L2 cannot be read; its bound is not known");
    });
    match answer.ok()?.into_iter().next()? {
        Value::Map(fields) => fields.first().and_then(|(_, value)| text(value)).map(str::to_owned),
        _ => None,
    }
}
