//! Looks for bytes that break the property of `wallet_signature`.

#![no_main]

#[path = "../properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::check("wallet_signature", data));
