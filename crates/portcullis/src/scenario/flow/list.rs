//! Many flows in one text: JSON, YAML or CSV.

use core::fmt::{self, Write as _};
use core::ops::ControlFlow;

use portcullis_core::quote::quoted;
use portcullis_manifest::{Limits, Node, NodeKind, ReadError, read_values};
use serde_json::Number;

use super::{Flow, FlowError};

/// How a list of flows is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlowFormat {
    /// One JSON object a line; see [`Flow::from_json`].
    JsonLines,
    /// One JSON array of such objects, or several values.
    Json,
    /// A YAML list of such objects, or one in each document.
    Yaml,
    /// Comma-separated values. The first line names the fields: those of a flow, and `method` and `path` for `http`. An empty
    /// cell leaves its field out; ids are texts.
    Csv,
}

impl FlowFormat {
    /// The format of a file by its name and how it begins; `beginning` holds its first character that is not white space,
    /// better its first line.
    #[must_use]
    pub fn guess(name: &str, beginning: &[u8]) -> Self {
        let text = beginning.strip_prefix("\u{feff}".as_bytes()).unwrap_or(beginning).trim_ascii_start();
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        match (text.first(), extension.to_ascii_lowercase().as_str()) {
            (_, "csv") => Self::Csv,
            (_, "yaml" | "yml") => Self::Yaml,
            (Some(b'['), _) => Self::Json,
            // An object over several lines.
            (Some(b'{'), _) if first_line(text).is_some_and(|line| !line.ends_with(b"}")) => Self::Json,
            (Some(b'{') | None, _) | (_, "json" | "jsonl" | "ndjson") => Self::JsonLines,
            _ => {
                let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
                let is_field = |field: &[u8]| {
                    let field = field.trim_ascii().trim_ascii_end();
                    let field =
                        field.strip_prefix(b"\"").and_then(|f| f.strip_suffix(b"\"")).unwrap_or(field);
                    matches!(field, b"from" | b"to")
                };
                match line.split(|byte| *byte == b',').filter(|field| is_field(field)).count() {
                    2 => Self::Csv,
                    _ if line.first().is_some_and(u8::is_ascii_alphanumeric) && !line.contains(&b':') => {
                        // Neither a list nor a mapping: the error of the format that most people use says more.
                        Self::JsonLines
                    }
                    _ => Self::Yaml,
                }
            }
        }
    }
}

/// The first line, when its end is known.
fn first_line(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().position(|byte| *byte == b'\n')?;
    text.get(..end).map(<[u8]>::trim_ascii_end)
}

/// Why a list of flows ends early. Prints as `file:line: field: reason` on one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}{reason}")]
pub struct FlowListError {
    place: String,
    reason: String,
}

/// A flow of a list.
#[derive(Clone, Debug)]
pub struct ListedFlow {
    /// The line that it begins in, counted from 1.
    pub line: u64,
    /// The flow.
    pub flow: Flow,
}

impl Flow {
    /// Reads a list of flows. `name` is what errors call it.
    ///
    /// What is wrong comes last: the flows before it are right.
    ///
    /// ```
    /// use portcullis::scenario::{Flow, FlowFormat};
    ///
    /// let text = "- {from: a/client, to: a/server, port: 80}\n- {from: a/client, to: a/server, prot: UDP}\n";
    /// let (flows, error) = Flow::list("flows.yaml", FlowFormat::Yaml, text.as_bytes());
    /// assert_eq!((flows.len(), flows[0].line), (1, 1));
    /// assert!(error.unwrap().to_string().starts_with("flows.yaml:2: unknown field `prot`"));
    /// ```
    #[must_use]
    pub fn list(name: &str, format: FlowFormat, bytes: &[u8]) -> (Vec<ListedFlow>, Option<FlowListError>) {
        let mut flows = Vec::new();
        let ended = match format {
            FlowFormat::JsonLines => json_lines(name, bytes, &mut flows),
            FlowFormat::Json | FlowFormat::Yaml => values(name, bytes, &mut flows),
            FlowFormat::Csv => csv(name, bytes, &mut flows),
        };
        (flows, ended.err())
    }
}

