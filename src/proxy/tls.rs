//! Certificates that clients are shown: chosen by the host they name, and read anew when their files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora::listeners::tls::Acceptor;
use ring::digest;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};

/// TLS on a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Never empty. A client that names no host of any of them gets the first.
    pub certificates: Vec<Files>,
    /// Whether clients of TLS 1.2 are served, too.
    pub tls12: bool,
}

/// Where a certificate stands, and its key. Both are PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The certificate, and behind it those that vouch for it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why two files make no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One of them cannot be read.
    #[error("`{}` cannot be read", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// There is no certificate in it.
    #[error("`{}` holds no certificate in PEM", .0.display())]
    NoCertificate(PathBuf),
    /// There is no key in it.
    #[error("`{}` holds no private key in PEM", .0.display())]
    NoKey(PathBuf),
    /// The two do not belong together, or are of a kind that nobody can use.
    #[error("`{}` and its key do not fit", path.display())]
    Unfit {
        /// The certificate.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rustls::Error,
    },
}

impl Files {
    /// Reads them, and holds the one against the other.
    ///
    /// # Errors
    /// When they make no certificate.
    pub fn check(&self) -> Result<(), TlsError> {
        Named::of(self).map(drop)
    }
}

/// A certificate in use.
#[derive(Debug)]
struct Named {
    /// The hosts it is for, in small letters; `*.` in front stands for one label.
    names: Vec<String>,
    certified: Arc<CertifiedKey>,
    /// Of the files it was read from.
    digest: Vec<u8>,
}

impl Named {
    fn of(files: &Files) -> Result<Self, TlsError> {
        let (certificate, key) = (read(&files.certificate)?, read(&files.key)?);
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(&certificate).filter_map(Result::ok).collect();
        let Some(own) = chain.first() else { return Err(TlsError::NoCertificate(files.certificate.clone())) };
        let names = names(own);
        let signing = PrivateKeyDer::from_pem_slice(&key).map_err(|_| TlsError::NoKey(files.key.clone()))?;
        let unfit = |source| TlsError::Unfit { path: files.certificate.clone(), source };
        let certified = CertifiedKey::from_der(chain, signing, &default_provider()).map_err(unfit)?;
        let digest = digest_of(&certificate, &key);
        Ok(Self { names, certified: Arc::new(certified), digest })
    }

    /// Whether it is for this host, and how closely: exactly, or as one of many.
    fn is_for(&self, host: &str) -> Option<bool> {
        let above = host.split_once('.').map(|(_, above)| above);
        let exactly = self.names.iter().any(|name| name == host);
        let as_one = self.names.iter().any(|name| name.strip_prefix("*.").is_some_and(|rest| Some(rest) == above));
        (exactly || as_one).then_some(exactly)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })
}

fn digest_of(certificate: &[u8], key: &[u8]) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&(certificate.len() as u64).to_be_bytes());
    context.update(certificate);
    context.update(key);
    context.finish().as_ref().to_vec()
}

/// The hosts a certificate is for. One that cannot be looked into is for none, and may still be the first.
fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let own = webpki::EndEntityCert::try_from(certificate);
    own.map(|own| own.valid_dns_names().map(str::to_ascii_lowercase).collect()).unwrap_or_default()
}

/// The certificates of a listener.
#[derive(Debug)]
pub struct Certificates {
    files: Vec<Files>,
    shown: ArcSwap<Vec<Arc<Named>>>,
}

impl Certificates {
    /// Reads them.
    ///
    /// # Errors
    /// When one is none.
    pub fn read(files: &[Files]) -> Result<Self, TlsError> {
        let shown: Vec<_> = files.iter().map(|one| Named::of(one).map(Arc::new)).collect::<Result<_, _>>()?;
        Ok(Self { files: files.to_vec(), shown: ArcSwap::from_pointee(shown) })
    }

