//! The rules of a POLICY document, as people mean them: by name.

use sinew_types::Label;

use super::body::{put_label, read_label};
use crate::Malformed;
use crate::codec::{Put, Reader};

/// Most selectors at one end of a rule, and most port ranges.
const LIST_MAX: usize = 64;

const ANY_PROTOCOL: u16 = 0x100;
const ICMP_BOTH: u16 = 0x101;
const TCP: u16 = 6;
const UDP: u16 = 17;

/// One of the places a rule means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SelectorSpec {
    /// Every member's.
    Any,
    /// Those in this group.
    Group(Label),
    /// The workload of this name.
    Workload(Label),
    /// All of this node's.
    Member([u8; 32]),
}

/// Which transport protocols a rule means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProtocolSpec {
    /// All.
    Any,
    /// ICMP and ICMPv6.
    Icmp,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Another, by its number.
    Number(u8),
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSpec {
    /// Who opens the flow: any of these; at least one.
    pub from: Vec<SelectorSpec>,
    /// To whom: any of these; at least one.
    pub to: Vec<SelectorSpec>,
    /// By which protocol.
    pub protocol: ProtocolSpec,
    /// Destination ports, ranges with both ends; empty means all.
    pub ports: Vec<(u16, u16)>,
    /// Allow or deny.
    pub allow: bool,
}

/// A whole policy: the first rule that matches decides, else the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySpec {
    /// What holds where no rule matches.
    pub default_allow: bool,
    /// The rules, in order.
    pub rules: Vec<RuleSpec>,
}

impl Default for PolicySpec {
    fn default() -> Self {
        Self { default_allow: true, rules: Vec::new() }
    }
}

impl ProtocolSpec {
    const fn number(self) -> u16 {
        match self {
            Self::Any => ANY_PROTOCOL,
            Self::Icmp => ICMP_BOTH,
            Self::Tcp => TCP,
            Self::Udp => UDP,
            Self::Number(number) => number as u16,
        }
    }

    fn from_number(number: u16) -> Result<Self, Malformed> {
        match number {
            ANY_PROTOCOL => Ok(Self::Any),
            ICMP_BOTH => Ok(Self::Icmp),
            TCP => Ok(Self::Tcp),
            UDP => Ok(Self::Udp),
            other => u8::try_from(other).map(Self::Number).map_err(|_| Malformed),
        }
    }
}

impl SelectorSpec {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Any => {
                out.u8(0);
            }
            Self::Group(name) => put_label(out.u8(1), name),
            Self::Workload(name) => put_label(out.u8(2), name),
            Self::Member(node) => {
                out.u8(3).bytes(node);
            }
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        match r.u8()? {
            0 => Ok(Self::Any),
            1 => read_label(r).map(Self::Group),
            2 => read_label(r).map(Self::Workload),
            3 => r.array().map(Self::Member),
            _ => Err(Malformed),
        }
    }
}

fn read_list<T>(
    r: &mut Reader<'_>,
    mut one: impl FnMut(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let count = usize::from(r.u8()?);
    if count > LIST_MAX {
        return Err(Malformed);
    }
    (0..count).map(|_| one(r)).collect()
}

impl RuleSpec {
    fn write(&self, out: &mut Vec<u8>) {
        for list in [&self.from, &self.to] {
            out.u8(list.len() as u8);
            list.iter().for_each(|selector| selector.write(out));
        }
        out.u16(self.protocol.number()).u8(self.ports.len() as u8);
        for (first, last) in &self.ports {
            out.u16(*first).u16(*last);
        }
        out.u8(u8::from(self.allow));
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (from, to) = (read_list(r, SelectorSpec::read)?, read_list(r, SelectorSpec::read)?);
        let protocol = ProtocolSpec::from_number(r.u16()?)?;
        let ports = read_list(r, |r| Ok((r.u16()?, r.u16()?)))?;
        let allow = bool_of(r.u8()?)?;
        let rule = Self { from, to, protocol, ports, allow };
        if rule.is_sound() { Ok(rule) } else { Err(Malformed) }
    }

    /// Lists within bounds, ranges the right way round.
    pub fn is_sound(&self) -> bool {
        let listed = |list: &[SelectorSpec]| (1..=LIST_MAX).contains(&list.len());
        let ranges = self.ports.len() <= LIST_MAX && self.ports.iter().all(|(first, last)| first <= last);
        listed(&self.from) && listed(&self.to) && ranges
    }
}

const fn bool_of(byte: u8) -> Result<bool, Malformed> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed),
    }
}

impl PolicySpec {
    pub(super) fn write_default(&self) -> [u8; 1] {
        [u8::from(self.default_allow)]
    }

    pub(super) fn write_rules(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.rules.iter().for_each(|rule| rule.write(&mut out));
        out
    }

    pub(super) fn read(default: &[u8], rules: &[u8]) -> Result<Self, Malformed> {
        let [default] = default else { return Err(Malformed) };
        let mut policy = Self { default_allow: bool_of(*default)?, rules: Vec::new() };
        let mut r = Reader::new(rules);
        while !r.is_empty() {
            policy.rules.push(RuleSpec::read(&mut r)?);
        }
        Ok(policy)
    }
}
