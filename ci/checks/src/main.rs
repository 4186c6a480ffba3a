//! Checks of the project itself, for CI and for people.
//!
//! - `layering`: the arrows between our crates, who may depend on what, lints and publishing.
//! - `licences`: the licence of every dependency is on the allow list.
//! - `text`: no project file names a path of one machine or a private registry.
//!
//! Each prints one line for every violation and exits with 1 when there is one.

extern crate alloc;

mod layering;
mod licences;
mod metadata;
mod text;

use std::io::{self, Write as _};
use std::process::ExitCode;

use metadata::Metadata;

fn main() -> ExitCode {
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    if names.is_empty() {
        names = ["layering", "licences", "text"].map(String::from).to_vec();
    }
    let mut out = io::stdout().lock();
    let mut clean = true;
    for name in names {
        let result = match name.as_str() {
            "layering" => Metadata::load().map(|m| layering::violations(&m)),
            "licences" => Metadata::load().map(|m| licences::violations(&m)),
            "text" => text::violations(),
            _ => Err(format!("unknown check `{name}`: layering, licences, text")),
        };
        let violations = result.unwrap_or_else(|error| vec![error]);
        clean &= violations.is_empty();
        let state = if violations.is_empty() { "ok".into() } else { format!("{} wrong", violations.len()) };
        // A closed pipe is no reason to change the result.
        let _ = writeln!(out, "{name}: {state}");
        for violation in violations {
            let _ = writeln!(out, "  {violation}");
        }
    }
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
