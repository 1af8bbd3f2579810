//! The real binary is told to stop while it waits for something.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Gateway, Log, file, soon, tollhouse};

/// Accepts connections and never says a word.
fn silent() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

pub fn signal(process: &Child, signal: Signal) {
    kill_process(Pid::from_child(process), signal).expect("the process is ours");
}

/// To a process that is no child of ours.
pub fn signal_to(process: u32, signal: Signal) {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw).expect("a process has a number");
    kill_process(process, signal).expect("the process lives");
}

/// The answer to a GET, or nothing.
fn get(address: SocketAddr, path: &str) -> String {
    let mut text = String::new();
    if let Ok(mut stream) = TcpStream::connect(address) {
        let _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: status\r\nConnection: close\r\n\r\n");
        let _ = stream.read_to_string(&mut text);
    }
    text
}

/// A file that sells through somebody who never says a word; `more` are lines of its own.
fn waiting_for(facilitator: SocketAddr, more: &str) -> String {
    format!(
        "\
version: 1
public_url: http://localhost
listen: 127.0.0.1:0
upstream: http://127.0.0.1:9
pay_to: {{base-sepolia: \"0x1111111111111111111111111111111111111111\"}}
facilitators: [{{name: away, url: \"http://{facilitator}\"}}]
ledger: memory
log: {{format: json}}
routes:
  GET /v1/weather: $0.01
{more}
"
    )
}

fn serve(file: &Path) -> (Child, Log) {
    let mut process = tollhouse(["run", "-c"]).arg(file).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let log = Log::of(&mut process);
    (process, log)
}

#[test]
fn a_process_that_waits_for_nodes_says_so_and_stops_when_told() {
    let (_nodes, node) = silent();
    // The status address has to be known beforehand; nobody else is given a port that was just let go.
    let status = silent().1;
    let more = format!("status: {status}\nnetworks: {{base-sepolia: {{rpc: [\"http://{node}\"]}}}}");
    let (_directory, path) = file("gateway.yaml", &waiting_for(node, &more));
    let (mut process, log) = serve(&path);
    soon("the status listener", || get(status, "/livez").starts_with("HTTP/1.1 200"));
    assert!(get(status, "/readyz").starts_with("HTTP/1.1 503"), "it does not serve yet");
    signal(&process, Signal::TERM);
    let ended = process.wait().expect("a child can be waited for");
    soon("the end of the log", || log.text().contains("stopped before it served"));
    assert_eq!(ended.code(), Some(0), "{}", log.text());
}

#[test]
fn a_reload_that_waits_for_nodes_does_not_hold_up_the_end() {
    let ((_facilitator, away), (nodes, node)) = (silent(), silent());
    let (_directory, path) = file("gateway.yaml", &waiting_for(away, "status: none"));
    let (mut process, log) = serve(&path);
    soon("the start-up line", || log.text().contains("priced)"));
    let more = format!("status: none\nnetworks: {{base-sepolia: {{rpc: [\"http://{node}\"]}}}}");
    fs::write(&path, waiting_for(away, &more)).expect("the directory is ours");
    let _asked = nodes.accept().expect("the reload asks the node");
    signal(&process, Signal::TERM);
    let ended = process.wait().expect("a child can be waited for");
    soon("the end of the log", || log.text().contains(r#""message":"stopped""#));
    assert!(!log.text().contains("reloaded"), "it was stopped in the middle: {}", log.text());
    assert_eq!(ended.code(), Some(0), "{}", log.text());
}

#[test]
fn a_second_signal_ends_the_wait_for_what_is_under_way() {
    let (backend, address) = silent();
    let mut gateway = Gateway::before(address);
    let mut client = TcpStream::connect(gateway.address()).expect("the gateway listens");
    client.write_all(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the gateway reads");
    let _working = backend.accept().expect("the backend is asked");
    signal(gateway.process(), Signal::TERM);
    soon("the drain", || gateway.log().contains("stopping"));
    signal(gateway.process(), Signal::INT);
    let ended = gateway.process().wait().expect("a child can be waited for");
    soon("the end of the log", || gateway.log().contains("stopped before everything had ended"));
    assert!(gateway.log().contains("not waiting for what is under way"), "{}", gateway.log());
    assert_eq!(ended.code(), Some(0));
}

#[test]
fn whoever_is_told_to_stop_serves_on_until_clients_had_time_to_go_elsewhere() {
    let (_facilitator, away) = silent();
    let status = silent().1;
    let (_directory, path) =
        file("gateway.yaml", &waiting_for(away, &format!("status: {status}\nshutdown: {{delay: 1h}}")));
    let (mut process, log) = serve(&path);
    soon("the start-up line", || log.text().contains("priced)"));
    assert!(get(status, "/readyz").starts_with("HTTP/1.1 200"));
    let door = log.text().split("http://").filter_map(|after| after.split(['"', ' ']).next()?.parse().ok()).next();
    let door: SocketAddr = door.expect("the start-up line names the door");
    let ask = || {
        let mut stream = TcpStream::connect(door).expect("connections are taken");
        stream.write_all(b"GET /v1/weather HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it listens");
        let mut text = String::new();
        // Ends because the gateway closes the connection.
        stream.read_to_string(&mut text).expect("it answers");
        text
    };
    signal(&process, Signal::TERM);
    soon("the end is announced", || get(status, "/readyz").starts_with("HTTP/1.1 503"));
    let told = ask();
    assert!(told.starts_with("HTTP/1.1 503") || told.starts_with("HTTP/1.1 402"), "{told}");
    assert!(told.to_ascii_lowercase().contains("connection: close"), "{told}");
    signal(&process, Signal::TERM);
    let ended = process.wait().expect("a child can be waited for");
    soon("the end of the log", || log.text().contains(r#""message":"stopped""#));
    assert_eq!(ended.code(), Some(0), "{}", log.text());
}
