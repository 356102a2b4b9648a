//! `doctor`: what is wrong with what a configuration names, and what to do about it.
//!
//! 1. It changes nothing. It asks what `check` asks, and Redis for its version, user, settings and time.
//!    Where a service listens already it is asked what it leaves alone, with the token that other commands use.
//! 2. Each finding says what was looked at, how it is, and, unless it is well, the next step.

use super::finding::{self, Finding, State};
use crate::args::{DoctorArgs, TlsArgs};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::{self, Talk};
use crate::runtime;
use crate::words;
use serde_json::Value;
use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;
use terrace_server::config::{Config, L2Config};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// From which difference on clocks are told to differ.
const SKEW_MAX: Duration = Duration::from_millis(500);
/// From which time on a server is told to be far away: a read waits for 250 ms for it at most, all its calls together.
const FAR: Duration = Duration::from_millis(20);

/// Looks for what is wrong.
pub(crate) async fn doctor(args: DoctorArgs, talk: Talk) -> anyhow::Result<Exit> {
    let config = super::serve::load(&super::check::sources(args.file.config)?)?;
    let here = listener(&config);
    let is_taken = here.state != State::Well;
    let mut findings = vec![here];
    let checked = terrace_server::check(&config)
        .await
        .map_err(|error| Failure::new(Exit::Failure, "the configuration cannot be used").why(error))?;
    findings.extend(finding::of_configuration(checked));
    match &config.l2 {
        None => findings.push(finding::no_l2()),
        Some(l2) => findings.extend(redis(l2).await),
    }
    if is_taken {
        findings.extend(running(&config, &args.tls).await);
    }
    for finding in &findings {
        print(finding, args.json, talk)?;
    }
    let ill = findings.iter().filter(|finding| finding.state.is_ill()).count();
    if !args.json {
        talk.say(if ill == 0 {
            "nothing is wrong".to_owned()
        } else {
            format!("{ill} of {} are not well", findings.len())
        });
    }
    Ok(finding::exit(&findings))
}

fn print(finding: &Finding, is_json: bool, talk: Talk) -> anyhow::Result<()> {
    if is_json {
        return output::line(&finding.json());
    }
    if finding.state == State::Well && talk == Talk::Quiet {
        return Ok(());
    }
    output::line(&finding.words())?;
    match finding.next {
        Some(next) => output::line(&format!("        next: {next}")),
        None => Ok(()),
    }
}

fn listener(config: &Config) -> Finding {
    match TcpListener::bind(&config.server.listen) {
        Ok(_) => Finding::new("server.listen", State::Well, format!("{} is free", config.server.listen), ""),
        Err(error) => Finding::new(
            "server.listen",
            State::Note,
            format!("{} cannot be listened on now: {error}", config.server.listen),
            "if that is terrace itself, all is well; else choose another address",
        ),
    }
}

/// What the service that listens where this one would leaves alone, or that it does not say.
async fn running(config: &Config, tls: &TlsArgs) -> Vec<Finding> {
    let Some(address) = address(config) else { return Vec::new() };
    let asking = async { Client::at(&address, tls).ok()?.readiness().await.ok() };
    let said = tokio::time::timeout(PATIENCE, asking).await.ok().flatten();
    let ready: Option<Value> = said.and_then(|said| serde_json::from_str(&said).ok());
    let Some(checks) = ready.as_ref().and_then(|ready| ready["checks"].as_array()) else {
        let says = format!("what listens there could not be asked at {address} what it leaves alone");
        let next = "if it is terrace, ask it by the name that is in its certificate: `terrace breakers --url https://NAME`";
        return vec![Finding::new("running", State::Note, says, next)];
    };
    checks.iter().filter_map(left_alone).collect()
}

/// Where a service with this configuration is asked from this machine.
fn address(config: &Config) -> Option<String> {
    let scheme = if config.server.tls.is_some() { "https" } else { "http" };
    let listen = &config.server.listen;
    let listen = match listen.parse::<SocketAddr>() {
        Ok(at) if at.ip().is_unspecified() && at.is_ipv4() => format!("127.0.0.1:{}", at.port()),
        Ok(at) if at.ip().is_unspecified() => format!("[::1]:{}", at.port()),
        _ => listen.clone(),
    };
    (!listen.ends_with(":0")).then(|| format!("{scheme}://{listen}"))
}

/// What a breaker of a running service does, by what it says when it is asked whether it is ready.
fn left_alone(check: &Value) -> Option<Finding> {
    let (name, state) = (check["check"].as_str()?, check["state"].as_str()?);
    let is_of_redis = name == "breaker";
    if !is_of_redis && name != "origin" && !name.starts_with("origin.") {
        return None;
    }
    let what = if is_of_redis { "running.l2".to_owned() } else { format!("running.{name}") };
    if check["ok"] == true {
        return Some(Finding::new(what, State::Well, "the service that runs asks it", ""));
    }
    if !is_of_redis && state == "half_open" {
        let says = "it failed too often, and the next call of the service that runs asks it again: its breaker is half_open";
        let next = "ask for something that is in no tier: what is answered shows whether it is well again";
        return Some(Finding::new(what, State::Note, says, next));
    }
    let says =
        format!("the service that runs leaves it alone, because it failed too often: its breaker is {state}");
    let next = if is_of_redis {
        "see that Redis runs and is not slow; it is asked again by itself. Do not restart the service: what is queued for Redis would be lost"
    } else {
        "see that the origin runs and is not slow, the log of the service has its words; it is asked again by the first call after `breaker.open`"
    };
    Some(Finding::new(what, State::Ill, says, next))
}

