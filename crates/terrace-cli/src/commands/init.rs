//! `init`: a configuration to begin with, that says what each setting is for.
//!
//! It asks nothing, and never writes over a file unless it is told to.

use crate::args::{Begin, InitArgs};
use crate::failure::{Exit, Failure};
use crate::output::{self, Talk};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

const BEGINNING: &str = r#"# A configuration of terrace. `terrace check -c terrace.toml` tries it, `terrace serve -c terrace.toml` runs it.
# Every setting can also be a variable: TERRACE__L1__MAX_ENTRIES=50000.
#:schema terrace.schema.json
# (`terrace config schema > terrace.schema.json` writes that file, for editors.)

[server]
listen = "127.0.0.1:4000"

[l1]                              # the memory of this process
max_entries = 10000
# max_bytes = "512MiB"            # and a bound by bytes

# [l2]                            # Redis or Valkey, shared by all instances; without it everything is in memory
# url = "${REDIS_URL:-redis://127.0.0.1:6379/0}"
# key_prefix = "terrace:"         # what every key there begins with

[defaults]                        # what holds where a keyspace says nothing else
ttl = "5m"
# stale_if_error = "10m"          # after its TTL an entry is returned, marked as stale, if it cannot be loaded
# negative_ttl = "10s"            # so long it is remembered that the origin has no such entry

"#;

const NOTHING: &str = r#"[keyspace.sessions]               # the program puts and gets; nothing is loaded
pattern = "session:{id}"
ttl = "30m"
"#;

const POSTGRES: &str = r#"[origin.main]
type = "postgres"
url = "${DATABASE_URL:-postgres://127.0.0.1/app}"
pool = 16                         # connections that load

[keyspace.users]                  # GET user:42 loads row 42 if no tier has it
pattern = "user:{id}"
strategy = "read-through"         # or write-through, write-around, write-behind: then with `store`
ttl = "15m"
source = { origin = "main", load = "select * from users where id = :id" }
"#;

const SQLITE: &str = r#"[origin.main]
type = "sqlite"
file = "app.db"

[keyspace.users]                  # GET user:42 loads row 42 if no tier has it
pattern = "user:{id}"
strategy = "read-through"         # or write-through, write-around, write-behind: then with `store`
ttl = "15m"
source = { origin = "main", load = "select * from users where id = :id" }
"#;

const HTTP: &str = r#"[origin.main]
type = "http"
base_url = "${API_URL:-http://127.0.0.1:8080}"
headers = { authorization = "Bearer ${API_TOKEN:-}" }
timeout = "2s"

[keyspace.users]                  # GET user:42 asks for /users/42 if no tier has it
pattern = "user:{id}"
strategy = "read-through"         # or write-through, write-around, write-behind: then with `store`
ttl = "15m"
source = { origin = "main", load = "GET /users/{id}" }
"#;

/// Writes a configuration.
pub(crate) fn init(args: &InitArgs, talk: Talk) -> anyhow::Result<Exit> {
    let text = format!("{BEGINNING}{}", ending(args.origin));
    if args.file == Path::new("-") {
        output::data(text.as_bytes())?;
        return Ok(Exit::Success);
    }
    write(args, &text)?;
    let file = args.file.display();
    talk.say(format!(
        "wrote {file}; look through it, then: terrace check -c {file} && terrace serve -c {file}"
    ));
    Ok(Exit::Success)
}

fn ending(origin: Begin) -> &'static str {
    match origin {
        Begin::None => NOTHING,
        Begin::Postgres => POSTGRES,
        Begin::Sqlite => SQLITE,
        Begin::Http => HTTP,
    }
}

fn write(args: &InitArgs, text: &str) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).truncate(true);
    if args.force {
        options.create(true)
    } else {
        options.create_new(true)
    };
    let file = args.file.display();
    let written = options.open(&args.file).and_then(|mut open| open.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::new(Exit::Failure, format!("{file} is there already"))
            .next("name another file, or add --force to write over it")
            .into(),
        _ => Failure::new(Exit::Failure, format!("{file} cannot be written")).why(error).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use terrace_server::config::{Config, Sources};

    #[test]
    fn each_file_is_accepted() {
        for origin in [Begin::None, Begin::Postgres, Begin::Sqlite, Begin::Http] {
            let text = format!("{BEGINNING}{}", ending(origin));
            let config =
                Config::load(&Sources::text(text)).unwrap_or_else(|error| panic!("{origin:?}: {error}"));
            assert_eq!(config.keyspaces.len(), 1);
        }
    }
}
