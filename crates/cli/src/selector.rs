//! `portcullis selector`: what a Calico selector says.

use core::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use portcullis::label::Labels;
use portcullis::quote::escaped;
use portcullis::selector::{Selector, SelectorError};
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::args::SelectorArgs;
use crate::failure::Failure;
use crate::output::{stdout, to_stderr};
use crate::stream::{self, Chunk};

/// Runs the command.
pub(crate) fn run(args: &SelectorArgs) -> Result<ExitCode, Failure> {
    if args.selector == "-" {
        if !args.labels.is_empty() {
            return Err(Failure::Usage(
                "`--labels` goes with a selector on the command line; with `-`, labels stand in each line"
                    .into(),
            ));
        }
        return lines();
    }
    let labels = args.labels.iter().map(|text| labels(text)).collect::<Result<Vec<Labels>, Failure>>()?;
    one(&args.selector, &args.labels, &labels)
}

/// One selector for people.
fn one(text: &str, written: &[String], labels: &[Labels]) -> Result<ExitCode, Failure> {
    let selector = match Selector::parse(text) {
        Ok(selector) => selector,
        Err(error) => {
            to_stderr(&pointed(text, &error));
            return Ok(ExitCode::from(1));
        }
    };
    let mut out = stdout();
    writeln!(out, "valid: {selector}")?;
    for (written, labels) in written.iter().zip(labels) {
        let answer = if selector.matches(labels) { "matches" } else { "does not match" };
        writeln!(out, "{answer}: {}", one_line(written))?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The error with the selector below it and a mark under the place.
fn pointed(text: &str, error: &SelectorError) -> String {
    let span = error.span();
    let mut message = format!("error: {error}\n");
    let (Some(before), Some(marked)) = (text.get(..span.start), text.get(span)) else { return message };
    // Only a window of a long text, so that the mark stays in sight.
    let skipped = before.chars().count().saturating_sub(WINDOW);
    let cut = |text: &str, skipped, most| text.chars().skip(skipped).take(most).collect::<String>();
    let shown = one_line(&cut(text, skipped, 2 * WINDOW));
    let column = one_line(&cut(before, skipped, WINDOW)).chars().count();
    let width = one_line(&cut(marked, 0, WINDOW)).chars().count().max(1);
    // Writing into a string cannot fail.
    let _ = writeln!(message, "  {shown}\n  {}{}", " ".repeat(column), "^".repeat(width));
    message
}

/// Labels as `key=value,key=value`; an empty text is no labels.
fn labels(text: &str) -> Result<Labels, Failure> {
    let mut labels = Labels::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let Some((key, value)) = part.split_once('=') else {
            return Err(Failure::Usage(format!("`--labels`: `{}` is not key=value", one_line(part))));
        };
        if labels.insert(key, value).is_some() {
            return Err(Failure::Usage(format!("`--labels`: `{}` is given twice", one_line(key))));
        }
    }
    Ok(labels)
}

/// One JSON object a line for programs.
fn lines() -> Result<ExitCode, Failure> {
    let mut out = stdout();
    stream::run(Box::new(io::stdin()), "stdin", answer_all, |answers| {
        out.write_all(&answers.bytes)?;
        out.flush()?;
        answers.error.map_or(Ok(()), |message| Err(Failure::Input(message)))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The answers to one chunk, up to the first line that is no question.
struct Answers {
    bytes: Vec<u8>,
    error: Option<String>,
}

fn answer_all(chunk: &Chunk) -> Answers {
    let mut answers = Answers { bytes: Vec::new(), error: None };
    for (number, line) in chunk.lines() {
        match stream::text(line).and_then(|line| answer(line, &mut answers.bytes)) {
            Ok(()) => answers.bytes.push(b'\n'),
            Err(reason) => {
                answers.error = Some(format!("stdin:{number}: {reason}"));
                break;
            }
        }
    }
    answers
}

fn answer(line: &str, out: &mut Vec<u8>) -> Result<(), String> {
    if !line.starts_with('{') {
        return Err("not a JSON object with `selector` and `labels`".into());
    }
    let question: Question = serde_json::from_str(line).map_err(|error| json_reason(&error))?;
    let answer = match Selector::parse(&question.selector) {
        Ok(selector) => Answer {
            valid: true,
            canonical: Some(selector.to_string()),
            error: None,
            matches: question.labels.iter().map(|labels| selector.matches(&labels.0)).collect(),
        },
        Err(error) => Answer {
            valid: false,
            canonical: None,
            error: Some(AnswerError { message: error.to_string(), offset: error.span().start }),
            matches: Vec::new(),
        },
    };
    serde_json::to_writer(out, &answer).map_err(|error| error.to_string())
}

/// The reason without the line, which is always the first.
fn json_reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let reason = text.strip_suffix(&place).unwrap_or(&text);
    format!("{} at column {}", one_line(reason), error.column())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    selector: String,
    #[serde(default)]
    labels: Vec<QuestionLabels>,
}

struct QuestionLabels(Labels);

impl<'de> Deserialize<'de> for QuestionLabels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(LabelsVisitor)
    }
}

struct LabelsVisitor;

impl<'de> Visitor<'de> for LabelsVisitor {
    type Value = QuestionLabels;

    fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("an object of labels")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<QuestionLabels, A::Error> {
        let mut labels = Labels::new();
        while let Some((key, value)) = map.next_entry::<String, String>()? {
            if labels.insert(key.as_str(), value).is_some() {
                return Err(A::Error::custom(format_args!("label `{key}` is given twice")));
            }
        }
        Ok(QuestionLabels(labels))
    }
}

#[derive(Serialize)]
struct Answer {
    valid: bool,
    canonical: Option<String>,
    error: Option<AnswerError>,
    matches: Vec<bool>,
}

#[derive(Serialize)]
struct AnswerError {
    message: String,
    offset: usize,
}

fn one_line(text: &str) -> String {
    escaped(text).to_string()
}

/// Characters of a selector shown on each side of an error.
const WINDOW: usize = 60;
