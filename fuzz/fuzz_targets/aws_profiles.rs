#![no_main]

const RUN: fn(&[u8]) = adit_fuzz::target("aws_profiles");

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| RUN(bytes));
