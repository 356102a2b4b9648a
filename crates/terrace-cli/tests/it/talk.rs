//! What is said, where and in which colour; bytes that are no text.

use crate::process::{Running, Service, run, run_with_stdin, terrace, write};
use serde_json::Value;

const RED: &str = "\u{1b}[";

#[test]
fn errors_have_the_colour_that_is_asked_for() {
    for line in [&["nosuch"][..], &["get"], &["get", "k", "--url", "nowhere"], &["check", "-c", "/nowhere"]] {
        let of = |when: &[&str]| {
            let run = run(line.iter().chain(when));
            assert!(run.stderr.contains("error:"), "{}", run.stderr);
            run.stderr.contains(RED)
        };
        assert!(of(&["--color", "always"]) && of(&["--color=always"]), "{line:?}");
        assert!(!of(&["--color", "never"]) && !of(&[]), "{line:?}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = write(folder.path(), "wrong.toml", b"[l1]\nmax_entris = 1\n");
    let framed = run(["check", "--color", "always", "-c", &file.to_string_lossy()]).expect(1).stderr;
    assert!(framed.starts_with(RED) && framed.contains("max_entris"), "{framed}");
}

#[test]
fn bytes_come_back_as_they_were_given() {
    let service = Service::start("[keyspace.users]\npattern = 'user:{id}'\n");
    let set = |args: &[&str], bytes: &[u8]| {
        let line = ["set", "bin", "-", "--url", &service.url];
        run_with_stdin(line.iter().chain(args), bytes)
    };
    let get = || {
        let mut command = terrace();
        command.args(["get", "bin", "--url", &service.url]).output().expect("it runs").stdout
    };
    let media = || {
        let told: Value =
            serde_json::from_str(&service.run(&["get", "bin", "--json"]).expect(0).stdout).expect("JSON");
        told["content_type"].as_str().map(str::to_owned)
    };
    set(&["--ttl", "never", "--tag", "t"], b"\x00\xff\n").expect(0);
    assert_eq!((get(), media().as_deref()), (b"\x00\xff\n".to_vec(), Some("application/octet-stream")));
    assert_eq!(service.run(&["ttl", "bin"]).expect(0).stdout, "never\n");
    set(&["--type", "image/png"], b"\x89PNG\n").expect(0);
    assert_eq!((get(), media().as_deref()), (b"\x89PNG\n".to_vec(), Some("image/png")));
    set(&["--type", "application/x-ndjson"], b"{}\n{}\n").expect(0);
    assert_eq!((get(), media().as_deref()), (b"{}\n{}\n".to_vec(), Some("application/x-ndjson")));
    set(&[], b"{\"n\": 1.10}\n").expect(0);
    assert_eq!((get(), media()), (b"{\"n\": 1.10}".to_vec(), None));
    set(&[], b"plain\n").expect(0);
    assert_eq!((get(), media()), (b"plain".to_vec(), None));
    set(&["--text"], b"\xff").expect(2);
    set(&["--type", "application/json"], b"{").expect(1);
}

#[test]
fn counters_have_units_in_words_and_none_for_scripts() {
    let service = Service::start("[keyspace.users]\npattern = 'user:{id}'\n");
    service.run(&["set", "user:1", "1"]).expect(0);
    for (key, code) in [("user:1", 0), ("user:1", 0), ("user:2", 3)] {
        service.run(&["get", key]).expect(code);
    }
    let table = service.run(&["stats"]).expect(0).stdout;
    let cell = |name: &str| {
        let line = table.lines().find(|line| line.starts_with(&format!("| {name} ")));
        let line = line.unwrap_or_else(|| panic!("{name} in\n{table}"));
        line.split('|').nth(2).expect("a value").trim().to_owned()
    };
    assert_eq!(cell("hit_rate"), "66.67 %");
    assert!(cell("seconds").ends_with('s') && cell("average_latency").ends_with('s'), "{table}");
    assert!(cell("l1_bytes").ends_with('B'), "{table}");
    let told: Value =
        serde_json::from_str(&service.run(&["stats", "--json"]).expect(0).stdout).expect("JSON");
    assert!(told["average_latency_ns"].is_u64() && told["hit_rate"].as_f64() < Some(0.67), "{told}");
}

#[test]
fn a_bench_in_which_anything_failed_is_1() {
    let service = Service::start("[keyspace.users]\npattern = 'user:{id}'\n");
    service.run(&["set", "bench:0", "1"]).expect(0);
    let bench = ["bench", "--read-only", "--duration", "200ms", "--keys", "2", "--concurrency", "2"];
    let told = service.run(&bench).expect(1);
    assert!(told.stdout.contains("| l1 ") && !told.stdout.contains(" 0 failed"), "{told:?}");
}

#[test]
fn it_tells_where_its_admin_listener_is() {
    let mut command = terrace();
    let folder = tempfile::tempdir().expect("a folder");
    let file = write(
        folder.path(),
        "terrace.toml",
        b"[server]\nlisten = '127.0.0.1:0'\nadmin_listen = '127.0.0.1:0'\n",
    );
    command.arg("serve").arg("-c").arg(file);
    let mut service = Running::start(&mut command);
    let line = service.stdout.find("listening on");
    let admin = line.split("; admin on ").nth(1).expect("it is told").trim().to_owned();
    assert!(admin.starts_with("http://127.0.0.1:") && !admin.ends_with(":0"), "{line}");
    assert_eq!(crate::http::request("GET", &format!("{admin}/readyz"), &[], "").status, 200);
    service.signal("INT");
    assert_eq!(service.wait(), 0);
}

#[test]
fn a_dictionary_that_saves_nothing_is_not_recommended() {
    let service = Service::start("[keyspace.users]\npattern = 'user:{id}'\n");
    let lines: Vec<String> = (0..600_u64)
        .map(|id| {
            let mixed = id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            format!(r#"{{"key":"user:{id}","value":{{"name":"{mixed:016x}","plan":"team"}}}}"#)
        })
        .collect();
    let values = write(service.folder.path(), "values", lines.join("\n").as_bytes());
    service.run(&["warm", &values.to_string_lossy()]).expect(0);
    let file = service.folder.path().join("users.dict");
    let train = ["dict", "train", "users", "--size", "1KiB", "-o", &file.to_string_lossy()];
    let told = service.run(&train).expect(0).stderr;
    assert!(told.contains("it saves nothing") && told.contains("shorter than 64 bytes"), "{told}");
    assert!(!told.contains("to use it"), "{told}");
}
