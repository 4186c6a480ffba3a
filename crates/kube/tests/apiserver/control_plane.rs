//! etcd and kube-apiserver as processes, and an administrator's requests.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use http::Request;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tokio::runtime::{self, Runtime};

use crate::objects::{ALL, Known};

pub(crate) struct ControlPlane {
    programs: PathBuf,
    folder: PathBuf,
    etcd: Child,
    etcd_port: u16,
    server: Option<Child>,
    port: u16,
    runtime: Runtime,
}

impl ControlPlane {
    pub(crate) fn start(programs: &Path) -> Self {
        let folder = std::env::temp_dir().join(format!("portcullis-apiserver-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (etcd_port, peers, port) = (free_port(), free_port(), free_port());
        let (clients, peers) = (format!("http://127.0.0.1:{etcd_port}"), format!("http://127.0.0.1:{peers}"));
        let etcd = Command::new(programs.join("etcd"))
            .args(["--unsafe-no-fsync", "--data-dir"])
            .arg(folder.join("etcd"))
            .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &format!("default={peers}")])
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("etcd.log")).unwrap())
            .spawn()
            .unwrap();
        for arguments in [
            ["genrsa", "-out", "sa.key", "2048"].as_slice(),
            &["rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub"],
        ] {
            let made = Command::new("openssl").args(arguments).current_dir(&folder).output().unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        fs::write(folder.join("tokens.csv"), "admin,admin,admin,system:masters\nwatcher,watcher,watcher\n")
            .unwrap();
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut plane =
            Self { programs: programs.into(), folder, etcd, etcd_port, server: None, port, runtime };
        plane.start_server();
        let rules = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["list", "watch"]}]);
        let role = json!({"metadata": {"name": "watcher"}, "rules": rules});
        plane.expect("POST", &format!("{RBAC}/clusterroles"), Some(&role));
        plane.give_rights();
        plane.expect("POST", "/api/v1/namespaces", Some(&json!({"metadata": {"name": "n"}})));
        plane
    }

    pub(crate) fn start_server(&mut self) {
        let began = Instant::now();
        let file = |name: &str| self.folder.join(name).display().to_string();
        let server = Command::new(self.programs.join("kube-apiserver"))
            .arg(format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port))
            .arg(format!("--cert-dir={}", file("certificates")))
            .arg(format!("--secure-port={}", self.port))
            .args(["--bind-address=127.0.0.1", "--service-account-issuer=https://kubernetes.default.svc"])
            .arg(format!("--service-account-signing-key-file={}", file("sa.key")))
            .arg(format!("--service-account-key-file={}", file("sa.pub")))
            .args(["--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=RBAC"])
            .arg(format!("--token-auth-file={}", file("tokens.csv")))
            .args(["--disable-admission-plugins=ServiceAccount", "--allow-privileged=true"])
            .stdout(Stdio::null())
            .stderr(File::options().create(true).append(true).open(self.folder.join("server.log")).unwrap())
            .spawn()
            .unwrap();
        self.server = Some(server);
        while self.ask("GET", "/readyz", None).is_none_or(|(status, _)| status != 200) {
            assert!(began.elapsed() < Duration::from_secs(120), "not ready: {}", self.folder.display());
            thread::sleep(Duration::from_millis(100));
        }
        println!("the server is ready after {:?}", began.elapsed());
    }

    pub(crate) fn kill_server(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    pub(crate) fn signal_server(&self, signal: &str) {
        let id = self.server.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap().success());
    }

    /// Makes the store forget all versions but the last.
    pub(crate) fn compact(&self) {
        let status = self.ask_etcd("/v3/maintenance/status", "{}");
        let (_, rest) = status.split_once(r#""revision":""#).expect(&status);
        let revision: String = rest.chars().take_while(char::is_ascii_digit).collect();
        self.ask_etcd("/v3/kv/compaction", &format!(r#"{{"revision":"{revision}","physical":true}}"#));
    }

    fn ask_etcd(&self, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.etcd_port)).unwrap();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: e\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    }

    pub(crate) fn kubeconfig(&self, token: &str) -> PathBuf {
        let path = self.folder.join(format!("{token}.yaml"));
        let certificate = self.folder.join("certificates/apiserver.crt");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: t\nclusters:\n- name: t\n  cluster: {{server: \"https://127.0.0.1:{}\", \
             certificate-authority: \"{}\"}}\ncontexts:\n- name: t\n  context: {{cluster: t, user: t}}\nusers:\n- name: t\n  \
             user: {{token: {token}}}\n",
            self.port,
            certificate.display(),
        );
        fs::write(&path, text).unwrap();
        path
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Option<(u16, Value)> {
        let file = self.kubeconfig("admin");
        self.runtime.block_on(async {
            let file = Kubeconfig::read_from(file).ok()?;
            let config =
                kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.ok()?;
            let client = kube::Client::try_from(config).ok()?;
            let form = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
            let request = Request::builder().method(method).uri(path).header("content-type", form);
            let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
            let answer = client.send(request.body(Body::from(body)).unwrap()).await.ok()?;
            let status = answer.status().as_u16();
            let bytes = answer.into_body().collect_bytes().await.ok()?;
            Some((status, serde_json::from_slice(&bytes).unwrap_or_default()))
        })
    }

    fn expect(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let began = Instant::now();
        loop {
            match self.ask(method, path, body) {
                Some((200..=299, answer)) => return answer,
                // Just created kinds and a server that just started take their time.
                other if began.elapsed() > Duration::from_secs(30) => panic!("{method} {path}: {other:?}"),
                Some((409, _)) if method == "POST" => return Value::Null,
                _ => thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    pub(crate) fn create(&self, known: &Known, name: &str) {
        self.expect("POST", &known.path(), Some(&known.object(name)));
        if known.kind == "Pod" {
            let number: u8 = name.trim_start_matches('o').parse().unwrap();
            let address = format!("10.1.0.{number}");
            let status =
                json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}});
            self.expect("PATCH", &format!("{}/{name}/status", known.path()), Some(&status));
        }
    }

    pub(crate) fn patch(&self, known: &Known, name: &str, patch: &Value) {
        self.expect("PATCH", &format!("{}/{name}", known.path()), Some(patch));
    }

    pub(crate) fn delete(&self, known: &Known, name: &str) {
        let now = json!({"gracePeriodSeconds": 0});
        self.expect("DELETE", &format!("{}/{name}", known.path()), Some(&now));
    }

    /// All objects of a kind; none where the server does not have it.
    pub(crate) fn list(&self, known: &Known) -> Vec<Value> {
        match self.ask("GET", &known.all_path(), None) {
            Some((200, list)) => list["items"].as_array().unwrap().clone(),
            Some((404, _)) => Vec::new(),
            other => panic!("{known:?}: {other:?}"),
        }
    }

    /// Names of the objects of a kind, in the namespace of the test.
    pub(crate) fn names(&self, known: &Known) -> Vec<String> {
        let objects = self.list(known).into_iter();
        let objects = objects.filter(|object| !known.namespaced || object["metadata"]["namespace"] == "n");
        objects.map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn define_all(&self) {
        for known in ALL.iter().filter(|known| known.is_custom()) {
            self.define(known);
        }
    }

    pub(crate) fn define(&self, known: &Known) {
        let (group, version) = known.api.split_once('/').unwrap();
        let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let definition = json!({
            "metadata": {
                "name": format!("{}.{group}", known.plural),
                "annotations": {"api-approved.kubernetes.io": "unapproved, a test"}
            },
            "spec": {
                "group": group,
                "scope": if known.namespaced { "Namespaced" } else { "Cluster" },
                "names": {"plural": known.plural, "kind": known.kind},
                "versions": [{"name": version, "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]
            }
        });
        self.expect("POST", DEFINITIONS, Some(&definition));
    }

    pub(crate) fn undefine(&self, known: &Known) {
        let (group, _) = known.api.split_once('/').unwrap();
        self.expect("DELETE", &format!("{DEFINITIONS}/{}.{group}", known.plural), None);
        let began = Instant::now();
        while self.ask("GET", &known.all_path(), None).is_none_or(|(status, _)| status != 404) {
            assert!(began.elapsed() < Duration::from_secs(60), "the definition stays");
            thread::sleep(Duration::from_millis(100));
        }
    }

    pub(crate) fn give_rights(&self) {
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "watcher"});
        let subjects = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "watcher"}]);
        let binding = json!({"metadata": {"name": "watcher"}, "roleRef": role, "subjects": subjects});
        self.expect("POST", &format!("{RBAC}/clusterrolebindings"), Some(&binding));
    }

    pub(crate) fn take_rights(&self) {
        self.expect("DELETE", &format!("{RBAC}/clusterrolebindings/watcher"), None);
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        for child in self.server.iter_mut().chain([&mut self.etcd]) {
            // It may be gone already.
            let _gone = child.kill();
            let _waited = child.wait();
        }
        if thread::panicking() {
            println!("logs are in {}", self.folder.display());
        } else {
            fs::remove_dir_all(&self.folder).unwrap();
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
