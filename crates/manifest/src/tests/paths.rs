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
    assert_eq!(seen, ["a.yaml", "./b.yaml: no such file or directory", "c.yaml"]);
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
