//! A backend that others wrote: nginx, over HTTP/1.1 and HTTP/2, in plaintext and over TLS.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tollhouse::testing::Gateway;
use tollhouse::testing::client::Request;

use crate::world::{File, World, assert_paid, eventually};

const INSTALL: &str = "run `make test` once, or install Debian's nginx-light";

/// Every server says which protocol it was spoken to in, under which name, and by whom.
const SETTINGS: &str = "
daemon off; master_process off; pid HOME/pid; error_log HOME/log;
events { worker_connections 64; }
http {
    access_log off; default_type text/plain;
    client_body_temp_path HOME/t1; proxy_temp_path HOME/t2; fastcgi_temp_path HOME/t3;
    uwsgi_temp_path HOME/t4; scgi_temp_path HOME/t5;
    server { listen unix:HOME/plain.sock; location / { return 200 '$server_protocol $host'; } }
    server { listen unix:HOME/h2c.sock http2; location / { return 200 '$server_protocol $host'; } }
    server {
        listen unix:HOME/tls.sock ssl http2;
        ssl_certificate HOME/server.crt; ssl_certificate_key HOME/server.key;
        location / { return 200 '$server_protocol $ssl_server_name'; }
    }
    server {
        listen unix:HOME/mutual.sock ssl;
        ssl_certificate HOME/server.crt; ssl_certificate_key HOME/server.key;
        ssl_client_certificate HOME/ca.crt; ssl_verify_client on;
        location / { return 200 '$ssl_client_s_dn'; }
    }
}
";

/// nginx on sockets of its own; stopped when dropped.
struct Nginx {
    process: Child,
    home: TempDir,
}

impl Nginx {
    async fn start() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        certificates(home.path());
        let settings = home.path().join("nginx.conf");
        let text = SETTINGS.replace("HOME", &home.path().display().to_string());
        fs::write(&settings, text).expect("the folder is ours");
        let program = if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
        let mut command = Command::new(program);
        command.arg("-e").arg(home.path().join("log")).arg("-p").arg(home.path()).arg("-c").arg(&settings);
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn();
        let process = started.unwrap_or_else(|error| panic!("nginx does not start ({error}): {INSTALL}"));
        let nginx = Self { process, home };
        eventually("nginx listens", || nginx.path("mutual.sock").exists()).await;
        nginx
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A port that leads to one of its sockets: nginx cannot say which free port it took.
    async fn port(&self, socket: &str) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
        let (address, path) = (listener.local_addr().expect("it is bound"), self.path(socket));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(pipe(near, path.clone()));
            }
        });
        address
    }
}

