//! The configuration of a service that a replay can be pointed at.

use super::remote::KEY_PREFIX;
use super::rows::{OriginPlace, TABLE};
use crate::args::PolicyArg;
use std::fmt::Write as _;
use terrace_server::config::TtlSetting;

/// What the service is to be like.
#[derive(Debug)]
pub(crate) struct Settings<'a> {
    /// Entries that L1 holds.
    pub(crate) l1_entries: u32,
    /// Who is evicted from it.
    pub(crate) policy: PolicyArg,
    /// How long a value is fresh, in every tier.
    pub(crate) ttl: TtlSetting,
    /// The second tier.
    pub(crate) redis: Option<&'a str>,
    /// Where the rows are.
    pub(crate) place: &'a OriginPlace,
}

impl Settings<'_> {
    /// The file's text.
    pub(crate) fn to_toml(&self) -> anyhow::Result<String> {
        let ttl = text(&self.ttl.to_string())?;
        let policy = match self.policy {
            PolicyArg::Default => "default",
            PolicyArg::Lru => "lru",
        };
        let mut toml =
            format!("[l1]\nmax_entries = {}\npolicy = \"{policy}\"\nttl = {ttl}\n\n", self.l1_entries);
        if let Some(url) = self.redis {
            writeln!(toml, "[l2]\nurl = {}\n", text(url)?)?;
        }
        match self.place {
            OriginPlace::Postgres(url) => {
                writeln!(toml, "[origin.replay]\ntype = \"postgres\"\nurl = {}\n", text(url)?)?;
            }
            OriginPlace::Sqlite(file) => {
                let file = text(&std::path::absolute(file)?.to_string_lossy())?;
                writeln!(toml, "[origin.replay]\ntype = \"sqlite\"\nfile = {file}\n")?;
            }
            OriginPlace::Temporary => {}
        }
        let load = text(&format!("select id, doc from {TABLE} where id = :id"))?;
        writeln!(
            toml,
            "[keyspace.replay]\npattern = \"{KEY_PREFIX}{{*id}}\"\nstrategy = \"read-through\"\nttl = {ttl}\n\
             source = {{ origin = \"replay\", load = {load} }}"
        )?;
        Ok(toml)
    }
}

/// A text in quotes. What JSON escapes, TOML escapes alike.
fn text(text: &str) -> anyhow::Result<String> {
    Ok(serde_json::to_string(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_names_tiers_origin_and_keyspace() {
        let place = OriginPlace::Postgres("postgres://me:p\"w@h/db".to_owned());
        let settings = Settings {
            l1_entries: 1869,
            policy: PolicyArg::Lru,
            ttl: "1h".parse().unwrap(),
            redis: Some("redis://127.0.0.1"),
            place: &place,
        };
        let toml = settings.to_toml().unwrap();
        for line in [
            "max_entries = 1869",
            "policy = \"lru\"",
            "url = \"redis://127.0.0.1\"",
            "url = \"postgres://me:p\\\"w@h/db\"",
            "pattern = \"replay:{*id}\"",
            "ttl = \"1h\"",
        ] {
            assert!(toml.lines().any(|found| found == line), "{line} is missing in\n{toml}");
        }
    }
}
