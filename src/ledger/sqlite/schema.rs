//! The file: how it is made, recognised and refused.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior};

use super::{OpenError, Purpose, evidence};

/// `toll`, in the header of every ledger file.
const APPLICATION: i64 = 0x746f_6c6c;

/// The schema this code reads and writes: a file of schema n has taken the first n steps.
const SCHEMA: i64 = STEPS.len() as i64;

/// How an empty file becomes a ledger, and an older ledger a current one. A step is never changed once released.
///
/// Each only adds, so a process of the version before may go on with a file that was brought up to date (S68).
const STEPS: [Change; 5] = [
    |db| db.execute_batch(ENTRIES),
    |db| db.execute_batch(CELLS),
    evidence::begin,
    |db| db.execute_batch(LEFT_OPEN),
    |db| db.execute_batch(SPENT),
];

/// One step.
type Change = fn(&Connection) -> rusqlite::Result<()>;

/// How many statements a connection keeps prepared: all there are.
const STATEMENTS: usize = 64;

/// How long a process waits for another one's commit.
const BUSY: Duration = Duration::from_secs(5);
/// How soon a file that another process is opening is tried again.
const TURN: Duration = Duration::from_millis(10);

/// What a payer's payments left open is asked for with every fresh payment.
const LEFT_OPEN: &str = "CREATE INDEX entries_left_open ON entries (payer) WHERE state IN ('settling', 'undelivered');";

/// What each payer spends in a day, in millionths of a dollar. The day comes first, so that old ones lie together.
const SPENT: &str = "
    CREATE TABLE spent (
        day INTEGER NOT NULL,
        payer TEXT NOT NULL,
        amount INTEGER NOT NULL,
        PRIMARY KEY (day, payer)
    ) STRICT, WITHOUT ROWID;
";

/// The entry itself stands in `entry` as JSON; the other columns repeat what people and `overdue` look for. Moments
/// are milliseconds since the epoch.
const ENTRIES: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE entries (
        key BLOB PRIMARY KEY CHECK (length(key) = 32),
        version INTEGER NOT NULL,
        state TEXT NOT NULL,
        route TEXT NOT NULL,
        payer TEXT NOT NULL,
        network TEXT NOT NULL,
        asset TEXT NOT NULL,
        amount TEXT NOT NULL,
        transaction_hash TEXT,
        created INTEGER NOT NULL,
        updated INTEGER NOT NULL,
        due INTEGER,
        forget_after INTEGER,
        entry TEXT NOT NULL
    ) STRICT;
    CREATE INDEX entries_due ON entries (due) WHERE due IS NOT NULL;
    CREATE INDEX entries_forget_after ON entries (forget_after) WHERE forget_after IS NOT NULL;
    CREATE INDEX entries_state ON entries (state);
    CREATE INDEX entries_created ON entries (created);
    CREATE TABLE claims (fact BLOB PRIMARY KEY, key BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE INDEX claims_key ON claims (key);
    CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL CHECK (length(value) = 32)) STRICT, WITHOUT ROWID;
";

/// What the processes on a ledger share besides payments.
const CELLS: &str = "
    CREATE TABLE cells (name TEXT PRIMARY KEY, version INTEGER NOT NULL, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
";

/// Opens a ledger for writing, or makes it. Changes nothing about a file that is not a ledger.
pub(super) fn open(path: &Path, purpose: Purpose) -> Result<Connection, OpenError> {
    create_file(path)?;
    refuse_directory(path)?;
    let patience = Instant::now() + BUSY;
    loop {
        match prepare(path, purpose) {
            // SQLite changes the journal without waiting for others, whatever the busy timeout says. Another process
            // that opens the same file is a matter of milliseconds (S68).
            Err(error) if is_busy(&error) && Instant::now() < patience => std::thread::sleep(TURN),
            ended => return ended,
        }
    }
}

fn is_busy(error: &OpenError) -> bool {
    let OpenError::Unavailable { source, .. } = error else { return false };
    let code = source.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code);
    matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// One attempt at opening a file that exists.
fn prepare(path: &Path, purpose: Purpose) -> Result<Connection, OpenError> {
    let mut db = connect(path).map_err(|error| sort(path, error))?;
    recognise(path, &db)?;
    db.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0))
        .map_err(|error| sort(path, error))
        .and_then(|mode| {
            let why = || format!("its file system cannot share a write-ahead log (journal mode {mode})").into();
            if mode == "wal" { Ok(()) } else { Err(OpenError::Unavailable { path: path.into(), source: why() }) }
        })?;
    let found = take_steps(&mut db, purpose).map_err(|error| sort(path, error))?;
    // Another process may have made it meanwhile, a newer one perhaps.
    recognise(path, &db)?;
    match found {
        Some(found) if found == purpose.as_str() => Ok(db),
        Some(found) => Err(OpenError::WrongPurpose { path: path.into(), found, wanted: purpose }),
        None => Err(OpenError::Foreign(path.into())),
    }
}

