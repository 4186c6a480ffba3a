//! Where documents begin and end.

use proptest::prelude::*;

use super::{one, read, read_with, shown};
use crate::{Limits, Position};

const T: &str = "apiVersion: v1\nkind: T\n";

fn values(text: &str) -> Vec<String> {
    read(text)
        .into_iter()
        .map(|result| match result {
            Ok(document) => format!("{:?}", document.root().get("v").map_or("-", |value| value.source())),
            Err(error) => error.to_string(),
        })
        .collect()
}

#[test]
fn nothing_in_it() {
    for text in [
        "",
        "\n\n",
        "# only\n# comments\n",
        "---\n",
        "---\n---\n...\n---\n# x\n",
        "...\n",
        "\u{feff}",
        " \t\n",
        "~\n",
    ] {
        assert_eq!(shown(&read(text)), [""; 0], "{text:?}");
    }
    assert!(read_with(&Limits::default(), "a.json", b" \n ").is_empty());
}

#[test]
fn markers_in_odd_places() {
    assert_eq!(
        values(&format!("---\n---\n{T}v: a\n--- # x\n\n{T}v: b\n...\n---\n{T}v: c\n---")),
        ["\"a\"", "\"b\"", "\"c\""]
    );
    // In a block scalar a marker at the beginning of a line ends the document, and only there.
    assert_eq!(
        values(&format!("{T}v: |\n  a\n  ---\n   ...\n---\n{T}v: b\n")),
        ["\"a\\n---\\n ...\\n\"", "\"b\""]
    );
    assert_eq!(values(&format!("{T}v: ---a\n")), ["\"---a\""]);
    assert_eq!(values(&format!("{T}v: a\n  ---\n")), ["\"a ---\""]);
    assert_eq!(values(&format!("{T}----: x\nv: b\n")), ["\"b\""]);
    assert_eq!(values(&format!("{T}---a: x\nv: b\n")), ["\"b\""]);
    assert_eq!(
        values("--- {apiVersion: v1, kind: T, v: a}\n---\t{apiVersion: v1, kind: T, v: b}\n"),
        ["\"a\"", "\"b\""]
    );
    // In quotes it is an error, not text, and the next document is read.
    let results = read(&format!("{T}v: \"x\n---\ny\"\n---\n{T}"));
    assert_eq!(results.len(), 3);
    assert!(results[0].is_err() && results[1].is_err() && results[2].is_ok());
    assert_eq!(values(&format!("{T}v: \"x\n ---\n y\"\n")), ["\"x --- y\""]);
}

#[test]
fn directives_belong_to_the_document_that_follows() {
    assert_eq!(
        values(&format!(
            "%YAML 1.1\n# x\n---\n{T}v: a\n...\n%TAG !e! tag:yaml.org,2002:\n---\n{T}v: !e!str 1\n"
        )),
        ["\"a\"", "\"1\""]
    );
    // Without a marker before it, it is text.
    assert_eq!(values(&format!("{T}v: a\n  %b\n")), ["\"a %b\""]);
}

#[test]
fn line_breaks_of_all_systems() {
    for line_break in ["\n", "\r\n", "\r"] {
        let text = format!("{T}v: a\n---\n{T}list:\n- x\n- y\nv: |\n  b\n  c\n").replace('\n', line_break);
        let results = read(&text);
        assert_eq!(results.len(), 2, "{line_break:?}");
        let second = results[1].as_ref().unwrap();
        assert_eq!(second.position(), Position::new(5, 1));
        assert_eq!(second.locate("list[1]"), Position::new(9, 3));
        assert_eq!(second.root().get_str("v"), Some("b\nc\n"));
        // Whatever the pieces are that the reader gets.
        let in_pieces = read_in_pieces(text.as_bytes(), 1);
        assert_eq!(shown(&results), shown(&in_pieces));
    }
}

#[test]
fn byte_order_mark() {
    let document = one(&format!("\u{feff}{T}v: a\n"));
    assert_eq!(document.position(), Position::START);
    let results = read_with(
        &Limits::default(),
        "a.json",
        "\u{feff}{\"kind\": \"T\", \"apiVersion\": \"v1\"}".as_bytes(),
    );
    assert!(results[0].is_ok());
}

