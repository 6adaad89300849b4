//! Expressions of any form over values of any form.

#![no_main]

#[path = "../../crates/rdd-cel/tests/fuzz/body.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    assert!(body::run(data) <= body::LIMIT);
});
