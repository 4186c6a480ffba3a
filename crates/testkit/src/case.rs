//! Cases and the files they are in.

use core::fmt;
use core::ops::ControlFlow;
use std::fs;

use std::path::{Path, PathBuf};

use portcullis::manifest::{Limits, Reader};
use serde_json::{Map, Value};

use crate::json::to_json;

/// One case: what it pins, its objects, and what must come of them.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name, unique in the corpus.
    pub name: String,
    /// The semantic rule that it pins.
    pub rule: String,
    /// Where the rule comes from.
    pub source: String,
    /// The manifests, those of the base included.
    pub objects: String,
    /// Flows with the expected answers.
    pub flows: Vec<FlowCase>,
    /// Manifests that must be accepted.
    pub accept: Vec<String>,
    /// Manifests that must be refused, each with texts that the error must hold.
    pub refuse: Vec<(String, Vec<String>)>,
    /// Selectors with what they must do.
    pub selectors: Vec<Value>,
    /// Texts of which each must occur in a warning.
    pub warnings: Vec<String>,
}

/// One flow of a case.
#[derive(Clone, Debug)]
pub struct FlowCase {
    /// The flow as a line of JSON, as the command line reads it.
    pub flow: String,
    /// The expected answer.
    pub expect: Expectation,
    /// The expected answer with staged policies in force.
    pub staged: Option<Expectation>,
}

/// An expected answer. What it does not mention is not judged; a side that is null must be absent.
#[derive(Clone, Debug)]
pub struct Expectation(pub Map<String, Value>);

/// Why a case file cannot be used.
#[derive(Clone, Debug)]
pub struct CaseError(String);

impl fmt::Display for CaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for CaseError {}

/// All cases below `folder`, in the order of their files. Files in `base/` are what cases build on.
///
/// # Errors
/// When a file cannot be read or a case has an unknown or missing field.
pub fn load(folder: &Path) -> Result<Vec<Case>, CaseError> {
    let mut files = Vec::new();
    collect(folder, &mut files)?;
    files.sort();
    let mut cases = Vec::new();
    for file in files.iter().filter(|file| !file.starts_with(folder.join("base"))) {
        for value in read_file(file)? {
            cases.extend(
                file_cases(folder, value)
                    .map_err(|error| CaseError(format!("{}: {error}", file.display())))?,
            );
        }
    }
    Ok(cases)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), CaseError> {
    let entries =
        fs::read_dir(folder).map_err(|error| CaseError(format!("{}: {error}", folder.display())))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
    Ok(())
}

/// The documents of a case file. They have no kind, so they are given one for the reader.
fn read_file(path: &Path) -> Result<Vec<Value>, CaseError> {
    let text = fs::read_to_string(path).map_err(|error| CaseError(format!("{}: {error}", path.display())))?;
    let text = format!("apiVersion: testkit\nkind: Cases\n{text}");
    let (mut values, mut errors) = (Vec::new(), Vec::new());
    let _ = Reader::new(Limits::default()).read_stream(
        &path.display().to_string(),
        text.as_bytes(),
        &mut |next| {
            match next {
                Ok(document) => match document.check_keys() {
                    Ok(()) => values.push(to_json(document.root())),
                    Err(error) => errors.push(error.to_string()),
                },
                Err(error) => errors.push(error.to_string()),
            }
            ControlFlow::Continue(())
        },
    );
    if errors.is_empty() { Ok(values) } else { Err(CaseError(errors.join("\n"))) }
}

fn file_cases(folder: &Path, file: Value) -> Result<Vec<Case>, CaseError> {
    let Value::Object(mut file) = file else { return Err(CaseError("not a mapping".into())) };
    let base = text(&mut file, "base")?;
    let source = text(&mut file, "source")?.unwrap_or_default();
    let cases = list(&mut file, "cases")?;
    cases
        .into_iter()
        .map(|case| {
            let Value::Object(mut case) = case else {
                return Err(CaseError("a case is not a mapping".into()));
            };
            let name = text(&mut case, "name")?.ok_or_else(|| CaseError("a case has no name".into()))?;
            one_case(folder, name.clone(), base.as_deref(), &source, case)
                .map_err(|error| CaseError(format!("{name}: {error}")))
        })
        .collect()
}

