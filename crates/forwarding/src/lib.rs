//! What happens to one packet.
//!
//! Everything here is a function of the packet and of small tables, called by data threads for each
//! packet or batch and by the simulator alike:
//! - [`Fib`] and [`transit()`]: where a packet for a mesh address goes, and whether it may go on;
//! - [`check_inbound`], [`check_outbound`]: whose packet it is;
//! - [`Inbound`]: what may reach the local system unasked, and the flows whose replies may;
//! - [`WorkloadFlows`]: what may pass between a workload and its network, both ways;
//! - [`Answers`]: what the local system is told when a packet went no further;
//! - [`Meter`]: a limit of bandwidth;
//! - [`FlowKey`], [`ecn`]: flow numbers and congestion marks;
//! - [`offload`]: super-packets cut into segments and segments merged again.
//!
//! Nothing allocates per packet, but for the answers, which are few.

mod conntrack;
pub mod ecn;
mod fib;
mod flow;
mod fragments;
mod icmp;
mod inbound;
mod meter;
pub mod offload;
mod source;
mod transit;
mod workload;

pub use fib::{Fib, FibEntry};
pub use flow::FlowKey;
pub use icmp::{Answers, Cause};
pub use inbound::{Inbound, InboundPolicy, Ports, Rule, Service};
pub use meter::Meter;
pub use source::{check_inbound, check_outbound};
pub use transit::{Verdict, forwarded, transit};
pub use workload::{Opening, Way, WorkloadFlows};
