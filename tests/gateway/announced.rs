//! Proxies that pass bytes on and say first whose they are: the PROXY protocol, by hand and by HAProxy.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::doors::{GET, House, head, rest};
use crate::tls::certify;
use crate::world::eventually;

const INSTALL: &str = "run `make test` once, or install Debian's haproxy";
const TRUSTED: &str = "trusted_proxies: [127.0.0.0/8, 10.0.0.0/8]";
pub const V1: &[u8] = b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n";
const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";
/// A request that says who it is from, which is for nobody to say.
pub const FORGED: &[u8] = b"GET /open HTTP/1.1\r\nHost: api.test\r\nX-Forwarded-For: 198.51.100.66\r\n\r\n";

/// A header of version 2 with this command and family.
fn v2(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("it is short");
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length.to_be_bytes(), content].concat()
}

/// Of this client, over TCP and IPv4, with these bytes of type, length and value.
fn v2_of(client: [u8; 4], more: &[u8]) -> Vec<u8> {
    v2(0x21, 0x11, &[&client[..], &[192, 0, 2, 1, 0x12, 0x67, 1, 0xbb], more].concat())
}

/// Sends these bytes in one piece and returns the connection with the head of the answer.
async fn ask(house: &House, bytes: &[u8]) -> (TcpStream, String) {
    let mut client = house.client().await;
    client.write_all(bytes).await.expect("it is open");
    let answer = head(&mut client).await;
    (client, answer)
}

/// Whose request the backend was last told that it is.
fn named(house: &House) -> String {
    house.backend.last().field("x-forwarded-for").expect("somebody is named").to_owned()
}

