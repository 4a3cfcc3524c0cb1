//! `expose`: what this node publishes, from the operator's word to the gateway's answer.
//!
//! The documents' machine signs and renews. Here its outcome is given to those who act on it: the service
//! port (which streams are granted), the inbound filter (who may come there at all) and the courier (which
//! gateway has to know what). All three are made anew from the documents whenever something changes, so
//! none of them has a state that could be out of date for longer than one turn of the loop.

mod show;
mod spec;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use sinew_control::ApiError;
use sinew_control::api::{self, Answer, AnswerState, Expose, Exposed, PublicationState, Unexpose, Unexposed};
use sinew_helper::Id;
use sinew_node::overlay::ExposureStatus;
use sinew_node::{Node, Ports, Rule, Service};
use sinew_types::{Instant, NetworkId, NodeId};
use sinew_wire::ingress::PORT;
use tokio::time::timeout;
use tracing::info;

use crate::command::{PublicationCommand, Reply};
use crate::ingress::{self, Ingress, Letter, LetterKey};
use crate::networks::{self, change};

/// Longest time that a caller may have us wait for a gateway.
const WAIT_MAX_MS: u64 = 60_000;
/// What a gateway says of a host that will be served as soon as it has a certificate.
const CERTIFICATE: &str = "certificate_missing";

/// What the loop has of publishing.
pub(crate) struct Publications {
    ingress: Ingress,
    /// This node takes documents in, so everybody may come.
    gateway: bool,
}

impl Publications {
    pub(crate) fn new(ingress: Ingress, gateway: bool) -> Self {
        Self { ingress, gateway }
    }

    /// Brings service port, filter and courier in line with the documents. `place` says in which namespace
    /// the workload with an address runs.
    pub(crate) fn refresh(&self, node: &mut Node, place: impl Fn(&NetworkId, IpAddr) -> Option<Id>) {
        let table = ingress::table(node.overlay(), |one, address| place(&one.network, address));
        let open = |from| Rule::new(Service::Tcp(Ports { first: PORT, last: PORT }), from);
        let mut rules: Vec<Rule> = table.gateways().iter().map(|gateway| open(Some(*gateway))).collect();
        if self.gateway {
            rules = vec![open(None)];
        }
        // The filter first where it narrows, the table first where it grants: both are in force before
        // the loop hands in the next packet.
        node.set_services(rules);
        self.ingress.set_table(table);
        self.ingress.courier.set(letters(node));
    }