/// What Redis says of itself.
async fn redis(l2: &L2Config) -> Vec<Finding> {
    let url = l2.url.reveal();
    if !url.starts_with("redis://") && !url.starts_with("rediss://") {
        let says = "there are several servers, whose settings are not looked at";
        return vec![Finding::new(
            "redis",
            State::Note,
            says,
            "let doctor look at each, with `l2.url` set to it alone",
        )];
    }
    match tokio::time::timeout(PATIENCE, Asked::ask(l2)).await {
        Ok(Ok(asked)) => asked.findings(),
        // `check` has said that it does not answer, and what to do.
        Ok(Err(error)) => {
            vec![Finding::new("redis", State::Note, format!("its settings cannot be asked for: {error}"), "")]
        }
        Err(_) => vec![Finding::new("redis", State::Note, "its settings were not told in time", "")],
    }
}

/// What a Redis server told.
#[derive(Debug, Default)]
struct Asked {
    user: Option<String>,
    info: HashMap<String, String>,
    settings: HashMap<String, String>,
    round_trip: Duration,
    skew: Option<Duration>,
}

impl Asked {
    async fn ask(l2: &L2Config) -> redis::RedisResult<Self> {
        let client = redis::Client::open(l2.url.reveal())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        if let Some(password) = &l2.password {
            let mut auth = redis::cmd("AUTH");
            if let Some(username) = &l2.username {
                auth.arg(username);
            }
            auth.arg(password.reveal()).exec_async(&mut connection).await?;
        }
        let mut asked = Self { round_trip: Duration::MAX, ..Self::default() };
        for _ in 0..5 {
            let begun = runtime::now();
            redis::cmd("PING").exec_async(&mut connection).await?;
            asked.round_trip = asked.round_trip.min(begun.elapsed());
        }
        asked.user = redis::cmd("ACL").arg("WHOAMI").query_async(&mut connection).await.ok();
        let info: String = redis::cmd("INFO").query_async(&mut connection).await.unwrap_or_default();
        let pairs = info.lines().filter_map(|line| line.split_once(':'));
        asked.info = pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
        for name in ["maxmemory-policy", "maxmemory", "min-replicas-to-write", "notify-keyspace-events"] {
            let mut ask = redis::cmd("CONFIG");
            let answer: HashMap<String, String> =
                ask.arg("GET").arg(name).query_async(&mut connection).await.unwrap_or_default();
            asked.settings.extend(answer);
        }
        let time: Option<(u64, u64)> = redis::cmd("TIME").query_async(&mut connection).await.ok();
        let here = runtime::since_epoch();
        let there =
            time.map(|(seconds, micros)| Duration::from_secs(seconds) + Duration::from_micros(micros));
        asked.skew = there.map(|there| there.abs_diff(here));
        Ok(asked)
    }

    fn findings(&self) -> Vec<Finding> {
        let mut findings = vec![self.version(), self.distance()];
        findings.extend(
            self.user.as_ref().map(|user| {
                Finding::new("redis.user", State::Well, format!("terrace is `{user}` there"), "")
            }),
        );
        findings.extend(self.memory());
        findings.extend(self.replicas());
        findings.extend(self.skew.map(clock));
        findings
    }

    fn version(&self) -> Finding {
        let valkey = self.info.get("valkey_version").map(|version| format!("Valkey {version}"));
        let text = self.info.get("redis_version").cloned().unwrap_or_default();
        let major = text.split('.').next().and_then(|major| major.parse::<u32>().ok());
        let says = valkey.clone().unwrap_or(format!("Redis {text}"));
        match major {
            Some(6..) => Finding::new("redis.version", State::Well, says, ""),
            Some(_) if valkey.is_some() => Finding::new("redis.version", State::Well, says, ""),
            Some(_) => Finding::new(
                "redis.version",
                State::Ill,
                says,
                "Redis 6.0 is the oldest that works, with `bus.mode = \"plain\"`",
            ),
            None => Finding::new(
                "redis.version",
                State::Note,
                "it does not tell its version",
                "allow its user `+info`",
            ),
        }
    }

    fn distance(&self) -> Finding {
        let says = format!("{} to there and back, the quickest of 5", words::time(self.round_trip));
        if self.round_trip <= FAR {
            return Finding::new("redis.latency", State::Well, says, "");
        }
        Finding::new(
            "redis.latency",
            State::Note,
            says,
            "raise `l2.wait_max` if loads find Redis too slow, or move closer to it",
        )
    }

