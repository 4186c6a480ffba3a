//! Any history of changes gives the tables of compiling from nothing, with deltas that lead there.
//!
//! Input: seeds of four bytes each, see `portcullis_testkit::differential`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_testkit::differential;

fuzz_target!(|input: &[u8]| {
    differential::incremental(input);
});