async fn pipe(mut near: TcpStream, path: PathBuf) {
    let Ok(mut far) = UnixStream::connect(path).await else { return };
    // Either side may hang up at any time.
    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An authority with a server and a client, and another authority that vouches for neither.
fn certificates(folder: &Path) {
    let write = |name: &str, text: String| {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.join(name);
        fs::write(&path, text).expect("the folder is ours");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("the file is ours");
    };
    let authority = || {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
    };
    let ours = authority();
    for (name, dns) in [("server", vec!["backend.internal".to_owned()]), ("client", Vec::new())] {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(dns).expect("plain names");
        params.distinguished_name.push(DnType::CommonName, format!("tollhouse {name}"));
        let certificate = params.signed_by(&key, &ours).expect("a certificate");
        write(&format!("{name}.crt"), certificate.pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
    write("ca.crt", ours.pem());
    write("stranger.crt", authority().pem());
}

/// A gateway before this target, on these terms.
async fn gateway(world: &World, target: &str, terms: &str) -> Gateway {
    let mut file = File::selling("GET /weather: $0.01\nGET /free: free");
    file.upstream = terms.to_owned();
    Gateway::start(&file.text(&world.facilitator, target), Arc::new(world.clock.clone())).await
}

/// What nginx said to a free request and to a paid one, or the status of both.
async fn said(world: &World, target: &str, terms: &str) -> Result<String, u16> {
    let gateway = gateway(world, target, terms).await;
    let free = gateway.ask(&Request::get("/free")).await;
    let request = Request::get("/weather");
    let challenge = gateway.ask(&request).await;
    let now = tollhouse::primitives::Clock::now(&world.clock);
    let payment = world.wallet.pay(&challenge.fields, &challenge.body, now).expect("an offer");
    let paid = gateway.ask(&request.paying(&payment)).await;
    assert_eq!(free.status, paid.status);
    if free.status != 200 {
        assert_eq!(gateway.entries().await[0].state.name(), "released", "nobody pays for it");
        return Err(free.status);
    }
    assert_paid(&paid);
    assert_eq!(free.text(), paid.text());
    Ok(free.text())
}

#[tokio::test]
async fn nginx_is_spoken_to_in_every_way() {
    let (world, nginx) = (World::selling("GET /weather: $0.01").await, Nginx::start().await);
    let socket = |name: &str| format!("unix:{}", nginx.path(name).display());
    let ca = nginx.path("ca.crt");
    let tls = format!("https://{}", nginx.port("tls.sock").await);
    let trusted = format!(", tls: {{ca: {{file: {}}}, server_name: backend.internal}}", ca.display());
    for (target, terms, expected) in [
        (socket("plain.sock"), String::new(), "HTTP/1.1 api.test"),
        (socket("h2c.sock"), ", http2: true".to_owned(), "HTTP/2.0 api.test"),
        (socket("h2c.sock"), ", http2: true, host: api.internal".to_owned(), "HTTP/2.0 api.internal"),
        (tls.clone(), trusted.clone(), "HTTP/1.1 backend.internal"),
        (tls.clone(), format!("{trusted}, http2: true"), "HTTP/2.0 backend.internal"),
    ] {
        assert_eq!(said(&world, &target, &terms).await.as_deref(), Ok(expected), "{target} {terms}");
    }
}

#[tokio::test]
async fn a_backend_that_cannot_prove_who_it_is_gets_no_request() {
    let (world, nginx) = (World::selling("GET /weather: $0.01").await, Nginx::start().await);
    let target = format!("https://{}", nginx.port("tls.sock").await);
    let file = |name: &str| format!("{{file: {}}}", nginx.path(name).display());
    let (ours, stranger) = (file("ca.crt"), file("stranger.crt"));
    for terms in [
        String::new(),
        format!(", tls: {{ca: {ours}}}"),
        format!(", tls: {{ca: {ours}, server_name: other.internal}}"),
        format!(", tls: {{ca: {stranger}, server_name: backend.internal}}"),
    ] {
        assert_eq!(said(&world, &target, &terms).await, Err(502), "{terms}");
    }
    assert!(said(&world, &target, ", tls: {verify: false}").await.is_ok(), "it was asked for");
    assert_eq!(world.facilitator.settlements(), 1);
}

#[tokio::test]
async fn a_backend_that_asks_who_we_are_hears_it() {
    let (world, nginx) = (World::selling("GET /weather: $0.01").await, Nginx::start().await);
    let target = format!("https://{}", nginx.port("mutual.sock").await);
    let file = |name: &str| format!("{{file: {}}}", nginx.path(name).display());
    let trusted = format!("ca: {}, server_name: backend.internal", file("ca.crt"));
    let nobody = said(&world, &target, &format!(", tls: {{{trusted}}}")).await;
    assert_eq!(nobody, Err(400), "nginx says that it wants a certificate");
    let known = format!(", tls: {{{trusted}, cert: {}, key: {}}}", file("client.crt"), file("client.key"));
    let heard = said(&world, &target, &known).await.expect("the certificate is good");
    assert!(heard.contains("CN=tollhouse client"), "{heard}");
}

#[tokio::test]
async fn an_authority_that_is_replaced_on_disk_counts_from_the_next_reload_on() {
    let (world, nginx) = (World::selling("GET /weather: $0.01").await, Nginx::start().await);
    let (target, trusted) = (format!("https://{}", nginx.port("tls.sock").await), nginx.path("trusted.crt"));
    let mut file = File::selling("GET /free: free");
    file.upstream = format!(", tls: {{server_name: backend.internal, ca: {{file: {}}}}}", trusted.display());
    let text = file.text(&world.facilitator, &target);
    fs::copy(nginx.path("ca.crt"), &trusted).expect("the folder is ours");
    let mut gateway = Gateway::start(&text, Arc::new(world.clock.clone())).await;
    for (authority, status) in [("ca.crt", 200), ("stranger.crt", 502), ("ca.crt", 200)] {
        fs::copy(nginx.path(authority), &trusted).expect("the folder is ours");
        gateway.reload(&text).await.expect("the file is right");
        assert_eq!(gateway.ask(&Request::get("/free")).await.status, status, "{authority}");
    }
}

/// Connections are pooled; one that was made without a look at the certificate must not serve whoever demands one.
#[tokio::test]
async fn a_connection_that_was_made_on_laxer_terms_is_not_shared() {
    let (world, nginx) = (World::selling("GET /weather: $0.01").await, Nginx::start().await);
    let target = format!("https://{}", nginx.port("tls.sock").await);
    for http2 in ["", ", http2: true"] {
        let mut file = File::selling("GET /lax: free\nGET /strict: {price: free, upstream: strict}");
        let strict = format!(
            "  strict: {{targets: [\"{target}\"]{http2}, tls: {{server_name: backend.internal, ca: {{file: {}}}}}}}",
            nginx.path("stranger.crt").display()
        );
        file.upstream = format!("{http2}, tls: {{verify: false, server_name: backend.internal}}");
        let text = file.text(&world.facilitator, &target);
        let text = text.replace("pay_to:", &format!("{strict}\npay_to:"));
        let gateway = Gateway::start(&text, Arc::new(world.clock.clone())).await;
        for _ in 0..3 {
            assert_eq!(gateway.ask(&Request::get("/lax")).await.status, 200);
            assert_eq!(gateway.ask(&Request::get("/strict")).await.status, 502);
        }
    }
}
