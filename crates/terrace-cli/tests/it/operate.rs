//! The verbs of those who run a service: configurations, many keys, the queue, what is measured and what is wrong.

use crate::process::{Run, Running, Service, run, run_with_stdin, terrace, write};
use serde_json::Value;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

const CONFIG: &str = "[keyspace.users]\npattern = \"user:{id}\"\nttl = \"5m\"\n";

pub(crate) fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

pub(crate) fn lines(run: &Run) -> Vec<Value> {
    run.stdout.lines().map(json).collect()
}

#[test]
fn each_setting_says_who_set_it_and_no_secret_is_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "[l1]\nmax_entries = 5\n[l2]\nurl = \"redis://app:hunter2@127.0.0.1:1\"\n";
    let file = write(folder.path(), "terrace.toml", text.as_bytes());
    let file = file.to_string_lossy();
    let mut command = terrace();
    command.args(["config", "show", "--origin", "-c", &file]).env("CACHE_DEFAULT_TTL", "60");
    let shown = String::from_utf8(command.output().expect("it runs").stdout).expect("text");
    let line = |key: &str| {
        shown
            .lines()
            .find(|line| line.starts_with(&format!("{key} = ")))
            .unwrap_or_else(|| panic!("{key}: {shown}"))
    };
    assert!(line("l1.max_entries").ends_with(&format!("# {file}:2")), "{shown}");
    assert!(line("defaults.ttl").ends_with("# environment variable CACHE_DEFAULT_TTL"), "{shown}");
    assert!(line("l1.policy").ends_with("# default"), "{shown}");
    assert!(line("l2.url").contains("redis://***@127.0.0.1:1") && !shown.contains("hunter2"), "{shown}");
    let settings = run(["config", "show", "--json", "-c", &file]).expect(0);
    let of =
        |key: &str| lines(&settings).into_iter().find(|setting| setting["key"] == key).expect("it is there");
    assert_eq!(of("l1.max_entries")["value"], "5");
    let plain = run(["config", "show", "-c", &file]).expect(0).stdout;
    assert!(plain.contains("max_entries = 5\n"), "{plain}");
    run(["config", "show", "-c", "/nowhere"]).expect(3);
}

