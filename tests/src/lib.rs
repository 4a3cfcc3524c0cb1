//! Support for whole-system tests: throw-away machines on the real kernel.
//!
//! A [`Lab`] is a set of network namespaces joined by veth pairs, each running the real `sinewd`.
//! Everything a lab makes carries its own prefix and is removed when the lab is dropped, also
//! after a failure; what a killed run left behind is removed by the next one. Nothing outside
//! those namespaces and one temporary folder is touched.
//!
//! | module | what it gives |
//! |---|---|
//! | [`ns`] | namespaces and veth pairs |
//! | [`interrupt`] | a killed command that cleans up first |
//! | [`process`] | children that cannot outlive the test, with captured output |
//! | [`wait`] | conditions with a deadline; nothing here sleeps to synchronise |
//! | [`lab`] | topologies, and `sinewd` in each node |
//! | [`sinewd`] | one daemon: configuration, start, kill, restart, log |
//! | [`cli`] | the `sinew` command with its exit code and JSON |
//! | [`impair`] | silent cuts, loss, filtered ICMP, shaped links, long lines |
//! | [`capture`] | what an eavesdropper on a link sees |
//! | [`prometheus`] | what a scrape says, read strictly |
//! | [`memory`] | what a process and its files hold |
//! | [`raw`] | packets that no kernel would make, put onto an interface as they are |
//! | [`workload`] | nginx, curl, iperf3, ping, sshd: the programs that people run |
//! | [`podman`] | containers on the machines, with our CNI plugin |
//! | [`front`] | the public front on its own, with nginx behind it |
//! | [`gateway`] | a gateway's daemon, a node with workloads behind it, a client in front |
//! | [`acme`] | a certificate authority |
//! | [`tenant`] | private networks, workloads in them, and the servers that tenants run |
//!
//! The labs need root. Where they cannot run they say so and pass, except in CI (`CI=true`),
//! where that is a failure.

pub mod acme;
pub mod capture;
pub mod cli;
pub mod front;
pub mod gateway;
pub mod impair;
pub mod interrupt;
pub mod lab;
pub mod memory;
pub mod ns;
pub mod podman;
pub mod privileges;
pub mod process;
pub mod prometheus;
pub mod raw;
pub mod requirements;
pub mod sinewd;
pub mod tenant;
pub mod wait;
pub mod workload;

pub use lab::{Dial, Lab, run_lab};
pub use requirements::Bins;
