//! `tollhouse demo`: the whole product in one command.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::support::{run, tollhouse};

#[test]
fn the_demo_shows_and_checks_each_step_and_leaves_nothing_behind() {
    let home = tempfile::tempdir().expect("a directory for the test");
    let mut command = tollhouse(["demo", "--once", "--port", "0"]);
    let ended = crate::support::ended(command.env("TMPDIR", home.path()).output().expect("the binary runs")).exits(0);

    for line in
        ["SANDBOX", "HTTP/1.1 402", "HTTP/1.1 200", "HTTP/1.1 409", "~ GET /v1/weather $0.01 → $0.02", "$0.02 in USDC"]
    {
        assert!(ended.stdout.contains(line), "{line} is missing from\n{}", ended.stdout);
    }
    assert_eq!(ended.stdout.matches("   √ ").count(), 4, "{}", ended.stdout);
    assert!(!ended.stdout.contains('\x1b'), "no colour in a pipe");
    assert!(ended.stdout.lines().count() <= 45, "it fits a screen");
    assert!(ended.stderr.is_empty(), "{}", ended.stderr);
    assert_eq!(std::fs::read_dir(home.path()).expect("it is ours").count(), 0);
}

#[test]
fn the_demo_goes_on_serving_what_it_invites_to() {
    let home = tempfile::tempdir().expect("a directory for the test");
    let mut command = tollhouse(["demo", "--port", "0"]);
    let mut demo =
        command.env("TMPDIR", home.path()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    let lines = BufReader::new(demo.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    let invited = lines.into_iter().find_map(|line| {
        let (_, rest) = line.split_once(" pay http://")?;
        rest.split(' ').next().map(|rest| format!("http://{rest}"))
    });
    let paid = invited.map(|url| run(["pay", &url, "--max", "$0.05"]));
    // Nobody is left to end it in order, so its directory goes with the one of the test.
    demo.kill().expect("it is running");
    demo.wait().expect("it was ours");

    let paid = paid.expect("the demo invites to pay").exits(0);
    assert!(paid.stdout.contains("Berlin") && paid.stderr.contains("play money"), "{}", paid.stderr);
}

#[test]
fn a_port_that_was_asked_for_is_not_replaced() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("it is bound").port().to_string();
    let ended = run(["demo", "--once", "--port", &port]).exits(3);
    assert!(ended.stderr.contains("no port can be had") && ended.stdout.is_empty(), "{}", ended.stderr);
}
