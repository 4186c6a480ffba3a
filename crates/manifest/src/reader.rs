//! Files, directories and streams.

use alloc::sync::Arc;
use core::ops::ControlFlow;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::document::{Document, Sink, objects};
use crate::error::{ReadError, ReadErrorKind};
use crate::folder::{Step, Walk, file_error};
use crate::limits::Limits;
use crate::other::{self, Others};
use crate::parse::parse;
use crate::pattern::Patterns;
use crate::source::{Format, Piece, Source};
use crate::tree::Tree;
use crate::{kustomization, template};

/// Reads manifests: one object after the other, in a fixed order, with bounded memory for each document.
///
/// Every error is given out in its place among the objects, and reading goes on where that is safe: behind the
/// document, or else with the next file. The receiver decides whether to go on.
///
/// ```
/// use core::ops::ControlFlow;
/// use portcullis_manifest::{Limits, Reader};
///
/// let text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: demo}\n---\nkind: Pod\n";
/// let mut seen = Vec::new();
/// let _ = Reader::new(Limits::default()).read_stream("demo.yaml", text.as_bytes(), &mut |next| {
///     seen.push(match next {
///         Ok(document) => document.identity(),
///         Err(error) => error.to_string(),
///     });
///     ControlFlow::Continue(())
/// });
/// assert_eq!(seen, ["Namespace demo", "demo.yaml:5:1: Pod: missing field `apiVersion`"]);
/// ```
#[derive(Debug, Default)]
pub struct Reader {
    limits: Limits,
    /// Files and directories that were read, by their real path, and in which call: links may lead to one of them
    /// again.
    seen: HashMap<PathBuf, u32>,
    call: u32,
    excluded: Patterns,
    others: Others,
    has_read_folder: bool,
}

impl Reader {
    /// A reader with the given limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Leaves out of every folder what a pattern matches, files and folders with all below them.
    ///
    /// A pattern without `/` is about names at any depth (`charts`, `*.json`); with `/`, about the path below the folder
    /// that is read (`apps/*/test`, `**/secret/*.yaml`). `*`, `?`, `**`, `[ab]` and `{a,b}` are known. What is named
    /// itself is read all the same.
    ///
    /// # Errors
    /// The pattern is not understood.
    pub fn exclude(&mut self, pattern: &str) -> Result<(), ReadError> {
        self.excluded.add(pattern)
    }

    /// Reads the objects of `path`: a file of any name, a directory with everything below it that ends in `.yaml`,
    /// `.yml` or `.json`, or `-` for standard input.
    ///
    /// Files of a directory come in the bytewise order of their names. What was read once by this reader, under
    /// whatever name, is not read again. Hidden directories in it are passed over, and so are the patches of a
    /// kustomization.
    pub fn read_path(
        &mut self,
        path: &Path,
        sink: &mut dyn FnMut(Result<Document, ReadError>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.call = self.call.saturating_add(1);
        if path == Path::new("-") {
            return self.read_stream("stdin", io::stdin().lock(), sink);
        }
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => self.read_directory(path, sink),
            Ok(metadata) if metadata.is_file() => {
                if kustomization::is_one(path) {
                    self.others.warnings.push(kustomization::named(path));
                }
                self.read_file(path, Origin::Named, sink)
            }
            // A pipe, for example: it has no real path, and can be read once only.
            Ok(_) => self.open(path, Origin::Stream, sink),
            Err(error) => sink(Err(file_error(path, error))),
        }
    }

    /// Reads the objects of a stream. `name` is its name in errors; `.json` at its end asks for strict JSON.
    pub fn read_stream(
        &mut self,
        name: &str,
        stream: impl Read,
        sink: &mut dyn FnMut(Result<Document, ReadError>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.read_from(name, Origin::Stream, stream, sink)
    }

    /// What was read and is no object.
    pub(crate) fn into_others(mut self) -> Others {
        if self.has_read_folder {
            self.others.warnings.extend(self.excluded.unused());
        }
        self.others
    }

    fn read_directory(&mut self, path: &Path, sink: &mut Sink<'_>) -> ControlFlow<()> {
        self.has_read_folder = true;
        let walk = Walk {
            seen: &mut self.seen,
            call: self.call,
            excluded: &mut self.excluded,
            others: &mut self.others,
        };
        for step in walk.steps(path) {
            match step {
                Step::Read(file) => self.read_file(&file, Origin::InFolder, sink)?,
                Step::Fail(error) => sink(Err(error))?,
            }
        }
        ControlFlow::Continue(())
    }

    fn read_file(&mut self, path: &Path, origin: Origin, sink: &mut Sink<'_>) -> ControlFlow<()> {
        let real = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(error) => return sink(Err(file_error(path, error))),
        };
        if self.seen.insert(real, self.call).is_some() {
            return ControlFlow::Continue(());
        }
        self.open(path, origin, sink)
    }

