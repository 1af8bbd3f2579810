//! Doors: sockets that clients connect to.
//!
//! We accept connections ourselves and hand them to Pingora's HTTP application. Pingora's own server closes its
//! listeners at the first signal, cannot say which port it was given, and runs one runtime a service, which would end
//! with settlements under way; here all of that is ours to decide.

pub(crate) mod crowd;
mod desk;
mod keeper;
mod proxy_protocol;
mod streams;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use pingora::apps::HttpServerApp;
use pingora::protocols::l4::stream::Stream as L4Stream;
use rustix::fs::Mode;
use rustix::process::{Resource, getrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use super::StartError;
use super::entrance::{Entrance, Terms};
use super::hours::Shift;
use super::socket_file::OWNER;
use crate::primitives::Place;
use crate::proxy::patience::{Patient, Timeouts};
use desk::Desk;
pub(crate) use keeper::Keeper;

/// How many client connections may be open at once (S56, I7).
const MOST_CONNECTIONS: usize = 16_384;
/// File descriptors that clients cannot use up.
const RESERVED_DESCRIPTORS: usize = 128;
/// How many may wait before a Unix socket to be let in; the system may allow fewer.
const BACKLOG: u32 = 4096;

/// An entrance, and who stands there.
pub(crate) struct Door {
    entrance: Entrance,
    /// Who looks after the clients that come here; nobody where only neighbours do.
    keeper: Option<Arc<Keeper>>,
}

/// The connections that are open.
#[derive(Clone)]
pub(crate) struct Connections {
    open: Arc<Semaphore>,
    most: usize,
}

impl Default for Connections {
    fn default() -> Self {
        Self::of_clients(None)
    }
}

impl Connections {
    /// None yet, and never more than these at once.
    pub(super) fn most(most: usize) -> Self {
        Self { open: Arc::new(Semaphore::new(most)), most }
    }

    /// None yet, and never more than the file says, or than there are file descriptors for.
    pub(crate) fn of_clients(wanted: Option<usize>) -> Self {
        let most = most_connections(wanted, getrlimit(Resource::Nofile).current);
        if let Some(wanted) = wanted.filter(|wanted| *wanted > most) {
            tracing::warn!(wanted, most, "the system does not let this process open files for so many connections");
        }
        Self::most(most)
    }

    /// How many there may be.
    pub(crate) fn room(&self) -> usize {
        self.most
    }

    pub(super) async fn admit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.open).acquire_owned().await.ok()
    }

    /// Room for one more, if there is some now.
    pub(super) fn try_admit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.open).try_acquire_owned().ok()
    }

    /// Returns when none is open any more.
    pub(crate) async fn all_closed(&self) {
        let all = u32::try_from(self.most).unwrap_or(u32::MAX);
        // Fails only for a closed semaphore, and nobody closes this one.
        let _ = self.open.acquire_many(all).await;
    }
}

/// A client connection takes one file descriptor, and the one to the backend two where it may have to be cut. Some are kept for the ledger, the
/// facilitators and the status listener, which must answer when nothing else does.
fn most_connections(wanted: Option<usize>, descriptors: Option<u64>) -> usize {
    let free = descriptors.map_or(usize::MAX, |all| usize::try_from(all).unwrap_or(usize::MAX));
    (free.saturating_sub(RESERVED_DESCRIPTORS) / 3).clamp(1, wanted.unwrap_or(MOST_CONNECTIONS))
}

impl Door {
    /// Opens a place; goes on at a socket there that another process has bound. Of a Unix socket, `mode` says who may
    /// connect. Clients that come there are looked after by `keeper`.
    pub(super) async fn open(
        place: &Place,
        mode: Mode,
        inherited: Option<OwnedFd>,
        keeper: Option<Arc<Keeper>>,
    ) -> Result<Self, StartError> {
        let opened = Entrance::open(place, Terms { mode, backlog: BACKLOG }, inherited).await;
        match opened {
            Ok(entrance) => Ok(Self { entrance, keeper }),
            Err(source) => Err(StartError::Listen { place: place.clone(), source }),
        }
    }

