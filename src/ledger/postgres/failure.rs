//! What goes wrong at a database, without what must not be repeated.

use tokio_postgres::error::SqlState;

use super::super::StoreError;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Something that the database did not do, or did and could not say.
#[derive(Debug)]
pub(super) struct Failure {
    code: Option<SqlState>,
    cause: BoxError,
}

/// What the server says: code and message. Its details quote rows, and rows hold signatures and keys (I8).
#[derive(Debug, thiserror::Error)]
#[error("the database says: {message} ({code})")]
struct Said {
    code: String,
    message: String,
}

impl Failure {
    pub(super) fn other(cause: impl Into<BoxError>) -> Self {
        Self { code: None, cause: cause.into() }
    }

    /// Whether the database gave up on a transaction and undid all of it, because of what others did at the same time.
    /// It may be tried again; after any other failure of a write nobody knows whether it happened.
    pub(super) fn is_undone(&self) -> bool {
        self.is(&[SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED])
    }

    /// Whether the server said one of these.
    pub(super) fn is(&self, codes: &[SqlState]) -> bool {
        self.code.as_ref().is_some_and(|code| codes.contains(code))
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(said) => {
                let (code, message) = (said.code().clone(), said.message().to_owned());
                Self { cause: Said { code: code.code().to_owned(), message }.into(), code: Some(code) }
            }
            // Ours or the network's: it names what was being done, and no value.
            None => Self::other(error),
        }
    }
}

impl From<deadpool_postgres::PoolError> for Failure {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        use deadpool_postgres::{HookError, PoolError};
        match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => error.into(),
            PoolError::Timeout(deadpool_postgres::TimeoutType::Wait) => Self::other("every connection is in use"),
            PoolError::Timeout(_) => Self::other("the database cannot be reached in time"),
            other => Self::other(other),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        Self(failure.cause)
    }
}
