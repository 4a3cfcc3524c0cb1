//! Why a claim, or one host of it, is refused: in words for its author, who it is that stands in the way, and since
//! when.

use sinew_types::{NetworkId, NodeId};

use crate::name::BadName;
use crate::registry::Mode;
use crate::rules::PortRange;

/// A refusal; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The operator takes services of listed keys only.
    NotAccepted {
        /// Whose it is.
        network: NetworkId,
        /// Who publishes it.
        author: NodeId,
    },
    /// Nobody gets such a host.
    BadName {
        /// As it was asked for.
        host: String,
        /// Why.
        why: BadName,
    },
    /// Somebody else has it.
    Taken {
        /// The host in full.
        host: String,
        /// Its holder.
        holder: NetworkId,
        /// Since when.
        since: u64,
        /// Until when it is held although nothing is published; none while something is.
        until: Option<u64>,
    },
    /// Another service of the same network serves this path.
    PathTaken {
        /// Host and path.
        place: String,
        /// Who published it.
        author: NodeId,
        /// Since when.
        since: u64,
    },
    /// Services of one host need one mode and one set of client certificates, since both are decided before the path
    /// is known.
    OtherMode {
        /// The host.
        host: String,
        /// What is served there.
        mode: Mode,
        /// Who published it.
        author: NodeId,
    },
    /// The network has as much as it may.
    Quota {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: u32,
    },
    /// The gateway has as much as it keeps, from all networks.
    Full {
        /// Of what.
        what: &'static str,
    },
    /// A newer claim, or the end of this service, was seen already.
    Stale {
        /// Number of the newer one.
        seq: u64,
        /// Whether it ended the service.
        withdrawn: bool,
    },
    /// Two claims of one number.
    Equivocation,
    /// It has run out.
    Expired,
    /// It runs for more than a week.
    TooLong,
    /// No port of this kind to be had.
    NoPort {
        /// `tcp` or `udp`.
        transport: &'static str,
        /// Whether the gateway has any.
        configured: bool,
    },
    /// A port was wished for that is not this gateway's to give.
    OutOfRange {
        /// Which.
        port: u16,
        /// What it gives.
        range: PortRange,
    },
    /// Mode and hosts do not go together.
    Shape {
        /// What is wrong.
        why: &'static str,
    },
}

impl Refusal {
    /// A word for scripts, which stays.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotAccepted { .. } => "not_accepted",
            Self::BadName { why: BadName::Reserved, .. } => "reserved",
            Self::BadName { why: BadName::OwnDomain, .. } => "own_domain",
            Self::BadName { .. } => "bad_name",
            Self::Taken { .. } => "taken",
            Self::PathTaken { .. } => "path_taken",
            Self::OtherMode { .. } => "other_mode",
            Self::Quota { .. } => "quota",
            Self::Full { .. } => "full",
            Self::Stale { .. } => "stale",
            Self::Equivocation => "equivocation",
            Self::Expired => "expired",
            Self::TooLong => "too_long",
            Self::NoPort { .. } => "no_port",
            Self::OutOfRange { .. } => "port_out_of_range",
            Self::Shape { .. } => "shape",
        }
    }

    /// One sentence for people; `date` writes a time.
    pub fn text(&self, date: impl Fn(u64) -> String) -> String {
        match self {
            Self::NotAccepted { network, author } => format!(
                "this gateway takes services of listed keys only; neither the network {network} nor the publisher \
                 {author} is among them"
            ),
            Self::BadName { host, why } => format!("`{}`: {why}", host.escape_debug()),
            Self::Taken { host, holder, since, until } => {
                let held = match until {
                    Some(until) => {
                        format!("; nothing is published there, and it is free from {}", date(*until))
                    }
                    None => String::new(),
                };
                format!("{host} is held by network {holder} since {}{held}", date(*since))
            }
            Self::PathTaken { place, author, since } => {
                format!(
                    "{place} is served by another service of this network, of {author} since {}",
                    date(*since)
                )
            }
            Self::OtherMode { host, mode, author } => format!(
                "{host} is served in mode {} by {author}: all services of one host need one mode and one client_ca",
                mode.as_str()
            ),
            Self::Quota { what, limit } => {
                format!("this network has {limit} {what} here, and may have no more")
            }
            Self::Full { what } => format!("this gateway has no room for more {what}"),
            Self::Stale { seq, withdrawn: false } => {
                format!("a newer version of this service, {seq}, is known here")
            }
            Self::Stale { seq, withdrawn: true } => format!("this service was withdrawn (version {seq})"),
            Self::Equivocation => "two different statements of its author bear the same number".to_owned(),
            Self::Expired => "the statement has run out (or a clock is wrong)".to_owned(),
            Self::TooLong => "the statement runs for more than seven days (or a clock is wrong)".to_owned(),
            Self::NoPort { transport, configured: false } => format!("this gateway has no {transport} ports"),
            Self::NoPort { transport, configured: true } => format!("no {transport} port is free here"),
            Self::OutOfRange { port, range } => {
                format!(
                    "port {port} cannot be had here: this gateway gives {} to {}",
                    range.first, range.last
                )
            }
            Self::Shape { why } => (*why).to_owned(),
        }
    }
}
