//! A PostgreSQL server of our own, gone with the process that started it.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use alloy::primitives::hex;
use ring::rand::{SecureRandom, SystemRandom};
use tokio_postgres::{Client, NoTls};

use crate::primitives::Secret;

/// Looks after one server and answers each order with a line. Its standard input ends with this process, however that
/// ends; then it stops the server and leaves nothing behind. It makes the folder itself, so it owns it.
const KEEPER: &str = r#"
bin=$1 home=$2 settings=$3 certificate=$4
mkdir -m 700 "$home" || exit
trap 'rm -rf "$home"' EXIT
cd "$home"
"$bin/initdb" -D data -U tollhouse -A trust -E UTF8 --locale C --no-sync --no-instructions >log 2>&1 || { cat log >&2; exit 1; }
printf '%s\n' "unix_socket_directories = '$home'" "$settings" >>data/postgresql.conf
if [ -n "$certificate" ]; then
    install -m 600 "$certificate/server.crt" "$certificate/server.key" data || exit
    echo 'hostssl all all 127.0.0.1/32 trust' >data/pg_hba.conf
fi
while read -r order; do
    case $order in
        start) "$bin/pg_ctl" -D data -l log -s -w start || { cat log >&2; exit 1; } ;;
        stop) "$bin/pg_ctl" -D data -s -w -m immediate stop ;;
    esac
    echo done
done
"$bin/pg_ctl" -D data -s -w -m immediate stop 2>/dev/null
"#;

/// Nothing here outlives the test, so nothing needs to reach the disk.
const SETTINGS: &str =
    "fsync = off\nfull_page_writes = off\nautovacuum = off\nmax_connections = 600\nshared_buffers = 16MB\n";

const INSTALL: &str = "run `make test` once, or install Debian's postgresql, or set TOLLHOUSE_POSTGRES to a folder with initdb and pg_ctl";

/// A running server; stopped when dropped.
///
/// Starting and stopping it blocks the thread. A test has nothing else to do meanwhile.
pub struct Postgres {
    keeper: Mutex<Keeper>,
    /// As it stands in URLs: a folder with a socket, or an address and a port.
    place: String,
}

struct Keeper {
    process: Child,
    /// Closed to end it.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Postgres {
    /// The one server of this test program: making one takes a second or two. It listens on a socket only.
    ///
    /// # Panics
    /// When PostgreSQL is not installed, with words on how to install it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// A server that nobody shares, to be stopped and started at will.
    ///
    /// # Panics
    /// When PostgreSQL is not installed, with words on how to install it.
    pub fn start() -> Self {
        Self::with("")
    }

    /// A server that waits for its disk as one in service does, for measuring.
    ///
    /// # Panics
    /// When PostgreSQL is not installed, with words on how to install it.
    pub fn durable() -> Self {
        // What stands last counts.
        Self::with("fsync = on\nfull_page_writes = on\nautovacuum = on\nshared_buffers = 128MB\n")
    }

    fn with(settings: &str) -> Self {
        let home = fresh_home();
        let keeper = Keeper::start(&home, &format!("{SETTINGS}{settings}listen_addresses = ''"), None);
        Self { keeper: Mutex::new(keeper), place: home.display().to_string().replace('/', "%2F") }
    }

    /// A server on a free port of 127.0.0.1 that takes encrypted connections only. `certificate` is a folder with
    /// `server.crt` and `server.key`.
    ///
    /// # Panics
    /// When PostgreSQL is not installed, with words on how to install it.
    pub fn encrypted(certificate: &Path) -> Self {
        // Free now, and most likely a moment later.
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|free| free.local_addr()).expect("a free port").port();
        let settings = format!("{SETTINGS}listen_addresses = '127.0.0.1'\nport = {port}\nssl = on");
        let keeper = Keeper::start(&fresh_home(), &settings, Some(certificate));
        Self { keeper: Mutex::new(keeper), place: format!("127.0.0.1:{port}") }
    }

    /// Where this server is, as it stands in a URL.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// An empty schema, as good as a database of its own. The server has to be one that is reached through its socket.
    pub async fn schema(&self) -> Schema {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("s{}", COUNT.fetch_add(1, Ordering::Relaxed));
        // It asks for no password; there is one so that it can be kept secret.
        let url = format!("postgres://tollhouse:hunter2@{}/postgres?options=-c%20search_path%3D{name}", self.place);
        let schema = Schema { url: Secret::new(url) };
        schema.run(&format!("CREATE SCHEMA {name}")).await;
        schema
    }

    /// Stops it as a crash does: connections break, and what was not committed is gone.
    pub fn crash(&self) {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner).order("stop");
    }

    /// Starts it again, at the same place and with what it held.
    pub fn restart(&self) {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner).order("start");
    }
}

/// A place for one ledger.
pub struct Schema {
    /// What a gateway is told about it.
    pub url: Secret<String>,
}

impl Schema {
    /// Runs statements in it, as its owner would by hand.
    ///
    /// # Panics
    /// When the server is down, or refuses one.
    pub async fn run(&self, sql: &str) {
        drop(self.begin(sql).await);
    }

    /// The same on a connection that stays open, with whatever it has locked.
    ///
    /// # Panics
    /// When the server is down, or refuses one.
    pub async fn begin(&self, sql: &str) -> Client {
        let (client, connection) = tokio_postgres::connect(self.url.expose(), NoTls).await.expect("the server is up");
        // Ends with the client.
        tokio::spawn(connection);
        client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        client
    }
}

impl Keeper {
    fn start(home: &Path, settings: &str, certificate: Option<&Path>) -> Self {
        let bin = programs();
        // PostgreSQL refuses to run as root. Debian's package brings a user for it.
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--", "sh"]);
            command
        } else {
            Command::new("sh")
        };
        command.args(["-c", KEEPER, "keeper"]).arg(&bin).arg(home).arg(settings);
        command.arg(certificate.unwrap_or(Path::new("")));
        // In a group of its own, so that Ctrl-C ends the test and not the keeper before it has cleaned up.
        let spawned = command.process_group(0).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = spawned.expect("a shell can be run");
        let orders = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().expect("its output is piped"));
        let mut keeper = Self { process, orders, answers };
        keeper.order("start");
        keeper
    }

    fn order(&mut self, order: &str) {
        let orders = self.orders.as_mut().expect("it is closed only when dropped");
        // One that has ended says so by not answering.
        let _ = writeln!(orders, "{order}");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the keeper answers with text");
        assert_eq!(answer, "done\n", "the PostgreSQL server does not {order}; what it says stands above");
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.process.wait();
    }
}

/// A path that nothing stands at. Short, because a socket's path has at most 107 bytes.
fn fresh_home() -> PathBuf {
    let mut random = [0; 8];
    SystemRandom::new().fill(&mut random).expect("the system has randomness");
    std::env::temp_dir().join(format!("toll-pg-{}", hex::encode(random)))
}

/// Where the newest PostgreSQL of this machine has its programs.
fn programs() -> PathBuf {
    if let Some(path) = std::env::var_os("TOLLHOUSE_POSTGRES") {
        return path.into();
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|version| Some((version.file_name().to_str()?.parse::<u32>().ok()?, version.path().join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").exists())
        .max();
    newest.unwrap_or_else(|| panic!("no PostgreSQL in /usr/lib/postgresql; {INSTALL}")).1
}
