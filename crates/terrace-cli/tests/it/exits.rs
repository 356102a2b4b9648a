//! How the command ends: one rule makes the exit code, whatever it is about.

use crate::process::{Service, run, write};

const QUEUE: &str = "[write_behind]\npath = 'FOLDER/journal'\n[origin.o]\ntype = 'sqlite'\nfile = 'FOLDER/ref.db'\n\
    [keyspace.wb]\npattern = 'wb:{id}'\nstrategy = 'write-behind'\n\
    source = { origin = 'o', load = 'select :id as id', store = 'insert into t values (:id, :value, :version)' }\n\
    [keyspace.users]\npattern = 'user:{id}'\n";

#[test]
fn what_is_named_and_not_there_is_3() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(&QUEUE.replace("FOLDER", &folder.path().to_string_lossy()));
    for line in [
        &["get", "user:none"][..],
        &["queue", "retry", "wb", "x"],
        &["queue", "drop", "wb", "x", "--yes"],
        &["queue", "flush", "users"],
        &["queue", "show", "wb", "zzz"],
        &["warm", "/nowhere/keys"],
        &["hot", "--keyspace", "nope"],
        &["keys", "*", "--keyspace", "nope"],
        &["dict", "train", "nope", "-o", "/nowhere/dictionary"],
        &["queue", "ls", "--keyspace", "nope"],
        &["queue", "flush", "nope"],
    ] {
        service.run(line).expect(3);
    }
    for line in [
        &["journal", "inspect", "/nowhere/journal"][..],
        &["check", "-c", "/nowhere/terrace.toml"],
        &["serve", "-c", "/nowhere/terrace.toml"],
        &["config", "show", "-c", "/nowhere/terrace.toml"],
        &["replay", "/nowhere/trace"],
    ] {
        let told = run(line).expect(3).stderr;
        assert!(told.contains("cannot be read") && told.contains("because:"), "{line:?}: {told}");
    }
}

#[test]
fn what_makes_no_sense_is_2_whoever_says_so() {
    let service = Service::start("[l1]\nmax_entries = 9\n");
    for line in [&["get", ""][..], &["ttl", ""], &["set", "", "1"], &["watch", "--type", "bogus"]] {
        service.run(line).expect(2);
    }
    run(["explain", ""]).expect(2);
    let long = "k".repeat(600);
    service.run(&["get", &long]).expect(2);
    service.run(&["keys", &long]).expect(2);
    service.run(&["keys", &long, "--keyspace", "default"]).expect(2);
    for line in [
        &["invalidate", "--pattern", &long, "--yes"][..],
        &["invalidate", "--pattern", &long, "--dry-run"],
        &["invalidate", "--pattern", "", "--yes"],
        &["invalidate", "--key", ""],
        &["invalidate", "--key", &long],
        &["invalidate", "--tag", ""],
        &["invalidate", "--key", "k", "--after", "soon"],
        &["set", "k", "1", "--tag", ""],
        &["del", ""],
        &["why", ""],
        &["watch", "--pattern", &long],
    ] {
        service.run(line).expect(2);
    }
    let file = write(service.folder.path(), "keys", format!("{long}\nother\n").as_bytes());
    let warmed = service.run(&["warm", &file.to_string_lossy(), "--json"]).expect(1);
    assert!(
        warmed.stdout.contains("\"failed\":1,\"missing\":1"),
        "one bad key of many ends nothing: {}",
        warmed.stdout
    );
    assert!(run(["watch", "--type", "bogus"]).expect(2).stderr.contains("possible values: set, invalidate"));
}

#[test]
fn what_is_wrong_with_what_was_looked_at_is_1_and_what_does_not_answer_5() {
    let folder = tempfile::tempdir().expect("a folder");
    let broken = write(folder.path(), "journal", b"this is no journal, and was none before");
    run(["journal", "inspect", &broken.to_string_lossy()]).expect(1);
    let file = write(folder.path(), "wrong.toml", b"[l1]\nmax_entris = 1\n");
    run(["check", "-c", &file.to_string_lossy()]).expect(1);
    run(["get", "k", "--url", "http://127.0.0.1:1"]).expect(5);
}
