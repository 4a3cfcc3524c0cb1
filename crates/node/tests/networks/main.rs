//! Packets of private networks through whole nodes: who may send what, and where it comes out.
//!
//! The documents stand still here (`common::lab`); how they spread is tested by `members` and in the
//! simulator.

mod answers;
#[path = "../common/mod.rs"]
mod common;
mod delivery;
mod isolation;
mod policy;
