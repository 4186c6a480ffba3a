//! Reading and matching selectors.

use core::error::Error;
use core::hint::black_box;
use std::io;

use portcullis::label::Labels;
use portcullis::selector::Selector;

use crate::measure::time;

pub(crate) fn run(out: &mut impl io::Write) -> Result<(), Box<dyn Error>> {
    let labels: Labels =
        [("app", "web"), ("tier", "front"), ("env", "prod"), ("uid", "0815")].into_iter().collect();
    for text in [
        "app == \"web\"",
        "app in {\"web\", \"api\"} && has(tier) && env != \"test\"",
        "(app == \"a\" || app == \"b\" || app == \"web\") && !(env starts with \"dev\") && tier not in {\"x\", \"y\"}",
    ] {
        let (best, median) = time(100_000, || drop(black_box(Selector::parse(black_box(text)))));
        writeln!(out, "selector parse ns best {best:.0} median {median:.0}: {text}")?;
        let selector = Selector::parse(text)?;
        if !selector.matches(&labels) {
            return Err(format!("{text} does not match").into());
        }
        let (best, median) = time(1_000_000, || {
            black_box(selector.matches(black_box(&labels)));
        });
        writeln!(out, "selector match ns best {best:.1} median {median:.1}: {text}")?;
    }
    Ok(())
}
