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

fn replace(auth: &Auth, toml: &str) -> Result<(), ReplaceError> {
    auth.prepare(&config(toml)).map(Prepared::replace)
}

fn name_of(auth: &Auth, values: &[&str]) -> Result<String, Denied> {
    auth.who(&headers(values)).map(|who| who.name().to_owned())
}

#[test]
fn tokens_are_not_switched_off_while_the_service_runs() {
    let auth = Auth::new(&config(&token("web", "t", READ)), Clock::manual());
    assert_eq!(replace(&auth, ""), Err(ReplaceError::Opened));
    assert_eq!(name_of(&auth, &[]), Err(Denied::NoToken));
    let open = Auth::new(&config(""), Clock::manual());
    assert_eq!(replace(&open, &token("web", "t", READ)), Ok(()));
    assert_eq!(name_of(&open, &[]), Err(Denied::NoToken));
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
    assert_eq!(who.tenant(), Some("a"));
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
    replace(&auth, &rated("new", 1)).expect("there are tokens");
    assert_eq!(name_of(&auth, &["Bearer old"]), Err(Denied::Unknown));
    assert_eq!(name_of(&auth, &["Bearer new"]), Err(Denied::TooOften));
    clock.advance(Duration::from_secs(1));
    assert_eq!(name_of(&auth, &["Bearer new"]).as_deref(), Ok("web"));
    replace(&auth, &rated("new", 2)).expect("there are tokens");
    assert_eq!(name_of(&auth, &["Bearer new"]).as_deref(), Ok("web"), "another rate begins anew");
}

#[test]
fn a_tenant_is_known_once_it_is_let_in_and_from_then_on() {
    let auth = Auth::new(&config(&token("web", "t", READ)), Clock::manual());
    let with_tenant = config(&token("new", "n", &format!("{READ}\ntenant = 'a'")));
    let unknown = || auth.knows_all(&with_tenant.tenants());
    assert_eq!(unknown(), Err(ReplaceError::NewTenant("a".into())));
    let prepared = auth.prepare(&with_tenant).expect("there are tokens");
    assert_eq!(prepared.tenants(), &BTreeSet::from(["a".to_owned()]));
    assert_eq!(name_of(&auth, &["Bearer t"]).as_deref(), Ok("web"), "nothing is replaced yet");
    assert_eq!((name_of(&auth, &["Bearer n"]), unknown().is_err()), (Err(Denied::Unknown), true));
    prepared.replace();
    assert_eq!((name_of(&auth, &["Bearer n"]).as_deref(), unknown()), (Ok("new"), Ok(())));
    assert_eq!(name_of(&auth, &["Bearer t"]), Err(Denied::Unknown));
    replace(&auth, &token("web", "t", READ)).expect("there are tokens");
    assert_eq!((name_of(&auth, &["Bearer n"]), unknown()), (Err(Denied::Unknown), Ok(())));
}

#[test]
fn tokens_of_a_tenant_share_its_rate_and_it_outlives_a_change_of_others() {
    let clock = Clock::manual();
    let of_a = format!("{READ}\ntenant = 'a'");
    let tokens = |more: &str| {
        let limits = "[auth.tenant_defaults]\nrate = { per_second = 1, burst = 9 }\n\
                      [auth.tenant.a]\nrate = { per_second = 1, burst = 3 }\n";
        let of_b = token("three", "3", &format!("{READ}\ntenant = 'b'"));
        token("one", "1", &of_a) + &token("two", "2", &of_a) + &of_b + more + limits
    };
    let auth = Auth::new(&config(&tokens("")), clock.clone());
    for (secret, answer) in
        [("1", Ok("one")), ("2", Ok("two")), ("1", Ok("one")), ("2", Err(Denied::TenantTooOften))]
    {
        assert_eq!(name_of(&auth, &[&format!("Bearer {secret}")]), answer.map(str::to_owned), "{secret}");
    }
    assert_eq!(name_of(&auth, &["Bearer 3"]).as_deref(), Ok("three"), "another tenant has its own");
    replace(&auth, &tokens(&token("four", "4", &of_a))).expect("there are tokens");
    assert_eq!(name_of(&auth, &["Bearer 4"]), Err(Denied::TenantTooOften), "another token is no way around");
    clock.advance(Duration::from_secs(1));
    assert_eq!(name_of(&auth, &["Bearer 4"]).as_deref(), Ok("four"));
    let who = auth.who(&headers(&["Bearer 3"])).expect("a token");
    assert_eq!((who.burst(), who.ask_for(10, 1).is_err(), who.ask_for(5, 1).is_ok()), (Some(9), true, true));
}

