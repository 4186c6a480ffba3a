//! Files and directories.

use core::ops::ControlFlow;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Limits, Reader};

/// A directory of its own for one test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("portcullis-manifest-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: &str) -> &Self {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn object(&self, name: &str) -> &Self {
        self.file(name, &format!("apiVersion: v1\nkind: T\nmetadata: {{name: '{name}'}}\n"))
    }

    /// Names of the objects, or errors without the path of the scratch directory.
    fn read(&self, reader: &mut Reader, path: impl AsRef<Path>) -> Vec<String> {
        let mut seen = Vec::new();
        let path = self.0.join(path);
        let flow = reader.read_path(&path, &mut |next| {
            seen.push(match next {
                Ok(document) => document.name().unwrap().to_owned(),
                Err(error) => error.to_string().replace(self.0.to_str().unwrap(), "."),
            });
            ControlFlow::Continue(())
        });
        assert!(flow.is_continue());
        seen
    }

    /// Warnings for a path, and what was counted, without the path of the scratch directory.
    fn warnings(&self, path: impl AsRef<Path>) -> Vec<String> {
        self.load(path, &[]).0
    }

    fn load(&self, path: impl AsRef<Path>, excluded: &[&str]) -> (Vec<String>, Vec<(&'static str, u64)>) {
        let mut reader = Reader::default();
        for pattern in excluded {
            reader.exclude(pattern).unwrap();
        }
        let _ = self.read(&mut reader, path);
        let others = reader.into_others();
        let printed = |warning: &crate::ReadError| warning.to_string().replace(self.0.to_str().unwrap(), ".");
        (others.warnings.iter().map(printed).collect(), others.counts.into_iter().collect())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn directories_in_a_fixed_order() {
    let scratch = Scratch::new("order");
    for name in ["b.yaml", "a.yml", "Z.yaml", "a/c.yaml", "a/b/x.yaml", "a-b.yaml", ".hidden.yaml"] {
        scratch.object(name);
    }
    scratch.file("j.json", r#"{"apiVersion": "v1", "kind": "T", "metadata": {"name": "j.json"}}"#);
    scratch.file("README.md", "no").file("x.YAML", "no").file("yaml", "no").file("k.jsonl", "no");
    let expected =
        [".hidden.yaml", "Z.yaml", "a/b/x.yaml", "a/c.yaml", "a-b.yaml", "a.yml", "b.yaml", "j.json"];
    assert_eq!(scratch.read(&mut Reader::default(), ""), expected);
    // A file that is named is read whatever its name, and nothing is read twice.
    let mut reader = Reader::new(Limits::default());
    assert_eq!(
        scratch.read(&mut reader, "README.md"),
        ["./README.md:1:1: expected an object, found the truth value `no`"]
    );
    assert_eq!(scratch.read(&mut reader, "a"), ["a/b/x.yaml", "a/c.yaml"]);
    assert_eq!(scratch.read(&mut reader, "").len(), expected.len() - 2);
    assert_eq!(scratch.read(&mut reader, ""), [""; 0]);
    assert_eq!(scratch.read(&mut reader, "a"), [""; 0]);
    assert_eq!(scratch.read(&mut reader, "b.yaml"), [""; 0]);
}

#[test]
fn what_is_not_there() {
    let scratch = Scratch::new("missing");
    scratch.file("sub/notes.txt", "x");
    let mut reader = Reader::default();
    assert_eq!(scratch.read(&mut reader, "x.yaml"), ["./x.yaml: no such file or directory"]);
    for path in ["", "sub"] {
        let printed = scratch.read(&mut Reader::default(), path).remove(0);
        assert!(
            printed.ends_with(": no manifest in this directory: no file ends in .yaml, .yml or .json"),
            "{printed}"
        );
    }
    // A file without objects is not an empty directory.
    scratch.file("c.yaml", "# only a comment\n");
    assert_eq!(scratch.read(&mut Reader::default(), ""), [""; 0]);
}

#[test]
fn a_file_that_vanishes_while_the_directory_is_read() {
    let scratch = Scratch::new("vanish");
    scratch.object("a.yaml").object("b.yaml").object("c.yaml").object("d/e.yaml");
    let mut seen = Vec::new();
    let flow = Reader::default().read_path(&scratch.0, &mut |next| {
        // The directory has been listed by now.
        let _ = fs::remove_file(scratch.0.join("b.yaml"));
        let _ = fs::remove_dir_all(scratch.0.join("d"));
        seen.push(match next {
            Ok(document) => document.name().unwrap().to_owned(),
            Err(error) => error.to_string().replace(scratch.0.to_str().unwrap(), "."),
        });
        ControlFlow::Continue(())
    });
    assert!(flow.is_continue());
    assert_eq!(
        seen,
        ["a.yaml", "./b.yaml: no such file or directory", "c.yaml", "./d/e.yaml: no such file or directory"]
    );
}

#[test]
fn the_receiver_can_stop() {
    let scratch = Scratch::new("stop");
    scratch.object("a.yaml").object("b.yaml");
    let mut count = 0;
    let flow = Reader::default().read_path(&scratch.0, &mut |_| {
        count += 1;
        ControlFlow::Break(())
    });
    assert!(flow.is_break());
    assert_eq!(count, 1);
}

#[cfg(unix)]
#[test]
fn links() {
    use std::os::unix::fs::symlink;
    let scratch = Scratch::new("links");
    // What the kubelet makes of a config map: every file is there twice, by way of links.
    scratch.object("..2024/a.yaml");
    symlink("..2024", scratch.0.join("..data")).unwrap();
    symlink("..data/a.yaml", scratch.0.join("a.yaml")).unwrap();
    symlink(".", scratch.0.join("loop")).unwrap();
    symlink("nowhere.txt", scratch.0.join("dead.txt")).unwrap();
    assert_eq!(scratch.read(&mut Reader::default(), ""), ["..2024/a.yaml"]);
    assert_eq!(scratch.warnings(""), [""; 0]);
    symlink("nowhere", scratch.0.join("dead.yaml")).unwrap();
    symlink("self.yaml", scratch.0.join("self.yaml")).unwrap();
    let seen = scratch.read(&mut Reader::default(), "");
    assert_eq!(seen[..2], ["..2024/a.yaml", "./dead.yaml: no such file or directory"]);
    assert!(seen[2].starts_with("./self.yaml: "), "{seen:?}");
    let only_loops = Scratch::new("loops");
    symlink(".", only_loops.0.join("loop")).unwrap();
    assert!(only_loops.read(&mut Reader::default(), "")[0].contains("no manifest in this directory"));
}

#[cfg(unix)]
#[test]
fn not_a_regular_file() {
    let scratch = Scratch::new("socket");
    let _socket = std::os::unix::net::UnixListener::bind(scratch.0.join("s.yaml")).unwrap();
    assert_eq!(scratch.read(&mut Reader::default(), ""), ["./s.yaml: not a regular file"]);
    // A directory may end in .yaml as well.
    let scratch = Scratch::new("directory");
    scratch.object("d.yaml/x.yaml");
    assert_eq!(scratch.read(&mut Reader::default(), ""), ["d.yaml/x.yaml"]);
}

#[test]
fn a_read_that_fails() {
    struct Failing;
    impl std::io::Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::PermissionDenied.into())
        }
    }
    let text = "apiVersion: v1\nkind: T\nmetadata: {name: a}\n---\na: b";
    let stream = std::io::Read::chain(text.as_bytes(), Failing);
    let mut seen = Vec::new();
    let flow = Reader::default().read_stream("s", stream, &mut |next| {
        seen.push(next.map(|document| document.identity()).map_err(|error| error.to_string()));
        ControlFlow::Continue(())
    });
    assert!(flow.is_continue());
    assert_eq!(seen, [Err("s: permission denied".to_owned())]);
}

