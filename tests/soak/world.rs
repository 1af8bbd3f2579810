//! The gateway as a process, what stands around it, and what is left when everybody has gone.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tollhouse::testing::{Process, ScriptedFacilitator};

use crate::backend::Backend;

const BINARY: &str = env!("CARGO_BIN_EXE_tollhouse");
const PAYEE: &str = "0x1111111111111111111111111111111111111111";
/// How long it may take until the end of every payment is known.
const PATIENCE: Duration = Duration::from_secs(120);
/// States of a payment whose money has moved.
const MOVED: [&str; 4] = ["delivered", "undelivered", "partial", "refund_due"];

pub struct World {
    pub process: Process,
    pub facilitator: ScriptedFacilitator,
    pub backend: Backend,
    folder: TempDir,
}

/// What became of the payments.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settled {
    /// Payments whose money has moved, as the facilitator knows.
    pub moved: u64,
    /// As the ledger knows.
    pub in_ledger: u64,
    /// Of them, those whose answer nobody got yet.
    pub undelivered: u64,
    /// Payments nobody knows the end of.
    pub open: u64,
}

impl World {
    pub async fn new() -> Self {
        let (facilitator, backend) = (ScriptedFacilitator::start().await, Backend::start().await);
        let folder = tempfile::tempdir().expect("a folder for the test");
        let file = folder.path().join("gateway.yaml");
        std::fs::write(&file, text(&facilitator, &backend, "$0.01")).expect("the folder is ours");
        let process = Process::start(BINARY, &file).await;
        Self { process, facilitator, backend, folder }
    }

    /// The file with this price.
    pub fn text(&self, price: &str) -> String {
        text(&self.facilitator, &self.backend, price)
    }

    /// Saves the file as editors do.
    pub fn save(&self, text: &str) {
        let draft = self.folder.path().join("gateway.yaml.new");
        std::fs::write(&draft, text).expect("the folder is ours");
        std::fs::rename(draft, self.file()).expect("the folder is ours");
    }

    /// Waits until the end of every payment is known.
    pub async fn settle_down(&self) -> Settled {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let settled = self.look();
            if (settled.open == 0 && settled.in_ledger == settled.moved) || Instant::now() > deadline {
                return settled;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Every step is on record, and none was changed.
    pub fn assert_chain_of_evidence(&self) {
        let Output { status, stdout, stderr } = self.ledger(&["verify"]);
        let said = [stdout, stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        assert!(status.success(), "{said}");
    }

    /// Tells the process to stop, which it does in peace.
    pub fn stop(self) {
        let status = self.process.terminate();
        assert!(status.success(), "{status}");
    }

    fn look(&self) -> Settled {
        // Asked first: what moves after that may be in the ledger already, and is looked at again.
        let moved = self.facilitator.settlements() as u64;
        let Output { status, stdout, stderr } = self.ledger(&["list", "--format", "json", "--limit", "100000000"]);
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        let mut settled = Settled { moved, ..Settled::default() };
        for line in String::from_utf8(stdout).expect("it writes UTF-8").lines() {
            let payment: Value = serde_json::from_str(line).expect("one object a line");
            let state = payment["state"].as_str().expect("a payment has a state");
            settled.in_ledger += u64::from(MOVED.contains(&state));
            settled.undelivered += u64::from(state == "undelivered");
            settled.open += u64::from(state == "settling");
        }
        settled
    }

    fn ledger(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.arg("ledger").args(arguments).arg("-c").arg(self.file()).stdin(Stdio::null());
        command.output().expect("the binary runs")
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("gateway.yaml")
    }
}

fn text(facilitator: &ScriptedFacilitator, backend: &Backend, price: &str) -> String {
    let (url, Backend { api, feed, .. }) = (facilitator.url(), backend);
    format!(
        "version: 1\npublic_url: http://api.test\nlisten: 127.0.0.1:0\nstatus: none\nupstream: http://{api}\n\
         pay_to: {{base-sepolia: \"{PAYEE}\"}}\nledger: sqlite:ledger.db\nlog: {{access: false}}\n\
         facilitators: [{{name: scripted, url: \"{url}\", timeout: {{verify: 2s, settle: 5s}}}}]\n\
         breaker: {{half_open_after: 1s}}\ncaps: {{unpaid_per_client: none}}\n\
         defaults: {{limits: {{timeout: 5s}}}}\nroutes:\n  GET /free: free\n  GET /large: free\n  GET /events: free\n  \
         POST /free: {{price: free, limits: {{request_body: 8MiB}}}}\n  GET /paid: {price}\n  \
         GET /paid/upfront: {{price: {price}, settle: before_forward}}\n  GET /paid/events: {price}\n  \
         POST /paid: {{price: {price}, limits: {{request_body: 8MiB}}}}\n  \
         GET /feed: {{price: {price}, upstream: \"http://{feed}\", websocket: {{lasts: 1h, bytes: 1MiB}}}}\n"
    )
}