fn one_case(
    folder: &Path,
    name: String,
    base: Option<&str>,
    source: &str,
    mut case: Map<String, Value>,
) -> Result<Case, CaseError> {
    let base = text(&mut case, "base")?.or_else(|| base.map(str::to_owned));
    let mut objects = match base.as_deref() {
        Some("none") | None => String::new(),
        Some(base) => {
            let path = folder.join("base").join(format!("{base}.yaml"));
            fs::read_to_string(&path).map_err(|error| CaseError(format!("{}: {error}", path.display())))?
        }
    };
    if let Some(own) = text(&mut case, "objects")? {
        objects.push_str("\n---\n");
        objects.push_str(&own);
    }
    let template = text(&mut case, "template")?.unwrap_or_else(|| "$".into());
    let filled = |with: &str| template.replace('$', with);
    let mut accept: Vec<String> = strings(&mut case, "accept")?.iter().map(|with| filled(with)).collect();
    let mut refuse = Vec::new();
    for item in list(&mut case, "refuse")? {
        let Value::Object(mut item) = item else { return Err(CaseError("`refuse` holds mappings".into())) };
        let with = text(&mut item, "with")?.ok_or_else(|| CaseError("`refuse` without `with`".into()))?;
        let said = [text(&mut item, "field")?, text(&mut item, "reason")?].into_iter().flatten().collect();
        refuse.push((filled(&with), said));
        rest("refuse", &item)?;
    }
    for item in list(&mut case, "repeat")? {
        let Value::Object(mut item) = item else { return Err(CaseError("`repeat` holds mappings".into())) };
        let around = text(&mut item, "around")?.unwrap_or_else(|| "$".into());
        let unit = text(&mut item, "unit")?.ok_or_else(|| CaseError("`repeat` without `unit`".into()))?;
        let most = item.remove("most").and_then(|most| most.as_u64()).unwrap_or_default();
        let said: Vec<String> = text(&mut item, "field")?.into_iter().collect();
        let many = |count: u64| {
            let units: Vec<String> = (0..count).map(|index| unit.replace('#', &index.to_string())).collect();
            filled(&around.replace('$', &units.join(", ")))
        };
        accept.push(many(most));
        refuse.push((many(most.saturating_add(1)), said));
        rest("repeat", &item)?;
    }
    let case = Case {
        name,
        rule: text(&mut case, "rule")?.ok_or_else(|| CaseError("no rule".into()))?,
        source: text(&mut case, "source")?.unwrap_or_else(|| source.to_owned()),
        objects,
        flows: list(&mut case, "flows")?.into_iter().map(flow).collect::<Result<_, _>>()?,
        accept,
        refuse,
        selectors: list(&mut case, "selectors")?,
        warnings: strings(&mut case, "warnings")?,
    };
    Ok(case)
}

fn flow(flow: Value) -> Result<FlowCase, CaseError> {
    let Value::Object(mut flow) = flow else { return Err(CaseError("a flow is not a mapping".into())) };
    let expectation = |value: Option<Value>| match value {
        Some(Value::Object(map)) => Ok(Some(Expectation(map))),
        None => Ok(None),
        Some(_) => Err(CaseError("an expectation is not a mapping".into())),
    };
    let expect =
        expectation(flow.remove("expect"))?.ok_or_else(|| CaseError("a flow expects nothing".into()))?;
    let staged = expectation(flow.remove("staged"))?;
    Ok(FlowCase { flow: Value::Object(flow).to_string(), expect, staged })
}

fn text(map: &mut Map<String, Value>, key: &str) -> Result<Option<String>, CaseError> {
    match map.remove(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(CaseError(format!("`{key}` is not a text but {other}"))),
    }
}

fn list(map: &mut Map<String, Value>, key: &str) -> Result<Vec<Value>, CaseError> {
    match map.remove(key) {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) => Ok(list),
        Some(other) => Err(CaseError(format!("`{key}` is not a list but {other}"))),
    }
}

fn strings(map: &mut Map<String, Value>, key: &str) -> Result<Vec<String>, CaseError> {
    let as_text = |value: Value| match value {
        Value::String(text) => Ok(text),
        other => Err(CaseError(format!("`{key}` holds {other}, which is not a text"))),
    };
    list(map, key)?.into_iter().map(as_text).collect()
}

fn rest(what: &str, map: &Map<String, Value>) -> Result<(), CaseError> {
    match map.keys().next() {
        None => Ok(()),
        Some(key) => Err(CaseError(format!("`{what}` has the unknown field `{key}`"))),
    }
}