#[test]
fn hidden_folders_are_passed_over() {
    let scratch = Scratch::new("hidden");
    scratch.object("a.yaml").object(".git/b.yaml").object(".github/workflows/c.yaml");
    scratch.object(".k8s/sub/d.yaml").file(".tool/settings.toml", "");
    assert_eq!(scratch.read(&mut Reader::default(), ""), ["a.yaml"]);
    let (warnings, counts) = scratch.load("", &[]);
    assert_eq!(warnings, ["./.k8s: a hidden folder is passed over; to read its manifests, name it"]);
    assert_eq!(counts, [("CI workflow", 1), ("hidden folder", 3)]);
    // One that is named is read.
    assert_eq!(scratch.read(&mut Reader::default(), ".k8s"), [".k8s/sub/d.yaml"]);
}

#[test]
fn what_is_left_out() {
    let scratch = Scratch::new("exclude");
    for name in ["a.yaml", "charts/b.yaml", "x/charts/c.yaml", "x/d.yaml", "x/y/d.yaml", "test-e.yaml"] {
        scratch.object(name);
    }
    let read = |patterns: &[&str]| {
        let mut reader = Reader::default();
        for pattern in patterns {
            reader.exclude(pattern).unwrap();
        }
        scratch.read(&mut reader, "")
    };
    assert_eq!(read(&["charts", "test-*"]), ["a.yaml", "x/d.yaml", "x/y/d.yaml"]);
    assert_eq!(read(&["x/*.yaml", "x/charts"]), ["a.yaml", "charts/b.yaml", "test-e.yaml", "x/y/d.yaml"]);
    assert_eq!(read(&["*"]), [""; 0], "all of it is not none of it");
    assert_eq!(scratch.load("", &["nothing", "charts"]).0, ["the pattern `nothing` leaves nothing out"]);
    // What is named is read all the same.
    let mut reader = Reader::default();
    reader.exclude("a.yaml").unwrap();
    assert_eq!(scratch.read(&mut reader, "a.yaml"), ["a.yaml"]);
    assert_eq!(
        Reader::default().exclude("a[").unwrap_err().to_string(),
        "the pattern `a[`: unclosed character class; missing ']'"
    );
}

