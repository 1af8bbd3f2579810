//! Debian's nginx as a backend, once with merged slashes and once without.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::toy::{OPEN, PRICED};

const INSTALL: &str = "run `make unit` once, or install Debian's nginx-light";
const PATIENCE: Duration = Duration::from_secs(20);

/// Looks after one server. Its standard input ends with this process, however that ends; then it stops the server and
/// leaves nothing behind.
const KEEPER: &str = r#"
"$1" -p "$2" -c "$2/nginx.conf" 2>/dev/null &
read -r _
kill $!
wait
rm -rf "$2"
"#;

/// A running nginx; gone, with its folder, when dropped.
pub struct Nginx {
    keeper: Child,
    home: PathBuf,
    addresses: [SocketAddr; 2],
}

impl Nginx {
    /// # Panics
    /// When nginx is not installed, with words on how to install it.
    pub fn start() -> Self {
        let program = ["/usr/sbin/nginx", "/usr/local/sbin/nginx"].into_iter().find(|place| Path::new(place).exists());
        let program = program.unwrap_or_else(|| panic!("{INSTALL}"));
        let home = tempfile::tempdir().expect("a folder can be made").keep();
        let addresses = free_addresses();
        let servers: String = addresses.iter().zip(["on", "off"]).map(|(at, merge)| server(*at, merge)).collect();
        let configuration = format!(
            "daemon off; master_process off; pid {home}/pid; error_log {home}/log;\nevents {{}}\nhttp {{\n\
             access_log off; client_body_temp_path {home}/a; proxy_temp_path {home}/b; fastcgi_temp_path {home}/c;\n\
             uwsgi_temp_path {home}/d; scgi_temp_path {home}/e;\n{servers}}}\n",
            home = home.display()
        );
        fs::write(home.join("nginx.conf"), configuration).expect("a file can be written");
        let keeper =
            Command::new("sh").args(["-c", KEEPER, "keeper", program]).arg(&home).stdin(Stdio::piped()).spawn();
        let nginx = Self { keeper: keeper.expect("there is a shell"), home, addresses };
        nginx.wait();
        nginx
    }

    pub fn addresses(&self) -> [SocketAddr; 2] {
        self.addresses
    }

    fn wait(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.addresses.iter().any(|address| TcpStream::connect(address).is_err()) {
            let log = fs::read_to_string(self.home.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "nginx does not listen: {log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // If it cannot be waited for, it has ended.
        let _ = self.keeper.wait();
    }
}

fn server(address: SocketAddr, merge: &str) -> String {
    let places = ["= /secret", "= /secret/", "^~ /v1/reports/", "= /Big/Report", "^~ /closed"];
    let priced: String =
        places.iter().map(|place| format!("location {place} {{ return 200 \"{PRICED}\"; }}\n")).collect();
    format!("server {{ listen {address}; merge_slashes {merge};\n{priced}location / {{ return 200 \"{OPEN}\"; }} }}\n")
}

/// Ports that were free a moment ago: nginx has no way to say which ones it was given.
fn free_addresses() -> [SocketAddr; 2] {
    let listen = || TcpListener::bind(("127.0.0.1", 0)).expect("loopback has free ports");
    [listen(), listen()].map(|listener| listener.local_addr().expect("a bound listener has an address"))
}
