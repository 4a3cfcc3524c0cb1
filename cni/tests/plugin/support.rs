//! A daemon that only has prepared answers, the plugin run as a program, and namespaces.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use sinew_control::api::*;
use sinew_control::{ApiError, Versioned};

/// Stands for the attach socket where resources are named.
pub(crate) const ATTACH: &str = "ATTACH";
/// The tag of the container that all tests are about.
pub(crate) const TAG: &str = "cni:pods:c0ffee:eth0";

type Seen = Arc<Mutex<Vec<(String, String)>>>;
/// Resource and answer; several for one resource are given in turn, the last one for ever.
type Answers = Arc<Mutex<Vec<(String, String)>>>;

/// The fake daemon.
pub(crate) struct Fake {
    pub(crate) dir: tempfile::TempDir,
    seen: Seen,
}

pub(crate) fn ok<T: serde::Serialize>(to: &str, body: T) -> (String, String) {
    (to.to_owned(), serde_json::to_string(&Versioned::new(body)).expect("plain structs"))
}

pub(crate) fn refused(to: &str, error: ApiError) -> (String, String) {
    ok(to, error)
}

impl Fake {
    pub(crate) fn start(answers: Vec<(String, String)>) -> Self {
        let dir = tempfile::tempdir().expect("the temporary directory can be written");
        let (seen, answers) = (Seen::default(), Arc::new(Mutex::new(answers)));
        for (name, attach) in [("sinew.sock", false), ("attach.sock", true)] {
            let listener = UnixListener::bind(dir.path().join(name)).expect("a fresh directory");
            let (seen, answers) = (Arc::clone(&seen), Arc::clone(&answers));
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let Ok(stream) = stream else { return };
                    serve(stream, attach, &answers, &seen);
                }
            });
        }
        Self { dir, seen }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("sinew.sock")
    }

    /// Bodies that were sent to a resource.
    pub(crate) fn sent_to(&self, to: &str) -> Vec<String> {
        let seen = self.seen.lock().expect("no server thread panics while it records");
        seen.iter().filter(|(first, _)| first == to).map(|(_, body)| body.clone()).collect()
    }

    pub(crate) fn run(&self, call: Call<'_>) -> Ran {
        run(&self.socket(), call)
    }
}

fn serve(mut stream: UnixStream, attach: bool, answers: &Answers, seen: &Seen) {
    let (to, body) = if attach {
        let mut question = String::new();
        if stream.read_to_string(&mut question).is_err() {
            return;
        }
        (ATTACH.to_owned(), question)
    } else {
        match request(&stream) {
            Some(request) => request,
            None => return,
        }
    };
    seen.lock().expect("no server thread panics while it records").push((to.clone(), body));
    let mut answers = answers.lock().expect("no server thread panics while it answers");
    let fitting: Vec<_> =
        answers.iter().enumerate().filter(|(_, (known, _))| *known == to).map(|(at, _)| at).collect();
    let Some(&at) = fitting.first() else { return };
    let answer = if fitting.len() > 1 { answers.remove(at).1 } else { answers[at].1.clone() };
    let answer = if attach {
        answer
    } else {
        let status = if answer.contains("\"exit\":") { 400 } else { 200 };
        format!("HTTP/1.0 {status} x\r\ncontent-length: {}\r\n\r\n{answer}", answer.len())
    };
    let _ = stream.write_all(answer.as_bytes());
}

fn request(stream: &UnixStream) -> Option<(String, String)> {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).ok()?;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header).ok()? == 0 || header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let to = first.rsplit_once(' ')?.0.to_owned();
    Some((to, String::from_utf8_lossy(&body).into_owned()))
}

/// One call of the plugin.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) command: &'a str,
    pub(crate) netns: Option<&'a Path>,
    pub(crate) args: &'a str,
    pub(crate) version: &'a str,
    /// More keys of the configuration, each with a comma before it.
    pub(crate) config: &'a str,
}

impl<'a> Call<'a> {
    pub(crate) fn new(command: &'a str) -> Self {
        let netns = Some(Path::new("/proc/self/ns/net"));
        Self { command, netns, args: "", version: "1.0.0", config: "" }
    }
}

/// What a call left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) ok: bool,
    pub(crate) out: String,
}

impl Ran {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    /// The code of an error.
    pub(crate) fn code(&self) -> u64 {
        assert!(!self.ok, "{}", self.out);
        self.json()["code"].as_u64().expect("errors have a code")
    }
}

