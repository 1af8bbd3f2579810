//! Certificates that clients are shown: chosen by the host they name, and read anew when their files change.

use std::path::PathBuf;
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

use crate::primitives::Secret;
use crate::primitives::file::{FileError, read_bounded, read_secret};

/// No chain of certificates is longer.
const MOST_CHAIN_BYTES: u64 = 1 << 20;

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
        source: FileError,
    },
    /// There is no certificate in it.
    #[error("`{}` holds no certificate in PEM", .0.display())]
    NoCertificate(PathBuf),
    /// One of the certificates in it cannot be read.
    #[error("`{}` holds a certificate that cannot be read", .0.display())]
    Broken(PathBuf),
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
        Named::of(self, &self.read()?).map(drop)
    }

    /// The key is read as strictly as any other secret, also when it is renewed: else a start would refuse it.
    fn read(&self) -> Result<Pem, TlsError> {
        let unreadable = |path: &PathBuf, source| TlsError::Unreadable { path: path.clone(), source };
        let certificate = read_bounded(&self.certificate, MOST_CHAIN_BYTES);
        let certificate = certificate.map_err(|source| unreadable(&self.certificate, source))?;
        let key = read_secret(&self.key).map_err(|source| unreadable(&self.key, source))?;
        Ok(Pem { certificate, key })
    }
}

/// What stands in the files of a certificate.
struct Pem {
    certificate: Vec<u8>,
    key: Secret<String>,
}

impl Pem {
    fn digest(&self) -> Vec<u8> {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&(self.certificate.len() as u64).to_be_bytes());
        context.update(&self.certificate);
        context.update(self.key.expose().as_bytes());
        context.finish().as_ref().to_vec()
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
    fn of(files: &Files, pem: &Pem) -> Result<Self, TlsError> {
        let broken = || TlsError::Broken(files.certificate.clone());
        let chain = CertificateDer::pem_slice_iter(&pem.certificate).collect::<Result<Vec<_>, _>>();
        let chain: Vec<CertificateDer<'static>> = chain.map_err(|_| broken())?;
        let Some(own) = chain.first() else { return Err(TlsError::NoCertificate(files.certificate.clone())) };
        if chain.iter().any(|one| x509_parser::parse_x509_certificate(one).is_err()) {
            return Err(broken());
        }
        let names = names(own);
        let signing = PrivateKeyDer::from_pem_slice(pem.key.expose().as_bytes());
        let signing = signing.map_err(|_| TlsError::NoKey(files.key.clone()))?;
        let unfit = |source| TlsError::Unfit { path: files.certificate.clone(), source };
        let certified = CertifiedKey::from_der(chain, signing, &default_provider()).map_err(unfit)?;
        Ok(Self { names, certified: Arc::new(certified), digest: pem.digest() })
    }

    /// Whether it is for this host, and how closely: exactly, or as one of many.
    fn is_for(&self, host: &str) -> Option<bool> {
        let above = host.split_once('.').map(|(_, above)| above);
        let exactly = self.names.iter().any(|name| name == host);
        let as_one = self.names.iter().any(|name| name.strip_prefix("*.").is_some_and(|rest| Some(rest) == above));
        (exactly || as_one).then_some(exactly)
    }
}

/// The hosts a certificate is for. One that cannot be looked into is for none, and may still be the first.
fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let own = webpki::EndEntityCert::try_from(certificate);
    own.map(|own| own.valid_dns_names().map(str::to_ascii_lowercase).collect()).unwrap_or_default()
}

