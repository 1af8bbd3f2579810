//! The side door: where operators reach the admin API. Beside the doors for clients, because it must open when those are
//! overrun, and because it has to know who comes in.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use pingora::protocols::l4::listener::Listener;
use pingora::protocols::l4::stream::Stream;
use pingora::services::listening::Service;
use tokio::sync::watch;

use crate::admin::{Admin, Config, LAST_ORDER, LONGEST_VISIT, Peer, Visit};
use crate::primitives::Place;

use super::StartError;
use super::entrance::{Entrance, Terms};
use super::hours::Shift;
use super::listener::Connections;
use super::socket_file::OWNER;

/// How many may be at the side door at once. Fewer than the descriptors that clients leave.
pub(super) const MOST_VISITS: usize = 16;
/// A Unix socket is its owner's alone (S62).
const TERMS: Terms = Terms { mode: OWNER, backlog: MOST_VISITS as u32 };

/// Where operators come in.
pub(super) struct SideDoor(Entrance);

impl SideDoor {
    /// Opens the place that the file names; goes on at a socket there that another process has bound.
    pub(super) async fn open(config: &Config, inherited: Option<OwnedFd>) -> Result<Self, StartError> {
        let place = config.place();
        let opened = Entrance::open(&place, TERMS, inherited).await;
        opened.map(Self).map_err(|source| StartError::Admin { place, source })
    }

    /// Its socket, for as long as it is open.
    pub(super) fn socket(&self) -> Weak<OwnedFd> {
        self.0.socket()
    }

    /// Where it is, with the port that was given for port 0.
    pub(super) fn place(&self) -> &Place {
        self.0.place()
    }

    /// Lets operators in until told to close.
    pub(super) async fn serve(mut self, admin: Arc<Admin>, connections: Connections, mut shift: Shift) {
        self.0.take_over();
        let told = shift.closing();
        while let Ok(next) = self.0.next(self.accept(), &connections, &mut shift).await {
            let Some(((stream, peer), permit)) = next else { continue };
            let (visit, told) = (admin.receive(peer), told.clone());
            tokio::spawn(async move {
                let served = Service::<Visit>::handle_event(Box::new(stream), visit, told.clone());
                // Whoever is cut off dawdles over their head or our answer; all else has limits of its own.
                tokio::select! {
                    () = served => {}
                    () = tokio::time::sleep(LONGEST_VISIT) => {}
                    () = last_orders(told) => {}
                }
                drop(permit);
            });
        }
        if shift.is_inherited() {
            self.0.bequeath();
        }
    }

    /// The next connection, and who makes it. Of a Unix socket the system says which user that is.
    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self.0.listener() {
            Listener::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((stream.into(), Peer::Address(address)))
            }
            Listener::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let user = stream.peer_cred()?.uid();
                Ok((stream.into(), Peer::User(user)))
            }
        }
    }
}

/// Returns some time after the process was told to stop: whoever sits here and says nothing does not hold it up.
async fn last_orders(mut closing: watch::Receiver<bool>) {
    // Fails only when the server is gone, which is the end as well.
    let _ = closing.wait_for(|closing| *closing).await;
    tokio::time::sleep(LAST_ORDER).await;
}
