//! What to call so that a payment's money moves, and how much gas that may burn.

use alloy::primitives::{Address, Bytes, address};
use alloy::sol_types::SolCall;

use crate::facilitator::BoxError;
use crate::facilitator::chain::{Chain, RpcError};
use crate::payment::{Authorization, Eip3009, Payment, SignatureBytes};
use crate::scheme::erc6492::{self, Creation, Malformed};
use crate::scheme::exact::eip3009;
use crate::scheme::exact::permit2::{self, PROXY};

/// The most gas that the transfer of a plain account may burn (S30). USDC needs about 90,000.
pub(super) const MAX_GAS: u64 = 300_000;
/// The same where a contract wallet judges the signature. A passkey without the chain's help takes some 330,000 more.
const MAX_GAS_OF_WALLET: u64 = 500_000;
/// The same where the wallet has to be created first.
const MAX_GAS_OF_NEW_WALLET: u64 = 1_000_000;

/// Carries out several calls in one transaction. It stands there on nearly every chain, is nobody's, and holds nothing.
const MULTICALL: Address = address!("0xcA11bde05977b3631167028862bE2a173976CA11");

alloy::sol! {
    struct Step {
        address target;
        bool allowFailure;
        bytes callData;
    }

    function aggregate3(Step[] calls) external payable;
}

/// What moves a payment's money, but for who sends it and at what price. Holds a signature, so it does not print.
pub(super) struct Plan {
    pub(super) to: Address,
    pub(super) input: Bytes,
    /// More than this is not sent (S30).
    pub(super) most_gas: u64,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unplanned {
    /// The signature is of no form that a token would look at.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Nobody can tell whether the wallet exists.
    #[error("it is not known whether the wallet exists")]
    Unseen(#[source] BoxError),
}

impl From<RpcError> for Unplanned {
    fn from(error: RpcError) -> Self {
        Self::Unseen(error.into())
    }
}

impl Plan {
    /// The plan for a payment as the chain stands. It is asked only about wallets that may not exist yet.
    pub(super) async fn of(payment: &Payment, chain: &Chain) -> Result<Self, Unplanned> {
        let token = payment.offer.asset.address;
        let signed = match &payment.authorization {
            Authorization::Eip3009(signed) => signed,
            // Plain accounts alone pay so.
            Authorization::Permit2(signed) => {
                return Ok(Self { to: PROXY, input: permit2::calldata(signed), most_gas: MAX_GAS });
            }
        };
        let (creation, signature) = erc6492::open(&signed.signature.0)?;
        let Some(creation) = creation else { return Ok(Self::transfer(token, signed)) };
        let signed = Eip3009 { signature: SignatureBytes(signature), ..signed.clone() };
        let (exists, multicall) = tokio::try_join!(chain.has_code(signed.from), chain.has_code(MULTICALL))?;
        match (exists, multicall) {
            (true, _) => Ok(Self { most_gas: MAX_GAS_OF_WALLET, ..Self::transfer(token, &signed) }),
            (false, true) => Ok(Self::creation_and_transfer(token, &creation, &signed)),
            // A call to no contract succeeds and moves nothing.
            (false, false) => Err(Unplanned::Unseen("there is no Multicall3 to create a wallet with".into())),
        }
    }

    fn transfer(token: Address, signed: &Eip3009) -> Self {
        let input = eip3009::calldata(signed);
        let most_gas = if signed.signature.0.len() == 65 { MAX_GAS } else { MAX_GAS_OF_WALLET };
        Self { to: token, input, most_gas }
    }

    /// Both in one transaction, so that there is nothing between them: one hash is written down before it is sent, and
    /// either the money moves or nothing has happened. The creation may fail, since somebody else may create the wallet
    /// first; the transfer may not.
    fn creation_and_transfer(token: Address, creation: &Creation, signed: &Eip3009) -> Self {
        let create = Step { target: creation.factory, allowFailure: true, callData: creation.calldata.clone() };
        let transfer = Step { target: token, allowFailure: false, callData: eip3009::calldata(signed) };
        let input = aggregate3Call { calls: vec![create, transfer] }.abi_encode().into();
        Self { to: MULTICALL, input, most_gas: MAX_GAS_OF_NEW_WALLET }
    }
}
