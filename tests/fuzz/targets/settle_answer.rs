//! Looks for bytes that break the property "settle_answer".

#![no_main]

#[path = "../properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::settle_answer(data));
