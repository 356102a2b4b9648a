//! `serve`: how it begins and ends.

use crate::http::request;
use crate::process::{Service, run, write};
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
