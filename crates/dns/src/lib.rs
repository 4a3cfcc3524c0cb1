//! Names: an embedded DNS server for workloads and the host, and the hand-shake with
//! systemd-resolved.
//!
//! ```text
//!  workload's namespace                     sinewd
//!  ┌───────────────┐  UDP, TCP :53   ┌──────────────────────────────┐   others' names
//!  │ resolv.conf   ├────────────────▶│ Scope: what this one may see ├───────────────▶ host's
//!  └───────────────┘                 │   ▼                          │                 resolvers
//!  systemd-resolved ────────────────▶│ Zones: names as last told    │
//!                                    └──────────▲───────────────────┘
//!                                      publish(Arc<Zones>)
//! ```
//!
//! * [`Zones`] holds every name this node knows; it is replaced as a whole by [`Dns::publish`].
//! * [`Scope`] says which of them whoever asks at one socket may see. What lies outside does not
//!   exist for him: same code, same section, same lifetime, forwards and backwards.
//! * The private module `answer` is a pure function of the two; `message` puts it into bytes;
//!   `server` owns the sockets, on a thread of its own, so that no question ever delays a packet.
//! * `upstream` hands on what is not ours, bounded in number and time; [`TxtClient`] asks the same way.
//! * [`resolved`] points the host's systemd-resolved here for our domain alone.
//!
//! Only our domain and the reverse names of our ranges are claimed; they are never handed on.

mod answer;
mod explain;
mod message;
mod question;
pub mod resolved;
mod reverse;
mod scope;
mod server;
mod stats;
mod txt;
mod upstream;
mod zones;

pub use explain::{Explanation, RecordText};
pub use scope::Scope;
pub use server::{Dns, DnsStatus, ServerHandle, ServerStatus};
pub use stats::Counts;
pub use txt::{Txt, TxtClient};
pub use upstream::{Rule, Servers, Upstream};
pub use zones::{
    BadName, DOMAIN_DEFAULT, Host, KEY_TTL, NEGATIVE_TTL, NetworkZone, Prefix, RECORD_TTL, Service, Zones,
};
