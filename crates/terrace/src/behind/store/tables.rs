//! The tables of what waits and of what was given up, and what each note changes in them.

use super::{ATTEMPTS, DEAD, DeadRow, Note, OVERTAKEN, PENDING, Row};
use redb::{ReadableTable, Table, WriteTransaction};

/// What a commit changes.
pub(super) struct Tables<'a> {
    pub(super) pending: Table<'a, u64, Row>,
    attempts: Table<'a, u64, u32>,
    dead: Table<'a, u64, DeadRow>,
    overtaken: Table<'a, u64, ()>,
}

impl<'a> Tables<'a> {
    pub(super) fn open(transaction: &'a WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            pending: transaction.open_table(PENDING)?,
            attempts: transaction.open_table(ATTEMPTS)?,
            dead: transaction.open_table(DEAD)?,
            overtaken: transaction.open_table(OVERTAKEN)?,
        })
    }

    pub(super) fn apply(&mut self, note: &Note) -> Result<(), redb::Error> {
        match note {
            Note::Done(number) => {
                self.pending.remove(number)?;
                self.attempts.remove(number)?;
            }
            Note::Attempts(number, count) => {
                if self.pending.get(number)?.is_some() {
                    self.attempts.insert(number, count)?;
                }
            }
            Note::Bury(number, count, reason) => {
                self.attempts.remove(number)?;
                if let Some(row) = self.pending.remove(number)? {
                    let (keyspace, key, value, version) = row.value();
                    self.dead.insert(number, (keyspace, key, value, version, *count, &**reason))?;
                }
            }
            Note::Revive(number) => {
                if let Some(row) = self.dead.remove(number)? {
                    let (keyspace, key, value, version, ..) = row.value();
                    self.pending.insert(number, (keyspace, key, value, version))?;
                }
            }
            Note::Drop(number) => {
                self.dead.remove(number)?;
                self.overtaken.remove(number)?;
            }
            Note::Version(number, version) => {
                let row = self.pending.get(number)?.map(|row| {
                    let (keyspace, key, value, _) = row.value();
                    (keyspace.to_owned(), key.to_vec(), value.map(<[u8]>::to_vec))
                });
                if let Some((keyspace, key, value)) = row {
                    self.pending.insert(number, (&*keyspace, &*key, value.as_deref(), *version))?;
                    return Ok(());
                }
                let row = self.dead.get(number)?.map(|row| {
                    let (keyspace, key, value, _, count, reason) = row.value();
                    (keyspace.to_owned(), key.to_vec(), value.map(<[u8]>::to_vec), count, reason.to_owned())
                });
                if let Some((keyspace, key, value, count, reason)) = row {
                    self.dead
                        .insert(number, (&*keyspace, &*key, value.as_deref(), *version, count, &*reason))?;
                }
            }
            Note::Overtaken(number) => {
                if self.dead.get(number)?.is_some() {
                    self.overtaken.insert(number, ())?;
                }
            }
            // Of another table: see `requests`.
            Note::Over(..) | Note::Forget(..) => {}
        }
        Ok(())
    }
}