    /// Opens a port where only neighbours come, goes on at its socket if another process has bound it.
    pub(crate) async fn at(address: SocketAddr, inherited: Option<OwnedFd>) -> Result<Self, StartError> {
        Self::open(&address.into(), OWNER, inherited, None).await
    }

    /// Its socket, for as long as the door is open.
    pub(super) fn socket(&self) -> Weak<OwnedFd> {
        self.entrance.socket()
    }

    /// Where it is, with the port that was given for port 0.
    pub(crate) fn place(&self) -> &Place {
        self.entrance.place()
    }

    /// Accepts connections until told to close, and those that wait outside by then. Closes those that ask nothing once
    /// they had time to.
    pub(crate) async fn serve<A>(mut self, app: Arc<A>, connections: Connections, mut shift: Shift)
    where
        A: HttpServerApp + Send + Sync + 'static,
    {
        self.entrance.take_over();
        let (closing, (close, closed), (clear, cleared)) =
            (shift.closing(), watch::channel(false), watch::channel(false));
        let desk = Desk::new(Arc::clone(&app), connections.clone(), closing.clone(), closed);
        let last = self.accept(&desk, &connections, &mut shift).await;
        let waiting = if shift.is_inherited() {
            self.entrance.bequeath();
            Vec::new()
        } else {
            self.entrance.waiting()
        };
        let Self { entrance, keeper } = self;
        // Before anybody is waited for: whoever connects now is refused rather than left waiting.
        drop(entrance);
        // They have had no time yet to ask, so they leave last.
        let late = Desk::new(Arc::clone(&app), connections.clone(), closing, cleared);
        let admitted = async {
            for stream in last.into_iter().chain(waiting) {
                let permit = connections.admit().await;
                let_in(stream, late.clone(), keeper.as_ref(), permit);
            }
        };
        tokio::pin!(admitted);
        if timeout(shift.linger(), &mut admitted).await.is_err() {
            // Whoever asks nothing makes room for those who do.
            close.send_replace(true);
            admitted.await;
        }
        let linger = shift.end().await;
        let _ = timeout(linger, connections.all_closed()).await;
        close.send_replace(true);
        clear.send_replace(true);
        app.http_cleanup().await;
    }

    /// Lets connections in until told to close. Returns the one that was waiting for room by then.
    async fn accept<A>(&self, desk: &Desk<A>, connections: &Connections, shift: &mut Shift) -> Option<L4Stream>
    where
        A: HttpServerApp + Send + Sync + 'static,
    {
        loop {
            match self.entrance.next(self.entrance.accept(), connections, shift).await {
                Ok(None) => {}
                Ok(Some((stream, permit))) => let_in(stream, desk.clone(), self.keeper.as_ref(), permit),
                Err(last) => return last,
            }
        }
    }
}