#[test]
fn templates_of_a_chart() {
    let scratch = Scratch::new("chart");
    let template = "{{- if .Values.on }}\napiVersion: v1\nkind: T\n---\n{{- end }}\na: [\n";
    scratch
        .file("c/Chart.yaml", "apiVersion: v2\nname: c\n")
        .file("c/values.yaml", "kind: DaemonSet\n")
        .file("c/templates/a.yaml", template)
        .file(
            "c/templates/quoted.yaml",
            "# plain\n---\napiVersion: v1\nkind: T\nname: '{{ .Release.Name }}'\n",
        )
        .file("c/charts/sub/Chart.yaml", "apiVersion: v2\nname: sub\n")
        .file("c/charts/sub/templates/x/b.yaml", "a: {{ .Values.a }}\n")
        .object("c/crds/crd.yaml")
        .object("c/templates/plain.yaml")
        .object("other/templates/plain.yaml");
    let advice = "an unrendered template of a Helm chart; render it and read the result: `helm template RELEASE ./c | portcullis eval -f - ...`, or leave it out with `--exclude`";
    assert_eq!(
        scratch.read(&mut Reader::default(), ""),
        [
            &format!("./c/charts/sub/templates/x/b.yaml:1:4: {advice}"),
            "c/crds/crd.yaml",
            &format!("./c/templates/a.yaml:1:1: {advice}"),
            "c/templates/plain.yaml",
            &format!("./c/templates/quoted.yaml:5:8: {advice}"),
            "other/templates/plain.yaml"
        ]
    );
    assert_eq!(scratch.load("", &[]).1, [("Helm chart", 2), ("Helm values", 1)]);
}

#[test]
fn templates_of_no_chart() {
    let scratch = Scratch::new("template");
    let advice = "an unrendered template; render it and read the result, as in `helm template RELEASE CHART | portcullis eval -f - ...`, or leave it out with `--exclude` (as it stands: ";
    for (text, place) in [
        ("apiVersion: v1\nkind: T\nmetadata: {name: a}\n---\n{% if x %}\nkind: T\n---\nkind: [{{\n", "5:2"),
        ("apiVersion: v1\nkind: {{ .Values.kind }}\n---\nkind: [{{\n", "2:8"),
        ("apiVersion: v1\nkind: T\nname: {{ name }}\n---\nkind: [{{\n", "3:8"),
    ] {
        scratch.file("a.yaml", text);
        let seen = scratch.read(&mut Reader::default(), "a.yaml");
        let errors: Vec<_> = seen.iter().filter(|line| line.starts_with("./a.yaml")).collect();
        assert_eq!(errors.len(), 1, "{seen:?}");
        assert!(errors[0].starts_with(&format!("./a.yaml:{place}: {advice}")), "{errors:?}");
    }
    // Braces in what can be read are text.
    scratch.file("a.yaml", "apiVersion: v1\nkind: T\nmetadata: {name: '{{ x }}'}\n");
    assert_eq!(scratch.read(&mut Reader::default(), "a.yaml"), ["{{ x }}"]);
}

