//! Two processes, played by two tasks.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::estate::Origin;
use super::mail::Mail;
use super::*;

/// An estate that `sh` would inherit, in these words.
fn estate(script: &str, patience: Duration) -> Estate {
    let arguments = ["-c", script].map(Into::into).to_vec();
    let origin = Origin { binary: PathBuf::from("/bin/sh"), arguments };
    Estate { origin, sockets: Vec::new(), ledger: "a".into(), forgets: false, patience }
}

async fn refused(estate: &Estate) -> String {
    estate.hand_over().await.expect_err("nobody takes over").to_string()
}

#[tokio::test]
async fn s68_whoever_cannot_take_over_is_ended_and_named() {
    let minute = Duration::from_secs(60);
    assert!(refused(&estate("exit 1", minute)).await.contains("ended before it was ready"));
    let late = estate("exec sleep 1000", Duration::from_millis(50));
    assert!(refused(&late).await.contains("was not ready"), "it has been ended, or we would still wait for it");
    let nowhere = Origin { binary: PathBuf::from("/nowhere/tollhouse"), arguments: Vec::new() };
    assert!(refused(&Estate::new(nowhere, Vec::new(), "a".into(), false)).await.contains("/nowhere/tollhouse"));
    let forgets = Estate { forgets: true, ..estate("exit 1", minute) };
    assert!(refused(&forgets).await.contains("memory"));
}

#[tokio::test]
async fn s68_a_socket_changes_hands_and_nobody_who_waits_there_is_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let spare = Arc::new(listener.as_fd().try_clone_to_owned().expect("a descriptor"));
    let (ours, theirs) = Mail::pair().expect("a pair of sockets");
    let theirs = Mail::over(theirs).expect("a socket");
    let sending = async {
        ours.send(GREETING, None).await.expect("there is room");
        ours.send(&format!("{SOCKET}door a"), Some(spare.as_fd())).await.expect("there is room");
        ours.send(ALL, None).await.expect("there is room");
    };
    let (legacy, ()) = tokio::join!(Legacy::read(theirs), sending);
    let mut legacy = legacy.expect("it is understood");
    assert!(legacy.has_predecessor());
    assert!(legacy.take("door b").is_none());
    let socket = legacy.take("door a").expect("it was sent");
    assert!(legacy.take("door a").is_none(), "there was one");
    let client = TcpStream::connect(address).await.expect("the system connects");
    drop((listener, spare));
    let inherited = TcpListener::from_std(socket.into()).expect("a listener");
    let (_, peer) = inherited.accept().await.expect("somebody waits");
    assert_eq!(peer, client.local_addr().expect("it is connected"));

    let turn = tokio::spawn(legacy.turn());
    assert_eq!(ours.receive().await.expect("a word").expect("it lives").text, format!("{TAKES}door a"));
    assert_eq!(ours.receive().await.expect("a word").expect("it lives").text, READY);
    assert!(!turn.is_finished(), "not before it is told");
    ours.send(SERVE, None).await.expect("there is room");
    turn.await.expect("it does not panic").expect("it is its turn");
}

#[tokio::test]
async fn s68_whoever_outlives_the_old_process_serves() {
    let (ours, theirs) = Mail::pair().expect("a pair of sockets");
    ours.send(GREETING, None).await.expect("there is room");
    ours.send(ALL, None).await.expect("there is room");
    let legacy = Legacy::read(Mail::over(theirs).expect("a socket")).await.expect("it is understood");
    drop(ours);
    legacy.turn().await.expect("somebody has to");
}

#[tokio::test]
async fn a_process_of_another_version_is_not_understood() {
    for words in [&["tollhouse 2", ALL][..], &[ALL], &[GREETING, GREETING], &[GREETING, "more"], &[GREETING]] {
        let (ours, theirs) = Mail::pair().expect("a pair of sockets");
        for word in words {
            ours.send(word, None).await.expect("there is room");
        }
        drop(ours);
        assert!(Legacy::read(Mail::over(theirs).expect("a socket")).await.is_err(), "{words:?}");
    }
}