/// Serves a connection for as long as it lasts.
fn let_in<A>(mut stream: L4Stream, desk: Desk<A>, keeper: Option<&Arc<Keeper>>, permit: Option<OwnedSemaphorePermit>)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    if stream.set_nodelay().is_err() {
        return;
    }
    let Some(keeper) = keeper.map(Arc::clone) else {
        tokio::spawn(async move {
            let Timeouts { head, idle } = Timeouts::default();
            let stream = Patient::new(stream, head);
            stream.progress().follow(desk.serve_http1(Box::new(stream), idle)).await;
            drop(permit);
        });
        return;
    };
    // Before anything is done for it: whoever has enough connections costs next to nothing.
    let Ok(place) = keeper.admit(&stream) else { return };
    tokio::spawn(async move {
        keeper.serve(stream, place, desk).await;
        drop(permit);
    });
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::server::Hours;
    use crate::server::hours::Farewell;
    use crate::status::{Readiness, Status};
    use crate::telemetry::Metrics;

    #[tokio::test]
    async fn whoever_waits_outside_when_a_door_closes_is_served_however_little_room_there_is() {
        let door = Door::at(([127, 0, 0, 1], 0).into(), None).await.expect("a free port");
        let address = door.place().port().expect("it is a port");
        let hours = Hours::default();
        let mut waiting = Vec::new();
        for _ in 0..8 {
            let mut client = TcpStream::connect(address).await.expect("the system connects");
            client.write_all(b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n").await.expect("it is connected");
            waiting.push(client);
        }
        let shift = hours.shift("door");
        hours.close(Farewell { linger: LONG, ..Farewell::default() });
        let status = Status::new(Arc::new(Metrics::new()), Arc::new(Readiness::default()));
        let serving = tokio::spawn(door.serve(Arc::new(status), Connections::most(2), shift));
        for mut client in waiting {
            let mut answer = String::new();
            // Ends because the door lets nobody ask twice.
            client.read_to_string(&mut answer).await.expect("nobody is reset");
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        serving.await.expect("it does not wait for those who have left");
        assert!(TcpStream::connect(address).await.is_err(), "the door is closed");
    }

    #[tokio::test]
    async fn whoever_waits_for_room_when_a_door_closes_gets_it_from_those_who_ask_nothing() {
        let door = Door::at(([127, 0, 0, 1], 0).into(), None).await.expect("a free port");
        let address = door.place().port().expect("it is a port");
        let (hours, connections) = (Hours::default(), Connections::most(1));
        let status = Status::new(Arc::new(Metrics::new()), Arc::new(Readiness::default()));
        let serving = tokio::spawn(door.serve(Arc::new(status), connections.clone(), hours.shift("door")));
        let ask = async || {
            let mut client = TcpStream::connect(address).await.expect("the system connects");
            client.write_all(b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n").await.expect("it is connected");
            client
        };
        let mut idle = ask().await;
        let mut answer = [0; 12];
        idle.read_exact(&mut answer).await.expect("it is answered and stays");
        let (mut second, mut third) = (ask().await, ask().await);
        hours.close(Farewell { linger: std::time::Duration::from_millis(50), ..Farewell::default() });
        for client in [&mut second, &mut third] {
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.expect("nobody is reset");
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        serving.await.expect("it ends by itself");
    }

    #[tokio::test]
    async fn a_door_that_nobody_uses_takes_no_room() {
        let (hours, connections) = (Hours::default(), Connections::most(1));
        let mut addresses = Vec::new();
        for _ in 0..3 {
            let door = Door::at(([127, 0, 0, 1], 0).into(), None).await.expect("a free port");
            addresses.push(door.place().port().expect("it is a port"));
            let status = Status::new(Arc::new(Metrics::new()), Arc::new(Readiness::default()));
            tokio::spawn(door.serve(Arc::new(status), connections.clone(), hours.shift("door")));
        }
        for address in addresses.iter().rev() {
            let mut client = TcpStream::connect(address).await.expect("the system connects");
            client.write_all(b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n").await.expect("it is connected");
            let mut answer = [0; 12];
            client.read_exact(&mut answer).await.expect("there is room");
            assert_eq!(&answer, b"HTTP/1.1 200");
        }
    }

    const LONG: std::time::Duration = std::time::Duration::from_secs(3600);

    #[test]
    fn s56_clients_leave_descriptors_for_everything_else() {
        assert_eq!(most_connections(None, None), MOST_CONNECTIONS);
        assert_eq!(most_connections(None, Some(1_000_000)), MOST_CONNECTIONS);
        assert_eq!(most_connections(None, Some(1024)), 298);
        assert_eq!(most_connections(None, Some(10)), 1);
        assert_eq!(most_connections(Some(50_000), Some(1_000_000)), 50_000);
        assert_eq!(most_connections(Some(50_000), Some(1024)), 298);
        assert_eq!(most_connections(Some(100), Some(1024)), 100);
    }
}
