//! Many flows from a file or standard input.

use core::fmt::Write as _;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::path::Path;

use portcullis::render::Renderer;
use portcullis::scenario::{Flow, FlowFormat, ListedFlow};

use crate::args::{EvalArgs, Output};
use crate::eval::gate::Tally;
use crate::eval::table::{self, Row, Shape, Table};
use crate::eval::{Judge, explain, limit, worded};
use crate::failure::{Failure, shown};
use crate::output::{Colour, stdout, to_stderr};
use crate::progress::Progress;
use crate::stream::{self, Chunk};

/// Answers every flow in `file`.
pub(crate) fn run(judge: &Judge<'_>, args: &EvalArgs, file: &Path) -> Result<Tally, Failure> {
    let (mut input, name) = open(file)?;
    let beginning = begin(&mut input).map_err(|error| Failure::unreadable(&name, &error))?;
    let written = FlowFormat::guess(&name, &beginning);
    let input = io::Cursor::new(beginning).chain(input);
    let colour = Colour::choose(args.color);
    let format = match args.output {
        None if args.explain => Format::Explain,
        None | Some(Output::Table) => Format::Table(Shape::Short),
        Some(Output::Wide) => Format::Table(Shape::Wide),
        Some(Output::Json) => Format::Json,
        Some(Output::Jsonl) => Format::Jsonl,
    };
    let mut out = stdout();
    let mut table = match format {
        Format::Table(shape) => Some(Table::new(args.staged, colour, limit(shape))),
        _ => None,
    };
    let mut tally = Tally::default();
    let mut notes = Notes::default();
    let mut count = 0_u64;
    // On a terminal that shows the answers they are the sign of life.
    let progress = (!io::stdout().is_terminal()).then(|| Progress::start("answering", "flows"));
    let renderer = judge.renderer();
    let asking = Asking { judge, renderer: &renderer, name: &name, format, colour, traced: args.explain };
    let done = |block: Block| {
        tally.add(block.tally);
        notes.add(block.notes);
        if let Some(progress) = &progress {
            progress.add(block.tally.flows());
        }
        if let Some(table) = &mut table {
            for row in block.rows {
                table.add(row);
            }
            table.write(&mut out)?;
        }
        // Each answer begins with what parts it from the one before.
        let parted = block.bytes.strip_prefix(format.part().as_bytes());
        match parted {
            Some(rest) if count == 0 => {
                out.write_all(format.begin().as_bytes())?;
                out.write_all(rest)?;
            }
            _ => out.write_all(&block.bytes)?,
        }
        count = count.saturating_add(block.tally.flows());
        out.flush()?;
        block.error.map_or(Ok(()), Err)
    };
    let streamed = match written {
        FlowFormat::JsonLines => {
            stream::run(Box::new(input), &name, |chunk: &Chunk| asking.answer_all(chunk), done)
        }
        // Only lines can be answered one by one.
        _ => asking.answer_list(input, written, done),
    };
    // What was answered before an error is printed all the same; a list is then left open, so that nothing takes it
    // for complete.
    if let Some(table) = table {
        table.finish(&mut out)?;
    }
    if streamed.is_ok() {
        let end = match format {
            Format::Json if count == 0 => "[]\n",
            Format::Json => "\n]\n",
            _ => "",
        };
        out.write_all(end.as_bytes())?;
    }
    out.flush()?;
    drop(progress);
    notes.print(args.quiet);
    streamed.map(|()| tally)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Table(Shape),
    Json,
    Jsonl,
    Explain,
}

impl Format {
    /// What stands before each answer.
    const fn part(self) -> &'static str {
        match self {
            Self::Json => ",\n",
            Self::Explain => "\n",
            Self::Table(_) | Self::Jsonl => "",
        }
    }

    /// What stands before the first answer instead.
    const fn begin(self) -> &'static str {
        match self {
            Self::Json => "[\n",
            _ => "",
        }
    }
}

/// The answers to one chunk, up to the first bad flow.
#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    rows: Vec<Row>,
    tally: Tally,
    notes: Notes,
    error: Option<Failure>,
}

/// What standard error says once all answers are written.
#[derive(Default)]
struct Notes {
    /// Explanations of answers that are not as expected.
    unexpected: Vec<String>,
    warnings: Vec<String>,
    /// How many more there are of each.
    more: [u64; 2],
}

impl Notes {
    fn add(&mut self, other: Self) {
        let [unexpected, warnings] = &mut self.more;
        let [more_unexpected, more_warnings] = other.more;
        for (list, new, more, beyond) in [
            (&mut self.unexpected, other.unexpected, unexpected, more_unexpected),
            (&mut self.warnings, other.warnings, warnings, more_warnings),
        ] {
            *more = more.saturating_add(beyond);
            for item in new {
                if list.len() < SHOWN {
                    list.push(item);
                } else {
                    *more = more.saturating_add(1);
                }
            }
        }
    }

    fn print(&self, quiet: bool) {
        let [unexpected, warnings] = self.more;
        if !quiet {
            self.warnings.iter().for_each(|warning| to_stderr(warning));
            if warnings > 0 {
                to_stderr(&format!("warning: {warnings} more warnings are not shown\n"));
            }
        }
        self.unexpected.iter().for_each(|text| to_stderr(text));
        if unexpected > 0 {
            to_stderr(&format!("{unexpected} more answers that are not as expected are not explained\n"));
        }
    }
}

