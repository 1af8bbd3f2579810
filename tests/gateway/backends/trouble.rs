//! Backends in trouble: who hears of it, who pays for it (nobody), and how they come back.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener};
use tokio::task::JoinHandle;
use tollhouse::payment::Dialect;
use tollhouse::testing::backend::{Behaviour, Step};
use tollhouse::testing::client::Request;
use tollhouse::testing::{Backend, Gateway, Latch, facilitator};

use super::{NOBODY, free, gateway, hits, up};
use crate::world::{File, World, assert_no_invitation, assert_paid, eventually};

const WATCHED: &str = ", health: {path: /healthz, every: 250ms, unhealthy_after: 2, healthy_after: 2}";

#[tokio::test]
async fn a_dead_target_costs_no_request_and_is_seen() {
    let world = World::selling("GET /weather: $0.01").await;
    let alive = world.backend.url();
    let gateway = gateway(&world, &[NOBODY, &alive], |_| ()).await;
    for _ in 0..10 {
        assert_eq!(free(&gateway).await.status, 200);
    }
    eventually("the dead one is seen", || up(&gateway, NOBODY) == Some(0)).await;
    assert_eq!(up(&gateway, &alive), Some(1));
}

#[tokio::test]
async fn a_backend_on_a_socket_that_appears_is_found_again_without_a_request() {
    let world = World::selling("GET /weather: $0.01").await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("app.sock");
    let target = format!("unix:{}", path.display());
    let gateway = gateway(&world, &[&target], |_| ()).await;
    assert_eq!(free(&gateway).await.status, 502);
    eventually("it is seen to be away", || up(&gateway, &target) == Some(0)).await;
    let pipes = listen_for(world.backend.address(), &path);
    eventually("it is seen to be back", || up(&gateway, &target) == Some(1)).await;
    assert_eq!(free(&gateway).await.text(), "answer");
    assert_eq!(world.backend.last().field("host"), Some("api.test"));
    pipes.abort();
}

/// The same backend on a socket.
fn listen_for(backend: SocketAddr, path: &Path) -> JoinHandle<()> {
    let listener = UnixListener::bind(path).expect("the folder is ours");
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut far) = tokio::net::TcpStream::connect(backend).await else { return };
                // Either side may hang up at any time.
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    })
}

#[tokio::test]
async fn an_unhealthy_backend_gets_no_requests_until_it_is_healthy_again() {
    let world = World::selling("GET /weather: $0.01").await;
    let (one, other) = (Backend::start().await, Backend::start().await);
    let (first, second) = (one.url(), other.url());
    let gateway = gateway(&world, &[&first, &second], |file| file.upstream = WATCHED.into()).await;
    for (behaviour, well) in [(Behaviour::status(500), 0), (Behaviour::text("well"), 1), (Behaviour::hang(), 0)] {
        one.always("/healthz", behaviour);
        eventually("its health is noticed", || up(&gateway, &first) == Some(well)).await;
        let before = hits(&[&one, &other]);
        for _ in 0..4 {
            assert_eq!(free(&gateway).await.status, 200);
        }
        let after = hits(&[&one, &other]);
        let expected = if well == 1 { [2, 2] } else { [0, 4] };
        assert_eq!([after[0] - before[0], after[1] - before[1]], expected);
    }
    assert_eq!(up(&gateway, &second), Some(1));
}

#[tokio::test]
async fn s77_while_every_backend_is_unhealthy_nothing_is_sold_and_payments_stay_good() {
    let world = World::selling("GET /weather: $0.01").await;
    let url = world.backend.url();
    let gateway = gateway(&world, &[&url], |file| file.upstream = WATCHED.into()).await;
    let request = Request::get("/weather");
    let challenge = gateway.ask(&request).await;
    let now = tollhouse::primitives::Clock::now(&world.clock);
    let payment = world.wallet.pay(&challenge.fields, &challenge.body, now).expect("an offer");
    world.backend.always("/healthz", Behaviour::status(503));
    eventually("it is unhealthy", || up(&gateway, &url) == Some(0)).await;
    for reply in [free(&gateway).await, gateway.ask(&request.clone().paying(&payment)).await] {
        assert_no_invitation(&reply, 503);
        assert!(reply.field("retry-after").is_some_and(|wait| wait.parse::<u64>().is_ok_and(|wait| wait > 0)));
    }
    let asked = world.facilitator.count("/verify") + world.facilitator.count("/settle");
    assert_eq!((hits(&[&world.backend]), asked), (vec![0], 0));
    assert!(gateway.entries().await.is_empty(), "nothing was reserved");
    world.backend.always("/healthz", Behaviour::text("well"));
    eventually("it is healthy", || up(&gateway, &url) == Some(1)).await;
    assert_paid(&gateway.ask(&request.paying(&payment)).await);
}

