//! `tls` of an upstream: whom the gateway believes, and what it shows of itself.

use super::scalar::flag;
use super::{Surroundings, reference};
use crate::config::codes;
use crate::config::lists::ListFile;
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::raw::{self, Reference};
use crate::config::source::Span;
use crate::proxy::upstream::{Authorities, Identity, Tls, TlsError};

/// What holds for the targets over TLS; `over_tls` says whether there are any.
pub(super) fn resolve(
    raw: Option<&raw::UpstreamTls>,
    over_tls: bool,
    around: &Surroundings<'_>,
    files: &mut Vec<ListFile>,
    mistakes: &mut Mistakes,
) -> Option<Tls> {
    let Some(raw) = raw else { return Some(Tls::default()) };
    if !over_tls {
        let message = "none of the targets is spoken to over TLS";
        mistakes.add(Mistake::error(&codes::BACKEND, raw.span, message).help("write targets: [https://HOST:PORT]"));
    }
    files.extend(
        [&raw.ca, &raw.cert, &raw.key].into_iter().flatten().filter_map(|file| reference::watched(file, around)),
    );
    let verify = flag(raw.verify.as_ref(), true, mistakes);
    if let (Some(false), Some(text)) = (verify, &raw.verify) {
        mistakes.add(
            Mistake::warning(&codes::UNVERIFIED, text.span, "the backend's certificate is not looked at")
                .help("write ca: {file: PATH} with the certificate that vouches for it"),
        );
        if let Some(ca) = &raw.ca {
            let message = "who may vouch for a backend whose certificate is not looked at";
            mistakes.add(Mistake::error(&codes::BACKEND, ca.span(), message).help("remove `verify: false`"));
        }
    }
    let server_name = raw.server_name.as_ref().map(|name| {
        let fits = rustls::pki_types::ServerName::try_from(&*name.text).is_ok();
        if !fits {
            let message = "this is not a name that a certificate can be for";
            mistakes.add(Mistake::error(&codes::BACKEND, name.span, message).help("write server_name: api.internal"));
        }
        fits.then(|| name.text.to_string())
    });
    let ca = raw.ca.as_ref().map(|ca| authorities(ca, around, mistakes));
    let identity = match (&raw.cert, &raw.key) {
        (Some(cert), Some(key)) => Some(identity(cert, key, around, mistakes)),
        _ => None,
    };
    Some(Tls {
        ca: ca.map_or(Some(None), |ca| ca.map(Some))?,
        server_name: server_name.map_or(Some(None), |name| name.map(Some))?,
        verify: verify?,
        identity: identity.map_or(Some(None), |identity| identity.map(Some))?,
    })
}

fn authorities(ca: &Reference, around: &Surroundings<'_>, mistakes: &mut Mistakes) -> Option<Authorities> {
    let pem = reference::document(ca, around, mistakes)?;
    Authorities::from_pem(&pem).map_err(|error| mistakes.add(unusable(ca.span(), error))).ok()
}

fn identity(cert: &Reference, key: &Reference, around: &Surroundings<'_>, mistakes: &mut Mistakes) -> Option<Identity> {
    let chain = reference::document(cert, around, mistakes);
    let secret = reference::secret_file(key, around, mistakes);
    let ((_, secret), chain) = (secret?, chain?);
    let place = |error| if matches!(error, TlsError::NoKey | TlsError::OtherKey) { key.span() } else { cert.span() };
    Identity::from_pem(&chain, &secret).map_err(|error| mistakes.add(unusable(place(error), error))).ok()
}

fn unusable(span: Span, error: TlsError) -> Mistake {
    let help = match error {
        TlsError::NoCertificate => "put certificates there: -----BEGIN CERTIFICATE-----",
        TlsError::NotAnAuthority => "put the certificate there that signed the backend's, or the backend's own",
        TlsError::NoKey => "put an unencrypted key there: -----BEGIN PRIVATE KEY-----",
        TlsError::OtherKey => "name the key that the certificate was made for",
    };
    Mistake::error(&codes::BACKEND, span, error.to_string()).help(help)
}