#[tokio::test]
async fn s45_a_proxy_says_whose_connection_it_is() {
    let house = House::with("proxy_protocol: any", TRUSTED).await;
    let later = v2_of([203, 0, 113, 9], b"\x03\0\x04abcd\x20\0\x05\x01\0\0\0\0");
    for header in [V1, &later] {
        let (mut client, answer) = ask(&house, &[header, FORGED].concat()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(named(&house), "203.0.113.9", "and the client's own word does not count");
        client.write_all(FORGED).await.expect("it stays open");
        head(&mut client).await;
        assert_eq!(named(&house), "203.0.113.9", "as long as it is open");
    }
    // A proxy of ours in front of the one that passes bytes on: its word counts.
    let (_client, _) = ask(&house, &[&v2_of([10, 0, 0, 5], b""), FORGED].concat()).await;
    assert_eq!(named(&house), "198.51.100.66, 10.0.0.5");
}

#[tokio::test]
async fn a_header_may_come_in_pieces() {
    let house = House::with("proxy_protocol: any", TRUSTED).await;
    for header in [V1, &v2_of([203, 0, 113, 9], b"")] {
        let mut client = house.client().await;
        client.set_nodelay(true).expect("it is open");
        for piece in [header, GET].concat().chunks(3) {
            client.write_all(piece).await.expect("it is waited for");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert!(head(&mut client).await.starts_with("HTTP/1.1 200 "));
        assert_eq!(named(&house), "203.0.113.9");
    }
}

#[tokio::test]
async fn s45_whose_client_nobody_knows_speaks_for_no_other() {
    let house = House::with("proxy_protocol: any", TRUSTED).await;
    for header in [UNKNOWN, &v2(0x20, 0, b""), &v2(0x21, 0x31, &[0; 216])] {
        let (_client, answer) = ask(&house, &[header, FORGED].concat()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(named(&house), "127.0.0.1", "it is the proxy's own");
    }
}

#[tokio::test]
async fn s45_without_its_header_nothing_is_heard() {
    let house = House::with("proxy_protocol: v2, timeouts: {head: 300ms}", TRUSTED).await;
    let whole = v2_of([203, 0, 113, 9], b"");
    let endless = v2_of([203, 0, 113, 9], &[0; 60_000]);
    let wrong = [
        GET.to_vec(),
        [V1, GET].concat(),
        [&v2_of([203, 0, 113, 9], b"")[1..], GET].concat(),
        [&v2(0x21, 0x11, &[1, 2, 3]), GET].concat(),
        endless,
        // Never finished: cut when its time is over.
        whole[..20].to_vec(),
    ];
    for bytes in &wrong {
        let mut client = house.client().await;
        let _ = client.write_all(bytes).await;
        assert_eq!(rest(&mut client).await, "", "{:?}", &bytes[..bytes.len().min(60)]);
    }
    assert_eq!(house.closed("proxy_header"), wrong.len() as u64);
    assert_eq!(house.backend.hits(), 0);
    ask(&house, &[&whole, GET].concat()).await;
    assert_eq!(house.backend.hits(), 1);
}

#[tokio::test]
async fn s45_a_stranger_is_not_heard_whatever_he_says() {
    let house = House::with("proxy_protocol: any", "trusted_proxies: [10.0.0.0/8]").await;
    let mut client = house.client().await;
    let _ = client.write_all(&[V1, GET].concat()).await;
    assert_eq!(rest(&mut client).await, "");
    assert_eq!(house.closed("proxy_header"), 1);
    assert_eq!(house.backend.hits(), 0);
}

#[tokio::test]
async fn s56_connections_are_counted_as_those_of_whom_the_proxy_names() {
    let more = format!("{TRUSTED}\ncaps: {{connections_per_client: 1}}");
    let house = House::with("proxy_protocol: any", &more).await;
    let (_first, answer) = ask(&house, &[V1, GET].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "));
    let mut second = house.client().await;
    let _ = second.write_all(&[&v2_of([203, 0, 113, 9], b""), GET].concat()).await;
    assert_eq!(rest(&mut second).await, "");
    assert_eq!(house.closed("too_many"), 1);
    let (_other, answer) = ask(&house, &[&v2_of([203, 0, 113, 10], b""), GET].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "));
    let (_own, _) = ask(&house, &[UNKNOWN, GET].concat()).await;
    let (_too, answer) = ask(&house, &[UNKNOWN, GET].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "the proxy's own are not counted");
}

/// HAProxy, passing bytes on from a port of its own; stopped when dropped.
struct HaProxy {
    process: Child,
    address: SocketAddr,
    _home: TempDir,
}

impl HaProxy {
    /// In front of this address, to which it says whose bytes they are in this way.
    fn start(gateway: SocketAddr, send: &str) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let settings = home.path().join("haproxy.cfg");
        let text = format!(
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 20s\n  timeout server 20s\n\
             listen door\n  bind fd@0\n  server gateway {gateway} {send}\n"
        );
        std::fs::write(&settings, text).expect("the folder is ours");
        // It cannot say which free port it took, so it is given one that is listened at.
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let program = if Path::new("/usr/sbin/haproxy").exists() { "/usr/sbin/haproxy" } else { "haproxy" };
        // Told to be quiet, it would close that.
        let started = Command::new(program)
            .args(["-db", "-f"])
            .arg(&settings)
            .stdin(OwnedFd::from(listener))
            .stdout(Stdio::null())
            .spawn();
        let process = started.unwrap_or_else(|error| panic!("HAProxy does not start ({error}): {INSTALL}"));
        Self { process, address, _home: home }
    }

    /// What curl is answered that asks from another address than HAProxy's.
    async fn curl(&self, scheme: &str, arguments: &[&str]) -> String {
        let mut command = Command::new("curl");
        command.args(["-sk", "--max-time", "20", "--interface", "127.0.0.2", "-H", "X-Forwarded-For: 198.51.100.66"]);
        command.args(["-w", "%{http_code} %{http_version}", "-o", "/dev/null"]).args(arguments);
        command.arg(format!("{scheme}://{}/open", self.address)).stdin(Stdio::null());
        let ran = tokio::task::spawn_blocking(move || command.output()).await.expect("it ends");
        String::from_utf8_lossy(&ran.expect("curl is installed").stdout).into_owned()
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn s45_haproxy_says_whose_connection_it_is_in_either_version() {
    for (accepted, send) in [("v1", "send-proxy"), ("v2", "send-proxy-v2 proxy-v2-options unique-id,crc32c")] {
        let house = House::with(&format!("proxy_protocol: {accepted}"), "trusted_proxies: [127.0.0.1]").await;
        let haproxy = HaProxy::start(house.gateway.address(), send);
        assert_eq!(haproxy.curl("http", &[]).await, "200 1.1", "{send}");
        assert_eq!(named(&house), "127.0.0.2", "{send}");
    }
}

#[tokio::test]
async fn s45_it_says_so_before_tls_and_http2() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    certify(folder.path(), "own", "api.test");
    let place = folder.path().display();
    let tls = format!("tls: {{cert: {{file: \"{place}/own.crt\"}}, key: {{file: \"{place}/own.key\"}}}}");
    let house = House::with(&format!("proxy_protocol: any, {tls}"), "trusted_proxies: [127.0.0.1]").await;
    let haproxy = HaProxy::start(house.gateway.address(), "send-proxy-v2");
    for (version, answer) in [("--http1.1", "200 1.1"), ("--http2", "200 2")] {
        assert_eq!(haproxy.curl("https", &[version]).await, answer);
        assert_eq!(named(&house), "127.0.0.2", "{version}");
        assert_eq!(house.backend.last().field("x-forwarded-proto"), Some("https"));
    }
    // Without the header, there is no handshake either.
    let mut client = house.client().await;
    let _ = client.write_all(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03").await;
    assert_eq!(rest(&mut client).await, "");
    eventually("it is counted", || house.closed("proxy_header") == 1).await;
}
