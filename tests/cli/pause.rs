//! `tollhouse pause`, `resume` and `paused`, beside a gateway that runs.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::{Ended, Gateway, file, run, soon};

/// Nothing that is waited for takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

fn on(gateway: &Gateway, arguments: &[&str]) -> Ended {
    let ledger = gateway.ledger.display().to_string();
    run(arguments.iter().chain(&["--ledger", &ledger, "-c", "/nowhere/gateway.yaml"]))
}

/// Asks for the price of the weather until the answer has this status.
#[track_caller]
fn until(gateway: &Gateway, status: u16) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = run(["pay", &gateway.url("/v1/weather"), "--dry-run", "--format", "json"]).json();
        if seen["status"] == status {
            return;
        }
        assert!(Instant::now() < deadline, "no {status}: {seen}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn s62_a_person_who_may_write_to_the_ledger_pauses_and_resumes_a_running_gateway() {
    let gateway = Gateway::start();
    let words = ["--by", "ann", "--why", "the oracle is wrong"];
    until(&gateway, 402);
    on(&gateway, &[&["pause", "GET /v1/weather"], &words[..]].concat()).exits(0);
    until(&gateway, 503);
    let listed = on(&gateway, &["paused", "--format", "json"]).exits(0).json();
    assert_eq!(
        (&listed["route"], &listed["by"], &listed["why"]),
        (&"GET /v1/weather".into(), &"ann".into(), &"the oracle is wrong".into())
    );
    on(&gateway, &[&["resume", "POST /v1/reports"], &words[..]].concat()).exits(1);
    on(&gateway, &[&["resume", "all"], &words[..]].concat()).exits(0);
    until(&gateway, 402);
    let nothing = on(&gateway, &["paused"]).exits(0);
    assert_eq!(nothing.stdout, "");
    assert_eq!(gateway.served(), 0);
}

#[test]
fn s62_the_admin_api_and_the_command_line_are_two_doors_to_one_ledger() {
    let mut gateway = Gateway::start();
    let (route, words) = ("GET /v1/weather", ["--by", "ann", "--why", "it is right again"]);
    let (status, paused) = gateway.order("/pause", &json!({"route": route, "why": "the oracle is wrong"}));
    assert_eq!((&*status, &paused["pauses"][0]["route"]), ("200", &route.into()), "{paused}");
    let by = format!("uid {}", rustix::process::geteuid().as_raw());
    let listed = on(&gateway, &["paused", "--format", "json"]).exits(0).json();
    assert_eq!(listed, paused["pauses"][0]);
    assert_eq!((&listed["by"], &listed["why"]), (&by.as_str().into(), &"the oracle is wrong".into()));
    until(&gateway, 503);
    soon("it is in the log", || gateway.log().lines().any(|line| line.contains("\"paused\"") && line.contains(&by)));
    on(&gateway, &[&["resume", route], &words[..]].concat()).exits(0);
    let (status, again) = gateway.order("/resume", &json!({"route": "all", "why": "twice"}));
    assert_eq!((&*status, &again["error"]), ("404", &"not_paused".into()), "{again}");
    until(&gateway, 402);

    let socket = gateway.admin_socket();
    assert!(socket.exists());
    kill_process(Pid::from_child(gateway.process()), Signal::TERM).expect("the process is ours");
    assert!(gateway.process().wait().expect("it is ours").success());
    assert!(!socket.exists(), "it goes with its process");
}

#[test]
fn a_route_that_is_mistyped_is_not_paused() {
    let (folder, path) = file(
        "gateway.yaml",
        "version: 1\npublic_url: http://localhost:8402\nupstream: http://127.0.0.1:3000\npay_to: sandbox\n\
         ledger: sqlite:ledger.db\nroutes:\n  GET /v1/weather: $0.01\n  GET /v1/health: free\n",
    );
    for (route, meant) in [("GET /v1/wether", "GET /v1/weather"), ("GET /v1/health", "GET /v1/weather")] {
        let path = path.display().to_string();
        let refused = run(["pause", route, "--by", "ann", "--why", "prices", "-c", &path]).exits(1);
        assert!(refused.stderr.contains(&format!("did you mean `{meant}`?")), "{}", refused.stderr);
    }
    assert!(!folder.path().join("ledger.db").exists(), "no ledger was made");
    run(["pause", "all", "-c", "/nowhere/gateway.yaml"]).exits(2);
}
