//! What a node decides once about its sessions.

use std::sync::Arc;

use sinew_noise::CipherSet;
use sinew_types::{Class, Identity};

/// Who may open a session with us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Accept {
    /// Anybody who knows our NodeId (and the mesh secret, if there is one).
    #[default]
    Any,
    /// Only nodes given by [`Sessions::set_listed`](crate::Sessions::set_listed).
    Listed,
}

/// Configuration of [`Sessions`](crate::Sessions).
#[derive(Clone)]
pub struct Config {
    /// Who we are.
    pub identity: Arc<Identity>,
    /// Mesh secrets, the preferred one first; at most two are looked at (rotation), none = zeros.
    pub secrets: Vec<[u8; 32]>,
    /// Who may open a session with us.
    pub accept: Accept,
    /// Ciphers we can use.
    pub ciphers: CipherSet,
    /// What we tell peers about ourselves.
    pub class: Class,
    /// Largest record payload we take, bytes.
    pub rx_max: u16,
    /// Whether direct peers that want it become neighbours.
    pub adjacency: bool,
    /// Sessions of unlisted identities per source (/32, /64 or ingress); ids are free, so without a
    /// limit one host could fill the table (protocol A2).
    pub unlisted_per_source: u32,
}

impl Config {
    /// The defaults for `identity`.
    pub fn new(identity: Arc<Identity>) -> Self {
        Self {
            identity,
            secrets: Vec::new(),
            accept: Accept::Any,
            ciphers: CipherSet::local(),
            class: Class::Router,
            rx_max: u16::MAX,
            adjacency: true,
            unlisted_per_source: 256,
        }
    }
}

impl core::fmt::Debug for Config {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Config")
            .field("identity", &self.identity)
            .field("secrets", &self.secrets.len())
            .field("accept", &self.accept)
            .finish_non_exhaustive()
    }
}
