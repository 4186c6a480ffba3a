//! Many flows from a file or standard input.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::Path;

use portcullis::scenario::{Flow, Report};

use crate::args::{EvalArgs, Output};
use crate::eval::table::{Row, Table};
use crate::eval::{Judge, explain};
use crate::failure::{Failure, shown};
use crate::output::{Colour, stdout};
use crate::stream::{self, Chunk};

/// Answers every flow in `file`; whether any is denied.
pub(crate) fn run(judge: &Judge<'_>, args: &EvalArgs, file: &Path) -> Result<bool, Failure> {
    let (input, name) = open(file)?;
    let colour = Colour::detect();
    let format = match args.output {
        _ if args.explain => Format::Explain,
        None | Some(Output::Table) => Format::Table,
        Some(Output::Json) => Format::Json,
        Some(Output::Jsonl) => Format::Jsonl,
    };
    let mut out = stdout();
    let mut table = (format == Format::Table).then(|| Table::new(args.staged, colour));
    let mut denied = false;
    let mut count = 0_u64;
    let work = |chunk: &Chunk| answer_all(judge, chunk, &name, format, colour);
    let streamed = stream::run(input, &name, work, |block: Block| {
        denied |= block.denied;
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
        count = count.saturating_add(block.count);
        out.flush()?;
        block.error.map_or(Ok(()), Err)
    });
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
    streamed.map(|()| denied)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Table,
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
            Self::Table | Self::Jsonl => "",
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
struct Block {
    bytes: Vec<u8>,
    rows: Vec<Row>,
    count: u64,
    denied: bool,
    error: Option<Failure>,
}

fn answer_all(judge: &Judge<'_>, chunk: &Chunk, name: &str, format: Format, colour: Colour) -> Block {
    let mut block = Block { bytes: Vec::new(), rows: Vec::new(), count: 0, denied: false, error: None };
    for (number, line) in chunk.lines() {
        let at = format!("{name}:{number}: ");
        let answered = match stream::text(line) {
            Ok(line) => answer(judge, line, format, colour, &at, &mut block),
            Err(reason) => Err(Failure::Input(format!("{at}{reason}"))),
        };
        if let Err(failure) = answered {
            block.error = Some(failure);
            break;
        }
    }
    block
}

fn answer(
    judge: &Judge<'_>,
    line: &str,
    format: Format,
    colour: Colour,
    at: &str,
    block: &mut Block,
) -> Result<(), Failure> {
    let flow = Flow::from_json(line).map_err(|error| Failure::Input(format!("{at}{error}")))?;
    let judgement = judge.judge(&flow).map_err(|error| error.failure(at, ToString::to_string))?;
    block.denied |= judgement.is_denied();
    block.count = block.count.saturating_add(1);
    block.bytes.extend_from_slice(format.part().as_bytes());
    match format {
        Format::Table => block.rows.push(Row::new(&flow, &judgement)),
        Format::Explain => {
            block.bytes.extend_from_slice(explain::text(judge, &flow, &judgement, colour).as_bytes());
        }
        Format::Json | Format::Jsonl => {
            let report = Report::new(&flow, &judgement.answer, judgement.staged.as_ref());
            serde_json::to_writer(&mut block.bytes, &report)
                .map_err(|error| Failure::Environment(format!("cannot write the answer: {error}")))?;
            if format == Format::Jsonl {
                block.bytes.push(b'\n');
            }
        }
    }
    Ok(())
}

fn open(file: &Path) -> Result<(Box<dyn Read + Send>, String), Failure> {
    if file.as_os_str() == "-" {
        return Ok((Box::new(io::stdin()), "stdin".into()));
    }
    let name = shown(file);
    let opened = File::open(file).map_err(|error| Failure::unreadable(&name, &error))?;
    Ok((Box::new(opened), name))
}
