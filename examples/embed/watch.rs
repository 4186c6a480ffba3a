//! A watch: objects of a cluster that runs, or of a folder, drive the matcher, and each commit prints its delta.
//!
//! ```text
//! watch                      the server of KUBECONFIG, of ~/.kube/config, or of the pod that this runs in
//! watch KUBECONFIG           the server of this file
//! watch FOLDER               the manifests of a folder, read again every second
//! watch --once FOLDER        the same once
//! ```
#![allow(
    clippy::print_stdout,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "an example: a program that prints, with the standard library"
)]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::thread;
use std::time::Duration;

use portcullis::compile::{CompileScope, Compiler};
use portcullis::k8s::{Changes, Kind, Observed, Relevance, World, WorldOptions};
use portcullis::kube::{Event, Options, Source, Watch};
use portcullis::manifest::{Document, Limits, Reader};
use portcullis::matcher::Matcher;
use portcullis::settings::Settings;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut node = Node::new()?;
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => follow_server(&mut node, Source::Inferred),
        ["--once", folder] => node.read_folder(Path::new(folder)),
        [folder] if Path::new(folder).is_dir() => loop {
            node.read_folder(Path::new(folder))?;
            thread::sleep(Duration::from_secs(1));
        },
        [file] => follow_server(&mut node, Source::Kubeconfig { path: file.into(), context: None }),
        _ => Err("watch [KUBECONFIG | [--once] FOLDER]".into()),
    }
}

/// All that it takes to follow a server.
fn follow_server(node: &mut Node, source: Source) -> Result<(), Error> {
    let mut watch = Watch::start(source, Options::new())?;
    let mut is_synced = false;
    while let Some(first) = watch.blocking_next() {
        let mut next = Some(first);
        // Whatever waits goes into one commit.
        while let Some(change) = next {
            match &change.event {
                Event::Synced => is_synced = true,
                Event::State { kind, state } => {
                    println!("{}: {state:?}", kind.as_deref().unwrap_or("kinds"));
                }
                _ => {}
            }
            let changes = change.event.apply_to(&mut node.world);
            node.take(changes)?;
            next = watch.try_next();
        }
        // A part of the cluster is none that a node should enforce.
        if is_synced {
            node.commit()?;
        }
    }
    Err("the watch ended".into())
}

/// The policy engine of a node.
struct Node {
    world: World,
    compiler: Compiler,
    matcher: Matcher,
    /// The kinds that were ever in the folder.
    kinds: BTreeMap<&'static str, Kind>,
}

impl Node {
    fn new() -> Result<Self, Error> {
        let compiler = Compiler::new(Settings::default(), CompileScope::All);
        let matcher = Matcher::lower(compiler.snapshot())?;
        Ok(Self { world: World::new(WorldOptions::new()), compiler, matcher, kinds: BTreeMap::new() })
    }

    fn take(&mut self, changes: Changes) -> Result<(), Error> {
        for refusal in changes.refusals {
            println!("refused: {}: {}", refusal.object, refusal.errors);
        }
        for update in changes.updates {
            self.compiler.apply(update)?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Error> {
        let delta = self.compiler.commit();
        self.matcher = self.matcher.apply(&delta)?;
        let changed = [
            ("endpoints", delta.endpoints.len()),
            ("prefixes", delta.addresses.len()),
            ("programs", delta.programs.len()),
            ("tables", delta.tables.len()),
        ];
        if changed.iter().any(|(_, number)| *number > 0) {
            let changed = changed.map(|(what, number)| format!("{number} {what}")).join(", ");
            println!("generation {}: {changed} changed", delta.to);
        }
        Ok(())
    }

    /// Takes the folder as it is now. Where a file cannot be read, nothing changes.
    fn read_folder(&mut self, folder: &Path) -> Result<(), Error> {
        let mut objects: BTreeMap<&'static str, Vec<_>> = BTreeMap::new();
        let mut problems = Vec::new();
        let mut take = |document: Document| -> Result<(), String> {
            match Kind::of(document.api_version(), document.kind()) {
                Relevance::Relevant(kind) => {
                    let value = document.deserialize().map_err(|error| error.to_string())?;
                    self.kinds.insert(kind.name(), kind);
                    objects.entry(kind.name()).or_default().push(Observed::from_value(kind, value));
                    Ok(())
                }
                Relevance::Unsupported(reason) => Err(reason),
                _ => Ok(()),
            }
        };
        let _always_whole = Reader::new(Limits::default()).read_path(folder, &mut |document| {
            let taken = document.map_err(|error| error.to_string()).and_then(&mut take);
            problems.extend(taken.err());
            ControlFlow::Continue(())
        });
        if !problems.is_empty() {
            println!("{}", problems.join("\n"));
            return Ok(());
        }
        for (name, kind) in self.kinds.clone() {
            let changes = self.world.replace(kind, objects.remove(name).unwrap_or_default());
            self.take(changes)?;
        }
        self.commit()
    }
}
