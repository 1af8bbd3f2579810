//! The refusals that prove that nothing moved and nothing will (S13).

/// Codes with which a facilitator refuses a settlement before it hands a transaction to any node.
///
/// Whatever is not here leaves the outcome unknown. Left out on purpose:
///
/// * `nonce_already_used`: may be our own success whose answer was lost.
/// * `transaction_failed`, `invalid_transaction_state`, `transfer_event_mismatch`: something was broadcast; the SDK
///   reports plain node errors as the first, too, when the transaction may be in a mempool (protocol digest, D4).
/// * `settlement_pending`, `duplicate_settlement`: somebody is settling it.
/// * `unexpected_settle_error`, `unexpected_error`, `unknown_error`: nobody knows what.
/// * CDP's own codes (`kyt_risk_detected`, …): documented, but not when they are given.
const NOTHING_MOVED: &[&str] = &[
    // @x402/evm 2.x, exact (protocol digest, B and D2).
    "invalid_exact_evm_scheme",
    "invalid_exact_evm_network_mismatch",
    "invalid_exact_evm_missing_eip712_domain",
    "invalid_exact_evm_recipient_mismatch",
    "invalid_exact_evm_signature",
    "invalid_exact_evm_failed_to_parse_signature",
    "invalid_exact_evm_payload_authorization_valid_before",
    "invalid_exact_evm_payload_authorization_valid_after",
    "invalid_exact_evm_payload_authorization_value_mismatch",
    "invalid_exact_evm_payload_undeployed_smart_wallet",
    "invalid_exact_evm_token_name_mismatch",
    "invalid_exact_evm_token_version_mismatch",
    "invalid_exact_evm_eip3009_not_supported",
    "invalid_exact_evm_insufficient_balance",
    "invalid_exact_evm_transaction_simulation_failed",
    "asset_not_deployed_contract",
    "eip6492_factory_not_allowed",
    "unsupported_payload_type",
    // @x402/evm 2.x, exact through Permit2 (D3): what the SDK says before it sends anything. It reads
    // `permit2_invalid_nonce`, `invalid_permit2_signature` and their like from the text of whatever error sending ends in.
    "invalid_permit2_spender",
    "invalid_permit2_recipient_mismatch",
    "permit2_deadline_expired",
    "permit2_not_yet_valid",
    "permit2_amount_mismatch",
    "permit2_token_mismatch",
    "permit2_allowance_required",
    "permit2_insufficient_balance",
    "permit2_proxy_not_deployed",
    "permit2_simulation_failed",
    // x402 1.x.
    "insufficient_funds",
    "invalid_network",
    "invalid_payload",
    "invalid_payment",
    "invalid_payment_requirements",
    "invalid_scheme",
    "invalid_x402_version",
    "payment_expired",
    "unsupported_scheme",
    "invalid_exact_evm_authorization_value",
    "invalid_exact_evm_payload_signature",
    "invalid_exact_evm_payload_recipient_mismatch",
    "invalid_exact_evm_payload_authorization_value",
    // x402-rs 2.x.
    "invalid_format",
    "invalid_signature",
    "invalid_payment_amount",
    "invalid_payment_early",
    "invalid_payment_expired",
    "chain_id_mismatch",
    "recipient_mismatch",
    "asset_mismatch",
    "accepted_requirements_mismatch",
    "transaction_simulation",
    "unsupported_chain",
];

/// Whether this refusal, with no transaction beside it, proves that nothing moved.
pub(super) fn proves_nothing_moved(code: &str) -> bool {
    NOTHING_MOVED.contains(&code)
}

/// Whether this refusal says that the payer has too little of the token: for the SDKs' codes as for those of x402 1.x
/// and x402-rs. What is missed here is asked again, and that is all.
pub(super) fn says_too_little(code: &str) -> bool {
    matches!(code, "insufficient_funds" | "invalid_exact_evm_insufficient_balance" | "permit2_insufficient_balance")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s13_codes_that_leave_money_in_doubt_are_never_declines() {
        for code in [
            "nonce_already_used",
            "invalid_exact_evm_nonce_already_used",
            "permit2_invalid_nonce",
            "invalid_permit2_signature",
            "transaction_failed",
            "invalid_exact_evm_transaction_failed",
            "invalid_exact_evm_transfer_event_mismatch",
            "invalid_transaction_state",
            "smart_wallet_deployment_failed",
            "settlement_pending",
            "duplicate_settlement",
            "unexpected_settle_error",
            "unexpected_error",
            "unknown_error",
            "declined",
            "",
        ] {
            assert!(!proves_nothing_moved(code), "{code}");
        }
    }
}
