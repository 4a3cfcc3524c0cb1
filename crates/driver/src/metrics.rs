//! The node's numbers as Prometheus text, for programs that watch many nodes: `GET /metrics` at `[metrics] listen`.
//!
//! ```text
//!  scraper ─ HTTP ─▶ a thread of its own ─── Numbers, List ──▶ loop, desk
//!                    ledger ▸ page ▸ text ◀── numbers ────────
//! ```
//! The loop that carries the packets only copies what it counts anyway, and that at most once a second, however many
//! ask: whoever comes sooner gets the text of before. All else happens on this thread. Clients are strangers to it:
//! so many connections at once, each for one request and a few seconds. What does not answer in time is left out and
//! said so; a loop that does not answer makes the whole scrape fail, which is what monitoring is for.

mod ledger;
mod numbers;
mod page;
mod text;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use sinew_control::config::Config;
use sinew_gateway::{Bind as _, OwnBind};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

pub(crate) use numbers::{GatewayNumbers, NodeNumbers};

use crate::api;
use crate::command::{Command, GatewayCommand, NodeCommand, Reply, WorkloadCommand};
use crate::error::RunError;
use ledger::Ledger;
use page::Page;

/// The exposition format, as Prometheus wants it named.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Connections at once; more wait in the kernel.
const CONNECTIONS: usize = 16;
/// How long a connection may last, from its beginning to the answer's last byte.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the loop and the desk may take for their numbers.
const ANSWER: Duration = Duration::from_secs(2);
/// How old an answer may be.
const FRESH: Duration = Duration::from_secs(1);
/// After an error of the socket, such as that there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// A socket, bound while there was a right to, and whom to ask.
pub(crate) struct Bound {
    listener: std::net::TcpListener,
    commands: mpsc::Sender<Command>,
    gateway: bool,
}

impl Bound {
    /// Binds what the configuration names, if it names anything.
    ///
    /// # Errors
    /// The address cannot be had.
    pub(crate) fn bind(config: &Config, commands: &mpsc::Sender<Command>) -> Result<Option<Self>, RunError> {
        let Some(address) = config.metrics.listen else { return Ok(None) };
        let wrong = |error: io::Error| RunError::Metrics(format!("cannot listen at {address}: {error}"));
        let listener = OwnBind.tcp(address).map_err(wrong)?;
        listener.set_nonblocking(true).map_err(wrong)?;
        let address = listener.local_addr().map_err(wrong)?;
        if address.ip().is_loopback() {
            info!(%address, "metrics");
        } else {
            warn!(
                "metrics at {address}: whoever reaches it can read who this node's peers are and what it serves"
            );
        }
        Ok(Some(Self { listener, commands: commands.clone(), gateway: config.gateway.is_some() }))
    }

    /// Answers from here on. It starts a thread.
    ///
    /// # Errors
    /// There is none to be had.
    pub(crate) fn serve(self) -> io::Result<Server> {
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(self.listener)?
        };
        let scraper = Arc::new(Scraper::new(self.commands, self.gateway, ANSWER));
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, scraper) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("sinew-metrics".to_owned()).spawn(run)?;
        Ok(Server { stop: Some(stop), thread: Some(thread) })
    }
}

/// The endpoint; it ends when this is dropped.
pub(crate) struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, scraper: Arc<Scraper>) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(seat) = seats.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let scraper = scraper.clone();
                tokio::spawn(async move {
                    let _seat = seat;
                    // A client that is too slow has to come again.
                    let _ = timeout(PATIENCE, connection(stream, scraper)).await;
                });
            }
            Err(error) => {
                debug!(%error, "metrics");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, scraper: Arc<Scraper>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let scraper = scraper.clone();
        async move { Ok::<_, Infallible>(scraper.answer(request.method(), request.uri().path()).await) }
    });
    let served =
        http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        debug!(%error, "metrics");
    }
}

/// Collects numbers and makes their text.
struct Scraper {
    commands: mpsc::Sender<Command>,
    /// Whether there is a desk to be asked.
    gateway: bool,
    /// How long the loop and the desk may take.
    patience: Duration,
    /// Held while it collects, so that one scrape is under way at most.
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    text: Option<(Instant, Bytes)>,
    ledger: Ledger,
}

impl Scraper {
    fn new(commands: mpsc::Sender<Command>, gateway: bool, patience: Duration) -> Self {
        Self { commands, gateway, patience, last: Mutex::default() }
    }

    async fn answer(&self, method: &Method, path: &str) -> Response<Body> {
        if method != Method::GET || path != "/metrics" {
            return (StatusCode::NOT_FOUND, "the numbers are at GET /metrics\n").into_response();
        }
        match self.text().await {
            Some(text) => ([(CONTENT_TYPE, FORMAT)], text).into_response(),
            None => (StatusCode::SERVICE_UNAVAILABLE, "the node does not answer in time\n").into_response(),
        }
    }

    /// Text that is not older than [`FRESH`]; `None`: the loop does not answer.
    async fn text(&self) -> Option<Bytes> {
        let mut last = self.last.lock().await;
        if let Some((made, text)) = &last.text
            && made.elapsed() < FRESH
        {
            return Some(text.clone());
        }
        let text = Bytes::from(self.collect(&mut last.ledger).await?);
        last.text = Some((Instant::now(), text.clone()));
        Some(text)
    }

    async fn collect(&self, ledger: &mut Ledger) -> Option<String> {
        let gateway = async {
            match self.gateway {
                true => Some(self.ask(GatewayCommand::Numbers).await),
                false => None,
            }
        };
        let (node, workloads, gateway) =
            tokio::join!(self.ask(NodeCommand::Numbers), self.ask(WorkloadCommand::List), gateway);
        let node = node?;
        ledger.note(&node.peers);
        let mut page = Page::default();
        page.node(&node, ledger);
        page.part("workloads", workloads.is_some());
        if let Some(workloads) = workloads {
            page.workloads(&workloads);
        }
        if let Some(gateway) = gateway {
            page.part("gateway", gateway.is_some());
            if let Some(gateway) = gateway {
                page.gateway(&gateway);
            }
        }
        Some(page.text())
    }

    async fn ask<T, C: Into<Command>>(&self, make: impl FnOnce(Reply<T>) -> C) -> Option<T> {
        timeout(self.patience, api::request(&self.commands, make)).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests;