#[test]
fn the_schema_is_json_and_the_same_for_everybody() {
    let schema = json(&run(["config", "schema"]).expect(0).stdout);
    assert_eq!(schema["properties"]["l1"]["properties"]["max_entries"]["default"], 10_000);
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn a_first_file_is_written_once_and_accepted() {
    let folder = tempfile::tempdir().expect("a folder");
    for origin in ["none", "postgres", "sqlite", "http"] {
        let file = folder.path().join(format!("{origin}.toml"));
        let file = file.to_string_lossy();
        let told = run(["init", "--origin", origin, &file]).expect(0).stderr;
        assert!(told.contains("terrace check -c"), "{told}");
        run(["config", "show", "-c", &file]).expect(0);
        let again = run(["init", &file]).expect(1).stderr;
        assert!(again.contains("--force"), "{again}");
        run(["init", "--force", "--quiet", "--origin", origin, &file]).expect(0);
    }
    run(["check", "-c", &folder.path().join("none.toml").to_string_lossy()]).expect(0);
    assert!(run(["init", "-"]).expect(0).stdout.contains("[keyspace.sessions]"));
}

#[test]
fn a_key_is_explained_without_a_service() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "[origin.o]\ntype = 'sqlite'\nfile = 'x'\n[keyspace.users]\npattern = 'user:{id}'\nttl = '15m'\n\
                stale_if_error = '10m'\n\nhard_timeout = '2s'\nsource = { origin = 'o', load = 'select * from users where id = :id' }\n";
    let file = write(folder.path(), "terrace.toml", text.as_bytes());
    let file = file.to_string_lossy();
    let told = run(["explain", "user:42", "-c", &file]).expect(0).stdout;
    for part in [
        "keyspace  users",
        &format!("pattern   user:{{id}}  ({file}:5)"),
        "part      id = 42",
        "ttl       15m",
        &format!("          stale_if_error = 10m  ({file}:7)"),
        &format!("          hard_timeout = 2s  ({file}:9)"),
        "load      select * from users",
        ":id = \"42\"",
    ] {
        assert!(told.contains(part), "{part} is missing in\n{told}");
    }
    let told = json(&run(["explain", "other", "--json", "-c", &file]).expect(0).stdout);
    assert_eq!((&told["keyspace"], &told["why"]), (&"default".into(), &"no pattern matches it".into()));
    assert_eq!(told["lifetimes"], Value::Array(Vec::new()));
    let told = json(&run(["explain", "user:42", "--json", "-c", &file]).expect(0).stdout);
    assert_eq!(told["pattern_from"], format!("{file}:5"));
    let stale = json(&format!(r#"{{"name":"stale_if_error","value":"10m","from":"{file}:7"}}"#));
    assert_eq!(told["lifetimes"][0], stale);
    run(["explain", "", "-c", &file]).expect(2);
    let piped = run_with_stdin(["explain", "user:42", "-c", "/dev/stdin"], text.as_bytes()).expect(0).stdout;
    assert!(piped.contains("(/dev/stdin:5)") && piped.contains("(/dev/stdin:9)"), "{piped}");
}

#[test]
fn a_dictionary_is_learned_measured_and_used() {
    let service = Service::start(CONFIG);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("users.dict");
    let file = file.to_str().expect("a name in UTF-8");
    let train = ["dict", "train", "users", "-o", file];
    let few = service.run(&train).expect(1).stderr;
    assert!(few.contains("of 100 at least") && few.contains("terrace warm"), "{few}");
    let big = service.run(&["dict", "train", "users", "-o", file, "--size", "1MiB"]).expect(2).stderr;
    assert!(big.contains("1MiB") && big.contains("128KiB"), "{big}");
    assert!(!Path::new(file).exists());
    let values = folder.path().join("values");
    let value = |id: u64| {
        let mixed = id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        json(&format!(
            r#"{{"id":{id},"name":"{mixed:016x}","plan":"team","active":true,"roles":["reader","writer"]}}"#
        ))
    };
    let lines: Vec<String> = (0..600)
        .map(|id| serde_json::json!({ "key": format!("user:{id}"), "value": value(id) }).to_string())
        .collect();
    std::fs::write(&values, lines.join("\n")).expect("the folder can be written to");
    service.run(&["warm", values.to_str().expect("a name")]).expect(0);
    let trained = service.run(&["dict", "train", "users", "-o", file, "--json", "--size", "4KiB"]).expect(0);
    let told = json(&trained.stdout);
    let number = |name: &str| told[name].as_u64().expect("a number");
    assert_eq!((number("learned"), number("measured")), (480, 120), "{told}");
    assert_eq!(
        number("without_bytes"),
        number("value_bytes"),
        "they are too short to be compressed without: {told}"
    );
    assert!(trained.stderr.contains("to use it: [keyspace.users]"), "{}", trained.stderr);
    assert!(number("with_bytes") * 2 < number("without_bytes"), "{told}");
    assert!(
        trained.stderr.contains("measured on 120 others")
            && trained.stderr.contains("compression = { dictionary =")
    );
    let bytes = std::fs::read(file).expect("it is there");
    assert_eq!((bytes.len() as u64, &bytes[..4]), (number("bytes"), &[0x37, 0xA4, 0x30, 0xEC][..]));
    let users = |compression: &str| {
        format!("[keyspace.users]\npattern = 'user:{{id}}'\ncompression = {compression}\n")
    };
    let config = folder.path().join("terrace.toml");
    std::fs::write(&config, users(&format!("{{ dictionary = '{file}' }}"))).expect("written");
    let config = config.to_str().expect("a name");
    let shown = run(["config", "show", "-c", config]).expect(0).stdout;
    assert!(shown.contains("users.dict"), "{shown}");
    std::fs::write(config, users(&format!("{{ dictionary = '{config}' }}"))).expect("written");
    let refused = run(["config", "show", "-c", config]).expect(1).stderr;
    assert!(refused.contains("no dictionary of zstd") && refused.contains('^'), "{refused}");
    std::fs::write(config, users("{ dictionary = '/nowhere/x.dict' }")).expect("written");
    let refused = run(["config", "show", "-c", config]).expect(1).stderr;
    assert!(refused.contains("cannot be read") && refused.contains("dict train"), "{refused}");
}

#[test]
fn several_keys_are_got_in_their_order_and_a_ttl_without_loading() {
    let service = Service::start(CONFIG);
    for (key, ttl) in [("user:1", "1m"), ("user:2", "never")] {
        service.run(&["set", key, "7", "--ttl", ttl]).expect(0);
    }
    let got = service.run(&["mget", "user:2", "user:none", "user:1"]).expect(3);
    let got: Vec<(Value, Value)> =
        lines(&got).into_iter().map(|entry| (entry["key"].clone(), entry["value"].clone())).collect();
    assert_eq!(
        got,
        [("user:2".into(), 7.into()), ("user:none".into(), Value::Null), ("user:1".into(), 7.into())]
    );
    service.run(&["mget", "user:1"]).expect(0);
    let ttl: f64 = service.run(&["ttl", "user:1"]).expect(0).stdout.trim().parse().expect("a number");
    assert!(ttl > 0.0 && ttl <= 60.0, "{ttl}");
    assert_eq!(service.run(&["ttl", "user:2"]).expect(0).stdout, "never\n");
    assert_eq!(json(&service.run(&["ttl", "user:2", "--json"]).expect(0).stdout)["ttl"], Value::Null);
    assert_eq!(service.run(&["ttl", "user:none"]).expect(3).stdout, "");
    for verb in [
        &["mget", "k"][..],
        &["ttl", "k"],
        &["keyspaces"],
        &["breakers"],
        &["keys"],
        &["queue", "ls"],
        &["bench"],
        &["touch", "k", "--ttl", "5"],
    ] {
        run(verb.iter().copied().chain(["--url", "http://127.0.0.1:1"])).expect(5);
    }
}

#[test]
fn many_keys_are_stored_and_read_and_each_failure_is_told() {
    let service = Service::start(CONFIG);
    let folder = tempfile::tempdir().expect("a folder");
    let text = "{\"key\":\"user:1\",\"value\":{\"n\": 1.10},\"ttl\":\"1m\",\"tags\":[\"t\"]}\n\n{\"key\":\"user:2\",\"value\":2}\nuser:none\n";
    let file = write(folder.path(), "keys", text.as_bytes());
    let warmed = service.run(&["warm", &file.to_string_lossy()]).expect(0);
    assert_eq!(
        (warmed.stdout.as_str(), warmed.stderr.as_str()),
        ("", "2 stored, 0 read, 1 that nobody has, 0 failed\n")
    );
    assert_eq!(service.run(&["get", "user:1"]).expect(0).stdout, "{\"n\": 1.10}");
    let piped = run_with_stdin(
        ["warm", "-", "--json", "--url", &service.url],
        b"user:1\nuser:2\n{\"key\":\"user:3\"}\n",
    )
    .expect(1);
    assert_eq!(json(&piped.stdout), json(r#"{"stored":0,"read":2,"missing":0,"failed":1}"#));
    assert!(piped.stderr.contains("not done: {\"key\":\"user:3\"}"), "{}", piped.stderr);
    run_with_stdin(["warm", "-", "--url", "http://127.0.0.1:1"], b"user:1\n").expect(5);
    service.run(&["warm", "/nowhere"]).expect(3);
}

#[test]
fn a_bench_says_what_it_ran_on_and_leaves_nothing() {
    let service = Service::start("[server]\nlisten = \"127.0.0.1:0\"\n");
    let args = ["bench", "--duration", "300ms", "--keys", "20", "--concurrency", "2"];
    let told = service.run(&[&args[..], &["--json"]].concat()).expect(0);
    let told = lines(&told);
    assert_eq!((told.len(), &told[0]["tier"], &told[0]["failed"]), (1, &"l1".into(), &0.into()));
    assert!(
        told[0]["requests"].as_u64() > Some(0) && told[0]["p50_us"].as_f64() <= told[0]["p99_us"].as_f64(),
        "{told:?}"
    );
    assert!(told[0]["environment"]["cores"].as_u64() > Some(0));
    service.run(&["get", "bench:1"]).expect(3);
    let table = service.run(&args).expect(0).stdout;
    assert!(table.contains("| l1 ") && table.contains("2 clients, 20 keys, 0 failed; from "), "{table}");
    service.run(&["bench", "--duration", "100ms", "--keys", "5", "--read-only"]).expect(1);
}

#[test]
fn the_queue_is_seen_sent_retried_and_dropped() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(&crate::journal::queued(folder.path()));
    let set = service.run(&["set", "-v", "t:1", "good"]).expect(0).stderr;
    let show: Vec<&str> = set.split('`').nth(1).expect("a command").split(' ').skip(1).collect();
    assert_eq!(show[..3], ["queue", "show", "t"], "{set}");
    let waiting = service.run(&show).expect(0).stdout;
    assert!(waiting.starts_with("waits to store t:1 for") && waiting.contains("not tried yet"), "{waiting}");
    let listed = service.run(&["queue", "ls"]).expect(0).stdout;
    assert!(listed.lines().any(|line| line.starts_with("| t ")), "{listed}");
    assert_eq!(json(&service.run(&["queue", "ls", "--json"]).expect(0).stdout)["keyspaces"][0]["pending"], 1);
    let flushed = service.run(&["queue", "flush", "t"]).expect(0).stderr;
    assert!(flushed.contains("1 reached the origin"), "{flushed}");
    assert!(service.run(&show).expect(0).stdout.starts_with("waits no more"));
    assert!(service.run(&["queue", "show", "t", "x"]).expect(3).stderr.contains("never gave out this id"));
    let set = service.run(&["set", "--json", "t:2", "bad"]).expect(0).stdout;
    service.run(&["queue", "flush", "t"]).expect(1);
    let id = json(&set)["write_id"].as_str().expect("an id").to_owned();
    let dead = service.run(&["queue", "show", "t", &id]).expect(1).stdout;
    assert!(dead.starts_with("was given up, tried once: to store t:2: "), "{dead}");
    let listed = service.run(&["queue", "ls"]).expect(0).stdout;
    assert!(listed.contains("Given up:") && listed.contains("t:2"), "{listed}");
    assert!(service.run(&["queue", "drop", "t", "t:2"]).expect(2).stderr.contains("--yes"));
    service.run(&["queue", "retry", "t", "t:2"]).expect(0);
    service.run(&["queue", "flush", "t"]).expect(1);
    assert!(service.run(&["queue", "drop", "t", "t:2", "--yes"]).expect(0).stderr.contains("dropped 1"));
    service.run(&["queue", "drop", "t", "t:2", "--yes"]).expect(3);
    service.run(&["queue", "flush", "nothing"]).expect(3);
}

#[test]
fn a_configuration_comes_through_a_pipe_that_is_opened_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("it runs").success());
    let mut command = terrace();
    command.args(["explain", "user:42", "-c"]).arg(&pipe);
    let mut running = Running::start(&mut command);
    std::fs::write(&pipe, "[keyspace.users]\npattern = 'user:{id}'\n").expect("somebody reads");
    running.stdout.find("keyspace  users");
    assert_eq!(running.wait(), 0);
}

#[test]
fn the_doctor_says_what_is_ill_and_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let doctor = |text: &str, args: &[&str]| {
        let text = format!("server.listen = \"127.0.0.1:0\"\n{text}");
        let file = write(folder.path(), "terrace.toml", text.as_bytes());
        run(["doctor", "-c", &file.to_string_lossy()].iter().chain(args))
    };
    let well = doctor("", &[]).expect(0);
    assert!(
        well.stdout.contains("ok      server.listen") && well.stderr.contains("nothing is wrong"),
        "{well:?}"
    );
    let ill = doctor("[l2]\nurl = \"redis://127.0.0.1:1\"\n", &["--json"]).expect(5);
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let text = format!("server.listen = \"{}\"\n", silent.local_addr().expect("it is bound"));
    let file = write(folder.path(), "silent.toml", text.as_bytes());
    let unasked = lines(&run(["doctor", "-c", &file.to_string_lossy(), "--json"]).expect(0));
    let said = unasked.iter().find(|finding| finding["what"] == "running").expect("it is said");
    assert_eq!(said["state"], "note", "{said}");
    let l2 = lines(&ill).into_iter().find(|finding| finding["what"] == "l2").expect("l2 is looked at");
    assert_eq!(l2["state"], "not ok");
    assert!(l2["next"].as_str().is_some_and(|next| next.contains("l2.url")), "{l2}");
}

