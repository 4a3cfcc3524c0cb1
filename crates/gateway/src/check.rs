//! Active checks: asking each backend, again and again, whether it is well.
//!
//! They go through the same [`crate::Dial`] as clients' requests, so what they find is what clients
//! would. A backend counts as well until its check has failed often enough in a row. One whose node
//! lives and has no room for a check is left as it is: it is busy with clients.

use std::io;
use std::sync::Arc;

use hyper::client::conn::http1;
use hyper::header::{self, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;

use crate::backend::{Backend, Condition};
use crate::config::Check;
use crate::dial::Failure;
use crate::event::{BackendEvent, unix_millis};
use crate::http::body::Body;
use crate::state::{Service, Shared};

/// Checks one backend until the task is ended.
pub(crate) async fn run(shared: Arc<Shared>, service: Arc<Service>, backend: Arc<Backend>) {
    let Some(check) = service.config.check.clone() else { return };
    let down_now = backend.condition(std::time::Instant::now()) == Condition::Down;
    let (mut down, mut streak) = (down_now, 0);
    loop {
        let found =
            match tokio::time::timeout(check.timeout, probe(&shared, &service, &check, &backend)).await {
                Ok(Err(Trouble::Full)) => {
                    tokio::time::sleep(check.interval).await;
                    continue;
                }
                Ok(Err(Trouble::Fails(why))) => Err(why),
                Ok(Ok(())) => Ok(()),
                Err(_) => Err("no answer in time".to_owned()),
            };
        let agrees = found.is_err() == down;
        streak = if agrees { 0 } else { streak + 1 };
        let needed = if down { check.rise } else { check.fall };
        if streak >= needed {
            (down, streak) = (!down, 0);
            if backend.set_down(down) {
                shared.observer.backend(&BackendEvent {
                    time: unix_millis(),
                    service: service.name.clone(),
                    backend: backend.target.to_string(),
                    condition: if down { Condition::Down } else { Condition::Well },
                    cause: found.as_ref().err().cloned().unwrap_or_else(|| "its check succeeds".to_owned()),
                });
            }
        }
        // In doubt, look again soon.
        let pause = if streak > 0 { check.retry } else { check.interval };
        tokio::time::sleep(pause).await;
    }
}

/// Why a check did not succeed.
enum Trouble {
    /// No room for it, which says nothing of the backend.
    Full,
    Fails(String),
}

impl From<String> for Trouble {
    fn from(why: String) -> Self {
        Self::Fails(why)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        match Failure::of(&error) {
            Failure::Full => Self::Full,
            Failure::Unreachable => Self::Fails(error.to_string()),
        }
    }
}

async fn probe(shared: &Shared, service: &Service, check: &Check, backend: &Backend) -> Result<(), Trouble> {
    let stream = shared.dial.connect(&backend.target).await?;
    let Some(path) = &check.path else { return Ok(()) };
    let host =
        check.host.as_deref().or(service.config.hosts.first().map(String::as_str)).unwrap_or("localhost");
    let host = host.strip_prefix("*.").unwrap_or(host);
    let mut request = Request::new(Body::Empty);
    *request.uri_mut() = path.parse().map_err(|_| "its path is malformed".to_owned())?;
    let value = HeaderValue::from_str(host).map_err(|_| "its host is malformed".to_owned())?;
    request.headers_mut().insert(header::HOST, value);
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    let handshake = http1::handshake::<_, Body>(TokioIo::new(stream)).await;
    let (mut sender, serving) = handshake.map_err(|error| error.to_string())?;
    let serving = tokio::spawn(serving);
    let answer = sender.send_request(request).await.map_err(|error| error.to_string());
    serving.abort();
    match answer?.status() {
        status if status.is_success() || status.is_redirection() => Ok(()),
        StatusCode::SWITCHING_PROTOCOLS => Err("it switched protocols".to_owned().into()),
        status => Err(format!("it answered {}", status.as_u16()).into()),
    }
}