#[test]
fn files_of_a_folder_that_nobody_can_read() {
    let scratch = Scratch::new("unreadable");
    scratch.object("a.yaml").file("tsconfig.json", "// compiler\n{\"a\": 1,}\n").file("b.yml", "a: b: c\n");
    assert_eq!(scratch.read(&mut Reader::default(), ""), ["a.yaml"]);
    let (warnings, counts) = scratch.load("", &[]);
    assert_eq!(counts, [("unreadable file", 2)]);
    assert!(warnings[0].starts_with("./b.yml:1:5: malformed YAML"), "{warnings:?}");
    assert_eq!(
        warnings[1],
        "./tsconfig.json:1:1: malformed JSON: expected an object; passed over, because it holds no object"
    );
    // Named, it is an error, and so is one that could hold an object.
    assert_eq!(
        scratch.read(&mut Reader::default(), "tsconfig.json"),
        ["./tsconfig.json:1:1: malformed JSON: expected an object"]
    );
    scratch.file("tsconfig.json", "// compiler\n{\"Kind\": 1,}\n");
    assert_eq!(scratch.read(&mut Reader::default(), "").len(), 2);
}

#[test]
fn kustomizations_that_change_what_they_build() {
    let scratch = Scratch::new("kustomize");
    let plain = "resources: [a.yaml]\nimages: [{name: a}]\npatches: []\n";
    scratch.object("base/a.yaml").file("base/kustomization.yaml", plain);
    scratch.object("over lay/p.yaml").object("over lay/q.yaml").object("over lay/r.yaml");
    scratch.file(
        "over lay/kustomization.yml",
        "namespace: prod\nresources: [../base, r.yaml]\npatches: [{path: p.yaml}, {patch: '[]'}]\npatchesStrategicMerge:\n- q.yaml\n- |-\n  kind: T\n",
    );
    scratch.file("remote/kustomization.yaml", "resources: ['https://example.org/x?ref=1']\n");
    assert_eq!(scratch.read(&mut Reader::default(), ""), ["base/a.yaml", "over lay/r.yaml"]);
    let (warnings, counts) = scratch.load("", &[]);
    assert_eq!(counts, [("Kustomization", 3), ("kustomize patch", 2)]);
    assert_eq!(
        warnings,
        [
            "./over lay/kustomization.yml:1:1: the files of this kustomization are read as they stand: `patches`, `patchesStrategicMerge`, `namespace` not applied; read what it builds with `-k './over lay'`, or with `kubectl kustomize './over lay' | portcullis eval -f - ...`",
            "./remote/kustomization.yaml:1:1: the files of this kustomization are read as they stand: `https://example.org/x?ref=1` not read; read what it builds with `-k ./remote`, or with `kubectl kustomize ./remote | portcullis eval -f - ...`"
        ]
    );
    assert_eq!(
        scratch.warnings("base/kustomization.yaml"),
        [
            "./base/kustomization.yaml: a kustomization holds no objects; read what it builds with `-k ./base`, or with `kubectl kustomize ./base | portcullis eval -f - ...`"
        ]
    );
    let alone = scratch.warnings("over lay");
    assert!(alone[0].contains(" not applied, `../base` not read; "), "{alone:?}");
    assert!(scratch.load("", &["over lay", "remote"]).0.is_empty());
}

#[test]
fn what_a_kustomization_builds_on_is_read_whatever_another_one_changes_with_it() {
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: d}\nspec: {podSelector: {}}\n";
    let scratch = Scratch::new("patched");
    scratch.file("base/np.yaml", policy).file("base/kustomization.yaml", "resources: [np.yaml]\n");
    scratch.file("over/kustomization.yaml", "patches: [{path: ../base/np.yaml}, {path: p.yaml}]\n");
    scratch.file("over/p.yaml", policy);
    assert_eq!(scratch.read(&mut Reader::default(), ""), ["d"]);
    let said = "./over/p.yaml:1:1: NetworkPolicy d: a kustomization changes a policy with it: passed over as it stands";
    assert!(scratch.warnings("").iter().any(|warning| warning == said), "{:?}", scratch.warnings(""));
}

#[test]
fn only_workflows_are_workflows() {
    let scratch = Scratch::new("workflows");
    scratch.object("a.yaml").object(".github/workflows/c.yaml").object(".github/k8s/np.yaml");
    scratch.object(".gitlab/manifests/np.yaml").object("..ops/np.yaml");
    let (warnings, counts) = scratch.load("", &[]);
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert_eq!(counts, [("CI workflow", 1), ("hidden folder", 3)]);
}
