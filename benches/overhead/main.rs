//! What tollhouse costs beside a bare Pingora proxy: CPU per request and the ratio, measured in one interleaved run.
//!
//! The proxies and the backend are processes of their own (this binary, started again in a role), so what is read is
//! the proxy's CPU and nothing else. Both proxies use one worker thread, the same profile and the same allocator.
//! `cargo bench --bench overhead`

mod bare;

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tollhouse::config;
use tollhouse::payment::{Authorization, Dialect, Offer};
use tollhouse::primitives::{Clock as _, SystemClock};
use tollhouse::protocol::x402::client;
use tollhouse::scheme::Scheme as _;
use tollhouse::scheme::exact::eip3009::Eip3009Exact;
use tollhouse::server::{Server, system_clock};
use tollhouse::tariff::Charge;
use tollhouse::testing::Wallet;

use bare::{Does, Signed};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONNECTIONS: usize = 16;
/// Many short rounds: what else runs on the machine then disturbs neighbours alike.
const ROUNDS: usize = 41;
const REQUESTS: usize = 1_000;
const PAID_REQUESTS: usize = 400;
const WARM_UP: usize = 500;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 64\r\n\r\n{\"city\":\"Oslo\",\"temperature\":-3,\"wind\":4.2,\"unit\":\"C\",\"ok\":true}";

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("backend") => in_role(backend()),
        Some("bare") => in_role(bare::serve(argument(2), Does::Nothing)),
        Some("timed") => in_role(bare::serve(argument(2), Does::Limits)),
        Some("checking") => in_role(bare::serve(argument(2), Does::Recovery(signed()))),
        Some("forgetful") => in_role(bare::serve(argument(2), Does::Forgetful(signed()))),
        Some("gateway") => in_role(gateway(argument(2), argument(3))),
        _ => runtime(2).block_on(measure()),
    }
}

fn argument(at: usize) -> String {
    std::env::args().nth(at).unwrap_or_default()
}

fn runtime(threads: usize) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().expect("a runtime")
}

fn in_role(role: impl Future<Output = ()>) {
    runtime(1).block_on(role);
}

fn announce(address: SocketAddr) {
    println!("{address}");
}

/// Ends when the parent does: its end closes our standard input.
async fn until_orphaned() {
    let _ = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await;
}

async fn backend() {
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
                        seen.drain(..end + 4);
                        if stream.write_all(ANSWER).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    until_orphaned().await;
}

fn price_list(upstream: &str, ledger: &str) -> String {
    let mut file = String::from("version: 1\npublic_url: http://localhost:8402\npay_to: sandbox\n");
    let _ = writeln!(file, "upstream: http://{upstream}\nledger: {ledger}\nlisten: 127.0.0.1:0\nstatus: 127.0.0.1:0");
    // One client asks for every price.
    file.push_str("caps: {unpaid_per_client: none}\n");
    file.push_str("log: {access: false, level: error}\nroutes:\n  GET /free: free\n  GET /paid: $0.01\n");
    file
}

fn load(upstream: &str, ledger: &str) -> config::Loaded {
    let loaded = config::parse(&price_list(upstream, ledger), "bench.yaml", std::path::Path::new("."), &|_| None);
    assert!(loaded.config.is_some(), "{}", loaded.report.render(config::Format::Human, false));
    loaded
}

async fn gateway(upstream: String, ledger: String) {
    let loaded = load(&upstream, &ledger);
    let config = loaded.config.expect("checked");
    let server = Server::start(config, &loaded.hash, system_clock()).await.expect("a gateway");
    announce(server.addresses()[0]);
    until_orphaned().await;
}

/// A process in a role.
struct Role {
    child: Child,
    address: String,
}