#[test]
fn the_doctor_asks_the_service_that_runs_what_it_leaves_alone() {
    let origin = "[origin.main]\ntype = \"postgres\"\nurl = \"postgres://nobody@127.0.0.1:1/none\"\n\
        breaker = { min_calls = 1, open = \"10m\" }\n[keyspace.a]\npattern = \"a:{id}\"\n\
        source = { origin = \"main\", load = \"select :id as id\" }\n";
    let service = Service::start(origin);
    let address = service.url.trim_start_matches("http://");
    let text = format!("server.listen = \"{address}\"\n{origin}");
    let file = write(service.folder.path(), "doctor.toml", text.as_bytes());
    let found = || {
        let findings = lines(&run(["doctor", "-c", &file.to_string_lossy(), "--json"]));
        let of_it = findings.into_iter().find(|finding| finding["what"] == "running.origin.main");
        of_it.expect("the service was asked")
    };
    assert_eq!(found()["state"], "ok");
    service.run(&["get", "a:1"]).expect(5);
    let ill = found();
    assert_eq!(ill["state"], "not ok");
    assert!(ill["says"].as_str().is_some_and(|says| says.contains("its breaker is open")), "{ill}");
    assert!(ill["next"].as_str().is_some_and(|next| next.contains("the log of the service")), "{ill}");
}

