//! Overlays among each other: spreading, tickets, attacks, and what holds for any set of documents.
#![allow(missing_docs, reason = "a test's name says what it is about")]

mod attacks;
mod properties;
mod publishing;
mod spread;
mod strangers;
mod tickets;
mod world;