#[tokio::test]
async fn s77_nobody_pays_ahead_for_a_backend_that_refused_three_connections() {
    let world = World::selling("GET /weather: {price: $0.01, settle: before_forward}\nGET /free: free").await;
    let payment = world.payment("/weather").await;
    let routes = "GET /weather: {price: $0.01, settle: before_forward}\nGET /free: free";
    let text = File::selling(routes).text(&world.facilitator, NOBODY);
    let gateway = Gateway::start(&text, Arc::new(world.clock.clone())).await;
    for _ in 0..3 {
        assert_eq!(free(&gateway).await.status, 502, "the last one is never given up on a guess");
    }
    let refused = gateway.ask(&Request::get("/weather").paying(&payment)).await;
    assert_no_invitation(&refused, 503);
    assert!(refused.field("retry-after").is_some());
    world.assert_untouched();
    assert!(gateway.entries().await.is_empty(), "nothing was reserved");
}

#[tokio::test]
async fn another_target_is_tried_only_where_the_file_allows_it() {
    let world = World::selling("GET /weather: $0.01").await;
    let alive = world.backend.url();
    for (retry, status) in [("connect_error", 200), ("never", 502)] {
        let terms = |file: &mut File| file.upstream = format!(", retry: {retry}");
        let gateway = gateway(&world, &[NOBODY, &alive], terms).await;
        assert_eq!(free(&gateway).await.status, status, "{retry}");
        assert_eq!(free(&gateway).await.status, 200, "who failed once is passed over");
    }
}

/// A backend that reads the request and hangs up may have done what it asks. Only a kept connection that was closing
/// under a request without effect is no proof of that.
#[tokio::test]
async fn s25_nothing_is_sent_twice_once_it_may_have_been_processed() {
    for (request, priced, again) in [
        (Request::get("/free"), false, true),
        (Request::new("PUT", "/notes").with("content-length", "0"), false, false),
        (Request::post("/notes", "a note"), false, false),
        (Request::get("/weather"), true, false),
        (Request::post("/reports", "a report"), true, false),
    ] {
        for kept in [false, true] {
            let world = World::selling(super::ROUTES).await;
            let payment =
                if priced { Some(world.payment_for(&request, tollhouse::payment::Dialect::V2).await) } else { None };
            let request = payment.iter().fold(request.clone(), |request, payment| request.paying(payment));
            if kept {
                assert_eq!(world.get("/free").await.status, 200);
            }
            for path in ["/free", "/notes", "/weather", "/reports"] {
                world.backend.on(path, [Behaviour::steps([Step::Close])]);
            }
            let before = world.backend.hits();
            let reply = world.ask(&request).await;
            let (status, times) = if again && kept { (200, 2) } else { (502, 1) };
            assert_eq!((reply.status, world.backend.hits() - before), (status, times), "kept: {kept} {request:?}");
            assert_eq!(world.facilitator.settlements(), 0, "nobody pays for it");
        }
    }
}

#[tokio::test]
async fn s77_a_silent_backend_is_given_up_and_a_late_answer_is_not_sold() {
    let world = World::selling("GET /weather: $0.01").await;
    let url = world.backend.url();
    for idle in ["100ms", "10s"] {
        let latch = Latch::closed();
        let behaviour = Behaviour::text("late").when(&latch);
        let terms = |file: &mut File| file.timeouts = format!("{{first_byte: 100ms, idle: {idle}}}");
        let gateway = gateway(&world, &[&url], terms).await;
        let challenge = gateway.ask(&Request::get("/weather")).await;
        let now = tollhouse::primitives::Clock::now(&world.clock);
        let payment = world.wallet.pay(&challenge.fields, &challenge.body, now).expect("an offer");
        world.backend.always("/weather", behaviour.clone()).always("/free", behaviour);
        let paid = Request::get("/weather").paying(&payment);
        let opening = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            latch.open();
        };
        let free_request = Request::get("/free");
        let (paid, free, ()) = tokio::join!(gateway.ask(&paid), gateway.ask(&free_request), opening);
        assert_no_invitation(&paid, 504);
        assert_no_invitation(&free, 504);
        assert_eq!(world.facilitator.settlements(), 0);
        let states: Vec<_> = gateway.entries().await.iter().map(|entry| entry.state.name()).collect();
        assert_eq!(states, ["released"]);
    }
}

