//! `journal inspect`: what a service that was killed has left, and that it stays as it is.

use crate::operate::{json, lines};
use crate::process::{Service, run};
use rusqlite::Connection;
use std::path::Path;

/// Two keyspaces that are written behind, to a table that does not take `"bad"`, once everybody is tired of waiting.
pub(crate) fn queued(folder: &Path) -> String {
    let connection = Connection::open(folder.join("ref.db")).expect("a database");
    connection
        .execute_batch("create table t (id integer primary key, doc text check (doc <> '\"bad\"'))")
        .expect("a table");
    let keyspace = |name: &str| {
        format!(
            "[keyspace.{name}]\npattern = '{name}:{{id}}'\nstrategy = 'write-behind'\n[keyspace.{name}.source]\norigin = 'o'\n\
             document = 'doc'\nload = 'select doc from t where id = :id'\nstore = 'insert or replace into t values (:id, :value)'\n"
        )
    };
    format!(
        "[write_behind]\npath = '{0}/journal'\nattempts_max = 1\ninterval = '1h'\n[origin.o]\ntype = 'sqlite'\nfile = '{0}/ref.db'\n{1}{2}",
        folder.display(),
        keyspace("t"),
        keyspace("u")
    )
}

#[test]
fn a_journal_is_looked_into_and_keeps_its_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(&queued(folder.path()));
    service.run(&["set", "t:2", "bad"]).expect(0);
    service.run(&["queue", "flush", "t"]).expect(1);
    service.run(&["set", "t:3", "later"]).expect(0);
    service.run(&["set", "u:4", "later"]).expect(0);

    let journal = folder.path().join("journal");
    let inspect = |args: &[&str]| run(["journal", "inspect", &journal.to_string_lossy()].iter().chain(args));
    let in_use = inspect(&["--writes"]).expect(5).stderr;
    assert!(in_use.contains("terrace queue ls"), "{in_use}");
    service.running.signal("KILL");
    drop(service);
    let now = || {
        let modified = std::fs::metadata(&journal).and_then(|meta| meta.modified()).expect("there");
        (std::fs::read(&journal).expect("there"), modified)
    };
    let before = now();
    let found = lines(&inspect(&["--json"]).expect(0));
    assert_eq!(found[0], json("{\"keyspace\":\"t\",\"pending\":1,\"pending_bytes\":266,\"dead\":1}"));
    assert!(inspect(&[]).expect(0).stdout.contains("| t "));

    let listed = inspect(&["--writes"]).expect(0);
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = listed.stdout.lines().skip(2).map(cells).collect();
    let keys: Vec<_> = rows.iter().map(|row| (&*row[1], &*row[2], &*row[3], &*row[4], &*row[6])).collect();
    assert_eq!(
        keys,
        [
            ("t", "t:3", "store", "7 B", "0"),
            ("u", "u:4", "store", "7 B", "0"),
            ("t", "t:2", "store", "5 B", "1")
        ],
        "{}",
        listed.stdout
    );
    assert!(rows[0][7].is_empty() && rows[2][7].contains("does not take"), "{}", listed.stdout);
    let found = lines(&inspect(&["--writes", "--keyspace", "t", "--json"]).expect(0));
    assert_eq!((&found[0]["key"], &found[0]["state"]), (&"t:3".into(), &"waiting".into()));
    assert!(found[0]["age_seconds"].as_f64().is_some_and(|age| age < 600.0), "{}", found[0]);
    assert!(found[0].get("value").is_none() && found[0].get("reason").is_none(), "{}", found[0]);
    let dead = inspect(&["--writes", "--dead", "--json"]).expect(0);
    assert_eq!((lines(&dead).len(), &lines(&dead)[0]["key"]), (1, &"t:2".into()));
    assert_eq!(
        inspect(&["--writes", "--dead", "--keyspace", "u"]).expect(0).stdout,
        "nothing was given up\n"
    );
    let one = inspect(&["--writes", "--limit", "1", "--json"]).expect(0);
    assert!(lines(&one).len() == 1 && one.stderr.contains("the first 1 of 3"), "{one:?}");
    inspect(&["--writes", "--keyspace", "nope"]).expect(3);
    inspect(&["--dead"]).expect(2);
    inspect(&["--writes", "--limit", "0"]).expect(2);
    assert!(now() == before, "the file was changed");
    run(["journal", "inspect", "/nowhere"]).expect(3);
}
