//! The resources of private networks, workloads and names: each path with its command.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sinew_control::api::DnsRecordsQuery;
use sinew_control::paths;

use super::{Loop, act, ask};
use crate::command::{Command, DnsCommand, NetworkCommand as N, Reply, WorkloadCommand as W};

/// All of them.
pub(super) fn router() -> Router<Loop> {
    Router::new()
        .route(paths::NETWORKS, reads(|reply| Command::Network(N::List(reply))))
        .route(paths::NETWORKS_CREATE, acts(|q, reply| Command::Network(N::Create(q, reply))))
        .route(paths::NETWORKS_SHOW, acts(|q, reply| Command::Network(N::Show(q, reply))))
        .route(paths::NETWORKS_INVITE, acts(|q, reply| Command::Network(N::Invite(q, reply))))
        .route(paths::NETWORKS_JOIN, acts(|q, reply| Command::Network(N::Join(q, reply))))
        .route(paths::NETWORKS_REQUESTS, acts(|q, reply| Command::Network(N::Requests(q, reply))))
        .route(paths::NETWORKS_APPROVE, acts(|q, reply| Command::Network(N::Approve(q, reply))))
        .route(paths::NETWORKS_REVOKE, acts(|q, reply| Command::Network(N::Revoke(q, reply))))
        .route(paths::NETWORKS_LEAVE, acts(|q, reply| Command::Network(N::Leave(q, reply))))
        .route(paths::NETWORKS_POLICY, acts(|q, reply| Command::Network(N::Policy(q, reply))))
        .route(paths::NETWORKS_POLICY_SET, acts(|q, reply| Command::Network(N::PolicySet(q, reply))))
        .route(paths::NETWORKS_POLICY_TRACE, acts(|q, reply| Command::Network(N::PolicyTrace(q, reply))))
        .route(paths::NETWORKS_DOCUMENTS, acts(|q, reply| Command::Network(N::Documents(q, reply))))
        .route(paths::NETWORKS_DOCUMENTS_IMPORT, acts(|q, reply| Command::Network(N::Import(q, reply))))
        .route(paths::WORKLOADS, reads(|reply| Command::Workload(W::List(reply))))
        .route(paths::WORKLOADS_DETACH, acts(|q, reply| Command::Workload(W::Detach(q, reply))))
        .route(paths::WORKLOADS_LEASE, acts(|q, reply| Command::Workload(W::Lease(q, reply))))
        .route(paths::DNS_QUERY, acts(|q, reply| Command::Dns(DnsCommand::Query(q, reply))))
        .route(paths::DNS_RECORDS, get(records))
        .route(paths::DNS_STATUS, reads(|reply| Command::Dns(DnsCommand::Status(reply))))
}

/// A resource that is only read.
fn reads<T: Serialize + Send + 'static>(make: fn(Reply<T>) -> Command) -> MethodRouter<Loop> {
    get(move |State(l): State<Loop>| async move { ask(&l, make).await })
}

/// A resource that takes a body.
fn acts<Q, T>(make: fn(Q, Reply<T>) -> Command) -> MethodRouter<Loop>
where
    Q: DeserializeOwned + Send + 'static,
    T: Serialize + Send + 'static,
{
    post(move |State(l): State<Loop>, body: Bytes| async move { act(&l, &body, make).await })
}

async fn records(State(l): State<Loop>, Query(query): Query<DnsRecordsQuery>) -> Response {
    ask(&l, |reply| Command::Dns(DnsCommand::Records(query, reply))).await
}
