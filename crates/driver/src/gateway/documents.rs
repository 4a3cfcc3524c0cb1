//! What publishers brought, judged and kept: so that a restart needs nobody to bring it again.
//!
//! Of a network that has nothing here, nothing is kept either. All together is bounded, since keys, and with them
//! networks, cost nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use sinew_node::overlay::{ClaimError, Claimed, Claims};
use sinew_store::{Batch, Entry, Table};
use sinew_types::NetworkId;

/// First byte of a record's key: beside those of the register.
const KEY: u8 = b'd';
/// Bytes of all networks.
const BYTES_MAX: usize = 64 << 20;

/// Documents by network.
#[derive(Default)]
pub(super) struct Documents {
    claims: Claims,
    stored: BTreeMap<NetworkId, Vec<Arc<[u8]>>>,
    bytes: usize,
}

/// Why documents were not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error("this gateway has no room for more networks")]
    Full,
}

impl Documents {
    /// Takes up what an earlier run kept; gives the networks.
    pub(super) fn restore(entries: &[Entry], unix: u64) -> (Self, Vec<NetworkId>) {
        let mut by_network: BTreeMap<&[u8], Vec<Vec<u8>>> = BTreeMap::new();
        for (key, value) in entries {
            if let Some(network) = key.strip_prefix(&[KEY]).and_then(|rest| rest.get(..32)) {
                by_network.entry(network).or_default().push(value.clone());
            }
        }
        let mut documents = Self::default();
        let taken = by_network.into_values().map(|list| documents.take(&list, unix));
        let networks = taken.filter_map(|result| Some(result.ok()?.0)).collect();
        (documents, networks)
    }

    /// Takes documents of one network, and says what it has now.
    pub(super) fn take(&mut self, documents: &[Vec<u8>], unix: u64) -> Result<(NetworkId, Claimed), Refused> {
        if self.bytes > BYTES_MAX {
            return Err(Refused::Full);
        }
        Ok(self.claims.take(documents, unix)?)
    }

    /// What a network has now; time alone changes it.
    pub(super) fn claimed(&self, network: &NetworkId, unix: u64) -> Claimed {
        self.claims.claimed(network, unix)
    }

    /// The networks that are known.
    pub(super) fn networks(&self) -> Vec<NetworkId> {
        self.claims.networks().copied().collect()
    }

    /// Notes in `batch` what has to be stored anew of a network; all of it goes if it is not `wanted` any more.
    pub(super) fn store(&mut self, network: &NetworkId, wanted: bool, batch: &mut Batch) {
        if !wanted {
            self.claims.forget(network);
        }
        let now = self.claims.documents(network);
        let before = self.stored.get(network).map(Vec::as_slice).unwrap_or_default();
        if now == before {
            return;
        }
        let size = |list: &[Arc<[u8]>]| list.iter().map(|document| document.len()).sum::<usize>();
        self.bytes = self.bytes - size(before) + size(&now);
        let prefix = [&[KEY][..], network.as_bytes()].concat();
        batch.delete_prefix(Table::Gateway, &prefix);
        for (document, at) in now.iter().zip(0u32..) {
            let key = [prefix.as_slice(), &at.to_be_bytes()].concat();
            if let Err(error) = batch.put(Table::Gateway, &key, document) {
                tracing::warn!(%error, "a publisher's document is not stored");
            }
        }
        if now.is_empty() {
            self.stored.remove(network);
        } else {
            self.stored.insert(*network, now);
        }
    }
}
