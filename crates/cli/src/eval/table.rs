//! The verdict table.

mod layout;

use core::fmt::Write as _;
use std::io::{self, Write};

use portcullis::path::Side;
use portcullis::quote::escaped;
use portcullis::render::Renderer;
use portcullis::scenario::{Answer, Flow, Part};
use portcullis::verdict::{Direction, Verdict};

use crate::eval::{Judgement, worded};
use crate::output::Colour;
use layout::{Width, fit, wrap};

/// What a table shows of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Why the flow has its verdict.
    Short,
    /// What both sides say, and where that stands.
    Wide,
}

/// One flow with its answer, as text.
#[derive(Debug)]
pub(crate) struct Row {
    verdict: Verdict,
    staged: Option<Verdict>,
    cells: [String; COLUMNS],
}

impl Row {
    pub(crate) fn new(renderer: &Renderer<'_>, flow: &Flow, judgement: &Judgement, shape: Shape) -> Self {
        let (answer, staged) = (&judgement.answer, judgement.staged.as_ref());
        let part = answer.deciding();
        let verdict = match flow.expect() {
            Some(expected) if !answer.meets(expected) => {
                format!("{} (expected {expected})", worded(answer))
            }
            _ => worded(answer),
        };
        let of = |direction| part.map_or_else(|| "-".into(), |part| side(renderer, part, direction));
        let (why, egress, ingress) = match shape {
            Shape::Short => (renderer.answer(answer), String::new(), String::new()),
            Shape::Wide => (String::new(), of(Direction::Egress), of(Direction::Ingress)),
        };
        Self {
            verdict: answer.verdict(),
            staged: staged.map(Answer::verdict),
            cells: [
                flow.id().map(id).unwrap_or_default(),
                flow.from().to_string(),
                flow.to().to_string(),
                service(flow),
                verdict,
                staged.map(worded).unwrap_or_default(),
                why,
                egress,
                ingress,
                staged.map(|staged| changes(renderer, answer, staged)).unwrap_or_default(),
            ],
        }
    }
}

/// A table that is written while it is still growing: the first rows set the widths of its columns.
#[derive(Debug)]
pub(crate) struct Table {
    staged: bool,
    colour: Colour,
    /// The widest line that may be written.
    limit: Option<usize>,
    waiting: Vec<Row>,
    widths: Option<[usize; COLUMNS]>,
}

impl Table {
    /// An empty table; with `staged`, it has a column for the verdict with staged policies. With a limit, cells take several
    /// lines where one would be too wide.
    pub(crate) const fn new(staged: bool, colour: Colour, limit: Option<usize>) -> Self {
        Self { staged, colour, limit, waiting: Vec::new(), widths: None }
    }

    pub(crate) fn add(&mut self, row: Row) {
        self.waiting.push(row);
    }

    /// Writes what can be written already.
    pub(crate) fn write(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.widths.is_some() || self.waiting.len() >= MEASURED { self.flush(out) } else { Ok(()) }
    }

    /// Writes the rest.
    pub(crate) fn finish(mut self, out: &mut impl Write) -> io::Result<()> {
        self.flush(out)
    }

    fn flush(&mut self, out: &mut impl Write) -> io::Result<()> {
        let widths = match self.widths {
            Some(widths) => widths,
            None => {
                let widths = self.measure();
                self.widths = Some(widths);
                let heading = HEADINGS.map(String::from);
                self.lines(out, &widths, &heading, None)?;
                widths
            }
        };
        for row in core::mem::take(&mut self.waiting) {
            self.lines(out, &widths, &row.cells, Some(&row))?;
        }
        Ok(())
    }