/// Opens a ledger that exists, for reading only.
pub(super) fn existing(path: &Path) -> Result<Connection, OpenError> {
    refuse_directory(path)?;
    let db = connect(path).map_err(|error| sort(path, error))?;
    recognise(path, &db)?;
    // An empty file is recognised because `open` would fill it; there is nothing in it to look at.
    if is_empty(&db).map_err(|error| sort(path, error))? {
        return Err(OpenError::Foreign(path.into()));
    }
    db.pragma_update(None, "query_only", true).map_err(|error| sort(path, error))?;
    Ok(db)
}

/// What the file says it is for.
pub(super) fn purpose(db: &Connection) -> rusqlite::Result<Option<String>> {
    db.query_row("SELECT value FROM meta WHERE name = 'purpose'", [], |row| row.get(0)).optional()
}

/// Whether the file has been brought far enough for evidence to be kept in it.
pub(super) fn keeps_evidence(db: &Connection) -> rusqlite::Result<bool> {
    db.query_row("SELECT count(*) = 1 FROM sqlite_schema WHERE name = 'evidence'", [], |row| row.get(0))
}

/// Another connection to a file that exists.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    // With NORMAL a commit survives a crash of the process but not of the machine: not enough for money (S21).
    db.pragma_update(None, "synchronous", "full")?;
    db.pragma_update(None, "trusted_schema", false)?;
    db.pragma_update(None, "cell_size_check", true)?;
    Ok(db)
}

/// An empty file that only its owner can read: the ledger holds signatures and keys. SQLite gives its side files the
/// same mode.
fn create_file(path: &Path) -> Result<(), OpenError> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if error.kind() == ErrorKind::NotFound && !folder.exists() {
                return Err(OpenError::NoFolder { path: path.into(), folder: folder.into() });
            }
            Err(OpenError::Unavailable { path: path.into(), source: error.into() })
        }
    }
}

/// Of a directory SQLite only says that it cannot be opened.
fn refuse_directory(path: &Path) -> Result<(), OpenError> {
    if path.is_dir() {
        let why = "it is a directory; name a file in it";
        return Err(OpenError::Unavailable { path: path.into(), source: why.into() });
    }
    Ok(())
}

/// Refuses what is neither empty nor ours.
fn recognise(path: &Path, db: &Connection) -> Result<(), OpenError> {
    let number = |pragma: &str| {
        db.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).map_err(|error| sort(path, error))
    };
    // Another process may be making the file between any two of these looks. It writes our mark together with the
    // tables, so whoever looks for the mark last and finds none saw a file without tables before (S68).
    let version = number("user_version")?;
    // A new file gets its first page with the write-ahead log and its tables right after.
    let blank = number("page_count")? == 0 || is_empty(db).map_err(|error| sort(path, error))?;
    match number("application_id")? {
        APPLICATION if version <= SCHEMA => Ok(()),
        APPLICATION => Err(OpenError::Newer { path: path.into(), found: version, known: SCHEMA }),
        0 if version == 0 && blank => Ok(()),
        _ => Err(OpenError::Foreign(path.into())),
    }
}

fn is_empty(db: &Connection) -> rusqlite::Result<bool> {
    db.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
}

/// Makes a ledger of an empty file and brings an older one up to date; returns what the file is for. What is not ours,
/// is newer or is for the other kind of money stays as it is.
fn take_steps(db: &mut Connection, purpose: Purpose) -> rusqlite::Result<Option<String>> {
    let taking = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let number = |pragma: &str| taking.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (taken, found) = if is_empty(&taking)? {
        (0, Some(purpose.as_str().to_owned()))
    } else if number("application_id")? == APPLICATION {
        (number("user_version")?, self::purpose(&taking)?)
    } else {
        return Ok(None);
    };
    if found.as_deref() == Some(purpose.as_str()) && taken < SCHEMA {
        for step in &STEPS[usize::try_from(taken).unwrap_or_default()..] {
            step(&taking)?;
        }
        taking.execute("INSERT OR IGNORE INTO meta (name, value) VALUES ('purpose', ?1)", [purpose.as_str()])?;
        taking.pragma_update(None, "application_id", APPLICATION)?;
        taking.pragma_update(None, "user_version", SCHEMA)?;
    }
    taking.commit()?;
    Ok(found)
}

fn sort(path: &Path, error: rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::Foreign(path.into()),
        _ => OpenError::Unavailable { path: path.into(), source: error.into() },
    }
}