#[test]
fn json_streams() {
    let object = |name: &str| format!("{{\"apiVersion\": \"v1\", \"kind\": \"T\", \"v\": \"{name}\"}}");
    let text = format!("{}{}\n\n {}", object("a}"), object("\\\""), object("\\\\"));
    for name in ["a.json", "a.yaml", "stdin"] {
        let results = read_with(&Limits::default(), name, text.as_bytes());
        let positions: Vec<_> = results.iter().map(|result| result.as_ref().unwrap().position()).collect();
        assert_eq!(positions, [Position::new(1, 1), Position::new(1, 45), Position::new(3, 2)]);
    }
    // In a file that is not called .json, markers and YAML may follow.
    let text = format!("{}\n---\n{}\n---\n{T}v: c\n", object("a"), object("b"));
    assert_eq!(values(&text), ["\"a\"", "\"b\"", "\"c\""]);
    // Quoted keys do not make it JSON.
    assert_eq!(values("{\"apiVersion\": v1, kind: T, v: a}\n"), ["\"a\""]);
    assert_eq!(values("{apiVersion: v1, kind: T, v: a}\n"), ["\"a\""]);
    assert_eq!(values("{}\n"), [""; 0]);
}

#[test]
fn lines_are_counted_through_the_whole_file() {
    let results = read(&format!("# c\n\n---\n{T}# x\n---\n\n\n{T}v: {{a: 1,\n  a: 2}}\n"));
    assert_eq!(results[0].as_ref().unwrap().position(), Position::new(4, 1));
    let document = results[1].as_ref().unwrap();
    assert_eq!(
        document.deserialize::<serde_json::Value>().unwrap_err().to_string(),
        "a.yaml:13:3: T: v.a: duplicate key `a`, first seen at 12:5"
    );
}

/// A reader that gives out at most `size` bytes at a time, and is interrupted in between.
#[derive(Debug)]
struct Pieces<'a> {
    rest: &'a [u8],
    size: usize,
    interrupt: bool,
}

impl std::io::Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.interrupt = !self.interrupt;
        if self.interrupt {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        let count = self.size.min(self.rest.len()).min(buffer.len());
        buffer[..count].copy_from_slice(&self.rest[..count]);
        self.rest = &self.rest[count..];
        Ok(count)
    }
}

fn read_in_pieces(text: &[u8], size: usize) -> Vec<Result<crate::Document, crate::ReadError>> {
    let mut seen = Vec::new();
    let mut reader = crate::Reader::new(Limits::default());
    let pieces = Pieces { rest: text, size, interrupt: false };
    let flow = reader.read_stream("a.yaml", pieces, &mut |next| {
        seen.push(next);
        core::ops::ControlFlow::Continue(())
    });
    assert!(flow.is_continue());
    seen
}

proptest! {
    /// Cutting first and parsing each piece gives the same documents, at the same places, as a YAML parser that reads
    /// the stream as a whole.
    #[test]
    fn cutting_agrees_with_the_parser(lines in prop::collection::vec(prop::sample::select(LINES), 0..14)) {
        let text: String = lines.concat();
        let whole = whole_stream(&text);
        let cut = pieces(&text);
        match (whole, cut) {
            (Some(whole), Some(cut)) => prop_assert_eq!(whole, cut, "{:?}", text),
            (whole, cut) => prop_assert_eq!(whole.is_some(), cut.is_some(), "{:?}", text),
        }
    }
}

const LINES: &[&str] = &[
    "---\n",
    "---\r\n",
    "--- a\n",
    "--- |\n",
    "...\n",
    "... # x\n",
    "# c\n",
    "\n",
    "a: b\n",
    "a: |\n",
    "  x\n",
    " ---\n",
    "---x\n",
    "'a\n",
    "b'\n",
    "\"c\n",
    "- d\n",
    "%TAG ! x\n",
    "%YAML 1.2\n",
    "  ...\n",
    "[a,\n",
    "b]\n",
    "...x\n",
    "\r",
    "--- >\r",
];

/// The scalars of each document and where they begin, by one parser over everything; `None` if it is malformed.
fn whole_stream(text: &str) -> Option<Vec<Vec<(String, usize, usize)>>> {
    let mut documents = Vec::new();
    for event in granit_parser::Parser::new_from_str(text) {
        match event.ok()? {
            (granit_parser::Event::DocumentStart(..), _) => documents.push(Vec::new()),
            (granit_parser::Event::Scalar(value, ..), span) => {
                // Where nothing stands is a matter of taste.
                let place = if value.is_empty() { (0, 0) } else { (span.start.line(), span.start.col()) };
                documents.last_mut()?.push((value.into_owned(), place.0, place.1));
            }
            _ => {}
        }
    }
    Some(documents)
}