/// How chunks are answered.
struct Asking<'a> {
    judge: &'a Judge<'a>,
    renderer: &'a Renderer<'a>,
    name: &'a str,
    format: Format,
    colour: Colour,
    traced: bool,
}

impl Asking<'_> {
    fn answer_all(&self, chunk: &Chunk) -> Block {
        let mut block = Block::default();
        for (number, line) in chunk.lines() {
            let at = format!("{}:{number}: ", self.name);
            let answered = match stream::text(line) {
                Ok(line) => self.answer(line, &at, &mut block),
                Err(reason) => Err(Failure::Input(format!("{at}{reason}"))),
            };
            if let Err(failure) = answered {
                block.error = Some(failure);
                break;
            }
        }
        block
    }

    /// Reads a whole list and answers it block by block.
    fn answer_list(
        &self,
        input: impl Read,
        format: FlowFormat,
        mut done: impl FnMut(Block) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        input
            .take(MOST_BYTES)
            .read_to_end(&mut bytes)
            .map_err(|error| Failure::unreadable(self.name, &error))?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) >= MOST_BYTES {
            let reason =
                format!("{}: longer than {MOST_BYTES} bytes; write one JSON object a line", self.name);
            return Err(Failure::Input(reason));
        }
        let (flows, error) = Flow::list(self.name, format, &bytes);
        drop(bytes);
        for some in flows.chunks(BLOCK) {
            let mut block = Block::default();
            for ListedFlow { line, flow } in some {
                let at = format!("{}:{line}: ", self.name);
                if let Err(failure) = self.answer_one(flow, &at, &mut block) {
                    block.error = Some(failure);
                    break;
                }
            }
            done(block)?;
        }
        error.map_or(Ok(()), |error| Err(Failure::Input(error.to_string())))
    }

    fn answer(&self, line: &str, at: &str, block: &mut Block) -> Result<(), Failure> {
        let flow = Flow::from_json(line).map_err(|error| Failure::Input(format!("{at}{error}")))?;
        self.answer_one(&flow, at, block)
    }

    fn answer_one(&self, flow: &Flow, at: &str, block: &mut Block) -> Result<(), Failure> {
        let judgement = self.judge.judge(flow).map_err(|error| error.failure(at, ToString::to_string))?;
        let as_expected = block.tally.count(flow, &judgement);
        let mut notes = Notes::default();
        notes.warnings.extend(judgement.answer.warnings().iter().map(|it| format!("warning: {at}{it}\n")));
        if let (false, Some(expected)) = (as_expected, flow.expect()) {
            let mut text =
                format!("{at}expected {expected}, and the answer is {}", worded(&judgement.answer));
            // Writing into a string cannot fail.
            let _ = match flow.id() {
                Some(id) => writeln!(text, " ({})", table::id(id)),
                None => writeln!(text),
            };
            if self.format != Format::Explain && block.notes.unexpected.len() < SHOWN {
                for line in explain::text(self.judge, flow, &judgement, Colour::Off).lines() {
                    let _ = if line.is_empty() { writeln!(text) } else { writeln!(text, "  {line}") };
                }
            }
            notes.unexpected.push(text);
        }
        block.notes.add(notes);
        block.bytes.extend_from_slice(self.format.part().as_bytes());
        match self.format {
            Format::Table(shape) => block.rows.push(Row::new(self.renderer, flow, &judgement, shape)),
            Format::Explain => {
                let text = explain::text(self.judge, flow, &judgement, self.colour);
                block.bytes.extend_from_slice(text.as_bytes());
            }
            Format::Json | Format::Jsonl => {
                serde_json::to_writer(&mut block.bytes, &self.judge.report(flow, &judgement, self.traced))
                    .map_err(|error| Failure::Environment(format!("cannot write the answer: {error}")))?;
                if self.format == Format::Jsonl {
                    block.bytes.push(b'\n');
                }
            }
        }
        Ok(())
    }
}

/// The beginning of the input, as far as its format needs it. Input that arrives slowly is not waited for longer than that.
fn begin(input: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut beginning = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = match input.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        beginning.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let mark = "\u{feff}".as_bytes();
        let text = beginning.strip_prefix(mark).unwrap_or(&beginning).trim_ascii_start();
        let is_enough = text.contains(&b'\n') || text.len() > buffer.len() || beginning.len() > MANY_BLANKS;
        if count == 0 || is_enough {
            return Ok(beginning);
        }
    }
}

/// White space at the beginning that is looked past.
const MANY_BLANKS: usize = 1 << 20;

/// The longest list that is read as a whole.
const MOST_BYTES: u64 = 1 << 28;

/// Flows of a list that are answered before anything is written.
const BLOCK: usize = 256;

/// Notes of a kind that are printed.
const SHOWN: usize = 20;

fn open(file: &Path) -> Result<(Box<dyn Read + Send>, String), Failure> {
    if file.as_os_str() == "-" {
        return Ok((Box::new(io::stdin()), "stdin".into()));
    }
    let name = shown(file);
    let opened = File::open(file).map_err(|error| Failure::unreadable(&name, &error))?;
    Ok((Box::new(opened), name))
}