    /// Carries out one request; `via` is the gateway that the request means.
    pub(crate) fn handle(
        &self,
        node: &mut Node,
        command: PublicationCommand,
        via: Option<Result<NodeId, ApiError>>,
        now: Instant,
    ) {
        match command {
            PublicationCommand::List(reply) => drop(reply.send(Ok(self.list(node)))),
            PublicationCommand::Expose(expose, reply) => {
                let via = via.unwrap_or_else(|| Err(ApiError::bad_request("`via` names no node")));
                match via.and_then(|gateway| self.expose(node, &expose, gateway, now)) {
                    Ok((exposed, key)) => self.answer_later(exposed, key, expose.wait_ms, reply),
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            PublicationCommand::Unexpose(unexpose, reply) => match self.unexpose(node, &unexpose, now) {
                Ok((gone, key)) => self.confirm_later(gone, key, unexpose.wait_ms, reply),
                Err(error) => drop(reply.send(Err(error))),
            },
        }
    }

    fn expose(
        &self,
        node: &mut Node,
        expose: &Expose,
        gateway: NodeId,
        now: Instant,
    ) -> Result<(Exposed, Option<LetterKey>), ApiError> {
        let network = match &expose.network {
            Some(network) => networks::find(node, network)?,
            None => spec::network(node, expose)?,
        };
        let spec = spec::of(node, &network, expose, gateway)?;
        let before = exposures(node, &network)?.into_iter().find(|old| old.spec.name == spec.name);
        let differences = spec::differences(before.as_ref().map(|old| &old.spec), &spec);
        let different =
            before.as_ref().is_none_or(|old| old.publication.is_none()) || !differences.is_empty();
        let name = match (&before, different) {
            (None, _) => "created",
            (Some(_), true) => "changed",
            (Some(_), false) => "unchanged",
        };
        if expose.dry_run {
            let publication = show::planned(node, &network, &spec);
            let exposed = Exposed { change: name.to_owned(), differences, publication };
            return Ok((exposed, None));
        }
        let wanted = spec.name.clone();
        let (_, changed) = change(node, now, |overlay| overlay.expose(network, spec, now))?;
        let status = exposures(node, &network)?.into_iter().find(|one| one.spec.name == wanted);
        let status = status.ok_or_else(|| ApiError::internal("it was published and is not there"))?;
        if changed {
            info!(service = %wanted, gateway = %status.spec.gateway, "published");
        }
        let key = key(&network, &status);
        let publication = show::publication(node, &network, &status, &self.ingress);
        Ok((Exposed { change: name.to_owned(), differences, publication }, Some(key)))
    }

    /// Answers when the gateway has, or the caller has waited long enough.
    fn answer_later(&self, exposed: Exposed, key: Option<LetterKey>, wait_ms: u64, reply: Reply<Exposed>) {
        let seq = exposed.publication.seq;
        let Some(key) = key.filter(|_| wait_ms > 0) else { return drop(reply.send(Ok(exposed))) };
        let mut deliveries = self.ingress.courier.deliveries();
        self.ingress.handle().spawn(async move {
            let mut exposed = exposed;
            // A certificate that is being ordered comes in a moment.
            let settled = |answer: &Answer| answer.code != CERTIFICATE;
            let come = |told: &BTreeMap<_, _>| {
                let delivery: Option<&ingress::Delivery> = told.get(&key);
                delivery.is_some_and(|told| {
                    let answer = told.answer.as_ref();
                    told.seq == seq
                        && told.error.is_none()
                        && answer.is_some_and(|(answer, _)| settled(answer))
                })
            };
            let patience = Duration::from_millis(wait_ms.min(WAIT_MAX_MS));
            // Whether it came or not: what there is, is told.
            let _ = timeout(patience, deliveries.wait_for(come)).await;
            let delivery = deliveries.borrow().get(&key).cloned();
            show::fill(&mut exposed.publication, delivery.as_ref());
            drop(reply.send(Ok(exposed)));
        });
    }

    fn unexpose(
        &self,
        node: &mut Node,
        unexpose: &Unexpose,
        now: Instant,
    ) -> Result<(Unexposed, LetterKey), ApiError> {
        let (network, status) = find(node, unexpose)?;
        let name = status.spec.name.clone();
        change(node, now, |overlay| overlay.unexpose(network, &name, now))?;
        info!(service = %name, "taken back");
        let called = node.overlay().name(&network).map(|name| name.to_string()).unwrap_or_default();
        let id = show::hex(&status.service);
        let gone = Unexposed { id, name: name.to_string(), network: called, confirmed: false };
        Ok((gone, key(&network, &status)))
    }

    fn confirm_later(&self, gone: Unexposed, key: LetterKey, wait_ms: u64, reply: Reply<Unexposed>) {
        let mut deliveries = self.ingress.courier.deliveries();
        self.ingress.handle().spawn(async move {
            let mut gone = gone;
            let come = |told: &BTreeMap<_, ingress::Delivery>| {
                let answer = told.get(&key).and_then(|told| told.answer.as_ref());
                answer.is_some_and(|(answer, _)| answer.state == AnswerState::Withdrawn)
            };
            let patience = Duration::from_millis(wait_ms.min(WAIT_MAX_MS));
            gone.confirmed = matches!(timeout(patience, deliveries.wait_for(come)).await, Ok(Ok(_)));
            drop(reply.send(Ok(gone)));
        });
    }

    fn list(&self, node: &Node) -> api::Publications {
        let mut services = Vec::new();
        for network in networks::ids_of(node) {
            for status in exposures(node, &network).unwrap_or_default() {
                services.push(show::publication(node, &network, &status, &self.ingress));
            }
        }
        services.sort_by(|a, b| (&a.network, &a.name).cmp(&(&b.network, &b.name)));
        api::Publications { services, requests: self.ingress.counters().outcomes() }
    }
}

fn exposures(node: &Node, network: &NetworkId) -> Result<Vec<ExposureStatus>, ApiError> {
    node.overlay().exposures(network).map_err(|refusal| networks::refused(&refusal))
}

fn key(network: &NetworkId, status: &ExposureStatus) -> LetterKey {
    LetterKey { network: *network, service: Some(status.service), gateway: status.spec.gateway }
}

/// What gateways have to know from this node.
fn letters(node: &Node) -> BTreeMap<LetterKey, Letter> {
    let (overlay, mut letters) = (node.overlay(), BTreeMap::new());
    for network in networks::ids_of(node) {
        for one in overlay.published(&network).unwrap_or_default() {
            let service = Some(one.service);
            let key = LetterKey { network, service, gateway: one.gateway };
            let documents = overlay.proof(&network, &one.author, one.service).unwrap_or_default();
            letters.insert(key, Letter { documents, seq: one.seq, once: one.removed });
        }
        for (gateway, documents) in overlay.notices(&network).unwrap_or_default() {
            let key = LetterKey { network, service: None, gateway };
            letters.insert(key, Letter { documents, seq: 0, once: true });
        }
    }
    letters
}

/// The one service that a name, a host or an id means.
fn find(node: &Node, unexpose: &Unexpose) -> Result<(NetworkId, ExposureStatus), ApiError> {
    let all = match &unexpose.network {
        Some(network) => vec![networks::find(node, network)?],
        None => networks::ids_of(node),
    };
    let text = unexpose.service.as_str();
    let mut fits = Vec::new();
    for network in all {
        for status in exposures(node, &network)? {
            let by_host = status.spec.hosts.iter().any(|host| host == text);
            if status.spec.name.as_str() == text || by_host || show::hex(&status.service) == text {
                fits.push((network, status));
            }
        }
    }
    match (fits.pop(), fits.len()) {
        (Some(one), 0) => Ok(one),
        (Some(_), _) => {
            let message = format!("`{text}` fits several services");
            Err(ApiError::invalid(message, "say which: its network (--network), or its id"))
        }
        (None, _) => Err(ApiError::new(
            "unknown_service",
            sinew_control::Exit::Unknown,
            format!("this node publishes no service `{text}`"),
            "`sinew expose ls` lists them",
        )),
    }
}

/// The state that a delivery amounts to.
fn state_of(answer: AnswerState) -> PublicationState {
    match answer {
        AnswerState::Live => PublicationState::Live,
        AnswerState::Pending => PublicationState::Pending,
        AnswerState::Refused => PublicationState::Refused,
        AnswerState::Withdrawn => PublicationState::Withdrawn,
    }
}
