//! Copies of a ledger: taken while it is used, and put in its place.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::{Connection, ErrorCode};

use super::super::evidence::{Author, Body, Extent, Step};
use super::{OpenError, Sqlite, evidence, schema, witness};
use crate::primitives::Timestamp;

/// The step by which a copy comes to stand in the place of a ledger.
const RESTORED: &str = "restored";

/// Why a ledger could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// One of the two files is no ledger, or cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is a file already where the copy should go.
    #[error("{}: there is a file of this name already", .0.display())]
    Exists(PathBuf),
    /// A gateway or another process has the ledger open.
    #[error("{}: a process has this ledger open; stop the gateway first", .0.display())]
    InUse(PathBuf),
    /// The copy is damaged.
    #[error("{}: this copy is damaged: {why}", path.display())]
    Damaged {
        /// The copy.
        path: PathBuf,
        /// In SQLite's words.
        why: String,
    },
    /// The database failed.
    #[error("the ledger could not be copied")]
    Database(#[from] rusqlite::Error),
    /// The file system failed.
    #[error("the ledger could not be copied")]
    Files(#[from] io::Error),
}

/// What came of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// How far the chain reaches now. Its last record says that it was restored.
    pub extent: Extent,
    /// Where the file that stood there before has gone.
    pub replaced: Option<PathBuf>,
}

impl Sqlite {
    /// Copies a ledger to a new file, while gateways go on writing. The copy is one state of the ledger, for its owner's
    /// eyes only, and on the disk when this returns.
    ///
    /// # Errors
    /// When there is such a file already, or when either cannot be used.
    pub fn back_up(ledger: &Path, to: &Path) -> Result<Extent, CopyError> {
        let source = schema::existing(ledger)?;
        if to.exists() {
            return Err(CopyError::Exists(to.to_owned()));
        }
        let fresh = beside(to, ".part");
        let extent = copy(&source, &fresh).inspect_err(|_| remove(&fresh))?;
        fs::rename(&fresh, to)?;
        sync_directory(to)?;
        Ok(extent)
    }

    /// Puts a copy in the place of a ledger, and that on record. The file that stood there is kept under another name.
    ///
    /// # Errors
    /// When the copy is damaged or no ledger, or a process has the ledger open. Then everything is as it was.
    pub fn restore(copied: &Path, ledger: &Path, author: Author, at: Timestamp) -> Result<Restored, CopyError> {
        let source = schema::existing(copied)?;
        let verdict: String = source.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        if verdict != "ok" {
            return Err(CopyError::Damaged { path: copied.to_owned(), why: verdict });
        }
        let held = ledger.exists().then(|| hold(ledger)).transpose()?;
        let fresh = beside(ledger, ".restoring");
        remove(&fresh);
        let extent =
            copy(&source, &fresh).and_then(|_| put_on_record(&fresh, author, at)).inspect_err(|_| remove(&fresh))?;
        // Letting go closes the write-ahead log, which belongs to the file that leaves.
        let replaced = held.is_some().then(|| beside(ledger, &format!(".replaced-{}", at.as_millis())));
        drop(held);
        if let Some(replaced) = &replaced {
            fs::rename(ledger, replaced)?;
        }
        for side in ["-wal", "-shm"] {
            remove(&beside(ledger, side));
        }
        fs::rename(&fresh, ledger)?;
        sync_directory(ledger)?;
        witness::note(ledger, &extent)?;
        Ok(Restored { extent, replaced })
    }
}

/// Copies everything at once: in steps, whoever writes meanwhile would make it begin again.
fn copy(source: &Connection, to: &Path) -> Result<Extent, CopyError> {
    // SQLite would make it readable by others; a ledger holds signatures and keys.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let mut target = Connection::open(to)?;
    Backup::new(source, &mut target)?.run_to_completion(i32::MAX, Duration::ZERO, None)?;
    let extent = evidence::extent(&target)?;
    target.close().map_err(|(_, error)| error)?;
    File::open(to)?.sync_all()?;
    Ok(extent)
}

/// Says in the copy itself that it was restored.
fn put_on_record(copy: &Path, author: Author, at: Timestamp) -> Result<Extent, CopyError> {
    let mut db = schema::connect(copy)?;
    let writing = db.transaction()?;
    let content = Body::of_ledger(&Step::named(RESTORED, at, &author)).map_err(|error| io::Error::other(error.0))?;
    evidence::append(&writing, content, None)?;
    let extent = evidence::extent(&writing)?;
    writing.commit()?;
    db.close().map_err(|(_, error)| error)?;
    Ok(extent)
}

/// Holds a ledger as nobody can who shares it with a gateway.
fn hold(ledger: &Path) -> Result<Connection, CopyError> {
    let in_use = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => CopyError::InUse(ledger.to_owned()),
        _ => error.into(),
    };
    let db = schema::connect(ledger)?;
    db.busy_timeout(Duration::ZERO)?;
    db.pragma_update_and_check(None, "locking_mode", "exclusive", |_| Ok(()))?;
    match db.execute_batch("BEGIN EXCLUSIVE; ROLLBACK") {
        // A damaged file is what a restore is for; nobody else can use it either.
        Err(error)
            if matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)) =>
        {
            Ok(db)
        }
        Err(error) => Err(in_use(error)),
        Ok(()) => Ok(db),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A file that is not there is as good as removed; one that stays is found by whoever wants its name.
fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}

/// A new name is on the disk only when its directory is.
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}
