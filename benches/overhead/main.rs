//! What tollhouse costs beside a bare Pingora proxy: CPU per request and the ratio, measured in one interleaved run.
//!
//! The proxies and the backend are processes of their own (this binary, started again in a role), so what is read is
//! the proxy's CPU and nothing else. Both proxies use one worker thread, the same profile and the same allocator.
//! `cargo bench --bench overhead`

mod bare;
mod rivals;
mod strain;
mod yard;

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
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
use yard::{
    CONNECTIONS, Role, Series, announce, backend, cpu_of, get, in_role, middle, run, runtime, send, until_orphaned,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Many short rounds: what else runs on the machine then disturbs neighbours alike.
const ROUNDS: usize = 41;
const REQUESTS: usize = 1_000;
const PAID_REQUESTS: usize = 400;
const WARM_UP: usize = 500;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("backend") => in_role(backend()),
        Some("bare") => {
            take_descriptors();
            in_role(bare::serve(argument(2), Does::Nothing));
        }
        Some("timed") => in_role(bare::serve(argument(2), Does::Limits)),
        Some("checking") => in_role(bare::serve(argument(2), Does::Recovery(signed()))),
        Some("forgetful") => in_role(bare::serve(argument(2), Does::Forgetful(signed()))),
        Some("gateway") => in_role(gateway(argument(2), argument(3), false)),
        Some("logging") => in_role(gateway(argument(2), argument(3), true)),
        Some("paying") => runtime(1).block_on(paying()),
        _ => runtime(2).block_on(measure()),
    }
}

/// Every connection takes one, and the one to the backend another.
fn take_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the maximum it is ours");
}

fn argument(at: usize) -> String {
    std::env::args().nth(at).unwrap_or_default()
}

fn price_list(upstream: &str, ledger: &str, access: bool) -> String {
    let mut file = String::from("version: 1\npublic_url: http://localhost:8402\npay_to: sandbox\n");
    let _ = writeln!(file, "upstream: http://{upstream}\nledger: {ledger}\nlisten: 127.0.0.1:0\nstatus: 127.0.0.1:0");
    // One client asks for every price.
    file.push_str("caps: {unpaid_per_client: none}\n");
    let level = if access { "info" } else { "error" };
    let _ = writeln!(file, "log: {{access: {access}, level: {level}, format: json}}");
    file.push_str("routes:\n  GET /free: free\n  GET /large: free\n  GET /paid: $0.01\n");
    file
}

fn load(upstream: &str, ledger: &str, access: bool) -> config::Loaded {
    let text = price_list(upstream, ledger, access);
    let loaded = config::parse(&text, "bench.yaml", std::path::Path::new("."), &|_| None);
    assert!(loaded.config.is_some(), "{}", loaded.report.render(config::Format::Human, false));
    loaded
}

async fn gateway(upstream: String, ledger: String, access: bool) {
    take_descriptors();
    let loaded = load(&upstream, &ledger, access);
    let config = loaded.config.expect("checked");
    if access {
        tollhouse::telemetry::init(&config.live.log, None);
    }
    let server = Server::start(config, &loaded.hash, system_clock()).await.expect("a gateway");
    announce(server.doors()[0].port().expect("it listens at a port"));
    until_orphaned().await;
}

