//! Programs that others wrote, around the gateway: nghttp and h2load as clients, caddy behind it and in front of it.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use tempfile::TempDir;
use tollhouse::primitives::Clock as _;
use tollhouse::testing::Gateway;
use tollhouse::testing::client::Request;

use crate::world::{File, World, assert_paid, eventually};

const INSTALL: &str = "run `make test` once, or install Debian's caddy and nghttp2-client";

/// What a program says, run beside the gateway, which lives in this process.
async fn said(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let ran = tokio::task::spawn_blocking(move || command.output()).await.expect("it ends");
    let ran = ran.unwrap_or_else(|error| panic!("{program} does not start ({error}): {INSTALL}"));
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

/// A world that sells on a door with HTTP/2 in plaintext.
async fn world() -> World {
    let file = File::selling("GET /weather: $0.01\nGET /free: free");
    let timeouts = "{connect: 10s, idle: 10s}".into();
    World::of(File { listen: "[{address: \"127.0.0.1:0\", h2c: true}]".into(), timeouts, ..file }).await
}

#[tokio::test]
async fn nghttp_sees_the_price() {
    let world = world().await;
    let url = format!("http://{}/weather", world.gateway.address());
    let told = said("nghttp", &["-nv", &url]).await;
    assert!(told.contains(":status: 402") && told.contains("payment-required: "), "{told}");
    world.assert_untouched();
}

// On threads, as the gateway runs: on one, it would share it with the backend.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2load_is_answered_two_hundred_streams_at_once() {
    let world = world().await;
    let load = async |path: &str| {
        let url = format!("http://{}{path}", world.gateway.address());
        said("h2load", &["-n", "2000", "-c", "10", "-m", "20", &url]).await
    };
    let free = load("/free").await;
    assert!(free.contains("2000 succeeded, 0 failed, 0 errored"), "{free}");
    assert!(free.contains("status codes: 2000 2xx"), "{free}");
    let priced = load("/weather").await;
    assert!(priced.contains("status codes: 0 2xx, 0 3xx, 2000 4xx"), "{priced}");
    world.assert_counts(0, 2000);
}

/// caddy on sockets of its own, one with a backend that says how it was spoken to, and one that leads to the gateway.
struct Caddy {
    process: Child,
    home: TempDir,
}

impl Caddy {
    /// In front of a gateway there, as caddy names it.
    async fn start(gateway: &str) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let at = home.path().display();
        let settings = format!(
            "{{\n admin off\n auto_https off\n servers {{\n protocols h1 h2 h2c\n }}\n}}\n\
             http:// {{\n bind unix/{at}/back.sock\n respond \"{{http.request.proto}} {{http.request.host}}\"\n}}\n\
             http://api.test {{\n bind unix/{at}/front.sock\n reverse_proxy {gateway}\n}}\n"
        );
        fs::write(home.path().join("Caddyfile"), settings).expect("the folder is ours");
        let mut command = Command::new("caddy");
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(home.path().join("Caddyfile"));
        // It remembers settings and certificates in the home of its user.
        command.env("HOME", home.path()).env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let process = started.unwrap_or_else(|error| panic!("caddy does not start ({error}): {INSTALL}"));
        let caddy = Self { process, home };
        let sockets = ["back.sock", "front.sock"].map(|name| caddy.path(name));
        eventually("caddy listens", || sockets.iter().all(|socket| socket.exists())).await;
        caddy
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// What curl is told at its front: body, and status at the end.
    async fn told(&self, more: &[&str]) -> String {
        let socket = self.path("front.sock").display().to_string();
        let mut arguments = vec!["-si", "--unix-socket", &socket, "http://api.test/weather", "-w", " %{http_code}"];
        arguments.extend(more);
        said("curl", &arguments).await
    }
}

impl Drop for Caddy {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn caddy_is_a_backend_over_either_version() {
    let world = world().await;
    let caddy = Caddy::start(&format!("h2c://{}", world.gateway.address())).await;
    for (terms, version) in [("", "HTTP/1.1"), (", http2: true", "HTTP/2.0")] {
        let mut file = File::selling("GET /weather: $0.01");
        file.upstream = terms.into();
        let text = file.text(&world.facilitator, &format!("unix:{}", caddy.path("back.sock").display()));
        let gateway = Gateway::start(&text, Arc::new(world.clock.clone())).await;
        let request = Request::get("/weather");
        let challenge = gateway.ask(&request).await;
        let payment = world.wallet.pay(&challenge.fields, &challenge.body, world.clock.now()).expect("an offer");
        let paid = gateway.ask(&request.paying(&payment)).await;
        assert_paid(&paid);
        assert_eq!(paid.text(), format!("{version} api.test"));
    }
}

#[tokio::test]
async fn caddy_in_front_passes_offers_payments_and_receipts() {
    let world = world().await;
    passes_all(&world, &format!("h2c://{}", world.gateway.address())).await;
}

#[tokio::test]
async fn caddy_in_front_reaches_a_gateway_by_its_socket() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("http.sock").display().to_string();
    let file = File::selling("GET /weather: $0.01");
    let world = World::of(File { listen: format!("[\"127.0.0.1:0\", \"unix:{socket}\"]"), ..file }).await;
    passes_all(&world, &format!("unix/{socket}")).await;
}

async fn passes_all(world: &World, gateway: &str) {
    let caddy = Caddy::start(gateway).await;
    let told = caddy.told(&[]).await;
    assert!(told.ends_with(" 402") && told.to_lowercase().contains("payment-required: "), "{told}");
    let (name, value) = world.payment("/weather").await;
    let field = format!("{name}: {}", value.to_str().expect("base64"));
    let told = caddy.told(&["-H", &field]).await;
    assert!(told.ends_with("answer 200") && told.to_lowercase().contains("payment-response: "), "{told}");
    assert!(caddy.told(&["-H", &field]).await.ends_with(" 409"));
    world.assert_counts(1, 1);
}
