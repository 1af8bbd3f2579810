//! A few connections to the database, each lent to one caller at a time.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio_postgres::types::ToSql;
use tokio_postgres::{NoTls, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::{PostgresUrl, Trust};
use super::failure::Failure;

/// How many connections a process opens. A swap is one short statement, so a few keep a database busy, and a dozen
/// replicas stay below its usual limit of a hundred.
const MOST: usize = 8;
/// How long a caller waits to be lent one.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long making one may take, encryption and all.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a caller waits for what it asked. Twice what the server may take over a statement: later only a network
/// that swallows everything is.
const ANSWER: Duration = Duration::from_secs(10);
/// How soon a connection on which nothing happens is probed.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// How often something that the database undid is tried again.
const TRIES: usize = 10;

/// Values of a statement.
pub(super) type Values<'v> = &'v [&'v (dyn ToSql + Sync)];

/// What may be done on the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Everything,
    /// The server refuses every write.
    Looking,
}

/// A pool of connections.
#[derive(Debug)]
pub(super) struct Connections(Pool);

impl Connections {
    /// Opens none yet.
    pub(super) fn to(url: &PostgresUrl, purpose: Use) -> Result<Self, Failure> {
        let mut config = url.config().clone();
        config.connect_timeout(CONNECT).tcp_user_timeout(ANSWER);
        config.keepalives_idle(KEEPALIVE).keepalives_interval(KEEPALIVE);
        if config.get_application_name().is_none() {
            config.application_name("tollhouse");
        }
        // A connection that is known to be closed is not lent; any other shows what it is worth when it is used.
        let how = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match url.trust() {
            Trust::Anybody => Manager::from_config(config, NoTls, how),
            trust => Manager::from_config(config, MakeRustlsConnect::new(encryption(trust)?), how),
        };
        let pool = Pool::builder(manager)
            .max_size(if purpose == Use::Looking { 1 } else { MOST })
            .wait_timeout(Some(PATIENCE))
            .create_timeout(Some(CONNECT))
            .recycle_timeout(Some(CONNECT))
            .runtime(Runtime::Tokio1)
            .post_create(Hook::async_fn(move |client: &mut ClientWrapper, _| {
                Box::pin(async move { client.batch_execute(session(purpose)).await.map_err(HookError::Backend) })
            }))
            .build()
            .map_err(Failure::other)?;
        Ok(Self(pool))
    }

    /// A connection that is nobody else's.
    pub(super) async fn lend(&self) -> Result<Lent, Failure> {
        Ok(Lent(self.0.get().await?))
    }

    /// One statement, which is a transaction by itself. Returns its rows.
    pub(super) async fn query(&self, sql: &str, values: Values<'_>) -> Result<Vec<Row>, Failure> {
        let mut tries = Tries::default();
        loop {
            let db = self.lend().await?;
            let asked = within(async {
                let statement = db.0.prepare_cached(sql).await?;
                Ok(db.0.query(&statement, values).await?)
            });
            let asked = asked.await;
            if let Some(rows) = db.judge(asked, &mut tries)? {
                return Ok(rows);
            }
        }
    }

    /// One statement, which is a transaction by itself. Returns how many rows it wrote.
    pub(super) async fn execute(&self, sql: &str, values: Values<'_>) -> Result<u64, Failure> {
        let mut tries = Tries::default();
        loop {
            let db = self.lend().await?;
            let asked = within(async {
                let statement = db.0.prepare_cached(sql).await?;
                Ok(db.0.execute(&statement, values).await?)
            });
            let asked = asked.await;
            if let Some(written) = db.judge(asked, &mut tries)? {
                return Ok(written);
            }
        }
    }
}

/// A connection in the hands of one caller.
pub(super) struct Lent(Object);

impl Lent {
    pub(super) fn client(&mut self) -> &mut ClientWrapper {
        &mut self.0
    }

    /// Gives the connection back, unless it failed: then it is closed, and the next caller gets a new one, which may
    /// lead to another server. `None` when the database undid everything and it should be tried again.
    pub(super) fn judge<T>(self, asked: Result<T, Failure>, tries: &mut Tries) -> Result<Option<T>, Failure> {
        match asked {
            Ok(answer) => Ok(Some(answer)),
            Err(failure) if failure.is_undone() && tries.one_more() => Ok(None),
            Err(failure) => {
                drop(Object::take(self.0));
                Err(failure)
            }
        }
    }
}

/// How often something has been tried.
#[derive(Debug, Default)]
pub(super) struct Tries(usize);

impl Tries {
    fn one_more(&mut self) -> bool {
        self.0 += 1;
        self.0 < TRIES
    }
}

/// Waits for an answer, but not for ever.
pub(super) async fn within<T>(asked: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = |_| Err(Failure::other("the database does not answer"));
    tokio::time::timeout(ANSWER, asked).await.unwrap_or_else(late)
}

/// What every connection begins with. The statements are written for READ COMMITTED, and at a stricter level writers
/// would undo one another at the end of a chain instead of taking turns. A transaction whose process hangs must not keep its locks, and a commit that is
/// acknowledged must be on disk (S21): a database that was told not to wait for it is told otherwise by us.
const fn session(purpose: Use) -> &'static str {
    match purpose {
        Use::Everything => {
            "SET default_transaction_isolation = 'read committed';
             SET statement_timeout = '5s';
             SET idle_in_transaction_session_timeout = '10s';
             SELECT set_config('synchronous_commit', 'on', false)
                 WHERE current_setting('synchronous_commit', true) = 'off'"
        }
        // What is read from now on is one state of the ledger, and nothing can be written.
        Use::Looking => "SET statement_timeout = '30s'; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    }
}

fn encryption(trust: &Trust) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(Failure::other)?;
    let config = match trust {
        Trust::File(path) => {
            let unreadable = |error: &dyn std::fmt::Display| {
                Failure::other(format!("{}: the authorities of sslrootcert cannot be read: {error}", path.display()))
            };
            let mut authorities = RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))? {
                let certificate = certificate.map_err(|error| unreadable(&error))?;
                authorities.add(certificate).map_err(|error| unreadable(&error))?;
            }
            config.with_root_certificates(authorities)
        }
        Trust::Machine | Trust::Anybody => config.with_platform_verifier().map_err(Failure::other)?,
    };
    Ok(config.with_no_client_auth())
}