#[test]
fn what_could_never_be_is_noted_nowhere() {
    let (a, limits) =
        (format!("{READ}\ntenant = 'a'"), "[auth.tenant.a]\nrate = { per_second = 1, burst = 3 }\n");
    let rated = format!("{a}\nrate = {{ per_second = 1, burst = 10 }}");
    let auth = Auth::new(&config(&(token("one", "1", &rated) + limits)), Clock::manual());
    let who = auth.who(&headers(&["Bearer 1"])).expect("a token");
    for _ in 0..3 {
        let too_much = who.ask_for(9, 0).expect_err("more than the tenant may ever ask for at once");
        assert_eq!(too_much, TooMuch::AtOnce(3.try_into().expect("not zero")));
    }
    assert_eq!(who.ask_for(2, 0), Ok(()));
    assert_eq!(
        who.0.rate.as_ref().map(|rate| rate.allows_all(7, 0)),
        Some(Ok(())),
        "all the rest of its burst"
    );
}

#[test]
fn who_was_let_in_is_known_again_by_name_token_and_tenant() {
    let tenant = format!("{READ}\ntenant = 'a'");
    let (web, ops) = (token("web", "t", READ), token("ops", "o", "scopes = ['admin']"));
    let auth = Auth::new(&config(&(web.clone() + &ops)), Clock::manual());
    let who = auth.who(&headers(&["Bearer t"])).expect("a token");
    let again = |toml: &str| {
        replace(&auth, toml).expect("there are tokens");
        auth.again(&who).map(|who| who.is_operator())
    };
    assert_eq!(again(&web), Some(false));
    assert_eq!(again(&token("web", "t", "scopes = ['admin']")), Some(true), "with the scopes of now");
    for other in [ops, token("web", "u", READ), token("other", "t", READ), token("web", "t", &tenant)] {
        assert_eq!(again(&other), None, "{other}");
    }
    assert_eq!(again(&web), Some(false), "it may come back");
    let open = Auth::new(&config(""), Clock::manual());
    let anybody = open.who(&headers(&[])).expect("everybody");
    assert!(open.again(&anybody).is_some());
    replace(&open, &web).expect("tokens may come");
    assert!(open.again(&anybody).is_none());
}

/// Welch's t of two samples: how sure one can be that their means differ. The slowest twentieth of each is left out, as
/// interruptions are.
fn welch(samples: [Vec<f64>; 2]) -> f64 {
    let [a, b] = samples.map(|mut sample| {
        sample.sort_by(f64::total_cmp);
        sample.truncate(sample.len() * 19 / 20);
        let count = sample.len() as f64;
        let mean = sample.iter().sum::<f64>() / count;
        let variance = sample.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    });
    (a.0 - b.0) / (a.1 + b.1).sqrt()
}

/// How long it takes to be refused does not tell how much of a digest was right. That is so by construction: all bytes of all
/// digests are compared. The figure is printed; it is judged where
/// `TERRACE_TEST_TIMING=10000` says so many rounds, and that the machine is quiet enough.
#[test]
fn a_refusal_takes_as_long_however_much_was_right() {
    const ROUNDS: usize = 500;
    let given =
        std::env::var("TERRACE_TEST_TIMING").ok().map(|rounds| rounds.parse().expect("a number of rounds"));
    let rounds: usize = given.unwrap_or(ROUNDS);
    let own = Digest::of(b"the token");
    let all: Vec<Digest> = (0..20_u8).map(|number| Digest::of(&[number])).chain([own]).collect();
    let everybody = everybody();
    let owners = vec![everybody; all.len()];
    let credentials =
        Credentials { everybody: None, hosts: Vec::new(), digests: all, owners, tenants: HashMap::new() };
    let wrong_at = |place: usize| {
        let hex = sha2_hex("the token");
        let other = if &hex[place..=place] == "0" { "1" } else { "0" };
        Digest::from_hex(&(hex[..place].to_owned() + other + &hex[place + 1..])).expect("a digest")
    };
    let tried = [wrong_at(0), wrong_at(63)];
    let clock = Clock::system();
    let (mut samples, mut order) = ([Vec::new(), Vec::new()], 1_u64);
    for _ in 0..2 * rounds {
        order ^= order << 13;
        order ^= order >> 7;
        order ^= order << 17;
        let which = usize::from(order & 1 == 1);
        let begun = clock.precise();
        for _ in 0..20 {
            assert!(credentials.owner(std::hint::black_box(&tried[which])).is_none());
        }
        samples[which].push(clock.precise().since(begun).as_secs_f64());
    }
    assert!(credentials.owner(&own).is_some(), "the right one is found");
    let t = welch(samples);
    println!("wrong in the first digit or in the last: t = {t:.2} of {rounds} each (4.5 would tell)");
    assert!(given.is_none() || t.abs() < 4.5, "{t}");
    let other = [Digest::of(b"x"), own];
    assert!(!bool::from(other[0].same(&other[1])) && bool::from(own.same(&other[1])));
}
