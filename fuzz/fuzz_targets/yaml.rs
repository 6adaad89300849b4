#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rdd_fuzz_targets::yaml(data));
