//! Any text and any bytes are a snapshot that verifies and comes back the same, or an error.
//!
//! Input: text, or bytes whose hash is put right first, so that the decoder behind it is reached.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_core::ir::Snapshot;

fuzz_target!(|input: &[u8]| {
    if let Ok(text) = core::str::from_utf8(input) {
        match Snapshot::parse(text) {
            Ok(snapshot) => check(&snapshot),
            Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
        }
    }
    let _ = Snapshot::from_bytes(input);
    let mut sealed = input.to_vec();
    let hash = input.iter().fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    sealed.extend(hash.to_le_bytes());
    if let Ok(snapshot) = Snapshot::from_bytes(&sealed) {
        check(&snapshot);
    }
});

fn check(snapshot: &Snapshot) {
    snapshot.verify().expect("what is read is verified");
    assert_eq!(Snapshot::parse(&snapshot.text().to_string()).as_ref(), Ok(snapshot));
    assert_eq!(Snapshot::from_bytes(&snapshot.to_bytes()).as_ref(), Ok(snapshot));
}
