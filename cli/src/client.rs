//! HTTP over the daemon's unix socket: one connection a request.
//!
//! Every way in which the daemon can fail to answer becomes an [`ApiError`] that names the next
//! step, so that "it does not work" never ends in a bare errno.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sinew_control::{ApiError, Exit, SCHEMA_VERSION, Versioned};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Longest answer taken; a table of a million routes fits.
const ANSWER_MAX: usize = 512 << 20;
/// Longest line of a stream.
const LINE_MAX: usize = 1 << 20;
/// How long the daemon may think about an ordinary request.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Where the daemon listens.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    pub(crate) const fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// The socket asked.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// GETs a resource.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.answer(self.request(Method::GET, path, Bytes::new()), PATIENCE).await
    }

    /// POSTs to a resource; `patience` is how long the answer may take.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        patience: Duration,
    ) -> Result<T, ApiError> {
        self.answer(self.request(Method::POST, path, json(body)), patience).await
    }

    /// POSTs to a resource that answers line by line.
    pub(crate) async fn lines(&self, path: &str, body: &impl Serialize) -> Result<Lines, ApiError> {
        let response = timeout(PATIENCE, self.request(Method::POST, path, json(body))).await;
        let response = response.map_err(|_| self.silent())??;
        if response.status().is_success() {
            return Ok(Lines { body: response.into_body(), held: Vec::new() });
        }
        Err(refusal(&collect(response).await?))
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        request: impl Future<Output = Result<Response<Incoming>, ApiError>>,
        patience: Duration,
    ) -> Result<T, ApiError> {
        let whole = async {
            let response = request.await?;
            let ok = response.status().is_success();
            Ok((ok, collect(response).await?))
        };
        let (ok, body) = timeout(patience, whole).await.map_err(|_| self.silent())??;
        if ok { parse(&body) } else { Err(refusal(&body)) }
    }

    async fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, ApiError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| absent(&self.socket, &error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|_| hung_up())?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "sinew")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| ApiError::invalid(format!("cannot ask for {path}: {error}"), ""))?;
        sender.send_request(request).await.map_err(|_| hung_up())
    }

    fn silent(&self) -> ApiError {
        let hint = "it is busy or stuck; its log says more";
        let message = format!("the daemon at {} gives no answer", self.socket.display());
        ApiError::new("daemon_silent", Exit::Unreachable, message, hint)
    }
}

/// An answer that comes line by line.
pub(crate) struct Lines {
    body: Incoming,
    held: Vec<u8>,
}

impl Lines {
    /// The next object; `None` at the end. An error object ends the stream.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ApiError> {
        loop {
            if let Some(end) = self.held.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.held.drain(..=end).collect();
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return line_of(&line).map(Some);
            }
            if self.held.len() > LINE_MAX {
                return Err(garbled("a line without end"));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.held.extend_from_slice(&data);
                    }
                }
                Some(Err(_)) => return Err(hung_up()),
                None if self.held.trim_ascii().is_empty() => return Ok(None),
                None => return line_of(&std::mem::take(&mut self.held)).map(Some),
            }
        }
    }
}

fn line_of<T: DeserializeOwned>(line: &[u8]) -> Result<T, ApiError> {
    match serde_json::from_slice::<Versioned<ApiError>>(line) {
        Ok(refused) => Err(refused.body),
        Err(_) => parse(line),
    }
}

fn json(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).expect("requests are plain structs with string keys").into()
}

async fn collect(response: Response<Incoming>) -> Result<Bytes, ApiError> {
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|_| hung_up())
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    /// Read first, so that another version is named instead of a missing field.
    #[derive(serde::Deserialize)]
    struct Head {
        schema_version: u32,
    }
    match serde_json::from_slice::<Head>(body) {
        Ok(head) if head.schema_version != SCHEMA_VERSION => {
            Err(garbled(&format!("it speaks schema version {}", head.schema_version)))
        }
        _ => serde_json::from_slice::<Versioned<T>>(body)
            .map(|versioned| versioned.body)
            .map_err(|error| garbled(&error.to_string())),
    }
}

fn refusal(body: &[u8]) -> ApiError {
    match serde_json::from_slice::<Versioned<ApiError>>(body) {
        Ok(refused) => refused.body,
        Err(error) => garbled(&error.to_string()),
    }
}

fn garbled(what: &str) -> ApiError {
    ApiError::bad_answer(what)
}

fn hung_up() -> ApiError {
    let hint = "it stopped or was killed; its log says why";
    ApiError::new("daemon_gone", Exit::NotRunning, "the daemon closed the connection", hint)
}

pub(crate) fn absent(socket: &Path, error: &io::Error) -> ApiError {
    let socket = socket.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            return ApiError::denied(format!("this user may not open {socket}"));
        }
        io::ErrorKind::WouldBlock => {
            let hint = "it is busy or stuck; its log says more";
            let message = format!("the daemon at {socket} gives no answer");
            return ApiError::new("daemon_silent", Exit::Unreachable, message, hint);
        }
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => return hung_up(),
        _ => {}
    }
    let hint =
        "start it with `sinewd --config FILE` or `systemctl start sinewd`, or name its socket with --socket";
    ApiError::new("daemon_not_running", Exit::NotRunning, format!("no daemon runs at {socket}"), hint)
}