/// What the priced route asks.
fn offer() -> Offer {
    let tariff = load("127.0.0.1:9", "memory", false).config.expect("checked").live.tariff;
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

/// Pays for a while through a gateway of its own, whose process it names, for whoever wants to look into it.
async fn paying() {
    let backend = Role::start(&["backend"]);
    let gateway = Role::start(&["gateway", &backend.address, "memory"]);
    println!("{}", gateway.process());
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while std::time::Instant::now() < until {
        send(&gateway.address, payments(PAID_REQUESTS), "200").await;
    }
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
    let logging = Role::announcing(
        Command::new(std::env::current_exe().expect("this binary"))
            .args(["logging", &backend.address, "memory"])
            .stderr(Stdio::null()),
    )
    .expect("this binary starts again");
    let nginx = rivals::nginx(&backend.address, directory.path());
    let haproxy = rivals::haproxy(&backend.address, directory.path());
    let express = rivals::express(&backend.address);
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

    let mut others = Vec::new();
    let plain = [("nginx, no log", &nginx), ("HAProxy, no log", &haproxy), ("Express, free route", &express)];
    others.extend(plain.into_iter().filter_map(|(name, role)| Some((Series::new(name), role.as_ref()?, Asked::Free))));
    others.push((Series::new("free route, access log in JSON"), &logging, Asked::Free));
    if let Some(express) = &express {
        others.push((Series::new("Express, 402"), express, Asked::Price));
        others.push((Series::new("Express, paid, signature not checked"), express, Asked::Paid));
    }
    for (_, role, _) in &others {
        send(&role.address, many("/free", WARM_UP), "200").await;
    }

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
        for (series, role, asked) in &mut others {
            match asked {
                Asked::Free => run(series, role, many("/free", REQUESTS), "200").await,
                Asked::Price => run(series, role, many("/paid", REQUESTS), "402").await,
                Asked::Paid => {
                    let payments = rivals::payments_for(&role.address, PAID_REQUESTS).await;
                    run(series, role, payments, "200").await;
                }
            }
        }
    }
    report(&rows, &recoveries, idle);
    let others: Vec<Series> = others.into_iter().map(|(series, ..)| series).collect();
    compare(&rows, &others);
    drop((timed, checking, forgetful, durable, logging, nginx, haproxy, express));
    strain::at_half_load(&gateway, &bare).await;
    take_descriptors();
    // Fresh ones: what a process once took it does not give back.
    let contenders = || {
        let bare = Role::start(&["bare", &backend.address]);
        [("tollhouse", Role::start(&["gateway", &backend.address, "memory"])), ("bare Pingora", bare)]
    };
    strain::downloads(&contenders()).await;
    strain::crowds(&contenders()).await;
}

/// What is asked of somebody else.
#[derive(Clone, Copy)]
enum Asked {
    Free,
    Price,
    Paid,
}

/// The others beside us, and how often we would answer while they answer once.
fn compare(rows: &[Series], others: &[Series]) {
    println!();
    println!("| before the same backend, in the same rounds | median µs | quartiles | to bare | to ours |");
    println!("|---|---|---|---|---|");
    for other in others {
        let ours = match other.name {
            name if name.contains("402") => &rows[2],
            name if name.contains("paid") => &rows[3],
            _ => &rows[1],
        };
        let (median, quartiles) = (other.median(), other.quartiles());
        println!(
            "| {} | {median:.1} | {quartiles} | {:.2}× | {:.2}× |",
            other.name,
            other.to(&rows[0]),
            other.to(ours)
        );
    }
    println!();
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
    println!("free route: {:.2}× (goal ≤ 1.05×)", rows[1].to(floor));
    println!("free route, to bare with the same time limits: {:.2}×", rows[1].to(&rows[5]));
    println!("402: {:.2}× (goal ≤ 0.70×)", rows[2].to(floor));
    let above_the_sum = |row: &Series| {
        let at = |at: usize| row.microseconds[at] - floor.microseconds[at] - recoveries.microseconds[at];
        middle((0..ROUNDS).map(at).collect())
    };
    println!("paid, memory ledger: bare + one recovery + {:.1} µs (goal ≤ 15 µs)", above_the_sum(&rows[3]));
    println!("a proxy that forgets what it sold: bare + one recovery + {:.1} µs", above_the_sum(&rows[8]));
    println!("paid, memory ledger, beyond the proxy that forgets: {:.1} µs", rows[3].beyond(&rows[8]));
    println!("resident memory, idle: {idle:.1} MiB (goal ≤ 30 MiB)");
}
