//! A small API server on loopback that does what a script says: lists, pages, watches, and every way to fail.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A server that runs until the test ends.
#[derive(Clone)]
pub(crate) struct Server {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
}

/// What the server holds, and how it behaves now.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) version: u64,
    /// By path.
    pub(crate) kinds: BTreeMap<String, Kind>,
    /// Every request's path with its query, in order.
    pub(crate) requests: Vec<String>,
    /// The token that is asked for, if one is.
    pub(crate) token: Option<String>,
    /// All connections that are open are cut.
    pub(crate) epoch: u64,
    pub(crate) refuses_connections: bool,
}

/// A kind and its faults.
#[derive(Default)]
pub(crate) struct Kind {
    pub(crate) api: String,
    pub(crate) name: String,
    pub(crate) objects: BTreeMap<String, (u64, Value)>,
    /// Lines of watches, by version.
    log: Vec<(u64, String)>,
    /// Versions before this one are forgotten.
    oldest: u64,
    /// Every request is answered so.
    pub(crate) status: Option<u16>,
    /// Whether it has streaming lists.
    pub(crate) streams: bool,
    /// Nothing more is written to watches that are open, and they stay open.
    pub(crate) silent_before: Option<Instant>,
    /// Watches are told that their version is too large.
    pub(crate) too_large: bool,
    /// Pages after the first fail so many times.
    pub(crate) failing_pages: u32,
    pub(crate) page: usize,
    /// Whether a window ends with a bookmark.
    pub(crate) bookmarks: bool,
}

