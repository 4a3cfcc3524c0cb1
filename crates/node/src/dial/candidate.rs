//! What is known of each way to a configured peer: when it was tried last, and what came of it.

use std::net::SocketAddr;
use std::time::Duration;

use sinew_types::{CarrierKind, Instant, NodeId, PeerUri};

use super::DialAction;

/// Most candidates of one peer that are remembered.
const MAX_CANDIDATES: usize = 32;
/// One that no name gives any more is forgotten after this.
const FORGET_AFTER: Duration = Duration::from_secs(600);
/// How long a connection may be in the making before it is tried again.
const CONNECT_PATIENCE: Duration = Duration::from_secs(15);

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Its turn has not come.
    Untried,
    /// Nothing yet.
    Pending,
    /// It is, or was, the link.
    Up,
    /// It answered when something better stood already.
    NotNeeded,
    /// It failed, for this reason.
    Failed(String),
}

/// One way to a peer, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CandidateStatus {
    /// Which carrier.
    pub carrier: Option<CarrierKind>,
    /// The name it comes from, with port.
    pub endpoint: String,
    /// What the name resolved to; `None` if it did not.
    pub remote: Option<SocketAddr>,
    /// Since the last try.
    pub tried: Option<Duration>,
    /// What came of it.
    pub answer: Answer,
}

#[derive(Debug)]
struct Candidate {
    carrier: Option<CarrierKind>,
    remote: Option<SocketAddr>,
    host: String,
    port: u16,
    /// What a WebSocket asks for.
    path: String,
    tried: Option<Instant>,
    answer: Answer,
}

#[derive(Debug, Default)]
pub(super) struct Candidates(Vec<Candidate>);

impl Candidates {
    /// Notes a candidate that will have its turn.
    pub(super) fn add(&mut self, carrier: CarrierKind, remote: SocketAddr, uri: &PeerUri) {
        let (host, port) = (uri.host.clone(), uri.port);
        // The name resolves again.
        self.0.retain(|known| known.remote.is_some() || (&known.host, known.port) != (&host, port));
        if self.find(carrier, remote).is_none() && self.0.len() < MAX_CANDIDATES {
            self.0.push(Candidate {
                carrier: Some(carrier),
                remote: Some(remote),
                host,
                port,
                path: uri.path().to_owned(),
                tried: None,
                answer: Answer::Untried,
            });
        }
    }

    /// Notes that a name has no address.
    pub(super) fn unresolved(&mut self, host: &str, port: u16, error: &str, now: Instant) {
        let answer = Answer::Failed(error.to_owned());
        let known =
            |known: &&mut Candidate| known.remote.is_none() && (&*known.host, known.port) == (host, port);
        if let Some(known) = self.0.iter_mut().find(known) {
            (known.tried, known.answer) = (Some(now), answer);
        } else if self.0.len() < MAX_CANDIDATES {
            let (host, path) = (host.to_owned(), String::new());
            self.0.push(Candidate {
                carrier: None,
                remote: None,
                host,
                port,
                path,
                tried: Some(now),
                answer,
            });
        }
    }

    fn find(&mut self, carrier: CarrierKind, remote: SocketAddr) -> Option<&mut Candidate> {
        self.0.iter_mut().find(|known| (known.carrier, known.remote) == (Some(carrier), Some(remote)))
    }

    /// What is to be done when a candidate's turn has come; nothing if it is being connected already.
    pub(super) fn launch(
        &mut self,
        peer: NodeId,
        carrier: CarrierKind,
        remote: SocketAddr,
        now: Instant,
    ) -> Option<DialAction> {
        let known = self.find(carrier, remote)?;
        let connecting = known.answer == Answer::Pending
            && carrier.has_connections()
            && known.tried.is_some_and(|tried| now.since(tried) < CONNECT_PATIENCE);
        if connecting {
            return None;
        }
        (known.tried, known.answer) = (Some(now), Answer::Pending);
        let (host, path) = (known.host.clone(), known.path.clone());
        Some(match carrier {
            CarrierKind::Udp => DialAction::OpenUdp { peer, remote },
            _ => DialAction::Connect { peer, carrier, remote, host, path },
        })
    }

    pub(super) fn answered(
        &mut self,
        carrier: CarrierKind,
        remote: SocketAddr,
        answer: Answer,
        now: Instant,
    ) {
        if let Some(known) = self.find(carrier, remote) {
            known.answer = answer;
            known.tried.get_or_insert(now);
        }
    }

    /// The round is over: what has said nothing has not answered. Connections have a time of their own.
    pub(super) fn silence(&mut self) {
        for known in &mut self.0 {
            let connecting = known.carrier.is_some_and(CarrierKind::has_connections);
            if known.answer == Answer::Pending && !connecting {
                known.answer = Answer::Failed("no answer".to_owned());
            }
        }
    }

    /// Forgets what has not been tried for long.
    pub(super) fn tidy(&mut self, now: Instant) {
        let lately = |tried: Option<Instant>| tried.is_some_and(|tried| now.since(tried) < FORGET_AFTER);
        self.0.retain(|known| lately(known.tried) || known.answer == Answer::Up);
    }

    pub(super) fn status(&self, now: Instant) -> Vec<CandidateStatus> {
        let status = |known: &Candidate| CandidateStatus {
            carrier: known.carrier,
            endpoint: if known.host.contains(':') {
                format!("[{}]:{}", known.host, known.port)
            } else {
                format!("{}:{}", known.host, known.port)
            },
            remote: known.remote,
            tried: known.tried.map(|tried| now.since(tried)),
            answer: known.answer.clone(),
        };
        let mut all: Vec<_> = self.0.iter().map(status).collect();
        all.sort_by_key(|known| (known.carrier.map(CarrierKind::rank), known.remote));
        all
    }
}
