//! The table of requests that were taken, by their idempotency keys.
//!
//! 1. A file has it, and the format that says so, from the first such request on: one without is read by releases that know nothing of it,
//!    and one with it is refused by them, since they would forget requests without a word.

use super::{FORMAT, FORMAT_NOW, META, Note};
use crate::behind::idempotency::Request;
use crate::behind::record::Record;
use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};
use std::sync::Arc;

/// Keyspace, digest of the key; digest of what is asked for, number of the write, since when that is over, in seconds of the wall clock (0 if
/// it is not).
const REQUESTS: TableDefinition<'static, (&str, u128), (u128, u64, u64)> = TableDefinition::new("requests");

type Rows<'a> = Table<'a, (&'static str, u128), (u128, u64, u64)>;

/// A request that a file held.
#[derive(Debug)]
pub(in crate::behind) struct Row {
    pub(in crate::behind) keyspace: String,
    pub(in crate::behind) request: Request,
    pub(in crate::behind) number: u64,
    /// Since when its write is over, in seconds of the wall clock; 0 if the file did not know that it is.
    pub(in crate::behind) over_at: u64,
}

/// All that the file has, of whichever format it is.
pub(super) fn read(transaction: &ReadTransaction) -> Result<Vec<Row>, redb::Error> {
    let table = match transaction.open_table(REQUESTS) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        table => table?,
    };
    let mut rows = Vec::new();
    for row in table.iter()? {
        let (key, value) = row?;
        let ((keyspace, name), (content, number, over_at)) = (key.value(), value.value());
        rows.push(Row { keyspace: keyspace.to_owned(), request: Request { name, content }, number, over_at });
    }
    Ok(rows)
}

/// Writes what a commit has of requests, which is mostly nothing.
pub(super) fn write(
    transaction: &WriteTransaction,
    taken: &[Arc<Record>],
    notes: &[Note],
    now: u64,
) -> Result<(), redb::Error> {
    let is_of_requests = |note: &&Note| matches!(note, Note::Over(..) | Note::Forget(..));
    let mut notes = notes.iter().filter(is_of_requests).peekable();
    if taken.is_empty() && notes.peek().is_none() {
        return Ok(());
    }
    transaction.open_table(META)?.insert(FORMAT, FORMAT_NOW)?;
    let mut table = transaction.open_table(REQUESTS)?;
    for record in taken {
        if let Some(Request { name, content }) = record.request {
            table.insert((&*record.keyspace, name), (content, record.number, 0))?;
        }
    }
    for note in notes {
        match note {
            Note::Over(keyspace, name, number) => {
                if let Some(content) = content_of(&table, (&**keyspace, *name), *number)? {
                    table.insert((&**keyspace, *name), (content, *number, now))?;
                }
            }
            Note::Forget(keyspace, name, number) => {
                let is_of_it = content_of(&table, (&**keyspace, *name), *number)?.is_some();
                if is_of_it {
                    table.remove((&**keyspace, *name))?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// What the request of this name asks for, if its write has this number.
fn content_of(table: &Rows<'_>, key: (&str, u128), number: u64) -> Result<Option<u128>, redb::Error> {
    let row = table.get(key)?.map(|row| row.value());
    Ok(row.filter(|(_, of, _)| *of == number).map(|(content, ..)| content))
}