    /// The widths of the columns, 0 for those that are left out.
    fn measure(&self) -> [usize; COLUMNS] {
        let mut widths = [0; COLUMNS];
        let measured = self.waiting.iter().take(MEASURED);
        for row in measured {
            for (width, cell) in widths.iter_mut().zip(&row.cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for (index, (width, heading)) in widths.iter_mut().zip(HEADINGS).enumerate() {
            let optional = matches!(index, ID | STAGED | WHY | EGRESS | INGRESS | CHANGES);
            if !optional || *width > 0 || (self.staged && index == STAGED) {
                *width = (*width).max(heading.len());
            }
        }
        if let Some(limit) = self.limit {
            let mut columns = widths.map(|natural| Width { natural, least: natural });
            for (index, column) in columns.iter_mut().enumerate() {
                if !matches!(index, SERVICE | VERDICT | STAGED) {
                    column.least = column.natural.min(LEAST);
                }
            }
            fit(&mut columns, GAP, limit);
            widths = columns.map(|column| column.natural);
        }
        widths
    }

    fn lines(
        &self,
        out: &mut impl Write,
        widths: &[usize; COLUMNS],
        cells: &[String; COLUMNS],
        row: Option<&Row>,
    ) -> io::Result<()> {
        // Only where the width is limited do cells have several lines.
        let mut columns: [Vec<&str>; COLUMNS] = Default::default();
        for ((column, cell), width) in columns.iter_mut().zip(cells).zip(widths) {
            *column = if self.limit.is_some() { wrap(cell, *width) } else { vec![cell.as_str()] };
        }
        let height = columns.iter().map(Vec::len).max().unwrap_or_default();
        for number in 0..height {
            let parts = columns.each_ref().map(|lines| lines.get(number).copied().unwrap_or_default());
            self.line(out, widths, parts, row)?;
        }
        Ok(())
    }

    fn line(
        &self,
        out: &mut impl Write,
        widths: &[usize; COLUMNS],
        cells: [&str; COLUMNS],
        row: Option<&Row>,
    ) -> io::Result<()> {
        let mut text = String::new();
        // Spaces are owed until something follows, so that no line ends in them.
        let mut owed = 0_usize;
        for (index, (width, cell)) in widths.iter().zip(cells).enumerate() {
            if *width == 0 {
                continue;
            }
            if cell.is_empty() {
                owed = owed.saturating_add(*width).saturating_add(GAP);
                continue;
            }
            text.extend(core::iter::repeat_n(' ', core::mem::take(&mut owed)));
            let verdict = match (index, row) {
                (VERDICT, Some(row)) => Some(row.verdict),
                (STAGED, Some(row)) => row.staged,
                _ => None,
            };
            // Writing into a string cannot fail.
            let _ = match (verdict, row) {
                (Some(verdict), _) => write!(text, "{}", self.colour.verdict(verdict, cell)),
                (None, Some(_)) => write!(text, "{cell}"),
                (None, None) => write!(text, "{}", self.colour.bold(cell)),
            };
            owed = owed.saturating_add(width.saturating_sub(cell.chars().count())).saturating_add(GAP);
        }
        text.push('\n');
        out.write_all(text.as_bytes())
    }
}

/// An id for people: a text without its quotes.
pub(crate) fn id(json: &str) -> String {
    let text: Option<String> = if json.starts_with('"') { serde_json::from_str(json).ok() } else { None };
    escaped(text.as_deref().unwrap_or(json)).to_string()
}

/// Protocol with port, or every port, or ICMP type and code.
pub(crate) fn service(flow: &Flow) -> String {
    let protocol = flow.protocol();
    match flow.icmp() {
        Some(icmp) => format!("{protocol} {}/{}", icmp.kind, icmp.code),
        None if protocol.has_ports() => match flow.port() {
            Some(port) => format!("{protocol} {port}"),
            None => format!("{protocol} every port"),
        },
        None => protocol.to_string(),
    }
}

fn side(renderer: &Renderer<'_>, part: &Part, direction: Direction) -> String {
    let side = match direction {
        Direction::Egress => &part.decision.egress,
        Direction::Ingress => &part.decision.ingress,
    };
    side.as_ref().map_or_else(
        || "-".into(),
        |side| {
            let why = renderer.located_side(side, direction, &part.resolved.packet);
            format!("{}: {why}", side.decision.verdict)
        },
    )
}

/// What staged policies would change.
fn changes(renderer: &Renderer<'_>, now: &Answer, staged: &Answer) -> String {
    let (Some(now), Some(staged)) = (now.deciding(), staged.deciding()) else { return String::new() };
    let mut parts = Vec::new();
    for direction in [Direction::Egress, Direction::Ingress] {
        let decision = |part: &Part| {
            let side = match direction {
                Direction::Egress => &part.decision.egress,
                Direction::Ingress => &part.decision.ingress,
            };
            side.as_ref().map(|side: &Side| side.decision.clone())
        };
        if decision(now) != decision(staged) {
            parts.push(format!("{direction} {}", side(renderer, staged, direction)));
        }
    }
    parts.join("; ")
}

const COLUMNS: usize = 10;
const ID: usize = 0;
const SERVICE: usize = 3;
const VERDICT: usize = 4;
const STAGED: usize = 5;
const WHY: usize = 6;
const EGRESS: usize = 7;
const INGRESS: usize = 8;
const CHANGES: usize = 9;
const HEADINGS: [&str; COLUMNS] =
    ["ID", "FROM", "TO", "SERVICE", "VERDICT", "STAGED", "WHY", "EGRESS", "INGRESS", "WHEN STAGED"];

/// Spaces between columns.
const GAP: usize = 2;

/// Rows that are held back to set the widths.
const MEASURED: usize = 1000;

/// The least width of a column whose cells take several lines.
const LEAST: usize = 8;
