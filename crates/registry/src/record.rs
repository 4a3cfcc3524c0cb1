//! What survives a restart, in bytes: one record for each name, proof, port and number.
//!
//! A record is a version byte and fields of fixed length, little-endian; options begin with a byte 0 or 1. Keys of
//! records begin with a letter, so that others may keep theirs in the same table.

use std::collections::BTreeMap;

use sinew_types::{NetworkId, NodeId};

use crate::follow::Following;
use crate::ports::{PortHolding, Transport};
use crate::proof::{Finding, Proof, State};
use crate::registry::{Holding, Key, Registry, Seen, Transfer};
use crate::rules::Rules;

/// Written first into each record.
const VERSION: u8 = 1;

/// A record's key and value; no value: it is to be deleted.
pub type Entry = (Vec<u8>, Option<Vec<u8>>);

/// A record that is not understood: of a later version, or damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record of the gateway's register is damaged, or of a newer version")]
pub struct Damaged;

/// What a record is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RecordKey {
    Name(String),
    /// A name as a registrar told of it.
    Told(NodeId, String),
    /// When a registrar's list was heard.
    Heard(NodeId),
    Proof(String, NetworkId),
    Port(Transport, u16),
    Seen(Key),
}

impl RecordKey {
    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Name(label) => [b"n", label.as_bytes()].concat(),
            // Apart from the own names, and by registrar: a gateway that is told to follow another loses nothing.
            Self::Told(registrar, label) => {
                [b"f", registrar.as_bytes().as_slice(), label.as_bytes()].concat()
            }
            Self::Heard(registrar) => [b"h", registrar.as_bytes().as_slice()].concat(),
            Self::Proof(domain, network) => [b"p", network.as_bytes().as_slice(), domain.as_bytes()].concat(),
            Self::Port(Transport::Tcp, port) => [b"t", port.to_be_bytes().as_slice()].concat(),
            Self::Port(Transport::Udp, port) => [b"u", port.to_be_bytes().as_slice()].concat(),
            Self::Seen(key) => {
                let mut out = Out(vec![b's']);
                out.key(key);
                out.0
            }
        }
    }

    /// None for a key that is not one of ours.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, Damaged> {
        let Some((kind, rest)) = bytes.split_first() else { return Ok(None) };
        let mut input = In(rest);
        let key = match kind {
            b'n' => Self::Name(input.rest()?),
            b'f' => {
                let registrar = input.node()?;
                Self::Told(registrar, input.rest()?)
            }
            b'h' => Self::Heard(input.node()?),
            b'p' => {
                let network = input.network()?;
                Self::Proof(input.rest()?, network)
            }
            b't' => Self::Port(Transport::Tcp, u16::from_be_bytes(input.array()?)),
            b'u' => Self::Port(Transport::Udp, u16::from_be_bytes(input.array()?)),
            b's' => Self::Seen(input.key()?),
            _ => return Ok(None),
        };
        input.end().map(|()| Some(key))
    }
}

/// What registrars have told a gateway that follows nobody any more.
#[derive(Debug, Default)]
pub(crate) struct Former {
    pub(crate) told: Vec<(NodeId, String, Holding)>,
    /// When each was heard last.
    pub(crate) heard: Vec<(u64, NodeId)>,
}

impl Registry {
    /// What has changed since the last call, to be stored as a whole.
    pub fn drain_changes(&mut self) -> Vec<Entry> {
        let keys = std::mem::take(&mut self.changed);
        keys.iter().map(|key| (key.to_bytes(), self.value(key))).collect()
    }

    fn value(&self, key: &RecordKey) -> Option<Vec<u8>> {
        let mut out = Out(vec![VERSION]);
        match key {
            RecordKey::Name(label) => out.holding(self.names.get(label)?),
            RecordKey::Told(registrar, _) | RecordKey::Heard(registrar)
                if self.rules.registrar != Some(*registrar) =>
            {
                return None;
            }
            RecordKey::Told(_, label) => out.holding(self.names.get(label)?),
            RecordKey::Heard(_) => out.number(self.following.heard?),
            RecordKey::Proof(domain, network) => out.proof(self.proofs.get(domain)?.get(network)?),
            RecordKey::Port(transport, port) => out.port(self.ports.held.get(&(*transport, *port))?),
            RecordKey::Seen(key) => out.seen(self.seen.get(key)?),
        }
        Some(out.0)
    }

    /// Takes up what was stored. Keys that are not the register's are passed over. The number of records that
    /// were not understood comes with it; they are left as they are.
    pub fn restore<'a>(
        rules: Rules,
        entries: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> (Self, usize) {
        let mut registry = Self::new(rules);
        let mut former = Former::default();
        let taken = entries.into_iter().map(|(key, value)| registry.take(key, value, &mut former));
        let damaged = taken.filter(Result::is_err).count();
        registry.succeed(former);
        (registry, damaged)
    }