#[test]
fn shells_and_man_are_told_of_every_verb() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(["completions", shell]).expect(0).stdout.contains("journal"), "{shell}");
    }
    assert!(run(["man"]).expect(0).stdout.contains(".TH terrace 1"));
    let folder = tempfile::tempdir().expect("a folder");
    run(["man", "--folder", &folder.path().to_string_lossy()]).expect(0);
    assert!(folder.path().join("terrace-queue-ls.1").is_file());
}

#[test]
fn a_token_comes_from_the_environment_alone() {
    let service = Service::start(CONFIG);
    let mut command = terrace();
    command.args(["get", "user:1", "--url", &service.url]).env("TERRACE_TOKEN", "two\nlines");
    let refused = command.output().expect("it runs");
    assert_eq!(refused.status.code(), Some(2));
    assert!(!String::from_utf8_lossy(&refused.stderr).contains("two"), "a token is never shown");
}

#[test]
fn a_hangup_lets_the_service_read_its_file_anew_and_a_bad_file_changes_nothing() {
    let mut service = Service::start(CONFIG);
    service.run(&["set", "user:1", "1"]).expect(0);
    let rewrite = |service: &Service, text: &str| {
        write(service.folder.path(), "terrace.toml", text.as_bytes());
        service.running.signal("HUP");
    };
    rewrite(&service, "[keyspace.users]\npatern = \"user:{id}\"\n");
    let refused = service.running.stderr.find("the old one stays in force");
    assert!(refused.contains("^^^^^^") && refused.contains("did you mean `pattern`?"), "{refused}");
    rewrite(&service, "[l1]\nmax_entries = 7\n");
    assert!(service.running.stderr.find("cannot be changed").contains("l1.max_entries"));
    rewrite(&service, "[keyspace.users]\npattern = \"user:{id}\"\nttl = \"7s\"\n");
    assert!(service.running.stderr.find("another configuration is in force").contains("keyspace.users.ttl"));
    service.run(&["set", "user:2", "2"]).expect(0);
    let ttl =
        |key: &str| -> f64 { service.run(&["ttl", key]).expect(0).stdout.trim().parse().expect("a number") };
    assert!(ttl("user:1") > 7.0 && ttl("user:2") <= 7.0);
}

