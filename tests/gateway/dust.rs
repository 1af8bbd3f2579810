//! Routes that gas makes unprofitable, with a key and a node of our own (S31).

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{U128, hex};
use serde_json::{Value, json};
use tollhouse::primitives::{Clock, SystemClock};
use tollhouse::testing::anvil::Anvil;
use tollhouse::testing::client::Request;
use tollhouse::testing::{Backend, Gateway, ManualClock, Wallet};

use crate::world::{PAYEE, assert_no_invitation, assert_paid, eventually};

const GAS_KEY: [u8; 32] = [0x42; 32];
/// Longer than it takes until somebody looks at the cost of gas.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn s31_a_route_that_does_not_pay_for_its_gas_is_503_until_it_does() {
    let (anvil, backend) = (Anvil::start().await, Backend::start().await);
    let home = tempfile::tempdir().expect("a directory can be made");
    let key = home.path().join("gas-key");
    std::fs::write(&key, hex::encode(GAS_KEY)).expect("the key can be written");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("the key can be hidden");
    anvil.fund_gas(Wallet::from_key(GAS_KEY.into()).address()).await;
    let file = format!(
        "version: 1\npublic_url: http://api.test\nlisten: 127.0.0.1:0\nstatus: none\nledger: memory\nupstream: {}\n\
         pay_to: {{base-sepolia: \"{PAYEE}\"}}\nfacilitators: [{{name: own, networks: [base-sepolia], local: {{\
         rpc: [\"{}\"], signer: {{file: {}}}, coin_price: $20}}}}]\n\
         routes:\n  GET /cheap: $0.01\n  GET /dear: $5\n  GET /free: free\n",
        backend.url(),
        anvil.rpc_url().expose(),
        key.display(),
    );
    let clock = ManualClock::at(SystemClock.now());
    let gateway = Gateway::start(&file, Arc::new(clock.clone())).await;
    let get = async |target: &str| gateway.ask(&Request::get(target)).await;
    let until = async |status: u16| {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            clock.advance(Duration::from_secs(1));
            let reply = get("/cheap").await;
            if reply.status == status {
                return reply;
            }
            assert!(tokio::time::Instant::now() < deadline, "still {}", reply.status);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let gas_at = async |wei: u64| {
        anvil.rpc::<Value>("anvil_setNextBlockBaseFeePerGas", json!([U128::from(wei)])).await;
        anvil.rpc::<Value>("anvil_mine", json!(["0x1"])).await;
    };

    gas_at(10_000_000).await;
    let quote = get("/cheap").await;
    assert_eq!(quote.status, 402);
    gas_at(100_000_000_000).await;
    let closed = until(503).await;
    assert_no_invitation(&closed, 503);
    assert!(closed.field("retry-after").is_some());
    assert_eq!(get("/free").await.status, 200);
    let wallet = Wallet::random();
    anvil.fund_usdc(wallet.address(), 6_000_000).await;
    let early = wallet.pay(&quote.fields, &quote.body, clock.now()).expect("the offer can be paid");
    assert_no_invitation(&gateway.ask(&Request::get("/cheap").paying(&early)).await, 503);
    let challenge = get("/dear").await;
    let payment = wallet.pay(&challenge.fields, &challenge.body, SystemClock.now()).expect("the offer can be paid");
    assert_paid(&gateway.ask(&Request::get("/dear").paying(&payment)).await);
    let below = "tollhouse_routes_below_gas{facilitator=\"own\"} 1";
    eventually("operators are told", || gateway.metrics().lines().any(|line| line == below)).await;
    gas_at(10_000_000).await;
    let quote = until(402).await;
    let again = wallet.pay(&quote.fields, &quote.body, clock.now()).expect("the offer can be paid");
    assert_paid(&gateway.ask(&Request::get("/cheap").paying(&again)).await);
    assert_eq!(anvil.usdc_balance(wallet.address()).await, 6_000_000 - 5_010_000, "the first moved nothing");
}
