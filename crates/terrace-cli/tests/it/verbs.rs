//! `get`, `set`, `del`, `invalidate`, `stats`: against a service, and without one.

use crate::process::{Running, Service, run, run_with_stdin, terrace};

const CONFIG: &str = "[keyspace.users]\npattern = \"user:{id}\"\nttl = \"5m\"\n";

#[test]
fn what_is_set_can_be_got_and_deleted() {
    let service = Service::start(CONFIG);
    service.run(&["set", "user:1", "{\"n\": 1.10}", "--ttl", "1m"]).expect(0);
    let got = service.run(&["get", "user:1"]).expect(0);
    assert_eq!((got.stdout.as_str(), got.stderr.as_str()), ("{\"n\": 1.10}", ""));
    let got = service.run(&["get", "user:1", "-v"]).expect(0);
    assert!(got.stderr.contains("from l1") && got.stderr.contains("fresh until 20"), "{}", got.stderr);
    let json = service.run(&["get", "user:1", "--json"]).expect(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        (&json["value"]["n"], &json["hit"], &json["source"]),
        (&1.1.into(), &true.into(), &"l1".into())
    );

    service.run(&["set", "user:3", "3", "--ttl", "never"]).expect(0);
    let got = service.run(&["get", "user:3", "-v"]).expect(0);
    assert!(got.stderr.contains("fresh until it is removed"), "{}", got.stderr);

    assert!(service.run(&["del", "user:1", "user:2"]).expect(0).stderr.contains("removed \"user:1\""));
    let missing = service.run(&["get", "user:1"]).expect(3);
    assert_eq!((missing.stdout.as_str(), missing.stderr.as_str()), ("", ""));
}

#[test]
fn values_are_texts_or_json_from_the_command_line_or_stdin() {
    let service = Service::start(CONFIG);
    let get = |key: &str| service.run(&["get", key]).expect(0).stdout;
    service.run(&["set", "greeting", "hello \"you\""]).expect(0);
    assert_eq!(get("greeting"), "hello \"you\"");
    service.run(&["set", "number", "--text", "42"]).expect(0);
    let json = service.run(&["get", "number", "--json"]).expect(0).stdout;
    assert!(json.starts_with("{\"value\":\"42\","), "{json}");
    run_with_stdin(["set", "piped", "-", "--url", &service.url], b"[1,\n2]\n").expect(0);
    assert_eq!(get("piped"), "[1,\n2]");
    run_with_stdin(["set", "bad", "--text", "--url", &service.url], b"\xff").expect(2);
}

