//! Any objects and any packets: every engine says what the reference says.
//!
//! Input: seeds of four bytes each, see `portcullis_testkit::differential`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_testkit::differential;

fuzz_target!(|input: &[u8]| {
    differential::evaluate(input);
});
