//! Asking the daemon: one connection a request, blocking, since a plugin does one thing and ends.
//!
//! HTTP/1.0, because its answers end with the connection: nothing has to be decoded. Runtimes wait
//! for plugins with their own patience, so ours is short.

use std::io::{self, Read as _, Write as _};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sinew_control::api::{
    ATTACH_MESSAGE_MAX, AttachAnswer, AttachRequest, Detach, Detached, NetworkSummary, Networks, Workload,
    Workloads, attach_answer, attach_socket,
};
use sinew_control::{ApiError, Exit, Versioned, paths};
use sinew_platform::fdpass;

/// How long each step of a request may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest answer; a thousand workloads fit.
const ANSWER_MAX: u64 = 16 << 20;

/// Where the daemon listens.
#[derive(Clone, Debug)]
pub(crate) struct Daemon {
    socket: PathBuf,
}

impl Daemon {
    pub(crate) fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    pub(crate) fn attach(
        &self,
        request: &AttachRequest,
        namespace: BorrowedFd<'_>,
    ) -> Result<AttachAnswer, ApiError> {
        let socket = attach_socket(&self.socket);
        let message = serde_json::to_vec(&Versioned::new(request)).expect("requests are plain structs");
        let answer = fdpass::ask(&socket, &message, &[namespace], ATTACH_MESSAGE_MAX, PATIENCE);
        attach_answer(&answer.map_err(|error| absent(&socket, &error))?)
    }

    pub(crate) fn detach(&self, workload: &str) -> Result<Detached, ApiError> {
        self.post(paths::WORKLOADS_DETACH, &Detach { workload: workload.to_owned() })
    }

    pub(crate) fn workloads(&self) -> Result<Vec<Workload>, ApiError> {
        self.request("GET", paths::WORKLOADS, &[]).map(|list: Workloads| list.workloads)
    }

    pub(crate) fn networks(&self) -> Result<Vec<NetworkSummary>, ApiError> {
        self.request("GET", paths::NETWORKS, &[]).map(|list: Networks| list.networks)
    }

    fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ApiError> {
        let body = serde_json::to_vec(body).expect("requests are plain structs");
        self.request("POST", path, &body)
    }

    fn request<T: DeserializeOwned>(&self, method: &str, path: &str, body: &[u8]) -> Result<T, ApiError> {
        let answer = self.exchange(method, path, body).map_err(|error| absent(&self.socket, &error))?;
        let (ok, body) = split(&answer).ok_or_else(|| ApiError::bad_answer("no HTTP"))?;
        let garbled = |error: serde_json::Error| ApiError::bad_answer(&error.to_string());
        if ok {
            serde_json::from_slice::<Versioned<T>>(body).map(|versioned| versioned.body).map_err(garbled)
        } else {
            Err(serde_json::from_slice::<Versioned<ApiError>>(body).map_err(garbled)?.body)
        }
    }

    fn exchange(&self, method: &str, path: &str, body: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let head = format!(
            "{method} {path} HTTP/1.0\r\nhost: sinew\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
        if answer.is_empty() { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(answer) }
    }
}

/// Whether an answer is good, and its body.
fn split(answer: &[u8]) -> Option<(bool, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let status = answer.get(..end)?.split(|&byte| byte == b' ').nth(1)?;
    Some((status.starts_with(b"2"), answer.get(end + 4..)?))
}

/// Why there is no answer.
fn absent(socket: &Path, error: &io::Error) -> ApiError {
    let socket = socket.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            ApiError::denied(format!("the container runtime may not open {socket}"))
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            let message = format!("the sinew daemon at {socket} gives no answer");
            ApiError::new(
                "daemon_silent",
                Exit::Unreachable,
                message,
                "it is busy or stuck; its log says more",
            )
        }
        _ => {
            let message = format!("no sinew daemon runs at {socket}");
            let hint =
                "start it: `systemctl start sinewd`; or name its socket in the network's configuration";
            ApiError::new("daemon_not_running", Exit::NotRunning, message, hint)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_good_or_not_by_its_status() {
        assert_eq!(split(b"HTTP/1.0 200 OK\r\na: b\r\n\r\n{}"), Some((true, &b"{}"[..])));
        assert_eq!(split(b"HTTP/1.0 404 x\r\n\r\n"), Some((false, &b""[..])));
        assert_eq!(split(b"nonsense"), None);
    }

    #[test]
    fn a_daemon_that_is_not_there_is_named() {
        let error = Daemon::at(Path::new("/nonexistent/sinew.sock")).workloads().unwrap_err();
        assert_eq!((error.code.as_str(), error.exit), ("daemon_not_running", 6));
        assert!(error.message.contains("/nonexistent/sinew.sock"), "{}", error.message);
    }
}
