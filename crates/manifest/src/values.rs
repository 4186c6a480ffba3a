//! YAML and JSON that is not about objects of an API.

use alloc::sync::Arc;
use core::ops::ControlFlow;
use std::io::Read;

use crate::error::{ReadError, ReadErrorKind};
use crate::limits::Limits;
use crate::parse::parse;
use crate::source::{Format, Source};
use crate::tree::Node;
use crate::tree::build::repeated_reason;

/// Reads a stream as it stands, one value for each document that is not empty, with the positions of everything in it.
/// `name` is its name in errors; `.json` at its end asks for strict JSON.
///
/// # Errors
/// The first thing that is wrong: syntax, limits, a key that occurs twice. `sink` has then had the documents before.
pub fn read_values(
    name: &str,
    stream: impl Read,
    limits: &Limits,
    sink: &mut dyn FnMut(Node<'_>) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    let file: Arc<str> = name.into();
    let format = if name.ends_with(".json") { Format::Json } else { Format::Guess };
    let mut source = Source::new(stream, format, limits);
    while let Some(piece) = source.next_piece() {
        let tree = piece
            .and_then(|piece| parse(&piece, limits))
            .map_err(|error| error.with_file(Arc::clone(&file)))?;
        let Some(tree) = tree else { continue };
        if let Some(problem) = tree.problem() {
            return Err(problem.clone().with_file(file));
        }
        let root = tree.node(0);
        if let Some(repeat) = tree.repeats().first() {
            let reason = repeated_reason(tree.key_text(repeat.first), tree.key_position(repeat.first));
            return Err(ReadError::new(ReadErrorKind::DuplicateKey, reason)
                .with_position(Some(tree.key_position(repeat.second)))
                .with_file(file));
        }
        if !root.is_null() && sink(root).is_break() {
            return Ok(());
        }
    }
    Ok(())
}