/// What a terminal gets to see of a command. Lines end as they do there.
#[cfg(target_os = "linux")]
fn on_a_terminal(service: &Service, line: &str) -> String {
    let command = format!("{} {line} --url {}", env!("CARGO_BIN_EXE_terrace"), service.url);
    let mut script = std::process::Command::new("script");
    script.args(["-q", "-e", "-c", &command, "/dev/null"]).stdin(std::process::Stdio::null());
    let output = script.output().expect("util-linux is there");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_gets_no_orders_and_a_pipe_gets_every_byte() {
    let service = Service::start(CONFIG);
    let text = "a\tb\n\u{1b}[2J\u{9b}31m\rc";
    service.run(&["set", "text", text]).expect(0);
    let bytes = ["set", "bytes", "--type", "text/plain", "-", "--url", &service.url];
    run_with_stdin(bytes, text.as_bytes()).expect(0);
    service.run(&["set", "json", &serde_json::to_string(&[text]).expect("JSON")]).expect(0);
    for key in ["text", "bytes"] {
        assert_eq!(service.run(&["get", key]).expect(0).stdout, text, "{key}");
        let shown = on_a_terminal(&service, &format!("get {key}"));
        assert_eq!(shown.trim_end(), "a\tb\r\n\\u{1b}[2J\\u{9b}31m\\u{d}c", "{key}");
    }
    for line in ["get json", "get text --json", "mget text bytes", "keys '*'"] {
        let shown = on_a_terminal(&service, line);
        let orders =
            shown.chars().filter(|letter| letter.is_control() && !"\r\n\t".contains(*letter)).count();
        assert_eq!(orders, 0, "{line}: {shown:?}");
    }
}

#[test]
fn odd_keys_are_data() {
    let service = Service::start(CONFIG);
    for key in ["a/b?c#d", "..", "metrics", "invalidate", "events", "refresh", "ümlaut %2F", "*"] {
        service.run(&["set", key, "1"]).expect(0);
        assert_eq!(service.run(&["get", key]).expect(0).stdout, "1", "{key}");
        service.run(&["del", key]).expect(0);
        service.run(&["get", key]).expect(3);
    }
    let refused = service.run(&["get", "two\nlines"]).expect(2);
    assert!(refused.stderr.contains("400") && refused.stderr.contains("because"), "{}", refused.stderr);
}

#[test]
fn invalidation_by_key_tag_and_pattern() {
    let service = Service::start(CONFIG);
    for key in ["user:1", "user:2", "user:3", "other"] {
        service.run(&["set", key, "1", "--tag", "all"]).expect(0);
    }
    assert!(service.run(&["invalidate", "--key", "user:1"]).expect(0).stderr.contains("invalidated 1"));
    service.run(&["get", "user:1"]).expect(3);
    service.run(&["invalidate", "--pattern", "user:[2]", "--yes"]).expect(0);
    service.run(&["get", "user:2"]).expect(3);
    service.run(&["get", "user:3"]).expect(0);
    let json = service.run(&["invalidate", "--tag", "all", "--json"]).expect(0).stdout;
    assert!(json.contains("\"success\":true"), "{json}");
    service.run(&["get", "user:3"]).expect(3);
    service.run(&["get", "other"]).expect(3);
}

#[test]
fn patterns_need_a_yes_and_everything_needs_all() {
    let service = Service::start(CONFIG);
    service.run(&["set", "user:1", "1"]).expect(0);
    let refused = service.run(&["invalidate", "--pattern", "user:*"]).expect(2);
    assert!(refused.stderr.contains("--yes"), "{}", refused.stderr);
    let refused = service.run(&["invalidate", "--pattern", "*", "--yes"]).expect(2);
    assert!(refused.stderr.contains("--all"), "{}", refused.stderr);
    service.run(&["get", "user:1"]).expect(0);
    service.run(&["invalidate", "--pattern", "*", "--yes", "--all"]).expect(0);
    service.run(&["get", "user:1"]).expect(3);
}

#[test]
fn stats_are_a_table_or_json() {
    let service = Service::start(CONFIG);
    service.run(&["set", "user:1", "1"]).expect(0);
    service.run(&["get", "user:1"]).expect(0);
    service.run(&["get", "user:2"]).expect(3);
    let json = service.run(&["stats", "--json"]).expect(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        (json["hits"].as_u64(), json["misses"].as_u64(), json["sets"].as_u64()),
        (Some(1), Some(1), Some(1))
    );
    let table = service.run(&["stats"]).expect(0).stdout;
    assert!(table.lines().any(|line| line.starts_with("| hits ") && line.ends_with("1 |")), "{table}");
}

#[test]
fn a_service_that_is_not_there_is_exit_code_5_with_a_next_step() {
    let nowhere = "http://127.0.0.1:1";
    for verb in
        [&["get", "k"][..], &["set", "k", "1"], &["del", "k"], &["invalidate", "--key", "k"], &["stats"]]
    {
        let run = run(verb.iter().copied().chain(["--url", nowhere])).expect(5);
        assert!(run.stdout.is_empty(), "{verb:?}");
        for part in ["error: no answer from http://127.0.0.1:1", "because: ", "next:    ", "terrace serve"] {
            assert!(run.stderr.contains(part), "{verb:?}: {part} is missing in {}", run.stderr);
        }
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_exit_code_2() {
    for line in
        [&["fetch", "k"][..], &["get"], &["get", "k", "--url", "nowhere"], &["invalidate"], &["replay"]]
    {
        run(line).expect(2);
    }
    assert!(run(["stat"]).expect(2).stderr.contains("'stats'"), "a tip is given");
}

#[test]
fn alone_it_prints_help_with_three_examples() {
    let help = run::<&str>([]);
    let text = format!("{}{}", help.stdout, help.stderr);
    for part in ["Examples:", "terrace demo", "terrace serve -c", "terrace set", "Exit codes:"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

#[test]
fn what_happens_can_be_watched() {
    let service = Service::start(CONFIG);
    let mut command = terrace();
    command.args(["watch", "--type", "set", "--pattern", "user:*", "--json", "--url", &service.url]);
    let mut watching = Running::start(&mut command);
    watching.stderr.find("watching");
    for key in ["other", "user:1"] {
        service.run(&["set", key, "1"]).expect(0);
    }
    let line = watching.stdout.find("user:1");
    assert!(line.contains("\"event\":\"set\"") && line.contains("\"own\":true"), "{line}");
    watching.signal("INT");
    assert_eq!(watching.wait(), 0);
    run(["watch", "--url", "http://127.0.0.1:1"]).expect(5);
    service.run(&["watch", "--type", "nonsense"]).expect(2);
}
