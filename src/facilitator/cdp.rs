//! How Coinbase Developer Platform knows us: a fresh token for every call (protocol digest, C).

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use p256::ecdsa::signature::Signer;
use p256::pkcs8::DecodePrivateKey;
use ring::signature::Ed25519KeyPair;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::primitives::{Secret, Timestamp};

/// How long a token is good for.
const LIFETIME_SECONDS: u64 = 120;

/// The key that tokens are signed with, and its id. Neither is printed.
pub(super) struct Cdp {
    key_id: Secret<String>,
    key: Key,
}

enum Key {
    /// From base64 of 64 bytes: seed and public key.
    Ed25519(Ed25519KeyPair),
    /// From a PEM file, SEC1 or PKCS #8.
    Es256(p256::ecdsa::SigningKey),
}

/// A CDP secret that is not a key. Says what is expected and nothing about what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the CDP secret is neither a PEM key on P-256 nor base64 of a 64-byte Ed25519 key")]
pub struct InvalidKey;

/// One call, as a token names it.
pub(super) struct Call<'a> {
    pub method: &'a str,
    /// Host, and port unless it is the default one.
    pub host: &'a str,
    pub path: &'a str,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'a str,
    kid: &'a str,
    typ: &'a str,
    nonce: &'a str,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    iss: &'a str,
    uris: [String; 1],
    iat: u64,
    nbf: u64,
    exp: u64,
}

impl Cdp {
    /// Reads the secret in either of the forms the CDP portal hands out.
    pub fn new(key_id: &Secret<String>, secret: &Secret<String>) -> Result<Self, InvalidKey> {
        let text = secret.expose().trim();
        let key = if text.starts_with("-----BEGIN") { Key::from_pem(text)? } else { Key::from_base64(text)? };
        Ok(Self { key_id: key_id.clone(), key })
    }

    /// A token for this one call. `nonce` must not have been used before.
    pub fn token(&self, call: &Call<'_>, now: Timestamp, nonce: [u8; 16]) -> Secret<String> {
        let issued = now.as_secs();
        let header = Header {
            alg: self.key.algorithm(),
            kid: self.key_id.expose(),
            typ: "JWT",
            nonce: &alloy::primitives::hex::encode(nonce),
        };
        let claims = Claims {
            sub: self.key_id.expose(),
            iss: "cdp",
            uris: [format!("{} {}{}", call.method, call.host, call.path)],
            iat: issued,
            nbf: issued,
            exp: issued.saturating_add(LIFETIME_SECONDS),
        };
        let signed = format!("{}.{}", segment(&header), segment(&claims));
        let signature = self.key.sign(signed.as_bytes());
        Secret::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

fn segment(part: &impl Serialize) -> String {
    let json = serde_json::to_vec(part).expect("a struct of strings and integers is always JSON");
    URL_SAFE_NO_PAD.encode(json)
}

impl Key {
    fn from_base64(text: &str) -> Result<Self, InvalidKey> {
        let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| InvalidKey)?);
        let (seed, public) = bytes.split_at_checked(32).ok_or(InvalidKey)?;
        Ed25519KeyPair::from_seed_and_public_key(seed, public).map(Self::Ed25519).map_err(|_| InvalidKey)
    }

    fn from_pem(text: &str) -> Result<Self, InvalidKey> {
        // The portal's JSON writes line ends as `\n`, and people copy them so into environment variables.
        let pem = Zeroizing::new(text.replace("\\n", "\n"));
        let key = p256::SecretKey::from_sec1_pem(&pem)
            .or_else(|_| p256::SecretKey::from_pkcs8_pem(&pem))
            .map_err(|_| InvalidKey)?;
        Ok(Self::Es256(key.into()))
    }

    const fn algorithm(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "EdDSA",
            Self::Es256(_) => "ES256",
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Es256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_bytes().to_vec()
            }
        }
    }
}

