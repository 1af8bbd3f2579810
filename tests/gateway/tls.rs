//! Doors with TLS and HTTP/2: what clients are shown, and that paying is the same there.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Certificate, Client, Version};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tollhouse::primitives::{Clock, SystemClock};
use tollhouse::testing::facilitator::Behaviour;
use tollhouse::testing::{Backend, Gateway, Latch, ScriptedFacilitator, Wallet};

use crate::world::{File, Payment, eventually};

const ROUTES: &str = "GET /weather: $0.01\nGET /free: free\nPOST /free: free\n\
                      POST /job: {price: $0.01, settle: before_forward}";
const PATIENCE: Duration = Duration::from_secs(20);

struct House {
    gateway: Gateway,
    facilitator: ScriptedFacilitator,
    backend: Backend,
    folder: TempDir,
}

impl House {
    /// With this listener, in which `FOLDER` stands for where the certificates `one` and `two` are.
    async fn with(listener: &str) -> Self {
        // As the gateway does, so that the clients of a test have somebody who encrypts for them.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (facilitator, backend) = (ScriptedFacilitator::start().await, Backend::start().await);
        let folder = tempfile::tempdir().expect("a folder for the test");
        certify(folder.path(), "one", "one.test");
        certify(folder.path(), "two", "*.two.test");
        let listener = listener.replace("FOLDER", &folder.path().display().to_string());
        let text = File::selling(ROUTES).text(&facilitator, &backend.url());
        let text = text.replace("listen: 127.0.0.1:0", &format!("listen: [{{address: \"127.0.0.1:0\", {listener}}}]"));
        let gateway = Gateway::start(&text, Arc::new(SystemClock)).await;
        Self { gateway, facilitator, backend, folder }
    }

    fn address(&self) -> SocketAddr {
        self.gateway.address()
    }

    fn certificate(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.crt"))
    }

    /// A client that trusts this certificate and nothing else.
    fn client(&self, trusted: &str) -> reqwest::ClientBuilder {
        let pem = std::fs::read(self.certificate(trusted)).expect("it was written");
        let builder = Client::builder().tls_certs_only([Certificate::from_pem(&pem).expect("it is one")]);
        ["one.test", "a.two.test"].into_iter().fold(builder, |builder, host| builder.resolve(host, self.address()))
    }

    fn url(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.address().port())
    }

    /// What `openssl s_client` says of the door.
    async fn openssl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &self.address().to_string()]).args(arguments);
        said(command).await
    }
}

/// Runs a program beside the gateway, which lives in this process.
async fn said(mut command: Command) -> String {
    command.stdin(Stdio::null());
    let ran = tokio::task::spawn_blocking(move || command.output());
    let ran = ran.await.expect("it ends").expect("it is installed");
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

/// What curl says of how it was answered: status and version.
async fn curl(arguments: &[&str], url: &str) -> String {
    let mut command = Command::new("curl");
    command.args(["-s", "-o", "/dev/null", "-w", "%{http_code} %{http_version}"]).args(arguments).arg(url);
    said(command).await
}

pub fn certify(folder: &Path, name: &str, host: &str) {
    use std::os::unix::fs::PermissionsExt;
    let made = rcgen::generate_simple_self_signed(vec![host.to_owned()]).expect("a host is a name");
    let key = folder.join(format!("{name}.key"));
    std::fs::write(folder.join(format!("{name}.crt")), made.cert.pem()).expect("the folder is ours");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("the folder is ours");
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).expect("the file is ours");
}

const ONE: &str = "tls: {cert: {file: FOLDER/one.crt}, key: {file: FOLDER/one.key}}";
const BOTH: &str = "tls: {certificates: [{cert: {file: FOLDER/one.crt}, key: {file: FOLDER/one.key}}, \
                    {cert: {file: FOLDER/two.crt}, key: {file: FOLDER/two.key}}]}";

#[tokio::test]
async fn a_client_is_shown_the_certificate_of_the_host_it_names() {
    let house = House::with(BOTH).await;
    for (trusted, host) in [("one", "one.test"), ("two", "a.two.test")] {
        let client = house.client(trusted).build().expect("a client");
        let answer = client.get(house.url(host, "/free")).send().await.expect("it is trusted");
        assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
    }
    let wrong = house.client("two").build().expect("a client").get(house.url("one.test", "/free")).send().await;
    assert!(wrong.is_err(), "that is not the certificate of two");
}

#[tokio::test]
async fn one_port_speaks_both_versions_of_http() {
    let house = House::with(ONE).await;
    let old = house.client("one").http1_only().build().expect("a client");
    let answer = old.get(house.url("one.test", "/free")).send().await.expect("it answers");
    assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_11));
    let shown = house.openssl(&["-alpn", "h2", "-servername", "one.test"]).await;
    assert!(shown.contains("ALPN protocol: h2"), "{shown}");
}

