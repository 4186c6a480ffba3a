//! What one file says about modules: the modules it declares, what it imports, and which paths it writes.
//!
//! Files are read as tokens, so comments and texts name nothing. What is compiled for tests only is left out.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// A path as it is written, for example `["crate", "ir", "Snapshot"]`.
pub(crate) type Segments = Vec<String>;

/// What one file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    /// `mod name;`: modules in files of their own.
    pub(crate) files: Vec<ModuleFile>,
    /// `mod name { … }`: modules in this file, by their path below it.
    pub(crate) inline: Vec<Segments>,
    /// Each name that a `use` brings in.
    pub(crate) imports: Vec<Import>,
    /// Every other path of two segments or more.
    pub(crate) paths: Vec<Written>,
}

/// A module that is declared here and stands in another file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ModuleFile {
    /// The modules of this file that the declaration is in, and the name.
    pub(crate) path: Segments,
    /// The value of an attribute `path`, when there is one.
    pub(crate) file: Option<String>,
}

/// One name that a `use` brings in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Import {
    /// What is imported, and in which module of the file.
    pub(crate) written: Written,
    /// The name it has here; `None` for `*`.
    pub(crate) name: Option<String>,
    /// Whether others may import it from here.
    pub(crate) is_public: bool,
}

/// A path and where it is written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// The modules of the file that it is in; empty at its top.
    pub(crate) within: Segments,
    /// The path itself.
    pub(crate) path: Segments,
}