#[test]
fn a_supervisor_is_told_when_it_is_ready_and_when_it_stops() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(crate::process::DEADLINE)).expect("a deadline");
    let mut command = terrace();
    command.args(["serve", "--listen", "127.0.0.1:0"]).env("NOTIFY_SOCKET", &path);
    let mut service = Running::start(&mut command);
    let told = || {
        let mut line = [0; 64];
        let length = socket.recv(&mut line).expect("it tells");
        String::from_utf8_lossy(&line[..length]).into_owned()
    };
    assert_eq!(told(), "READY=1");
    service.stdout.find("listening on");
    service.signal("INT");
    assert_eq!(told(), "STOPPING=1");
    assert_eq!(service.wait(), 0);
}

#[test]
fn it_starts_without_redis_and_without_its_origin() {
    let config = "[l2]\nurl = \"redis://127.0.0.1:1\"\n[origin.o]\ntype = \"sqlite\"\nfile = \"/nowhere/ref.db\"\n\
                  [keyspace.rows]\npattern = \"row:{id}\"\nsource = { origin = \"o\", load = \"select * from t where id = :id\" }\n";
    let service = Service::start(config);
    service.run(&["set", "user:1", "1"]).expect(0);
    assert_eq!(service.run(&["get", "user:1"]).expect(0).stdout, "1");
    let ready = crate::http::request("GET", &format!("{}/readyz", service.url), &[], "");
    assert_eq!((ready.status, &ready.body["degraded"][0]), (200, &"l2".into()));
    service.run(&["get", "row:1"]).expect(5);
}

