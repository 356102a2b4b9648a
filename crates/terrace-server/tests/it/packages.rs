//! What `deploy/` has for containers, clusters and units: configurations are ones that the service takes, and what packages them makes of
//! them what they say, or refuses them.

use crate::deploy::{file, folder};
use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;
use terrace_server::config::{Config, Sources};

/// What the configurations name and do not have.
const SECRETS: [(&str, &str); 2] = [("APP_TOKEN_SHA256", "a1"), ("OPERATOR_TOKEN_SHA256", "b2")];

/// How long each way to run it waits for its end.
fn patience(name: &str) -> Duration {
    let (path, key) = match name {
        "systemd" => ("systemd/terrace.service", "TimeoutStopSec="),
        "compose" => ("compose/compose.yml", "stop_grace_period: "),
        _ => ("helm/terrace/values.yaml", "terminationGracePeriodSeconds: "),
    };
    let text = file(path);
    let value = text.lines().find_map(|line| line.trim().strip_prefix(key)).expect("a time");
    Duration::from_secs(value.trim_end_matches('s').parse().expect("seconds"))
}

/// The configuration of each way to run it is one that the service takes.
#[test]
fn the_configurations_are_ones_that_the_service_takes() {
    let block = |text: &str| -> String {
        let lines = text.lines().skip_while(|line| line.trim_end() != "config: |").skip(1);
        let lines = lines.take_while(|line| line.is_empty() || line.starts_with("  "));
        lines.map(|line| line.strip_prefix("  ").unwrap_or(line).to_owned() + "\n").collect()
    };
    for (name, toml) in [
        ("systemd", file("systemd/terrace.toml")),
        ("compose", file("compose/terrace/terrace.toml")),
        ("helm", block(&file("helm/terrace/values.yaml"))),
    ] {
        assert!(toml.contains("[server]"), "{name}: {toml}");
        let sources =
            Sources::text(toml).variables(SECRETS.map(|(name, hex)| (name.to_owned(), hex.repeat(32))));
        let config = Config::load(&sources).unwrap_or_else(|error| panic!("{name}: {error}"));
        let stopping = config.server.shutdown.drain.0 + config.server.shutdown.grace.0;
        assert!(stopping < patience(name), "{name}: it would be killed while it stops");
    }
}

