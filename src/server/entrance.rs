//! Where connections come in: a port, or a Unix socket with its file. Its socket may come from another process, and go to
//! one.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::SocketAddr as SocketName;
use std::sync::{Arc, Weak};
use std::time::Duration;

use pingora::protocols::l4::listener::Listener;
use pingora::protocols::l4::socket::SocketAddr as PeerAddress;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::{GetSocketDigest, SocketDigest};
use rustix::fs::Mode;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::OwnedSemaphorePermit;

use super::backlog;
use super::hours::Shift;
use super::listener::Connections;
use super::socket_file::SocketFile;
use crate::primitives::Place;

/// How long accepting pauses when the process is out of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// A place that is listened at.
pub(super) struct Entrance {
    /// Goes before the listener does: until the file is gone, nobody takes it for a dead process's.
    file: Option<SocketFile>,
    listener: Listener,
    place: Place,
    mode: Mode,
    /// The same socket once more, for a process that takes over.
    spare: Arc<OwnedFd>,
}

/// Who may come in by a Unix socket, and how many may wait outside.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) mode: Mode,
    pub(super) backlog: u32,
}

impl Entrance {
    /// Opens a place; goes on at a socket there that another process has bound.
    pub(super) async fn open(place: &Place, terms: Terms, inherited: Option<OwnedFd>) -> io::Result<Self> {
        match (place, inherited) {
            (Place::Port(_), Some(socket)) => Self::at_port(TcpListener::from_std(socket.into())?, terms),
            (Place::Port(address), None) => Self::at_port(TcpListener::bind(address).await?, terms),
            (Place::Socket(path), inherited) => {
                let (file, listener) = match inherited {
                    Some(socket) => (SocketFile::of_another(path)?, UnixListener::from_std(socket.into())?),
                    None => SocketFile::bind(path, terms).await?,
                };
                let (place, spare) = (place.clone(), Arc::new(listener.as_fd().try_clone_to_owned()?));
                Ok(Self { file: Some(file), listener: Listener::Unix(listener), place, mode: terms.mode, spare })
            }
        }
    }

    fn at_port(listener: TcpListener, terms: Terms) -> io::Result<Self> {
        let (place, spare) = (Place::Port(listener.local_addr()?), listener.as_fd().try_clone_to_owned()?);
        Ok(Self { file: None, listener: listener.into(), place, mode: terms.mode, spare: Arc::new(spare) })
    }

    /// It is this process's turn. Until then, whatever happens to this one leaves the place as it was.
    pub(super) fn take_over(&mut self) {
        if let Some(file) = &mut self.file {
            file.take_over(self.mode);
        }
    }

    /// Where it is, with the port that was given for port 0.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Its socket, for as long as it is open.
    pub(super) fn socket(&self) -> Weak<OwnedFd> {
        Arc::downgrade(&self.spare)
    }

    /// What is accepted from, for whoever has to know more of a client than HTTP has.
    pub(super) fn listener(&self) -> &Listener {
        &self.listener
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<Stream> {
        self.listener.accept().await.map(|stream| self.marked(stream))
    }

    /// Whom `accept` accepts, once there is room; nobody if that failed. An error when it is time to close, with whoever
    /// is still waiting for room by then.
    pub(super) async fn next<T>(
        &self,
        accept: impl Future<Output = io::Result<T>>,
        connections: &Connections,
        shift: &mut Shift,
    ) -> Result<Option<(T, Option<OwnedSemaphorePermit>)>, Option<T>> {
        let accepted = tokio::select! {
            biased;
            () = shift.over() => return Err(None),
            accepted = accept => accepted,
        };
        let accepted = match accepted {
            Ok(accepted) => accepted,
            // One of those who waited has left meanwhile.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {
                return Ok(None);
            }
            Err(error) => {
                tracing::warn!(%error, place = %self.place, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
                return Ok(None);
            }
        };
        tokio::select! {
            biased;
            permit = connections.admit() => Ok(Some((accepted, permit))),
            () = shift.over() => Err(Some(accepted)),
        }
    }

    /// Whoever has connected by now and has not been accepted.
    pub(super) fn waiting(&self) -> Vec<Stream> {
        backlog::waiting(&self.listener).into_iter().map(|stream| self.marked(stream)).collect()
    }

    /// Leaves the place to another process, which listens there now.
    pub(super) fn bequeath(&mut self) {
        if let Some(file) = &mut self.file {
            file.bequeath();
        }
    }

    /// Pingora does not say of a client without a name whether it came by a Unix socket. We do.
    fn marked(&self, mut stream: Stream) -> Stream {
        if let Place::Socket(path) = &self.place
            && let Ok(name) = SocketName::from_pathname(path)
        {
            let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
            // Nobody has asked yet, so there is nothing in it.
            let _ = digest.peer_addr.set(Some(PeerAddress::Unix(name)));
            stream.set_socket_digest(digest);
        }
        stream
    }
}