impl std::fmt::Debug for Cdp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cdp({})", self.key.algorithm())
    }
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::signature::Verifier;

    use super::*;

    /// Vector `cdp-facilitator-jwt`: a throw-away key, the token that @coinbase/cdp-sdk 1.57 makes with it.
    const KEY_ID: &str = "11111111-2222-3333-4444-555555555555";
    const SECRET: &str = "xVIu2/kIkF4rzd4LWmXMK0hSifxGVNScDtvL3E4SeuVd3Oxuxjrp2iKrx0wk+hZlZjR+1B6I3y7HaV6RyA3BRg==";
    const TOKEN: &str = "eyJhbGciOiJFZERTQSIsImtpZCI6IjExMTExMTExLTIyMjItMzMzMy00NDQ0LTU1NTU1NTU1NTU1NSIsInR5cCI6IkpXVCIsIm5vbmNlIjoiMTQxMGEzNzJjZWM5MTg0ZWY2MzQxODk2NWNiZmI2ZjkifQ.eyJzdWIiOiIxMTExMTExMS0yMjIyLTMzMzMtNDQ0NC01NTU1NTU1NTU1NTUiLCJpc3MiOiJjZHAiLCJ1cmlzIjpbIlBPU1QgYXBpLmNkcC5jb2luYmFzZS5jb20vcGxhdGZvcm0vdjIveDQwMi92ZXJpZnkiXSwiaWF0IjoxNzY3MjI1NjAwLCJuYmYiOjE3NjcyMjU2MDAsImV4cCI6MTc2NzIyNTcyMH0.OC851CMqDtKuRhNWddbxnimLgQ7iAEAfsSZde099FRw74A4GP_gWzBOx32fOvqlTjckLLoqdLVdcjzl5ckX0AA";

    fn call() -> Call<'static> {
        Call { method: "POST", host: "api.cdp.coinbase.com", path: "/platform/v2/x402/verify" }
    }

    fn cdp(secret: &str) -> Result<Cdp, InvalidKey> {
        Cdp::new(&Secret::new(KEY_ID.into()), &Secret::new(secret.into()))
    }

    #[test]
    fn the_token_is_byte_for_byte_the_sdks() {
        let nonce = alloy::primitives::hex!("1410a372cec9184ef63418965cbfb6f9");
        let token = cdp(SECRET).expect("the vector's key").token(&call(), Timestamp::from_secs(1_767_225_600), nonce);
        assert_eq!(token.expose(), TOKEN);
    }

    #[test]
    fn a_pem_key_signs_es256_in_either_wrapping() {
        let secret = p256::SecretKey::from_slice(&[7; 32]).expect("seven is a scalar");
        let sec1 = secret.to_sec1_pem(p256::pkcs8::LineEnding::LF).expect("encodes");
        let pkcs8 = p256::pkcs8::EncodePrivateKey::to_pkcs8_pem(&secret, p256::pkcs8::LineEnding::LF).expect("encodes");
        let verifier = p256::ecdsa::VerifyingKey::from(secret.public_key());
        for pem in [sec1.to_string(), pkcs8.to_string(), sec1.replace('\n', "\\n")] {
            let token = cdp(&pem).expect("a PEM key").token(&call(), Timestamp::from_secs(1), [1; 16]);
            let (signed, signature) = token.expose().rsplit_once('.').expect("three segments");
            let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
            let signature = p256::ecdsa::Signature::from_slice(&signature).expect("r and s");
            verifier.verify(signed.as_bytes(), &signature).expect("the signature is the key's");
        }
    }

    #[test]
    fn s60_a_secret_that_is_no_key_is_refused_without_being_shown() {
        for secret in ["", "hunter2", "aHVudGVyMg==", "-----BEGIN EC PRIVATE KEY-----\nhunter2"] {
            let error = cdp(secret).map(|_| ()).expect_err("not a key");
            assert!(!error.to_string().contains("hunter2"));
        }
        assert_eq!(format!("{:?}", cdp(SECRET).expect("the vector's key")), "Cdp(EdDSA)");
    }
}
