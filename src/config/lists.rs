//! Files beside the main one: lists of accounts.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::gate::rails::screening::ListError;
use crate::primitives::Timestamp;

/// More than a million addresses with a comment behind each.
const MOST_BYTES: u64 = 128 << 20;

/// A list's file, as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListFile {
    /// Where it is.
    pub path: PathBuf,
    stamp: Option<Stamp>,
}

/// What changes whenever a file is written, replaced or only confirmed to be current (`touch`). Its content is not
/// compared: a list that was fetched anew and has not changed is a younger list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    place: (u64, u64),
    length: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

/// Why there is no list in a file.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("{}", plain_words(.0))]
    Unreadable(io::Error),
    #[error("it is not a file")]
    NotAFile,
    #[error("it is larger than 128 MiB")]
    TooLarge,
    #[error("it is not UTF-8 text")]
    NotText,
    #[error(transparent)]
    NotAList(ListError),
}

impl ListFile {
    /// The file as it is now; also where there is none.
    pub(super) fn look(path: &Path) -> Self {
        let stamp = std::fs::metadata(path).ok().map(|about| Stamp::of(&about));
        Self { path: path.to_owned(), stamp }
    }

    /// Whether it ends within a line, as one that is being written does.
    pub(super) fn ends_within_a_line(&self) -> bool {
        let last = || {
            let mut file =
                File::open(&self.path).ok().filter(|file| file.metadata().is_ok_and(|about| about.is_file()))?;
            let mut byte = [0];
            file.seek(SeekFrom::End(-1)).ok()?;
            file.read_exact(&mut byte).ok()?;
            Some(byte[0])
        };
        last().is_some_and(|last| last != b'\n')
    }
}

impl Stamp {
    fn of(about: &Metadata) -> Self {
        Self {
            place: (about.dev(), about.ino()),
            length: about.len(),
            written: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        }
    }
}

/// The text of a list and when it was written. What it is compared with later is taken before it is read, so that
/// whatever happens meanwhile is a change.
pub(super) fn read(path: &Path) -> (ListFile, Result<(String, Timestamp), Trouble>) {
    (ListFile::look(path), text(path))
}

fn text(path: &Path) -> Result<(String, Timestamp), Trouble> {
    let about = std::fs::metadata(path).map_err(Trouble::Unreadable)?;
    // Opening a pipe would wait for its other end.
    if !about.is_file() {
        return Err(Trouble::NotAFile);
    }
    let file = File::open(path).map_err(Trouble::Unreadable)?;
    let written = file.metadata().and_then(|about| about.modified()).map_err(Trouble::Unreadable)?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(Trouble::Unreadable)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Trouble::TooLarge);
    }
    let since = written.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok((String::from_utf8(bytes).map_err(|_| Trouble::NotText)?, Timestamp::EPOCH.after(since)))
}

fn plain_words(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file",
        io::ErrorKind::PermissionDenied => "permission denied",
        _ => "the system refuses to read it",
    }
}
