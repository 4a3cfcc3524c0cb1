//! The resources of private networks, workloads and names: each path with its command.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sinew_control::api::DnsRecordsQuery;
use sinew_control::paths;

use super::{DOCUMENTS_MAX, Loop, act, ask};
use crate::command::{
    Command, DnsCommand, GatewayCommand as G, NetworkCommand as N, PublicationCommand as P, Reply,
    WorkloadCommand as W,
};

/// All of them.
pub(super) fn router() -> Router<Loop> {
    Router::new()
        .route(paths::NETWORKS, reads(N::List))
        .route(paths::NETWORKS_CREATE, acts(N::Create))
        .route(paths::NETWORKS_SHOW, acts(N::Show))
        .route(paths::NETWORKS_INVITE, acts(N::Invite))
        .route(paths::NETWORKS_JOIN, acts(N::Join))
        .route(paths::NETWORKS_REQUESTS, acts(N::Requests))
        .route(paths::NETWORKS_APPROVE, acts(N::Approve))
        .route(paths::NETWORKS_REVOKE, acts(N::Revoke))
        .route(paths::NETWORKS_LEAVE, acts(N::Leave))
        .route(paths::NETWORKS_POLICY, acts(N::Policy))
        .route(paths::NETWORKS_POLICY_SET, acts(N::PolicySet))
        .route(paths::NETWORKS_POLICY_TRACE, acts(N::PolicyTrace))
        .route(paths::NETWORKS_DOCUMENTS, acts(N::Documents))
        .route(paths::NETWORKS_DOCUMENTS_IMPORT, acts(N::Import).layer(DefaultBodyLimit::max(DOCUMENTS_MAX)))
        .route(paths::WORKLOADS, reads(W::List))
        .route(paths::WORKLOADS_DETACH, acts(W::Detach))
        .route(paths::WORKLOADS_LEASE_TERMS, acts(W::Terms))
        .route(paths::WORKLOADS_LEASE, acts(W::Lease))
        .route(paths::PUBLICATIONS, reads(P::List))
        .route(paths::PUBLICATIONS_EXPOSE, acts(|expose, reply| P::Expose(Box::new(expose), reply)))
        .route(paths::PUBLICATIONS_UNEXPOSE, acts(P::Unexpose))
        .route(paths::DNS_QUERY, acts(DnsCommand::Query))
        .route(paths::DNS_RECORDS, get(records))
        .route(paths::DNS_STATUS, reads(DnsCommand::Status))
        .route(paths::GATEWAY, reads(G::List))
        .route(paths::GATEWAY_PROBE, acts(G::Probe))
        .route(paths::GATEWAY_LOG, acts(G::Log))
        .route(paths::GATEWAY_DRAIN, acts(G::Drain))
        .route(paths::GATEWAY_CERTIFICATES, reads(G::Certificates))
        .route(paths::GATEWAY_NAMES, reads(G::Names))
        .route(paths::GATEWAY_TRANSFER, acts(G::Transfer))
}

/// A resource that is only read.
fn reads<T, C>(make: fn(Reply<T>) -> C) -> MethodRouter<Loop>
where
    T: Serialize + Send + 'static,
    C: Into<Command> + 'static,
{
    get(move |State(l): State<Loop>| async move { ask(&l, make).await })
}

/// A resource that takes a body.
fn acts<Q, T, C>(make: fn(Q, Reply<T>) -> C) -> MethodRouter<Loop>
where
    C: Into<Command> + 'static,
    Q: DeserializeOwned + Send + 'static,
    T: Serialize + Send + 'static,
{
    post(move |State(l): State<Loop>, body: Bytes| async move { act(&l, &body, make).await })
}

async fn records(State(l): State<Loop>, Query(query): Query<DnsRecordsQuery>) -> Response {
    ask(&l, |reply| DnsCommand::Records(query, reply)).await
}