    fn memory(&self) -> Option<Finding> {
        let policy = self.settings.get("maxmemory-policy")?;
        let max: u64 = self.settings.get("maxmemory").and_then(|max| max.parse().ok()).unwrap_or_default();
        let says = format!(
            "maxmemory {}, maxmemory-policy {policy}",
            if max == 0 { "without a bound".to_owned() } else { words::bytes(max) }
        );
        let next = match (policy.as_str(), max) {
            ("noeviction", 1..) => {
                "when it is full, Redis refuses writes: set `maxmemory-policy allkeys-lru`, or `volatile-lru` if others keep data there"
            }
            (_, 0) => "it grows until the system has no memory: set `maxmemory`",
            _ => return Some(Finding::new("redis.memory", State::Well, says, "")),
        };
        Some(Finding::new("redis.memory", State::Note, says, next))
    }

    fn replicas(&self) -> Option<Finding> {
        let replicas: u32 = self.info.get("connected_slaves")?.parse().ok()?;
        let role = self.info.get("role").map(String::as_str).unwrap_or_default();
        if role != "master" {
            return Some(Finding::new(
                "redis.role",
                State::Ill,
                format!("it is a {role}"),
                "terrace writes: name the primary, or sentinels that know it",
            ));
        }
        let least: u32 =
            self.settings.get("min-replicas-to-write").and_then(|text| text.parse().ok()).unwrap_or_default();
        let says = format!("{replicas} replicas, min-replicas-to-write {least}");
        if replicas > 0 && least == 0 {
            let next = "a primary that was cut off takes writes that are lost: set `min-replicas-to-write 1`, see guarantees";
            return Some(Finding::new("redis.replicas", State::Note, says, next));
        }
        Some(Finding::new("redis.replicas", State::Well, says, ""))
    }
}

fn clock(skew: Duration) -> Finding {
    let says = format!("its clock and this one differ by {}", words::time(skew));
    if skew <= SKEW_MAX {
        return Finding::new("redis.clock", State::Well, says, "");
    }
    let next =
        "the times that people see differ; nothing is decided by them. Let both follow the same time server";
    Finding::new("redis.clock", State::Note, says, next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(info: &[(&str, &str)], settings: &[(&str, &str)]) -> Asked {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        Asked { info: map(info), settings: map(settings), ..Asked::default() }
    }

    #[test]
    fn what_is_not_well_has_a_next_step() {
        let ill = asked(
            &[("redis_version", "5.0.14"), ("role", "slave"), ("connected_slaves", "0")],
            &[("maxmemory", "1048576"), ("maxmemory-policy", "noeviction")],
        );
        let findings = ill.findings();
        for (what, state, part) in [
            ("redis.version", State::Ill, "6.0 is the oldest"),
            ("redis.role", State::Ill, "name the primary"),
            ("redis.memory", State::Note, "refuses writes"),
        ] {
            let finding = findings.iter().find(|finding| finding.what == what).expect(what);
            assert_eq!(finding.state, state, "{finding:?}");
            assert!(finding.next.is_some_and(|next| next.contains(part)), "{finding:?}");
        }
        assert_eq!(clock(Duration::from_secs(3)).state, State::Note);
    }

    #[test]
    fn what_a_service_leaves_alone_is_ill_and_what_is_no_breaker_is_none() {
        let check = |name: &str, state: &str, ok: bool| {
            left_alone(&json!({ "check": name, "state": state, "ok": ok }))
                .map(|finding| (finding.what, finding.state))
        };
        for (name, what) in [
            ("breaker", "running.l2"),
            ("origin", "running.origin"),
            ("origin.main.writes", "running.origin.main.writes"),
        ] {
            assert_eq!(check(name, "open", false), Some((what.to_owned(), State::Ill)));
            let half_open = if name == "breaker" { State::Ill } else { State::Note };
            assert_eq!(check(name, "half_open", false), Some((what.to_owned(), half_open)));
            assert_eq!(check(name, "closed", true), Some((what.to_owned(), State::Well)));
        }
        for name in ["serving", "l2", "bus", "stale", "journal", "originals"] {
            assert_eq!(check(name, "failed", false), None);
        }
    }

    #[test]
    fn what_is_well_has_none() {
        let well = asked(
            &[("redis_version", "7.0.15"), ("role", "master"), ("connected_slaves", "1")],
            &[("maxmemory", "1048576"), ("maxmemory-policy", "allkeys-lru"), ("min-replicas-to-write", "1")],
        );
        let findings = well.findings();
        assert!(
            findings.iter().all(|finding| finding.state == State::Well && finding.next.is_none()),
            "{findings:?}"
        );
        let valkey = asked(&[("redis_version", "7.2.4"), ("valkey_version", "8.0.1")], &[]);
        assert_eq!(valkey.version().says, "Valkey 8.0.1");
    }
}
