//! The rules of origins: which settings each type has.

use super::check::Checker;
use super::report::Refusal;
use super::secret::Secret;
use super::secret_files::Named;
use super::units::{ByteSize, Flag, Period};
use super::{Address, HttpConfig, OriginConfig, PostgresConfig, SqliteConfig, file};
use crate::origin::postgres_tls;
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;
use tokio_postgres::config::SslMode;
use toml::Spanned;

/// The origins by name; `None` where one is there but wrong, so that naming it is not a second error.
pub(super) type Origins = BTreeMap<String, Option<OriginConfig>>;

#[derive(Clone, Copy)]
enum Kind {
    Sqlite,
    Postgres,
    Http,
}

const KINDS: [(&str, Option<Kind>); 3] =
    [("sqlite", Some(Kind::Sqlite)), ("postgres", Some(Kind::Postgres)), ("http", Some(Kind::Http))];

/// Headers that say how a message is framed and where it goes: wrong ones would let others be read as requests.
const FRAMING: [&str; 6] =
    ["host", "content-length", "transfer-encoding", "connection", "content-type", "idempotency-key"];

const BODY_MAX: ByteSize = ByteSize(1 << 30);

/// The types that there are.
pub(super) fn kind_words() -> Vec<&'static str> {
    KINDS.iter().map(|(word, _)| *word).collect()
}

pub(super) fn check(
    checker: &mut Checker<'_>,
    origins: BTreeMap<Spanned<String>, Spanned<file::Origin>>,
) -> Origins {
    let checked = |(name, origin): (Spanned<String>, Spanned<file::Origin>)| {
        (name.get_ref().clone(), checker.origin(&name.span(), origin.into_inner()))
    };
    origins.into_iter().map(checked).collect()
}