/// Whether what stands in the files is another certificate than the one that is shown, and now is.
fn look(files: &Files, shown: &mut Arc<Named>) -> Result<bool, TlsError> {
    let pem = files.read()?;
    if pem.digest() == shown.digest {
        return Ok(false);
    }
    *shown = Arc::new(Named::of(files, &pem)?);
    Ok(true)
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
        let shown: Vec<_> =
            files.iter().map(|one| Named::of(one, &one.read()?).map(Arc::new)).collect::<Result<_, _>>()?;
        Ok(Self { files: files.to_vec(), shown: ArcSwap::from_pointee(shown) })
    }

    /// Reads those anew that have changed. Who is connected stays so. Says of each, in their order, whether it had.
    ///
    /// One that has become none stays as it was, and keeps no other from being renewed. A certificate and its key are often
    /// written one after the other, so that is worth another look.
    pub fn refresh(&self) -> Vec<Result<bool, TlsError>> {
        let mut shown = Vec::clone(&self.shown.load());
        let looked: Vec<_> = self.files.iter().zip(&mut shown).map(|(files, shown)| look(files, shown)).collect();
        if looked.iter().any(|looked| matches!(looked, Ok(true))) {
            self.shown.store(Arc::new(shown));
        }
        looked
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
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    fn allow(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("the file is ours");
    }

    fn append(path: &Path, more: &[u8]) {
        let whole = [std::fs::read(path).expect("it was written"), more.to_vec()].concat();
        std::fs::write(path, whole).expect("the folder is ours");
    }

    /// A certificate for these hosts, in a folder.
    fn write(folder: &Path, name: &str, hosts: &[&str]) -> Files {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(hosts).expect("hosts are names");
        let files = Files { certificate: folder.join(format!("{name}.crt")), key: folder.join(format!("{name}.key")) };
        std::fs::write(&files.certificate, made.cert.pem()).expect("the folder is ours");
        std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("the folder is ours");
        allow(&files.certificate, 0o600);
        allow(&files.key, 0o600);
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
        assert!(matches!(certificates.refresh()[..], [Ok(false)]));
        let before = certificates.choose(None).expect("there is one");
        let other = write(folder, "other", &["own.test"]);
        std::fs::copy(&other.certificate, &files.certificate).expect("the folder is ours");
        assert!(matches!(certificates.refresh()[..], [Err(TlsError::Unfit { .. })]));
        assert!(Arc::ptr_eq(&certificates.choose(None).expect("there is one"), &before));
        std::fs::copy(&other.key, &files.key).expect("the folder is ours");
        assert!(matches!(certificates.refresh()[..], [Ok(true)]));
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

    #[test]
    fn one_broken_certificate_keeps_no_other_from_being_renewed() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let folder = folder.path();
        let files = [write(folder, "one", &["one.test"]), write(folder, "two", &["two.test"])];
        let certificates = Certificates::read(&files).expect("they are certificates");
        let before = certificates.shown.load_full();
        std::fs::remove_file(&files[0].certificate).expect("it was written");
        write(folder, "two", &["two.test"]);
        assert!(matches!(certificates.refresh()[..], [Err(TlsError::Unreadable { .. }), Ok(true)]));
        let after = certificates.shown.load_full();
        assert!(Arc::ptr_eq(&before[0], &after[0]));
        assert!(!Arc::ptr_eq(&before[1], &after[1]));
        assert!(matches!(certificates.refresh()[..], [Err(_), Ok(false)]));
    }

    #[test]
    fn s60_what_a_start_refuses_is_not_taken_over_either() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let own = || write(folder.path(), "own", &["own.test"]);
        let files = own();
        let certificates = Certificates::read(std::slice::from_ref(&files)).expect("it is a certificate");
        own();
        allow(&files.key, 0o644);
        let open = FileError::Open(0o644).to_string();
        let refused = |said: &str| match &certificates.refresh()[..] {
            [Err(TlsError::Unreadable { source, .. })] => assert_eq!(source.to_string(), said),
            other => panic!("{other:?}"),
        };
        refused(&open);
        own();
        append(&files.certificate, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        assert!(matches!(certificates.refresh()[..], [Err(TlsError::Broken(_))]));
        own();
        append(&files.certificate, b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n");
        assert!(matches!(certificates.refresh()[..], [Err(TlsError::Broken(_))]));
        append(&files.certificate, &vec![b'\n'; 1 << 20]);
        refused(&FileError::TooLarge.to_string());
        own();
        assert!(matches!(certificates.refresh()[..], [Ok(true)]));
    }
}
