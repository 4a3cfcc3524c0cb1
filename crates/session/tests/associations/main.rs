//! The session machine in virtual time: two or three nodes, a network with a seed, and attackers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod opening;
mod paths;
mod rekey;
mod replay;
mod restart;
mod streams;
mod support;
mod twins;