#[tokio::test]
async fn an_old_version_of_tls_is_served_only_where_it_may_be() {
    for (least, served) in [("1.2", true), ("1.3", false)] {
        let listener = ONE.replace("one.key}}", &format!("one.key}}, min_version: \"{least}\"}}"));
        let house = House::with(&listener).await;
        let shown = house.openssl(&["-tls1_2", "-servername", "one.test"]).await;
        assert_eq!(shown.contains("Cipher    : ECDHE"), served, "{shown}");
    }
}

#[tokio::test]
async fn a_payment_over_http2_is_a_payment() {
    let house = House::with(ONE).await;
    let client = house.client("one").build().expect("a client");
    let url = house.url("one.test", "/weather");
    let challenge = client.get(&url).send().await.expect("it answers");
    assert_eq!((challenge.status().as_u16(), challenge.version()), (402, Version::HTTP_2));
    let fields = challenge.headers().clone();
    let body = challenge.bytes().await.expect("a whole body");
    let now = SystemClock.now();
    let payment: Payment = Wallet::random().pay(&fields, &body, now).expect("the offer can be paid");
    let pay = || client.get(&url).header(&payment.0, &payment.1);

    let twice = pay().header(&payment.0, &payment.1).send().await.expect("it answers");
    assert_eq!(twice.status().as_u16(), 400, "S54 holds for HTTP/2");
    assert_eq!((house.facilitator.settlements(), house.backend.hits()), (0, 0));

    let paid = pay().send().await.expect("it answers");
    assert_eq!(paid.status().as_u16(), 200);
    assert!(paid.headers().contains_key("payment-response"));
    let again = pay().send().await.expect("it answers");
    assert_eq!(again.status().as_u16(), 409, "it is spent");
    assert_eq!((house.facilitator.settlements(), house.backend.hits()), (1, 1));
    assert!(house.backend.last().field("payment-signature").is_none());
    assert!(house.backend.last().field("tollhouse-payer").is_some());
}

#[tokio::test]
async fn i4_whoever_gives_a_stream_up_and_signs_again_is_not_charged_again() {
    for elsewhere in [false, true] {
        gives_up_and_signs_again(elsewhere).await;
    }
}

/// On the same connection, or on another one.
async fn gives_up_and_signs_again(elsewhere: bool) {
    let house = House::with(ONE).await;
    let client = house.client("one").build().expect("a client");
    let other = if elsewhere { house.client("one").build().expect("a client") } else { client.clone() };
    let url = house.url("one.test", "/weather");
    let (wallet, settling) = (Wallet::random(), Latch::closed());
    house.facilitator.on_settle([Behaviour::HonestWhen(settling.clone())]);
    let challenge = client.get(&url).send().await.expect("it answers");
    let (fields, body) = (challenge.headers().clone(), challenge.bytes().await.expect("a whole body"));
    let sign = || wallet.pay(&fields, &body, SystemClock.now()).expect("the offer can be paid");
    let (first, second): (Payment, Payment) = (sign(), sign());
    let pay = |payment: &Payment| other.get(&url).header(&payment.0, &payment.1).send();

    let waiting = tokio::spawn(client.get(&url).header(&first.0, &first.1).send());
    eventually("settlement was asked for", || house.facilitator.count("/settle") == 1).await;
    // Resets the stream; the connection stays.
    waiting.abort();
    // Nobody can say when the gateway hears of it.
    tokio::time::sleep(Duration::from_millis(if elsewhere { 300 } else { 0 })).await;
    let told = pay(&second).await.expect("it answers");
    assert_eq!(told.status().as_u16(), 503, "the first may still be charged");
    settling.open();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = pay(&second).await.expect("it answers");
        if answer.status().as_u16() == 200 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "still {}", answer.status());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(house.facilitator.settlements(), 1, "the second was taken");
}

#[tokio::test]
async fn requests_of_http2_are_held_to_the_same_bounds() {
    let house = House::with(ONE).await;
    let client = house.client("one").build().expect("a client");
    let get = |path: &str| client.get(house.url("one.test", path));
    let many = (0..120).fold(get("/free"), |request, at| request.header(format!("x-{at}"), "y"));
    assert_eq!(many.send().await.expect("it answers").status().as_u16(), 431);
    for (path, status) in [("/free%2Fweather", 400), ("/free//weather", 400), ("/unlisted", 404)] {
        assert_eq!(get(path).send().await.expect("it answers").status().as_u16(), status, "{path}");
    }
    let forged = get("/free").header("tollhouse-payer", "0x1").header("x-original-url", "/weather");
    assert_eq!(forged.send().await.expect("it answers").status().as_u16(), 200);
    assert_eq!(house.backend.hits(), 1);
    let seen = house.backend.last();
    assert!(seen.field("tollhouse-payer").is_none() && seen.field("x-original-url").is_none());
    let large = client.post(house.url("one.test", "/free")).body(vec![b'.'; (1 << 20) + 1]).send().await;
    assert!(large.is_err() || large.is_ok_and(|answer| answer.status().as_u16() == 413));
}

