//! Where proxies are measured: each is a process, a client sends requests over kept-alive connections, and what the
//! scheduler says of the process is what a request costs.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

pub const CONNECTIONS: usize = 16;
/// Bytes of the one large answer.
pub const LARGE: u64 = 1 << 30;
pub const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 64\r\n\r\n{\"city\":\"Oslo\",\"temperature\":-3,\"wind\":4.2,\"unit\":\"C\",\"ok\":true}";

pub fn runtime(threads: usize) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().expect("a runtime")
}

pub fn in_role(role: impl Future<Output = ()>) {
    runtime(1).block_on(role);
}

pub fn announce(address: SocketAddr) {
    println!("{address}");
}

/// Ends when the parent does: its end closes our standard input.
pub async fn until_orphaned() {
    let _ = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await;
}

pub async fn backend() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    announce(listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            tokio::spawn(async move {
                let mut buffer = vec![0; 16 * 1024];
                let mut seen = Vec::new();
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    seen.extend_from_slice(&buffer[..read]);
                    while let Some(end) = seen.windows(4).position(|window| window == b"\r\n\r\n") {
                        let is_large = seen.starts_with(b"GET /large ");
                        seen.drain(..end + 4);
                        let told = if is_large { fill(&mut stream).await } else { stream.write_all(ANSWER).await };
                        if told.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    until_orphaned().await;
}

async fn fill(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n").as_bytes()).await?;
    let piece = vec![b'x'; 1 << 16];
    for _ in 0..LARGE / piece.len() as u64 {
        stream.write_all(&piece).await?;
    }
    Ok(())
}

/// A process in a role.
pub struct Role {
    child: Child,
    pub address: String,
}

impl Role {
    pub fn start(arguments: &[&str]) -> Self {
        let binary = std::env::current_exe().expect("this binary");
        Self::announcing(Command::new(binary).args(arguments)).expect("this binary starts again")
    }

    /// A program that says where it listens and ends when its input does. `None` when there is none.
    pub fn announcing(command: &mut Command) -> Option<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let mut address = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut address).expect("its address");
        Some(Self { child, address: address.trim().to_owned() })
    }

    /// A process that listens here.
    pub fn at(child: Child, address: String) -> Self {
        Self { child, address }
    }

    /// CPU time of all its threads so far.
    pub fn cpu(&self) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("a process");
        threads.filter_map(|thread| Some(cpu_of(thread.ok()?.path().to_str()?))).sum()
    }

    /// Resident memory in MiB.
    pub fn resident(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a process");
        let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("resident memory");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / 1024.0
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends requests over kept-alive connections and checks every status.
pub async fn send(address: &str, requests: Vec<Vec<u8>>, status: &'static str) {
    let shares = split(requests, CONNECTIONS);
    let clients: Vec<_> =
        shares.into_iter().map(|share| tokio::spawn(client(address.to_owned(), share, status))).collect();
    for client in clients {
        client.await.expect("a client");
    }
}

fn split(requests: Vec<Vec<u8>>, shares: usize) -> Vec<Vec<Vec<u8>>> {
    let mut split = vec![Vec::new(); shares];
    for (at, request) in requests.into_iter().enumerate() {
        split[at % shares].push(request);
    }
    split
}

async fn client(address: String, requests: Vec<Vec<u8>>, status: &'static str) {
    let mut stream = TcpStream::connect(&address).await.expect("a connection");
    stream.set_nodelay(true).expect("a socket option");
    let mut buffer = Vec::with_capacity(16 * 1024);
    for request in requests {
        stream.write_all(&request).await.expect("a request goes out");
        buffer.clear();
        let end = loop {
            if let Some(end) = whole(&buffer) {
                break end;
            }
            let read = stream.read_buf(&mut buffer).await.expect("an answer");
            assert!(read > 0, "the connection ended: {}", String::from_utf8_lossy(&buffer));
        };
        assert_eq!(end, buffer.len());
        assert!(buffer[9..].starts_with(status.as_bytes()), "{}", String::from_utf8_lossy(&buffer));
    }
}

/// Where a whole answer ends.
pub fn whole(buffer: &[u8]) -> Option<usize> {
    let head = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
    let length = text.split("content-length:").nth(1)?.split_whitespace().next()?.parse::<usize>().ok()?;
    (buffer.len() >= head + length).then_some(head + length)
}

pub fn get(path: &str, fields: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost:8402\r\nAccept: */*\r\n{fields}\r\n").into_bytes()
}

/// CPU time of a thread so far, from the scheduler: nanoseconds, not ticks.
pub fn cpu_of(thread: &str) -> Duration {
    let statistics = std::fs::read_to_string(format!("{thread}/schedstat")).unwrap_or_default();
    Duration::from_nanos(statistics.split_whitespace().next().and_then(|time| time.parse().ok()).unwrap_or_default())
}

pub struct Series {
    pub name: &'static str,
    pub microseconds: Vec<f64>,
}

impl Series {
    pub fn new(name: &'static str) -> Self {
        Self { name, microseconds: Vec::new() }
    }

    pub fn median(&self) -> f64 {
        middle(self.microseconds.clone())
    }

    /// The ratio to another series, round by round: neighbours in time met the same machine.
    pub fn to(&self, other: &Self) -> f64 {
        middle(self.microseconds.iter().zip(&other.microseconds).map(|(one, other)| one / other).collect())
    }

    /// By how much it is above another series, round by round.
    pub fn beyond(&self, other: &Self) -> f64 {
        middle(self.microseconds.iter().zip(&other.microseconds).map(|(one, other)| one - other).collect())
    }

    pub fn quartiles(&self) -> String {
        let mut sorted = self.microseconds.clone();
        sorted.sort_by(f64::total_cmp);
        format!("{:.1}–{:.1}", sorted[sorted.len() / 4], sorted[sorted.len() * 3 / 4])
    }
}

pub async fn run(series: &mut Series, role: &Role, requests: Vec<Vec<u8>>, status: &'static str) {
    let (count, before) = (requests.len(), role.cpu());
    send(&role.address, requests, status).await;
    let took = role.cpu().saturating_sub(before);
    series.microseconds.push(took.as_secs_f64() * 1e6 / count as f64);
}

pub fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
