//! Clients that come by a Unix socket: proxies on the same machine.

use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tollhouse::primitives::{Place, SystemClock};
use tollhouse::testing::{Backend, Gateway, ScriptedFacilitator};

use crate::announced::{FORGED, V1};
use crate::doors::{GET, head, rest};
use crate::world::File;

/// A gateway that listens at a socket besides its port.
struct Neighbour {
    gateway: Gateway,
    backend: Backend,
    socket: PathBuf,
    _facilitator: ScriptedFacilitator,
    _folder: TempDir,
}

impl Neighbour {
    /// With these keys of the listener, each with a comma in front, and these lines of the file.
    async fn with(listener: &str, more: &str) -> Self {
        let (facilitator, backend) = (ScriptedFacilitator::start().await, Backend::start().await);
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("http.sock");
        let mut file = File::selling("GET /open: free\nGET /priced: $0.01");
        file.listen = format!("[\"127.0.0.1:0\", {{address: \"unix:{}\"{listener}}}]", socket.display());
        file.more = more.to_owned();
        let gateway = Gateway::start(&file.text(&facilitator, &backend.url()), Arc::new(SystemClock)).await;
        Self { gateway, backend, socket, _facilitator: facilitator, _folder: folder }
    }

    /// Sends these bytes; returns the connection with the head of the answer.
    async fn ask(&self, bytes: &[u8]) -> (UnixStream, String) {
        let mut client = self.client().await;
        client.write_all(bytes).await.expect("it is open");
        let answer = head(&mut client).await;
        (client, answer)
    }

    async fn client(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.expect("it listens")
    }

    /// Whose request the backend was last told that it is.
    fn named(&self) -> Option<String> {
        self.backend.last().field("x-forwarded-for").map(str::to_owned)
    }
}

#[tokio::test]
async fn whoever_comes_by_a_socket_is_served_and_asked_to_pay() {
    let neighbour = Neighbour::with("", "").await;
    let (mut client, answer) = neighbour.ask(GET).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    client.write_all(b"GET /priced HTTP/1.1\r\nHost: api.test\r\n\r\n").await.expect("it stays open");
    let answer = head(&mut client).await;
    assert!(answer.contains("HTTP/1.1 402 "), "{answer}");
    assert_eq!(neighbour.backend.hits(), 1);
    let known = Place::Socket(neighbour.socket.clone());
    assert_eq!(neighbour.gateway.doors()[1], known);
    assert!(neighbour.gateway.stop().await, "nobody is waited for");
    assert!(!neighbour.socket.exists());
}

#[tokio::test]
async fn s45_a_neighbour_speaks_for_its_clients_only_where_the_file_says_so() {
    let stranger = Neighbour::with("", "").await;
    stranger.ask(FORGED).await;
    assert_eq!(stranger.named(), None, "a socket has no address, and what it says is not passed on");
    let others = Neighbour::with("", "trusted_proxies: [127.0.0.0/8]").await;
    others.ask(FORGED).await;
    assert_eq!(others.named(), None, "it is none of these");
    let proxy = Neighbour::with("", "trusted_proxies: [\"unix:\"]").await;
    proxy.ask(FORGED).await;
    assert_eq!(proxy.named().as_deref(), Some("198.51.100.66"));
}

#[tokio::test]
async fn s45_a_neighbour_that_passes_bytes_on_says_whose_they_are() {
    let proxy = Neighbour::with(", proxy_protocol: any", "trusted_proxies: [\"unix:\"]").await;
    let (_client, answer) = proxy.ask(&[V1, FORGED].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(proxy.named().as_deref(), Some("203.0.113.9"), "and the client's own word does not count");
    let stranger = Neighbour::with(", proxy_protocol: any", "trusted_proxies: [10.0.0.0/8]").await;
    let mut client = stranger.client().await;
    let _ = client.write_all(&[V1, GET].concat()).await;
    assert_eq!(rest(&mut client).await, "");
    assert_eq!(stranger.backend.hits(), 0);
}

#[tokio::test]
async fn s32_strangers_behind_a_socket_share_what_one_client_gets() {
    let limits = "trusted_proxies: [\"unix:\"]\ncaps: {unpaid_per_client: 2 per 1h}";
    let proxy = Neighbour::with("", limits).await;
    let ask = async |client: &str| {
        let request = format!("GET /priced HTTP/1.1\r\nHost: api.test\r\nX-Forwarded-For: {client}\r\n\r\n");
        let (_client, answer) = proxy.ask(request.as_bytes()).await;
        answer["HTTP/1.1 ".len()..][..3].to_owned()
    };
    let mut heard = Vec::new();
    for client in ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"] {
        heard.push(ask(client).await);
    }
    assert_eq!(heard, ["402", "402", "429", "402"], "each of them is a client");
    let unnamed = b"GET /priced HTTP/1.1\r\nHost: api.test\r\n\r\n";
    let mut heard = Vec::new();
    for _ in 0..3 {
        let (_client, answer) = proxy.ask(unnamed).await;
        heard.push(answer["HTTP/1.1 ".len()..][..3].to_owned());
    }
    assert_eq!(heard, ["402", "402", "429"], "whoever is not named is one");
}