/// The status of an answer over HTTP/2 to exactly this request.
async fn stream(house: &House, request: http::request::Builder) -> u16 {
    let socket = TcpStream::connect(house.address()).await.expect("it listens");
    let (mut client, connection) = h2::client::handshake(socket).await.expect("it speaks HTTP/2");
    let connection = tokio::spawn(connection);
    let request = request.body(()).expect("a request");
    let (answer, _) = client.send_request(request, true).expect("it is sent");
    let status = answer.await.expect("it answers").status().as_u16();
    connection.abort();
    status
}

/// Nobody knows how large it is before it has come, and HTTP/2 has no field that says so.
#[tokio::test]
async fn nobody_pays_in_advance_for_a_stream_of_unknown_length() {
    let house = House::with("h2c: true").await;
    let url = format!("http://{}/job", house.address());
    let client = Client::builder().http2_prior_knowledge().build().expect("a client");
    let challenge = client.post(&url).body("x").send().await.expect("it answers");
    assert_eq!(challenge.status().as_u16(), 402);
    let fields = challenge.headers().clone();
    let body = challenge.bytes().await.expect("a whole body");
    let payment: Payment = Wallet::random().pay(&fields, &body, SystemClock.now()).expect("the offer can be paid");

    let socket = TcpStream::connect(house.address()).await.expect("it listens");
    let (mut tongue, connection) = h2::client::handshake(socket).await.expect("it speaks HTTP/2");
    let connection = tokio::spawn(connection);
    let request = http::Request::post(&url).header(&payment.0, &payment.1).body(()).expect("a request");
    let (answer, mut sending) = tongue.send_request(request, false).expect("it is sent");
    sending.send_data("x".into(), true).expect("it is sent");
    assert_eq!(answer.await.expect("it answers").status().as_u16(), 411);
    connection.abort();
    assert_eq!((house.facilitator.settlements(), house.backend.hits()), (0, 0));

    let paid = client.post(&url).header(&payment.0, &payment.1).body("x").send().await.expect("it answers");
    assert_eq!(paid.status().as_u16(), 200, "the payment is as good as before");
}

#[tokio::test]
async fn s38_s41_http2_names_one_host_and_one_path() {
    let house = House::with("h2c: true").await;
    let get = |path: &str| http::Request::get(format!("http://one.test{path}"));
    assert_eq!(stream(&house, get("/free")).await, 200);
    assert_eq!(stream(&house, get("/free").header("host", "one.test")).await, 200);
    assert_eq!(stream(&house, get("/free").header("host", "two.test")).await, 400);
    assert_eq!(stream(&house, get("/free").header("host", "one.test").header("host", "two.test")).await, 400);
    assert_eq!(house.backend.hits(), 2);
    for (path, status) in [("//free", 400), ("/free/../weather", 400), ("/free/%2e%2e/weather", 400), ("/weather", 402)]
    {
        assert_eq!(stream(&house, get(path)).await, status, "{path}");
    }
    let small = http::Request::builder().method("get").uri("http://one.test/weather");
    assert_ne!(stream(&house, small).await, 200, "S39");
    assert_eq!(house.backend.hits(), 2);
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_within_seconds_and_nobody_is_cut_off() {
    let house = House::with(ONE).await;
    let connected = house.client("one").build().expect("a client");
    let ask = || connected.get(house.url("one.test", "/free")).send();
    assert_eq!(ask().await.expect("it answers").status().as_u16(), 200);
    certify(house.folder.path(), "one", "one.test");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        // Trusts the new one alone, and connects anew each time.
        let fresh = house.client("one").build().expect("a client");
        if fresh.get(house.url("one.test", "/free")).send().await.is_ok() {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "the new certificate is never shown");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(ask().await.expect("the connection is still good").status().as_u16(), 200);
    assert!(house.gateway.metrics().contains("tollhouse_certificate_renewals_total{result=\"ok\"} 1"));
}

#[tokio::test]
async fn http2_without_tls_is_spoken_where_it_is_allowed() {
    for (listener, spoken) in [("h2c: true", true), ("h2c: false", false)] {
        let house = House::with(listener).await;
        let url = format!("http://{}/free", house.address());
        assert_eq!(curl(&["--http2-prior-knowledge"], &url).await == "200 2", spoken);
        assert_eq!(curl(&[], &url).await, "200 1.1");
    }
}
