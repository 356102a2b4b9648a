//! What each path needs from who asks for it: the routes, with their needs beside them.
//!
//! 1. A route that states no need is for operators alone. So is a path that is no route, where a token is asked for: nobody else
//!    learns what there is.
//! 2. The need of a path is found by the matcher that the router uses, with the same routes, so the two cannot disagree.
//! 3. A need is what can be known before the body. What a body names is judged by its handler, with [`App::keyspaces_for`] and its like:
//!    there is no other way from a key to its keyspace.
//! 4. A route that has to do with the service is not on a public listener that has an admin listener beside it. Its path stays
//!    reserved there: it never becomes a key.

use super::App;
use super::error::{Code, Problem};
use crate::auth::{TooMuch, Verb, Who};
use crate::keyspaces::{DocumentKeyspace, Keyspaces};
use axum::Router;
use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::Method;
use axum::http::request::Parts;
use axum::routing::{MethodRouter, any};
use std::sync::Arc;
use terrace::{Glob, Key};

/// What a path needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Need {
    /// Nothing: it is for anybody, and says nothing of what is kept.
    Nothing,
    /// What the method does with one key, which the handler judges.
    Entry,
    /// To do something with keys that the body names, which the handler judges.
    Keys,
    /// To be an admin, who sees and changes their part of the service.
    Admin,
    /// To be an admin of the whole service.
    Operator,
}

impl Need {
    /// Whether who asks may go on to the handler.
    fn is_met(self, who: &Who, method: &Method) -> bool {
        match self {
            Self::Nothing => true,
            // Of other methods an operator learns that there are none.
            Self::Entry => verb_of(method).map_or(who.is_operator(), |verb| who.has(verb)),
            Self::Keys => [Verb::Read, Verb::Write, Verb::Invalidate].into_iter().any(|verb| who.has(verb)),
            Self::Admin => who.is_admin(),
            Self::Operator => who.is_operator(),
        }
    }

    /// Whether it has to do with the service.
    fn is_of_the_service(self) -> bool {
        matches!(self, Self::Admin | Self::Operator)
    }

    /// Whether what was asked for is noted: whatever changes something, other than one entry.
    pub(super) fn is_noted(self, method: &Method) -> bool {
        !matches!(self, Self::Nothing | Self::Entry) && !method.is_safe()
    }
}

/// What a method does with an entry.
fn verb_of(method: &Method) -> Option<Verb> {
    match *method {
        Method::GET | Method::HEAD => Some(Verb::Read),
        Method::PUT | Method::DELETE => Some(Verb::Write),
        _ => None,
    }
}

/// What a listener is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// Everything.
    Whole,
    /// What concerns keys, while something else is for the service.
    Public,
}

/// The routes of a listener.
pub(super) struct Routes {
    side: Side,
    router: Router<Arc<App>>,
    needs: matchit::Router<(Need, Arc<str>)>,
    #[cfg(test)]
    stated: Vec<(String, Need)>,
}

impl Routes {
    pub(super) fn of(side: Side) -> Self {
        Self {
            side,
            router: Router::new(),
            needs: matchit::Router::new(),
            #[cfg(test)]
            stated: Vec::new(),
        }
    }

    /// A route for operators alone.
    pub(super) fn route(self, path: &str, methods: MethodRouter<Arc<App>>) -> Self {
        self.stated(path, Need::Operator, methods)
    }

    /// A route that states what it needs.
    ///
    /// # Panics
    /// If the path was stated already: one of the two needs would be a wrong one.
    pub(super) fn stated(mut self, path: &str, need: Need, methods: MethodRouter<Arc<App>>) -> Self {
        let is_elsewhere = self.side == Side::Public && need.is_of_the_service();
        let (need, methods) =
            if is_elsewhere { (Need::Nothing, any(super::elsewhere)) } else { (need, methods) };
        self.needs
            .insert(path, (need, path.into()))
            .unwrap_or_else(|error| panic!("the path {path}: {error}"));
        #[cfg(test)]
        self.stated.push((path.to_owned(), need));
        self.router = self.router.route(path, methods);
        self
    }