fn error(name: &str, line: u64, reason: impl fmt::Display) -> FlowListError {
    FlowListError { place: format!("{name}:{line}: "), reason: reason.to_string() }
}

fn json_lines(name: &str, bytes: &[u8], flows: &mut Vec<ListedFlow>) -> Result<(), FlowListError> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    for (line, text) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let text = str::from_utf8(text).map_err(|_| error(name, line, "not valid UTF-8"))?.trim();
        if !text.is_empty() {
            let flow = Flow::from_json(text).map_err(|reason| error(name, line, reason))?;
            flows.push(ListedFlow { line, flow });
        }
    }
    Ok(())
}

/// JSON and YAML, which is read as manifests are.
fn values(name: &str, bytes: &[u8], flows: &mut Vec<ListedFlow>) -> Result<(), FlowListError> {
    let mut wrong = None;
    let read = read_values(name, bytes, &Limits::default(), &mut |root| {
        let all = match root.kind() {
            NodeKind::Sequence => root.items().try_for_each(|item| one(name, item, flows)),
            _ => one(name, root, flows),
        };
        match all {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                wrong = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    if let Some(error) = wrong {
        return Err(error);
    }
    let place = |error: &ReadError| FlowListError { place: String::new(), reason: error.to_string() };
    read.map_err(|error| place(&error))
}

fn one(name: &str, node: Node<'_>, flows: &mut Vec<ListedFlow>) -> Result<(), FlowListError> {
    let line = node.position().line().into();
    if node.kind() != NodeKind::Mapping {
        let found = quoted(node.source()).to_string();
        let reason = match node.kind() {
            NodeKind::Sequence => "a list where a flow is expected".to_owned(),
            _ => format!("{found} is not a flow: expected a mapping with `from` and `to`"),
        };
        return Err(error(name, line, reason));
    }
    let mut text = String::new();
    json(node, &mut text);
    let flow = Flow::from_json(&text).map_err(|reason| error(name, line, reason))?;
    flows.push(ListedFlow { line, flow });
    Ok(())
}

/// A value as JSON. Its depth is limited by what read it.
fn json(node: Node<'_>, out: &mut String) {
    let quote = |text: &str, out: &mut String| {
        // Text can always be written as JSON.
        out.push_str(&serde_json::to_string(text).unwrap_or_default());
    };
    match node.kind() {
        NodeKind::Null => out.push_str("null"),
        NodeKind::Bool => out.push_str(if node.as_bool() == Some(true) { "true" } else { "false" }),
        NodeKind::Int | NodeKind::Float => match (node.as_int(), node.source()) {
            (_, text) if serde_json::from_str::<Number>(text).is_ok() => out.push_str(text),
            // YAML writes numbers in more ways: 0x50, +80, 1_000.
            (Some(number), _) => drop(write!(out, "{number}")),
            (None, text) => quote(text, out),
        },
        NodeKind::Sequence => {
            out.push('[');
            for (index, item) in node.items().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                json(item, out);
            }
            out.push(']');
        }
        NodeKind::Mapping => {
            out.push('{');
            for (index, entry) in node.entries().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                quote(entry.key(), out);
                out.push(':');
                json(entry.value(), out);
            }
            out.push('}');
        }
        _ => quote(node.source(), out),
    }
}

fn csv(name: &str, bytes: &[u8], flows: &mut Vec<ListedFlow>) -> Result<(), FlowListError> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).comment(Some(b'#')).from_reader(bytes);
    let refused = |problem: &csv::Error| {
        let line = problem.position().map_or(1, csv::Position::line);
        let reason = match problem.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("{len} cells where the first line has {expected_len}")
            }
            csv::ErrorKind::Utf8 { .. } => "not valid UTF-8".to_owned(),
            _ => problem.to_string(),
        };
        error(name, line, reason)
    };
    let mut lines = Lines { bytes, at: 0, line: 1 };
    let headings = reader.headers().map_err(|problem| refused(&problem))?.clone();
    for (index, heading) in headings.iter().enumerate() {
        if !FIELDS.contains(&heading) {
            let reason = format!("unknown field {}, expected one of {}", quoted(heading), FIELDS.join(", "));
            return Err(error(name, 1, reason));
        }
        if headings.iter().take(index).any(|earlier| earlier == heading) {
            return Err(error(name, 1, format!("the field {} occurs twice", quoted(heading))));
        }
    }
    for record in reader.records() {
        let record = record.map_err(|problem| refused(&problem))?;
        let line = lines.line_at(record.position().map_or(0, csv::Position::byte));
        let flow = row(&headings, &record).map_err(|reason| error(name, line, reason))?;
        flows.push(ListedFlow { line, flow });
    }
    Ok(())
}

