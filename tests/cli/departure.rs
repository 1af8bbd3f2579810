//! The real binary is told to stop while clients ask and pay.

use rustix::process::Signal;
use tollhouse::testing::client::{Connection, Request};

use crate::crowd::{Crowd, WhenTold};
use crate::signals::signal;
use crate::support::{Gateway, soon};

#[tokio::test(flavor = "multi_thread")]
async fn s21_a_gateway_that_stops_under_load_fails_nobody_and_has_everything_on_record() {
    let mut gateway = Gateway::with("shutdown: {delay: 1s}");
    let crowd = Crowd::at(gateway.address(), WhenTold::Leave);
    soon("a busy hour", || crowd.answered() > 100);
    signal(gateway.process(), Signal::TERM);
    let heard = crowd.leaves().await;
    let ended = gateway.process().wait().expect("a child can be waited for");
    soon("the end of the log", || gateway.log().contains(r#""message":"stopped""#));
    assert_eq!(ended.code(), Some(0), "{}", gateway.log());
    assert!(heard.failed.is_empty(), "{:?}\n{}", heard.failed, gateway.log());
    assert!(!heard.bought.is_empty(), "nobody has bought anything");
    // What is on record was answered, and what was answered is on record.
    assert_eq!(gateway.sold(), heard.bought);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_to_be_accepted_when_the_gateway_stops_is_answered() {
    let mut gateway = Gateway::start();
    // A process that stands still accepts nobody, but the system connects whoever comes.
    signal(gateway.process(), Signal::STOP);
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let mut client = Connection::open(gateway.address()).await;
        client.send(&Request::get("/v1/health")).await;
        waiting.push(client);
    }
    signal(gateway.process(), Signal::TERM);
    signal(gateway.process(), Signal::CONT);
    for client in &mut waiting {
        assert_eq!(client.reply().await.status, 200);
    }
    let ended = gateway.process().wait().expect("a child can be waited for");
    assert_eq!(ended.code(), Some(0), "{}", gateway.log());
}
