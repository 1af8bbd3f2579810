//! What a process hands over, and to whom.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Weak;
use std::time::Duration;

use tokio::time::timeout;

use super::mail::Mail;
use super::{ALL, GREETING, LEDGER, MARK, READY, SERVE, SOCKET, TAKES, is_gone};

/// How long the new process may take until it could serve: it reads the file, opens the ledger, asks nodes.
const PATIENCE: Duration = Duration::from_secs(60);

/// How this process was started, noted when it was: what stands there now is what runs next.
#[derive(Debug, Clone)]
pub(in crate::server) struct Origin {
    pub(super) binary: PathBuf,
    pub(super) arguments: Vec<OsString>,
}

/// Whatever a successor needs.
pub(in crate::server) struct Estate {
    pub(super) origin: Origin,
    /// By their names. Whoever listens there holds them.
    pub(super) sockets: Vec<(String, Weak<OwnedFd>)>,
    /// What the ledger is known by.
    pub(super) ledger: String,
    /// Whether what is remembered ends with this process.
    pub(super) forgets: bool,
    pub(super) patience: Duration,
}

/// The process that serves from now on.
#[derive(Debug)]
pub(in crate::server) struct Heir {
    /// Its number.
    pub(in crate::server) process: u32,
    /// The sockets that it keeps.
    pub(in crate::server) inherits: HashSet<String>,
}

/// Why nobody takes over. The process that was asked serves on.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The ledger is in this process.
    #[error("`ledger: memory` would be forgotten, and payments served again; stop this process and start another")]
    Forgets,
    /// The container would end with this process, and the new one in it.
    #[error("this is process 1: its container would end with it; replace the container")]
    First,
    /// The binary cannot be started.
    #[error("{} cannot be started", binary.display())]
    Start {
        /// The binary.
        binary: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The two do not understand each other.
    #[error("the new process cannot be talked to")]
    Talk(#[from] io::Error),
    /// It says something else than this version expects.
    #[error("the new process said `{0}`, which means nothing here")]
    Word(String),
    /// It has ended. It says why in the log.
    #[error("the new process ended before it was ready")]
    Ended,
    /// It does not become ready.
    #[error("the new process was not ready after {} seconds", .0.as_secs())]
    Late(Duration),
}

impl Origin {
    pub(in crate::server) fn of_this_process() -> io::Result<Self> {
        let mut arguments = std::env::args_os();
        let named = arguments.next().unwrap_or_default();
        Ok(Self { binary: started_by(Path::new(&named))?, arguments: arguments.collect() })
    }
}

impl Estate {
    /// Of a process that was started like this, and listens there.
    pub(in crate::server) fn new(
        origin: Origin,
        sockets: Vec<(String, Weak<OwnedFd>)>,
        ledger: String,
        forgets: bool,
    ) -> Self {
        Self { origin, sockets, ledger, forgets, patience: PATIENCE }
    }

    /// Starts a successor and gives it its turn. Dropped before that, it ends the new process.
    ///
    /// # Errors
    /// When nobody takes over. Then everything is as it was.
    pub(in crate::server) async fn hand_over(&self) -> Result<Heir, HandoverError> {
        if self.forgets {
            return Err(HandoverError::Forgets);
        }
        if std::process::id() == 1 {
            return Err(HandoverError::First);
        }
        let (mail, theirs) = Mail::pair()?;
        let candidate = Candidate::start(&self.origin, theirs)?;
        let ready = timeout(self.patience, self.prepare(&mail)).await;
        let inherits = ready.unwrap_or(Err(HandoverError::Late(self.patience)))?;
        mail.send(SERVE, None).await?;
        Ok(Heir { process: candidate.released(), inherits })
    }

    /// Sends everything, and returns what the new process keeps once it can serve.
    async fn prepare(&self, mail: &Mail) -> Result<HashSet<String>, HandoverError> {
        mail.send(GREETING, None).await.map_err(ended)?;
        mail.send(&format!("{LEDGER}{}", self.ledger), None).await.map_err(ended)?;
        for (name, socket) in &self.sockets {
            // A door that has closed by itself has nothing to hand on.
            let Some(socket) = socket.upgrade() else { continue };
            mail.send(&format!("{SOCKET}{name}"), Some(socket.as_fd())).await.map_err(ended)?;
        }
        mail.send(ALL, None).await.map_err(ended)?;
        let mut inherits = HashSet::new();
        loop {
            let Some(letter) = mail.receive().await? else { return Err(HandoverError::Ended) };
            match letter.text.strip_prefix(TAKES) {
                Some(name) => inherits.insert(name.to_owned()),
                None if letter.text == READY => return Ok(inherits),
                None => return Err(HandoverError::Word(letter.text)),
            };
        }
    }
}

fn ended(error: io::Error) -> HandoverError {
    if is_gone(&error) { HandoverError::Ended } else { HandoverError::Talk(error) }
}

/// A process that may take over. Dropping it ends it, before it could notice that we hung up and take us for dead.
struct Candidate(Option<Child>);

impl Candidate {
    fn start(origin: &Origin, mail: OwnedFd) -> Result<Self, HandoverError> {
        let Origin { binary, arguments } = origin;
        let mut command = Command::new(binary);
        command.args(arguments).env(MARK, std::process::id().to_string()).stdin(Stdio::from(mail));
        let child = command.spawn();
        Ok(Self(Some(child.map_err(|source| HandoverError::Start { binary: binary.to_owned(), source })?)))
    }

    /// Its number; from now on it lives its own life.
    fn released(mut self) -> u32 {
        self.0.take().map(|child| child.id()).unwrap_or_default()
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // Fails only for one that has ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The path by which the running binary was started: a symbolic link in it may lead to another version by the next
/// time. Where the first argument says something else than the truth, the binary's own path.
fn started_by(named: &Path) -> io::Result<PathBuf> {
    let running = std::env::current_exe()?;
    let is_running = |path: &PathBuf| path.canonicalize().is_ok_and(|path| path == running);
    let by_path = named.components().count() > 1 || named.has_root();
    let found = if by_path {
        std::path::absolute(named).ok().filter(is_running)
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|folder| folder.join(named)).find(is_running)
    };
    Ok(found.unwrap_or(running))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_stands_where_the_binary_stood_is_what_runs_next() {
        let running = std::env::current_exe().expect("we run");
        let folder = tempfile::tempdir().expect("a folder for the test");
        let link = folder.path().join("current");
        std::os::unix::fs::symlink(&running, &link).expect("the folder is ours");
        assert_eq!(started_by(&link).expect("it is found"), link, "the link, not where it leads today");
        let other = folder.path().join("nothing");
        assert_eq!(started_by(&other).expect("it is found"), running, "a first argument may say anything");
        assert_eq!(started_by(Path::new("sh")).expect("it is found"), running, "another program of that name");
    }
}