/// Finds the lines of records, in order. What the reader calls the beginning of a record may be the line break before it.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u64,
}

impl Lines<'_> {
    fn line_at(&mut self, byte: u64) -> u64 {
        let byte = usize::try_from(byte).unwrap_or(usize::MAX);
        let rest = self.bytes.get(byte..).unwrap_or_default();
        let breaks = rest.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
        let start = byte.saturating_add(breaks);
        let passed = self.bytes.get(self.at..start).unwrap_or_default();
        let lines: u64 = passed.iter().map(|byte| u64::from(*byte == b'\n')).sum();
        self.line = self.line.saturating_add(lines);
        self.at = start;
        self.line
    }
}

fn row(headings: &csv::StringRecord, record: &csv::StringRecord) -> Result<Flow, FlowError> {
    let mut fields = serde_json::Map::new();
    let mut http = serde_json::Map::new();
    for (heading, cell) in headings.iter().zip(record).filter(|(_, cell)| !cell.is_empty()) {
        let is_number = cell.bytes().all(|byte| byte.is_ascii_digit());
        let number = serde_json::from_str::<Number>(cell).ok().filter(|_| is_number);
        let value = match (heading, number) {
            ("id", _) | (_, None) => cell.into(),
            (_, Some(number)) => serde_json::Value::Number(number),
        };
        match heading {
            "method" | "path" => http.insert(heading.into(), cell.into()),
            _ => fields.insert(heading.into(), value),
        };
    }
    if !http.is_empty() {
        fields.insert("http".into(), http.into());
    }
    Flow::from_json(&serde_json::Value::Object(fields).to_string())
}

