//! Keeps an answer for `replay: same_answer`: bounded in bytes and in time.

use std::time::Duration;

use alloy::primitives::B256;
use bytes::{Bytes, BytesMut};
use http::header;
use pingora::http::ResponseHeader;
use ring::digest;

use crate::ledger::Answer;
use crate::primitives::Timestamp;

/// The largest body that is kept; a larger answer is delivered and not repeated.
pub(super) const LARGEST: usize = 64 * 1024;
/// How long an answer is repeated.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(600);

/// An answer while it passes, and the digest of the request body it answers.
pub(super) struct Keeper {
    request: digest::Context,
    head: Option<Head>,
    body: BytesMut,
    too_large: bool,
}

/// Status and fields.
type Head = (u16, Vec<(String, Vec<u8>)>);

impl Keeper {
    pub(super) fn new() -> Self {
        let request = digest::Context::new(&digest::SHA256);
        Self { request, head: None, body: BytesMut::new(), too_large: false }
    }

    /// A piece of the request body passes.
    pub(super) fn request_body(&mut self, piece: &[u8]) {
        self.request.update(piece);
    }

    /// The head of the answer passes, as the backend sent it.
    pub(super) fn head(&mut self, answer: &ResponseHeader) {
        let fields = answer
            .headers
            .iter()
            .filter(|(name, _)| !connection_level(name))
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
        self.head = Some((answer.status.as_u16(), fields.collect()));
    }

    /// A piece of the answer's body passes.
    pub(super) fn body(&mut self, piece: &[u8]) {
        if self.body.len() + piece.len() > LARGEST {
            self.too_large = true;
            self.body = BytesMut::new();
        }
        if !self.too_large {
            self.body.extend_from_slice(piece);
        }
    }

    /// The answer has passed whole. `None` when it is too large to keep.
    pub(super) fn answer(self, now: Timestamp) -> Option<Answer> {
        let (status, fields) = self.head.filter(|_| !self.too_large)?;
        Some(Answer {
            status,
            fields,
            body: self.body.freeze(),
            request_body: finish(self.request),
            until: now.after(KEPT_FOR),
        })
    }
}

/// The digest of a whole request body, for comparing it with the one an answer was kept for.
pub(super) struct BodyDigest(digest::Context);

impl BodyDigest {
    pub(super) fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    pub(super) fn update(&mut self, piece: &Bytes) {
        self.0.update(piece);
    }

    pub(super) fn finish(self) -> B256 {
        finish(self.0)
    }
}

fn finish(context: digest::Context) -> B256 {
    B256::from_slice(context.finish().as_ref())
}

/// Fields that belong to one connection or one transfer, not to the answer.
fn connection_level(name: &http::HeaderName) -> bool {
    [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::CONTENT_LENGTH,
        header::TRAILER,
        header::UPGRADE,
        header::DATE,
    ]
    .contains(name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_above_the_bound_is_not_kept() {
        let head = ResponseHeader::build(200, None).expect("a plain answer");
        let mut small = Keeper::new();
        small.head(&head);
        small.body(&[7; LARGEST]);
        assert_eq!(small.answer(Timestamp::EPOCH).map(|answer| answer.body.len()), Some(LARGEST));

        let mut large = Keeper::new();
        large.head(&head);
        large.body(&[7; LARGEST]);
        large.body(&[7]);
        assert!(large.answer(Timestamp::EPOCH).is_none());
    }

    #[test]
    fn the_digest_does_not_depend_on_how_a_body_is_cut() {
        let mut whole = Keeper::new();
        whole.request_body(b"abc");
        let mut cut = BodyDigest::new();
        cut.update(&Bytes::from_static(b"a"));
        cut.update(&Bytes::from_static(b"bc"));
        assert_eq!(finish(whole.request), cut.finish());
    }
}