impl Scan {
    /// Reads one file.
    ///
    /// # Errors
    /// When the text has no Rust tokens.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let tokens: TokenStream = text.parse().map_err(|error| format!("cannot be read as Rust: {error}"))?;
        let mut scan = Self::default();
        scan.tokens(tokens, &[]);
        Ok(scan)
    }

    fn tokens(&mut self, tokens: TokenStream, within: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut rest = tokens.as_slice();
        let mut file = None;
        let mut is_public = false;
        while let [first, after @ ..] = rest {
            if let Some((attribute, after)) = attribute(rest) {
                rest = after;
                if is_for_tests(attribute) {
                    rest = after_item(rest);
                } else if let Some(path) = path_attribute(attribute) {
                    file = Some(path);
                }
                continue;
            }
            rest = after;
            match first {
                TokenTree::Ident(word) if word == "pub" => {
                    is_public = true;
                    if let [TokenTree::Group(group), after @ ..] = rest
                        && group.delimiter() == Delimiter::Parenthesis
                    {
                        rest = after;
                    }
                    continue;
                }
                TokenTree::Ident(word) if word == "use" => {
                    let end = rest.iter().position(|token| is_punct(token, ';')).unwrap_or(rest.len());
                    let (tree, after) = rest.split_at(end);
                    rest = after;
                    self.import(tree, &[], is_public, within);
                }
                TokenTree::Ident(word) if word == "mod" => {
                    if let [TokenTree::Ident(name), after @ ..] = rest {
                        rest = after;
                        let path = [within, &[name.to_string()]].concat();
                        match rest {
                            [TokenTree::Group(body), after @ ..] => {
                                rest = after;
                                self.tokens(body.stream(), &path);
                                self.inline.push(path);
                            }
                            _ => self.files.push(ModuleFile { path, file: file.take() }),
                        }
                    }
                }
                TokenTree::Ident(_) => {
                    let (path, after) = path_from(first, rest);
                    rest = after;
                    if path.len() > 1 {
                        self.paths.push(Written { within: within.to_vec(), path });
                    }
                }
                TokenTree::Group(group) => self.tokens(group.stream(), within),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            is_public = false;
        }
    }

    /// The tree of one `use`, whose path so far is `before`.
    fn import(&mut self, tree: &[TokenTree], before: &[String], is_public: bool, within: &[String]) {
        let mut path = before.to_vec();
        let mut rest = tree;
        while let [first, after @ ..] = rest {
            rest = after;
            match first {
                TokenTree::Ident(word) if word == "as" => break,
                TokenTree::Ident(word) => path.push(word.to_string()),
                TokenTree::Group(list) => {
                    let list: Vec<TokenTree> = list.stream().into_iter().collect();
                    for part in list.split(|token| is_punct(token, ',')).filter(|part| !part.is_empty()) {
                        self.import(part, &path, is_public, within);
                    }
                    return;
                }
                TokenTree::Punct(punct) if punct.as_char() == '*' => {
                    let written = Written { within: within.to_vec(), path };
                    self.imports.push(Import { written, name: None, is_public });
                    return;
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
        // `use a::{self}` imports `a`.
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let renamed = match rest {
            [TokenTree::Ident(name), ..] => Some(name.to_string()),
            _ => path.last().cloned(),
        };
        self.imports.push(Import {
            written: Written { within: within.to_vec(), path },
            name: renamed,
            is_public,
        });
    }
}

/// The longest path that begins with `first`, and what is behind it.
fn path_from<'t>(first: &TokenTree, mut rest: &'t [TokenTree]) -> (Segments, &'t [TokenTree]) {
    let mut path = vec![first.to_string()];
    while let [one, two, TokenTree::Ident(next), after @ ..] = rest
        && is_punct(one, ':')
        && is_punct(two, ':')
    {
        path.push(next.to_string());
        rest = after;
    }
    (path, rest)
}

/// The attribute that `tokens` begin with, and what is behind it.
fn attribute(tokens: &[TokenTree]) -> Option<(&Group, &[TokenTree])> {
    let rest = match tokens {
        [hash, bang, rest @ ..] if is_punct(hash, '#') && is_punct(bang, '!') => rest,
        [hash, rest @ ..] if is_punct(hash, '#') => rest,
        _ => return None,
    };
    match rest {
        [TokenTree::Group(group), rest @ ..] if group.delimiter() == Delimiter::Bracket => {
            Some((group, rest))
        }
        _ => None,
    }
}

/// Whether an attribute is `cfg(test)`, or `cfg(all(test, …))`.
fn is_for_tests(attribute: &Group) -> bool {
    let text: String = attribute.stream().to_string().split_whitespace().collect();
    text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

/// The file that an attribute `path = "…"` names.
fn path_attribute(attribute: &Group) -> Option<String> {
    let text = attribute.stream().to_string();
    let value = text.strip_prefix("path")?.trim_start().strip_prefix('=')?;
    Some(value.trim().trim_matches('"').into())
}

/// What is behind the item that `tokens` begin with.
fn after_item(mut tokens: &[TokenTree]) -> &[TokenTree] {
    while let Some((_, after)) = attribute(tokens) {
        tokens = after;
    }
    // A block ends everything but an import, whose braces are inside it.
    let is_import = tokens
        .iter()
        .find(|token| !matches!(token, TokenTree::Group(_)) && token.to_string() != "pub")
        .is_some_and(|token| token.to_string() == "use");
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => !is_import && group.delimiter() == Delimiter::Brace,
        other => is_punct(other, ';'),
    };
    let end = tokens.iter().position(ends).map_or(tokens.len(), |at| at + 1);
    tokens.get(end..).unwrap_or_default()
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(path: &[String]) -> String {
        path.join("::")
    }

    #[test]
    fn imports_are_taken_apart() {
        let scan = Scan::read(
            "use crate::ir::{self, Snapshot, form::{text as t, binary::*}};
             pub(crate) use self::inner::Thing;",
        )
        .unwrap();
        let all: Vec<String> = scan
            .imports
            .iter()
            .map(|i| {
                format!("{} {} {}", joined(&i.written.path), i.name.as_deref().unwrap_or("*"), i.is_public)
            })
            .collect();
        assert_eq!(
            all,
            [
                "crate::ir ir false",
                "crate::ir::Snapshot Snapshot false",
                "crate::ir::form::text t false",
                "crate::ir::form::binary * false",
                "self::inner::Thing Thing true",
            ]
        );
    }

    #[test]
    fn paths_in_code_and_macros_are_found_and_comments_are_not() {
        let scan = Scan::read(
            "/// [`crate::doc::Link`]
             fn f() -> crate::ir::Id { // crate::comment::X
                 let text = \"crate::text::X\"; log!(\"{}\", super::a::b()); x.y() }",
        )
        .unwrap();
        let paths: Vec<String> = scan.paths.iter().map(|w| joined(&w.path)).collect();
        assert_eq!(paths, ["crate::ir::Id", "super::a::b"]);
    }

    #[test]
    fn what_is_for_tests_is_left_out_and_what_follows_is_not() {
        let scan = Scan::read(
            "#[cfg(test)] #[path = \"t.rs\"] mod tests; mod kept;
             #[cfg(test)] use a::{b}; use c::d;
             #[cfg(test)] mod more { use e::f; } #[cfg(feature = \"x\")] use g::h;
             #[cfg(all(test, feature = \"x\"))] fn only() { i::j() } fn always() { k::l() }",
        )
        .unwrap();
        let files: Vec<String> = scan.files.iter().map(|f| joined(&f.path)).collect();
        assert_eq!(files, ["kept"]);
        let imports: Vec<String> = scan.imports.iter().map(|i| joined(&i.written.path)).collect();
        assert_eq!(imports, ["c::d", "g::h"]);
        let paths: Vec<String> = scan.paths.iter().map(|w| joined(&w.path)).collect();
        assert_eq!(paths, ["k::l"]);
    }

    #[test]
    fn modules_are_found_with_their_files() {
        let scan = Scan::read("#[path = \"b/model.rs\"] mod model; mod here { mod below; use super::x::y; }")
            .unwrap();
        assert_eq!(scan.files[0], ModuleFile { path: vec!["model".into()], file: Some("b/model.rs".into()) });
        assert_eq!(scan.files[1], ModuleFile { path: vec!["here".into(), "below".into()], file: None });
        assert_eq!(scan.inline, [["here"]]);
        assert_eq!(scan.imports[0].written.within, ["here"]);
    }

    #[test]
    fn a_text_without_tokens_is_an_error() {
        assert!(Scan::read("fn f() { \"").unwrap_err().starts_with("cannot be read as Rust"));
    }
}
