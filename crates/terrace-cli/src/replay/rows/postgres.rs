//! The table in PostgreSQL: filled by the server itself, read through a few pipelined connections.

use super::{Collector, TABLE};
use crate::failure::{Exit, Failure, reasons};
use crate::runtime;
use anyhow::Context as _;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio_postgres::{Client, NoTls, Statement};

/// A row as JSON, as a service makes it of its columns.
const ROW: &str = "to_json(row)::text";
/// Connections that loads are spread over. Each carries any number of loads at once.
const CONNECTIONS: usize = 4;

/// An open table.
pub(crate) struct PostgresRows {
    lanes: Vec<Lane>,
    next: AtomicUsize,
}

struct Lane {
    client: Client,
    load: Statement,
}

impl fmt::Debug for PostgresRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresRows({} connections)", self.lanes.len())
    }
}

impl PostgresRows {
    pub(super) async fn open(url: &str) -> anyhow::Result<Self> {
        let first = connect(url).await?;
        first
            .batch_execute(&format!(
                "set client_min_messages = warning;
                 create table if not exists {TABLE} (id text collate \"C\" primary key, doc jsonb not null)"
            ))
            .await
            .with_context(|| format!("cannot make the table {TABLE}"))?;
        let mut lanes = vec![Lane::new(first).await?];
        while lanes.len() < CONNECTIONS {
            lanes.push(Lane::new(connect(url).await?).await?);
        }
        Ok(Self { lanes, next: AtomicUsize::new(0) })
    }

    fn lane(&self) -> &Lane {
        &self.lanes[self.next.fetch_add(1, Ordering::Relaxed) % self.lanes.len()]
    }

    pub(super) async fn prepare(&self, trace: &str, distinct: u32) -> anyhow::Result<u64> {
        let insert = format!(
            "insert into {TABLE} (id, doc)
             select id, jsonb_build_object('key', key, 'mark', mark, 'text', repeat(md5(mark), 3))
             from (select key, $1 || ':' || key as id, md5($1 || ':' || key) as mark
                   from generate_series(0, $2::bigint - 1) as key) as made
             on conflict (id) do nothing"
        );
        let added = self.lane().client.execute(&insert, &[&trace, &i64::from(distinct)]).await?;
        Ok(added)
    }

    pub(super) async fn read_all(&self, collector: &mut Collector) -> anyhow::Result<()> {
        let select = format!("select id, {ROW} from {TABLE} as row where starts_with(id, $1)");
        let prefix = collector.prefix.clone();
        let mut rows = pin!(self.lane().client.query_raw(&select, [&prefix]).await?);
        while let Some(row) = rows.try_next().await? {
            collector.add(row.try_get(0)?, row.try_get(1)?)?;
        }
        Ok(())
    }

    pub(super) async fn load(&self, id: &str) -> anyhow::Result<Option<Bytes>> {
        let lane = self.lane();
        let Some(row) = lane.client.query_opt(&lane.load, &[&id]).await? else {
            return Ok(None);
        };
        let document: String = row.try_get(0)?;
        Ok(Some(document.into()))
    }
}

impl Lane {
    async fn new(client: Client) -> anyhow::Result<Self> {
        let load = client.prepare(&format!("select {ROW} from {TABLE} as row where id = $1")).await?;
        Ok(Self { client, load })
    }
}

async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.map_err(|error| {
        Failure::new(Exit::Unavailable, "cannot connect to the PostgreSQL of --origin")
            .why(reasons(&error))
            .next("check the URL, and that the server is up")
    })?;
    runtime::spawn(async move {
        if let Err(error) = connection.await {
            tracing::warn!(error = reasons(&error), "a connection to PostgreSQL ended");
        }
    });
    Ok(client)
}
