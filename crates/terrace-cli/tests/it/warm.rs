//! `warm --sql`: the keys that a query finds are loaded, and nothing else is done at the origin.

use crate::process::{Run, Service, run, write};
use rusqlite::Connection;
use std::path::PathBuf;
use tempfile::TempDir;

const TABLE: &str = "create table orders (shop text, id integer); create table plain (id text, note text);";

/// A database of its own, and a configuration whose keyspaces load from it.
struct Database {
    folder: TempDir,
    toml: String,
}

impl Database {
    fn of(rows: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let database = folder.path().join("ref.db");
        let connection = Connection::open(&database).expect("a database");
        connection.execute_batch(&format!("{TABLE}{rows}")).expect("tables");
        let toml = format!(
            "[origin.lite]\ntype = 'sqlite'\nfile = '{}'\n[origin.api]\ntype = 'http'\nbase_url = 'http://127.0.0.1:1'\n\
             [keyspace.orders]\npattern = 'order:{{shop}}:{{id}}'\n\
             source = {{ origin = 'lite', load = 'select * from orders where shop = :shop and id = :id' }}\n\
             [keyspace.plain]\npattern = 'plain:{{*id}}'\n\
             source = {{ origin = 'lite', load = 'select * from plain where id = :id' }}\n\
             [keyspace.mine]\npattern = 'plain:mine:{{id}}'\n\
             [keyspace.far]\npattern = 'far:{{id}}'\nsource = {{ origin = 'api', load = 'GET /far/{{id}}' }}\n",
            database.display()
        );
        Self { folder, toml }
    }

    fn config(&self) -> PathBuf {
        write(self.folder.path(), "terrace.toml", self.toml.as_bytes())
    }

    fn orders(&self) -> i64 {
        let connection = Connection::open(self.folder.path().join("ref.db")).expect("it is there");
        connection.query_row("select count(*) from orders", [], |row| row.get(0)).expect("a count")
    }

    /// Asks for a query that is refused before any service is asked.
    fn refused(&self, keyspace: &str, sql: &str) -> Run {
        let config = self.config();
        let config = config.to_string_lossy();
        run(["warm", "--sql", sql, "--keyspace", keyspace, "-c", &config, "--url", "http://127.0.0.1:1"])
    }
}

#[test]
fn the_keys_that_a_query_finds_are_loaded_and_rows_that_make_none_are_told() {
    let database = Database::of(
        "insert into orders values ('berlin', 1), ('a b/%2F', 2), ('x:y', 3), (null, 4), ('', 5), ('berlin', 7);\
         insert into plain values ('a:b', 'n'), ('mine:1', 'n');",
    );
    let service = Service::start(&database.toml);
    let config = database.config();
    let config = config.to_string_lossy();
    let warm = |keyspace: &str, sql: &str| {
        service.run(&["warm", "--sql", sql, "--keyspace", keyspace, "-c", &config, "--json"])
    };
    // The order of the columns is not that of the parts, and there is a row that the origin has not.
    let warmed = warm("orders", "select id, shop from orders union all select 9, 'none' -- as it is;");
    let warmed = warmed.expect(1);
    assert_eq!(warmed.stdout, "{\"failed\":3,\"missing\":1,\"read\":3,\"stored\":0}\n");
    for part in
        ["row 3: the column `shop` is empty or has a `:`", "row 4: the column `shop` is null", "row 5:"]
    {
        assert!(warmed.stderr.contains(part), "{part} is missing in {}", warmed.stderr);
    }
    let held = service.run(&["keys", "order:*"]).expect(0).stdout;
    let mut held: Vec<&str> = held.lines().collect();
    held.sort_unstable();
    assert_eq!(held, ["order:a b/%2F:2", "order:berlin:1", "order:berlin:7"]);

    let warmed = warm("plain", "select id from plain").expect(1);
    assert_eq!(warmed.stdout, "{\"failed\":1,\"missing\":0,\"read\":1,\"stored\":0}\n");
    assert!(warmed.stderr.contains("is a key of keyspace `mine`"), "{}", warmed.stderr);
    let nothing =
        service.run(&["warm", "--sql", "select id from plain where 0", "--keyspace", "plain", "-c", &config]);
    assert!(nothing.expect(0).stderr.contains("0 read"));
}

#[test]
fn a_query_of_many_rows_is_read_to_its_end() {
    let database = Database::of(
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 2500) \
         insert into orders select 'berlin', i from n;",
    );
    let service = Service::start(&database.toml);
    let config = database.config();
    let config = config.to_string_lossy();
    let sql = "select shop, id from orders";
    let warmed = service.run(&["warm", "--sql", sql, "--keyspace", "orders", "-c", &config]).expect(0);
    assert!(warmed.stderr.contains("2,500 read, 0 that nobody has, 0 failed"), "{}", warmed.stderr);
}