    fn take(&mut self, key: &[u8], value: &[u8], former: &mut Former) -> Result<(), Damaged> {
        let Some(key) = RecordKey::parse(key)? else { return Ok(()) };
        let mut input = In(value);
        if input.byte()? != VERSION {
            return Err(Damaged);
        }
        match key {
            // Those of the time before this gateway followed another are left alone.
            RecordKey::Name(label) => {
                let holding = input.holding()?;
                if self.rules.registrar.is_none() {
                    self.names.insert(label, holding);
                }
            }
            RecordKey::Told(registrar, label) => {
                let holding = input.holding()?;
                match self.rules.registrar {
                    Some(followed) if followed == registrar => _ = self.names.insert(label, holding),
                    Some(_) => {}
                    None => former.told.push((registrar, label, holding)),
                }
            }
            RecordKey::Heard(registrar) => {
                let heard = input.number()?;
                match self.rules.registrar {
                    Some(followed) if followed == registrar => {
                        self.following = Following { heard: Some(heard), noted: heard };
                    }
                    Some(_) => {}
                    None => former.heard.push((heard, registrar)),
                }
            }
            RecordKey::Proof(domain, network) => {
                let proofs: &mut BTreeMap<_, _> = self.proofs.entry(domain).or_default();
                proofs.insert(network, input.proof()?);
            }
            RecordKey::Port(transport, port) => {
                self.ports.held.insert((transport, port), input.port()?);
            }
            RecordKey::Seen(key) => _ = self.seen.insert(key, input.seen()?),
        }
        input.end()
    }
}

struct Out(Vec<u8>);

impl Out {
    fn number(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }

    fn key(&mut self, key: &Key) {
        self.0.extend(key.network.as_bytes());
        self.0.extend(key.author.as_bytes());
        self.0.extend(key.service);
    }

    fn option<T>(&mut self, value: Option<&T>, each: impl FnOnce(&mut Self, &T)) {
        self.0.push(u8::from(value.is_some()));
        if let Some(value) = value {
            each(self, value);
        }
    }

    fn holding(&mut self, holding: &Holding) {
        self.0.extend(holding.network.as_bytes());
        self.number(holding.since);
        self.number(holding.until);
        self.option(holding.recovery.as_ref(), |out, hash| out.0.extend(hash));
        self.option(holding.transfer.as_ref(), |out, transfer| {
            out.0.extend(transfer.to.as_bytes());
            out.number(transfer.at);
        });
    }

    fn proof(&mut self, proof: &Proof) {
        self.number(proof.since);
        self.number(proof.next);
        match proof.state {
            State::Waiting { tries, last } => {
                self.0.push(match last {
                    None => 0,
                    Some(Finding::Absent) => 1,
                    Some(Finding::Unknown) => 2,
                    Some(Finding::Present) => 3,
                });
                self.0.extend(tries.to_le_bytes());
            }
            State::Proved { since, seen, failures } => {
                self.0.push(8);
                self.number(since);
                self.number(seen);
                self.0.push(failures);
            }
        }
    }

    fn port(&mut self, holding: &PortHolding) {
        self.key(&holding.key);
        self.number(holding.since);
        self.number(holding.until);
    }

    fn seen(&mut self, seen: &Seen) {
        self.number(seen.seq);
        self.0.extend(seen.digest);
        self.0.push(u8::from(seen.removed));
        self.number(seen.since);
        self.number(seen.until);
    }
}

struct In<'a>(&'a [u8]);

impl In<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let (taken, rest) = self.0.split_at_checked(N).ok_or(Damaged)?;
        self.0 = rest;
        taken.try_into().map_err(|_| Damaged)
    }

    fn byte(&mut self) -> Result<u8, Damaged> {
        self.array().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Result<bool, Damaged> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Damaged),
        }
    }

    fn number(&mut self) -> Result<u64, Damaged> {
        self.array().map(u64::from_le_bytes)
    }

    fn network(&mut self) -> Result<NetworkId, Damaged> {
        NetworkId::parse(&self.array()?).map_err(|_| Damaged)
    }

    fn node(&mut self) -> Result<NodeId, Damaged> {
        NodeId::parse(&self.array()?).map_err(|_| Damaged)
    }

    fn key(&mut self) -> Result<Key, Damaged> {
        let (network, author) = (self.network()?, self.node()?);
        Ok(Key { network, author, service: self.array()? })
    }

    /// All that is left, as a name.
    fn rest(&mut self) -> Result<String, Damaged> {
        let text = std::str::from_utf8(std::mem::take(&mut self.0)).map_err(|_| Damaged)?;
        if text.is_empty() { Err(Damaged) } else { Ok(text.to_owned()) }
    }

    fn end(&self) -> Result<(), Damaged> {
        if self.0.is_empty() { Ok(()) } else { Err(Damaged) }
    }

    fn holding(&mut self) -> Result<Holding, Damaged> {
        let (network, since, until) = (self.network()?, self.number()?, self.number()?);
        let recovery = if self.flag()? { Some(self.array()?) } else { None };
        let transfer =
            if self.flag()? { Some(Transfer { to: self.network()?, at: self.number()? }) } else { None };
        Ok(Holding { network, since, until, recovery, transfer })
    }

    fn proof(&mut self) -> Result<Proof, Damaged> {
        let (since, next) = (self.number()?, self.number()?);
        let last = match self.byte()? {
            0 => None,
            1 => Some(Finding::Absent),
            2 => Some(Finding::Unknown),
            3 => Some(Finding::Present),
            8 => {
                let state =
                    State::Proved { since: self.number()?, seen: self.number()?, failures: self.byte()? };
                return Ok(Proof { since, state, next });
            }
            _ => return Err(Damaged),
        };
        let tries = u32::from_le_bytes(self.array()?);
        Ok(Proof { since, state: State::Waiting { tries, last }, next })
    }

    fn port(&mut self) -> Result<PortHolding, Damaged> {
        Ok(PortHolding { key: self.key()?, since: self.number()?, until: self.number()? })
    }

    fn seen(&mut self) -> Result<Seen, Damaged> {
        Ok(Seen {
            seq: self.number()?,
            digest: self.array()?,
            removed: self.flag()?,
            since: self.number()?,
            until: self.number()?,
        })
    }
}
