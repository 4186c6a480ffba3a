//! Long streams, in bounded memory.

use core::ops::ControlFlow;
use std::io::{self, Read};

use crate::{Limits, Reader};

/// An endless-looking file that is made while it is read.
#[derive(Debug)]
struct Generated {
    next: usize,
    count: usize,
    document: Vec<u8>,
    at: usize,
    make: fn(usize) -> String,
}

impl Generated {
    fn new(count: usize, make: fn(usize) -> String) -> Self {
        Self { next: 0, count, document: Vec::new(), at: 0, make }
    }
}

impl Read for Generated {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.document.len() {
            if self.next == self.count {
                return Ok(0);
            }
            self.document = (self.make)(self.next).into_bytes();
            self.at = 0;
            self.next += 1;
        }
        let count = buffer.len().min(self.document.len() - self.at);
        buffer[..count].copy_from_slice(&self.document[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// Reads a stream whose documents are at most a few hundred bytes, under a limit that a reader which kept more than
/// one document at a time would pass many times over.
fn read_all(name: &str, make: fn(usize) -> String) {
    let count = 100_000;
    let limits = Limits::default().with_document_bytes(1000).with_nodes(100);
    let mut seen = 0;
    let flow = Reader::new(limits).read_stream(name, Generated::new(count, make), &mut |next| {
        let document = next.unwrap();
        assert_eq!(document.name(), Some(format!("p{seen}").as_str()));
        assert_eq!(document.locate("metadata.name").line() as usize, seen * 5 + 4);
        seen += 1;
        ControlFlow::Continue(())
    });
    assert!(flow.is_continue());
    assert_eq!(seen, count);
}

#[test]
fn a_hundred_thousand_yaml_documents() {
    read_all("stdin", |number| {
        format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{number}}}\n# end\n")
    });
}

#[test]
fn a_hundred_thousand_json_documents() {
    read_all("a.json", |number| {
        format!(
            "{{\"apiVersion\": \"v1\",\n\"kind\": \"Pod\",\n\"metadata\": {{\n\"name\": \"p{number}\"}}}}\n\n"
        )
    });
}

#[test]
fn an_endless_document_is_stopped_at_the_limit() {
    let limits = Limits::default().with_document_bytes(1 << 20);
    for line in [
        (|_| "a: b\n".to_owned()) as fn(usize) -> String,
        |_| "x".repeat(1000),
        |_| "# comment\n".to_owned(),
        |_| "\n".to_owned(),
        |_| "{\"a\":".to_owned(),
    ] {
        let mut generated = Generated::new(usize::MAX, line);
        let mut errors = Vec::new();
        let flow = Reader::new(limits.clone()).read_stream("s", &mut generated, &mut |next| {
            errors.push(next.unwrap_err().to_string());
            ControlFlow::Continue(())
        });
        assert!(flow.is_continue());
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains("is longer than 1048576 bytes"), "{errors:?}");
    }
}