    /// The paths of the routes.
    #[cfg(test)]
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.stated.iter().map(|(path, _)| path.as_str())
    }

    /// The router, and what its paths need.
    pub(super) fn done(self, app: Arc<App>) -> (Router, Needs) {
        let router = self.router.fallback(super::no_route).method_not_allowed_fallback(super::no_method);
        (router.with_state(app), Needs(Arc::new(self.needs)))
    }
}

/// What paths need.
#[derive(Clone)]
pub(crate) struct Needs(Arc<matchit::Router<(Need, Arc<str>)>>);

impl Needs {
    /// What a path needs.
    pub(super) fn of(&self, path: &str) -> Need {
        self.0.at(path).map_or(Need::Operator, |found| found.value.0)
    }

    /// The route that a path is of.
    pub(super) fn route_of(&self, path: &str) -> Option<&str> {
        self.0.at(path).ok().map(|found| &*found.value.1)
    }

    /// The same for every path.
    #[cfg(test)]
    pub(super) fn nothing() -> Self {
        let mut needs = matchit::Router::new();
        needs.insert("/{*path}", (Need::Nothing, "/{*path}".into())).expect("one path");
        Self(Arc::new(needs))
    }
}

impl std::fmt::Debug for Needs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Needs")
    }
}

/// Refuses who may not go on to the handler.
pub(super) fn admit(need: Need, who: &Who, method: &Method) -> Result<(), Problem> {
    if need.is_met(who, method) {
        return Ok(());
    }
    Err(match need {
        Need::Entry => forbidden(format!("this token is not for {method} of any entry")),
        Need::Keys => forbidden("this token is not for any keys".to_owned()),
        Need::Admin => forbidden("this needs a token with the scope `admin`".to_owned()),
        Need::Nothing | Need::Operator => {
            forbidden("this needs a token with the scope `admin` and without a tenant".to_owned())
        }
    })
}

/// What is said to who has a token that nobody has.
pub(super) fn nobody() -> Problem {
    Problem::new(Code::Unauthorized, "nobody has this token")
}

fn forbidden(detail: String) -> Problem {
    Problem::new(Code::Forbidden, detail)
}

impl App {
    /// The keyspaces in which who asks finds the key, if they may do this with it.
    pub(super) fn keyspaces_for(&self, who: &Who, verb: Verb, key: &Key) -> Result<&Keyspaces, Problem> {
        allow(who, verb, key)?;
        self.keyspaces(who)
    }

    /// The keyspaces of who asks. What is done with keys of them is judged by [`allow`] and its like.
    ///
    /// A request goes by the configuration that held when it came. Where a tenant of a later one asks it, there is nobody with this token.
    pub(super) fn keyspaces(&self, who: &Who) -> Result<&Keyspaces, Problem> {
        match who.tenant() {
            None => Ok(&self.spaces),
            Some(tenant) => self.spaces_of_tenants.get(tenant).ok_or_else(nobody),
        }
    }

    /// The one of these keyspaces that has this name.
    pub(super) fn keyspace_named<'a>(
        keyspaces: &'a Keyspaces,
        name: &str,
    ) -> Result<&'a DocumentKeyspace, Problem> {
        keyspaces.iter().find(|keyspace| keyspace.name() == name).ok_or_else(|| {
            let names: Vec<&str> = keyspaces.iter().map(terrace::Keyspace::name).collect();
            let detail = format!("there is no such keyspace; there are {}", names.join(", "));
            Problem::new(Code::QueryInvalid, detail)
        })
    }
}

/// Refuses what counts as so many requests, of which `noted` were counted before, if that is more than who asks may ask for.
pub(super) fn afford(who: &Who, count: usize, noted: u32) -> Result<(), Problem> {
    who.ask_for(count, noted).map_err(|too_much| match too_much {
        TooMuch::Now => {
            let detail = format!("this counts as {count} requests, which are more than may be by now; try again in a second, or with fewer");
            Problem::new(Code::RateLimited, detail)
        }
        TooMuch::AtOnce(most) => {
            let detail = format!("this counts as {count} requests, and the rate allows {most} at once: ask for fewer");
            Problem::new(Code::BodyInvalid, detail)
        }
    })
}

/// Refuses to do with a key what the scopes of who asks do not allow.
pub(super) fn allow(who: &Who, verb: Verb, key: &Key) -> Result<(), Problem> {
    if who.may(verb, key.as_str()) {
        return Ok(());
    }
    Err(forbidden(format!(
        "this token has no scope to {} {}",
        verb.as_str(),
        super::entry::shortened(key.as_str())
    ))
    .about(key.as_str()))
}

