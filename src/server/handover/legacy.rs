//! What a new process has from the old one.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use tokio::time::timeout;

use super::mail::{Letter, Mail};
use super::{ALL, GREETING, LEDGER, MARK, READY, SERVE, SOCKET, TAKES, is_gone};

/// How long the old process may take to send what it has; it began to before this one was started.
const PATIENCE: Duration = Duration::from_secs(10);

/// The sockets of a process that this one takes over from; none for one that starts afresh.
#[derive(Default)]
pub struct Legacy {
    sockets: HashMap<String, Vec<OwnedFd>>,
    taken: Vec<String>,
    ledger: Option<String>,
    mail: Option<Mail>,
}

impl Legacy {
    /// What was sent to this process, if another one has started it to take over.
    ///
    /// # Errors
    /// When the other one says something else than this version understands, or nothing.
    pub async fn receive() -> io::Result<Self> {
        let parent = rustix::process::getppid().map(|parent| parent.as_raw_nonzero().to_string());
        // A mark of somebody else was left in the environment: that process is none of ours.
        if parent.is_none() || std::env::var(MARK).ok() != parent {
            return Ok(Self::default());
        }
        let mail = Mail::over(io::stdin().as_fd().try_clone_to_owned()?)?;
        match timeout(PATIENCE, Self::read(mail)).await {
            Ok(legacy) => legacy,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    pub(super) async fn read(mail: Mail) -> io::Result<Self> {
        let unknown = |text: &str| io::Error::new(io::ErrorKind::InvalidData, format!("`{text}` means nothing here"));
        let mut legacy = Self::default();
        let mut greeted = false;
        while let Some(Letter { text, socket }) = mail.receive().await? {
            match (text.as_str(), socket) {
                (GREETING, None) if !greeted => greeted = true,
                (ALL, None) if greeted => {
                    legacy.mail = Some(mail);
                    return Ok(legacy);
                }
                (named, Some(socket)) if greeted => {
                    let name = named.strip_prefix(SOCKET).ok_or_else(|| unknown(named))?;
                    legacy.sockets.entry(name.to_owned()).or_default().push(socket);
                }
                (named, None) if greeted && named.starts_with(LEDGER) => {
                    legacy.ledger = named.strip_prefix(LEDGER).map(str::to_owned);
                }
                (other, _) => return Err(unknown(other)),
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    /// Whether another process serves until this one can.
    pub(in crate::server) fn has_predecessor(&self) -> bool {
        self.mail.is_some()
    }

    /// Whether the other process remembers payments in the ledger that is known by this: what it has sold must not be
    /// sold again, and what it is settling not be settled here (S2).
    pub(in crate::server) fn shares(&self, ledger: &str) -> bool {
        self.ledger.as_deref().is_none_or(|theirs| theirs == ledger)
    }

    /// The socket of this name. A file that names an address twice gets as many as the old process had.
    pub(in crate::server) fn take(&mut self, name: &str) -> Option<OwnedFd> {
        let socket = self.sockets.get_mut(name)?.pop()?;
        self.taken.push(name.to_owned());
        Some(socket)
    }

    /// Says that this process can serve, and returns when it is to. Sockets that were not taken are let go.
    pub(in crate::server) async fn turn(self) -> io::Result<()> {
        let Self { sockets, taken, mail, .. } = self;
        drop(sockets);
        let Some(mail) = mail else { return Ok(()) };
        let agreed = async {
            for name in &taken {
                mail.send(&format!("{TAKES}{name}"), None).await?;
            }
            mail.send(READY, None).await?;
            mail.receive().await
        };
        let word = match agreed.await {
            Err(error) if is_gone(&error) => None,
            word => word?,
        };
        match word {
            Some(Letter { text, .. }) if text == SERVE => {}
            Some(Letter { text, .. }) => return Err(io::Error::new(io::ErrorKind::InvalidData, text)),
            // The old process ends us before it hangs up, if it has changed its mind. So it is dead, and somebody has to
            // serve.
            None => tracing::warn!("the process that hands over has vanished"),
        }
        Ok(())
    }
}
