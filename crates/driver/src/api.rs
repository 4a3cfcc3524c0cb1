//! The control API: HTTP and JSON over a unix socket, with the caller known by its credentials.
//!
//! Root and members of the socket's group may do everything the API offers; the socket's file
//! mode keeps everybody else out before the first byte. Handlers only translate: each
//! sends a [`Command`] to the loop that owns the node and waits for its answer.

mod networks;

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sinew_control::api::{PingRequest, RouteQuery, RoutesShow, TraceRequest, WhyRequest};
use sinew_control::{ApiError, Versioned, paths};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use crate::command::{Command, NodeCommand, Reply};

/// Requests waiting for the loop; beyond it callers wait.
pub(crate) const QUEUE: usize = 64;
/// Longest request body, bytes.
const BODY_MAX: usize = 64 * 1024;
/// The same where a network's documents are brought: in hexadecimal, so twice as much as them. Callers
/// are operators of this node.
const DOCUMENTS_MAX: usize = 16 << 20;

type Loop = mpsc::Sender<Command>;

/// `?show=all` of the routes.
#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RoutesQuery {
    show: RoutesShow,
}

/// Serves the API until the listener's task is dropped.
pub(crate) async fn serve(listener: UnixListener, commands: Loop) -> std::io::Result<()> {
    axum::serve(listener, router(commands)).await
}

fn router(commands: Loop) -> Router {
    Router::new()
        .route(paths::STATUS, get(|State(l): State<Loop>| async move { ask(&l, NodeCommand::Status).await }))
        .route(paths::PEERS, get(|State(l): State<Loop>| async move { ask(&l, NodeCommand::Peers).await }))
        .route(
            paths::PEERS_ADD,
            post(|State(l): State<Loop>, b: Bytes| async move { act(&l, &b, NodeCommand::PeerAdd).await }),
        )
        .route(
            paths::PEERS_REMOVE,
            post(|State(l): State<Loop>, b: Bytes| async move { act(&l, &b, NodeCommand::PeerRemove).await }),
        )
        .route(
            paths::ROUTES,
            get(|State(l): State<Loop>, Query(q): Query<RoutesQuery>| async move {
                ask(&l, |reply| NodeCommand::Routes(q.show, reply)).await
            }),
        )
        .route(
            paths::ROUTES_GET,
            post(|State(l): State<Loop>, b: Bytes| async move {
                act(&l, &b, |q: RouteQuery, reply| NodeCommand::RouteGet(q.target, reply)).await
            }),
        )
        .route(
            paths::SESSIONS,
            get(|State(l): State<Loop>| async move { ask(&l, NodeCommand::Sessions).await }),
        )
        .route(
            paths::WHY,
            post(|State(l): State<Loop>, b: Bytes| async move {
                act(&l, &b, |q: WhyRequest, reply| NodeCommand::Why(q.target, reply)).await
            }),
        )
        .route(
            paths::NETCHECK,
            get(|State(l): State<Loop>| async move { ask(&l, NodeCommand::Netcheck).await }),
        )
        .route(paths::DROPS, get(|State(l): State<Loop>| async move { ask(&l, NodeCommand::Drops).await }))
        .route(paths::GRAPH, get(|State(l): State<Loop>| async move { ask(&l, NodeCommand::Graph).await }))
        .route(paths::KEY, get(|State(l): State<Loop>| async move { ask(&l, NodeCommand::Key).await }))
        .route(paths::CONFIG, get(|State(l): State<Loop>| async move { ask(&l, NodeCommand::Config).await }))
        .route(
            paths::CONFIG_RELOAD,
            post(|State(l): State<Loop>| async move { ask(&l, NodeCommand::Reload).await }),
        )
        .route(
            paths::TRACE,
            post(|State(l): State<Loop>, b: Bytes| async move {
                act(&l, &b, |q: TraceRequest, reply| NodeCommand::Trace { target: q.target, reply }).await
            }),
        )
        .route(paths::PING, post(ping))
        .merge(networks::router())
        .fallback(|uri: axum::http::Uri| async move { failure(&ApiError::no_such_resource(uri.path())) })
        .layer(axum::extract::DefaultBodyLimit::max(BODY_MAX))
        .with_state(commands)
}

async fn ask<T: Serialize, C: Into<Command>>(commands: &Loop, make: impl FnOnce(Reply<T>) -> C) -> Response {
    match request(commands, make).await {
        Ok(answer) => Json(Versioned::new(answer)).into_response(),
        Err(error) => failure(&error),
    }
}

async fn act<Q: DeserializeOwned, T: Serialize, C: Into<Command>>(
    commands: &Loop,
    body: &Bytes,
    make: impl FnOnce(Q, Reply<T>) -> C,
) -> Response {
    match parse(body) {
        Ok(query) => ask(commands, |reply| make(query, reply)).await,
        Err(error) => failure(&error),
    }
}

fn parse<Q: DeserializeOwned>(body: &Bytes) -> Result<Q, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::bad_request(format!("request body: {error}")))
}

/// Asks the loop; an error if it ends before it has answered.
pub(crate) async fn request<T, C: Into<Command>>(
    commands: &Loop,
    make: impl FnOnce(Reply<T>) -> C,
) -> Result<T, ApiError> {
    let (reply, answer) = oneshot::channel();
    let gone = || ApiError::internal("the daemon is stopping");
    commands.send(make(reply).into()).await.map_err(|_| gone())?;
    answer.await.map_err(|_| gone())?
}

fn failure(error: &ApiError) -> Response {
    let status = StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Json(Versioned::new(error))).into_response()
}

/// A line of JSON for each probe, as it comes.
async fn ping(State(commands): State<Loop>, body: Bytes) -> Response {
    let query: PingRequest = match parse(&body) {
        Ok(query) => query,
        Err(error) => return failure(&error),
    };
    // The first probe decides between an answer and an error; the rest stream.
    let first = match probe(&commands, &query, 1).await {
        Ok(line) => line,
        Err(error) => return failure(&error),
    };
    let stream = futures_util::stream::unfold(
        (commands, query, 1, Some(first)),
        |(commands, query, seq, ready)| async move {
            if let Some(line) = ready {
                return Some((Ok::<_, Infallible>(line), (commands, query, seq, None)));
            }
            if query.count != 0 && seq >= query.count {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(query.interval_ms)).await;
            let line = probe(&commands, &query, seq + 1).await.ok()?;
            Some((Ok(line), (commands, query, seq + 1, None)))
        },
    );
    ([(header::CONTENT_TYPE, "application/jsonl")], Body::from_stream(stream)).into_response()
}

async fn probe(commands: &Loop, query: &PingRequest, seq: u32) -> Result<String, ApiError> {
    let (target, timeout_ms, want_direct) = (query.target.clone(), query.timeout_ms, query.until_direct);
    let ping = |reply| NodeCommand::Ping { target, seq, timeout_ms, want_direct, reply };
    let answer = request(commands, ping).await?;
    let mut line =
        serde_json::to_string(&Versioned::new(answer)).map_err(|e| ApiError::internal(e.to_string()))?;
    line.push('\n');
    Ok(line)
}
