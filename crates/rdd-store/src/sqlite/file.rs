//! The database file: its format, loading, appending and forgetting.

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior, params};

use crate::error::{Error, Result};
use crate::key::Key;
use crate::revision::Revision;
use crate::state::{Decided, State};
use crate::store::{Change, ChangeKind, Entry, History};

/// The format of `schema.sql`, kept in `user_version`.
const FORMAT: i64 = 1;

/// Rows whose changes are read back into the window, so that watchers resume
/// over a restart.
const TAIL: u64 = 5_000;

/// Rows that one step of forgetting looks at; short enough that no write waits for long.
const STEP: u64 = 2_000;

/// Pages that one step gives back to the file system.
const VACUUM_PAGES: u32 = 256;

/// An open database that this process alone writes.
#[derive(Debug)]
pub(super) struct File {
    connection: Connection,
}

impl File {
    /// Opens or creates `rdd.sqlite3` in a folder, readable by its owner only.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("rdd.sqlite3");
        create_private(&path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&path, flags)?;
        // One owner: a second process is told so at once instead of after a wait.
        connection.busy_timeout(Duration::ZERO)?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.set_prepared_statement_cache_capacity(16);
        migrate(&mut connection)?;
        Ok(Self { connection })
    }

    /// Fills an empty state with the current values and the recent changes.
    pub(super) fn load(&mut self, state: &State) -> Result<()> {
        let counter = |name: &str| -> Result<u64> {
            Ok(self.connection.query_row(
                "SELECT value FROM counter WHERE name = ?1",
                [name],
                |row| row.get(0),
            )?)
        };
        let newest: u64 =
            self.connection
                .query_row("SELECT ifnull(max(revision), 0) FROM log", [], |row| {
                    row.get(0)
                })?;
        let revision = newest.max(counter("revision")?);
        let floor = counter("floor")?.max(revision.saturating_sub(TAIL));
        let mut statement = self.connection.prepare(
            "SELECT key, value, revision, created, expires FROM log
             WHERE revision IN (SELECT max(revision) FROM log WHERE revision <= ?1 GROUP BY key)
               AND value IS NOT NULL",
        )?;
        let mut rows = statement.query([floor])?;
        while let Some(row) = rows.next()? {
            let entry = Entry {
                key: Key::new(row.get::<_, String>(0)?),
                value: Bytes::from(row.get::<_, Vec<u8>>(1)?),
                revision: Revision(row.get(2)?),
                created: Revision(row.get(3)?),
            };
            state.load(entry, row.get::<_, Option<u64>>(4)?.map(time));
        }
        drop(rows);
        drop(statement);
        state.loaded(Revision(floor), Revision(floor));
        self.replay(state, floor)?;
        state.loaded(Revision(revision), Revision(floor));
        Ok(())
    }

    fn replay(&self, state: &State, after: u64) -> Result<()> {
        let mut statement = self.connection.prepare(
            "SELECT key, value, revision, created, at, expires FROM log
             WHERE revision > ?1 ORDER BY revision",
        )?;
        let mut rows = statement.query([after])?;
        while let Some(row) = rows.next()? {
            let key = Key::new(row.get::<_, String>(0)?);
            let previous = state.get(&key);
            let revision = Revision(row.get(2)?);
            let kind = match row.get::<_, Option<Vec<u8>>>(1)? {
                Some(value) => ChangeKind::Put {
                    entry: Entry {
                        key: key.clone(),
                        value: Bytes::from(value),
                        revision,
                        created: Revision(row.get(3)?),
                    },
                    previous,
                },
                None => ChangeKind::Delete { previous },
            };
            let change = Change {
                revision,
                key,
                kind,
                at: time(row.get(4)?),
            };
            let expires = row.get::<_, Option<u64>>(5)?.map(time);
            state.apply([Decided { change, expires }]);
        }
        Ok(())
    }

    /// Writes one transaction: all of it or nothing.
    pub(super) fn append<'a>(
        &mut self,
        writes: impl Iterator<Item = (&'a Decided, History)>,
    ) -> Result<()> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO log (revision, key, value, created, at, expires)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            let mut replace = transaction.prepare_cached("DELETE FROM log WHERE revision = ?1")?;
            for (Decided { change, expires }, history) in writes {
                let (value, created, previous) = match &change.kind {
                    ChangeKind::Put { entry, previous } => {
                        (Some(&entry.value[..]), entry.created, previous)
                    }
                    ChangeKind::Delete { previous } => (None, change.revision, previous),
                };
                insert.execute(params![
                    change.revision.0,
                    change.key.as_str(),
                    value,
                    created.0,
                    milliseconds(change.at),
                    expires.map(milliseconds),
                ])?;
                if let (History::Drop, Some(previous)) = (history, previous) {
                    replace.execute([previous.revision.0])?;
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Up to which revision history should be forgotten, if any should.
    pub(super) fn surplus(
        &self,
        oldest: Option<SystemTime>,
        bytes: u64,
    ) -> Result<Option<Revision>> {
        let page = |name: &str| -> Result<u64> {
            Ok(self
                .connection
                .pragma_query_value(None, name, |row| row.get(0))?)
        };
        let used = (page("page_count")? - page("freelist_count")?) * page("page_size")?;
        let middle = "SELECT (min(revision) + max(revision)) / 2 FROM log";
        let aged = "SELECT revision FROM log WHERE at < ?1 ORDER BY revision DESC LIMIT 1";
        let found: Option<u64> = if used > bytes {
            // Half of what there is: repeated until the file fits.
            self.connection
                .query_row(middle, [], |row| row.get(0))
                .optional()?
        } else {
            let before = oldest.map_or(0, milliseconds);
            self.connection
                .query_row(aged, [before], |row| row.get(0))
                .optional()?
        };
        Ok(found.map(Revision))
    }

    /// Removes what was superseded up to `floor`, and gives space back.
    pub(super) fn compact(&mut self, floor: Revision, newest: Revision) -> Result<()> {
        self.connection.execute(
            "UPDATE counter SET value = max(value, CASE name WHEN 'floor' THEN ?1 ELSE ?2 END)",
            params![floor.0, newest.0],
        )?;
        let mut begin = 0;
        while begin < floor.0 {
            let end = (begin + STEP).min(floor.0);
            self.connection.execute(
                "DELETE FROM log WHERE revision > ?1 AND revision <= ?2 AND (
                     (value IS NULL AND NOT EXISTS (
                         SELECT 1 FROM log AS older
                         WHERE older.key = log.key AND older.revision < log.revision))
                     OR EXISTS (
                         SELECT 1 FROM log AS newer
                         WHERE newer.key = log.key AND newer.revision > log.revision
                           AND newer.revision <= ?3))",
                params![begin, end, floor.0],
            )?;
            begin = end;
        }
        // Tombstones whose older rows went in the same pass.
        self.connection.execute(
            "DELETE FROM log WHERE value IS NULL AND revision <= ?1 AND NOT EXISTS (
                 SELECT 1 FROM log AS older
                 WHERE older.key = log.key AND older.revision < log.revision)",
            [floor.0],
        )?;
        self.connection
            .execute_batch(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
        Ok(())
    }

    /// Folds the write-ahead log into the file and closes it.
    pub(super) fn close(self) -> Result<()> {
        self.connection.close().map_err(|(_, error)| error.into())
    }
}

fn migrate(connection: &mut Connection) -> Result<()> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match found {
        0 => {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
            transaction.execute_batch(include_str!("schema.sql"))?;
            transaction.pragma_update(None, "user_version", FORMAT)?;
            transaction.commit()?;
            Ok(())
        }
        FORMAT => Ok(()),
        _ => Err(Error::Format {
            found,
            known: FORMAT,
        }),
    }
}

fn create_private(path: &Path) -> Result<()> {
    let prepare = |source| Error::Prepare {
        path: PathBuf::from(path),
        source,
    };
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(prepare)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(prepare)
}

fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

fn time(milliseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(milliseconds)
}
