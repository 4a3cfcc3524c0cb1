//! HTTP: from a client's connection to requests, and from a request to a backend and back.
//!
//! ```text
//!  stream ─▶ gate ─▶ hyper ─▶ exchange ─┬─▶ page                     (answered here)
//!            framing           headers  └─▶ attempt ─▶ pool ─▶ hyper ─▶ backend
//!            time-outs         access                └─▶ upgrade ─▶ relay
//! ```

mod attempt;
pub(crate) mod body;
mod exchange;
mod forward_auth;
pub mod framing;
mod gate;
mod headers;
pub(crate) mod id;
mod page;
pub(crate) mod pool;
mod record;
mod rest;
mod serve;
mod upgrade;

pub(crate) use headers::Ends;
pub(crate) use serve::{Connection, serve};
