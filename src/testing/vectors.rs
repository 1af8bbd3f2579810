//! Payments of the shared x402 vectors, as values.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{B256, U256, address, b256, hex};

use crate::payment::{
    Authorization, Dialect, Eip3009, Offer, Payment, Resource, SchemeName, SettleMode, SignatureBytes,
};
use crate::primitives::{AtomicAmount, Nonce, Payee, preset};

/// Vector `eip3009-base-sepolia`: a tenth of a cent, really signed by the payer.
pub fn eip3009_base_sepolia() -> Payment {
    let preset = preset("base-sepolia").expect("a preset");
    let pay_to = address!("0x70997970C51812dc3A010C7d01b50e0d17dc79C8");
    let amount = AtomicAmount::new(U256::from(1000));
    Payment {
        offer: Offer {
            scheme: SchemeName::Exact,
            network: Arc::new(preset.network()),
            asset: Arc::new(preset.assets[0].asset()),
            amount,
            pay_to: Payee(pay_to),
            max_timeout: Duration::from_secs(300),
            settle: SettleMode::OnResponse,
            sandbox: false,
        },
        authorization: Authorization::Eip3009(Eip3009 {
            from: address!("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"),
            to: pay_to,
            value: amount,
            valid_after: U256::ZERO,
            valid_before: U256::from(1_767_225_900),
            nonce: Nonce(b256!("0xc1d3d76266ac984222f3b723f3be0d4c44a54578315ef22413aca193493810d8")),
            signature: SignatureBytes(
                hex!(
                    "91ea596db8ce8ef805bb05e1358b38512174a30edca960af8877a0bb8b8ddc7475857e90b3716bbceae441cc157166b2f8d929e2e4803d7002f0bc976060c4171c"
                )
                .into(),
            ),
        }),
        dialect: Dialect::V2,
        resource: Resource {
            url: "https://api.example.com/weather?city=Paris".into(),
            description: "Weather data".into(),
            mime_type: "application/json".into(),
        },
    }
}

/// The same payment with another nonce, which its signature does not fit: for facilitators that do not look.
pub fn unsigned(nonce: u64) -> Payment {
    let mut payment = eip3009_base_sepolia();
    let Authorization::Eip3009(signed) = &mut payment.authorization else { unreachable!("the vector is EIP-3009") };
    signed.nonce = Nonce(B256::from(U256::from(nonce)));
    payment
}
