//! Requests that a tool makes up from the `OpenAPI` document, and every answer held against it. `cargo xtask schemathesis` brings the
//! tool and says how much of it; without it there is nothing to run.

use crate::limits::database;
use crate::support::{Running, start};
use std::process::{Command, Stdio};

/// Requests for each kind of them, unless told otherwise.
const EXAMPLES: &str = "10";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance";

/// 501 and 504 answer headers that ask for what cannot be: a condition that an origin cannot keep, an entry from the tiers alone.
const CONFIG: &str =
    "[checks]\nnot_a_server_error.expected-statuses = [\"2xx\", \"3xx\", \"4xx\", \"501\", \"504\"]\n";

/// Runs the tool against a service. Its findings are printed.
fn check(service: &Running) {
    let Some(program) = std::env::var_os("TERRACE_TEST_SCHEMATHESIS") else {
        eprintln!("SKIP: `TERRACE_TEST_SCHEMATHESIS` names no program; `cargo xtask schemathesis` brings it");
        return;
    };
    let examples = std::env::var("TERRACE_TEST_EXAMPLES").unwrap_or_else(|_| EXAMPLES.to_owned());
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("schemathesis.toml");
    std::fs::write(&config, CONFIG).expect("it can be written to");
    let mut command = Command::new(program);
    command
        .arg("--config-file")
        .arg(&config)
        .args(["run", &format!("http://{}/openapi.json", service.address), "--no-color", "--seed", "1"])
        .args([
            "--checks",
            CHECKS,
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            &examples,
            "--max-time",
            "100",
        ])
        // It has no end.
        .args([
            "--exclude-path",
            "/api/cache/events",
            "--suppress-health-check",
            "all",
            "--continue-on-failure",
        ])
        .current_dir(folder.path())
        .stdin(Stdio::null());
    // The service has threads of its own.
    assert!(command.status().expect("it starts").success(), "see above");
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_requests_to_memory_alone_are_answered_as_described() {
    check(&start("server.max_body = '64KiB'").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_requests_with_an_origin_are_answered_as_described() {
    let (_folder, file, _connection) = database();
    let service = start(&format!(
        r#"
        server.max_body = "64KiB"
        origin.lite = {{ type = "sqlite", file = "{file}" }}
        # The tool's keys often begin so.
        [keyspace.zeros]
        pattern = "0{{*id}}"
        strategy = "write-through"
        [keyspace.zeros.source]
        origin = "lite"
        load = "select * from users where id = :id"
        store = "insert into users (id, name) values (:id, :value) on conflict (id) do update set name = excluded.name"
        delete = "delete from users where id = :id"
        "#
    ))
    .await;
    check(&service);
}