/// The same by way of our cutting.
fn pieces(text: &str) -> Option<Vec<Vec<(String, usize, usize)>>> {
    let mut source =
        crate::source::Source::new(text.as_bytes(), crate::source::Format::Guess, &Limits::default());
    let mut documents = Vec::new();
    while let Some(piece) = source.next_piece() {
        let piece = piece.unwrap();
        let before = piece.start.line() as usize - 1;
        let of_piece = whole_stream(piece.text)?;
        assert!(of_piece.len() <= 1, "{text:?}");
        documents.extend(of_piece.into_iter().map(|scalars| {
            scalars
                .into_iter()
                .map(|(value, line, column)| (value, if line == 0 { 0 } else { line + before }, column))
                .collect()
        }));
    }
    Some(documents)
}

#[test]
fn a_byte_order_mark_begins_any_document() {
    let bom = "\u{feff}";
    for text in [
        format!("{bom}{T}v: a\n---\n{bom}{T}v: b\n"),
        format!("{T}v: a\n{bom}---\n{T}v: b\n"),
        format!("{T}v: a\n{bom}---\n{bom}{T}v: b\n"),
        format!("{T}v: a\n---\n# x\n\n{bom}# y\n{T}v: b\n"),
        format!("{T}v: a\n---\n# x\n\n{bom}--- # y\n{T}v: b\n"),
        format!("{T}v: a\n...\n{bom}{T}v: b\n"),
        format!("{T}v: a\n...\n{bom}---\n{T}v: b\n"),
        format!("{T}v: a\r\n---\r\n{bom}{T}v: b\r\n"),
        format!("{bom}{bom}{T}v: a\n--- \n{bom}\n{bom}{T}v: b\n"),
        format!(
            "{bom}{{\"apiVersion\": \"v1\", \"kind\": \"T\", \"v\": \"a\"}}\n{bom}{{\"apiVersion\": \"v1\", \"kind\": \"T\", \"v\": \"b\"}}"
        ),
        format!(
            "{{\"apiVersion\": \"v1\", \"kind\": \"T\", \"v\": \"a\"}}\n---\n{bom}{{\"apiVersion\": \"v1\", \"kind\": \"T\", \"v\": \"b\"}}"
        ),
    ] {
        assert_eq!(values(&text), ["\"a\"", "\"b\""], "{text:?}");
    }
    let results = read(&format!("{T}---\n{bom}{T}---\n# x\n{bom}{T}"));
    let lines: Vec<_> = results.iter().map(|result| result.as_ref().unwrap().position()).collect();
    assert_eq!(lines, [Position::new(1, 1), Position::new(4, 1), Position::new(8, 1)]);
    // What stands before it is looked at like the rest.
    let hidden = values(&format!("# x\u{2028}{T}v: a\n{bom}{T}v: b\n"));
    assert!(hidden[0].contains("the character U+2028 is not allowed"), "{hidden:?}");
    let bytes = [&b"# \xff\n"[..], bom.as_bytes(), T.as_bytes()].concat();
    assert_eq!(
        shown(&read_with(&Limits::default(), "a.yaml", &bytes)),
        ["a.yaml:1:3: invalid UTF-8 at byte 2"]
    );
    // Inside a document it is still none.
    assert!(values(&format!("{T}{bom}v: a\n"))[0].contains("the character U+FEFF is not allowed"));
    assert!(values(&format!("--- {bom}\n{T}v: a\n"))[0].contains("the character U+FEFF is not allowed"));
}

#[test]
fn markers_between_json_documents() {
    let object = |value: &str| format!("{{\"apiVersion\": \"v1\", \"kind\": \"T\", \"v\": \"{value}\"}}");
    for between in
        ["\n---\n", "\n--- \n\n", "\r\n---\r\n", "\n---\n---\n", "\n...\n---\n", "\n---\n\u{feff}", "\n--- "]
    {
        let text = format!("---\n{}{between}{}\n---\n", object("a"), object("b"));
        for name in ["a.json", "stdin"] {
            let seen = read_with(&Limits::default(), name, text.as_bytes());
            let seen: Vec<_> = seen
                .iter()
                .map(|result| result.as_ref().map(|document| document.root().get_str("v").unwrap()))
                .collect();
            assert_eq!(seen, [Ok("a"), Ok("b")], "{name} {text:?}");
        }
    }
}

#[test]
fn windows_lines_and_trailing_blanks() {
    let text = format!(
        "# c\n---  \n{T}v: a   \n---\t\n\n{T}v: b\t\n--- # c\n\n---\n# d\n...\n---\n{T}v: c\n...\n\n"
    );
    assert_eq!(values(&text), ["\"a\"", "\"b\"", "\"c\""]);
    assert_eq!(values(&text.replace('\n', "\r\n")), ["\"a\"", "\"b\"", "\"c\""]);
}
