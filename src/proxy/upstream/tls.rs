//! TLS towards a backend: who may vouch for it, and who the gateway is to it.

use std::fmt;
use std::sync::Arc;

use alloy::primitives::hex;
use pingora::protocols::tls::CaType;
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use ring::digest;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::primitives::Secret;

/// What holds for targets over TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Who may vouch for the backend; `None` for those that the system trusts.
    pub ca: Option<Authorities>,
    /// The name its certificate has to be for, where that is not the target's own.
    pub server_name: Option<String>,
    /// Whether its certificate is looked at.
    pub verify: bool,
    /// What the gateway shows of itself.
    pub identity: Option<Identity>,
}

impl Default for Tls {
    fn default() -> Self {
        Self { ca: None, server_name: None, verify: true, identity: None }
    }
}

/// Certificates that vouch for others. Two are the same when their bytes are.
#[derive(Clone)]
pub struct Authorities {
    pub(super) certificates: Arc<CaType>,
    pub(super) digest: [u8; 32],
}

/// A certificate with its key. Two are the same when their bytes are.
#[derive(Clone)]
pub struct Identity {
    pub(super) pair: Arc<CertKey>,
    pub(super) digest: [u8; 32],
}

/// Why a file does not hold what TLS needs. Never says what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// No certificate, or one that cannot be read.
    #[error("it holds no certificates in PEM that can be read")]
    NoCertificate,
    /// A certificate that cannot vouch for others.
    #[error("it holds a certificate that cannot vouch for a backend")]
    NotAnAuthority,
    /// No private key, or one that cannot be used.
    #[error("it holds no private key in PEM that can be used")]
    NoKey,
    /// The key is another certificate's.
    #[error("the key does not belong to the certificate")]
    OtherKey,
}

impl Authorities {
    /// Every certificate of a PEM file. Read here in full, so that nothing is left to fail on the way to a backend.
    ///
    /// # Errors
    /// When there is none, or one of them cannot be read or used.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TlsError> {
        let certificates = certificates(pem)?;
        let mut trusted = RootCertStore::empty();
        for certificate in &certificates {
            trusted.add(certificate.clone()).map_err(|_| TlsError::NotAnAuthority)?;
        }
        let digest = digest_of(certificates.iter().map(|one| &**one));
        let certificates: Vec<WrappedX509> =
            certificates.into_iter().map(|one| WrappedX509::new(one.to_vec(), parse_x509)).collect();
        Ok(Self { certificates: certificates.into(), digest })
    }
}

impl Identity {
    /// A certificate with those between it and its authority, and its key, each a PEM file.
    ///
    /// # Errors
    /// When one of them cannot be read, or they do not belong together.
    pub fn from_pem(chain: &[u8], key: &Secret<String>) -> Result<Self, TlsError> {
        let chain = certificates(chain)?;
        let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|_| TlsError::NoKey)?;
        let provider = rustls::crypto::ring::default_provider();
        provider.key_provider.load_private_key(key.clone_key()).map_err(|_| TlsError::NoKey)?;
        CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider).map_err(|_| TlsError::OtherKey)?;
        let digest = digest_of(chain.iter().map(|one| &**one).chain([key.secret_der()]));
        let chain = chain.into_iter().map(|one| one.to_vec()).collect();
        Ok(Self { pair: Arc::new(CertKey::new(chain, key.secret_der().to_vec())), digest })
    }
}

/// Pingora parses certificates again and panics at one it cannot read, so its parser has the last word here.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|_| TlsError::NoCertificate)?;
    let readable = found.iter().all(|one| x509_parser::parse_x509_certificate(one).is_ok());
    if found.is_empty() || !readable { Err(TlsError::NoCertificate) } else { Ok(found) }
}

fn digest_of<'b>(parts: impl Iterator<Item = &'b [u8]>) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Authorities {}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Identity {}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({})", hex::encode(&self.digest[..8]))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}
