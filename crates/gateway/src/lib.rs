//! The public front.
pub mod config;
mod dial;
pub mod hello;
pub mod host;
mod limit;
mod net;
mod peek;
pub mod proxy;
mod relay;
mod tls;
pub use dial::*;
pub use tls::*;
mod http { pub mod framing; }
