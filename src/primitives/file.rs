//! Files that others write: read within bounds, and secrets only where not everybody can read them.

use std::io::Read;
use std::path::Path;

use zeroize::Zeroize;

use super::Secret;

/// No secret is longer.
pub const MOST_SECRET_BYTES: u64 = 64 * 1024;

/// Why a file is not taken. Never says what it holds.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system does not let it be read.
    #[error(transparent)]
    Unreadable(std::io::Error),
    /// A folder, a pipe or the like.
    #[error("it is not a file")]
    NotAFile,
    /// Everybody can get at it. These are its permission bits.
    #[error("everybody can get at it (mode {0:04o})")]
    Open(u32),
    /// It holds more than it may.
    #[error("it is too large")]
    TooLarge,
    /// It does not hold UTF-8.
    #[error("it does not hold UTF-8 text")]
    NotText,
}

/// Reads a secret from a file that not everybody can read, without the line break at its end.
///
/// # Errors
/// When it is none, or everybody can read it (S60).
pub fn read_secret(path: &Path) -> Result<Secret<String>, FileError> {
    let about = std::fs::metadata(path).map_err(FileError::Unreadable)?;
    if let Some(mode) = open_to_everybody(&about).filter(|_| about.is_file()) {
        return Err(FileError::Open(mode));
    }
    let bytes = read_bounded(path, MOST_SECRET_BYTES)?;
    let mut text = String::from_utf8(bytes).map_err(|error| {
        error.into_bytes().zeroize();
        FileError::NotText
    })?;
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    Ok(Secret::new(text))
}

/// The bytes of a file that has no more than `most` of them.
///
/// # Errors
/// When it cannot be read, or has more.
pub fn read_bounded(path: &Path, most: u64) -> Result<Vec<u8>, FileError> {
    // Opening a pipe would wait for its other end.
    let about = std::fs::metadata(path).map_err(FileError::Unreadable)?;
    if !about.is_file() {
        return Err(FileError::NotAFile);
    }
    // All that it needs at once: growing would leave copies of a secret behind.
    let mut bytes = Vec::with_capacity(usize::try_from(about.len().min(most) + 1).unwrap_or_default());
    let file = std::fs::File::open(path).map_err(FileError::Unreadable)?;
    let read = file.take(most + 1).read_to_end(&mut bytes);
    if read.is_err() || bytes.len() as u64 > most {
        bytes.zeroize();
    }
    match read.map_err(FileError::Unreadable)? as u64 > most {
        true => Err(FileError::TooLarge),
        false => Ok(bytes),
    }
}

#[cfg(unix)]
fn open_to_everybody(about: &std::fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    let mode = about.permissions().mode() & 0o7777;
    (mode & 0o007 != 0).then_some(mode)
}

#[cfg(not(unix))]
fn open_to_everybody(_: &std::fs::Metadata) -> Option<u32> {
    None
}
