//! Reading through to a PostgreSQL server.

use crate::support::{Running, config, start};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use terrace_server::check;
use terrace_testkit::server::postgres_url;
use tokio_postgres::{Client, NoTls};

/// A schema of one test's own.
pub(crate) struct Schema {
    pub(crate) url: String,
    pub(crate) name: String,
    pub(crate) client: Client,
}

impl Schema {
    /// `None`, with a line on the terminal, if there is no server to test with.
    pub(crate) async fn create() -> Option<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let url = postgres_url()?;
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("the server answers");
        crate::support::beside(async move {
            connection.await.ok();
        });
        let name = format!("terrace_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let rows = format!(
            "create schema {name};
             create table {name}.things (
                 id bigint primary key, code uuid, at timestamptz, is_on boolean, labels text[], doc jsonb, price numeric);
             insert into {name}.things values
                 (1, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '2026-11-20T09:00:00Z', true, '{{x,y}}', '{{\"b\": [1, null]}}', 1.50),
                 (9223372036854775807, null, null, false, null, null, null),
                 (3, null, null, true, null, null, null);"
        );
        client.batch_execute(&rows).await.expect("a schema");
        Some(Self { url, name, client })
    }

    fn toml(&self) -> String {
        let Self { url, name, .. } = self;
        let keyspace = |keyspace: &str, pattern: &str, condition: &str| {
            format!(
                "[keyspace.{keyspace}]\npattern = '{pattern}'\n\
                 source = {{ origin = 'main', load = 'select * from {name}.things where {condition}' }}\n"
            )
        };
        [
            format!(
                "[origin.main]\ntype = 'postgres'\nurl = '{url}'\nstatement_timeout = '500ms'\npool = 4\n"
            ),
            keyspace("things", "thing:{id}", "id = :id"),
            keyspace("codes", "code:{code}", "code = :code"),
            keyspace("times", "time:{*at}", "at = :at"),
            keyspace("states", "on:{is_on}", "is_on = :is_on"),
            keyspace("naps", "nap:{seconds}", "id = 1 and pg_sleep(:seconds::float8) is not null"),
            keyspace("pairs", "pair:{id}:{is_on}", "id = :id and is_on = :is_on and id = :id"),
        ]
        .concat()
    }

    async fn service(&self) -> Running {
        start(&self.toml()).await
    }

    pub(crate) async fn remove(self) {
        self.client.batch_execute(&format!("drop schema {} cascade", self.name)).await.expect("dropped");
    }
}

const ONE: &str = r#"{"id":1,"code":"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11","at":"2026-11-20T09:00:00+00:00","is_on":true,"labels":["x","y"],"doc":{"b": [1, null]},"price":1.50}"#;