impl Checker<'_> {
    fn origin(&mut self, at: &Range<usize>, origin: file::Origin) -> Option<OriginConfig> {
        if origin.kind.is_none() {
            let refusal = Refusal::new(at.clone(), "this origin has no type");
            self.refuse(&refusal.help("add `type = \"sqlite\"`, `type = \"postgres\"` or `type = \"http\"`"));
            return None;
        }
        match self.word(origin.kind.clone(), "type of origin", &KINDS, None)? {
            Kind::Sqlite => self.sqlite(at, origin),
            Kind::Postgres => self.postgres(at, origin),
            Kind::Http => self.http(at, origin),
        }
    }

    /// Refuses what only an origin of type `http` has.
    fn refuse_of_http(&mut self, origin: &file::Origin, kind: &str) {
        self.refuse_foreign(origin.base_url.as_ref(), "base_url", kind);
        self.refuse_foreign(origin.headers.as_ref(), "headers", kind);
        self.refuse_foreign(origin.headers_file.as_ref(), "headers_file", kind);
        self.refuse_foreign(origin.timeout.as_ref(), "timeout", kind);
        self.refuse_foreign(origin.concurrency.as_ref(), "concurrency", kind);
        self.refuse_foreign(origin.write_concurrency.as_ref(), "write_concurrency", kind);
        self.refuse_foreign(origin.max_body.as_ref(), "max_body", kind);
    }

    /// Refuses what only an origin of type `postgres` has.
    fn refuse_of_postgres(&mut self, origin: &file::Origin, kind: &str) {
        self.refuse_foreign(origin.url.as_ref(), "url", kind);
        self.refuse_foreign(origin.url_file.as_ref(), "url_file", kind);
        self.refuse_foreign(origin.password.as_ref(), "password", kind);
        self.refuse_foreign(origin.password_file.as_ref(), "password_file", kind);
        self.refuse_foreign(origin.write_pool.as_ref(), "write_pool", kind);
        self.refuse_foreign(origin.verify_certificate.as_ref(), "verify_certificate", kind);
    }

    fn http(&mut self, at: &Range<usize>, origin: file::Origin) -> Option<OriginConfig> {
        self.refuse_of_postgres(&origin, "http");
        self.refuse_foreign(origin.file.as_ref(), "file", "http");
        self.refuse_foreign(origin.delay.as_ref(), "delay", "http");
        self.refuse_foreign(origin.pool.as_ref(), "pool", "http");
        self.refuse_foreign(origin.statement_timeout.as_ref(), "statement_timeout", "http");
        let Some(base_url) = origin.base_url else {
            let refusal = Refusal::new(at.clone(), "this origin has no base_url");
            self.refuse(&refusal.help("add `base_url = \"https://api.internal\"`"));
            return None;
        };
        let base_url = self.base_url(&base_url)?;
        Some(OriginConfig::Http(HttpConfig {
            base_url,
            headers: self.headers(origin.headers, origin.headers_file),
            timeout: self.positive(origin.timeout, Period::seconds(2)),
            connect_timeout: self.positive(origin.connect_timeout, Period::seconds(2)),
            concurrency: self.count(origin.concurrency, 64, 10_000),
            write_concurrency: self.count(origin.write_concurrency, 8, 10_000),
            max_body: self.size(origin.max_body, ByteSize(8 << 20), BODY_MAX),
            root_certificate_file: origin.root_certificate_file.map(|file| file.into_inner().into()),
            loads: self.origin_loads(origin.loads_max, origin.loads_wait_max),
            breaker: self.origin_breaker(origin.breaker),
        }))
    }

    fn base_url(&mut self, text: &Spanned<String>) -> Option<String> {
        let url = Url::parse(text.get_ref()).ok().filter(Url::has_host);
        let refused = match &url {
            Some(url) if !matches!(url.scheme(), "http" | "https") => {
                Some(("an origin is asked by `http` or `https`", "write `https://api.internal`"))
            }
            Some(url) if !url.username().is_empty() || url.password().is_some() => Some((
                "credentials do not stand in an address",
                "send them in a header: `headers = { authorization = \"Bearer ${API_TOKEN}\" }`",
            )),
            Some(url) if url.query().is_some() || url.fragment().is_some() => {
                Some(("a base has no `?` and no `#`", "write them in the requests of the source"))
            }
            Some(_) => None,
            None => Some(("this is not the address of an API", "write `https://api.internal`")),
        };
        if let Some((title, help)) = refused {
            self.refuse(&Refusal::new(text.span(), title).help(help));
            return None;
        }
        url.map(|url| url.as_str().trim_end_matches('/').to_owned())
    }

    pub(super) fn headers(
        &mut self,
        headers: Option<Named<Secret>>,
        files: Option<Named<String>>,
    ) -> BTreeMap<String, Secret> {
        let mut checked = BTreeMap::new();
        for (name, value) in self.with_files(headers, files) {
            let header: Option<HeaderName> = name.get_ref().parse().ok();
            let title = match &header {
                None => "this is not the name of a header",
                Some(header) if FRAMING.contains(&header.as_str()) => "this header is the client's own",
                Some(_) if value.get_ref().reveal().parse::<HeaderValue>().is_err() => {
                    "a header cannot have this value"
                }
                Some(_) => {
                    checked.insert(name.get_ref().to_ascii_lowercase(), value.into_inner());
                    continue;
                }
            };
            self.refuse(
                &Refusal::new(name.span(), title).help("write `headers = { authorization = \"...\" }`"),
            );
        }
        checked
    }

    fn sqlite(&mut self, at: &Range<usize>, origin: file::Origin) -> Option<OriginConfig> {
        self.refuse_of_http(&origin, "sqlite");
        self.refuse_of_postgres(&origin, "sqlite");
        self.refuse_foreign(origin.root_certificate_file.as_ref(), "root_certificate_file", "sqlite");
        self.refuse_foreign(origin.connect_timeout.as_ref(), "connect_timeout", "sqlite");
        let Some(file) = origin.file.filter(|file| !file.get_ref().is_empty()) else {
            let refusal = Refusal::new(at.clone(), "this origin has no file");
            self.refuse(&refusal.help("add `file = \"data.db\"`"));
            return None;
        };
        Some(OriginConfig::Sqlite(SqliteConfig {
            file: file.into_inner().into(),
            pool: self.count(origin.pool, 2, 64),
            statement_timeout: self.positive(origin.statement_timeout, Period::seconds(2)),
            loads: self.origin_loads(origin.loads_max, origin.loads_wait_max),
            breaker: self.origin_breaker(origin.breaker),
            delay: origin.delay.map_or(Period(Duration::ZERO), Spanned::into_inner),
        }))
    }

    fn postgres(&mut self, at: &Range<usize>, origin: file::Origin) -> Option<OriginConfig> {
        self.refuse_of_http(&origin, "postgres");
        self.refuse_foreign(origin.file.as_ref(), "file", "postgres");
        self.refuse_foreign(origin.delay.as_ref(), "delay", "postgres");
        if origin.url.is_none() && origin.url_file.is_none() {
            let refusal = Refusal::new(at.clone(), "this origin has no url");
            self.refuse(&refusal.help("add `url = \"postgres://user:password@host/database\"`"));
            return None;
        }
        let url = self.or_file("url", origin.url, origin.url_file, Address::new)?;
        let password_at = origin.password.as_ref().map(Spanned::span);
        let password_at = password_at.or_else(|| origin.password_file.as_ref().map(Spanned::span));
        let password = self.password(origin.password, origin.password_file);
        let (root, verify) = (origin.root_certificate_file.as_ref(), origin.verify_certificate.as_ref());
        let has_password = self.postgres_url(&url, root, verify);
        if let Some(at) = password_at.filter(|_| has_password && password.is_some()) {
            let refusal = Refusal::new(at, "the address has a password, too");
            self.refuse(&refusal.also(url.span(), "this address").help("keep one of them"));
        }
        Some(OriginConfig::Postgres(PostgresConfig {
            url: url.into_inner(),
            password,
            root_certificate_file: origin.root_certificate_file.map(|file| file.into_inner().into()),
            verify_certificate: origin.verify_certificate.is_none_or(|flag| flag.into_inner().0),
            pool: self.count(origin.pool, 16, 10_000),
            write_pool: self.count(origin.write_pool, 4, 10_000),
            statement_timeout: self.positive(origin.statement_timeout, Period::seconds(2)),
            connect_timeout: self.positive(origin.connect_timeout, Period::seconds(2)),
            loads: self.origin_loads(origin.loads_max, origin.loads_wait_max),
            breaker: self.origin_breaker(origin.breaker),
        }))
    }

    /// Refuses what is no address, and settings of TLS that contradict it or each other. Says whether it has a password.
    fn postgres_url(
        &mut self,
        url: &Spanned<Address>,
        root: Option<&Spanned<String>>,
        verify: Option<&Spanned<Flag>>,
    ) -> bool {
        let settings = match postgres_tls::settings(url.get_ref().reveal(), root.is_some()) {
            Ok(settings) if !settings.get_hosts().is_empty() => settings,
            read => {
                let title = read.err().unwrap_or("this is not the address of a PostgreSQL server");
                let help = "write `postgres://user:password@host/database`, with `?sslmode=verify-full` for TLS alone";
                self.refuse(&Refusal::new(url.span(), title).help(help));
                return false;
            }
        };
        if let Some(root) = root.filter(|_| settings.get_ssl_mode() == SslMode::Disable) {
            let title = "there is no TLS with `sslmode=disable`, so no root is looked at";
            self.refuse(&Refusal::new(root.span(), title).help("leave one of them out"));
        }
        let is_off = verify.filter(|verify| !verify.get_ref().0);
        if let (Some(verify), Some(root)) = (is_off, root) {
            let title = "no certificate is looked at with `verify_certificate = false`, so no root is";
            self.refuse(
                &Refusal::new(verify.span(), title)
                    .also(root.span(), "this root")
                    .help("leave one of them out"),
            );
        }
        settings.get_password().is_some()
    }

    fn refuse_foreign<T>(&mut self, value: Option<&Spanned<T>>, key: &str, kind: &str) {
        if let Some(value) = value {
            self.refuse(&Refusal::new(value.span(), format!("an origin of type `{kind}` has no `{key}`")));
        }
    }
}
