//! A daemon that only has prepared answers, and a way to run `sinew` against it.

pub(crate) mod samples;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// One prepared answer.
#[derive(Clone)]
pub(crate) struct Answer {
    /// `GET /v1/status`.
    pub(crate) to: String,
    pub(crate) status: u16,
    pub(crate) body: String,
}

pub(crate) fn answer(to: &str, status: u16, body: impl Into<String>) -> Answer {
    Answer { to: to.to_owned(), status, body: body.into() }
}

/// Stands for the attach socket where resources are named.
pub(crate) const ATTACH: &str = "ATTACH";

/// Requests as they came: first line, then body.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

/// The fake daemon; its socket is gone when it is dropped.
pub(crate) struct Fake {
    pub(crate) dir: PathBuf,
    pub(crate) socket: PathBuf,
    seen: Seen,
}

impl Fake {
    pub(crate) fn start(answers: Vec<Answer>) -> Self {
        let dir = fresh_dir();
        let socket = dir.join("s");
        let listener = UnixListener::bind(&socket).expect("a fresh directory has room for a socket");
        let seen = Seen::default();
        let record = Arc::clone(&seen);
        let attachments = answers.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                serve(stream, &answers, &record);
            }
        });
        let attach = UnixListener::bind(sinew_control::api::attach_socket(&socket))
            .expect("there is room for another");
        let record = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in attach.incoming() {
                let Ok(stream) = stream else { return };
                attached(stream, &attachments, &record);
            }
        });
        Self { dir, socket, seen }
    }

    /// Bodies that were sent to a resource.
    pub(crate) fn sent_to(&self, to: &str) -> Vec<String> {
        let seen = self.seen.lock().expect("no server thread panics while it records");
        seen.iter().filter(|(first, _)| first == to).map(|(_, body)| body.clone()).collect()
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        run(&self.socket, args)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A directory that no other test has, short enough for a socket path.
pub(crate) fn fresh_dir() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("sinew-cli-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let dir = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&dir).expect("the temporary directory can be written");
    dir
}

fn serve(mut stream: UnixStream, answers: &[Answer], seen: &Seen) {
    let mut reader = BufReader::new(stream.try_clone().expect("a socket can be cloned"));
    let (mut first, mut length) = (String::new(), 0);
    if reader.read_line(&mut first).is_err() {
        return;
    }
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header).is_err() || header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a client sends a number");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a client sends what it announced");
    let to = first.rsplit_once(' ').map_or("", |(to, _version)| to).to_owned();
    seen.lock()
        .expect("no server thread panics while it records")
        .push((to.clone(), String::from_utf8_lossy(&body).into()));
    let Some(answer) = answers.iter().find(|answer| answer.to == to) else { return };
    let head = format!("HTTP/1.1 {} x\r\ncontent-length: {}\r\n\r\n", answer.status, answer.body.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(answer.body.as_bytes()));
}

/// The attach socket: a question, then an answer. Descriptors are closed by whoever reads without them.
fn attached(mut stream: UnixStream, answers: &[Answer], seen: &Seen) {
    let mut question = String::new();
    if stream.read_to_string(&mut question).is_err() {
        return;
    }
    seen.lock().expect("no server thread panics while it records").push((ATTACH.to_owned(), question));
    if let Some(answer) = answers.iter().find(|answer| answer.to == ATTACH) {
        let _ = stream.write_all(answer.body.as_bytes());
    }
}

/// What a run of `sinew` left.
pub(crate) struct Run {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) exit: i32,
}

/// Runs `sinew --socket SOCKET ARGS`.
pub(crate) fn run(socket: &Path, args: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sinew"));
    finished(command.arg("--socket").arg(socket).args(args).output().expect("the program was built"))
}

pub(crate) fn finished(output: Output) -> Run {
    Run {
        out: String::from_utf8_lossy(&output.stdout).into(),
        err: String::from_utf8_lossy(&output.stderr).into(),
        exit: output.status.code().unwrap_or(-1),
    }
}
