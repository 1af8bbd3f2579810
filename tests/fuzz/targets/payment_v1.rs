//! Looks for bytes that break the property of `payment_v1`.

#![no_main]

#[path = "../properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::check("payment_v1", data));
