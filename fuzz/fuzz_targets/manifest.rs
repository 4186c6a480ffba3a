//! Any bytes as a manifest: no panic, and every error names its place.
#![no_main]

use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use portcullis::manifest::{Limits, Reader};

fuzz_target!(|bytes: &[u8]| {
    for name in ["fuzz.yaml", "fuzz.json"] {
        let _ = Reader::new(Limits::default()).read_stream(name, bytes, &mut |next| {
            match next {
                Ok(document) => {
                    let _ = document.identity();
                    let _ = document.locate("spec.ingress[0].from[1].ipBlock.cidr");
                }
                Err(error) => {
                    let line = error.to_string();
                    assert!(line.starts_with(name) && !line.contains('\n'), "{line:?}");
                }
            }
            ControlFlow::Continue(())
        });
    }
});
