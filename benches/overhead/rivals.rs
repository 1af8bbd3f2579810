//! What people run today, before the same backend: nginx, HAProxy, and what a seller would use instead of a gateway.
//!
//! Each that is installed is measured; `make bench` installs them all.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tollhouse::primitives::{Clock as _, SystemClock};
use tollhouse::protocol::x402::PAYMENT_REQUIRED;
use tollhouse::testing::Wallet;
use tollhouse::testing::client::{Connection, Request};

use super::yard::{Role, get};

/// How long any of them may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// nginx as a plain proxy with kept-alive connections and one worker, which is the process.
pub fn nginx(backend: &str, folder: &Path) -> Option<Role> {
    let address = free_address();
    let folder = folder.display();
    let file = format!(
        "daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log {folder}/nginx.log;\n\
         events {{ worker_connections 4096; }}\nhttp {{\n  access_log off;\n  client_body_temp_path {folder}/body;\n  \
         proxy_temp_path {folder}/proxy;\n  fastcgi_temp_path {folder}/f;\n  uwsgi_temp_path {folder}/u;\n  \
         scgi_temp_path {folder}/s;\n  keepalive_requests 1000000000;\n  \
         upstream app {{ server {backend}; keepalive 128; keepalive_requests 1000000000; }}\n  \
         server {{ listen {address}; location / {{ proxy_pass http://app; proxy_http_version 1.1; \
         proxy_set_header Connection \"\"; proxy_set_header Host $host; }} }}\n}}\n"
    );
    let path = format!("{folder}/nginx.conf");
    fs::write(&path, file).expect("the folder is ours");
    started(Command::new("nginx").args(["-c", &path, "-e", &format!("{folder}/nginx.log")]), address)
}

/// HAProxy with one thread.
pub fn haproxy(backend: &str, folder: &Path) -> Option<Role> {
    let address = free_address();
    let file = format!(
        "global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 60s\n  \
         timeout server 60s\n  http-reuse always\nfrontend door\n  bind {address}\n  default_backend app\n\
         backend app\n  server one {backend}\n"
    );
    let path = folder.join("haproxy.cfg");
    fs::write(&path, file).expect("the folder is ours");
    started(Command::new("haproxy").arg("-db").arg("-f").arg(path), address)
}

/// Express with the stock payment middleware and a proxy middleware; see `express/server.mjs`.
pub fn express(backend: &str) -> Option<Role> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/overhead/express");
    if !folder.join("node_modules").exists() {
        return None;
    }
    let mut command = Command::new("node");
    command.arg(folder.join("server.mjs")).arg(backend).env("NODE_ENV", "production").stderr(Stdio::null());
    Role::announcing(&mut command)
}

/// Payments for whatever this address asks for its priced route, each good once.
pub async fn payments_for(address: &str, count: usize) -> Vec<Vec<u8>> {
    let mut connection = Connection::open(address.parse().expect("it announced an address")).await;
    connection.send(&Request::get("/paid")).await;
    let challenge = connection.reply().await;
    assert!(challenge.fields.contains_key(PAYMENT_REQUIRED), "{}", challenge.text());
    let wallet = Wallet::random();
    let now = SystemClock.now();
    let payment = |_| {
        let (name, value) = wallet.pay(&challenge.fields, &challenge.body, now).expect("it can be paid");
        get("/paid", &format!("{name}: {}\r\n", value.to_str().expect("base64")))
    };
    (0..count).map(payment).collect()
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("it is bound").to_string()
}

/// Starts a program that does not say where it listens. `None` when it is not installed.
fn started(command: &mut Command, address: String) -> Option<Role> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
    let role = Role::at(child, address);
    let deadline = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(&role.address).is_err() {
        assert!(Instant::now() < deadline, "nothing listens at {}", role.address);
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(role)
}