/// The fields of a flow as columns.
const FIELDS: &[&str] = &[
    "id",
    "from",
    "to",
    "protocol",
    "port",
    "sourcePort",
    "icmpType",
    "icmpCode",
    "family",
    "principal",
    "method",
    "path",
    "expect",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &str, text: &str) -> (Vec<String>, String) {
        let (flows, error) = Flow::list(name, FlowFormat::guess(name, text.as_bytes()), text.as_bytes());
        let show = |it: &ListedFlow| {
            let port = it.flow.port().map_or_else(|| "-".into(), ToString::to_string);
            format!("{} {:?} {} {port}", it.line, it.flow.id(), it.flow.protocol())
        };
        (flows.iter().map(show).collect(), error.map(|error| error.to_string()).unwrap_or_default())
    }

    #[test]
    fn one_list_in_every_format() {
        let wanted = ["Some(\"\\\"a\\\"\") TCP 80", "None UDP dns"];
        for (name, lines, text) in [
            (
                "stdin",
                [1, 2],
                "{\"id\": \"a\", \"from\": \"a/b\", \"to\": \"a/c\", \"port\": 80}\n{\"from\": \"a/b\", \"to\": \"a/c\", \"protocol\": \"UDP\", \"port\": \"dns\"}",
            ),
            (
                "flows.json",
                [2, 3],
                "[\n {\"id\": \"a\", \"from\": \"a/b\", \"to\": \"a/c\", \"port\": 80},\n {\"from\": \"a/b\", \"to\": \"a/c\",\n  \"protocol\": \"UDP\", \"port\": \"dns\"}]\n",
            ),
            (
                "stdin",
                [2, 6],
                "# comment\n- id: a\n  from: a/b\n  to: a/c\n  port: 0x50\n- from: a/b\n  to: a/c\n  protocol: UDP\n  port: dns\n",
            ),
            (
                "flows.yml",
                [1, 3],
                "{id: a, from: a/b, to: a/c, port: 80}\n---\nfrom: a/b\nto: a/c\nprotocol: UDP\nport: dns\n",
            ),
            ("stdin", [2, 3], "id,from,to,protocol,port\na,a/b,a/c,,80\n,a/b,a/c,UDP,dns\n"),
            (
                "x.CSV",
                [2, 4],
                "\u{feff}from,to,\"port\",protocol,id\r\na/b,a/c, 80,,\"a\"\r\n\r\na/b,a/c,dns,UDP,\r\n",
            ),
        ] {
            let (flows, error) = shown(name, text);
            let want: Vec<String> =
                lines.iter().zip(wanted).map(|(line, want)| format!("{line} {want}")).collect();
            assert_eq!((flows, error.as_str()), (want, ""), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_field() {
        for (name, text, count, says) in [
            (
                "f.yaml",
                "- {from: a/b, to: a/c}\n- {from: a/b, to: a/c, port: 70000}\n",
                1,
                "f.yaml:2: port: ",
            ),
            ("f.yaml", "- {from: a/b, to: a/c, prt: 1}\n", 0, "f.yaml:1: unknown field `prt`"),
            ("f.yaml", "- from: a/b\n  to: a/c\n  port: 1\n  port: 2\n", 0, "f.yaml:4:3: "),
            ("f.yaml", "- a\n", 0, "f.yaml:1: `a` is not a flow"),
            ("f.yaml", "- [a]\n", 0, "f.yaml:1: a list where a flow is expected"),
            ("f.yaml", "- {from: a/b, to: a/c}\n- {from: [\n", 0, "f.yaml:"),
            ("f.json", "[{\"from\": \"a/b\", \"to\": 1}]", 0, "f.json:1: to: `1` is not a text"),
            ("f.json", "[{\"from\": \"a/b\"", 0, "f.json:1"),
            ("f.csv", "from,to,port\na/b,a/c,80\na/b,a/c,x y\n", 1, "f.csv:3: port: "),
            (
                "f.csv",
                "from,to,prt\na/b,a/c,80\n",
                0,
                "f.csv:1: unknown field `prt`, expected one of id, from",
            ),
            ("f.csv", "from,to,to\na/b,a/c,80\n", 0, "f.csv:1: the field `to` occurs twice"),
            ("f.csv", "from,to\na/b\n", 0, "f.csv:2: 1 cells where the first line has 2"),
            ("f.csv", "from,to\na/b,\n", 0, "f.csv:2: to: required, and missing"),
            ("f.csv", "from,to,expect\na/b,a/c,maybe\n", 0, "f.csv:2: expect: "),
        ] {
            let (flows, error) = shown(name, text);
            assert!(error.starts_with(says), "{text}: {error}");
            assert_eq!(flows.len(), count, "{text}");
        }
    }

    #[test]
    fn formats_are_told_by_name_and_beginning() {
        use FlowFormat::{Csv, Json, JsonLines, Yaml};
        for (name, beginning, want) in [
            ("stdin", "", JsonLines),
            ("stdin", " \n{\"from\"", JsonLines),
            ("f.json", "{\"from\"", JsonLines),
            ("stdin", "\u{feff}[", Json),
            ("stdin", "not json", JsonLines),
            ("stdin", "{\n  \"from\": \"a/b\"", Json),
            ("stdin", "{\"from\": \"a/b\"}\r\n", JsonLines),
            ("stdin", "from, to ,port\n", Csv),
            ("stdin", "from: a/b\n", Yaml),
            ("stdin", "---\n", Yaml),
            ("f.csv", "{", Csv),
            ("f.yaml", "{from: x}", Yaml),
        ] {
            assert_eq!(FlowFormat::guess(name, beginning.as_bytes()), want, "{name} {beginning:?}");
        }
    }
}
