//! The public front: people outside the mesh reach chosen services here.
//!
//! ```text
//!  :443 ─▶ ClientHello ─┬─ TLS of a passed-through host ───────────────▶ relay ─┐
//!                       ├─ TLS ends here ─▶ HTTP/1.1, HTTP/2 ─▶ exchange ───────┤
//!                       └─ for whom the port is shared with ─▶ Handover        │
//!  :80  ─▶ challenges, redirects, plain hosts ──────────────▶ exchange ─────────┼─▶ Dial ─▶ backends
//!  TCP, UDP ports ─────────────────────────────────────────────▶ relay, flows ──┘
//! ```
//!
//! * A [`config::Config`] says everything; [`Gateway::apply`] swaps it whole.
//! * Backends are names to this crate; who runs it gives a [`Dial`] that reaches them. So it knows
//!   nothing of the mesh.
//! * [`Certificates`] are found by name and exchanged at any time.
//! * `hello`, `proxy`, `http::framing`, `route` and `balance` decide, without IO; what clients send is
//!   bounded there before anything else sees it.
//! * An [`Observer`] hears of every request and stream; [`Gateway::status`] has the counts.
//!
//! How it works inside, and what was measured: `docs/internals/gateway.md`.

mod access;
mod backend;
mod balance;
mod check;
pub mod config;
mod dial;
mod event;
mod front;
mod gateway;
pub mod hello;
pub mod host;
mod http;
mod limit;
mod net;
mod peek;
pub mod proxy;
pub mod relay;
mod route;
mod shaking;
mod state;
mod stream;
mod tls;
mod udp;

pub use backend::Condition;
pub use dial::{Boxed, Datagrams, Dial, Io, Stream, TcpDial};
pub use event::{BackendEvent, JsonLog, Observer, Refused, RequestEvent, StreamEvent};
pub use gateway::{
    BackendStatus, Bind, Gateway, Handover, Options, OwnBind, ServiceStatus, StartError, Status,
};
pub use http::framing;
pub use net::{BadPrefix, Prefix};
pub use state::{ConfigError, check};
pub use tls::{ACME_TLS, Certificate, CertificateError, Certificates};
