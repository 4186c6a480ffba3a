//! Prints the public interface of one library, a line an item, from the JSON that rustdoc wrote for it.
//!
//! Automatic and blanket implementations are left out. Of derived ones the line of the trait stays, because users break when
//! it is lost; their methods say nothing more.

use std::collections::BTreeSet;
use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write as _};

fn main() -> Result<(), Box<dyn Error>> {
    let json = std::env::args_os().nth(1).ok_or("usage: public-api-listing FILE.json")?;
    let written: BTreeSet<String> = items(&json, true)?.into_iter().collect();
    let mut out = io::stdout().lock();
    for item in items(&json, false)? {
        if item.starts_with("impl") || written.contains(&item) {
            writeln!(out, "{item}")?;
        }
    }
    Ok(())
}

/// The items of a library, a line each, in an order that does not change.
fn items(json: &OsString, omit_derived: bool) -> Result<Vec<String>, Box<dyn Error>> {
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_auto_trait_impls(true)
        .omit_blanket_impls(true)
        .omit_auto_derived_impls(omit_derived)
        .build()?;
    Ok(api.items().map(ToString::to_string).collect())
}