impl Server {
    /// A server with pods, namespaces and policies, and definitions of custom resources.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self { address: listener.local_addr().unwrap(), script: Arc::default() };
        server.script().version = 100;
        server.add_kind("/api/v1/pods", "v1", "Pod");
        server.add_kind("/api/v1/namespaces", "v1", "Namespace");
        server.add_kind(
            "/apis/networking.k8s.io/v1/networkpolicies",
            "networking.k8s.io/v1",
            "NetworkPolicy",
        );
        server.add_kind(DEFINITIONS, "apiextensions.k8s.io/v1", "CustomResourceDefinition");
        let accepts = server.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let server = accepts.clone();
                // A client that goes away is no failure of the server.
                thread::spawn(move || drop(server.serve(stream.unwrap())));
            }
        });
        server
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    pub(crate) fn kind(&self, path: &str, change: impl FnOnce(&mut Kind)) {
        change(self.script().kinds.get_mut(path).unwrap());
    }

    pub(crate) fn add_kind(&self, path: &str, api: &str, name: &str) {
        let kind = Kind {
            api: api.into(),
            name: name.into(),
            streams: true,
            page: 500,
            bookmarks: true,
            ..Kind::default()
        };
        self.script().kinds.insert(path.into(), kind);
    }

    /// A kubeconfig of this server.
    pub(crate) fn kubeconfig(&self, token: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: t\nclusters:\n- name: t\n  cluster: {{server: \"http://{}\"}}\n\
             contexts:\n- name: t\n  context: {{cluster: t, user: t}}\nusers:\n- name: t\n  user: {{token: {token}}}\n",
            self.address
        )
    }

    /// Adds or changes an object.
    pub(crate) fn put(&self, path: &str, mut object: Value) {
        let mut script = self.script();
        script.version += 1;
        let version = script.version;
        let kind = script.kinds.get_mut(path).unwrap();
        object["apiVersion"] = json!(kind.api);
        object["kind"] = json!(kind.name);
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let known = kind.objects.insert(name(&object), (version, object.clone()));
        let event = if known.is_some() { "MODIFIED" } else { "ADDED" };
        kind.log.push((version, json!({"type": event, "object": object}).to_string()));
    }

    pub(crate) fn delete(&self, path: &str, name: &str) {
        let mut script = self.script();
        script.version += 1;
        let version = script.version;
        let kind = script.kinds.get_mut(path).unwrap();
        let (_, mut object) = kind.objects.remove(name).unwrap();
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        kind.log.push((version, json!({"type": "DELETED", "object": object}).to_string()));
    }

    /// Writes a line into the watches of a kind.
    pub(crate) fn line(&self, path: &str, line: &str) {
        let mut script = self.script();
        script.version += 1;
        let version = script.version;
        script.kinds.get_mut(path).unwrap().log.push((version, line.into()));
    }

    /// Forgets what happened until now, so that older versions are gone.
    pub(crate) fn compact(&self, path: &str) {
        let mut script = self.script();
        let version = script.version;
        let kind = script.kinds.get_mut(path).unwrap();
        kind.oldest = version;
        kind.log.clear();
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        self.script().epoch += 1;
    }

    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut stream = stream;
        let epoch = self.script().epoch;
        loop {
            let mut first = String::new();
            let mut token = None;
            reader.read_line(&mut first)?;
            loop {
                let mut header = String::new();
                if reader.read_line(&mut header)? == 0 {
                    return Ok(());
                }
                if let Some(given) = header.trim().strip_prefix("authorization: Bearer ") {
                    token = Some(given.to_owned());
                }
                if header.trim().is_empty() {
                    break;
                }
            }
            let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
            {
                let mut script = self.script();
                if script.refuses_connections || script.epoch != epoch {
                    return Ok(());
                }
                script.requests.push(target.clone());
                if script.token.is_some() && script.token != token {
                    drop(script);
                    refuse(&mut stream, 401, "Unauthorized")?;
                    continue;
                }
            }
            self.answer(&target, epoch, &mut stream)?;
        }
    }

    fn answer(&self, target: &str, epoch: u64, stream: &mut TcpStream) -> std::io::Result<()> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query: BTreeMap<&str, &str> = query.split('&').filter_map(|part| part.split_once('=')).collect();
        if path == "/apis"
            || path == "/api/v1"
            || path.starts_with("/apis/") && path.matches('/').count() == 3
        {
            let answer = self.script().discovery(path);
            return match answer {
                Some(answer) => whole(stream, &answer.to_string()),
                None => refuse(stream, 404, "NotFound"),
            };
        }
        let status = match self.script().kinds.get(path) {
            None => Some(404),
            Some(kind) if query.contains_key("sendInitialEvents") && !kind.streams => {
                kind.status.or(Some(422))
            }
            Some(kind) => kind.status,
        };
        match status {
            Some(status) => refuse(stream, status, "Refused"),
            None if query.contains_key("watch") => self.watch(path, &query, epoch, stream),
            None => self.list(path, &query, stream),
        }
    }

    fn list(&self, path: &str, query: &BTreeMap<&str, &str>, stream: &mut TcpStream) -> std::io::Result<()> {
        let mut script = self.script();
        let version = script.version;
        let kind = script.kinds.get_mut(path).unwrap();
        let start: usize = query.get("continue").map_or(0, |token| token.parse().unwrap());
        if start > 0 && kind.failing_pages > 0 {
            kind.failing_pages -= 1;
            return refuse(stream, 410, "Expired");
        }
        let items: Vec<&Value> = kind.objects.values().map(|(_, object)| object).collect();
        let end = (start + kind.page).min(items.len());
        let next = if end < items.len() { json!(end.to_string()) } else { Value::Null };
        let metadata = json!({"resourceVersion": version.to_string(), "continue": next});
        let page = json!({"kind": "List", "metadata": metadata, "items": items[start..end]});
        drop(script);
        whole(stream, &page.to_string())
    }

    fn watch(
        &self,
        path: &str,
        query: &BTreeMap<&str, &str>,
        epoch: u64,
        stream: &mut TcpStream,
    ) -> std::io::Result<()> {
        let began = Instant::now();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        )?;
        let seconds: u64 = query.get("timeoutSeconds").map_or(30, |seconds| seconds.parse().unwrap());
        let mut at = match query.get("resourceVersion") {
            Some(version) => version.parse().unwrap(),
            None => self.initial(path, stream)?,
        };
        loop {
            let (lines, is_over) = {
                let script = self.script();
                if script.epoch != epoch {
                    return Err(std::io::Error::other("cut"));
                }
                let Some(kind) = script.kinds.get(path) else { return last(stream) };
                let is_silent = kind.silent_before.is_some_and(|before| began < before);
                if is_silent {
                    drop(script);
                    thread::sleep(TICK);
                    continue;
                }
                if kind.status == Some(410) || at < kind.oldest {
                    let status =
                        json!({"code": 410, "reason": "Expired", "message": "too old resource version"});
                    let line = json!({"type": "ERROR", "object": status}).to_string();
                    drop(script);
                    chunk(stream, &line)?;
                    return last(stream);
                }
                if kind.too_large {
                    let cause = json!({"causes": [{"reason": "ResourceVersionTooLarge"}]});
                    let message = "Too large resource version: 9, current: 1";
                    let status =
                        json!({"code": 504, "reason": "Timeout", "message": message, "details": cause});
                    let line = json!({"type": "ERROR", "object": status}).to_string();
                    drop(script);
                    chunk(stream, &line)?;
                    return last(stream);
                }
                let lines: Vec<String> =
                    kind.log.iter().filter(|(v, _)| *v > at).map(|(_, line)| line.clone()).collect();
                let is_over = began.elapsed() >= Duration::from_secs(seconds);
                at = script.version;
                let mut lines = lines;
                if is_over && kind.bookmarks {
                    lines.push(bookmark(kind, at, false));
                }
                (lines, is_over)
            };
            for line in lines {
                if let Some(half) = line.strip_prefix("CUT") {
                    chunk_part(stream, &format!("{:x}\r\n{half}", half.len() + 999))?;
                    return Err(std::io::Error::other("cut"));
                }
                chunk(stream, &line)?;
            }
            if is_over {
                return last(stream);
            }
            thread::sleep(TICK);
        }
    }

    /// The objects that a streaming list begins with.
    fn initial(&self, path: &str, stream: &mut TcpStream) -> std::io::Result<u64> {
        let script = self.script();
        let version = script.version;
        let kind = &script.kinds[path];
        let mut lines: Vec<String> = kind
            .objects
            .values()
            .map(|(_, object)| json!({"type": "ADDED", "object": object}).to_string())
            .collect();
        lines.push(bookmark(kind, version, true));
        drop(script);
        for line in lines {
            chunk(stream, &line)?;
        }
        Ok(version)
    }
}

