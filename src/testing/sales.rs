//! Sales as the gate would present them, for tests of the ledger. Their signatures are blank: the ledger believes
//! what the schemes have checked.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};

use crate::ledger::{Author, Claimed, Entry, Event, Sale, Step, Version, Write};
use crate::payment::{
    Authorization, Dialect, Eip3009, Offer, Payment, PaymentKey, QuoteDigest, Receipt, Resource, SchemeName,
    SettleMode, SignatureBytes,
};
use crate::primitives::{AtomicAmount, Nonce, Payee, Timestamp, preset};

/// `GET /v1/weather` for a cent of test USDC: quoted, so that its answer may be redelivered. Each number is another
/// payment of the same payer.
pub fn sale(number: u64) -> Sale {
    let preset = preset("base-sepolia").expect("base-sepolia is a preset");
    let offer = Offer {
        scheme: SchemeName::Exact,
        network: Arc::new(preset.network()),
        asset: Arc::new(preset.assets[0].asset()),
        amount: AtomicAmount::new(U256::from(10_000)),
        pay_to: Payee(Address::repeat_byte(0xbb)),
        max_timeout: Duration::from_secs(120),
        settle: SettleMode::OnResponse,
        sandbox: false,
    };
    let signed = Eip3009 {
        from: Address::repeat_byte(0xaa),
        to: offer.pay_to.0,
        value: offer.amount,
        valid_after: U256::ZERO,
        valid_before: U256::from(2_000_000_000_u64),
        nonce: Nonce(B256::from(U256::from(number))),
        signature: SignatureBytes(Bytes::from_static(&[0; 65])),
    };
    Sale {
        payment: Payment {
            offer,
            authorization: Authorization::Eip3009(signed),
            dialect: Dialect::V2,
            resource: Resource {
                url: "https://api.example.com/v1/weather".into(),
                description: String::new(),
                mime_type: String::new(),
            },
        },
        route: "GET /v1/weather".into(),
        request: keccak256("GET /v1/weather?city=berlin"),
        request_line: "GET /v1/weather".into(),
        quote: Some(QuoteDigest(keccak256(number.to_be_bytes()))),
        redeemable: true,
    }
}

/// A receipt for this sale, in a transaction of its own.
pub fn receipt(sale: &Sale, settled_at: Timestamp) -> Receipt {
    Receipt::of(&sale.payment, keccak256(sale.payment.key().as_bytes()), settled_at)
}

/// A write of this entry, as a step that says nothing in particular.
pub fn write<'a>(key: PaymentKey, expected: Option<Version>, next: &'a Entry, claims: &'a [Claimed]) -> Write<'a> {
    static EVENT: Event = Event::GiveUp;
    static AUTHOR: LazyLock<Author> = LazyLock::new(|| Author::process("test"));
    static STEP: LazyLock<Step<'static>> =
        LazyLock::new(|| Step::of(&EVENT, Timestamp::from_secs(1_900_000_000), &AUTHOR));
    Write { key, expected, next, claims, spending: None, step: &STEP }
}
