//! Leases of a workload with a key of its own (protocol A7.9).
//!
//! The key stays here; the host gets documents that say "I am with you, for ten minutes" and
//! nothing that would let it say so itself. Each lease begins with the host's consent.

use std::path::Path;
use std::time::Duration;

use sinew_control::api::{Hex, LeaseQuery, LeaseRenewal, LeaseTerms, Leased};
use sinew_control::{ApiError, Exit, paths};
use sinew_overlay::{LEASE_MAX, Lease};
use sinew_platform::keyfile;
use sinew_types::{Identity, NetworkId, NodeId};

use crate::client::{Client, PATIENCE};

/// Signs leases for one workload.
pub(super) struct Leases {
    identity: Identity,
    networks: Vec<String>,
}

impl Leases {
    /// A third of a lease: two renewals may fail before it ends.
    pub(super) const INTERVAL: Duration = Duration::from_secs(200);

    pub(super) fn new(file: &Path, networks: Vec<String>) -> Result<Self, ApiError> {
        let seed = keyfile::load(file).map_err(|error| ApiError::invalid(error.to_string(), ""))?;
        Ok(Self { identity: Identity::from_seed(*seed), networks })
    }

    /// The workload's public key.
    pub(super) fn key(&self) -> String {
        self.identity.node_id().to_string()
    }

    /// A lease for each network, with this host.
    pub(super) async fn sign(&self, client: &Client) -> Result<Vec<Hex>, ApiError> {
        let mut leases = Vec::with_capacity(self.networks.len());
        for network in &self.networks {
            let query = LeaseQuery { network: network.clone(), key: self.key() };
            let terms: LeaseTerms = client.post(paths::WORKLOADS_LEASE_TERMS, &query, PATIENCE).await?;
            leases.push(attach(&self.identity, &terms)?);
        }
        Ok(leases)
    }

    /// Makes and hands in new leases.
    pub(super) async fn renew(&self, client: &Client, id: &str) -> Result<(), ApiError> {
        let leases = self.sign(client).await?;
        let renewal = LeaseRenewal { workload: id.to_owned(), leases };
        client.post::<Leased>(paths::WORKLOADS_LEASE, &renewal, PATIENCE).await.map(drop)
    }
}

/// The ATTACH that the terms amount to. What is signed is what the terms say and no longer than
/// leases last, whatever the daemon would like.
fn attach(identity: &Identity, terms: &LeaseTerms) -> Result<Hex, ApiError> {
    let wrong = |what: &str| {
        ApiError::new("bad_lease", Exit::Denied, format!("these terms are not signed: {what}"), "")
    };
    if terms.key != identity.node_id().to_string() {
        return Err(wrong("they are for another key"));
    }
    if terms.expires.saturating_sub(terms.issued) > LEASE_MAX {
        return Err(wrong("they last too long"));
    }
    let network: NetworkId = terms.network.parse().map_err(|_| wrong("no network"))?;
    let host: NodeId = terms.host.parse().map_err(|_| wrong("no host"))?;
    let consent = terms.consent.0.as_slice().try_into().map_err(|_| wrong("no consent"))?;
    let lease = Lease {
        network: *network.as_bytes(),
        workload: *identity.node_id().as_bytes(),
        host: *host.as_bytes(),
        generation: terms.generation,
        seq: terms.seq,
        issued: terms.issued,
        expires: terms.expires,
    };
    Ok(Hex(lease.attach(network, identity, consent).bytes.to_vec()))
}
