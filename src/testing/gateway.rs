//! A real gateway in this process, on a port of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{self, Format};
use crate::gate::Gate;
use crate::ledger::{Entry, Filter};
use crate::primitives::{Clock, Place};
use crate::server::Server;
use crate::server::reload::Reloaded;

use super::client::{Connection, Reply, Request};

/// The longest that shutting down may take.
const GRACE: Duration = Duration::from_secs(10);

/// A running gateway. Its file should listen on `127.0.0.1:0` and have `status: none`.
pub struct Gateway {
    server: Server,
}

impl Gateway {
    /// Starts what this text describes.
    ///
    /// # Panics
    /// When the text is wrong, with its report, or when it does not start.
    pub async fn start(text: &str, clock: Arc<dyn Clock>) -> Self {
        let config = read(text).unwrap_or_else(|report| panic!("{report}"));
        let server = Server::start(config, "test", clock).await;
        Self { server: server.unwrap_or_else(|error| panic!("the gateway does not start: {error}")) }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.server.doors()[0].port().expect("the first listener is a port")
    }

    /// All places where they do, in the order of its file.
    pub fn doors(&self) -> &[Place] {
        self.server.doors()
    }

    /// Where the status listener is, if its file has one.
    pub fn status_address(&self) -> Option<SocketAddr> {
        self.server.status_address()
    }

    /// Where its admin API is, if its file has one.
    pub fn admin(&self) -> Option<&Place> {
        self.server.admin()
    }

    /// The gate, for a look inside.
    pub fn gate(&self) -> &Arc<Gate> {
        self.server.gate()
    }

    /// Waits until a part of it has ended that should not, and says which.
    pub async fn lost(&mut self) -> &'static str {
        self.server.lost().await.0
    }

    /// The metrics as Prometheus reads them.
    pub fn metrics(&self) -> String {
        self.server.metrics()
    }

    /// Puts a changed text in force, as a changed file would be: all of it or nothing.
    ///
    /// # Errors
    /// The report about a text that is wrong.
    pub async fn reload(&mut self, text: &str) -> Result<Reloaded, String> {
        let reloaded = match read(text) {
            Ok(config) => self.server.reload(config, "changed").await.map_err(|error| error.to_string()),
            Err(report) => Err(report),
        };
        self.server.note_reload(if reloaded.is_ok() { "ok" } else { "failed" });
        reloaded
    }

    /// Sends one request on a connection of its own and reads the answer.
    pub async fn ask(&self, request: &Request) -> Reply {
        let mut connection = self.connect().await;
        connection.send(request).await;
        connection.reply().await
    }

    /// A connection to it.
    pub async fn connect(&self) -> Connection {
        Connection::open(self.address()).await
    }

    /// Everything its ledger remembers, the newest first, once it has written what it still had to.
    pub async fn entries(&self) -> Vec<Entry> {
        let ledger = &self.gate().ledger;
        ledger.flush().await;
        let all = Filter { limit: 1000, ..Filter::default() };
        let entries = ledger.store().list(&all).await.expect("the ledger answers");
        entries.into_iter().map(|(_, versioned)| versioned.entry).collect()
    }

    /// Stops it as SIGTERM would. Returns whether everything had ended in time.
    pub async fn stop(self) -> bool {
        self.server.shut_down(GRACE).await
    }
}

fn read(text: &str) -> Result<config::Config, String> {
    let loaded = config::parse(text, "gateway.yaml", Path::new("."), &|_| None);
    loaded.config.ok_or_else(|| loaded.report.render(Format::Human, false))
}
