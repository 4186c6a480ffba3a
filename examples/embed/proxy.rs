//! A proxy in user space that enforces a policy on real TCP connections, all of them on loopback.
//!
//! The proxy stands in front of a server and asks the matcher once for each connection: the source is the client's
//! address, the destination that of the server. Clients are told apart by their addresses in 127.0.0.0/8.
#![allow(
    clippy::print_stdout,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "an example: a program that prints, with the standard library"
)]

use core::net::{IpAddr, SocketAddr};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use portcullis::compile::{CompileScope, Compiler};
use portcullis::matcher::{Matcher, Publisher, Reader};
use portcullis::model::{
    Action, Directions, Endpoint, EndpointId, EntityKinds, EntityMatch, EntitySelector, Policy, PolicyId,
    Rule, Update,
};
use portcullis::packet::{Packet, Protocol};
use portcullis::selector::Selector;
use portcullis::settings::Settings;
use portcullis::verdict::{Hook, Verdict};
use socket2::{Domain, Socket, Type};

type Error = Box<dyn std::error::Error>;

const WEB: [u8; 4] = [127, 0, 0, 11];
const REPORT: [u8; 4] = [127, 0, 0, 12];
const DATABASE: [u8; 4] = [127, 0, 0, 13];

fn main() -> Result<(), Error> {
    let server = echo_server()?;
    let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
    for (name, address) in [("web", WEB), ("report", REPORT), ("database", DATABASE)] {
        compiler.apply(endpoint(name, address))?;
    }
    compiler.apply(Update::Policy(allow_from("app == 'web'")?))?;
    let _ = compiler.commit();

    let mut publisher = Publisher::new(Matcher::lower(compiler.snapshot())?);
    let address = Proxy { policy: publisher.reader(), server }.start()?;
    println!("policy: web may reach the database");
    for (name, client) in [("web", WEB), ("report", REPORT)] {
        println!("  {name}: {}", ask(client, address)?);
    }

    // The policy changes; the proxy goes on, and new connections meet the new one.
    compiler.apply(Update::Policy(allow_from("app == 'report'")?))?;
    publisher.apply(&compiler.commit())?;
    println!("policy: report may reach the database");
    for (name, client) in [("web", WEB), ("report", REPORT)] {
        println!("  {name}: {}", ask(client, address)?);
    }
    Ok(())
}

/// The proxy: where it forwards to, and its view of the policy, which follows each publication without waiting.
#[derive(Clone)]
struct Proxy {
    policy: Reader,
    server: SocketAddr,
}

impl Proxy {
    /// Accepts connections on a port of its own, in the background. Returns the address.
    fn start(self) -> Result<SocketAddr, Error> {
        let listener = TcpListener::bind((IpAddr::from(DATABASE), 0))?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut proxy = self.clone();
                thread::spawn(move || proxy.serve(client));
            }
        });
        Ok(address)
    }

    /// One connection. Whatever fails on the way, nothing is forwarded that policy did not allow.
    fn serve(&mut self, client: TcpStream) -> std::io::Result<()> {
        let source = client.peer_addr()?;
        let packet = Packet::new(source.ip(), self.server.ip(), Protocol::TCP)
            .from_port(source.port())
            .to_port(self.server.port());
        let matcher = self.policy.current();
        let database = matcher.handle(&EndpointId::workload("shop", "database"));
        let verdict =
            database.map(|database| matcher.decide(database, Hook::WorkloadIngress, &packet).verdict);
        if verdict != Some(Verdict::Allow) {
            return client.shutdown(Shutdown::Both);
        }
        let server = TcpStream::connect(self.server)?;
        let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
        let upload = thread::spawn(move || {
            let copied = std::io::copy(&mut from_client, &mut to_server);
            copied.and_then(|_| to_server.shutdown(Shutdown::Write))
        });
        let (mut from_server, mut to_client) = (server, client);
        std::io::copy(&mut from_server, &mut to_client)?;
        to_client.shutdown(Shutdown::Write)?;
        upload.join().unwrap_or(Ok(()))
    }
}

/// A server that says every line again, in the background.
fn echo_server() -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind((IpAddr::from(DATABASE), 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            thread::spawn(move || -> std::io::Result<()> {
                let mut text = String::new();
                client.read_to_string(&mut text)?;
                write!(client, "you said {text}")?;
                client.shutdown(Shutdown::Write)
            });
        }
    });
    Ok(address)
}

/// What a client at `address` gets for an answer.
fn ask(address: [u8; 4], proxy: SocketAddr) -> Result<String, Error> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((address, 0)).into())?;
    socket.connect(&proxy.into())?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    // A refused connection may be closed before or while we write.
    let mut answer = String::new();
    let exchange = stream
        .write_all(b"hello")
        .and_then(|()| stream.shutdown(Shutdown::Write))
        .and_then(|()| stream.read_to_string(&mut answer).map(drop));
    Ok(match exchange {
        Ok(()) if !answer.is_empty() => answer,
        _ => "refused".to_owned(),
    })
}

fn endpoint(name: &str, address: [u8; 4]) -> Update {
    let mut endpoint = Endpoint::new(EndpointId::workload("shop", name));
    endpoint.labels.insert("app", name);
    endpoint.addresses = vec![IpAddr::from(address)];
    Update::Endpoint(endpoint)
}

/// The database's policy: clients that `selector` selects may connect, on any port.
fn allow_from(selector: &str) -> Result<Policy, Error> {
    let select = |text: &str| -> Result<EntitySelector, Error> {
        let expr = Selector::parse(text)?.into_expr();
        Ok(EntitySelector { kinds: EntityKinds::WORKLOAD, expr })
    };
    let mut rule = Rule::new(Action::Allow);
    rule.peers = vec![EntityMatch::select(select(selector)?)];
    let id = PolicyId::new("Policy", Some("shop".into()), "database");
    let mut policy = Policy::new(id, "default", select("app == 'database'")?, Directions::INGRESS);
    policy.ingress = vec![rule];
    Ok(policy)
}
