//! Who holds which public name and port of a gateway, decided without IO, clock or network.
//!
//! A gateway gets claims: a network's member wants a service to be had under these hosts, or at a port. Whether
//! the claim is signed by somebody entitled is settled before (`overlay::claims`). What is left are the
//! questions between strangers, and they are answered here (protocol A8):
//!
//! ```text
//!  claim ─▶ Registry::offer ─▶ policy ─▶ sequence ─▶ each host ─┬─ NAME.domain: first come, quota, hold
//!                                                              ├─ own domain: TXT record, asked again daily
//!                                                              └─ path beside other services of the network
//!                              port of the range ◀─ mode tcp, udp
//! ```
//!
//! * [`Registry::offer`] takes a claim; claiming the same again changes nothing, so publishers repeat it freely.
//! * [`Registry::lookups`] says which TXT records to ask for, [`Registry::found`] hears what was found.
//! * [`Registry::follow`] takes the names of a domain from the gateway that decides on them, where that is another.
//! * [`Registry::tick`] lets go what has run out.
//! * [`Registry::serving`] is what the front is to serve now.
//! * [`Registry::drain_changes`] gives what must survive a restart, [`Registry::restore`] takes it back.
//!
//! Times are seconds since 1970. A target is never an address: backends are workloads of the claim's network, so
//! that neither loopback nor the gateway itself can be one.

mod claim;
mod follow;
mod name;
mod ports;
mod proof;
mod record;
mod refusal;
mod registry;
mod rules;

pub use claim::{HostOutcome, HostState, Offer, Outcome};
pub use name::{BadName, Host, LABEL_MIN, RESERVED};
pub use ports::{PortHolding, Transport};
pub use proof::{Finding, Lookup, Proof, State, TxtRecord, txt_record};
pub use record::{Damaged, Entry};
pub use refusal::Refusal;
pub use registry::{Holding, Key, Mode, Registry, Service, Serving, Transfer, TransferError};
pub use rules::{Accept, PortRange, Rules};
