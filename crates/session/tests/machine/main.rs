//! The session machine in virtual time: two or three nodes, a network with a seed, and attackers.

mod opening;
mod support;
