//! Credentials: found by their tokens, limited, replaced.

use super::*;
use crate::config::{Config, Sources};
use std::time::Duration;

fn config(toml: &str) -> AuthConfig {
    Config::load(&Sources::text(toml)).unwrap_or_else(|error| panic!("{error}")).auth
}

fn token(name: &str, token: &str, rest: &str) -> String {
    let digest: String = sha2_hex(token);
    format!("[[auth.token]]\nname = '{name}'\nsha256 = '{digest}'\n{rest}\n")
}

fn sha2_hex(token: &str) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(token).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn headers(values: &[&str]) -> HeaderMap {
    values.iter().map(|value| (header::AUTHORIZATION, value.parse().expect("a header"))).collect()
}

fn name_of(auth: &Auth, values: &[&str]) -> Result<String, Denied> {
    auth.who(&headers(values)).map(|who| who.name().to_owned())
}

const READ: &str = "scopes = ['read:*']";

#[test]
fn a_credential_is_found_by_its_whole_token_alone() {
    let toml = token("web", "0123456789", READ) + &token("ops", "abcdefghij", "scopes = ['admin']");
    let auth = Auth::new(&config(&toml), Clock::manual());
    assert_eq!(name_of(&auth, &["Bearer 0123456789"]).as_deref(), Ok("web"));
    assert_eq!(name_of(&auth, &["bearer   abcdefghij "]).as_deref(), Ok("ops"));
    for other in
        ["Bearer 012345678", "Bearer 01234567890", "Bearer 0123456780", "Bearer x", "Bearer ABCDEFGHIJ"]
    {
        assert_eq!(name_of(&auth, &[other]), Err(Denied::Unknown), "{other}");
    }
    for other in [&[][..], &["0123456789"], &["Basic 0123456789"], &["Bearer "], &["Bearer"], &[""]] {
        assert_eq!(name_of(&auth, other), Err(Denied::NoToken), "{other:?}");
    }
    let twice = ["Bearer 0123456789", "Bearer abcdefghij"];
    assert_eq!(name_of(&auth, &twice), Err(Denied::NoToken), "which of them?");
}

#[test]
fn without_tokens_everybody_may_do_everything() {
    let auth = Auth::new(&config(""), Clock::manual());
    let who = auth.who(&headers(&[])).expect("everybody");
    assert!(who.is_operator() && who.may(Verb::Write, "x") && who.may_any(Verb::Invalidate));
}

#[test]
fn a_tenant_is_no_operator() {
    let auth = Auth::new(&config(&token("a", "t", "scopes = ['admin']\ntenant = 'a'")), Clock::manual());
    let who = auth.who(&headers(&["Bearer t"])).expect("a token");
    assert!(who.is_admin() && !who.is_operator());
    assert_eq!((who.tenant(), who.tenant_name()), (Some(0), Some("a")));
    assert!(!who.has(Verb::Read) && !who.may(Verb::Read, "x"));
}

#[test]
fn replacing_takes_tokens_away_and_keeps_what_was_used_of_a_rate() {
    let clock = Clock::manual();
    let rated = |secret: &str, per_second: u32| {
        token("web", secret, &format!("{READ}\nrate = {{ per_second = {per_second}, burst = 2 }}"))
    };
    let auth = Auth::new(&config(&rated("old", 1)), clock.clone());
    for answer in [Ok("web".to_owned()), Ok("web".to_owned()), Err(Denied::TooOften)] {
        assert_eq!(name_of(&auth, &["Bearer old"]), answer);
    }
    auth.replace(&config(&rated("new", 1))).expect("no new tenant");
    assert_eq!(name_of(&auth, &["Bearer old"]), Err(Denied::Unknown));
    assert_eq!(name_of(&auth, &["Bearer new"]), Err(Denied::TooOften));
    clock.advance(Duration::from_secs(1));
    assert_eq!(name_of(&auth, &["Bearer new"]).as_deref(), Ok("web"));
    auth.replace(&config(&rated("new", 2))).expect("no new tenant");
    assert_eq!(name_of(&auth, &["Bearer new"]).as_deref(), Ok("web"), "another rate begins anew");
}

#[test]
fn a_new_tenant_is_refused_and_nothing_is_replaced() {
    let auth = Auth::new(&config(&token("web", "t", READ)), Clock::manual());
    let with_tenant = token("new", "n", &format!("{READ}\ntenant = 'a'"));
    assert_eq!(auth.replace(&config(&with_tenant)), Err(ReplaceError::NewTenant("a".into())));
    assert_eq!(name_of(&auth, &["Bearer t"]).as_deref(), Ok("web"));
    assert_eq!(name_of(&auth, &["Bearer n"]), Err(Denied::Unknown));
}
