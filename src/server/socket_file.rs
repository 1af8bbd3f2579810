//! The file of a Unix socket: never open to more than it should be, never put in the place of one that lives, and gone
//! with its process.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use tokio::net::{UnixListener, UnixSocket, UnixStream};

use super::entrance::Terms;

/// How often, and how far apart, the folder is tried for while another process looks at it.
const TRIES: usize = 40;
const PAUSE: Duration = Duration::from_millis(50);
/// What a file begins with: only its owner may connect.
pub(super) const OWNER: Mode = Mode::RUSR.union(Mode::WUSR);

/// The file of a socket that is listened at. It has to go before the listener does: as long as it is there, nobody must
/// take it for a dead process's.
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode of the file that was made. Another one in its place is somebody else's.
    made: (u64, u64),
    /// Whether the file goes with this process.
    ours: bool,
}

impl SocketFile {
    /// Makes the file and listens. The file of a process that died is replaced.
    ///
    /// # Errors
    /// When somebody listens there, something else has that name, or the folder cannot be written to.
    pub(super) async fn bind(path: &Path, terms: Terms) -> io::Result<(Self, UnixListener)> {
        // Of two processes that start together, the second must not take the socket of the first for a dead one's.
        let _turn = turn_in(folder_of(path)).await?;
        clear(path).await?;
        let socket = UnixSocket::new_stream()?;
        // The file takes the mode of the socket it is made for, so there is no moment in which more may connect. What the
        // process's mask takes away is given back.
        fchmod(&socket, OWNER)?;
        socket.bind(path)?;
        let mut file = Self::of_another(path)?;
        file.ours = true;
        file.open_to(terms.mode)?;
        let listener = socket.listen(terms.backlog)?;
        Ok((file, listener))
    }

    /// That of a socket which another process has bound, and whose it stays until it is [taken over](Self::take_over).
    ///
    /// # Errors
    /// When the file is gone.
    pub(super) fn of_another(path: &Path) -> io::Result<Self> {
        let made = identity(&fs::symlink_metadata(path)?);
        Ok(Self { path: path.to_owned(), made, ours: false })
    }

    /// From now on the file goes with this process, and lets in whom this one's `mode` does.
    pub(super) fn take_over(&mut self, mode: Mode) {
        self.ours = true;
        if self.is_there()
            && let Err(error) = self.open_to(mode)
        {
            tracing::warn!(%error, path = %self.path.display(), "the mode of a socket could not be changed");
        }
    }

    /// Leaves the file to another process, which listens there now.
    pub(super) fn bequeath(&mut self) {
        self.ours = false;
    }

    fn open_to(&self, mode: Mode) -> io::Result<()> {
        fs::set_permissions(&self.path, fs::Permissions::from_mode(mode.as_raw_mode()))
    }

    fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.made)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.ours
            && self.is_there()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "the file of a socket could not be removed");
        }
    }
}

/// Removes the socket of a process that died. Anything else in the way stays.
async fn clear(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "there is a file of this name, and it is no socket"));
    }
    match UnixStream::connect(path).await {
        // Nobody has it open any more.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        // Also one that is too busy to answer, or may not be asked, is somebody's.
        Ok(_) | Err(_) => Err(io::Error::new(ErrorKind::AddrInUse, "another process listens there")),
    }
}

/// Holds the folder until dropped, against every process that asks in the same way.
async fn turn_in(folder: &Path) -> io::Result<File> {
    let folder = File::open(folder)?;
    for _ in 0..TRIES {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(folder),
            Err(rustix::io::Errno::WOULDBLOCK) => tokio::time::sleep(PAUSE).await,
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::new(ErrorKind::ResourceBusy, "another process holds a lock on its folder"))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
}

fn identity(found: &fs::Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    async fn bind(path: &Path) -> io::Result<(SocketFile, UnixListener)> {
        SocketFile::bind(path, Terms { mode: OWNER, backlog: 16 }).await
    }

    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let path = folder.path().join("admin.sock");
        (folder, path)
    }

    #[tokio::test]
    async fn s62_the_socket_is_its_owners_alone_and_ends_with_its_process() {
        let (_folder, path) = place();
        let socket = bind(&path).await.expect("nothing is in the way");
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
        UnixStream::connect(&path).await.expect("its owner may connect");
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn whoever_the_file_says_may_connect_whatever_the_mask() {
        let (_folder, path) = place();
        let terms = Terms { mode: Mode::from_raw_mode(0o666), backlog: 16 };
        let _socket = SocketFile::bind(&path, terms).await.expect("nothing is in the way");
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o666, "{mode:o}");
    }

    #[tokio::test]
    async fn a_socket_that_lives_is_left_alone_and_a_dead_ones_place_is_taken() {
        let (_folder, path) = place();
        let lives = bind(&path).await.expect("nothing is in the way");
        let refused = bind(&path).await.err().expect("somebody listens");
        assert_eq!(refused.kind(), ErrorKind::AddrInUse);
        UnixStream::connect(&path).await.expect("it is still the first one");
        drop(lives);
        // The standard library's leaves its file behind, as a process does that is killed.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("the place is free"));
        assert!(path.exists());
        let _next = bind(&path).await.expect("nobody listens");
        UnixStream::connect(&path).await.expect("somebody does now");
    }

    #[tokio::test]
    async fn s68_the_file_of_a_socket_that_was_handed_over_goes_with_the_last_process() {
        let (_folder, path) = place();
        let (mut old, listener) = bind(&path).await.expect("nothing is in the way");
        let handed = listener.as_fd().try_clone_to_owned().expect("a descriptor");
        let candidate = SocketFile::of_another(&path).expect("the file is there");
        drop(candidate);
        UnixStream::connect(&path).await.expect("one that gives up has taken nothing");
        let mut new = SocketFile::of_another(&path).expect("the file is there");
        new.take_over(Mode::from_raw_mode(0o660));
        old.bequeath();
        drop((old, listener));
        UnixStream::connect(&path).await.expect("the new one listens");
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o660, "what its own file says holds: {mode:o}");
        drop((new, handed));
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn of_many_that_start_together_one_listens() {
        let (_folder, path) = place();
        drop(std::os::unix::net::UnixListener::bind(&path).expect("the place is free"));
        let mut processes = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let path = path.clone();
            processes.spawn(async move { bind(&path).await });
        }
        let listening: Vec<_> = processes.join_all().await.into_iter().filter_map(Result::ok).collect();
        assert_eq!(listening.len(), 1);
        UnixStream::connect(&path).await.expect("and can be reached");
    }

    #[tokio::test]
    async fn what_is_no_socket_or_not_ours_is_not_removed() {
        let (_folder, path) = place();
        fs::write(&path, "notes").expect("the folder is ours");
        let refused = bind(&path).await.err().expect("a file is in the way");
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "notes");
        fs::remove_file(&path).expect("the folder is ours");
        let ours = bind(&path).await.expect("nothing is in the way");
        fs::remove_file(&path).expect("the folder is ours");
        let _theirs = bind(&path).await.expect("nothing is in the way");
        drop(ours);
        assert!(path.exists(), "somebody else's stays");
    }
}