/// What Docker is given of a checkout has every crate of the workspace, without which cargo builds none, and each is there.
#[test]
fn the_image_is_built_from_every_member() {
    let ignored = file("../.dockerignore");
    assert!(ignored.lines().any(|line| line == "*"), "{ignored}");
    let taken: BTreeSet<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let manifest = file("../Cargo.toml");
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = [")).expect("members");
    for member in members.split('"').skip(1).step_by(2) {
        let top = member.split('/').next().expect("a folder");
        assert!(taken.contains(top), "{member} is not in the image's context: {ignored}");
    }
    for one in taken {
        assert!(folder().join("..").join(one).exists(), "there is no {one}");
    }
}

/// What systemd is told fits what the service tells it, and a reload is what the service reads its file anew for.
#[test]
fn the_unit_waits_until_it_is_told_and_reloads_by_sighup() {
    let unit = file("systemd/terrace.service");
    let lines: Vec<&str> = unit.lines().map(str::trim).collect();
    assert!(lines.contains(&"Type=notify"), "{unit}");
    assert!(lines.contains(&"ExecReload=/bin/kill -HUP $MAINPID"), "{unit}");
    assert!(
        lines.iter().any(|line| line.starts_with("RestrictAddressFamilies=") && line.contains("AF_UNIX"))
    );
    let checked = Command::new("systemd-analyze").args(["--version"]).output();
    if checked.is_err() {
        eprintln!("SKIP: install systemd, which has systemd-analyze");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("terrace.service");
    // The program is not installed where tests run.
    std::fs::write(&copy, unit.replace("/usr/bin/terrace", "/bin/true")).expect("the folder is ours");
    let verified =
        Command::new("systemd-analyze").arg("verify").arg(&copy).output().expect("it ran a moment ago");
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(!said.contains("terrace.service"), "{said}");
}

/// The value of a regular expression that the chart looks for in the configuration.
fn looked_for(helpers: &str, name: &str) -> String {
    let of = helpers.split_once(&format!("define \"terrace.{name}\"")).expect(name).1;
    of.split('`').nth(1).expect("a pattern").to_owned()
}

/// Of each pattern, whether a text has what it looks for; `None` if that cannot be found out here.
fn has(patterns: &[String], text: &str) -> Option<Vec<bool>> {
    let search = "import re, sys\nfor one in sys.argv[2:]: print('yn'[re.search(one, sys.argv[1]) is None])";
    let found = Command::new("python3").args(["-c", search, text]).args(patterns).output().ok()?;
    assert!(found.status.success(), "{found:?}");
    Some(String::from_utf8(found.stdout).expect("text").lines().map(|line| line == "y").collect())
}

/// What the chart takes from the configuration is what the service takes from it.
#[test]
fn the_chart_sees_what_a_configuration_says() {
    let helpers = file("helm/terrace/templates/_helpers.tpl");
    let names = ["has-admin", "has-tls", "wants-certificates", "can-be-reached", "writes-behind"];
    let patterns = names.map(|name| looked_for(&helpers, name));
    let files = "cert_file = 'c', key_file = 'k'";
    let listen = "[server]\nlisten = '0.0.0.0:4000'\n";
    for (toml, expected) in [
        (file("helm/terrace/values.yaml"), "has-admin can-be-reached"),
        (file("compose/terrace/terrace.toml"), "can-be-reached writes-behind"),
        (format!("{listen}# admin_listen = 'x'\n#tls = {{ {files} }}\n"), "can-be-reached"),
        (format!("[server]\n  tls = {{ {files} }}\n"), "has-tls"),
        (format!("server.tls = {{ {files} }}\nserver.admin_listen = 'x'\n"), "has-admin has-tls"),
        ("[server]\nadmin_listen = 'x'\n[server.tls]\ncert_file = 'c'\n".to_owned(), "has-admin has-tls"),
        (format!("[server]\ntls = {{ {files}, client_ca_file = 'ca' }}\n"), "has-tls wants-certificates"),
        ("[l2]\nurl = 'rediss://h'\n[l2.tls]\nroot_certificate_file = 'ca'\n".to_owned(), ""),
        (format!("{listen}[l2]\ntls = {{ root_certificate_file = 'ca' }}\n"), "can-be-reached"),
        ("[server]\nlisten = \"[::]:4000\"\n".to_owned(), "can-be-reached"),
        ("server = { listen = '127.0.0.1:4000', admin_listen = '0.0.0.0:4000' }\n".to_owned(), "has-admin"),
        ("[keyspace.a]\n# strategy = 'write-behind'\nstrategy = 'write-through'\n".to_owned(), ""),
    ] {
        let Some(found) = has(&patterns, &toml) else { return eprintln!("SKIP: install Python") };
        assert_eq!(found.len(), names.len(), "{toml}");
        let found: Vec<&str> =
            names.into_iter().zip(found).filter_map(|(name, is)| is.then_some(name)).collect();
        assert_eq!(found.join(" "), expected, "{toml}");
    }
}

#[test]
fn probes_follow_the_listeners_and_a_journal_excludes_autoscaling() {
    let helpers = file("helm/terrace/templates/_helpers.tpl");
    let workload = file("helm/terrace/templates/workload.yaml");
    assert!(workload.starts_with("{{- include \"terrace.check\" . }}"), "{workload}");
    assert_eq!(workload.matches("include \"terrace.probe\"").count(), 3);
    assert!(!workload.contains("port: admin"), "a probe has its port from the configuration");
    assert!(helpers.contains("if and .Values.journal.enabled .Values.autoscaling.enabled"));
    assert!(helpers.contains("fail \"journal.enabled and autoscaling.enabled exclude each other"));
}

/// What helm makes of the chart with some values, or what it says against them; nothing where there is no helm.
fn rendered(values: &str) -> Option<Result<String, String>> {
    let folder_of_values = tempfile::tempdir().expect("a folder");
    let values_file = folder_of_values.path().join("values.yaml");
    std::fs::write(&values_file, values).expect("the folder is ours");
    let chart = folder().join("helm/terrace");
    let helm =
        Command::new("helm").args(["template", "fleet"]).arg(chart).arg("-f").arg(values_file).output();
    let Ok(helm) = helm else {
        eprintln!("SKIP: install helm, which Debian does not have");
        return None;
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Some(if helm.status.success() { Ok(text(helm.stdout)) } else { Err(text(helm.stderr)) })
}

/// Values with a configuration of these lines.
fn with_config(lines: &[&str], values: &str) -> String {
    format!("config: |\n  {}\n{values}\n", lines.join("\n  "))
}

const LISTENS: &str = "listen = \"0.0.0.0:4000\"";
const TLS: &str = "tls = { cert_file = \"/tls/c\", key_file = \"/tls/k\" }";
const ALL_TLS: &str = "tls = { cert_file = \"/tls/c\", key_file = \"/tls/k\", client_ca_file = \"/tls/ca\" }";
const BEHIND: [&str; 4] = ["[server]", LISTENS, "[keyspace.a]", "strategy = \"write-behind\""];

#[test]
fn the_chart_makes_of_values_what_they_say() {
    let server = |line| with_config(&["[server]", LISTENS, line], "");
    let l2 = ["[server]", LISTENS, "[l2]", "tls = { root_certificate_file = \"/tls/ca\" }"];
    let (one_disk, monitor) = ("journal: {enabled: true}", "serviceMonitor: {enabled: true}");
    for (values, there, absent) in [
        (
            String::new(),
            &["kind: Deployment", "port: admin, scheme: HTTP}", "emptyDir", "kind: PodDisruptionBudget"][..],
            &["kind: StatefulSet", "kind: HorizontalPodAutoscaler", "kind: ServiceMonitor"][..],
        ),
        (server(TLS), &["port: http, scheme: HTTPS}"], &["scheme: HTTP}", "name: fleet-admin", "tcpSocket"]),
        (server(ALL_TLS), &["tcpSocket: {port: http}"], &["httpGet"]),
        (with_config(&l2, ""), &["port: http, scheme: HTTP}"], &["HTTPS"]),
        (with_config(&BEHIND, one_disk), &["kind: StatefulSet", "volumeClaimTemplates"], &["emptyDir"]),
        (monitor.to_owned(), &["kind: ServiceMonitor", "component: admin", "name: terrace-scrape"], &[]),
        ("autoscaling: {enabled: true}".to_owned(), &["kind: HorizontalPodAutoscaler"], &["replicas: 2"]),
        (
            with_config(&["[server]", "\"listen\" = \"${LISTEN:-0.0.0.0:4000}\""], ""),
            &["kind: Deployment"],
            &[],
        ),
        ("secretEnv: ''\npodDisruptionBudget: {enabled: false}".to_owned(), &[], &["envFrom", "Disruption"]),
    ] {
        let Some(made) = rendered(&values) else { return };
        let made = made.unwrap_or_else(|error| panic!("{values}: {error}"));
        for text in there {
            assert!(made.contains(text), "no {text} by {values}: {made}");
        }
        for text in absent {
            assert!(!made.contains(text), "{text} by {values}: {made}");
        }
    }
}

#[test]
fn the_chart_refuses_what_would_not_run_or_lose_writes() {
    for (values, said) in [
        ("autoscalling: {enabled: true}".to_owned(), "autoscalling"),
        ("replicas: two".to_owned(), "replicas"),
        ("journal: {enabled: true}\nautoscaling: {enabled: true}".to_owned(), "exclude each other"),
        (with_config(&["[l1]"], ""), "port 4000"),
        (with_config(&["[server]", LISTENS, "admin_listen = \"127.0.0.1:4001\""], ""), "port 4001"),
        (with_config(&BEHIND, ""), "lost with their pod"),
        (with_config(&[LISTENS, "[keyspace.a]", "'strategy' = 'write-behind'"], ""), "lost with their pod"),
        ("autoscaling: {enabled: true, minReplicas: 5, maxReplicas: 2}".to_owned(), "maxReplicas"),
    ] {
        let Some(made) = rendered(&values) else { return };
        let refusal = made.expect_err(&values);
        assert!(refusal.contains(said), "{values}: {refusal}");
    }
}
