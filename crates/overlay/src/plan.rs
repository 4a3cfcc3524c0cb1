//! The address plan: which subnet belongs to which number, and what an address in it is for
//! (protocol A7.4).
//!
//! A member has a number. Its IPv6 subnet is the network's /48 and that number; its IPv4 subnet the
//! same number's piece of the network's range. One number for both means that whoever gives out
//! numbers from disjoint ranges cannot give out one address twice, cut off from the others or not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sinew_types::NetworkId;
use sinew_wire::document::{Range4, Subnet4};

/// Host part of the resolver's address in each member's subnet.
pub const RESOLVER_HOST: u32 = 1;
/// Lowest host part of a workload.
pub const FIRST_HOST: u32 = 2;

/// How a network's addresses are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    ula: [u8; 6],
    range: Option<Range4>,
}

/// The addresses of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnets {
    /// IPv4, unless the network has none.
    pub v4: Option<Subnet4>,
    /// First address of the /64.
    pub v6: Ipv6Addr,
}

impl Plan {
    /// The plan of a network with this IPv4 range.
    pub fn new(network: &NetworkId, range: Option<Range4>) -> Self {
        Self { ula: network.ula(), range }
    }

    /// The IPv4 range.
    pub const fn range(&self) -> Option<Range4> {
        self.range
    }

    /// First address of the /48.
    pub fn prefix(&self) -> Ipv6Addr {
        self.v6(0)
    }

    /// The highest number of a member. 0 is kept for the network as a whole.
    pub fn last_number(&self) -> u16 {
        self.range.map_or(u16::MAX, |range| {
            let bits = u32::from(range.member_len - range.len);
            ((1u32 << bits) - 1) as u16
        })
    }

    fn v6(&self, number: u16) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.ula;
        let [g, h] = number.to_be_bytes();
        Ipv6Addr::from([a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    /// The subnets of a number; `None` if the range has no such number.
    pub fn subnets(&self, number: u16) -> Option<Subnets> {
        if number == 0 || number > self.last_number() {
            return None;
        }
        let v4 = self.range.map(|range| {
            let offset = u32::from(number) << (32 - u32::from(range.member_len));
            Subnet4 { first: (range.first.to_bits() | offset).into(), len: range.member_len }
        });
        Some(Subnets { v4, v6: self.v6(number) })
    }
}

impl Subnets {
    /// The address with this host part in both families; IPv4 only where the subnet has it.
    pub fn host(&self, host: u32) -> (Option<Ipv4Addr>, Ipv6Addr) {
        let v4 = self.v4.filter(|subnet| host > 0 && host < (1 << (32 - subnet.len)) - 1);
        let v4 = v4.map(|subnet| (subnet.first.to_bits() | host).into());
        (v4, (self.v6.to_bits() | u128::from(host)).into())
    }

    /// Where workloads of the member ask for names.
    pub fn resolver(&self) -> (Option<Ipv4Addr>, Ipv6Addr) {
        self.host(RESOLVER_HOST)
    }

    /// The last host part that has an IPv4 address; 65,535 where there is no IPv4.
    pub fn last_host(&self) -> u32 {
        self.v4.map_or(0xffff, |subnet| (1 << (32 - u32::from(subnet.len))) - 2)
    }

    /// Whether a workload of the member may have `address`: inside the subnet, and neither its first,
    /// its last nor the resolver's.
    pub fn is_for_workloads(&self, address: &IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.v4.is_some_and(|subnet| {
                let host = v4.to_bits().wrapping_sub(subnet.first.to_bits());
                subnet.contains(*v4) && (FIRST_HOST..=self.last_host()).contains(&host)
            }),
            IpAddr::V6(v6) => {
                let (bits, first) = (v6.to_bits(), self.v6.to_bits());
                bits >> 64 == first >> 64 && bits - first >= u128::from(FIRST_HOST)
            }
        }
    }

    /// `address`'s host part, if it is one for workloads.
    pub fn host_of(&self, address: &IpAddr) -> Option<u32> {
        if !self.is_for_workloads(address) {
            return None;
        }
        match address {
            IpAddr::V4(v4) => Some(v4.to_bits() - self.v4?.first.to_bits()),
            IpAddr::V6(v6) => u32::try_from(v6.to_bits() - self.v6.to_bits()).ok(),
        }
    }

    /// As people write it.
    pub fn describe(&self) -> String {
        let v6 = format!("{}/64", self.v6);
        self.v4.map_or(v6.clone(), |v4| format!("{}/{} and {v6}", v4.first, v4.len))
    }
}

#[cfg(test)]
mod tests {
    use sinew_types::Identity;

    use super::*;

    fn plan() -> Plan {
        let network = NetworkId::new(Identity::from_seed([1; 32]).node_id());
        let range = Range4 { first: [10, 77, 0, 0].into(), len: 16, member_len: 24 };
        Plan::new(&network, Some(range))
    }

    #[test]
    fn a_number_is_a_24_of_the_16_and_a_64_of_the_48() {
        let subnets = plan().subnets(7).unwrap();
        assert_eq!(subnets.v4, Some(Subnet4 { first: [10, 77, 7, 0].into(), len: 24 }));
        assert_eq!(subnets.v6.segments()[3], 7);
        assert_eq!(subnets.v6.octets()[..6], plan().ula);
        assert_eq!(subnets.resolver().0, Some([10, 77, 7, 1].into()));
        assert_eq!(plan().last_number(), 255);
        assert_eq!((plan().subnets(0), plan().subnets(256)), (None, None));
        assert_eq!(Plan { range: None, ..plan() }.last_number(), 65_535);
    }

    #[test]
    fn workloads_have_the_addresses_from_2_to_the_last_but_one() {
        let subnets = plan().subnets(7).unwrap();
        for (text, ok) in [
            ("10.77.7.0", false),
            ("10.77.7.1", false),
            ("10.77.7.2", true),
            ("10.77.7.254", true),
            ("10.77.7.255", false),
            ("10.77.8.2", false),
            ("10.77.6.2", false),
            ("9.255.255.255", false),
            ("fd00::2", false),
        ] {
            let address = text.parse().unwrap();
            assert_eq!(subnets.is_for_workloads(&address), ok, "{text}");
            assert_eq!(subnets.host_of(&address).is_some(), ok, "{text}");
        }
        for host in [2, 3, 254] {
            let (v4, v6) = subnets.host(host);
            assert_eq!(subnets.host_of(&v4.unwrap().into()), Some(host));
            assert_eq!(subnets.host_of(&v6.into()), Some(host));
        }
        assert_eq!(subnets.host(255).0, None);
    }
}
