//! Which of several backends is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tollhouse::testing::backend::Behaviour;
use tollhouse::testing::client::Request;
use tollhouse::testing::{Backend, Latch};

use super::{free, gateway, hits};
use crate::world::{File, World, eventually};

#[tokio::test]
async fn each_in_turn_the_least_busy_or_the_same_for_the_same_client() {
    let world = World::selling("GET /weather: $0.01").await;
    let (one, other) = (Backend::start().await, Backend::start().await);
    let (first, second) = (one.url(), other.url());
    for (balance, spread) in [("round_robin", true), ("hash", false)] {
        let before = hits(&[&one, &other]);
        let terms = |file: &mut File| file.upstream = format!(", balance: {balance}");
        let gateway = gateway(&world, &[&first, &second], terms).await;
        for _ in 0..8 {
            assert_eq!(free(&gateway).await.status, 200);
        }
        let mut more: Vec<_> = hits(&[&one, &other]).iter().zip(before).map(|(now, before)| now - before).collect();
        more.sort_unstable();
        assert_eq!(more, if spread { [4, 4] } else { [0, 8] }, "{balance}");
    }
}

#[tokio::test]
async fn a_busy_backend_gets_nothing_while_another_is_idle() {
    let world = World::selling("GET /weather: $0.01").await;
    let (one, other) = (Backend::start().await, Backend::start().await);
    let (latch, first, second) = (Latch::closed(), one.url(), other.url());
    for backend in [&one, &other] {
        backend.always("/notes", Behaviour::text("late").when(&latch));
    }
    let terms = |file: &mut File| file.upstream = ", balance: least_connections".into();
    let gateway = gateway(&world, &[&first, &second], terms).await;
    let mut slow = gateway.connect().await;
    slow.send(&Request::post("/notes", "x")).await;
    eventually("the slow request arrives", || hits(&[&one, &other]).iter().sum::<usize>() == 1).await;
    for _ in 0..6 {
        assert_eq!(free(&gateway).await.status, 200);
    }
    let mut counts = hits(&[&one, &other]);
    counts.sort_unstable();
    assert_eq!(counts, [1, 6]);
    latch.open();
    assert_eq!(slow.reply().await.text(), "late");
}

#[tokio::test]
async fn a_reload_that_changes_the_targets_fails_no_request() {
    let world = World::selling("GET /weather: $0.01").await;
    let backends = [Backend::start().await, Backend::start().await];
    let text = |backend: &Backend| File::selling(super::ROUTES).text(&world.facilitator, &backend.url());
    let mut gateway = super::Gateway::start(&text(&backends[0]), Arc::new(world.clock.clone())).await;
    let (address, ended) = (gateway.address(), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let ended = Arc::clone(&ended);
            tokio::spawn(async move {
                let mut connection = tollhouse::testing::client::Connection::open(address).await;
                let mut answers = 0;
                while !ended.load(Ordering::Relaxed) {
                    connection.send(&Request::get("/free")).await;
                    assert_eq!(connection.reply().await.status, 200);
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    for turn in 0..10 {
        let target = &backends[(turn + 1) % 2];
        let before = target.hits();
        gateway.reload(&text(target)).await.expect("the changed file is right");
        eventually("the new target is asked", || target.hits() > before).await;
    }
    ended.store(true, Ordering::Relaxed);
    let mut answered = 0;
    for client in clients {
        answered += client.await.expect("every request was answered");
    }
    assert_eq!(hits(&[&backends[0], &backends[1]]).iter().sum::<usize>(), answered);
}
