//! Whoever stands in front of a door that is about to close.
//!
//! The system completes connections before anybody accepts them. When a listener is closed, those that wait there are
//! reset: their clients were connected, may have sent a request, and cannot know that nobody has read it.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixListener;

use pingora::protocols::l4::listener::Listener;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::{GetSocketDigest, SocketDigest};

/// How many are let in at the end; a crowd that never stops coming does not keep a door open (I7). Linux has no longer
/// queue unless told to.
const MOST: usize = 4_096;

/// Accepts without waiting what has connected by now.
pub(super) fn waiting(listener: &Listener) -> Vec<Stream> {
    let taken = match listener {
        Listener::Tcp(listener) => own(listener).map(|own| {
            let listener = std::net::TcpListener::from(own);
            take(|| listener.accept().and_then(|(stream, _)| tcp(stream)))
        }),
        Listener::Unix(listener) => own(listener).map(|own| {
            let listener = UnixListener::from(own);
            take(|| listener.accept().and_then(|(stream, _)| unix(stream)))
        }),
    };
    taken.unwrap_or_else(|error| {
        tracing::warn!(%error, "connections that waited at the end could not be accepted");
        Vec::new()
    })
}

/// The same socket by another descriptor, which does not outlive this look. It never blocks, as the first does not.
fn own(listener: &impl AsFd) -> io::Result<std::os::fd::OwnedFd> {
    listener.as_fd().try_clone_to_owned()
}

fn take(mut next: impl FnMut() -> io::Result<Stream>) -> Vec<Stream> {
    let mut taken = Vec::new();
    for _ in 0..MOST {
        match next() {
            Ok(stream) => taken.push(stream),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            // One of them has left meanwhile.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
            Err(error) => {
                tracing::warn!(%error, taken = taken.len(), "connections that waited at the end could not be accepted");
                break;
            }
        }
    }
    taken
}

fn tcp(stream: std::net::TcpStream) -> io::Result<Stream> {
    stream.set_nonblocking(true)?;
    Ok(described(tokio::net::TcpStream::from_std(stream)?.into()))
}

fn unix(stream: std::os::unix::net::UnixStream) -> io::Result<Stream> {
    stream.set_nonblocking(true)?;
    Ok(described(tokio::net::UnixStream::from_std(stream)?.into()))
}

/// As a stream is that Pingora has accepted: it knows whose it is.
fn described(mut stream: Stream) -> Stream {
    let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
    // Asked for now: a client that has left cannot be asked for later.
    let _ = digest.peer_addr();
    stream.set_socket_digest(digest);
    stream
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn whoever_has_connected_is_let_in_and_nobody_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let listener = Listener::from(listener);
        assert!(waiting(&listener).is_empty());
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.push(TcpStream::connect(address).await.expect("the system connects"));
        }
        let taken = waiting(&listener);
        let peers = taken.iter().map(|stream| stream.get_socket_digest().expect("it is described"));
        let peers: Vec<_> = peers.map(|digest| digest.peer_addr().cloned().expect("a peer").to_string()).collect();
        let own = clients.iter().map(|client| client.local_addr().expect("it is connected").to_string());
        assert_eq!(peers, own.collect::<Vec<_>>());
        assert!(waiting(&listener).is_empty());
    }
}
