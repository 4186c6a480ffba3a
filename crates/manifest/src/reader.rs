//! Files, directories and streams.

use alloc::sync::Arc;
use core::ops::ControlFlow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::document::{Document, Sink, objects};
use crate::error::{ReadError, ReadErrorKind};
use crate::limits::Limits;
use crate::other::Others;
use crate::source::{Format, Notation, Piece, Source, io_reason};
use crate::tree::Tree;
use crate::{json, yaml};

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
    others: Others,
}

impl Reader {
    /// A reader with the given limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Reads the objects of `path`: a file of any name, a directory with everything below it that ends in `.yaml`,
    /// `.yml` or `.json`, or `-` for standard input.
    ///
    /// Files of a directory come in the bytewise order of their names. What was read once by this reader, under
    /// whatever name, is not read again.
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
            Ok(metadata) if metadata.is_file() => self.read_file(path, sink),
            // A pipe, for example: it has no real path, and can be read once only.
            Ok(_) => self.open(path, sink),
            Err(error) => sink(Err(file_error(path, &error))),
        }
    }

    /// Reads the objects of a stream. `name` is its name in errors; `.json` at its end asks for strict JSON.
    pub fn read_stream(
        &mut self,
        name: &str,
        stream: impl Read,
        sink: &mut dyn FnMut(Result<Document, ReadError>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let file: Arc<str> = name.into();
        let format = if name.ends_with(".json") { Format::Json } else { Format::Guess };
        let mut source = Source::new(stream, format, &self.limits);
        while let Some(piece) = source.next_piece() {
            match piece.and_then(|piece| parse(&piece, &self.limits)) {
                Ok(Some(tree)) => objects(tree, &file, &mut self.others, sink)?,
                Ok(None) => {}
                Err(error) => sink(Err(error.with_file(Arc::clone(&file))))?,
            }
        }
        ControlFlow::Continue(())
    }

    /// What was read and is no object.
    pub(crate) fn into_others(self) -> Others {
        self.others
    }

    fn read_directory(&mut self, path: &Path, sink: &mut Sink<'_>) -> ControlFlow<()> {
        let mut found = 0_usize;
        // Directories nest as deep as the file system lets them: no recursion.
        let mut waiting = vec![path.to_owned()];
        while let Some(path) = waiting.pop() {
            let metadata = match fs::metadata(&path) {
                Ok(metadata) => metadata,
                // A link that leads nowhere, or something that has just vanished, matters if it is a manifest.
                Err(error) => {
                    if is_manifest(&path) {
                        found = found.saturating_add(1);
                        sink(Err(file_error(&path, &error)))?;
                    }
                    continue;
                }
            };
            if metadata.is_dir() {
                match self.list(&path) {
                    Ok(Some(entries)) => waiting.extend(entries),
                    // Read by an earlier call, which has said whether there was anything.
                    Ok(None) => found = found.saturating_add(1),
                    Err(error) => sink(Err(error))?,
                }
            } else if is_manifest(&path) {
                found = found.saturating_add(1);
                if metadata.is_file() {
                    self.read_file(&path, sink)?;
                } else {
                    let error = ReadError::new(ReadErrorKind::File, "not a regular file");
                    sink(Err(error.with_file(path.to_string_lossy().into())))?;
                }
            }
        }
        if found == 0 {
            let reason = "no manifest in this directory: no file ends in .yaml, .yml or .json";
            sink(Err(ReadError::new(ReadErrorKind::File, reason).with_file(path.to_string_lossy().into())))?;
        }
        ControlFlow::Continue(())
    }

    /// What is in a directory, last name first: nothing if this call has listed it, `None` if an earlier one has.
    fn list(&mut self, path: &Path) -> Result<Option<Vec<PathBuf>>, ReadError> {
        let failed = |error: &io::Error| file_error(path, error);
        match self.seen.entry(fs::canonicalize(path).map_err(|error| failed(&error))?) {
            Entry::Vacant(entry) => entry.insert(self.call),
            Entry::Occupied(entry) if *entry.get() == self.call => return Ok(Some(Vec::new())),
            Entry::Occupied(_) => return Ok(None),
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(|error| failed(&error))? {
            names.push(entry.map_err(|error| failed(&error))?.file_name());
        }
        names.sort_by(|one, other| other.as_encoded_bytes().cmp(one.as_encoded_bytes()));
        Ok(Some(names.into_iter().map(|name| path.join(name)).collect()))
    }

    fn read_file(&mut self, path: &Path, sink: &mut Sink<'_>) -> ControlFlow<()> {
        let real = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(error) => return sink(Err(file_error(path, &error))),
        };
        if self.seen.insert(real, self.call).is_some() {
            return ControlFlow::Continue(());
        }
        self.open(path, sink)
    }

    fn open(&mut self, path: &Path, sink: &mut Sink<'_>) -> ControlFlow<()> {
        match File::open(path) {
            Ok(file) => self.read_stream(&path.to_string_lossy(), file, sink),
            Err(error) => sink(Err(file_error(path, &error))),
        }
    }
}

fn parse(piece: &Piece<'_>, limits: &Limits) -> Result<Option<Tree>, ReadError> {
    match piece.notation {
        Notation::Yaml => yaml::parse(piece.text, piece.start, limits),
        Notation::Json => json::parse(piece.text, piece.start, limits).map(Some),
        Notation::LooksLikeJson => match json::parse(piece.text, piece.start, limits) {
            // Quoted keys do not make it JSON.
            Err(error) if error.kind() == ReadErrorKind::Syntax => {
                yaml::parse(piece.text, piece.start, limits).map_err(|_| error)
            }
            other => other.map(Some),
        },
    }
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}

fn file_error(path: &Path, error: &io::Error) -> ReadError {
    ReadError::new(ReadErrorKind::File, io_reason(error)).with_file(path.to_string_lossy().into())
}