/// Refuses to invalidate by a pattern what the scopes of who asks do not provably allow.
pub(super) fn allow_pattern(who: &Who, pattern: &Glob) -> Result<(), Problem> {
    if who.may_all(Verb::Invalidate, pattern) {
        return Ok(());
    }
    Err(forbidden(format!(
        "no scope of this token covers all keys of {}",
        super::entry::shortened(pattern.as_str())
    )))
}

/// Refuses to invalidate by tags, which any key can have, whom the scopes do not allow every key.
pub(super) fn allow_tags(who: &Who) -> Result<(), Problem> {
    if who.may_any(Verb::Invalidate) {
        return Ok(());
    }
    Err(forbidden("any key can have a tag, so this needs a token with the scope `invalidate:*`".to_owned()))
}

impl<S: Sync> OptionalFromRequestParts<S> for Who {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Problem> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}

impl<S: Sync> FromRequestParts<S> for Who {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // The guard has put it there, unless there is none: then nobody is let on.
        let who = parts.extensions.get::<Self>().cloned();
        who.ok_or_else(|| Problem::new(Code::Unauthorized, "this needs a token"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;

    fn paths(routes: &Routes, need: Need) -> Vec<&str> {
        routes.stated.iter().filter(|(_, own)| *own == need).map(|(path, _)| path.as_str()).collect()
    }

    /// A new route is for operators, until somebody adds it here on purpose.
    #[test]
    fn what_is_not_for_operators_alone_is_in_this_list() {
        let routes = super::super::routes(Side::Whole, true);
        let nothing = [
            "/api/cache/openapi.json",
            "/openapi.json",
            "/livez",
            "/readyz",
            "/healthz",
            "/problems/{code}",
            "/",
            "/assets/app.js",
            "/assets/app.css",
            "/assets/icon.svg",
        ];
        assert_eq!(paths(&routes, Need::Nothing), nothing);
        assert_eq!(
            paths(&routes, Need::Entry),
            ["/api/cache", "/api/cache/", "/api/cache/{*key}", "/v1/keys", "/v1/keys/", "/v1/keys/{*key}"]
        );
        assert_eq!(
            paths(&routes, Need::Keys),
            ["/api/cache/batch", "/api/cache/invalidate", "/api/cache/refresh"]
        );
        let admin = [
            "/api/cache/why",
            "/api/cache/why/{*key}",
            "/api/cache/hot",
            "/api/cache/latencies",
            "/api/cache/behind",
            "/api/cache/behind/{keyspace}/writes/{id}",
            "/api/cache/behind/{keyspace}/flush",
            "/api/cache/behind/{keyspace}/retry",
            "/api/cache/behind/{keyspace}/drop",
            "/api/cache/keys",
            "/api/cache/keyspaces",
            "/api/cache/history",
        ];
        assert_eq!(paths(&routes, Need::Admin), admin);
    }

    #[test]
    fn what_states_nothing_and_what_is_no_route_is_for_operators() {
        let routes = Routes::of(Side::Whole).route("/new/{*rest}", get(async || "new"));
        let needs = Needs(Arc::new(routes.needs));
        for path in ["/new/x", "/new", "/", "", "*", "/api/cache/x"] {
            assert_eq!(needs.of(path), Need::Operator, "{path}");
        }
    }

    #[test]
    fn a_path_of_the_service_stays_reserved_on_the_public_listener() {
        let routes = super::super::routes(Side::Public, true);
        assert_eq!(paths(&routes, Need::Operator), [""; 0]);
        assert_eq!(paths(&routes, Need::Admin), [""; 0]);
        let needs = Needs(Arc::new(routes.needs));
        assert_eq!(needs.of("/api/cache/metrics"), Need::Nothing);
        assert_eq!(needs.of("/api/cache/user:1"), Need::Entry);
    }

    #[test]
    #[should_panic(expected = "the path /a")]
    fn a_path_has_one_need() {
        let twice = Routes::of(Side::Whole).stated("/a", Need::Nothing, get(async || "a"));
        drop(twice.route("/a", axum::routing::post(async || "a")));
    }
}