impl Script {
    fn discovery(&self, path: &str) -> Option<Value> {
        let served = self.kinds.iter().map(|(path, kind)| (path.rsplit_once('/').unwrap(), kind));
        if path == "/apis" {
            let apis: BTreeSet<&str> = self.kinds.values().map(|kind| kind.api.as_str()).collect();
            let groups = apis.iter().filter_map(|api| {
                let (group, _) = api.split_once('/')?;
                Some(json!({"name": group, "versions": [{"groupVersion": api}]}))
            });
            return Some(json!({"kind": "APIGroupList", "groups": groups.collect::<Vec<_>>()}));
        }
        let resources: Vec<Value> = served
            .filter(|((root, _), _)| *root == path)
            .map(|((_, plural), kind)| json!({"name": plural, "kind": kind.name, "verbs": ["list", "watch"]}))
            .collect();
        (!resources.is_empty()).then(|| json!({"resources": resources}))
    }
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().into()
}

fn bookmark(kind: &Kind, version: u64, ends_list: bool) -> String {
    let annotations = if ends_list { json!({"k8s.io/initial-events-end": "true"}) } else { Value::Null };
    let metadata = json!({"resourceVersion": version.to_string(), "annotations": annotations});
    json!({"type": "BOOKMARK", "object": {"kind": kind.name, "metadata": metadata}}).to_string()
}

fn whole(stream: &mut TcpStream, body: &str) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn refuse(stream: &mut TcpStream, status: u16, reason: &str) -> std::io::Result<()> {
    let body = json!({"kind": "Status", "code": status, "reason": reason, "message": reason}).to_string();
    write!(stream, "HTTP/1.1 {status} {reason}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn chunk(stream: &mut TcpStream, line: &str) -> std::io::Result<()> {
    write!(stream, "{:x}\r\n{line}\n\r\n", line.len() + 1)
}

fn chunk_part(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    stream.write_all(text.as_bytes())
}

fn last(stream: &mut TcpStream) -> std::io::Result<()> {
    write!(stream, "0\r\n\r\n")
}

pub(crate) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const TICK: Duration = Duration::from_millis(3);
