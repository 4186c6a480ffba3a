//! Tests that go through the whole crate: text in, objects and errors out.

use core::ops::ControlFlow;

use crate::{Document, Limits, ReadError, Reader};

mod bad_input;
mod cutting;
mod lists;
mod load;
mod others;
mod paths;
mod repeats;
mod stream;
mod types;
mod values;

/// What a reader gives out for `text`, in order.
fn read_with(limits: &Limits, name: &str, text: &[u8]) -> Vec<Result<Document, ReadError>> {
    let mut seen = Vec::new();
    let flow = Reader::new(limits.clone()).read_stream(name, text, &mut |next| {
        seen.push(next);
        ControlFlow::Continue(())
    });
    assert!(flow.is_continue());
    seen
}

fn read(text: &str) -> Vec<Result<Document, ReadError>> {
    read_with(&Limits::default(), "a.yaml", text.as_bytes())
}

/// The one object in `text`.
fn one(text: &str) -> Document {
    let mut all = read(text);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0).unwrap()
}

/// The one object in JSON `text`.
fn one_json(text: &str) -> Document {
    let mut all = read_with(&Limits::default(), "a.json", text.as_bytes());
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0).unwrap()
}

/// The one error for `text`, as it is printed.
fn error(text: &str) -> String {
    error_in("a.yaml", text.as_bytes())
}

fn error_in(name: &str, text: &[u8]) -> String {
    let mut all = read_with(&Limits::default(), name, text);
    assert_eq!(all.len(), 1, "{all:?}");
    let printed = all.remove(0).unwrap_err().to_string();
    assert!(!printed.contains(['\n', '\r', '\u{1b}']), "{printed:?}");
    printed
}

/// Why the one object in `text` is refused when all of it is read.
fn refused(text: &str) -> String {
    one(text).deserialize::<serde_json::Value>().unwrap_err().to_string()
}

/// A manifest with `value` as the field `v`.
fn with_value(value: &str) -> String {
    format!("apiVersion: v1\nkind: T\nv: {value}\n")
}

/// Every object as text, errors as they are printed.
fn shown(results: &[Result<Document, ReadError>]) -> Vec<String> {
    results
        .iter()
        .map(|result| match result {
            Ok(document) => format!("{}:{:?}", document.position(), document.root()),
            Err(error) => error.to_string(),
        })
        .collect()
}
