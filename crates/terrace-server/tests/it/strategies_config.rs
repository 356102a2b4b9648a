//! What a configuration may say of strategies: what contradicts itself is refused where it stands.

use terrace_server::config::{Config, Sources, Strategy};

fn load(toml: &str) -> Result<Config, String> {
    Config::load(&Sources::text(toml)).map_err(|error| error.to_string())
}

fn keyspace(strategy: &str, source: &str) -> String {
    format!(
        "[write_behind]\npath = 'w.journal'\n[origin.o]\ntype = 'sqlite'\nfile = 'x.db'\n[keyspace.a]\npattern = 'a:{{id}}'\n\
         strategy = '{strategy}'\n[keyspace.a.source]\norigin = 'o'\nload = 'select v from t where id = :id'\n{source}\n"
    )
}

const STORE: &str = "store = 'insert into t values (:id, :value)'";

#[test]
fn strategies_that_write_are_accepted_and_print_as_they_load() {
    for (name, strategy) in [
        ("write-through", Strategy::WriteThrough),
        ("write-around", Strategy::WriteAround),
        ("write-behind", Strategy::WriteBehind),
    ] {
        let more = "delete = 'delete from t where id = :id'\ndocument = 'v'";
        let config =
            load(&keyspace(name, &format!("{STORE}\n{more}"))).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.keyspaces["a"].strategy, strategy);
        assert_eq!(config.keyspaces["a"].write_behind.is_some(), strategy == Strategy::WriteBehind);
        let printed = config.effective_toml();
        assert_eq!(load(&printed).unwrap_or_else(|error| panic!("{error}\n{printed}")), config);
    }
}

#[test]
fn a_keyspace_overrides_how_all_are_written_behind() {
    let own = format!("{STORE}\n[keyspace.a.write_behind]\nack = 'os'\nbatch_max = 7\nbackoff_max = '2m'\n");
    let toml =
        keyspace("write-behind", &own).replace("[origin.o]", "interval = '3s'\nflush_at = 50\n[origin.o]");
    let config = load(&toml).unwrap_or_else(|error| panic!("{error}"));
    let lane = config.keyspaces["a"].write_behind.expect("it is written behind");
    assert_eq!((lane.interval.0.as_secs(), lane.flush_at, lane.batch_max), (3, 50, 7));
    assert_eq!((lane.backoff_max.0.as_secs(), config.write_behind.lane.backoff_max.0.as_secs()), (120, 300));
}

#[test]
fn what_contradicts_itself_is_refused_where_it_stands() {
    let cases = [
        (
            "write-through",
            "",
            "`write-through` needs a statement that stores a value",
            "strategy = 'write-through'",
        ),
        ("read-through", STORE, "`read-through` never writes to its source", "store = 'insert"),
        ("write-through", "store = 'insert into t values (:id, 1)'", "stores no document", "store = 'insert"),
        (
            "write-through",
            "store = 'insert into t values (1, :value)'",
            "would be stored as one",
            "store = 'insert",
        ),
        (
            "write-through",
            "store = 'insert into t values (:id, :value, :version)'",
            "only the statements",
            ":version",
        ),
        ("write-through", "store = 'insert into t values (:id, $2)'", "parameter by number", "$2"),
    ];
    for (strategy, source, words, line) in cases {
        let refused = load(&keyspace(strategy, source)).expect_err(source);
        assert!(refused.contains(words) && refused.contains('^') && refused.contains(line), "{refused}");
    }
    let behind = keyspace("write-behind", STORE);
    for (from, to, words) in [
        ("path = 'w.journal'\n", "", "needs a file for what the origin does not have yet"),
        ("path = 'w.journal'\n", "path = 'w.journal'\nenabled = false\n", "write-behind is switched off"),
        ("path = 'w.journal'\n", "path = 'w.journal'\nack = 'fsink'\n", "did you mean `fsync`?"),
        ("path = 'w.journal'\n", "path = 'w.journal'\nbackoff_min = '10m'\n", "less than the first time"),
        ("a:{id}'", "a:{version}'", "`:version` is the version of a write"),
        ("a:{id}'", "a:{value}'", "`:value` is the document"),
        (
            "select v from t where id = :id",
            "select v from t where id = :value",
            "only `store` has a `:value`",
        ),
    ] {
        let refused = load(&behind.replace(from, to)).expect_err(to);
        assert!(refused.contains(words) && refused.contains('^'), "{to}: {refused}");
    }
    let idle = format!("{STORE}\n[keyspace.a.write_behind]\nack = 'os'\n");
    let refused = load(&keyspace("write-through", &idle)).expect_err("nothing is written behind");
    assert!(refused.contains("says nothing without"), "{refused}");
    let no_source =
        load("[keyspace.a]\npattern = 'a:{id}'\nstrategy = 'write-around'\n").expect_err("no source");
    assert!(no_source.contains("`write-around` needs a source to write to"), "{no_source}");
}

#[test]
fn the_variable_that_switches_write_behind_off_contradicts_a_keyspace_that_uses_it() {
    let sources = Sources::text(keyspace("write-behind", STORE))
        .variables([("REDIS_WRITE_BEHIND_ENABLED".to_owned(), "false".to_owned())]);
    let refused = Config::load(&sources).expect_err("refused").to_string();
    assert!(refused.contains("write-behind is switched off"), "{refused}");
    let sources = Sources::text(keyspace("write-behind", STORE))
        .variables([("REDIS_WRITE_BEHIND_BATCH".to_owned(), "4s".to_owned())]);
    let config = Config::load(&sources).expect("valid");
    let lane = config.keyspaces["a"].write_behind.expect("it is written behind");
    assert_eq!(lane.interval.0.as_secs(), 4);
}
