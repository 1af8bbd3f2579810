//! Notes that outlive the process and that processes share. A gas key needs somewhere to write down what it has sent.

use async_trait::async_trait;

use crate::facilitator::BoxError;

/// What is written under a name.
#[derive(Clone, PartialEq, Eq)]
pub struct Note {
    /// Which writing of it this is.
    pub version: u64,
    /// What it says.
    pub text: Vec<u8>,
}

/// How a swap of a note ended.
#[derive(Clone, PartialEq, Eq)]
pub enum Noted {
    /// Written durably; this is the new version.
    Written(u64),
    /// Somebody was faster. Nothing was written; this is what stands now.
    Overtaken(Option<Note>),
}

/// Compare-and-swap under a name, durable, shared by every process that uses the same keys. The ledger's cells are it.
#[async_trait]
pub trait Notes: Send + Sync + 'static {
    /// What is written under this name.
    ///
    /// # Errors
    /// When nobody can tell now.
    async fn read(&self, name: &str) -> Result<Option<Note>, BoxError>;

    /// Writes `text` if the version is still `expected`; `None` expects that nothing was ever written.
    ///
    /// Of any number of callers with the same expectation, at most one sees `Written`. A caller that stops waiting
    /// learns nothing: the write may happen or not.
    ///
    /// # Errors
    /// When it is not known whether the write happened.
    async fn swap(&self, name: &str, expected: Option<u64>, text: &[u8]) -> Result<Noted, BoxError>;
}
