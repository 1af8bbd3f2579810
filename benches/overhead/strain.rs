//! Proxies at what they are not asked for all day: a crowd that stays, one very large answer, and how long the slowest of
//! a hundred waits while the proxy has half of its work to do.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, sleep_until};

use super::yard::{CONNECTIONS, LARGE, Role, get, middle, send, whole};

/// Idle connections at once.
const CROWD: usize = 10_000;
const ROUNDS: usize = 21;
/// Requests of one round at half load; one in a hundred is slower than what is reported of it.
const REQUESTS: usize = 4_000;

/// A name, and a fresh process.
pub type Contender = (&'static str, Role);

/// Resident memory with idle connections, each of which has had one answer.
pub async fn crowds(contenders: &[Contender]) {
    for (name, role) in contenders {
        let before = role.resident();
        let mut crowd = Vec::with_capacity(CROWD);
        for _ in 0..CROWD {
            let mut stream = TcpStream::connect(&role.address).await.expect("a connection");
            stream.write_all(&get("/free", "")).await.expect("a request goes out");
            let read = stream.read(&mut [0; 4096]).await.expect("an answer");
            assert!(read > 0, "the connection ended");
            crowd.push(stream);
        }
        let (after, each) = (role.resident(), 1024.0 * (role.resident() - before) / CROWD as f64);
        println!(
            "resident memory, {CROWD} idle connections, {name}: {after:.1} MiB, {each:.1} KiB each (goal ≤ 250 MiB)"
        );
    }
}

/// The most resident memory while one large answer passes, read as fast as it comes and read slowly.
pub async fn downloads(contenders: &[Contender]) {
    for (name, role) in contenders {
        for (pace, pause) in [("at once", None), ("slowly", Some(Duration::from_millis(1)))] {
            let mut stream = TcpStream::connect(&role.address).await.expect("a connection");
            stream.write_all(&get("/large", "")).await.expect("a request goes out");
            let (mut buffer, mut left, mut most) = (vec![0; 1 << 20], LARGE, 0.0_f64);
            while left > 0 {
                let read = stream.read(&mut buffer).await.expect("more of it");
                assert!(read > 0, "it ended {left} bytes early");
                left = left.saturating_sub(read as u64);
                most = most.max(role.resident());
                if let Some(pause) = pause {
                    sleep(pause).await;
                }
            }
            println!(
                "resident memory, {} MiB of answer read {pace}, {name}: {most:.1} MiB (goal ≤ 60 MiB)",
                LARGE >> 20
            );
        }
    }
}

/// The 99th percentile of the time to an answer on a free route, when requests come half as fast as the slower of the
/// two could answer them. Round by round, one after the other.
pub async fn at_half_load(ours: &Role, bare: &Role) {
    let began = Instant::now();
    send(&ours.address, vec![get("/free", ""); REQUESTS], "200").await;
    let interval = 2 * began.elapsed() / REQUESTS as u32;
    let mut waits: [Vec<f64>; 2] = Default::default();
    for _ in 0..ROUNDS {
        for (waits, role) in waits.iter_mut().zip([bare, ours]) {
            waits.push(percentile(paced(&role.address, interval).await, 99));
        }
    }
    let ratio = middle(waits[1].iter().zip(&waits[0]).map(|(ours, bare)| ours / bare).collect());
    let [bare, ours] = waits.map(middle);
    let rate = 1.0 / interval.as_secs_f64();
    println!(
        "p99 of a free route at half load ({rate:.0} a second): {ours:.0} µs, bare {bare:.0} µs, {ratio:.2}× (goal ≤ 1.2×)"
    );
}

/// How long each of so many requests took, in microseconds, one going out every `interval`.
async fn paced(address: &str, interval: Duration) -> Vec<f64> {
    let start = tokio::time::Instant::now() + Duration::from_millis(10);
    let client = |number: usize| {
        let address = address.to_owned();
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(&address).await.expect("a connection");
            stream.set_nodelay(true).expect("a socket option");
            let (mut buffer, mut waits) = (Vec::with_capacity(4096), Vec::new());
            for turn in (number..REQUESTS).step_by(CONNECTIONS) {
                sleep_until(start + interval * turn as u32).await;
                let sent = Instant::now();
                stream.write_all(&get("/free", "")).await.expect("a request goes out");
                buffer.clear();
                while whole(&buffer).is_none() {
                    assert!(stream.read_buf(&mut buffer).await.expect("an answer") > 0, "the connection ended");
                }
                waits.push(sent.elapsed().as_secs_f64() * 1e6);
            }
            waits
        })
    };
    let clients: Vec<_> = (0..CONNECTIONS).map(client).collect();
    let mut waits = Vec::with_capacity(REQUESTS);
    for client in clients {
        waits.extend(client.await.expect("a client"));
    }
    waits
}

fn percentile(mut values: Vec<f64>, percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() * percent / 100).min(values.len() - 1)]
}
