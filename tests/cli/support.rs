//! The binary, a gateway of it, and an API behind that.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// The binary with these arguments, in an environment that says nothing about tollhouse.
pub fn tollhouse<A: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollhouse"));
    for name in ["TOLLHOUSE_CONFIG", "TOLLHOUSE_LOG"] {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// How a run ended.
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs it to its end. Every command is bounded by itself, so nothing here waits for ever.
pub fn run<A: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = A>) -> Ended {
    ended(tollhouse(arguments).output().expect("the binary runs"))
}

pub fn ended(output: Output) -> Ended {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it writes UTF-8");
    // A run that a signal has ended has no code.
    let code = output.status.code().unwrap_or(-1);
    Ended { code, stdout: text(output.stdout), stderr: text(output.stderr) }
}

impl Ended {
    /// Fails with all that was said unless the exit code is this one.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }

    /// The one JSON object on standard output.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

/// A file with this text, in a directory of its own.
pub fn file(name: &str, text: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory for the test");
    let path = directory.path().join(name);
    fs::write(&path, text).expect("the directory is ours");
    (directory, path)
}

/// A file that its owner alone can read.
pub fn private_file(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).expect("the directory is ours");
    set_mode(&path, 0o600);
    path
}

pub fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the file is ours");
}

/// `tollhouse run` with the sandbox, a ledger on disk, and an API that counts.
pub struct Gateway {
    process: Child,
    address: SocketAddr,
    log: Log,
    api: Api,
    pub ledger: PathBuf,
    _directory: TempDir,
}

impl Gateway {
    pub fn start() -> Self {
        Self::running(&[], None, "")
    }

    /// With this line in its file.
    pub fn with(line: &str) -> Self {
        Self::running(&[], None, line)
    }

    /// With a ledger that ends with it.
    pub fn forgetful() -> Self {
        Self::keeping("memory", &[], None, "")
    }

    /// With this much in its log.
    pub fn logging(directives: &str) -> Self {
        Self::running(&["--log", directives], None, "")
    }

    /// In front of something else.
    pub fn before(backend: SocketAddr) -> Self {
        Self::running(&[], Some(backend), "")
    }

    fn running(arguments: &[&str], backend: Option<SocketAddr>, line: &str) -> Self {
        Self::keeping("sqlite:ledger.db", arguments, backend, line)
    }

