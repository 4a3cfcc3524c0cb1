//! Packets of private networks through whole nodes: who may send what, and where it comes out.
//!
//! The documents stand still here (`common::lab`); how they spread is tested in the simulator.

mod answers;
#[allow(dead_code)] // Not all of it is about networks.
#[path = "../common/mod.rs"]
mod common;
mod delivery;
mod isolation;
mod members;
mod policy;
