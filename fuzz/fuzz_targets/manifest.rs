//! Any bytes as a manifest: no panic, places that exist, and the same answer however the bytes arrive.
#![no_main]

use std::io::Read;
use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use portcullis::manifest::{Document, Limits, Node, NodeKind, Position, ReadError, Reader};

fuzz_target!(|bytes: &[u8]| {
    let lines = line_lengths(bytes);
    for name in ["fuzz.yaml", "fuzz.json"] {
        let all = read(name, bytes);
        for next in &all {
            match next {
                Ok(document) => {
                    let _ = document.locate("spec.ingress[0].from[1].ipBlock.cidr");
                    if let Err(error) = document.check_keys() {
                        let line = error.to_string();
                        assert!(line.starts_with(name) && !line.contains('\n'), "{line:?}");
                        assert_in_range(error.position().expect("a key has a place"), &lines);
                    }
                    walk(document.root(), &mut |node| assert_in_range(node.position(), &lines));
                }
                Err(error) => {
                    let line = error.to_string();
                    assert!(line.starts_with(name) && !line.contains('\n'), "{line:?}");
                    if let Some(position) = error.position() {
                        assert_in_range(position, &lines);
                    }
                }
            }
        }
        let trickled = read(name, Trickle(bytes));
        assert_eq!(describe(&all), describe(&trickled), "in pieces");
    }
    quick_path_agrees(bytes);
});

/// Reading ordinary YAML has a quick path; a character outside ASCII in a comment forces the other one.
fn quick_path_agrees(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // JSON has no comments, and in the text of a block scalar a comment is text.
    if text.contains(['|', '>']) || text.trim_start().starts_with(['{', '[']) {
        return;
    }
    let commented: String = text.split_inclusive('\n').map(comment_document_markers).collect();
    let (quick, full) = (read("a.yaml", bytes), read("a.yaml", format!("{commented}\n# é\n").as_bytes()));
    let sound = |all: &[Result<Document, ReadError>]| all.iter().all(Result::is_ok);
    assert_eq!(sound(&quick), sound(&full), "{:?}\n{:?}", describe(&quick), describe(&full));
    if sound(&quick) {
        assert_eq!(describe(&quick), describe(&full));
    }
}

/// Every document needs its own comment.
fn comment_document_markers(line: &str) -> String {
    if line == "---\n" { "--- # é\n".into() } else { line.into() }
}

fn read(name: &str, bytes: impl Read) -> Vec<Result<Document, ReadError>> {
    let mut all = Vec::new();
    let limits = Limits::default().with_document_bytes(1 << 20).with_nodes(20_000);
    let _ = Reader::new(limits).read_stream(name, bytes, &mut |next| {
        all.push(next);
        ControlFlow::Continue(())
    });
    all
}

/// Everything that can be seen of a result, places included.
fn describe(all: &[Result<Document, ReadError>]) -> Vec<String> {
    let mut seen = Vec::new();
    for next in all {
        match next {
            Ok(document) => {
                seen.push(format!("{} {} {document:?}", document.api_version(), document.kind()));
                walk(document.root(), &mut |node| {
                    seen.push(format!("{} {}", node.position(), node.source()))
                });
            }
            Err(error) => seen.push(error.to_string()),
        }
    }
    seen
}

fn walk(node: Node<'_>, visit: &mut impl FnMut(Node<'_>)) {
    visit(node);
    match node.kind() {
        NodeKind::Sequence => node.items().for_each(|item| walk(item, visit)),
        NodeKind::Mapping => node.entries().for_each(|entry| walk(entry.value(), visit)),
        _ => {}
    }
}

/// The length of every line in bytes, which is at least its length in characters.
fn line_lengths(bytes: &[u8]) -> Vec<usize> {
    let mut lengths = vec![0];
    let mut before = 0;
    for byte in bytes {
        match byte {
            b'\n' if before == b'\r' => {}
            b'\n' | b'\r' => lengths.push(0),
            _ => *lengths.last_mut().expect("never empty") += 1,
        }
        before = *byte;
    }
    lengths
}

/// A place is a character of the input, or right behind one.
fn assert_in_range(position: Position, lines: &[usize]) {
    let index = position.line().checked_sub(1).expect("lines are counted from 1");
    let length = *lines.get(index as usize).unwrap_or_else(|| panic!("line of {position}"));
    assert!((1..=length + 1).contains(&(position.column() as usize)), "column of {position}");
}

/// Gives out a few bytes at a time.
struct Trickle<'a>(&'a [u8]);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = buffer.len().min(3);
        self.0.read(&mut buffer[..count])
    }
}