    fn keeping(ledger: &str, arguments: &[&str], backend: Option<SocketAddr>, line: &str) -> Self {
        let api = Api::open();
        let backend = backend.unwrap_or(api.address);
        let text = format!(
            "\
version: 1
public_url: http://localhost:8402
listen: 127.0.0.1:0
status: none
upstream: http://{backend}
pay_to: sandbox
ledger: {ledger}
admin: {{address: unix:admin.sock}}
log: {{format: json}}
{line}
routes:
  GET /v1/weather: $0.01
  POST /v1/reports: {{price: $2, settle: before_forward}}
  GET /v1/health: free
"
        );
        let (directory, path) = file("gateway.yaml", &text);
        let mut command = tollhouse(["run", "-c"]);
        let mut process = command.arg(&path).args(arguments).stderr(Stdio::piped()).spawn().expect("the binary runs");
        let log = Log::of(&mut process);
        let mut address = None;
        soon("the start-up line", || {
            address = announced(&log.text());
            address.is_some() || log.has_ended()
        });
        let address = address.unwrap_or_else(|| panic!("it ended before it served:\n{}", log.text()));
        Self { process, address, log, api, ledger: directory.path().join("ledger.db"), _directory: directory }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn process(&mut self) -> &mut Child {
        &mut self.process
    }

    /// All it has said so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Whether no process is left that could say something.
    pub fn log_has_ended(&self) -> bool {
        self.log.has_ended()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sends this to its admin API, over the Unix socket, and returns the status and the JSON that came back.
    pub fn order(&self, path: &str, body: &Value) -> (String, Value) {
        let mut stream = UnixStream::connect(self.admin_socket()).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout that is not zero");
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).expect("it reads");
        let mut heard = String::new();
        stream.read_to_string(&mut heard).expect("it closes after one answer");
        let (head, body) = heard.split_once("\r\n\r\n").expect("an answer has a head");
        let status = head.split(' ').nth(1).expect("a status").to_owned();
        (status, serde_json::from_str(body).expect("it answers in JSON"))
    }

    /// The processes that have taken over from it, as its log numbers them.
    pub fn heirs(&self) -> Vec<u32> {
        let log = self.log();
        let told = log.lines().filter(|line| line.contains("another process has taken over"));
        let told = told.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        told.filter_map(|line| u32::try_from(number(&line, "process")?).ok()).collect()
    }

    /// Where operators reach it.
    pub fn admin_socket(&self) -> PathBuf {
        self.ledger.with_file_name("admin.sock")
    }

    /// How many requests have reached the API.
    pub fn served(&self) -> usize {
        self.api.served.load(Ordering::SeqCst)
    }

    /// The payments in its ledger, newest first.
    pub fn payments(&self) -> Vec<Value> {
        let listed = run(self.ledger_command(&["list", "--format", "json", "--limit", "100000"])).exits(0);
        listed.stdout.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect()
    }

    /// The transactions of what was paid and delivered; nothing else may be in its ledger.
    pub fn sold(&self) -> Vec<String> {
        self.until_delivered();
        let payments = self.payments();
        let undelivered: Vec<_> = payments.iter().filter(|payment| payment["state"] != "delivered").collect();
        assert!(undelivered.is_empty(), "{undelivered:?}");
        let transaction = |payment: &Value| payment["transaction"].as_str().expect("it settled").to_owned();
        let mut sold: Vec<_> = payments.iter().map(transaction).collect();
        sold.sort();
        sold
    }

    /// Waits until nothing is on its way: that an answer was written is put down after its last byte.
    pub fn until_delivered(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.payments().iter().any(|payment| payment["state"] == "delivering") {
            assert!(Instant::now() < deadline, "an answer is never written down as delivered");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// `tollhouse ledger …` on its ledger.
    pub fn ledger_command(&self, rest: &[&str]) -> Vec<String> {
        let ledger = ["--ledger".to_owned(), self.ledger.display().to_string()];
        ["ledger"].iter().chain(rest).map(ToString::to_string).chain(ledger).collect()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        for heir in self.heirs() {
            let heir = i32::try_from(heir).ok().and_then(Pid::from_raw);
            let _ = heir.map(|heir| kill_process(heir, Signal::KILL));
        }
    }
}

/// A number in a line of the log, wherever it stands.
fn number(line: &Value, name: &str) -> Option<u64> {
    line.get(name).or_else(|| line.get("fields")?.get(name))?.as_u64()
}

/// What a process says on standard error, read as it comes: a log that nobody reads would stop it when the pipe is full.
pub struct Log {
    said: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Log {
    pub fn of(process: &mut Child) -> Self {
        let mut pipe = process.stderr.take().expect("it is piped");
        let said = Arc::new(Mutex::new(Vec::new()));
        let ears = Arc::clone(&said);
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = pipe.read(&mut piece) {
                ears.lock().expect("nobody panics while holding it").extend_from_slice(&piece[..length]);
            }
        });
        Self { said, reader }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().expect("nobody panics while holding it")).into_owned()
    }

    fn has_ended(&self) -> bool {
        self.reader.is_finished()
    }
}

/// Waits for something that comes by itself. A busy machine may take a while.
#[track_caller]
pub fn soon(what: &str, mut is: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < patience, "{what} did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The address in the start-up line: the first one in it.
fn announced(log: &str) -> Option<SocketAddr> {
    let (_, rest) = log.split_once("priced)  http://")?;
    let (address, _) = rest.split_once(' ')?;
    Some(address.parse().unwrap_or_else(|_| panic!("no address in {rest}")))
}

/// An API that answers everything with the same JSON.
struct Api {
    address: SocketAddr,
    served: Arc<AtomicUsize>,
}

impl Api {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let served = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&served);
        // Ends with the process of the tests.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let count = Arc::clone(&count);
                std::thread::spawn(move || {
                    if read_request(&stream).is_some() {
                        count.fetch_add(1, Ordering::SeqCst);
                        respond(&stream, "200 OK\r\nContent-Type: application/json", "{\"celsius\":21}\n");
                    }
                });
            }
        });
        Self { address, served }
    }
}

/// The head and the body of a request, as text. `None` when the other side has hung up.
pub fn read_request(stream: &TcpStream) -> Option<String> {
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let mut reader = BufReader::new(stream);
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        if reader.read_line(&mut text).ok()? == 0 {
            return None;
        }
    }
    let length =
        text.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(text + &String::from_utf8_lossy(&body))
}

/// Promises a body, sends a part of it and closes the connection. `head` is the status and further fields.
pub fn break_off(mut stream: &TcpStream, head: &str) {
    let _ = write!(stream, "HTTP/1.1 {head}\r\nContent-Length: 100\r\nConnection: close\r\n\r\nsun");
}

/// Answers and closes the connection. `head` is the status and further fields.
pub fn respond(mut stream: &TcpStream, head: &str, body: &str) {
    // A client that has left in the middle is part of some tests.
    let _ = write!(stream, "HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
}
