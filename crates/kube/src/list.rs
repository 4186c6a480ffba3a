//! All objects of a kind: as a stream where the server has that, else in pages.

use alloc::collections::BTreeMap;
use core::time::Duration;
use std::time::Instant;

use serde_json::value::RawValue;

use crate::client::{Client, Content, Failure, Refused};
use crate::lines::{Cut, Lines};
use crate::sink::{Listed, Sink};
use crate::wire::{Bookmark, Head, Line, Page, Status};

/// How a server lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Stream,
    Pages,
}

/// Lists the objects at `path`. No version is named, so the server answers with nothing older than now.
pub(crate) async fn list<S: Sink>(
    client: &Client,
    path: &str,
    sink: &S,
    way: &mut Way,
) -> Result<Listed<S::Item>, Failure> {
    if *way == Way::Stream {
        match stream(client, path, sink).await {
            Ok(Some(listed)) => return Ok(listed),
            // It knows no streaming lists and ignores what it does not know.
            Ok(None) => *way = Way::Pages,
            // It says that it has none: source: kubernetes `staging/src/k8s.io/apimachinery/pkg/apis/meta/internalversion/
            // validation/validation.go`, `sendInitialEvents is forbidden for watch unless the WatchList feature gate is
            // enabled`.
            Err(failure) if matches!(failure.status(), Some(400 | 405 | 422)) => *way = Way::Pages,
            Err(failure) => return Err(failure),
        }
    }
    pages(client, path, sink).await
}

/// A watch that begins with all objects. Nothing when it ends without saying that these were all.
async fn stream<S: Sink>(client: &Client, path: &str, sink: &S) -> Result<Option<Listed<S::Item>>, Failure> {
    let path = format!(
        "{path}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true\
         &timeoutSeconds={STREAM_SECONDS}"
    );
    let mut content = client.get(&path, S::ACCEPT, ANSWER).await?;
    let mut known = BTreeMap::new();
    let mut unknown = Vec::new();
    let mut lines = Lines::default();
    while let Some(bytes) = content.next(PART).await? {
        let mut cuts = Vec::new();
        lines.take(bytes.as_ref(), |cut| cuts.push(cut));
        for cut in cuts {
            let line = match &cut {
                Cut::Line(line) => serde_json::from_slice::<Line<'_>>(line).ok(),
                Cut::TooLong => None,
            };
            let Some(line) = line else {
                unknown.push(sink.unreadable());
                continue;
            };
            let json = line.object.get();
            match &*line.kind {
                "ADDED" | "MODIFIED" => match key(json) {
                    Some(key) => drop(known.insert(key, sink.read(json.as_bytes()))),
                    None => unknown.push(sink.read(json.as_bytes())),
                },
                "DELETED" => match key(json) {
                    Some(key) => drop(known.remove(&key)),
                    None => unknown.push(sink.unreadable()),
                },
                "BOOKMARK" => {
                    let bookmark = serde_json::from_str::<Bookmark>(json).unwrap_or_default();
                    if bookmark.ends_list() {
                        let items = known.into_values().chain(unknown).collect();
                        let version = bookmark.version().unwrap_or_default();
                        return Ok(Some(Listed { items, version, received: Instant::now() }));
                    }
                }
                "ERROR" => return Err(refusal(line.object)),
                _ => unknown.push(sink.unreadable()),
            }
        }
    }
    Ok(None)
}

async fn pages<S: Sink>(client: &Client, path: &str, sink: &S) -> Result<Listed<S::Item>, Failure> {
    let mut items = Vec::new();
    let mut next = None::<String>;
    loop {
        let token = next.as_deref().map(|token| format!("&continue={}", escaped(token)));
        let path = format!("{path}?limit={PAGE}{}", token.unwrap_or_default());
        let mut content: Content = client.get(&path, S::ACCEPT_LIST, ANSWER).await?;
        let bytes = content.whole(PAGE_BYTES, PART).await?;
        let received = Instant::now();
        let page = serde_json::from_slice::<Page<'_>>(&bytes).map_err(|error| Failure::garbled(&error))?;
        items.extend(page.items.iter().flatten().map(|item| sink.read(item.get().as_bytes())));
        next = page.metadata.next.filter(|token| !token.is_empty());
        if next.is_none() {
            let version = page.metadata.resource_version.unwrap_or_default();
            return Ok(Listed { items, version, received });
        }
    }
}

/// What the server refuses in the middle of a watch.
pub(crate) fn refusal(object: &RawValue) -> Failure {
    let status = serde_json::from_str::<Status>(object.get()).unwrap_or_default();
    Failure::Refused(Refused {
        status: status.code.unwrap_or(500),
        cause: status.cause(),
        message: crate::source::shorten(status.message.as_deref().unwrap_or_default()),
        retry_after: None,
    })
}

/// Namespace and name, as they are spelt.
fn key(json: &str) -> Option<(String, String)> {
    let meta = serde_json::from_str::<Head>(json).ok()?.metadata;
    Some((meta.namespace.unwrap_or_default(), meta.name.filter(|name| !name.is_empty())?))
}

/// A text as a value in the query of a URL.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte))
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

const PAGE: usize = 500;
/// Bytes of a page: objects are 1.5 MB at most, and hardly ever more than 20 kB.
const PAGE_BYTES: usize = 512 << 20;
/// Time until an answer begins, and between two parts of it.
pub(crate) const ANSWER: Duration = Duration::from_secs(25);
const PART: Duration = Duration::from_secs(25);
/// Time for all objects of a kind.
const STREAM_SECONDS: u32 = 290;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_query() {
        assert_eq!(escaped("eyJ2/+=& ~"), "eyJ2%2F%2B%3D%26%20~");
    }
}
