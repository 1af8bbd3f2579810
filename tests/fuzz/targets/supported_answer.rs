//! Looks for bytes that break the property "supported_answer".

#![no_main]

#[path = "../properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::supported_answer(data));
