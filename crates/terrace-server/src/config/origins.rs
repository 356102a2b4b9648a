//! The rules of origins: which settings each type has.

use super::check::Checker;
use super::report::Refusal;
use super::units::Period;
use super::{Address, OriginConfig, PostgresConfig, SqliteConfig, file};
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
}

const KINDS: [(&str, Option<Kind>); 2] = [("sqlite", Some(Kind::Sqlite)), ("postgres", Some(Kind::Postgres))];

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
            self.refuse(&refusal.help("add `type = \"sqlite\"` or `type = \"postgres\"`"));
            return None;
        }
        match self.word(origin.kind.clone(), "type of origin", &KINDS, None)? {
            Kind::Sqlite => self.sqlite(at, origin),
            Kind::Postgres => self.postgres(at, origin),
        }
    }

    fn sqlite(&mut self, at: &Range<usize>, origin: file::Origin) -> Option<OriginConfig> {
        self.refuse_foreign(origin.url.as_ref(), "url", "sqlite");
        self.refuse_foreign(origin.connect_timeout.as_ref(), "connect_timeout", "sqlite");
        self.refuse_foreign(origin.write_pool.as_ref(), "write_pool", "sqlite");
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
            delay: origin.delay.map_or(Period(Duration::ZERO), Spanned::into_inner),
        }))
    }

    fn postgres(&mut self, at: &Range<usize>, origin: file::Origin) -> Option<OriginConfig> {
        self.refuse_foreign(origin.file.as_ref(), "file", "postgres");
        self.refuse_foreign(origin.delay.as_ref(), "delay", "postgres");
        let Some(url) = origin.url else {
            let refusal = Refusal::new(at.clone(), "this origin has no url");
            self.refuse(&refusal.help("add `url = \"postgres://user:password@host/database\"`"));
            return None;
        };
        self.postgres_url(&url);
        Some(OriginConfig::Postgres(PostgresConfig {
            url: url.into_inner(),
            pool: self.count(origin.pool, 16, 10_000),
            write_pool: self.count(origin.write_pool, 4, 10_000),
            statement_timeout: self.positive(origin.statement_timeout, Period::seconds(2)),
            connect_timeout: self.positive(origin.connect_timeout, Period::seconds(2)),
            loads: self.origin_loads(origin.loads_max, origin.loads_wait_max),
        }))
    }

    fn postgres_url(&mut self, url: &Spanned<Address>) {
        let refused = match url.get_ref().reveal().parse::<tokio_postgres::Config>() {
            Ok(settings) if settings.get_ssl_mode() == SslMode::Require => Some((
                "TLS to PostgreSQL is not built yet",
                "connect through a local proxy that speaks TLS, and leave `sslmode` out",
            )),
            Ok(settings) if !settings.get_hosts().is_empty() => None,
            _ => Some((
                "this is not the address of a PostgreSQL server",
                "write `postgres://user:password@host/database`",
            )),
        };
        if let Some((title, help)) = refused {
            self.refuse(&Refusal::new(url.span(), title).help(help));
        }
    }

    fn refuse_foreign<T>(&mut self, value: Option<&Spanned<T>>, key: &str, kind: &str) {
        if let Some(value) = value {
            self.refuse(&Refusal::new(value.span(), format!("an origin of type `{kind}` has no `{key}`")));
        }
    }
}
