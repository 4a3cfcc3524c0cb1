//! How many strangers hold a connection, in all and by source.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use super::ConnectionLimits;

/// Accepted connections that have proved nothing yet.
#[derive(Default)]
pub(crate) struct HalfOpen {
    total: usize,
    sources: BTreeMap<IpAddr, usize>,
}

impl HalfOpen {
    /// Counts one more from `ip`; false, and nothing counted, if a limit forbids it (protocol B 37).
    pub(crate) fn enter(&mut self, ip: IpAddr, limits: &ConnectionLimits) -> bool {
        let source = source(ip);
        let count = self.sources.get(&source).copied().unwrap_or(0);
        if self.total >= limits.half_open || count >= limits.half_open_per_source {
            return false;
        }
        self.sources.insert(source, count + 1);
        self.total += 1;
        true
    }

    /// Counts one less from `ip`.
    pub(crate) fn leave(&mut self, ip: IpAddr) {
        let source = source(ip);
        let Some(count) = self.sources.get_mut(&source) else { return };
        *count -= 1;
        if *count == 0 {
            self.sources.remove(&source);
        }
        self.total -= 1;
    }

    pub(crate) fn total(&self) -> usize {
        self.total
    }
}

/// Whoever has an IPv6 address has the whole /64.
fn source(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_prefix() {
        let limits =
            ConnectionLimits { half_open: 5, half_open_per_source: 2, ..ConnectionLimits::default() };
        let mut half_open = HalfOpen::default();
        let mut enter = |text: &str| half_open.enter(text.parse().unwrap(), &limits);
        assert!(enter("2001:db8::1") && enter("2001:db8::2:0:0:1"));
        assert!(!enter("2001:db8::ffff"), "the same /64 again");
        assert!(enter("2001:db8:0:1::1"));
        assert!(enter("10.0.0.1") && enter("10.0.0.2"));
        assert!(!enter("10.0.0.3"), "full in all");
        half_open.leave("10.0.0.1".parse().unwrap());
        assert!(half_open.enter("10.0.0.3".parse().unwrap(), &limits));
        assert_eq!(half_open.total(), 5);
    }
}
