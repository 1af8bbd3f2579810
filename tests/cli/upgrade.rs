//! The real binary hands over to another process of itself.

use std::fs;
use std::os::unix::net::UnixStream;

use http::{HeaderName, HeaderValue};
use rustix::process::Signal;
use tollhouse::primitives::{Clock, SystemClock};
use tollhouse::testing::Wallet;
use tollhouse::testing::client::{Connection, Reply, Request};

use crate::crowd::{Crowd, WhenTold};
use crate::signals::{signal, signal_to};
use crate::support::{Gateway, run, soon};

async fn ask(gateway: &Gateway, request: &Request) -> Reply {
    let mut connection = Connection::open(gateway.address()).await;
    connection.send(request).await;
    connection.reply().await
}

/// Buys the weather; returns what was paid with.
async fn buy(gateway: &Gateway) -> (HeaderName, HeaderValue) {
    let challenge = ask(gateway, &Request::get("/v1/weather")).await;
    let payment = Wallet::random().pay(&challenge.fields, &challenge.body, SystemClock.now());
    let payment = payment.expect("the offer can be paid");
    assert_eq!(ask(gateway, &Request::get("/v1/weather").paying(&payment)).await.status, 200);
    payment
}

/// Waits until the first process is gone, and returns how it ended.
fn gone(gateway: &mut Gateway) -> Option<i32> {
    let mut ended = None;
    soon("the end of the old process", || {
        ended = gateway.process().try_wait().expect("a child can be waited for");
        ended.is_some()
    });
    ended.and_then(|ended| ended.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn s68_an_upgrade_under_load_fails_nobody_and_both_processes_keep_one_ledger() {
    let mut gateway = Gateway::with("shutdown: {grace: 20s}");
    let early = buy(&gateway).await;
    let mut bought = gateway.sold();
    let (before, first) = (gateway.served(), gateway.process().id());
    let crowd = Crowd::at(gateway.address(), WhenTold::ComeBack);
    soon("a busy hour", || crowd.answered() > 100);
    signal(gateway.process(), Signal::USR2);
    assert_eq!(gone(&mut gateway), Some(0), "{}", gateway.log());
    let by_then = crowd.answered();
    soon("a busy hour at the new process", || crowd.answered() > by_then + 100);
    let heard = crowd.goes_home().await;
    assert!(heard.failed.is_empty(), "{:?}\n{}", heard.failed, gateway.log());
    assert!(gateway.log().contains(r#""message":"stopped""#), "everything has ended: {}", gateway.log());

    // What was bought from the old one opens nothing at the new one.
    let asked = gateway.served();
    for payment in [early, heard.last.expect("somebody has bought")] {
        assert_eq!(ask(&gateway, &Request::get("/v1/weather").paying(&payment)).await.status, 409);
    }
    assert_eq!(gateway.served(), asked, "the API was not asked");
    assert!(asked > before);
    bought.extend(heard.bought);
    bought.sort();
    assert_eq!(gateway.sold(), bought);
    run(gateway.ledger_command(&["verify"])).exits(0);
    let heir = gateway.heirs().pop().expect("the log names it");
    for process in [first, heir] {
        let name = format!("/{process}");
        let payments = gateway.payments();
        let (newest, oldest) = (&payments[0], &payments[payments.len() - 1]);
        let told = [newest, oldest].map(|payment| {
            let key = payment["payment"].as_str().expect("a payment has a key");
            run(gateway.ledger_command(&["show", key])).exits(0).stdout
        });
        assert!(told.iter().any(|told| told.contains(&name)), "{process} has sold nothing: {told:?}");
    }

    // The file of the admin socket belongs to the new one now.
    UnixStream::connect(gateway.admin_socket()).expect("the new process listens");
    signal_to(heir, Signal::TERM);
    soon("the end of the new process", || gateway.log().matches(r#""message":"stopped""#).count() == 2);
    soon("its socket is gone", || !gateway.admin_socket().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn s68_a_file_that_is_wrong_at_an_upgrade_leaves_the_old_process_serving() {
    let mut gateway = Gateway::start();
    let file = gateway.ledger.with_file_name("gateway.yaml");
    let good = fs::read_to_string(&file).expect("the file is there");
    fs::write(&file, "routes: nothing of the kind\n").expect("the folder is ours");
    signal(gateway.process(), Signal::USR2);
    soon("the attempt fails", || gateway.log().contains("this process serves on"));
    buy(&gateway).await;
    UnixStream::connect(gateway.admin_socket()).expect("the old process listens");
    assert!(gateway.process().try_wait().expect("a child can be waited for").is_none());

    fs::write(&file, good).expect("the folder is ours");
    signal(gateway.process(), Signal::USR2);
    assert_eq!(gone(&mut gateway), Some(0), "{}", gateway.log());
    buy(&gateway).await;
    assert_eq!(gateway.sold().len(), 2);
}

/// Its own file fails only once it has opened what it takes over.
#[tokio::test(flavor = "multi_thread")]
async fn s68_whoever_gives_up_halfway_has_taken_nothing() {
    let mut gateway = Gateway::start();
    let file = gateway.ledger.with_file_name("gateway.yaml");
    let good = fs::read_to_string(&file).expect("the file is there");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound");
    fs::write(&file, good.replace("listen: 127.0.0.1:0", &format!("listen: [127.0.0.1:0, \"{address}\"]")))
        .expect("the folder is ours");
    signal(gateway.process(), Signal::USR2);
    soon("the attempt fails", || gateway.log().contains("this process serves on"));
    UnixStream::connect(gateway.admin_socket()).expect("the old process listens, and can be reached");

    let other = good.replace("sqlite:ledger.db", "sqlite:other.db");
    fs::write(&file, other).expect("the folder is ours");
    signal(gateway.process(), Signal::USR2);
    soon("the attempt fails", || gateway.log().matches("this process serves on").count() == 2);
    assert!(gateway.log().contains("has another ledger"), "{}", gateway.log());
    UnixStream::connect(gateway.admin_socket()).expect("the old process listens, and can be reached");

    drop(taken);
    fs::write(&file, good).expect("the folder is ours");
    signal(gateway.process(), Signal::USR2);
    assert_eq!(gone(&mut gateway), Some(0), "{}", gateway.log());
    buy(&gateway).await;
    UnixStream::connect(gateway.admin_socket()).expect("the new process listens");
}

#[test]
fn s68_one_process_at_a_time_is_about_to_take_over() {
    let mut gateway = Gateway::start();
    // Whoever opens the ledger waits for this.
    let ledger = rusqlite::Connection::open(&gateway.ledger).expect("a ledger");
    ledger.execute_batch("BEGIN IMMEDIATE").expect("nobody writes");
    signal(gateway.process(), Signal::USR2);
    soon("the first attempt", || gateway.log().contains("starting a process to take over"));
    signal(gateway.process(), Signal::USR2);
    soon("the second is refused", || gateway.log().contains("nothing more is started"));
    ledger.execute_batch("ROLLBACK").expect("it is ours");
    assert_eq!(gone(&mut gateway), Some(0), "{}", gateway.log());
    assert_eq!(gateway.heirs().len(), 1);
}

#[test]
fn s68_whoever_is_told_to_stop_takes_back_what_it_was_about_to_hand_over() {
    let mut gateway = Gateway::start();
    let ledger = rusqlite::Connection::open(&gateway.ledger).expect("a ledger");
    ledger.execute_batch("BEGIN IMMEDIATE").expect("nobody writes");
    signal(gateway.process(), Signal::USR2);
    soon("the attempt", || gateway.log().contains("starting a process to take over"));
    signal(gateway.process(), Signal::TERM);
    assert_eq!(gone(&mut gateway), Some(0), "{}", gateway.log());
    assert!(gateway.heirs().is_empty());
    // Both processes write to it, so its end is the end of both.
    soon("the end of the log", || gateway.log_has_ended());
}

#[test]
fn s68_what_would_be_forgotten_is_not_handed_over() {
    let mut gateway = Gateway::forgetful();
    signal(gateway.process(), Signal::USR2);
    soon("the refusal", || gateway.log().contains("`ledger: memory` would be forgotten"));
    assert!(gateway.process().try_wait().expect("a child can be waited for").is_none());
}