pub(crate) fn run(socket: &Path, call: Call<'_>) -> Ran {
    let config = format!(
        r#"{{"cniVersion":"{}","name":"pods","type":"sinew-cni","network":"shop","socket":"{}"{}}}"#,
        call.version,
        socket.display(),
        call.config
    );
    let mut environment = vec![("CNI_COMMAND", call.command.to_owned())];
    if ["ADD", "DEL", "CHECK"].contains(&call.command) {
        environment.push(("CNI_CONTAINERID", "c0ffee".to_owned()));
        environment.push(("CNI_IFNAME", "eth0".to_owned()));
        environment.push(("CNI_ARGS", call.args.to_owned()));
        environment.extend(call.netns.map(|path| ("CNI_NETNS", path.display().to_string())));
    }
    program(&environment, &config)
}

/// The program with an environment of its own.
pub(crate) fn program(environment: &[(&str, String)], stdin: &str) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sinew-cni"))
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (*name, value.as_str())))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program was built");
    let mut pipe = child.stdin.take().expect("it is piped");
    // A program that refuses early need not read.
    let _ = pipe.write_all(stdin.as_bytes());
    drop(pipe);
    let output = child.wait_with_output().expect("it ends");
    Ran { ok: output.status.success(), out: String::from_utf8_lossy(&output.stdout).into_owned() }
}

/// A named namespace with a veth `eth0` as the daemon would leave it; gone on drop. `None` without root.
pub(crate) struct Namespace(String);

impl Namespace {
    pub(crate) fn create() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
        {
            return None;
        }
        let name = format!("sinewcni-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        ip(&["netns", "add", &name]);
        let ns = Self(name);
        for line in [
            "link add eth0 type veth peer name other",
            "addr add 10.20.1.2/32 dev eth0",
            "link set eth0 up",
            "link set other up",
            "route add 10.20.0.0/16 dev eth0",
            "-6 addr add fd12:3456:789a:1::2/128 dev eth0 nodad",
            "-6 route add fd12:3456:789a::/48 dev eth0",
        ] {
            ns.ip(line);
        }
        Some(ns)
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.0)
    }

    pub(crate) fn ip(&self, line: &str) -> String {
        ip(&[&["-n", self.0.as_str()][..], &line.split(' ').collect::<Vec<_>>()].concat())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn ip(args: &[&str]) -> String {
    let output = Command::new("ip").args(args).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn attached() -> AttachAnswer {
    AttachAnswer {
        id: "w1".to_owned(),
        name: "web".to_owned(),
        interfaces: vec![AttachedInterface {
            interface: "eth0".to_owned(),
            network: "shop".to_owned(),
            network_id: "shopid".to_owned(),
            addresses: vec!["10.20.1.2/32".to_owned(), "fd12:3456:789a:1::2/128".to_owned()],
            routes: vec!["10.20.0.0/16".to_owned(), "fd12:3456:789a::/48".to_owned()],
            mtu: 1380,
            mac: None,
        }],
        resolvers: vec!["10.20.1.1".parse().expect("an address")],
        search: vec!["shop.sinew.internal".to_owned()],
    }
}

pub(crate) fn workload(tag: &str) -> Workload {
    Workload {
        id: "w1".to_owned(),
        name: "web".to_owned(),
        network: "shop".to_owned(),
        addresses: vec!["10.20.1.2".to_owned(), "fd12:3456:789a:1::2".to_owned()],
        netns: None,
        pid: None,
        state: WorkloadState::Up,
        rx_bytes: 0,
        tx_bytes: 0,
        interface: "eth0".to_owned(),
        mtu: 1380,
        by: AttachedBy::Cni,
        tag: Some(tag.to_owned()),
        key: None,
        lease_until: None,
        resolvers: vec![],
        search: vec![],
    }
}

pub(crate) fn workloads(tags: &[&str]) -> (String, String) {
    ok("GET /v1/workloads", Workloads { workloads: tags.iter().map(|tag| workload(tag)).collect() })
}

pub(crate) fn networks(state: NetworkState) -> (String, String) {
    let shop = NetworkSummary {
        id: "shopid".to_owned(),
        name: "shop".to_owned(),
        role: Role::Member,
        state,
        ipv4: Some("10.20.0.0/16".to_owned()),
        ipv6: "fd12:3456:789a::/48".to_owned(),
        version: None,
        members_total: 1,
        members_up: 1,
        workloads_total: 1,
        requests: 0,
    };
    ok("GET /v1/networks", Networks { networks: vec![shop] })
}

pub(crate) fn detached() -> (String, String) {
    ok("POST /v1/workloads/detach", Detached { id: "w1".to_owned(), name: "web".to_owned() })
}