    fn open(&mut self, path: &Path, origin: Origin, sink: &mut Sink<'_>) -> ControlFlow<()> {
        match File::open(path) {
            Ok(file) => self.read_from(&path.to_string_lossy(), origin, file, sink),
            Err(error) => sink(Err(file_error(path, error))),
        }
    }

    fn read_from(
        &mut self,
        name: &str,
        origin: Origin,
        stream: impl Read,
        sink: &mut Sink<'_>,
    ) -> ControlFlow<()> {
        let file: Arc<str> = name.into();
        let format = if name.ends_with(".json") { Format::Json } else { Format::Guess };
        // Looking for charts costs a look at the disk, so only what may be in one is looked at.
        let chart = match origin {
            Origin::Stream => None,
            _ => template::chart_of(Path::new(name)),
        };
        let mut source = Source::new(stream, format, &self.limits);
        while let Some(piece) = source.next_piece() {
            let error =
                match piece.and_then(|piece| parse_manifest(&piece, &file, chart.as_deref(), &self.limits)) {
                    Ok(Some(tree)) => {
                        objects(tree, &file, &mut self.others, sink)?;
                        continue;
                    }
                    Ok(None) => continue,
                    Err(error) => error.with_file(Arc::clone(&file)),
                };
            let kind = error.kind();
            if kind == ReadErrorKind::Syntax && origin == Origin::InFolder && holds_no_object(Path::new(name))
            {
                self.others.count("unreadable file");
                self.others.warnings.push(error.with_note("; passed over, because it holds no object"));
                break;
            }
            sink(Err(error))?;
            if kind == ReadErrorKind::Template {
                // The rest of the file is no better.
                break;
            }
        }
        ControlFlow::Continue(())
    }
}

/// Where text comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Stream,
    /// A file that was named.
    Named,
    /// A file that lies in a folder that was named.
    InFolder,
}

/// Whether a file that cannot be read has nothing to do with Kubernetes: the words that every object needs do not occur
/// in it.
fn holds_no_object(path: &Path) -> bool {
    let mut bytes = Vec::new();
    let is_read = File::open(path).is_ok_and(|file| {
        file.take(UNREADABLE_BYTES.saturating_add(1)).read_to_end(&mut bytes).is_ok()
            && bytes.len() as u64 <= UNREADABLE_BYTES
    });
    let occurs = |word: &[u8]| bytes.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word));
    is_read && !occurs(b"apiVersion") && !occurs(b"kind")
}

/// Larger files that cannot be read are errors, independent of their content.
const UNREADABLE_BYTES: u64 = 16 << 20;

/// As [`parse`], with one error for a template.
fn parse_manifest(
    piece: &Piece<'_>,
    file: &str,
    chart: Option<&Path>,
    limits: &Limits,
) -> Result<Option<Tree>, ReadError> {
    if let Some(chart) = chart.filter(|_| piece.text.contains("{{")) {
        return Err(template::of_chart(piece.text, piece.start, chart));
    }
    let refuse = |error: &ReadError| template::unreadable(error, chart);
    match parse(piece, limits) {
        Err(error) if error.kind() == ReadErrorKind::Syntax && template::has_marks(piece.text) => {
            Err(refuse(&error))
        }
        Ok(Some(tree)) => match tree.problem() {
            // Braces without quotes are a mapping whose key is a mapping.
            Some(problem) if piece.text.contains("{{") && other::recognise(tree.node(0), file).is_none() => {
                Err(refuse(problem))
            }
            _ => Ok(Some(tree)),
        },
        other => other,
    }
}
