//! Answers about `_acme-challenge.HOST` and nothing else: a name server just large enough for DNS-01.
//!
//! The owner of a domain delegates one name to the gateway (`_acme-challenge.example.org NS ns.gw.…`), or
//! points it elsewhere with a CNAME. What is not below a name that we were told of is refused; what is, is a
//! zone with a SOA, an NS and perhaps some TXT records, so that resolvers that walk down label by label
//! find their way. An answer is never larger than `UDP_MAX` bytes over UDP, whatever is asked.

mod answer;
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use hickory_proto::rr::Name;
use tokio::runtime::Handle;

/// Values of one name; a wildcard and its base share one, and orders overlap at times.
const VALUES_MAX: usize = 16;

/// How many questions there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextCounts {
    /// Answered with records.
    pub answered: u64,
    /// Answered with "there is none".
    pub empty: u64,
    /// Not about a name of ours, or not a question that is answered.
    pub refused: u64,
}

#[derive(Debug, Default)]
struct Counters {
    answered: AtomicU64,
    empty: AtomicU64,
    refused: AtomicU64,
}

#[derive(Clone, Debug, Default)]
struct Table {
    /// Names that exist, in lower case, with their texts.
    zones: BTreeMap<String, BTreeSet<String>>,
    /// Those among them that exist without a text, too.
    standing: BTreeSet<String>,
}

/// The texts that are shown at the moment.
#[derive(Debug)]
pub struct Texts {
    table: ArcSwap<Table>,
    /// What is given as name server of each zone.
    server: Name,
    counters: Counters,
}

impl Texts {
    /// An empty table; `server` is the name under which this name server is delegated to.
    pub fn new(server: &str) -> Arc<Self> {
        // A name that is none leaves the root, which is lawful and says nothing.
        let server = Name::from_ascii(server).unwrap_or_else(|_| Name::root()).to_lowercase();
        Arc::new(Self { table: ArcSwap::default(), server, counters: Counters::default() })
    }

    /// Is the name server of `_acme-challenge.HOST` for these hosts (`*.` is left out), also while nothing
    /// is shown: resolvers remember for a while that a name does not exist.
    pub fn set_hosts(&self, hosts: &[impl AsRef<str>]) {
        let name = |host: &str| format!("_acme-challenge.{}", host.strip_prefix("*.").unwrap_or(host));
        let standing: BTreeSet<_> =
            hosts.iter().map(|host| name(&host.as_ref().to_ascii_lowercase())).collect();
        self.table.rcu(|table| {
            let mut zones = table.zones.clone();
            zones.retain(|name, values| standing.contains(name) || !values.is_empty());
            for name in &standing {
                zones.entry(name.clone()).or_default();
            }
            Table { zones, standing: standing.clone() }
        });
    }

    /// `name` has the text `value` from now on, beside others.
    pub fn set(&self, name: &str, value: &str) {
        self.table.rcu(|table| {
            let mut table = Table::clone(table);
            let values = table.zones.entry(name.to_ascii_lowercase()).or_default();
            if values.len() < VALUES_MAX {
                values.insert(value.to_owned());
            }
            table
        });
    }

    /// It no longer has it.
    pub fn clear(&self, name: &str, value: &str) {
        let name = name.to_ascii_lowercase();
        self.table.rcu(|table| {
            let mut table = Table::clone(table);
            let Some(values) = table.zones.get_mut(&name) else { return table };
            values.remove(value);
            if values.is_empty() && !table.standing.contains(&name) {
                table.zones.remove(&name);
            }
            table
        });
    }

    /// How many questions there were.
    pub fn counts(&self) -> TextCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { answered, empty, refused } = &self.counters;
        TextCounts { answered: read(answered), empty: read(empty), refused: read(refused) }
    }
}

/// Answers on these sockets until the runtime ends.
pub(crate) fn serve(
    runtime: &Handle,
    texts: &Arc<Texts>,
    udp: UdpSocket,
    tcp: TcpListener,
) -> io::Result<()> {
    server::spawn(runtime, texts, udp, tcp)
}

#[cfg(test)]
mod tests;