/// With an hour for pauses, whoever hears anything was not left waiting for one.
#[tokio::test]
async fn s77_a_backend_that_never_answers_is_given_up_when_its_head_is_due() {
    let world = World::selling("GET /weather: $0.01").await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("app.sock");
    let pipes = listen_for(world.backend.address(), &path);
    let socket = format!("unix:{}", path.display());
    for (target, by_route) in [(world.backend.url(), true), (world.backend.url(), false), (socket, false)] {
        let terms = |file: &mut File| match by_route {
            true => {
                file.timeouts = "{idle: 1h}".into();
                file.more = "defaults: {limits: {timeout: 200ms}}".into();
            }
            false => file.timeouts = "{first_byte: 200ms, idle: 1h}".into(),
        };
        let gateway = gateway(&world, &[&target], terms).await;
        world.backend.always("/free", Behaviour::text("answer"));
        let challenge = gateway.ask(&Request::get("/weather")).await;
        let now = tollhouse::primitives::Clock::now(&world.clock);
        let payment = world.wallet.pay(&challenge.fields, &challenge.body, now).expect("an offer");
        for _ in 0..2 {
            // On a connection that is made for it, and on one that was kept.
            world.backend.always("/free", Behaviour::hang());
            assert_no_invitation(&free(&gateway).await, 504);
            world.backend.always("/free", Behaviour::text("answer"));
            assert_eq!(free(&gateway).await.text(), "answer");
        }
        world.backend.always("/weather", Behaviour::hang());
        assert_no_invitation(&gateway.ask(&Request::get("/weather").paying(&payment)).await, 504);
        let states: Vec<_> = gateway.entries().await.iter().map(|entry| entry.state.name()).collect();
        assert_eq!(states, ["released"], "nobody pays for it");
        // What pauses after its head is not late.
        let pause = Latch::closed();
        world.backend.always("/free", Behaviour::events([(pause.clone(), "at last")]));
        let resuming = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            pause.open();
        };
        let (whole, ()) = tokio::join!(free(&gateway), resuming);
        assert_eq!(whole.text(), "data: at last\n\n");
    }
    assert_eq!(world.facilitator.settlements(), 0);
    pipes.abort();
}

/// The time that paying takes is not the backend's.
#[tokio::test]
async fn what_was_paid_for_in_advance_has_its_whole_time_left() {
    let routes = "POST /reports: {price: $0.01, settle: before_forward, limits: {timeout: 1s}}";
    let world = World::of(File { timeouts: "{idle: 1h}".into(), ..File::selling(routes) }).await;
    let settling = Latch::closed();
    world.facilitator.on_settle([facilitator::Behaviour::HonestWhen(settling.clone())]);
    let request = Request::post("/reports", "x");
    let payment = world.payment_for(&request, Dialect::V2).await;
    let mut client = world.send(&request.paying(&payment)).await;
    eventually("settlement was asked for", || world.facilitator.count("/settle") == 1).await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    settling.open();
    assert_paid(&client.reply().await);
    world.assert_counts(1, 1);
}

/// Each piece is a sign of life to whoever waits for the next.
#[tokio::test]
async fn s56_a_body_that_drips_has_as_long_as_the_route_says() {
    let routes = "POST /notes: {price: free, limits: {timeout: 500ms}}\n\
                  POST /reports: {price: $0.01, limits: {timeout: 500ms}}";
    let world = World::of(File { timeouts: "{idle: 1h}".into(), ..File::selling(routes) }).await;
    let payment = world.payment_for(&Request::post("/reports", "x"), Dialect::V2).await;
    let (name, value) = (payment.0.as_str(), payment.1.to_str().expect("base64"));
    for (path, field) in [("/notes", String::new()), ("/reports", format!("{name}: {value}\r\n"))] {
        let client = TcpStream::connect(world.gateway.address()).await.expect("it listens");
        let (mut reading, mut writing) = client.into_split();
        let head = format!("POST {path} HTTP/1.1\r\nhost: api.test\r\n{field}content-length: 1000000\r\n\r\n");
        writing.write_all(head.as_bytes()).await.expect("it listens");
        let dripping = tokio::spawn(async move {
            while writing.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let mut told = [0; 12];
        let answer = tokio::time::timeout(Duration::from_secs(20), reading.read_exact(&mut told)).await;
        answer.expect("it is cut").expect("with an answer");
        assert!([&b"HTTP/1.1 408"[..], b"HTTP/1.1 504"].contains(&&told[..]), "{path}: {:?}", told.escape_ascii());
        dripping.abort();
    }
    assert_eq!(world.facilitator.settlements(), 0);
}

#[tokio::test]
async fn a_slow_upload_is_no_late_answer() {
    let world = World::selling("GET /weather: $0.01").await;
    let url = world.backend.url();
    let gateway = gateway(&world, &[&url], |file| file.timeouts = "{first_byte: 400ms, idle: 10s}".into()).await;
    let mut connection = gateway.connect().await;
    connection.write(b"POST /notes HTTP/1.1\r\nhost: api.test\r\ncontent-length: 6\r\n\r\n").await;
    for byte in b"a note" {
        tokio::time::sleep(Duration::from_millis(100)).await;
        connection.write(&[*byte]).await;
    }
    assert_eq!(connection.reply().await.status, 200, "what counts is the time since the last of the request");
}