    /// Reads those anew that have changed. Who is connected stays so. Returns whether there was one.
    ///
    /// # Errors
    /// When one has become none: then all stay as they were. A certificate and its key are often written one after the
    /// other, so that is worth another look.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let before = self.shown.load_full();
        let mut now = Vec::with_capacity(before.len());
        for (files, shown) in self.files.iter().zip(before.iter()) {
            let unchanged = digest_of(&read(&files.certificate)?, &read(&files.key)?) == shown.digest;
            now.push(if unchanged { Arc::clone(shown) } else { Arc::new(Named::of(files)?) });
        }
        let changed = now.iter().zip(before.iter()).any(|(now, before)| !Arc::ptr_eq(now, before));
        if changed {
            self.shown.store(Arc::new(now));
        }
        Ok(changed)
    }

    /// Whoever shakes hands with clients and shows them these: HTTP/2 and HTTP/1.1 on the same port.
    ///
    /// # Errors
    /// When the versions of TLS do not go with what this process encrypts with.
    pub fn acceptor(self: &Arc<Self>, tls12: bool) -> Result<Acceptor, rustls::Error> {
        let versions: &[&rustls::SupportedProtocolVersion] =
            if tls12 { &[&version::TLS13, &version::TLS12] } else { &[&version::TLS13] };
        let builder =
            ServerConfig::builder_with_provider(Arc::new(default_provider())).with_protocol_versions(versions)?;
        let mut config =
            builder.with_no_client_auth().with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Acceptor::from_server_config(Arc::new(config)))
    }

    fn choose(&self, host: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let shown = self.shown.load();
        let host = host.map(str::to_ascii_lowercase).unwrap_or_default();
        let fits = |wanted: bool| shown.iter().find(|named| named.is_for(&host) == Some(wanted));
        let chosen = fits(true).or_else(|| fits(false)).or_else(|| shown.first())?;
        Some(Arc::clone(&chosen.certified))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate for these hosts, in a folder.
    fn write(folder: &Path, name: &str, hosts: &[&str]) -> Files {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(hosts).expect("hosts are names");
        let files = Files { certificate: folder.join(format!("{name}.crt")), key: folder.join(format!("{name}.key")) };
        std::fs::write(&files.certificate, made.cert.pem()).expect("the folder is ours");
        std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("the folder is ours");
        files
    }

    #[test]
    fn the_closest_name_wins_and_whoever_names_none_gets_the_first() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let folder = folder.path();
        let files = [
            write(folder, "first", &["first.test"]),
            write(folder, "many", &["*.api.test"]),
            write(folder, "one", &["one.api.test"]),
        ];
        let certificates = Certificates::read(&files).expect("they are certificates");
        let shown = certificates.shown.load_full();
        let at = |host: Option<&str>| {
            let chosen = certificates.choose(host).expect("there is always one");
            shown.iter().position(|named| Arc::ptr_eq(&named.certified, &chosen))
        };
        assert_eq!(at(Some("one.api.test")), Some(2));
        assert_eq!(at(Some("ONE.api.test")), Some(2));
        assert_eq!(at(Some("two.api.test")), Some(1));
        assert_eq!(at(Some("a.two.api.test")), Some(0), "a star is one label");
        assert_eq!(at(Some("api.test")), Some(0));
        assert_eq!(at(None), Some(0));
    }

    #[test]
    fn a_pair_that_does_not_fit_leaves_the_old_one_up() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let folder = folder.path();
        let files = write(folder, "own", &["own.test"]);
        let certificates = Certificates::read(std::slice::from_ref(&files)).expect("it is a certificate");
        assert!(!certificates.refresh().expect("nothing changed"));
        let before = certificates.choose(None).expect("there is one");
        let other = write(folder, "other", &["own.test"]);
        std::fs::copy(&other.certificate, &files.certificate).expect("the folder is ours");
        assert!(matches!(certificates.refresh(), Err(TlsError::Unfit { .. })));
        assert!(Arc::ptr_eq(&certificates.choose(None).expect("there is one"), &before));
        std::fs::copy(&other.key, &files.key).expect("the folder is ours");
        assert!(certificates.refresh().expect("they fit again"));
        assert!(!Arc::ptr_eq(&certificates.choose(None).expect("there is one"), &before));
    }

    #[test]
    fn what_is_no_certificate_is_said_to_be_none() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let files = write(folder.path(), "own", &["own.test"]);
        let swapped = Files { certificate: files.key.clone(), key: files.certificate.clone() };
        assert!(matches!(swapped.check(), Err(TlsError::NoCertificate(_))));
        let twice = Files { certificate: files.certificate.clone(), key: files.certificate.clone() };
        assert!(matches!(twice.check(), Err(TlsError::NoKey(_))));
        let nowhere = Files { certificate: folder.path().join("none"), key: files.key };
        assert!(matches!(nowhere.check(), Err(TlsError::Unreadable { .. })));
    }
}
