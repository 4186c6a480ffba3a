//! What a kustomization builds: asked of the programs that know.

use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use portcullis::quote::escaped;

use crate::failure::{self, Failure};
use crate::output::to_stderr;

/// The manifests that `folder` builds. What the program says beside them goes to standard error.
pub(crate) fn build(folder: &Path, quiet: bool) -> Result<Vec<u8>, Failure> {
    let shown = failure::shown(folder);
    // The programs would take an address as well, and fetch it.
    if !folder.is_dir() {
        return Err(Failure::Input(format!("{shown}: no such directory; `-k` needs a kustomization")));
    }
    let Some((program, output)) = run(folder)? else {
        let reason = "`-k` needs `kubectl` or `kustomize`, and neither is installed";
        return Err(Failure::Environment(format!("{shown}: {reason}")));
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().filter(|line| !line.trim().is_empty());
    let said: Vec<String> = said.map(|line| escaped(line).to_string()).collect();
    if !output.status.success() {
        let reason = if said.is_empty() { output.status.to_string() } else { said.join("; ") };
        return Err(Failure::Input(format!("{shown}: `{program}` fails: {reason}")));
    }
    if !quiet {
        let lines = said.iter().map(|line| format!("warning: {shown}: `{program}`: {line}\n"));
        to_stderr(&lines.collect::<String>());
    }
    Ok(output.stdout)
}

/// What the first program that is installed gives, and what it was called with; `None` when none is.
fn run(folder: &Path) -> Result<Option<(&'static str, Output)>, Failure> {
    for (name, command, program) in
        [("kubectl kustomize", "kustomize", "kubectl"), ("kustomize build", "build", "kustomize")]
    {
        // A path that begins with a dash is none of its options.
        let result = Command::new(program).args([command, "--"]).arg(folder).stdin(Stdio::null()).output();
        match result {
            Ok(output) => return Ok(Some((name, output))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::Environment(format!("`{program}` cannot be run: {error}"))),
        }
    }
    Ok(None)
}
