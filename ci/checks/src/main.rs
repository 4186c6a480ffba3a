//! Checks of the project itself, for CI and for people.
//!
//! - `layering`: the arrows between our crates, who may depend on what, lints and publishing.
//! - `modules`: which modules of a crate may use which, and no files that use each other in a circle.
//! - `licences`: the licence of every dependency is on the allow list.
//! - `text`: no project file names a path of one machine or a private registry.
//! - `links`: relative links in documents lead to files and headings that exist.
//!
//! Each prints one line for every violation and exits with 1 when there is one.

extern crate alloc;

mod files;
mod layering;
mod licences;
mod links;
mod metadata;
mod modules;
mod text;

use std::io::{self, Write as _};
use std::process::ExitCode;

use metadata::Metadata;

/// What is checked when nothing is named.
const CHECKS: [&str; 5] = ["layering", "modules", "licences", "text", "links"];

fn main() -> ExitCode {
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    if names.is_empty() {
        names = CHECKS.map(String::from).to_vec();
    }
    let mut out = io::stdout().lock();
    let mut clean = true;
    for name in names {
        let result = match name.as_str() {
            "layering" => Metadata::load().map(|m| layering::violations(&m)),
            "licences" => Metadata::load().map(|m| licences::violations(&m)),
            "modules" => Metadata::load().map(|m| modules::violations(&m)),
            "text" => text::violations(),
            "links" => links::violations(),
            _ => Err(format!("unknown check `{name}`; there are {}", CHECKS.join(", "))),
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
