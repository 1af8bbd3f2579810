//! A note beside the file of how far its chain has come, so that an older copy put in its place is noticed (S66).
//!
//! It is written when a ledger is opened, once a minute, and when it is closed. It cannot notice a whole directory that
//! was put back, nor, after a crash, what happened within the last minute.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use alloy::primitives::{B256, hex};
use rusqlite::Connection;

use super::super::evidence::{ChainId, Extent, Head};
use super::{OpenError, evidence};

/// How many notes this process has written: each begins as a file of its own.
static NOTES: AtomicU64 = AtomicU64::new(0);

/// How far a chain is known to have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) chain: ChainId,
    pub(super) head: Head,
}

/// Where the note of a ledger lies.
pub(super) fn path_of(ledger: &Path) -> PathBuf {
    let mut name = ledger.as_os_str().to_owned();
    name.push("-head");
    name.into()
}

/// What is noted. Read it before the file itself: the file is never behind a note that was there first.
pub(super) fn read(ledger: &Path) -> Result<Option<Noted>, OpenError> {
    let path = path_of(ledger);
    match fs::read_to_string(&path) {
        Ok(text) => parse(&text).map(Some).ok_or(OpenError::Unnoted { note: path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(OpenError::Unavailable { path, source: error.into() }),
    }
}

/// Refuses a file that has not come as far as the note says.
pub(super) fn check(ledger: &Path, db: &Connection, noted: &Noted) -> Result<(), OpenError> {
    let unavailable = |error: rusqlite::Error| OpenError::Unavailable { path: ledger.to_owned(), source: error.into() };
    let extent = evidence::extent(db).map_err(unavailable)?;
    let (path, number) = (ledger.to_owned(), noted.head.number);
    if extent.chain != noted.chain {
        return Err(OpenError::Another { path, number });
    }
    if extent.head.number < number {
        return Err(OpenError::OlderCopy { path, reaches: extent.head.number, noted: number });
    }
    // What the chain no longer keeps cannot be compared.
    if number > extent.base.number && evidence::hash_of(db, number).map_err(unavailable)? != Some(noted.head.hash) {
        return Err(OpenError::Another { path, number });
    }
    Ok(())
}

/// Notes how far the chain has come. The note is there as a whole or not at all.
pub(super) fn note(ledger: &Path, extent: &Extent) -> io::Result<()> {
    let path = path_of(ledger);
    let mut fresh = path.clone().into_os_string();
    fresh.push(format!(".{}-{}", std::process::id(), NOTES.fetch_add(1, Ordering::Relaxed)));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    let Extent { chain, head, .. } = extent;
    file.write_all(format!("{chain} {} {}\n", head.number, hex::encode(head.hash)).as_bytes())?;
    file.sync_all()?;
    fs::rename(fresh, path)
}

fn parse(text: &str) -> Option<Noted> {
    let mut words = text.split_whitespace();
    let chain = words.next()?.parse().ok()?;
    let number = words.next()?.parse().ok()?;
    let hash: B256 = words.next()?.parse().ok()?;
    words.next().is_none().then_some(Noted { chain, head: Head { number, hash } })
}
