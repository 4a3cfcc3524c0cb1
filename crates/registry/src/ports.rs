//! Ports of the gateway's ranges: one for each service over TCP or UDP, which it keeps as long as a name.
//!
//! Where a service looks first follows from its key, so that a gateway that has lost its state hands out the same
//! ports again, mostly.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use crate::claim::Offer;
use crate::refusal::Refusal;
use crate::registry::Key;
use crate::rules::{HOLD, PortRange, Rules};

/// What a port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Who has a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortHolding {
    /// The service.
    pub key: Key,
    /// Since when.
    pub since: u64,
    /// Until when, if it is not claimed again.
    pub until: u64,
}

/// All ports that somebody has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) held: BTreeMap<(Transport, u16), PortHolding>,
    /// Of other programs on this machine, as far as was found out.
    unusable: BTreeSet<(Transport, u16)>,
}

impl Ports {
    pub(crate) fn of(&self, transport: Transport, key: &Key) -> Option<u16> {
        let own = |((kind, _), holding): &(&(Transport, u16), &PortHolding)| {
            *kind == transport && holding.key == *key
        };
        self.held.iter().find(own).map(|((_, port), _)| *port)
    }

    /// A port until the claim runs out and for a hold more; the one that the service has, if it has one.
    pub(crate) fn claim(
        &mut self,
        rules: &Rules,
        transport: Transport,
        offer: &Offer,
        now: u64,
    ) -> Result<u16, Refusal> {
        let range = match transport {
            Transport::Tcp => rules.tcp,
            Transport::Udp => rules.udp,
        };
        let none = |configured| Refusal::NoPort { transport: transport.as_str(), configured };
        let range = range.ok_or_else(|| none(false))?;
        let (key, until) = (&offer.key, offer.expires + HOLD);
        let had = self.of(transport, key);
        let fits = |port: &u16| range.contains(*port) && !self.unusable.contains(&(transport, *port));
        if let Some(port) = had.filter(|port| fits(port) && offer.wish.is_none_or(|wish| wish == *port)) {
            let holding = self.held.get_mut(&(transport, port));
            holding.into_iter().for_each(|holding| holding.until = holding.until.max(until));
            return Ok(port);
        }
        let of_network = self.held.values().filter(|holding| holding.key.network == key.network).count();
        if of_network - usize::from(had.is_some()) >= rules.per_network as usize {
            return Err(Refusal::Quota { what: "ports", limit: rules.per_network });
        }
        let port = match offer.wish {
            Some(wish) if !fits(&wish) => return Err(Refusal::OutOfRange { port: wish, range }),
            Some(wish) => self.wished(transport, wish, key, now)?,
            None => self.free(transport, range, key, now).ok_or_else(|| none(true))?,
        };
        if let Some(had) = had {
            self.held.remove(&(transport, had));
        }
        self.held.insert((transport, port), PortHolding { key: key.clone(), since: now, until });
        Ok(port)
    }

    /// A certain port: nobody's, or one that an ended service of the same network left.
    fn wished(&self, transport: Transport, port: u16, key: &Key, now: u64) -> Result<u16, Refusal> {
        let Some(holding) = self.held.get(&(transport, port)) else { return Ok(port) };
        let idle = is_idle(holding, now);
        if idle && holding.key.network == key.network {
            return Ok(port);
        }
        Err(Refusal::Taken {
            host: format!("{} port {port}", transport.as_str()),
            holder: holding.key.network,
            since: holding.since,
            until: Some(holding.until).filter(|_| idle),
        })
    }

    /// One that nobody has; when all are held, the one whose service was gone first.
    fn free(&self, transport: Transport, range: PortRange, key: &Key, now: u64) -> Option<u16> {
        let usable = |port: &u16| !self.unusable.contains(&(transport, *port));
        let start = start(key);
        let ports = (0..range.count()).map(|step| range.at((start % range.count()) + step));
        let free = ports.filter(usable).find(|port| !self.held.contains_key(&(transport, *port)));
        free.or_else(|| {
            let idle = self.held.iter().filter(|((kind, port), holding)| {
                *kind == transport && range.contains(*port) && usable(port) && is_idle(holding, now)
            });
            idle.min_by_key(|(_, holding)| holding.until).map(|((_, port), _)| *port)
        })
    }

    /// Another program of this machine has the port.
    pub(crate) fn set_unusable(&mut self, transport: Transport, port: u16) {
        self.unusable.insert((transport, port));
    }

    /// Its service has ended; the ports that it had.
    pub(crate) fn release(&mut self, key: &Key, now: u64) -> Vec<(Transport, u16)> {
        let own = self.held.iter_mut().filter(|(_, holding)| holding.key == *key);
        own.map(|(place, holding)| {
            holding.until = holding.until.min((now + HOLD).saturating_sub(1));
            *place
        })
        .collect()
    }
}

/// Whether its service has ended: one that runs is held for longer than the hold.
const fn is_idle(holding: &PortHolding, now: u64) -> bool {
    holding.until <= now + HOLD
}

/// Where a service begins to look.
fn start(key: &Key) -> u32 {
    let hash: [u8; 32] = Sha256::new()
        .chain_update(b"sinew/port/v1\0")
        .chain_update(key.network.as_bytes())
        .chain_update(key.service)
        .finalize()
        .into();
    u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]])
}
