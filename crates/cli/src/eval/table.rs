//! The verdict table.

use core::fmt::Write as _;
use std::io::{self, Write};

use portcullis::flow::Side;
use portcullis::scenario::{Answer, Flow, Part};
use portcullis::verdict::Verdict;

use crate::eval::Judgement;
use crate::output::Colour;

/// One flow with its answer, as text.
#[derive(Debug)]
pub(crate) struct Row {
    verdict: Verdict,
    staged: Option<Verdict>,
    cells: [String; COLUMNS],
}

impl Row {
    pub(crate) fn new(flow: &Flow, judgement: &Judgement) -> Self {
        let (answer, staged) = (&judgement.answer, judgement.staged.as_ref());
        let decision = answer.deciding().map(|part| &part.decision);
        Self {
            verdict: answer.verdict(),
            staged: staged.map(Answer::verdict),
            cells: [
                flow.id().map(id).unwrap_or_default(),
                flow.from().to_string(),
                flow.to().to_string(),
                service(flow),
                answer.verdict().to_string(),
                staged.map(|staged| staged.verdict().to_string()).unwrap_or_default(),
                side(decision.and_then(|decision| decision.egress.as_ref())),
                side(decision.and_then(|decision| decision.ingress.as_ref())),
                staged.map(|staged| changes(answer, staged)).unwrap_or_default(),
            ],
        }
    }
}

/// A table that is written while it is still growing: the first rows set the widths of its columns.
#[derive(Debug)]
pub(crate) struct Table {
    staged: bool,
    colour: Colour,
    waiting: Vec<Row>,
    widths: Option<[usize; COLUMNS]>,
}

impl Table {
    /// An empty table; with `staged`, it has a column for the verdict with staged policies.
    pub(crate) const fn new(staged: bool, colour: Colour) -> Self {
        Self { staged, colour, waiting: Vec::new(), widths: None }
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
                self.line(out, &widths, &heading, None)?;
                widths
            }
        };
        for row in core::mem::take(&mut self.waiting) {
            self.line(out, &widths, &row.cells, Some(&row))?;
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
            let optional = matches!(index, ID | STAGED | CHANGES);
            if !optional || *width > 0 || (self.staged && index == STAGED) {
                *width = (*width).max(heading.len());
            }
        }
        widths
    }

    fn line(
        &self,
        out: &mut impl Write,
        widths: &[usize; COLUMNS],
        cells: &[String; COLUMNS],
        row: Option<&Row>,
    ) -> io::Result<()> {
        let mut text = String::new();
        // Spaces are owed until something follows, so that no line ends in them.
        let mut owed = 0_usize;
        for (index, (width, cell)) in widths.iter().zip(cells).enumerate() {
            if *width == 0 {
                continue;
            }
            if !cell.is_empty() {
                text.extend(core::iter::repeat_n(' ', core::mem::take(&mut owed)));
            }
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
fn id(json: &str) -> String {
    let text = if json.starts_with('"') { serde_json::from_str(json).ok() } else { None };
    text.unwrap_or_else(|| json.to_owned())
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// Protocol with port or ICMP type and code.
pub(crate) fn service(flow: &Flow) -> String {
    let protocol = flow.protocol();
    match flow.icmp() {
        Some(icmp) => format!("{protocol} {}/{}", icmp.kind, icmp.code),
        None => match flow.port().filter(|_| protocol.has_ports()) {
            Some(port) => format!("{protocol} {port}"),
            None => protocol.to_string(),
        },
    }
}

fn side(side: Option<&Side>) -> String {
    side.map_or_else(|| "-".into(), |side| format!("{}: {}", side.decision.verdict, side.decision.cause))
}

/// What staged policies would change.
fn changes(now: &Answer, staged: &Answer) -> String {
    let decision = |answer| Answer::deciding(answer).map(|part: &Part| &part.decision);
    let (Some(now), Some(staged)) = (decision(now), decision(staged)) else { return String::new() };
    let mut parts = Vec::new();
    for (name, now, staged) in
        [("egress", &now.egress, &staged.egress), ("ingress", &now.ingress, &staged.ingress)]
    {
        let decision = |side: &Option<Side>| side.as_ref().map(|side| side.decision.clone());
        if decision(now) != decision(staged) {
            parts.push(format!("{name} {}", side(staged.as_ref())));
        }
    }
    parts.join("; ")
}

const COLUMNS: usize = 9;
const ID: usize = 0;
const VERDICT: usize = 4;
const STAGED: usize = 5;
const CHANGES: usize = 8;
const HEADINGS: [&str; COLUMNS] =
    ["ID", "FROM", "TO", "SERVICE", "VERDICT", "STAGED", "EGRESS", "INGRESS", "WHEN STAGED"];

/// Spaces between columns.
const GAP: usize = 2;

/// Rows that are held back to set the widths.
const MEASURED: usize = 1000;