#[test]
fn what_is_no_query_for_keys_is_refused_in_words() {
    let database = Database::of("insert into orders values ('berlin', 1);");
    for (keyspace, sql, code, words) in [
        ("far", "select id from far", 2, "is an HTTP API"),
        ("mine", "select id from plain", 2, "has no origin"),
        ("none", "select 1", 3, "no keyspace `none`"),
        ("orders", "select shop, id, 1 as more from orders", 2, "column `more` is no part of the pattern"),
        ("orders", "select id from orders", 2, "has the part `shop`, and no column"),
        ("orders", "select id, id, shop from orders", 2, "called `id`"),
        ("orders", "select shop, id from orders where id = :id", 2, "has a parameter, `:id`"),
        ("orders", "select shop, id from orders; delete from orders", 2, "more than one statement"),
        ("orders", "delete from orders returning shop, id", 2, "reads nothing"),
        ("orders", "delete from orders", 2, "reads nothing"),
        ("orders", "attach 'other.db' as other", 2, "reads nothing"),
        ("orders", "select shop, id from nowhere", 1, "no such table"),
        ("orders", "select shop, id from orders", 5, "no answer from http://127.0.0.1:1"),
    ] {
        let refused = database.refused(keyspace, sql).expect(code);
        assert!(refused.stderr.contains(words), "{sql}: {}", refused.stderr);
    }
    assert_eq!(database.orders(), 1);
    let moved = database.folder.path().join("ref.db");
    std::fs::rename(&moved, database.folder.path().join("away.db")).expect("it can be moved");
    database.refused("orders", "select shop, id from orders").expect(5);
    assert!(!moved.exists(), "no file is made");
    run(["warm", "--sql", "select 1"]).expect(2);
    run(["warm", "--sql", "select 1", "--keyspace", "orders", "file"]).expect(2);
    run(["warm"]).expect(2);
}

#[test]
fn a_query_of_postgresql_is_read_in_a_transaction_that_writes_nothing() {
    let Ok(url) = std::env::var("TERRACE_TEST_POSTGRES_URL") else {
        eprintln!("SKIP: set TERRACE_TEST_POSTGRES_URL, as `cargo xtask with-servers` does");
        return;
    };
    let toml = format!(
        "[origin.main]\ntype = 'postgres'\nurl = '{url}'\n[keyspace.days]\npattern = 'day:{{day}}:{{n}}'\n\
         source = {{ origin = 'main', load = \"select :day::date as day, :n::int as n\" }}\n"
    );
    let service = Service::start(&toml);
    let config = write(service.folder.path(), "warm.toml", toml.as_bytes());
    let config = config.to_string_lossy();
    let warm = |sql: &str| service.run(&["warm", "--sql", sql, "--keyspace", "days", "-c", &config]);
    let warmed =
        warm("select n, date '2026-01-01' + n as day from generate_series(1, 2500) n -- all").expect(0);
    assert!(warmed.stderr.contains("2,500 read"), "{}", warmed.stderr);
    assert_eq!(
        service.run(&["get", "day:2026-01-02:1"]).expect(0).stdout,
        "{\"day\":\"2026-01-02\",\"n\":1}"
    );
    assert!(
        warm("select null::int as n, now()::date as day").expect(1).stderr.contains("column `n` is null")
    );
    for (sql, code, words) in [
        ("select 1 as n", 2, "has the part `day`"),
        ("create table terrace_warm (n int)", 2, "reads nothing"),
        ("copy (select 1 as n, 2 as day) to stdout", 2, "reads nothing"),
        (
            "with gone as (delete from pg_class returning 1 as n) select n, n as day from gone",
            1,
            "must be at the top level",
        ),
        ("select 1 as n, 1 / 0 as day", 1, "division by zero"),
        ("select n from nowhere", 1, "nowhere"),
    ] {
        let refused = warm(sql).expect(code);
        assert!(refused.stderr.contains(words), "{sql}: {}", refused.stderr);
    }
    // A function that writes although the transaction is read-only, as some do in PostgreSQL 15: that is taken back.
    let made = warm("select 1 as n, lo_create(424242)::text as day");
    assert!(made.code != 0, "{made:?}");
    let count =
        "select count(*) as n, date '2026-01-01' as day from pg_largeobject_metadata where oid = 424242";
    assert!(warm(count).expect(0).stderr.contains("1 read"));
    assert_eq!(service.run(&["keys", "day:2026-01-01:*"]).expect(0).stdout, "day:2026-01-01:0\n");
}
