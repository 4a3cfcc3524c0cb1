//! The shape of the file, before any value is judged. Every key is optional here; defaults and
//! ranges belong to `check`.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Root {
    pub(super) node: Node,
    pub(super) mesh: Mesh,
    pub(super) listen: Option<Listen>,
    pub(super) tls: Tls,
    pub(super) proxy: Proxy,
    pub(super) reach: Reach,
    pub(super) transit: Transit,
    pub(super) peer: Vec<Peer>,
    pub(super) tun: Tun,
    pub(super) offload: Offload,
    pub(super) control: Control,
    pub(super) metrics: Option<Endpoint>,
    pub(super) dashboard: Option<Endpoint>,
    pub(super) discovery: Discovery,
    pub(super) peering: Peering,
    pub(super) dns: Dns,
    pub(super) gateway: Option<Gateway>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Node {
    pub(super) key_file: Option<String>,
    pub(super) name: Option<String>,
    pub(super) state_dir: Option<String>,
    pub(super) class: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Mesh {
    pub(super) secret_file: Option<String>,
    pub(super) accept: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Listen {
    pub(super) udp: Vec<String>,
    pub(super) tcp: Vec<String>,
    pub(super) quic: Vec<String>,
    pub(super) wss: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tls {
    pub(super) certificate: Option<String>,
    pub(super) key: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Proxy {
    pub(super) http: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Reach {
    pub(super) direct: Option<bool>,
    pub(super) port_mapping: Option<bool>,
    pub(super) uplinks: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Transit {
    pub(super) enabled: Option<bool>,
    pub(super) limit: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Peer {
    pub(super) uri: Option<String>,
    pub(super) cost: Option<i64>,
    pub(super) limit: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tun {
    pub(super) enabled: Option<bool>,
    pub(super) name: Option<String>,
    pub(super) mtu: Option<WordOrNumber>,
    pub(super) inbound: Option<WordOrList>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Offload {
    pub(super) tun_read: Option<String>,
    pub(super) tun_write: Option<String>,
    pub(super) udp_send: Option<String>,
    pub(super) udp_receive: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Control {
    pub(super) socket: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Endpoint {
    pub(super) listen: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Discovery {
    pub(super) lan: Option<bool>,
    pub(super) interfaces: Vec<String>,
    pub(super) directory: Vec<String>,
    pub(super) publish: bool,
    pub(super) listen: Vec<String>,
    pub(super) serve: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Peering {
    pub(super) target: Option<i64>,
    pub(super) max: Option<i64>,
    pub(super) limit: Option<String>,
    pub(super) share: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Dns {
    pub(super) enabled: Option<bool>,
    pub(super) domain: Option<String>,
    pub(super) forward: Vec<Forward>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Forward {
    pub(super) domain: Option<String>,
    pub(super) servers: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Gateway {
    pub(super) domain: Option<String>,
    pub(super) registrar: Option<String>,
    pub(super) followers: Vec<String>,
    pub(super) https: Vec<String>,
    pub(super) http: Vec<String>,
    pub(super) tcp_ports: Option<String>,
    pub(super) udp_ports: Option<String>,
    pub(super) certificates: Vec<CertificateFiles>,
    pub(super) publish: Publish,
    pub(super) proxies: Vec<String>,
    pub(super) proxy_protocol: bool,
    pub(super) resolvers: Option<Vec<String>>,
    pub(super) log: Option<String>,
    pub(super) grace: Option<i64>,
    pub(super) acme: Option<Acme>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CertificateFiles {
    pub(super) certificate: Option<String>,
    pub(super) key: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Publish {
    pub(super) accept: Option<WordOrList>,
    pub(super) per_network: Option<i64>,
    pub(super) reserved: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Acme {
    pub(super) directory: Option<String>,
    pub(super) email: Option<String>,
    pub(super) ca_file: Option<String>,
    pub(super) dns: Vec<String>,
}

/// `"auto"` or a number.
#[derive(Debug)]
pub(super) enum WordOrNumber {
    Word(String),
    Number(i64),
}

/// One word, or a list of rules.
#[derive(Debug)]
pub(super) enum WordOrList {
    Word(String),
    List(Vec<String>),
}

impl<'de> Deserialize<'de> for WordOrNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Take;
        impl Visitor<'_> for Take {
            type Value = WordOrNumber;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a number")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<WordOrNumber, E> {
                Ok(WordOrNumber::Word(text.to_owned()))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<WordOrNumber, E> {
                Ok(WordOrNumber::Number(number))
            }
        }
        deserializer.deserialize_any(Take)
    }
}

impl<'de> Deserialize<'de> for WordOrList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Take;
        impl<'de> Visitor<'de> for Take {
            type Value = WordOrList;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<WordOrList, E> {
                Ok(WordOrList::Word(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<WordOrList, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(WordOrList::List(list))
            }
        }
        deserializer.deserialize_any(Take)
    }
}
