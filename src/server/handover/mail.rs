//! What two processes send each other: short words, each with a socket or without.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// The longest word: the name of a Unix socket is shorter (I7).
const LONGEST: usize = 1024;

/// One end of a connection that keeps words apart. A stream by its type alone: nothing is read or written but by messages.
pub(super) struct Mail(UnixStream);

/// A word, and the socket that came with it.
pub(super) struct Letter {
    pub(super) text: String,
    pub(super) socket: Option<OwnedFd>,
}

impl Mail {
    /// Our end, and the one for a process that is yet to start.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self::over(ours)?, theirs))
    }

    pub(super) fn over(socket: OwnedFd) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Self(UnixStream::from_std(socket)?))
    }

    pub(super) async fn send(&self, text: &str, socket: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let post = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut beside = SendAncillaryBuffer::new(&mut space);
            // There is room for one, so it fits.
            if !socket.as_slice().is_empty() && !beside.push(SendAncillaryMessage::ScmRights(socket.as_slice())) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            sendmsg(&self.0, &[IoSlice::new(text.as_bytes())], &mut beside, SendFlags::NOSIGNAL)?;
            Ok(())
        };
        self.0.async_io(Interest::WRITABLE, post).await
    }

    /// The next word; `None` when the other process has hung up.
    pub(super) async fn receive(&self) -> io::Result<Option<Letter>> {
        match self.0.async_io(Interest::READABLE, || read(&self.0)).await {
            // Whoever ends without having read everything resets the connection.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            read => read,
        }
    }
}

fn read(end: &UnixStream) -> io::Result<Option<Letter>> {
    let mut text = [0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let read = recvmsg(end, &mut [IoSliceMut::new(&mut text)], &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    let socket = beside.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
        _ => None,
    });
    if read.bytes == 0 {
        return Ok(None);
    }
    if read.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a word that was sent is too long"));
    }
    let text =
        str::from_utf8(&text[..read.bytes]).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Some(Letter { text: text.to_owned(), socket }))
}
