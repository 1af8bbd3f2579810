//! The real binary, as a process that can be killed.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::client::{Connection, Request};

/// The number of SIGKILL, which is the same everywhere.
const SIGKILL: i32 = 9;

/// `tollhouse run`. Killed when dropped.
pub struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    /// Starts this binary with this file, which listens on one port of 127.0.0.1.
    ///
    /// # Panics
    /// When it ends before it serves, with what it said.
    pub async fn start(binary: &str, file: &Path) -> Self {
        Self::spawn(binary, file, None).await.unwrap_or_else(|(_, log)| panic!("it ended before it served:\n{log}"))
    }

    /// The same, to die by itself at this place (see `primitives::failpoint`). `None` when it came there before it
    /// served.
    ///
    /// # Panics
    /// When it ends in another way before it serves, with what it said.
    pub async fn doomed(binary: &str, file: &Path, place: &str) -> Option<Self> {
        match Self::spawn(binary, file, Some(place)).await {
            Ok(process) => Some(process),
            Err((ended, _)) if ended.signal() == Some(SIGKILL) => None,
            Err((_, log)) => panic!("it ended before it served:\n{log}"),
        }
    }

    async fn spawn(binary: &str, file: &Path, die_at: Option<&str>) -> Result<Self, (ExitStatus, String)> {
        let mut command = Command::new(binary);
        command.env_remove("TOLLHOUSE_LOG").args(["run", "-c"]).arg(file);
        command.envs(die_at.map(|place| ("TOLLHOUSE_DIE_AT", place)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let mut log = BufReader::new(child.stderr.take().expect("it is piped"));
        let announced = tokio::task::spawn_blocking(move || {
            let announced = announced(&mut log);
            // A log that nobody reads would stop the process when the pipe is full.
            std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
            announced
        });
        match announced.await.expect("its log can be read") {
            Ok(address) => Ok(Self { child, address }),
            Err(log) => Err((child.wait().expect("a child can be waited for"), log)),
        }
    }

    /// A connection on which this request has been sent.
    ///
    /// # Panics
    /// When the process is dead.
    pub async fn send(&self, request: &Request) -> Connection {
        self.try_send(request).await.expect("the process lives")
    }

    /// The same; `None` when the process is dead.
    pub async fn try_send(&self, request: &Request) -> Option<Connection> {
        let mut connection = Connection::try_open(self.address).await?;
        connection.send(request).await;
        Some(connection)
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// SIGTERM. Returns how it ended.
    ///
    /// # Panics
    /// When it has ended already.
    pub fn terminate(mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("the process lives");
        self.child.wait().expect("a child can be waited for")
    }

    /// SIGKILL: nothing more is written, said or let go.
    pub fn kill(self) {
        drop(self);
    }

    /// Whether it has died by SIGKILL.
    ///
    /// # Panics
    /// When it has ended in another way.
    pub fn is_dead(&mut self) -> bool {
        let ended = self.child.try_wait().expect("a child can be waited for");
        if let Some(status) = ended {
            assert_eq!(status.signal(), Some(SIGKILL), "it ended by itself: {status}");
        }
        ended.is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in the start-up line: the first one in it. Else all that was said.
fn announced(log: &mut impl BufRead) -> Result<SocketAddr, String> {
    let mut seen = String::new();
    loop {
        let before = seen.len();
        if log.read_line(&mut seen).expect("the log is text") == 0 {
            return Err(seen);
        }
        let Some((_, rest)) = seen[before..].split_once("priced)  http://") else { continue };
        let address = rest.split([' ', '"']).next().and_then(|address| address.parse().ok());
        return Ok(address.unwrap_or_else(|| panic!("no address in {rest}")));
    }
}
