//! `serve`: how it begins and ends.

use crate::http::request;
use crate::process::{Running, Service, run, terrace, write};
use std::net::TcpListener;

#[test]
fn it_says_where_and_on_what_it_runs_and_ends_on_a_signal() {
    let service = Service::start("[server.shutdown]\ndrain = \"0s\"\n");
    assert!(!service.url.ends_with(":0"), "{}", service.url);
    assert_eq!(request("GET", &format!("{}/livez", service.url), &[], "").status, 200);
    service.running.signal("TERM");
    assert_eq!(service.running.wait(), 0);
}

#[test]
fn ctrl_c_does_not_wait_for_load_balancers() {
    let service = Service::start("[server.shutdown]\ndrain = \"1h\"\n");
    service.running.signal("INT");
    assert_eq!(service.running.wait(), 0);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut service = Service::start("[server.shutdown]\ndrain = \"1h\"\n");
    service.running.signal("TERM");
    service.running.stderr.find("stopping");
    service.running.signal("TERM");
    assert_eq!(service.running.wait(), 128 + 15);
}

#[test]
fn a_taken_port_is_an_error_with_a_next_step() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let run = run(["serve", "--listen", &address]).expect(1);
    assert!(run.stderr.contains(&address) && run.stderr.contains("--listen"), "{}", run.stderr);
}

#[test]
fn a_broken_configuration_is_refused_with_a_caret() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = write(folder.path(), "broken.toml", b"[server]\nlisten = \"127.0.0.1:0\"\nlistenn = 1\n");
    let run = run(["serve", "-c", &file.to_string_lossy()]).expect(1);
    assert!(run.stderr.contains("^^^^^^^") && run.stderr.contains("listenn"), "{}", run.stderr);
}

/// What a service logs that was told this of its log, with these arguments and this variable, from its beginning to its end.
fn log(telemetry: &str, args: &[&str], variable: Option<&str>) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = format!("[server.shutdown]\ndrain = 0\n[telemetry]\n{telemetry}\n");
    let file = write(folder.path(), "terrace.toml", config.as_bytes());
    let mut command = terrace();
    command.arg("serve").arg("-c").arg(file).args(["--listen", "127.0.0.1:0"]).args(args);
    if let Some(form) = variable {
        command.env("TERRACE__TELEMETRY__LOG", form);
    }
    let mut service = Running::start(&mut command);
    service.stdout.find("listening on http://");
    service.signal("TERM");
    let lines = service.stderr.drain().to_vec();
    assert!(lines.iter().any(|line| line.contains("stopping")), "{lines:#?}");
    assert_eq!(service.wait(), 0);
    lines
}

#[test]
fn the_log_has_the_form_that_the_configuration_says() {
    let always = ["--color", "always"];
    for (telemetry, args, variable, is_json, is_coloured) in [
        ("", &[][..], None, true, false),
        ("log = 'auto'", &[], None, true, false),
        ("log = 'auto'", &always, None, false, true),
        ("log = 'json'", &[], None, true, false),
        ("log = 'json'", &always, None, true, false),
        ("log = 'pretty'", &[], None, false, false),
        ("log = 'pretty'", &always, None, false, true),
        ("log = 'pretty'", &[], Some("json"), true, false),
        ("", &[], Some("pretty"), false, false),
    ] {
        let lines = log(telemetry, args, variable);
        let case = format!("{telemetry} {args:?} {variable:?}: {lines:#?}");
        let is_object =
            |line: &String| serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(line).is_ok();
        assert!(lines.iter().all(|line| is_object(line) == is_json), "{case}");
        assert_eq!(lines.iter().any(|line| line.contains('\u{1b}')), is_coloured, "{case}");
        assert!(is_json || lines.iter().any(|line| line.contains("INFO")), "{case}");
    }
}