#[test]
fn keyspaces_and_breakers_are_tables_or_json() {
    let service = Service::start(CONFIG);
    service.run(&["set", "user:1", "1"]).expect(0);
    service.run(&["get", "user:1"]).expect(0);
    let table = service.run(&["keyspaces"]).expect(0).stdout;
    let users = table.lines().find(|line| line.starts_with("| users ")).unwrap_or_else(|| panic!("{table}"));
    for part in ["user:{id}", "cache-aside", "300 s", "100.00 %"] {
        assert!(users.contains(part), "{part} is missing in {users}");
    }
    let told = json(&service.run(&["keyspaces", "--json"]).expect(0).stdout);
    assert_eq!(
        (&told["keyspaces"][0]["name"], &told["keyspaces"][0]["hits_l1"]),
        (&"users".into(), &1.into())
    );
    assert!(service.run(&["breakers"]).expect(0).stdout.contains("the service has no L2"));
    assert_eq!(json(&service.run(&["breakers", "--json"]).expect(0).stdout), json("{\"breakers\":[]}"));
    let alone = Service::start("[l2]\nurl = \"redis://127.0.0.1:1\"\n");
    let table = alone.run(&["breakers"]).expect(0).stdout;
    assert!(table.lines().any(|line| line.starts_with("| l2 ")), "{table}");
}

/// The verbs that the program has, as its help lists them.
fn verbs(help: &str) -> Vec<String> {
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let list = list.take_while(|line| !line.is_empty());
    list.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn the_help_is_as_it_was_reviewed_and_the_page_has_every_verb() {
    let help = run(["--help"]).expect(0).stdout;
    let reviewed = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/help.txt");
    let reviewed = std::fs::read_to_string(reviewed).expect("the reviewed help");
    assert_eq!(help, reviewed, "if that is meant: terrace --help > crates/terrace-cli/tests/it/help.txt");
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let verbs = verbs(&help);
    assert!(verbs.len() > 25, "{verbs:?}");
    for verb in verbs.iter().filter(|verb| *verb != "help") {
        assert!(page.contains(&format!("`{verb}")), "docs/cli.md does not tell of `{verb}`");
        let own = run([verb.as_str(), "--help"]).expect(0).stdout;
        assert!(own.contains("Usage: terrace"), "{own}");
    }
}

#[test]
fn a_screen_needs_a_terminal() {
    let service = Service::start(CONFIG);
    assert!(service.run(&["top"]).expect(2).stderr.contains("top --json"));
}

#[test]
fn a_signal_ends_top_though_its_service_does_not_answer() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("it is bound"));
    let mut command = terrace();
    command.args(["top", "--json", "--url", &url]);
    let top = Running::start(&mut command);
    let (mut asked, _) = silent.accept().expect("it connects");
    asked.read_exact(&mut [0; 3]).expect("it asks");
    top.signal("INT");
    assert_eq!(top.wait(), 0, "5 if it waits for the answer");
}

#[test]
fn what_a_screen_would_show_is_an_object_a_line_until_a_signal() {
    let service = Service::start(CONFIG);
    service.run(&["get", "user:1"]).expect(3);
    let mut command = terrace();
    command.args(["top", "--json", "--interval", "100ms", "--url", &service.url]);
    let mut top = Running::start(&mut command);
    let [first, second] = [(); 2].map(|()| json(&top.stdout.find("\"keyspaces\"")));
    let users = |told: &Value| told["keyspaces"][0].clone();
    assert_eq!((&users(&first)["name"], &users(&first)["misses"]), (&"users".into(), &1.into()));
    assert_eq!(
        (&users(&first)["per_second"], &users(&second)["per_second"]["misses"]),
        (&Value::Null, &0.into())
    );
    assert!(
        second["hot"].is_array() && second["breakers"].is_array() && second["bus"].is_object(),
        "{second}"
    );
    top.signal("INT");
    assert_eq!(top.wait(), 0);
    run(["top", "--json", "--url", "http://127.0.0.1:1"]).expect(5);
}
