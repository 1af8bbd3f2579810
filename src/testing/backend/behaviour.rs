//! What a backend may do with a request, step by step.

use std::fmt::Write as _;

use bytes::Bytes;

use crate::testing::Latch;

/// One thing a backend does with a request it has read.
#[derive(Debug, Clone)]
pub enum Step {
    /// Writes these bytes as they are.
    Write(Bytes),
    /// Writes this many bytes.
    Fill(u64),
    /// Waits until the latch is open.
    Wait(Latch),
    /// Closes the connection.
    Close,
    /// Resets the connection.
    Reset,
    /// Does nothing any more.
    Hang,
}

/// What a backend does with one request.
#[derive(Debug, Clone)]
pub struct Behaviour {
    pub(super) steps: Vec<Step>,
    /// Whether the body is left unread.
    pub(super) deaf: bool,
}

impl Behaviour {
    /// These steps, in order.
    pub fn steps(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect(), deaf: false }
    }

    /// An answer with these fields and its length.
    pub fn answer(status: u16, fields: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        // 204 and 304 have no body and announce none (RFC 9110, 15.3.5 and 15.4.5).
        let length = if matches!(status, 204 | 304) { None } else { Some(("content-length", body.len().to_string())) };
        let length = length.iter().map(|(name, value)| (*name, value.as_str()));
        let mut answer = head(status, fields.iter().copied().chain(length));
        answer.extend_from_slice(body);
        Self::steps([Step::Write(answer.into())])
    }

    /// 200 with this text.
    pub fn text(body: &str) -> Self {
        Self::answer(200, &[("content-type", "text/plain")], body)
    }

    /// This status with a body that says so.
    pub fn status(status: u16) -> Self {
        Self::answer(status, &[("content-type", "text/plain")], format!("status {status}"))
    }

    /// 200 with this many bytes.
    pub fn large(bytes: u64) -> Self {
        let length = bytes.to_string();
        let head = head(200, [("content-length", length.as_str())]);
        Self::steps([Step::Write(head.into()), Step::Fill(bytes)])
    }

    /// 200 with a stream of events, each sent once its latch is open.
    pub fn events<'e>(events: impl IntoIterator<Item = (Latch, &'e str)>) -> Self {
        let fields = [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")];
        let mut steps = vec![Step::Write(head(200, fields).into())];
        for (latch, event) in events {
            let event = format!("data: {event}\n\n");
            steps.push(Step::Wait(latch));
            steps.push(Step::Write(format!("{:x}\r\n{event}\r\n", event.len()).into()));
        }
        steps.push(Step::Write(Bytes::from_static(b"0\r\n\r\n")));
        Self::steps(steps)
    }

    /// 200, announcing twice as much as it sends before it closes.
    pub fn truncated(body: &str) -> Self {
        let length = (2 * body.len()).to_string();
        let mut answer = head(200, [("content-length", length.as_str())]);
        answer.extend_from_slice(body.as_bytes());
        Self::steps([Step::Write(answer.into()), Step::Close])
    }

    /// Reads the whole request and resets the connection.
    pub fn reset() -> Self {
        Self::steps([Step::Reset])
    }

    /// Reads the whole request and never answers.
    pub fn hang() -> Self {
        Self::steps([Step::Hang])
    }

    /// The same, once the latch is open.
    #[must_use]
    pub fn when(self, latch: &Latch) -> Self {
        self.preceded(Step::Wait(latch.clone()))
    }

    /// The same after a 103 with these fields (RFC 8297).
    #[must_use]
    pub fn hinted(self, fields: &[(&str, &str)]) -> Self {
        self.preceded(Step::Write(head(103, fields.iter().copied()).into()))
    }

    /// The same as soon as the head is there, whatever becomes of the body.
    #[must_use]
    pub fn without_reading(self) -> Self {
        Self { deaf: true, ..self }
    }

    fn preceded(mut self, step: Step) -> Self {
        self.steps.insert(0, step);
        self
    }
}

fn head<'f>(status: u16, fields: impl IntoIterator<Item = (&'f str, &'f str)>) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Scripted\r\n");
    for (name, value) in fields {
        let _infallible = write!(head, "{name}: {value}\r\n");
    }
    head.push_str("\r\n");
    head.into_bytes()
}
