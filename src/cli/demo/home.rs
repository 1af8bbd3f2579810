//! Where the demo lives: a directory of its own with a gateway.yaml in it, gone when the demo ends.

use std::fs::{self, DirBuilder};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use alloy::primitives::hex;
use ring::rand::{SecureRandom, SystemRandom};

/// The directory and the file in it.
pub(super) struct Home {
    directory: PathBuf,
    file: PathBuf,
}

impl Home {
    /// Makes the directory, for this user alone, under a name that nobody can have taken.
    pub(super) fn new() -> io::Result<Self> {
        let mut name = [0; 8];
        SystemRandom::new().fill(&mut name).map_err(|_| io::Error::other("the system has no randomness to give"))?;
        let directory = std::env::temp_dir().join(format!("tollhouse-demo-{}", hex::encode(name)));
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&directory)?;
        let file = directory.join("gateway.yaml");
        Ok(Self { directory, file })
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    pub(super) fn read(&self) -> io::Result<String> {
        fs::read_to_string(&self.file)
    }

    /// Replaces the file at once, as editors do: nobody reads half of it.
    pub(super) fn write(&self, text: &str) -> io::Result<()> {
        let draft = self.directory.join(".gateway.yaml");
        fs::write(&draft, text)?;
        fs::rename(draft, &self.file)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // What cannot be removed now the system removes with the rest of its temporary files.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// An address of this machine with the wanted port, or when somebody has that and `else_any` allows, with any other.
pub(super) fn address(wanted: u16, else_any: bool) -> io::Result<SocketAddr> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|listener| listener.local_addr());
    match bind(wanted) {
        Err(_) if else_any => bind(0),
        found => found,
    }
}

/// The whole configuration: all that a seller needs to write.
pub(super) fn gateway_yaml(gateway: SocketAddr, status: SocketAddr, api: SocketAddr) -> String {
    let upstream = format!("upstream: http://{api}");
    format!(
        "\
version: 1
public_url: http://{gateway}
listen: {gateway}
status: {status}
{upstream:<34}# the sample API
pay_to: sandbox                   # play money
routes:
  GET /v1/weather: $0.01
  GET /v1/health: free
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn the_file_of_the_demo_is_valid_and_without_warnings() {
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let text = gateway_yaml(address(8402), address(9402), address(3000));
        let loaded = config::parse(&text, "gateway.yaml", Path::new("."), &|_| None);
        let report = loaded.report.render(config::Format::Human, false);
        assert!(loaded.config.is_some_and(|config| config.live.sandbox) && loaded.report.warnings() == 0, "{report}");
    }

    #[test]
    fn a_home_is_private_and_leaves_nothing_behind() {
        let home = Home::new().expect("a temporary directory");
        home.write("one").and_then(|()| home.write("two")).expect("it is ours");
        assert_eq!(home.read().expect("it is there"), "two");
        let directory = home.file().parent().expect("a directory").to_owned();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&directory).expect("it is there").permissions().mode() & 0o077, 0);
        }
        drop(home);
        assert!(!directory.exists());
    }
}
