//! `tollhouse ledger` against a chain: findings are checked, refunds are seen, differences are named.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, U256};
use alloy::sol;
use alloy::sol_types::SolCall;
use tollhouse::ledger::{Ledger, Sale};
use tollhouse::payment::{Authorization, Dialect, Receipt};
use tollhouse::primitives::{Clock, Nonce, SystemClock};
use tollhouse::scheme::exact::eip3009::calldata_vrs;
use tollhouse::testing::Wallet;
use tollhouse::testing::anvil::{Anvil, RICH, USDC};
use tollhouse::testing::sales::sale;

use crate::book::{Book, begin, key};
use crate::support::{Ended, run};

sol! {
    function transfer(address to, uint256 value) external;
}

const PRICE: u64 = 10_000;
/// Whom `sale` pays.
const PAYEE: Address = Address::repeat_byte(0xbb);

/// A ledger, the chain its payments are on, and a file that names both.
struct World {
    anvil: Anvil,
    /// Kept until the end.
    _book: Book,
    file: PathBuf,
    wallet: Wallet,
    ledger: Option<Arc<Ledger>>,
}

impl World {
    async fn new() -> Self {
        let (anvil, book) = (Anvil::start().await, Book::new());
        let file = book.folder.path().join("gateway.yaml");
        let text = format!(
            "\
version: 1
public_url: http://localhost:8402
upstream: http://127.0.0.1:3000
pay_to: {{base-sepolia: \"{PAYEE}\"}}
networks: {{base-sepolia: {{rpc: [\"{}\"]}}}}
ledger: sqlite:ledger.db
routes: {{GET /v1/weather: $0.01}}
",
            anvil.rpc_url().expose()
        );
        fs::write(&file, text).expect("the directory is ours");
        let ledger = Some(book.open(Arc::new(SystemClock)));
        Self { anvil, _book: book, file, wallet: Wallet::from_seed(7), ledger }
    }

    fn ledger(&self) -> &Arc<Ledger> {
        self.ledger.as_ref().expect("the gateway runs")
    }

    /// `tollhouse ledger …`, while the gateway runs.
    fn run(&self, arguments: &[&str]) -> Ended {
        let file = self.file.display().to_string();
        run(["ledger"].iter().chain(arguments).chain(&["-c", &file]))
    }

    fn by_hand(&self, arguments: &[&str]) -> Ended {
        self.run(&[arguments, &["--why", "a test", "--by", "alice"]].concat())
    }

    /// A signed payment whose payer can afford it.
    async fn sale(&self, number: u64) -> Sale {
        let mut sold = sale(number);
        let until = SystemClock.now().after(Duration::from_secs(3600)).as_secs();
        let nonce = Nonce(B256::from(U256::from(number)));
        let signed = self.wallet.sign(&sold.payment.offer, 0, until, nonce);
        sold.payment.authorization = Authorization::Eip3009(signed);
        sold.payment.dialect = Dialect::V1;
        (sold.quote, sold.redeemable) = (None, false);
        self.anvil.fund_usdc(self.wallet.address(), PRICE).await;
        sold
    }

    /// Somebody submits what was signed.
    async fn submit(&self, sold: &Sale) -> B256 {
        let signed = sold.payment.authorization.eip3009().expect("it is an EIP-3009 payment");
        let call = calldata_vrs(signed).expect("a wallet has signed it");
        let hash = self.anvil.send(RICH, USDC, call.into()).await;
        assert_eq!(self.anvil.receipt(hash).await["status"], "0x1", "the token refused what the test set up");
        hash
    }

    /// A plain transfer.
    async fn transfer(&self, from: Address, to: Address, amount: u64) -> B256 {
        self.anvil.fund_gas(from).await;
        let hash = self.anvil.send(from, USDC, transferCall { to, value: U256::from(amount) }.abi_encode()).await;
        assert_eq!(self.anvil.receipt(hash).await["status"], "0x1", "the token refused what the test set up");
        hash
    }

    /// Settled, and the answer did not arrive: the seller owes it.
    async fn owed(&self, number: u64) -> Sale {
        let sold = self.sale(number).await;
        let begun = begin(self.ledger(), sold.clone()).await;
        let transaction = self.submit(&sold).await;
        let proof = Receipt::of(&sold.payment, transaction, SystemClock.now());
        begun.settled(proof, &[], false).await.expect("the disk works");
        sold
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s13_s17_a_persons_finding_is_held_against_the_chain() {
    let world = World::new().await;
    let sold = world.sale(1).await;
    drop(begin(world.ledger(), sold.clone()).await);
    let key = key(&sold).to_string();

    let unused = world.by_hand(&["resolve", &key, "--not-settled"]).exits(4);
    assert!(unused.stderr.contains("may still be settled"), "{}", unused.stderr);
    let nowhere = B256::repeat_byte(1).to_string();
    world.by_hand(&["resolve", &key, "--settled", &nowhere]).exits(4);
    let other = world.transfer(world.wallet.address(), PAYEE, PRICE).await.to_string();
    world.by_hand(&["resolve", &key, "--settled", &other, "--unchecked"]).exits(1);

    world.anvil.fund_usdc(world.wallet.address(), PRICE).await;
    let transaction = world.submit(&sold).await.to_string();
    let moved = world.by_hand(&["resolve", &key, "--not-settled", "--unchecked"]).exits(1);
    assert!(moved.stderr.contains(&format!("--settled {transaction}")), "{}", moved.stderr);
    world.by_hand(&["resolve", &key, "--settled", &transaction]).exits(0);

    let shown = world.run(&["show", &key]).exits(0).stdout;
    assert!(shown.contains("in block ") && shown.contains("[person alice: a test]"), "{shown}");
    world.run(&["verify"]).exits(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn s24_a_refund_is_seen_on_the_chain_and_counts_once() {
    let world = World::new().await;
    let (first, second) = (world.owed(1).await, world.owed(2).await);
    let (first, second) = (key(&first).to_string(), key(&second).to_string());
    let payer = world.wallet.address();

    let little = world.transfer(PAYEE, payer, PRICE - 1).await.to_string();
    let refused = world.by_hand(&["refund", &first, "--tx", &little]).exits(1);
    assert!(refused.stderr.contains("less than the 10000 units"), "{}", refused.stderr);
    world.anvil.fund_usdc(RICH, PRICE).await;
    let foreign = world.transfer(RICH, payer, PRICE).await.to_string();
    world.by_hand(&["refund", &first, "--tx", &foreign]).exits(1);

    world.anvil.fund_usdc(PAYEE, PRICE).await;
    let back = world.transfer(PAYEE, payer, PRICE).await.to_string();
    world.by_hand(&["refund", &first, "--tx", &back]).exits(0);
    let taken = world.by_hand(&["refund", &second, "--tx", &back]).exits(1);
    assert!(taken.stderr.contains(&format!("already paid back payment {first}")), "{}", taken.stderr);
    let again = world.by_hand(&["refund", &first, "--tx", &foreign, "--from", &RICH.to_string()]).exits(1);
    assert!(again.stderr.contains("it is refunded"), "{}", again.stderr);
    world.by_hand(&["refund", &second, "--tx", &foreign, "--from", &RICH.to_string()]).exits(0);

    assert!(world.run(&["refunds"]).exits(0).stdout.is_empty());
    world.run(&["verify"]).exits(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn s66_s72_every_difference_between_ledger_and_chain_is_named() {
    let world = World::new().await;
    let agreed = world.owed(1).await;
    let span = ["reconcile", "--from", "1h", "--to", "2100-01-01", "--format", "json"];
    world.run(&span).exits(0);

    // Moved on chain, and the ledger does not know how it ended.
    let open = world.sale(2).await;
    drop(begin(world.ledger(), open.clone()).await);
    let moved = world.submit(&open).await;
    // Moved on chain, and forgotten here: as after an old copy was put back.
    let forgotten = world.sale(3).await;
    let lost = world.submit(&forgotten).await;
    // Somebody just sent money.
    world.anvil.fund_usdc(world.wallet.address(), 7).await;
    let gift = world.transfer(world.wallet.address(), PAYEE, 7).await;
    // Settled here, and nothing moved.
    let claimed = world.sale(4).await;
    let begun = begin(world.ledger(), claimed.clone()).await;
    let proof = Receipt::of(&claimed.payment, B256::repeat_byte(9), SystemClock.now());
    begun.settled(proof, &[], false).await.expect("the disk works");

    let told = world.run(&span).exits(1);
    assert!(told.stderr.contains("1 transfers agree, 4 do not"), "{}", told.stderr);
    let differences: Vec<serde_json::Value> =
        told.stdout.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
    let found = |transaction: B256| {
        differences
            .iter()
            .find(|difference| difference["transaction"] == transaction.to_string())
            .unwrap_or_else(|| panic!("{transaction} is missing from {}", told.stdout))
    };
    assert_eq!(found(moved)["payment"], key(&open).to_string());
    assert!(found(moved)["detail"].as_str().is_some_and(|detail| detail.contains("settling")));
    assert!(found(lost)["detail"].as_str().is_some_and(|detail| detail.contains("unknown here")));
    assert!(found(gift)["detail"].as_str().is_some_and(|detail| detail.contains("plain transfer")));
    assert_eq!(found(B256::repeat_byte(9))["difference"], "settled here, not moved on chain");
    assert!(!told.stdout.contains(&key(&agreed).to_string()), "{}", told.stdout);
}