#[tokio::test]
async fn keys_of_any_type_find_their_row() {
    let Some(schema) = Schema::create().await else { return };
    schema.client.batch_execute("set timezone = 'UTC'").await.expect("set");
    let service = schema.service().await;
    let first = service.get("/api/cache/thing:1").await;
    let value = serde_json::from_str::<serde_json::Value>(&first.body).expect("JSON")["value"].clone();
    let mut expected: serde_json::Value = serde_json::from_str(ONE).expect("JSON");
    // The time zone of the session decides how a timestamp is written, not which it is.
    expected["at"] = value["at"].clone();
    assert_eq!(value, expected);
    assert!(first.body.contains(r#""doc":{"b": [1, null]},"price":1.50}"#), "{}", first.body);
    assert!(first.body.contains(r#""hit":false,"source":"origin","#), "{}", first.body);
    assert!(service.get("/api/cache/thing:1").await.body.contains(r#""hit":true,"source":"l1","#));
    for key in [
        "code:a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "code:A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        "time:2026-11-20T09:00:00Z",
        "time:2026-11-20%2010:00:00%2B01",
        "on:false",
        "pair:1:true",
        "thing:9223372036854775807",
    ] {
        assert_eq!(service.get(&format!("/api/cache/{key}")).await.status, 200, "{key}");
    }
    let nulls = service.get("/api/cache/thing:9223372036854775807").await;
    assert!(nulls.body.contains(r#""id":9223372036854775807,"code":null,"#), "{}", nulls.body);
    service.get("/api/cache/thing:2").await.problem(404, "key_not_found");
    schema.remove().await;
}

#[tokio::test]
async fn keys_that_a_column_cannot_hold_are_the_callers_mistake() {
    let Some(schema) = Schema::create().await else { return };
    let service = schema.service().await;
    for key in [
        "thing:abc",
        "thing:9223372036854775808",
        "thing:1%20or%201=1",
        "code:1",
        "time:yesterday-ish",
        "time:2026-13-01",
        "on:perhaps",
    ] {
        let detail = service.get(&format!("/api/cache/{key}")).await.problem(400, "key_refused");
        assert!(detail.starts_with("origin `main` cannot have this key: "), "{key}: {detail}");
    }
    schema.remove().await;
}

#[tokio::test]
async fn more_than_one_row_is_a_failure_of_the_origin() {
    let Some(schema) = Schema::create().await else { return };
    schema.service().await.get("/api/cache/on:true").await.problem(502, "origin_not_unique");
    schema.remove().await;
}

#[tokio::test]
async fn a_slow_statement_ends_in_time_and_leaves_the_rest_alone() {
    let Some(schema) = Schema::create().await else { return };
    let service = schema.service().await;
    assert_eq!(service.get("/api/cache/nap:0.01").await.status, 200);
    let detail = service.get("/api/cache/nap:60").await.problem(504, "origin_timeout");
    assert_eq!(detail, "origin `main` did not answer within 500ms");
    assert_eq!(service.get("/api/cache/thing:1").await.status, 200);
    schema.remove().await;
}

#[tokio::test]
async fn connections_that_the_server_ended_are_replaced() {
    let Some(schema) = Schema::create().await else { return };
    let service = schema.service().await;
    assert_eq!(service.get("/api/cache/thing:1").await.status, 200);
    schema
        .client
        .execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where query like '%' || $1 || '.things%' and pid <> pg_backend_pid()",
            &[&schema.name],
        )
        .await
        .expect("ended");
    for key in ["thing:3", "thing:9223372036854775807", "on:false"] {
        let after = service.get(&format!("/api/cache/{key}")).await;
        assert_eq!(after.status, 200, "{after:?}");
    }
    schema.remove().await;
}

#[tokio::test]
async fn loads_cannot_write() {
    let Some(schema) = Schema::create().await else { return };
    let Schema { url, name, .. } = &schema;
    let toml = format!(
        "origin.main = {{ type = 'postgres', url = '{url}' }}\n[keyspace.things]\npattern = 'thing:{{id}}'\n\
         source = {{ origin = 'main', load = \"with gone as (delete from {name}.things where id = :id returning *) select * from gone\" }}\n"
    );
    start(&toml).await.get("/api/cache/thing:1").await.problem(502, "origin_failed");
    let left = schema.client.query(&format!("select 1 from {name}.things"), &[]).await.expect("rows");
    assert_eq!(left.len(), 3);
    schema.remove().await;
}

#[tokio::test]
async fn a_server_that_is_down_is_no_reason_not_to_start() {
    let service = start(
        "origin.main = { type = 'postgres', url = 'postgres://nobody@127.0.0.1:1/none', connect_timeout = '300ms' }\n\
         [keyspace.things]\npattern = 'thing:{id}'\nsource = { origin = 'main', load = 'select :id as id' }\n",
    )
    .await;
    let detail = service.get("/api/cache/thing:1").await.problem(502, "origin_unavailable");
    assert_eq!(detail, "the origin `main` is unreachable");
    assert_eq!(service.get("/readyz").await.status, 200);
    assert_eq!(service.put("/api/cache/thing:1", r#"{"value":1}"#).await.status, 200);
    assert_eq!(service.get("/api/cache/thing:1").await.status, 200);
}

#[tokio::test]
async fn checking_finds_statements_that_do_not_compile() {
    let Some(schema) = Schema::create().await else { return };
    let findings = check(&config(&schema.toml())).await.expect("it can be checked");
    assert!(findings.len() == 6 && findings.iter().all(|finding| finding.result.is_ok()), "{findings:?}");
    for (load, words) in [
        ("selct :id", "syntax error"),
        ("select * from no_such_table where id = :id", "does not exist (42P01)"),
        ("select 1 as x where 1 = :id::int -- a comment", ""),
    ] {
        let toml = format!(
            "origin.main = {{ type = 'postgres', url = '{}' }}\n[keyspace.things]\npattern = 'thing:{{id}}'\n\
             source = {{ origin = 'main', load = '{load}' }}\n",
            schema.url
        );
        let finding = check(&config(&toml)).await.expect("it can be checked").remove(0);
        match finding.result {
            Ok(()) => assert!(words.is_empty(), "{load}"),
            Err(found) => assert!(!words.is_empty() && found.contains(words), "{load}: {found}"),
        }
    }
    schema.remove().await;
}

#[tokio::test]
async fn many_loads_share_few_connections() {
    let Some(schema) = Schema::create().await else { return };
    let service = schema.service().await;
    let gets = (0..200).map(|number| {
        let service = &service;
        async move { service.get(&format!("/api/cache/thing:{number}")).await.status }
    });
    let within = tokio::time::timeout(Duration::from_secs(30), futures_util::future::join_all(gets));
    let statuses = within.await.expect("in time");
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 2, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 404].contains(status)), "{statuses:?}");
    schema.remove().await;
}