impl Role {
    fn start(arguments: &[&str]) -> Self {
        let binary = std::env::current_exe().expect("this binary");
        let mut child = Command::new(binary)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this binary starts again");
        let mut address = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut address).expect("its address");
        Self { child, address: address.trim().to_owned() }
    }

    /// CPU time of all its threads so far.
    fn cpu(&self) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("a process");
        threads.filter_map(|thread| Some(cpu_of(thread.ok()?.path().to_str()?))).sum()
    }

    /// Resident memory in MiB.
    fn resident(&self) -> f64 {
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
async fn send(address: &str, requests: Vec<Vec<u8>>, status: &'static str) {
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
fn whole(buffer: &[u8]) -> Option<usize> {
    let head = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
    let length = text.split("content-length:").nth(1)?.split_whitespace().next()?.parse::<usize>().ok()?;
    (buffer.len() >= head + length).then_some(head + length)
}

fn get(path: &str, fields: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost:8402\r\nAccept: */*\r\n{fields}\r\n").into_bytes()
}

/// What the priced route asks.
fn offer() -> Offer {
    let tariff = load("127.0.0.1:9", "memory").config.expect("checked").live.tariff;
    let offer = tariff.routes().find_map(|route| match &route.charge {
        Charge::Toll(toll) => Some(toll.offers[0].clone()),
        Charge::Free | Charge::Deny => None,
    });
    offer.expect("a priced route")
}

fn signed() -> Signed {
    let offer = offer();
    let signed = Wallet::random().accept(Dialect::V2, &offer, SystemClock.now());
    (offer, Authorization::Eip3009(signed))
}

/// Signed payments, each good once.
fn payments(count: usize) -> Vec<Vec<u8>> {
    let offer = offer();
    let resource = tollhouse::payment::Resource { url: "http://localhost:8402/paid".into(), ..Default::default() };
    let wallets: Vec<_> = (0..8).map(|_| Wallet::random()).collect();
    let now = SystemClock.now();
    (0..count)
        .map(|at| {
            let signed = wallets[at % wallets.len()].accept(Dialect::V2, &offer, now);
            let (name, value) = client::payment_for(Dialect::V2, &offer, None, &resource, &signed);
            get("/paid", &format!("{name}: {}\r\n", value.to_str().expect("base64")))
        })
        .collect()
}

/// What one recovery of a signer costs: the floor under every paid request.
fn recovery() -> Duration {
    let (offer, authorization) = signed();
    let before = cpu_of("/proc/thread-self");
    const TIMES: u32 = 500;
    for _ in 0..TIMES {
        assert!(Eip3009Exact.signature(&offer, &authorization).is_ok());
    }
    cpu_of("/proc/thread-self").saturating_sub(before) / TIMES
}

/// CPU time of a thread so far, from the scheduler: nanoseconds, not ticks.
fn cpu_of(thread: &str) -> Duration {
    let statistics = std::fs::read_to_string(format!("{thread}/schedstat")).unwrap_or_default();
    Duration::from_nanos(statistics.split_whitespace().next().and_then(|time| time.parse().ok()).unwrap_or_default())
}

struct Series {
    name: &'static str,
    microseconds: Vec<f64>,
}

impl Series {
    fn new(name: &'static str) -> Self {
        Self { name, microseconds: Vec::new() }
    }

    fn median(&self) -> f64 {
        middle(self.microseconds.clone())
    }

    /// The ratio to another series, round by round: neighbours in time met the same machine.
    fn to(&self, other: &Self) -> f64 {
        middle(self.microseconds.iter().zip(&other.microseconds).map(|(one, other)| one / other).collect())
    }

    /// By how much it is above another series, round by round.
    fn beyond(&self, other: &Self) -> f64 {
        middle(self.microseconds.iter().zip(&other.microseconds).map(|(one, other)| one - other).collect())
    }

    fn quartiles(&self) -> String {
        let mut sorted = self.microseconds.clone();
        sorted.sort_by(f64::total_cmp);
        format!("{:.1}–{:.1}", sorted[sorted.len() / 4], sorted[sorted.len() * 3 / 4])
    }
}

async fn run(series: &mut Series, role: &Role, requests: Vec<Vec<u8>>, status: &'static str) {
    let (count, before) = (requests.len(), role.cpu());
    send(&role.address, requests, status).await;
    let took = role.cpu().saturating_sub(before);
    series.microseconds.push(took.as_secs_f64() * 1e6 / count as f64);
}

async fn measure() {
    let backend = Role::start(&["backend"]);
    let bare = Role::start(&["bare", &backend.address]);
    let timed = Role::start(&["timed", &backend.address]);
    let checking = Role::start(&["checking", &backend.address]);
    let forgetful = Role::start(&["forgetful", &backend.address]);
    let gateway = Role::start(&["gateway", &backend.address, "memory"]);
    let directory = tempfile::tempdir().expect("a directory");
    let file = format!("sqlite:{}", directory.path().join("ledger.db").display());
    let durable = Role::start(&["gateway", &backend.address, &file]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let idle = gateway.resident();

    let many = |path: &str, count: usize| vec![get(path, ""); count];
    send(&bare.address, many("/free", WARM_UP), "200").await;
    send(&timed.address, many("/free", WARM_UP), "200").await;
    send(&checking.address, many("/free", WARM_UP), "200").await;
    send(&forgetful.address, payments(WARM_UP), "200").await;
    send(&gateway.address, many("/free", WARM_UP), "200").await;
    send(&gateway.address, payments(WARM_UP), "200").await;
    send(&durable.address, payments(WARM_UP), "200").await;

    let mut rows = [
        Series::new("bare Pingora proxy"),
        Series::new("free route"),
        Series::new("402"),
        Series::new("paid, sandbox, memory ledger"),
        Series::new("paid, sandbox, SQLite ledger"),
        Series::new("bare with the gateway's time limits"),
        Series::new("the same, carrying payment headers"),
        Series::new("the same, recovering one signer in place"),
        Series::new("the same, with the payment's own signer, header fields and receipt"),
    ];
    let mut recoveries = Series::new("one signature recovery");
    for _ in 0..ROUNDS {
        let [plain, free, challenge, paid, written, limited, laden, checked, forgot] = &mut rows;
        run(plain, &bare, many("/free", REQUESTS), "200").await;
        run(free, &gateway, many("/free", REQUESTS), "200").await;
        run(challenge, &gateway, many("/paid", REQUESTS), "402").await;
        run(paid, &gateway, payments(PAID_REQUESTS), "200").await;
        run(written, &durable, payments(PAID_REQUESTS), "200").await;
        run(limited, &timed, many("/free", REQUESTS), "200").await;
        run(laden, &timed, payments(PAID_REQUESTS), "200").await;
        run(checked, &checking, payments(PAID_REQUESTS), "200").await;
        run(forgot, &forgetful, payments(PAID_REQUESTS), "200").await;
        recoveries.microseconds.push(recovery().as_secs_f64() * 1e6);
    }
    report(&rows, &recoveries, idle);
}

fn report(rows: &[Series], recoveries: &Series, idle: f64) {
    let floor = &rows[0];
    println!("{ROUNDS} interleaved rounds, {CONNECTIONS} connections, one worker thread a proxy; CPU per request");
    println!();
    println!("| | median µs | quartiles | to bare, median of the rounds |");
    println!("|---|---|---|---|");
    for row in rows {
        println!("| {} | {:.1} | {} | {:.2}× |", row.name, row.median(), row.quartiles(), row.to(floor));
    }
    println!("| {} | {:.1} | {} | |", recoveries.name, recoveries.median(), recoveries.quartiles());
    println!();
    println!("free route: {:.2}× (goal ≤ 1.10×)", rows[1].to(floor));
    println!("free route, to bare with the same time limits: {:.2}×", rows[1].to(&rows[5]));
    println!("402: {:.2}× (goal ≤ 0.80×)", rows[2].to(floor));
    let above_the_sum = |row: &Series| {
        let at = |at: usize| row.microseconds[at] - floor.microseconds[at] - recoveries.microseconds[at];
        middle((0..ROUNDS).map(at).collect())
    };
    println!("paid, memory ledger: bare + one recovery + {:.1} µs (goal ≤ 20 µs)", above_the_sum(&rows[3]));
    println!("a proxy that forgets what it sold: bare + one recovery + {:.1} µs", above_the_sum(&rows[8]));
    println!("paid, memory ledger, beyond the proxy that forgets: {:.1} µs", rows[3].beyond(&rows[8]));
    println!("resident memory, idle: {idle:.1} MiB (goal ≤ 30 MiB)");
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
