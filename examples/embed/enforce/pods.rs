//! Pods of the example: processes in network namespaces of their own, which go with them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Error;

/// A pod: a process that serves a database, behind a veth pair.
pub(crate) struct Pod {
    process: Child,
    interface: String,
}

impl Pod {
    pub(crate) fn new(name: &str, address: &str) -> Result<Self, Error> {
        let exe = std::env::current_exe()?;
        let mut process =
            Command::new("unshare").arg("--net").arg(exe).arg("pod").stdout(Stdio::piped()).spawn()?;
        BufReader::new(process.stdout.take().ok_or("no output")?).read_line(&mut String::new())?;
        let (pid, interface) = (process.id(), format!("cali-{name}"));
        let pod = Self { process, interface };
        let interface = &pod.interface;
        run(&format!("ip link add {interface} type veth peer name eth0 netns {pid}"))?;
        run(&format!("ip addr add 169.254.1.1/32 dev {interface}"))?;
        run(&format!("ip link set {interface} up"))?;
        run(&format!("ip route add {address}/32 dev {interface}"))?;
        for inside in [
            format!("ip addr add {address}/32 dev eth0"),
            "ip link set eth0 up".into(),
            "ip route add 169.254.1.1 dev eth0".into(),
            "ip route add default via 169.254.1.1".into(),
        ] {
            run(&format!("nsenter -t {pid} -n {inside}"))?;
        }
        Ok(pod)
    }

    /// A connection from here to the database at `address`, that stays.
    pub(crate) fn connect(&self, address: &str) -> Result<Flow, Error> {
        let pid = self.process.id().to_string();
        let mut process = Command::new("nsenter")
            .args(["-t", &pid, "-n"])
            .arg(std::env::current_exe()?)
            .args(["talk", &format!("{address}:5432")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let answers = BufReader::new(process.stdout.take().ok_or("no output")?);
        Ok(Flow { process, answers })
    }

    /// Whether a new connection comes about.
    pub(crate) fn reaches(&self, address: &str) -> Result<bool, Error> {
        self.connect(address)?.goes_on()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = run(&format!("ip link del {}", self.interface));
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) struct Flow {
    process: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Flow {
    /// Whether it carries data there and back.
    pub(crate) fn goes_on(&mut self) -> Result<bool, Error> {
        let mut answer = String::new();
        // A process that could not connect is gone.
        let _ = self.process.stdin.as_mut().ok_or("no input")?.write_all(b"\n");
        self.answers.read_line(&mut answer)?;
        Ok(answer == "true\n")
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The process of a pod: it answers with what it is sent.
pub(crate) fn serve() -> Result<(), Error> {
    run("ip link set lo up")?;
    let listener = TcpListener::bind("0.0.0.0:5432")?;
    println!("ready");
    for stream in listener.incoming() {
        let (mut read, mut write) = {
            let stream = stream?;
            (stream.try_clone()?, stream)
        };
        std::thread::spawn(move || std::io::copy(&mut read, &mut write));
    }
    Ok(())
}

/// The process of a connection: for each line that it reads, it says whether data still goes there and back.
pub(crate) fn talk(to: SocketAddr) -> Result<(), Error> {
    // Long enough for a second SYN: a packet may be lost.
    let patience = Duration::from_millis(1_500);
    let Ok(mut stream) = TcpStream::connect_timeout(&to, patience) else { return Ok(()) };
    stream.set_read_timeout(Some(patience))?;
    for line in std::io::stdin().lock().lines() {
        let _ = line?;
        let carried =
            stream.write_all(b"x").is_ok() && stream.read(&mut [0; 1]).is_ok_and(|count| count == 1);
        println!("{carried}");
    }
    Ok(())
}

/// Runs a command, words apart by spaces.
pub(crate) fn run(line: &str) -> Result<(), Error> {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap_or_default()).args(words).output()?;
    if output.status.success() { Ok(()) } else { Err(format!("{line}: {output:?}").into()) }
}
