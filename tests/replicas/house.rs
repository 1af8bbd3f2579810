//! What two replicas share: a ledger, a facilitator, a backend and a buyer.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use tempfile::TempDir;
use tollhouse::primitives::{Clock, Timestamp};
use tollhouse::server::system_clock;
use tollhouse::testing::client::Request;
use tollhouse::testing::{Backend, Gateway, ManualClock, Postgres, Process, ScriptedFacilitator, Wallet};

const START: Timestamp = Timestamp::from_secs(1_767_225_600);
/// Nothing that is waited for takes longer: the slowest is a lease of fifteen seconds that has to lapse.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct House {
    pub facilitator: ScriptedFacilitator,
    pub backend: Backend,
    clock: Arc<dyn Clock>,
    wallet: Wallet,
    routes: String,
    /// A whole line of the file.
    pub more: String,
    folder: TempDir,
}

impl House {
    /// Its clock stands still.
    pub async fn selling(routes: &str) -> Self {
        Self::at(routes, Arc::new(ManualClock::at(START))).await
    }

    /// Its clock is the machine's, which a process has too.
    pub async fn selling_now(routes: &str) -> Self {
        Self::at(routes, system_clock()).await
    }

    async fn at(routes: &str, clock: Arc<dyn Clock>) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let schema = Postgres::shared().schema().await;
        let secret = folder.path().join("ledger-url");
        std::fs::write(&secret, schema.url.expose()).expect("the folder is ours");
        std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).expect("the file is ours");
        let (facilitator, backend) = (ScriptedFacilitator::start().await, Backend::start().await);
        Self {
            facilitator,
            backend,
            clock,
            wallet: Wallet::random(),
            routes: routes.to_owned(),
            more: String::new(),
            folder,
        }
    }

    /// A gateway in this process.
    pub async fn replica(&self) -> Gateway {
        self.replica_selling(&self.routes).await
    }

    /// The same with a price table of its own.
    pub async fn replica_selling(&self, routes: &str) -> Gateway {
        Gateway::start(&self.text(routes), Arc::clone(&self.clock)).await
    }

    fn text(&self, routes: &str) -> String {
        let Self { facilitator, backend, more, .. } = self;
        let (facilitator, backend) = (facilitator.url(), backend.url());
        let secret = self.folder.path().join("ledger-url");
        let routes: String = routes.lines().map(|route| format!("  {route}\n")).collect();
        format!(
            "version: 1\npublic_url: http://api.test\nlisten: 127.0.0.1:0\nstatus: none\nupstream: {backend}\n\
             pay_to: {{base-sepolia: \"0x1111111111111111111111111111111111111111\"}}\n\
             facilitators: [{{name: scripted, url: \"{facilitator}\", timeout: {{verify: 5s, settle: 1s}}}}]\n\
             ledger: {{postgres: {{url: {{file: {}}}}}}}\n{more}\nroutes:\n{routes}",
            secret.display()
        )
    }

    /// A gateway in a process of its own, to be killed.
    pub async fn process(&self) -> Process {
        let path = self.folder.path().join("gateway.yaml");
        std::fs::write(&path, self.text(&self.routes)).expect("the folder is ours");
        Process::start(env!("CARGO_BIN_EXE_tollhouse"), &path).await
    }

    pub fn clock_now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Asks this replica for the price of the weather and signs it.
    pub async fn payment(&self, replica: &Gateway) -> (HeaderName, HeaderValue) {
        self.payment_for(replica, "/weather").await
    }

    pub async fn payment_for(&self, replica: &Gateway, target: &str) -> (HeaderName, HeaderValue) {
        let challenge = replica.ask(&Request::get(target)).await;
        assert_eq!(challenge.status, 402, "{}", challenge.text());
        self.wallet.pay(&challenge.fields, &challenge.body, self.clock.now()).expect("the offer can be paid")
    }
}

/// Waits for something that happens in its own time.
pub async fn eventually(what: &str, mut happened: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !happened().await {
        assert!(tokio::time::Instant::now() < deadline, "it never happened that {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
